"""Plug-and-play restoration: a contractive denoiser's iteration is certified (T1) and stays; a free one need not."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deqops import InputError
from deqops.models import (
    AtLevel,
    DenoiserSettings,
    DiffusionModel,
    Restoration,
    blurring,
    digit_pixels,
    linear_restoration,
    masking,
    plain_denoiser,
    psnr,
    restored_psnr,
    restorer,
    train_denoiser,
)
from deqops.verify import Around, Verdict, certify, check

SMALL = DenoiserSettings(epochs=2, updates=20, hidden=32)


@cache
def denoiser(rate: float) -> nn.Module:
    return train_denoiser(digit_pixels(), replace(SMALL, rate=rate)).model


def measured(matrix: Tensor) -> tuple[Tensor, Tensor]:
    truth = digit_pixels().test[:50]
    return truth, truth @ matrix.T


@pytest.mark.parametrize("matrix", [masking(64), blurring(8)], ids=["inpainting", "deblurring"])
def test_t1_a_contractive_denoiser_is_certified_for_all_measurements_and_stays(matrix: Tensor) -> None:
    operator = Restoration(denoiser(0.95), matrix).eval()
    truth, b = measured(matrix)
    start = b[:1] @ operator.data
    certificate = certify(operator, start, b[:1], theorem="picard", norm="l2")
    assert certificate.verdict is Verdict.CERTIFIED
    assert 0.3 < certificate.rate <= 0.95 + 1e-6
    assert check(certificate, operator, start, b[:1]).accepted
    rows = restored_psnr(operator, b, truth, (0, 200, 1000))
    assert rows[2]["psnr"] == pytest.approx(rows[1]["psnr"], abs=1e-3)
    assert rows[2]["step"] < 1e-6


def test_a_denoiser_that_expands_is_refuted_and_leaves() -> None:
    """`D(z) = 1.5 z` on missing pixels."""
    expanding = plain_denoiser(4, hidden=8)
    first, _, second = expanding
    with torch.no_grad():
        first.weight.copy_(torch.cat([torch.eye(4), -torch.eye(4)]))
        second.weight.copy_(1.5 * torch.cat([torch.eye(4), -torch.eye(4)], dim=1))
        first.bias.zero_()
        second.bias.fill_(0.1)
    operator = Restoration(expanding, masking(4)).eval()
    b = torch.zeros(1, 2)
    certificate = certify(operator, b @ operator.data, b, theorem="picard", norm="l2")
    assert certificate.verdict is Verdict.REFUTED
    assert check(certificate, operator, b @ operator.data, b).accepted
    rows = restored_psnr(operator, b, torch.full((1, 4), 0.5), (0, 10, 1000))
    assert [row["iteration"] for row in rows] == [0, 10]  # then no number is left
    assert rows[1]["psnr"] < -10


def test_a_free_denoiser_is_not_certified_everywhere() -> None:
    operator = Restoration(nn.Sequential(denoiser(math.inf), nn.Linear(64, 64)), masking(64)).eval()
    with torch.no_grad():
        operator.denoiser[1].weight.copy_(3 * torch.eye(64))  # type: ignore[index]
    _, b = measured(masking(64))
    found = certify(operator, b[:1] @ operator.data, b[:1], theorem="picard", norm="l2")
    assert found.verdict is not Verdict.CERTIFIED


def test_a_diffusion_model_restores_and_may_be_certified_around_its_equilibrium() -> None:
    """Nothing holds everywhere; T2 or T12 on a ball does where the slopes are small."""
    torch.manual_seed(0)
    model = DiffusionModel(9, width=8, blocks=1).double()
    operator = Restoration(AtLevel(model, 0.5), masking(9).double()).eval()
    b = torch.rand(1, len(operator.data), dtype=torch.float64)
    found = certify(operator, b @ operator.data, b, region=Around())
    assert found.verdict is Verdict.CERTIFIED, found.reason
    assert check(found, operator, b @ operator.data, b).accepted


def test_at_level_denoises_at_the_levels_angle() -> None:
    model, z = DiffusionModel(4, width=8, blocks=1), torch.randn(2, 4)
    with torch.no_grad():
        velocity = model.velocity(0.8 * z, AtLevel(model, 0.75).level)  # tan t = 3/4: cos 4/5, sin 3/5
        torch.testing.assert_close(AtLevel(model, 0.75)(z), 0.8 * (0.8 * z) - 0.6 * velocity)


def test_training_through_the_equilibrium_improves_restoration() -> None:
    matrix = masking(64)
    settings = replace(SMALL, measured=0.0, epochs=3)
    trained = train_denoiser(digit_pixels(), settings, degradation=matrix)
    assert trained.loss[-1] < trained.loss[0]
    truth, b = measured(matrix)
    operator = Restoration(trained.model, matrix).eval()
    with torch.no_grad():
        restored = restorer(operator).solve(b).value
        row = restored_psnr(operator, b, truth, (200,))[0]
    assert psnr(restored, truth) == pytest.approx(row["psnr"], abs=0.05)
    assert psnr(restored, truth) > psnr(b @ matrix, truth)


def test_degradations_have_norm_at_most_one() -> None:
    mask, blur = masking(64, 0.25, 3).double(), blurring(8).double()
    assert mask.shape == (48, 64)
    torch.testing.assert_close(mask @ mask.T, torch.eye(48, dtype=torch.float64))
    assert torch.equal(blur, blur.T)
    values = torch.linalg.eigvalsh(blur)
    assert 0 < float(values.min()) < float(values.max()) < 1
    assert float(blur[9].sum()) == 1  # an inner pixel's weights
    assert float(blur[9, 9]) == 0.25


def test_the_linear_baseline_is_the_conditional_mean() -> None:
    """Two pixels of correlation 1 without noise: one tells the other."""
    train = torch.randn(1000, 1).double() @ torch.tensor([[1.0, 2.0]]).double() + 1
    matrix = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    restored = linear_restoration(train, matrix, torch.tensor([[2.0]], dtype=torch.float64), 1e-6)
    torch.testing.assert_close(restored, torch.tensor([[2.0, 3.0]], dtype=torch.float64))


def test_psnr_is_of_a_range_of_two() -> None:
    assert psnr(torch.full((2, 3), 0.2), torch.zeros(2, 3)) == pytest.approx(20, abs=1e-5)
    assert psnr(torch.zeros(2, 3), torch.zeros(2, 3)) == math.inf


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Restoration(nn.Identity(), torch.eye(2), 0.0), "step"),
        (lambda: Restoration(nn.Identity(), torch.eye(2), 2.5), "step"),
        (lambda: Restoration(nn.Identity(), torch.ones(3)), "degradation"),
        (lambda: Restoration(nn.Identity(), torch.ones(2, 2, dtype=torch.int64)), "degradation"),
        (lambda: masking(4, 1.0), "share"),
        (lambda: masking(4, 0.0), "share"),
        (lambda: blurring(0), "side"),
        (lambda: plain_denoiser(4, 0), "hidden"),
        (lambda: replace(SMALL, rate=0.0), "rate"),
        (lambda: replace(SMALL, measured=-1.0), "measured"),
        (lambda: replace(SMALL, epochs=0), "epochs"),
    ],
)
def test_arguments_out_of_range_are_refused(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
