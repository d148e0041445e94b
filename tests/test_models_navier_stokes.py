"""The Navier-Stokes generator: exact solutions, order of accuracy, budgets of energy and enstrophy, symmetries."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from deqops import InputError
from deqops.models import navier_stokes, random_vorticity, vorticity_trajectories

F64 = torch.float64


def grid(size: int, dtype: torch.dtype = F64) -> tuple[Tensor, Tensor]:
    """x (n, 1) and y (1, n)."""
    points = 2 * math.pi * torch.arange(size, dtype=dtype) / size
    return points[:, None], points[None]


def distance(found: Tensor, truth: Tensor) -> float:
    return float((found.double() - truth.double()).norm() / truth.double().norm())


def power(field: Tensor, exponent: int) -> Tensor:
    """Half the mean of `|k|^exponent |w_k|^2` (...,), from full spectra: not the solver's own sums."""
    size = field.shape[-1]
    k = torch.fft.fftfreq(size, 1 / size, dtype=field.dtype)
    square = k[:, None] ** 2 + k[None] ** 2
    weight = torch.where(square > 0, square.clamp(min=1) ** (exponent / 2), 0.0)
    return (torch.fft.fft2(field, norm="forward").abs().square() * weight).sum(dim=(-2, -1)) / 2


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (F64, 1e-13)])
def test_taylor_green_vortices_decay_exactly(dtype: torch.dtype, tolerance: float) -> None:
    x, y = grid(16, dtype)
    initial = torch.stack([2 * torch.cos(x) * torch.cos(y), torch.sin(3 * x) * torch.sin(3 * y)])
    frames = vorticity_trajectories(initial, frames=3, interval=0.7, viscosity=0.1, steps=5)
    assert frames.dtype == dtype
    for frame in range(4):
        rates = torch.tensor([2.0, 18.0], dtype=dtype)[:, None, None]
        truth = initial * torch.exp(-0.1 * rates * 0.7 * frame)
        for flow in range(2):
            assert distance(frames[flow, frame], truth[flow]) < tolerance


def test_modes_of_one_wave_length_do_not_act_on_each_other() -> None:
    """psi and w are proportional, so that u . grad w = 0 by cancellation: |k| = 5."""
    x, y = grid(32)
    initial = torch.cos(3 * x + 4 * y) + torch.sin(4 * x - 3 * y) + 2 * torch.cos(5 * x) + torch.sin(5 * y)
    last = vorticity_trajectories(initial, frames=1, interval=1.0, viscosity=0.02, steps=40)[-1]
    assert distance(last, initial * math.exp(-0.02 * 25)) < 1e-12


def test_a_forcing_that_balances_advection_keeps_a_flow() -> None:
    """w = cos x + cos 2y has u . grad w = -(3/2) sin x sin 2y: sign and size of the advection by hand."""
    x, y = grid(16)
    steady, viscosity = torch.cos(x) + torch.cos(2 * y), 0.05
    forcing = -1.5 * torch.sin(x) * torch.sin(2 * y) + viscosity * (torch.cos(x) + 4 * torch.cos(2 * y))
    options: dict[str, Any] = {"frames": 1, "interval": 1.0, "viscosity": viscosity}
    coarse, fine = (vorticity_trajectories(steady, steps=n, forcing=forcing, **options)[-1] for n in (20, 40))
    assert distance(fine, steady) < 1e-9
    assert 12 < distance(coarse, steady) / distance(fine, steady) < 20


def test_the_method_is_of_order_four_in_time() -> None:
    initial = random_vorticity(2, 32, seed=1, dtype=F64)
    options: dict[str, Any] = {"frames": 1, "interval": 1.0, "viscosity": 1e-2}
    truth = vorticity_trajectories(initial, steps=320, **options)[:, -1]
    errors = [distance(vorticity_trajectories(initial, steps=n, **options)[:, -1], truth) for n in (20, 40, 80)]
    orders = [math.log2(errors[0] / errors[1]), math.log2(errors[1] / errors[2])]
    assert all(3.8 < order < 4.3 for order in orders), orders
    assert errors[-1] < 1e-7


def test_the_default_flows_are_as_accurate_as_the_docstring_says() -> None:
    flows = navier_stokes(2, dtype=F64)
    steps = navier_stokes(2, steps=40, dtype=F64)
    finer = navier_stokes(2, size=128, steps=20, dtype=F64)[..., ::2, ::2]
    assert distance(flows[:, -1], steps[:, -1]) < 1e-5
    assert distance(flows[:, -1], finer[:, -1]) < 3e-4
    assert distance(navier_stokes(2)[:, -1], flows[:, -1]) < 1e-5


def test_without_viscosity_energy_and_enstrophy_are_kept() -> None:
    """The Galerkin system keeps both: what is left is the error of the method in time."""
    initial = random_vorticity(2, 32, seed=2, dtype=F64)
    options: dict[str, Any] = {"frames": 1, "interval": 2.0, "viscosity": 0.0}
    for exponent in (-2, 0):
        lost = []
        for steps in (50, 100):
            frames = vorticity_trajectories(initial, steps=steps, **options)
            before, after = power(frames, exponent).unbind(dim=1)
            lost.append(float(((after - before) / before).abs().max()))
        assert lost[1] < 1e-6
        assert lost[0] / lost[1] > 8


def test_energy_and_enstrophy_decay_as_viscosity_says() -> None:
    """dE/dt = -2 nu Z and dZ/dt = -2 nu P; the integrals by Simpson's rule over the frames."""
    viscosity, h = 2e-2, 0.05
    frames = navier_stokes(2, size=48, frames=40, interval=h, viscosity=viscosity, steps=4, dtype=F64)
    weights = torch.tensor([1.0, *[4.0, 2.0] * 19, 4.0, 1.0], dtype=F64) * h / 3
    for exponent in (-2, 0):
        kept, spent = power(frames, exponent), power(frames, exponent + 2)
        loss = kept[:, 0] - kept[:, -1]
        assert float(loss.min()) > 0.02 * float(kept[:, 0].min())
        assert torch.allclose(loss, 2 * viscosity * (spent * weights).sum(dim=1), rtol=1e-5)


def test_the_flow_commutes_with_shifts_and_quarter_turns() -> None:
    initial = random_vorticity(1, 24, seed=3, dtype=F64)
    options: dict[str, Any] = {"frames": 1, "interval": 1.0, "viscosity": 1e-2, "steps": 20}
    last = vorticity_trajectories(initial, **options)[:, -1]
    for moved in (lambda w: w.roll((3, 5), (-2, -1)), lambda w: w.rot90(1, (-2, -1))):
        assert distance(vorticity_trajectories(moved(initial), **options)[:, -1], moved(last)) < 1e-11


def test_flows_of_a_batch_are_computed_apart() -> None:
    initial = random_vorticity(6, 16, seed=4).reshape(2, 3, 16, 16)
    options: dict[str, Any] = {"frames": 2, "interval": 0.5, "viscosity": 1e-2, "steps": 5}
    together = vorticity_trajectories(initial, **options)
    assert together.shape == (2, 3, 3, 16, 16)
    assert torch.equal(together[:, :, 0], initial)
    assert distance(together[1, 2], vorticity_trajectories(initial[1, 2], **options)) < 1e-6


def test_initial_fields_are_fixed_by_the_seed_alone() -> None:
    state = torch.random.get_rng_state()
    fields = random_vorticity(3, 32, seed=5, dtype=F64)
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(fields, random_vorticity(3, 32, seed=5, dtype=F64))
    assert not torch.allclose(fields, random_vorticity(3, 32, seed=6, dtype=F64))
    assert distance(random_vorticity(3, 64, seed=5, dtype=F64)[:, ::2, ::2], fields) < 1e-13
    assert torch.allclose(fields.square().mean(dim=(1, 2)), torch.ones(3, dtype=F64))
    assert float(fields.mean(dim=(1, 2)).abs().max()) < 1e-14


def test_long_steps_are_reported() -> None:
    with pytest.raises(InputError, match="more than 1"):
        navier_stokes(1, size=32, frames=20, interval=2.0, steps=1)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("count", 0),
        ("size", 13),
        ("modes", 0),
        ("frames", 0),
        ("interval", 0.0),
        ("interval", math.inf),
        ("viscosity", -1.0),
        ("viscosity", math.nan),
        ("steps", 0),
        ("dtype", torch.float16),
    ],
)
def test_arguments_out_of_range_are_named(option: str, value: Any) -> None:
    with pytest.raises(InputError, match=option):
        navier_stokes(**{"count": 1, "size": 16, "frames": 1, option: value})


def test_fields_that_do_not_fit_are_named() -> None:
    options: dict[str, Any] = {"frames": 1, "interval": 0.1, "viscosity": 0.1, "steps": 1}
    for initial in (torch.zeros(8), torch.zeros(8, 9), torch.zeros(8, 8, dtype=torch.float16)):
        with pytest.raises(InputError, match="initial"):
            vorticity_trajectories(initial, **options)
    for forcing in (torch.zeros(4, 4), torch.zeros(8, 8, dtype=F64)):
        with pytest.raises(InputError, match="forcing"):
            vorticity_trajectories(torch.zeros(8, 8), forcing=forcing, **options)
