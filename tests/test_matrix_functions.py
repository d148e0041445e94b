"""Exponentials and norms of constant matrices: enclosed, checked, and layers that are parametrised by them."""

from __future__ import annotations

import math
from collections.abc import Callable

import mpmath
import pytest
import torch
from flint import arb_mat, ctx
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from vocabulary import assert_same_function

from deqops.verify import Verdict, certify, check
from deqops.verify._matrix_functions import enclosed_exponential, enclosed_spectral_norm
from deqops.verify._midrad import MidRad
from deqops.verify.checker import _arithmetic as ball
from deqops.verify.checker._matrix_norm import enclosed_spectral_norm as checked_norm

DOUBLE = torch.float64


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


@given(st.integers(0, 10_000), st.integers(1, 5), st.sampled_from([0.0, 1e-12, 0.3, 1.0, 20.0]))
def test_the_exponential_is_enclosed_and_narrow(seed: int, n: int, scale: float) -> None:
    matrix = scale * normal(n, n, seed=seed)
    found = enclosed_exponential(MidRad.exact(matrix))
    assert found is not None
    before, ctx.prec = ctx.prec, 400
    try:
        truth = arb_mat(matrix.tolist()).exp()
        for i in range(n):
            for k in range(n):
                off = abs(truth[i, k] - float(found.mid[i, k]))
                assert bool(off <= float(found.rad[i, k]))
    finally:
        ctx.prec = before
    reach = math.exp(min(float(matrix.abs().sum(1).max()), 700.0))
    assert float(found.rad.max()) <= 1e-13 * (1 + scale) * n * reach


def test_exponentials_of_every_matrix_in_an_enclosure() -> None:
    middle = torch.stack([normal(4, 4, seed=k) for k in range(3)])
    found = enclosed_exponential(MidRad(middle, torch.full_like(middle, 1e-4)))
    assert found is not None
    for seed in range(50):
        share = 2 * torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE) - 1
        truth = torch.linalg.matrix_exp(middle + 1e-4 * share)
        assert bool(((truth - found.mid).abs() <= found.rad).all())
    assert enclosed_exponential(MidRad.exact(torch.full((2, 2), 1e30, dtype=DOUBLE))) is None
    assert enclosed_exponential(MidRad.exact(torch.full((2, 2), torch.nan, dtype=DOUBLE))) is None


@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 5), st.sampled_from([1e-250, 1e-3, 1.0, 1e160, 1e300]))
def test_the_largest_singular_value_is_enclosed_on_both_sides(seed: int, m: int, n: int, scale: float) -> None:
    matrix = scale * normal(m, n, seed=seed)
    found = enclosed_spectral_norm(MidRad.exact(matrix))
    with mpmath.workdps(40):
        rows = mpmath.matrix([[mpmath.mpf(x) for x in row] for row in matrix.tolist()])
        truth = max(mpmath.svd_r(rows, compute_uv=False))
        assert mpmath.mpf(float(found.lower())) <= truth * (1 + mpmath.mpf(10) ** -30)
        assert truth * (1 - mpmath.mpf(10) ** -30) <= mpmath.mpf(float(found.upper()))
        own = checked_norm(ball.exact(matrix))
        assert float(own.lower()) <= truth * (1 + 1e-14)
        assert truth * (1 - 1e-14) <= float(own.upper())
    assert float(found.upper()) <= float(found.lower()) * (1 + 1e-11)


def test_the_norm_of_every_matrix_in_an_enclosure_and_of_none() -> None:
    middle = normal(3, 4, 5)
    found = enclosed_spectral_norm(MidRad(middle, torch.full_like(middle, 1e-3)))
    for seed in range(50):
        share = 2 * torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE) - 1
        truth = torch.linalg.matrix_norm(middle + 1e-3 * share, 2)
        assert bool(((found.lower() <= truth) & (truth <= found.upper())).all())
    assert float(enclosed_spectral_norm(MidRad.exact(torch.zeros(2, 2, dtype=DOUBLE))).upper()) == 0.0
    assert enclosed_spectral_norm(MidRad.exact(torch.zeros(0, 2, 2, dtype=DOUBLE))).shape == (0,)
    for bad in (math.nan, math.inf):
        assert not enclosed_spectral_norm(MidRad.exact(torch.full((2, 2), bad, dtype=DOUBLE))).is_finite()


W = normal(4, 4)
FORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "exp": lambda z: z @ torch.matrix_exp(W - W.T),
    "linalg.exp": lambda z: z @ torch.linalg.matrix_exp(torch.stack([W, 0.1 * W]))[1],
    "2": lambda z: z / torch.linalg.matrix_norm(W, 2),
    "2 of norm": lambda z: z / torch.linalg.norm(W, ord=2),
    "2, kept, in other dimensions": lambda z: (
        z[..., None]
        / torch.linalg.matrix_norm(W.reshape(2, 4, 2).expand(3, 2, 4, 2), 2, dim=(1, -1), keepdim=True).sum(0)
    ),
    "1": lambda z: z / torch.linalg.matrix_norm(W, 1),
    "1 of norm, kept": lambda z: (
        z * torch.linalg.norm(W[None] * z[:, :, None], ord=1, dim=(2, 1), keepdim=True)[..., 0]
    ),
    "infinity": lambda z: z / torch.linalg.matrix_norm(W, math.inf),
    "Frobenius": lambda z: z / torch.linalg.matrix_norm(W),
}


@pytest.mark.parametrize("name", list(FORMS))
def test_the_same_function_as_torchs(name: str) -> None:
    assert_same_function(FORMS[name], normal(2, 4, seed=3))


class Normalised(nn.Module):
    """`0.95 tanh(z W / ||W|| + b)`, or with `exp(W - W^T)`."""

    def __init__(self, weight: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.weight, self.W, self.b = weight, nn.Parameter(3 * normal(8, 8)), nn.Parameter(normal(8, seed=1))

    def forward(self, z: Tensor) -> Tensor:
        return 0.95 * torch.tanh(z @ self.weight(self.W) + self.b)


@pytest.mark.parametrize(
    ("weight", "norm"),
    [
        (lambda W: W / torch.linalg.matrix_norm(W, 2), "l2"),
        (lambda W: W / torch.linalg.norm(W, 2).clamp(min=1.0), "l2"),
        (lambda W: torch.matrix_exp(W - W.T), "l2"),
        (lambda W: W / torch.linalg.matrix_norm(W, 1), "linf"),
        (lambda W: W / torch.linalg.norm(W, math.inf, dim=(0, 1)), "l1"),
    ],
)
def test_picard_layers_that_divide_by_a_norm_are_certified_everywhere(
    weight: Callable[[Tensor], Tensor], norm: str
) -> None:
    module, z = Normalised(weight).eval(), normal(2, 8)
    certificate = certify(module, z, norm=norm, theorem="picard")
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.norm is not None
    assert certificate.norm.order == norm
    assert certificate.rate == pytest.approx(0.95, abs=1e-9)
    assert check(certificate, module, z).accepted


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda z: z / (1 + torch.linalg.matrix_norm(z[:, :, None] * W, 2))[:, None], "norm"),
        (lambda z: z @ torch.matrix_exp(z.mT @ z), "matrix_exp"),
        (lambda z: z + torch.matrix_exp(torch.ones(0, 0, dtype=DOUBLE)).sum(), "without entries"),
        (lambda z: z * torch.linalg.matrix_norm(W / torch.linalg.matrix_norm(0 * W, 2), 2), "finite"),
        (lambda z: z / torch.linalg.matrix_norm(W, "nuc"), "matrix_norm"),
        (lambda z: z / torch.linalg.matrix_norm(W, -2), "matrix_norm"),
    ],
)
def test_what_is_refused(function: Callable[[Tensor], Tensor], why: str) -> None:
    certificate = certify(function, normal(1, 4))
    assert certificate.verdict is Verdict.UNKNOWN
    assert why in certificate.reason
