"""Picard's iteration against the theorems that bound it: T1 `picard`, T4 `damped`."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from deqops import Picard, Result, Tolerance, solve

DAMPINGS = [0.3, 0.5, 1.0]


def linear(rate: float, seed: int, size: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    """W with `||W||_2 = rate`, an offset, and the fixed point of `z W^T + b`, solved directly."""
    generator = torch.Generator().manual_seed(seed)
    W = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0] * rate
    b = torch.randn(2, size, generator=generator, dtype=torch.float64)
    return W, b, torch.linalg.solve(torch.eye(size, dtype=torch.float64) - W, b.mT).mT


@given(rate=st.sampled_from([0.1, 0.5, 0.9]), seed=st.integers(0, 50), steps=st.integers(1, 40))
def test_t1_bounds_hold_along_the_iteration(rate: float, seed: int, steps: int) -> None:
    W, b, exact = linear(rate, seed)
    solution = solve(
        lambda z: z @ W.mT + b,
        torch.zeros(2, 6, dtype=torch.float64),
        solver=Picard(),
        tolerance=Tolerance(relative=0.0),
        max_evaluations=steps,
        throw=False,
    )
    error = torch.linalg.vector_norm(solution.value - exact, dim=1)
    rounding = 1e-13 * torch.linalg.vector_norm(exact, dim=1)
    # y_n = value: a-posteriori q/(1-q) ||y_n - y_{n-1}|| and a-priori q^n/(1-q) ||y_1 - y_0||, y_0 = 0
    assert (error <= rate / (1 - rate) * solution.residual + rounding).all()
    first = torch.linalg.vector_norm(b, dim=1)
    assert (error <= rate**steps / (1 - rate) * first + rounding).all()
    # not vacuous: an orthogonal W shrinks every error by exactly the rate
    start = torch.linalg.vector_norm(exact, dim=1)
    assert ((error - rate**steps * start).abs() <= 1e-9 * rate**steps * start + rounding).all()


@pytest.mark.parametrize("damping", DAMPINGS)
def test_t4_damping_keeps_the_equilibrium(damping: float) -> None:
    W, b, exact = linear(0.8, seed=3)
    solution = solve(
        lambda z: z @ W.mT + b,
        torch.zeros_like(b),
        solver=Picard(damping),
        tolerance=Tolerance(relative=1e-12),
        max_evaluations=1000,
    )
    assert torch.allclose(solution.value, exact, rtol=0, atol=1e-10)


@pytest.mark.parametrize("damping", DAMPINGS)
def test_t4_damped_rate_is_the_proven_one(damping: float) -> None:
    """For G(z) = -q z the damped map is (1 - b - b q) z: the residuals shrink by exactly that factor."""
    q = 0.5
    solution = solve(
        lambda z: -q * z,
        torch.ones(1, 1, dtype=torch.float64),
        solver=Picard(damping),
        tolerance=Tolerance(relative=1e-30, absolute=1e-9),
        max_evaluations=400,
        trace=True,
    )
    assert solution.trace is not None
    ratio = solution.trace[1:, 0] / solution.trace[:-1, 0]
    expected = abs(Fraction(1) - Fraction(damping) * (1 + Fraction(q)))
    assert torch.allclose(ratio, torch.full_like(ratio, float(expected)), rtol=1e-12)
    assert float(expected) <= abs(1 - damping) + damping * q


def test_damping_finds_what_picard_does_not() -> None:
    """T4: -z is nonexpansive with equilibrium 0; Picard's iteration cycles, the averaged one converges."""
    start = torch.ones(1, 3, dtype=torch.float64)
    plain = solve(lambda z: -z, start, solver=Picard(), throw=False)
    assert plain.results == [Result.MAX_EVALUATIONS]
    damped = solve(lambda z: -z, start, solver=Picard(0.4), tolerance=Tolerance(absolute=1e-9))
    assert damped.value.abs().max() < 1e-9
