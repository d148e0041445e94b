"""What torchdeq 0.1.0 gets wrong in solving, next to what deqops does: both are run.

Where a test runs torchdeq it pins the failure itself, so that a newer torchdeq without it is noticed.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from deqops import Anderson, ConvergenceError, ImplicitAdjoint, Picard, Result, Tolerance, solve

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its use of torch is dated
    from torchdeq import get_deq
    from torchdeq.solver import get_solver


def peer(name: str, G: Callable[[Tensor], Tensor], start: Tensor, **options: Any) -> tuple[Tensor, Any]:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value, _, info = get_solver(name)(G, start, **options)
    return value, info


def linear(scale: float) -> Callable[[Tensor], Tensor]:
    """A contraction with eigenvalues from 0.5 to 0.95, in other units: `scale G(z / scale)`."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(10, 10, generator=generator, dtype=torch.float64))[0]
    W = basis @ torch.diag(torch.linspace(0.5, 0.95, 10, dtype=torch.float64)) @ basis.mT
    b = torch.randn(1, 10, generator=generator, dtype=torch.float64)
    return lambda z: scale * (z / scale @ W + b)


def test_scaled_problem_with_anderson() -> None:
    """Its regularisation is absolute: in other units torchdeq's Anderson needs three times the evaluations."""
    start = torch.zeros(1, 10, dtype=torch.float64)
    ours, theirs = [], []
    for scale in (1.0, 1e-3):
        tolerance = Tolerance(relative=1e-6)
        ours.append(int(solve(linear(scale), start, solver=Anderson(), tolerance=tolerance).evaluations))
        info = peer("anderson", linear(scale), start, max_iter=1500, tol=1e-6, stop_mode="rel")[1]
        theirs.append(int(info["nstep"].max()))
    assert ours[1] == ours[0] < 20
    assert theirs[1] > 2 * theirs[0]
    assert theirs[0] > 100


def test_failure_is_told() -> None:
    """z -> 1.5 z + 1 has no reachable equilibrium: torchdeq returns a tensor as if it had."""

    def G(z: Tensor) -> Tensor:
        return 1.5 * z + 1

    start = torch.zeros(2, 3)
    value, info = peer("fixed_point_iter", G, start, max_iter=30, tol=1e-6, stop_mode="rel")
    assert value.isfinite().all()
    assert (torch.linalg.vector_norm(G(value) - value, dim=1) > 0.1).all()
    assert not any("fail" in key or "converged" in key for key in info)
    with pytest.raises(ConvergenceError, match="2 of 2 problems did not converge"):
        solve(G, start, solver=Picard(), max_evaluations=30)


def test_nan_is_told() -> None:
    """A problem that meets the square root of a negative number: torchdeq hands NaN out as its best iterate."""

    def G(z: Tensor) -> Tensor:
        return torch.sqrt(z - torch.tensor([[2.0], [-1.0]]))

    start = torch.full((2, 2), 3.0)
    value, _ = peer("fixed_point_iter", G, start, max_iter=30, tol=1e-6, stop_mode="rel")
    assert value[0].isnan().all()
    assert value[1].isfinite().all()
    with pytest.raises(ConvergenceError, match=r"1 of 2 problems did not converge \(1 NONFINITE\)"):
        solve(G, start)
    solution = solve(G, start, throw=False)
    assert solution.results == [Result.NONFINITE, Result.CONVERGED]
    assert solution.value.isfinite().all()


def test_broyden_updates_that_divide_by_0_are_told() -> None:
    """G(z) = z + 1 has no equilibrium; torchdeq clears the NaN from its update, not what it did: NaN comes out."""
    start = torch.zeros(1, 3)
    value, info = peer("broyden", lambda z: z + 1, start, max_iter=30, tol=1e-6, stop_mode="abs")
    assert value.isnan().all()
    assert not any("fail" in key or "converged" in key for key in info)
    solution = solve(lambda z: z + 1, start, max_evaluations=30, throw=False)
    assert solution.results == [Result.MAX_EVALUATIONS]
    assert solution.value.isfinite().all()


def test_every_problem_stops_by_its_own_rule() -> None:
    """A slow companion keeps torchdeq's fast problem moving: its answer depends on the batch."""
    rates = torch.tensor([[0.2], [0.95]], dtype=torch.float64)
    start = torch.zeros(2, 3, dtype=torch.float64)
    options = {"max_iter": 300, "tol": 1e-4, "stop_mode": "rel"}
    together = peer("fixed_point_iter", lambda z: rates * z + 1, start, **options)[0][0]
    alone = peer("fixed_point_iter", lambda z: rates[:1] * z + 1, start[:1], **options)[0][0]
    assert not torch.equal(together, alone)
    tolerance = Tolerance(relative=1e-4)
    both = solve(lambda z: rates * z + 1, start, solver=Picard(), tolerance=tolerance)
    one = solve(lambda z: rates[:1] * z + 1, start[:1], solver=Picard(), tolerance=tolerance)
    assert torch.equal(both.value[:1], one.value)
    assert both.evaluations[0] == one.evaluations[0] < both.evaluations[1]


@dataclass
class Distances:
    l2: Tensor


class Banach:
    """T1's residual form with the true constant."""

    def error_bound(self, G: Any, y: Tensor, *inputs: Any) -> Distances:
        return Distances(torch.linalg.vector_norm((G(y) - y).double(), dim=1) / (1 - 0.99))


def test_a_residual_is_not_an_error() -> None:
    """Contraction 0.99: a residual of 1e-3 hides an error near 0.1. Ours is named a residual, a bound is proven."""

    def G(z: Tensor) -> Tensor:
        return 0.99 * z + 0.01

    start = torch.zeros(1, 1, dtype=torch.float64)
    value, info = peer("fixed_point_iter", G, start, max_iter=1000, tol=1e-3, stop_mode="abs")
    reported, error = float(info["abs_lowest"].max()), float((value - 1).abs())
    assert error > 90 * reported
    loose = Tolerance(absolute=1e-3, relative=0.0)
    assert solve(G, start, solver=Picard(), tolerance=loose, max_evaluations=1000).error_bound is None
    proven = Tolerance(absolute=1e-3, relative=0.0, error=1e-3, certificate=Banach())
    solution = solve(G, start, solver=Picard(), tolerance=proven, max_evaluations=2000)
    assert float((solution.value - 1).abs()) <= float(solution.error_bound.l2) * (1 + 1e-9) <= 1e-3 * (1 + 1e-9)


def test_second_derivative() -> None:
    """y = tanh(w y) + w^2 at w = 0.8: torchdeq's implicit gradient is differentiated once too often, silently."""

    def second(equilibrium: Callable[[Tensor], Tensor]) -> float:
        w = torch.tensor([[0.8]], dtype=torch.float64, requires_grad=True)
        (first,) = torch.autograd.grad(equilibrium(w).sum(), w, create_graph=True)
        return float(torch.autograd.grad(first.sum(), w)[0])

    tight = Tolerance(relative=1e-13)

    def ours(w: Tensor) -> Tensor:
        value: Tensor = solve(
            lambda z, w: torch.tanh(w * z) + w**2,
            torch.zeros_like(w),
            w,
            tolerance=tight,
            adjoint=ImplicitAdjoint(tolerance=tight),
        ).value
        return value

    def theirs(w: Tensor) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            layer = get_deq(f_tol=1e-12, b_tol=1e-12, f_max_iter=300, b_max_iter=300, ift=True)
            value: Tensor = layer(lambda z: torch.tanh(w * z) + w**2, torch.zeros_like(w))[0][-1]
        return value

    step = 1e-3
    points = [float(ours(torch.tensor([[0.8 + k * step]], dtype=torch.float64)).detach()) for k in (-1, 0, 1)]
    difference = (points[0] - 2 * points[1] + points[2]) / step**2
    assert math.isclose(second(ours), difference, rel_tol=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert not math.isclose(second(theirs), difference, rel_tol=0.1)
