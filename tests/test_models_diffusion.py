"""Diffusion: the trajectory as one causal equation (T8), its sampler, sample quality, and the images."""

from __future__ import annotations

import gzip
import math
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from deqops import Anderson, InputError, Picard, Tolerance, solve
from deqops.models import (
    DiffusionModel,
    DiffusionSettings,
    Trajectory,
    by_sweep,
    digit_pixels,
    fashion_images,
    frechet_distance,
    precision_recall,
    sample_draws,
    sample_sequentially,
    sampler,
    sampler_steps,
    train_diffusion,
    train_features,
)
from deqops.models._diffusion import FORMS, embedded
from deqops.models._diffusion_training import velocity_error
from deqops.models._images import read_idx
from deqops.verify import Verdict, certify, check

FASHION = Path("/usr/share/datasets/fashion-mnist")
SEEDS = st.integers(0, 2**20)
NOISES = st.sampled_from([0.0, 0.5, 1.0])


def model(seed: int, size: int = 4, scale: float = 2.0) -> DiffusionModel:
    """Untrained, in float64, with weights large enough that no sweep is a contraction by chance."""
    torch.manual_seed(seed)
    net = DiffusionModel(size, width=8, blocks=1).double().eval()
    with torch.no_grad():
        [parameter.mul_(scale) for parameter in net.parameters()]
    return net


def drawn(seed: int, steps: int = 6, size: int = 4, count: int = 2) -> Tensor:
    return sample_draws(count, steps, size, seed).double()


@given(SEEDS, NOISES, st.sampled_from(FORMS))
def test_t8_causal_sweeps_end_at_sequential_sampling_from_any_start(seed: int, noise: float, form: str) -> None:
    """T8: after N sweeps the trajectory is the sequential one, up to the rounding of sums in another order."""
    net, draws = model(seed), drawn(seed)
    operator, state = Trajectory(net, 6, noise, form), torch.randn(2, 6, 4, dtype=torch.float64)
    goal = sample_sequentially(net, draws, noise)
    with torch.no_grad():
        for sweep in range(1, 7):
            state = operator(state, draws)
            torch.testing.assert_close(state[:, :sweep], goal[:, :sweep], rtol=1e-11, atol=1e-11)


def test_t8_causal_an_open_sweep_is_not_final() -> None:
    """N sweeps are needed in the worst case: one less leaves the last component wrong."""
    net, draws = model(0), drawn(0)
    goal = sample_sequentially(net, draws, 1.0)
    operator, state = Trajectory(net, 6, 1.0, "shifted"), 9 * torch.ones(2, 6, 4, dtype=torch.float64)
    with torch.no_grad():
        for _ in range(5):
            state = operator(state, draws)
    assert float((state - goal)[:, -1].abs().min()) > 1e-6


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_t8_causal_is_certified_for_all_draws_and_checked(form: str, noise: float) -> None:
    operator, draws = Trajectory(model(0), 6, noise, form), drawn(0)
    start = torch.zeros(2, 6, 4, dtype=torch.float64)
    certificate = certify(operator, start, draws, theorem="causal")
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.evidence.counts["depth"] == 6
    assert all(record.sha256 is None for record in certificate.inputs)  # any draws
    assert check(certificate, operator, start, draws).accepted


def test_t8_causal_a_trajectory_that_sees_itself_is_not_certified() -> None:
    """The same operator without the shift waits for itself."""
    operator = Trajectory(model(0), 6)

    def looped(state: Tensor, draws: Tensor) -> Tensor:
        return operator(torch.cat([state[:, 1:], state[:, :1]], dim=1), draws)

    found = certify(looped, torch.zeros(2, 6, 4, dtype=torch.float64), drawn(0), theorem="causal")
    assert found.verdict is not Verdict.CERTIFIED


@given(SEEDS, NOISES)
def test_solved_samples_are_the_sequential_ones(seed: int, noise: float) -> None:
    net, draws = model(seed, scale=1.0), drawn(seed, steps=12)
    goal = sample_sequentially(net, draws, noise)
    tolerance = Tolerance(relative=1e-12)
    with torch.no_grad():
        solution = sampler(net, 12, noise, tolerance=tolerance).solve(draws)
        other = solve(Trajectory(net, 12, noise), goal + 1, draws, solver=Anderson(memory=5), tolerance=tolerance)
    torch.testing.assert_close(solution.value, goal, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(other.value, goal, rtol=1e-9, atol=1e-9)
    assert int(solution.evaluations.max()) <= 13


def test_float32_differs_by_rounding_only() -> None:
    net = model(3, size=16).float()
    draws = sample_draws(4, 32, 16, 0)
    state = draws[:, :1].expand(-1, 32, -1)
    with torch.no_grad():
        for _ in range(32):
            state = Trajectory(net, 32, 1.0)(state, draws)
    goal = sample_sequentially(net, draws, 1.0)
    assert float((state - goal).norm() / goal.norm()) < 1e-5


def test_what_the_forms_know_after_a_sweep() -> None:
    """A cumulative sweep tells all later times; a shifted one leaves the last component where the start was."""
    net, draws = model(1, scale=1.0), drawn(1, steps=16)
    rows = {form: by_sweep(net, draws, 0.0, form) for form in FORMS}
    assert all(row[-1]["distance"] < 1e-12 for row in rows.values())
    assert rows["cumulative"][6]["distance"] < 0.05 * rows["shifted"][6]["distance"]


# --------------------------------------------------------------------------------------------- coefficients


@given(st.integers(1, 200), NOISES)
def test_steps_keep_signal_and_noise(steps: int, noise: float) -> None:
    """Where D returns x_0, `cos(t) x_0 + sin(t) e` becomes the same at the next angle: `A cos t + B = cos t'`."""
    found = sampler_steps(steps, noise)
    after = torch.cat([found.angles[1:], torch.zeros(1, dtype=torch.float64)])
    cos, sin = found.angles.cos(), found.angles.sin()
    torch.testing.assert_close(found.state * cos + found.image, after.cos())
    torch.testing.assert_close((found.state * sin).square() + found.noise.square(), after.sin().square())
    for part in found[1:]:
        assert bool(((part >= 0) & (part <= 1)).all())
    assert noise == 0 or steps == 1 or float(found.noise[:-1].min()) > 0
    assert noise > 0 or not bool(found.noise.any())


def test_ancestral_steps_are_ddpms() -> None:
    """With noise 1 the variance is that of q(x_{t'} | x_t, x_0), Ho et al. 2020, equation 7."""
    found = sampler_steps(10, 1.0)
    after = torch.cat([found.angles[1:], torch.zeros(1, dtype=torch.float64)])
    before_bar, after_bar = found.angles.cos().square(), after.cos().square()
    beta = 1 - before_bar / after_bar
    torch.testing.assert_close(found.noise.square(), (1 - after_bar) / (1 - before_bar) * beta)


@given(SEEDS)
def test_a_perfect_denoiser_of_one_image_samples_it(seed: int) -> None:
    class Perfect(DiffusionModel):
        def forward(self, x: Tensor, level: Tensor) -> Tensor:
            return torch.ones_like(x) * 0.5 + 0 * level[..., :1]

    net = Perfect(4, width=8, blocks=1).double()
    image = sample_sequentially(net, drawn(seed), 1.0)[:, -1]
    torch.testing.assert_close(image, torch.full_like(image, 0.5))


def test_velocity_and_denoised_image_agree() -> None:
    """`cos(t) x - sin(t) v = x_0` at the true v."""
    net, angles = model(0), torch.tensor([0.3, 1.2], dtype=torch.float64)
    images, noise = drawn(0)[:, 0], drawn(0)[:, 1]
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    error = velocity_error(net, images, angles, noise)
    with torch.no_grad():
        denoised = net(cos * images + sin * noise, embedded(angles))
    expected = ((denoised - images) / sin).square().mean()
    torch.testing.assert_close(error, expected)


@pytest.mark.parametrize(
    ("arguments", "message"), [((0, 0.0), "steps"), ((4, 1.5), "noise"), ((4, -0.1), "noise"), ((4, math.nan), "noise")]
)
def test_samplers_out_of_range_are_refused(arguments: tuple[int, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        sampler_steps(*arguments)


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(InputError, match="cumulative, shifted"):
        Trajectory(model(0), 4, form="both")


# ----------------------------------------------------------------------------------------- training, quality


def test_training_learns_the_digits_mean_and_more() -> None:
    images = digit_pixels()
    settings = DiffusionSettings(epochs=4, updates=50, width=64, blocks=1, learning_rate=3e-3)
    trained = train_diffusion(images, settings)
    assert trained.loss[-1] < 0.8 * trained.loss[0]
    assert (
        train_diffusion(images, replace(settings, epochs=1)).loss
        == train_diffusion(images, replace(settings, epochs=1)).loss
    )
    samples = sample_sequentially(trained.model, sample_draws(100, 8, 64, 0))[:, -1]
    assert float((samples.mean(0) - images.train.mean(0)).abs().mean()) < 0.15


@pytest.mark.parametrize("change", [{"epochs": 0}, {"learning_rate": 0.0}, {"steps": 0}, {"noise": 2.0}, {"width": 0}])
def test_settings_out_of_range_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(change))):
        replace(DiffusionSettings(), **change)


def test_frechet_distance_is_that_of_normal_distributions() -> None:
    """Commuting covariances: `|m - n|^2 + sum (s_i - t_i)^2`, the samples' own moments made exact."""
    base = torch.randn(500, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    base = base - base.mean(0)
    white = base @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(base.T))).T
    x = white * torch.tensor([1.0, 2.0, 0.5]) + torch.tensor([1.0, 0.0, 0.0])
    y = white * torch.tensor([3.0, 2.0, 1.0])
    assert frechet_distance(x, y) == pytest.approx(1 + 4 + 0.25, rel=1e-9)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    with pytest.raises(InputError, match="two sets"):
        frechet_distance(x[:1], y)


def test_precision_and_recall_tell_missing_modes_from_strange_samples() -> None:
    generator = torch.Generator().manual_seed(0)
    near, far = torch.rand(50, 2, generator=generator), 10 + torch.rand(50, 2, generator=generator)
    real = torch.cat([near, far])
    precision, recall = precision_recall(near + 1e-4, real)
    assert precision > 0.9
    assert 0.4 < recall < 0.6
    precision, recall = precision_recall(torch.cat([real, real + 100]), real)
    assert precision == pytest.approx(0.5)
    assert recall == 1
    with pytest.raises(InputError, match="neighbours"):
        precision_recall(near[:3], real)


def test_features_classify() -> None:
    images = digit_pixels()
    net = train_features(images, 15)
    with torch.no_grad():
        right = (net(images.test).argmax(dim=1) == images.test_labels).double().mean()
    assert right > 0.9


# --------------------------------------------------------------------------------------------------- images


def write_idx(path: Path, values: Tensor) -> None:
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    path.write_bytes(gzip.compress(header + bytes(values.flatten().tolist()), mtime=0))


def test_idx_files_are_read_or_refused(tmp_path: Path) -> None:
    path, values = tmp_path / "x.gz", torch.arange(24, dtype=torch.uint8).view(2, 3, 4)
    write_idx(path, values)
    assert torch.equal(read_idx(path, (2, 3, 4)), values)
    with pytest.raises(InputError, match="does not hold"):
        read_idx(path, (2, 4, 3))
    whole = path.read_bytes()
    for content in (whole[:-12], whole[:14] + b"\xff" * 8 + whole[22:], b"plain", gzip.compress(b"\0" * 99)):
        path.write_bytes(content)
        with pytest.raises(InputError, match="root"):
            read_idx(path, (2, 3, 4))
    with pytest.raises(InputError, match="dataset-fashion-mnist"):
        read_idx(tmp_path / "none.gz", (1,))


def test_fashion_mnist_is_averaged_and_scaled() -> None:
    if not FASHION.is_dir():
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    images = fashion_images(FASHION, side=7, training=100)
    assert images.train.shape == (100, 49)
    assert images.test.shape == (10_000, 49)
    assert images.side == 7
    assert -1 <= float(images.test.min()) < -0.9
    assert torch.equal(images.train_labels[:4], torch.tensor([9, 0, 0, 3]))


def test_images_out_of_range_are_refused(tmp_path: Path) -> None:
    for side, training, message in ((5, 10, "side"), (0, 10, "side"), (14, 0, "training"), (14, 60_001, "training")):
        with pytest.raises(InputError, match=message):
            fashion_images(tmp_path, side, training)
    with pytest.raises(InputError, match="training"):
        digit_pixels(1797)


def test_digits_are_split_once() -> None:
    images = digit_pixels()
    assert (len(images.train), len(images.test), images.size) == (1200, 597, 64)
    assert float(images.train.min()) == -1
    assert float(images.train.max()) == 1
    assert torch.equal(images.test, digit_pixels().test)


def test_picard_is_the_samplers_default() -> None:
    assert sampler(model(0), 4).solver == Picard()
