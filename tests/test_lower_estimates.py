"""Estimates from below: near the norm where that is known, never above a bound, and no part of one."""

from __future__ import annotations

import pytest
import torch
from exact import seeded
from torch import Tensor, nn
from zoo import Case, Module, cases

from deqops.verify import Ball, Norm, _gain_estimate, _lipschitz, lipschitz_bound
from deqops.verify._norm_estimate import norm_estimate
from deqops.verify._operand import Entries, as_operand

ZOO = cases()
P = {"l1": 1, "l2": 2, "linf": float("inf")}


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


@pytest.mark.parametrize("order", list(P))
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (5, 9), (40, 30)])
def test_norm_estimates_are_close_from_below(order: str, shape: tuple[int, int]) -> None:
    A = randn(*shape, seed=3)
    truth = float(torch.linalg.matrix_norm(A, P[order]))
    assert 0.6 * truth <= norm_estimate(as_operand(A), order) <= truth * (1 + 1e-13)


def test_estimates_that_overflow_are_zero() -> None:
    huge = as_operand(torch.full((2, 2), 1e300, dtype=torch.float64))
    assert isinstance(huge, Entries)
    assert norm_estimate(huge, "l2") == 0


@pytest.mark.parametrize(("name", "order"), [*((name, "l2") for name in ZOO), ("tanh", "l1"), ("two layers", "linf")])
def test_lipschitz_estimates_are_of_the_bounds_size_and_below(name: str, order: str) -> None:
    case: Case = ZOO[name]
    bound = lipschitz_bound(case[0], case[1], *case[2], norm=order, batch_dims=case[3])
    assert 0.1 * bound.upper <= bound.lower_estimate <= bound.upper


@pytest.mark.parametrize("order", list(P))
def test_the_estimate_of_an_affine_map_is_its_norm(order: str) -> None:
    W, weights = randn(6, 6, seed=7), torch.rand(6, generator=seeded(8), dtype=torch.float64) + 0.5
    module = Module(lambda m, z: z @ m.w.T, w=W)
    for norm, matrix in ((Norm(order), W), (Norm(order, (weights,)), weights[:, None] * W / weights)):
        bound = lipschitz_bound(module, torch.zeros(2, 6, dtype=torch.float64), norm=norm)
        truth = float(torch.linalg.matrix_norm(matrix, P[order]))
        assert 0.8 * truth <= bound.lower_estimate <= truth * (1 + 1e-12)


def test_a_ball_is_searched_where_it_lies() -> None:
    """tanh far from 0 is flat: the estimate is local, as the bound is."""
    module = Module(lambda m, z: torch.tanh(z @ m.w.T), w=2 * torch.eye(3, dtype=torch.float64))
    center = torch.full((1, 3), 2.0, dtype=torch.float64)
    local = lipschitz_bound(module, center, region=Ball(center, 0.1))
    assert 0.5 * local.upper <= local.lower_estimate <= local.upper < 0.01
    assert lipschitz_bound(module, center).lower_estimate == pytest.approx(2, rel=1e-9)


def test_the_estimate_is_the_same_each_time_and_leaves_the_generator_alone() -> None:
    module, z = nn.Sequential(nn.Linear(5, 5), nn.Tanh()), torch.zeros(1, 5)
    before = torch.random.get_rng_state()
    first, second = (lipschitz_bound(module, z).lower_estimate for _ in range(2))
    assert first == second > 0
    assert torch.equal(before, torch.random.get_rng_state())
    with torch.no_grad():
        assert lipschitz_bound(module, z).lower_estimate == first


@pytest.mark.parametrize("wrong", [1e9, float("nan"), 0.0])
def test_a_wrong_estimate_does_not_move_the_bound(wrong: float, monkeypatch: pytest.MonkeyPatch) -> None:
    case = ZOO["tanh"]
    honest = lipschitz_bound(case[0], case[1], *case[2])
    monkeypatch.setattr(_gain_estimate, "_gain_at", lambda *_: wrong)
    moved = lipschitz_bound(case[0], case[1], *case[2])
    assert moved.upper == honest.upper
    assert 0 <= moved.lower_estimate <= moved.upper


def test_an_operator_without_derivatives_has_the_estimate_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> float:
        raise RuntimeError("no derivative")

    monkeypatch.setattr(_gain_estimate, "_gain_at", refuse)
    case = ZOO["tanh"]
    assert lipschitz_bound(case[0], case[1], *case[2]).lower_estimate == 0


def test_certify_makes_no_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    """The estimate is out of any verdict's way: only `lipschitz_bound` calls it."""
    from deqops.verify import Verdict, certify

    def refuse(*_: object) -> float:
        raise AssertionError("an estimate was asked for")

    monkeypatch.setattr(_lipschitz, "gain_estimate", refuse)
    module = Module(lambda m, z: torch.tanh(z @ m.w.T), w=0.5 * torch.eye(3, dtype=torch.float64))
    assert certify(module, torch.zeros(1, 3, dtype=torch.float64), norm="l2").verdict is Verdict.CERTIFIED


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_what_is_written_into_a_part_has_derivatives_too(dtype: torch.dtype) -> None:
    """torch has none for the functional copy, nor for writing into complex tensors."""

    def halved(z: Tensor) -> Tensor:
        out = torch.zeros_like(z, dtype=dtype)
        out[:, :2] = 0.5 * z[:, :2]
        out[:, -1] = 0.25 * z[:, 0]
        return out.real

    bound = lipschitz_bound(halved, randn(2, 4))
    assert bound.lower_estimate == pytest.approx(bound.upper, rel=1e-2)
