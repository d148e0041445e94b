"""The smallest eigenvalue of a symmetric matrix by floating-point factors of its shifts, whatever their pattern.

A factor of `A + t I`, whoever made it, shows `A + t I >= -c I` for a c bounded from its residual (`Factor.deficit`),
hence `lambda_min(A) >= -t - c`. Which t is tried first is a proposal: Lanczos' method with the inverse of a shift that
Gershgorin's circles allow, then of shifts ever nearer to the eigenvalue.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from ._rounding import add_up

_STEPS = 24  # of Lanczos' method
_ENTRIES = 2**25  # of its basis
_FACTORS = 12  # that the estimate may take


class Factor(Protocol):
    """A floating-point factor of one shift."""

    def solve(self, x: Tensor) -> Tensor:
        """About `(A + t I)^-1 x`."""

    def deficit(self) -> float:
        """Proven: `A + t I >= -c I` for this c >= 0; infinity or NaN where it shows nothing."""


class Shifted(Protocol):
    """A symmetric matrix A whose shifts can be factored."""

    @property
    def size(self) -> int:
        """Rows."""

    @property
    def scale(self) -> float:
        """About the norm of A, and about 1."""

    @property
    def start(self) -> float:
        """About a t with `A + t I` positive semidefinite."""

    @property
    def unit(self) -> float:
        """About the relative error of a factor."""

    def factor(self, shift: float) -> Factor | None:
        """A factor of `A + shift I`, or None where that does not seem positive definite."""


def lowest_bound(problem: Shifted) -> tuple[float, float]:
    """A proven lower bound of the smallest eigenvalue, minus infinity where none was found, and an estimate of it."""
    margin = 4.0 * problem.unit * problem.scale
    estimate = _lowest_estimate(problem) if 0 < margin < math.inf else math.nan
    while (
        math.isfinite(estimate) and margin <= 4.0 * problem.scale
    ):  # a poor estimate costs tightness, in steps, not the bound
        shift = margin - estimate
        factor = problem.factor(shift)
        deficit = math.inf if factor is None else factor.deficit()
        if math.isfinite(deficit):
            return -float(add_up(shift, deficit)), estimate
        margin *= 8.0
    return -math.inf, estimate


def _lowest_estimate(problem: Shifted) -> float:
    """About the smallest eigenvalue, rather above than below it; NaN where no shift could be factored."""
    vector = torch.randn(problem.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    shift, estimate = problem.start + 2.0**-20 * problem.scale, math.nan
    distance, share = math.nan, 2.0**-10
    for _ in range(_FACTORS):
        factor = problem.factor(shift)
        if factor is None and distance > 0 and share < 1:  # the eigenvalue is further below the estimate
            share *= 8.0
            shift = share * distance - estimate
            continue
        if factor is None:
            break
        size, vector = _largest_of_inverse(factor, vector)
        found = 1.0 / size - shift if size > 0 else math.nan
        if not math.isfinite(found):
            break
        settled = abs(found - estimate) <= problem.unit * problem.scale
        estimate, distance, share = found, found + shift, 2.0**-10
        if settled or distance <= 2.0**-30 * problem.scale:
            break
        shift = max(share * distance, 2.0**-34 * problem.scale) - estimate
    return estimate


def _largest_of_inverse(factor: Factor, start: Tensor) -> tuple[float, Tensor]:
    """About the largest eigenvalue of the shift's inverse, and its vector: Lanczos' method, reorthogonalised."""
    basis = [start / start.norm()]
    alpha: list[float] = []
    beta: list[float] = []
    for _ in range(min(_STEPS, len(start), max(_ENTRIES // len(start), 4))):
        w = factor.solve(basis[-1])
        alpha.append(float(w @ basis[-1]))
        Q = torch.stack(basis)
        w = w - Q.T @ (Q @ w)
        w = w - Q.T @ (Q @ w)
        size = float(w.norm())
        if not size > 1e-13 * max(alpha):
            break
        beta.append(size)
        basis.append(w / size)
    off = torch.diag(torch.tensor(beta[: len(alpha) - 1], dtype=torch.float64), 1)
    matrix = torch.diag(torch.tensor(alpha, dtype=torch.float64)) + off + off.T
    if not bool(matrix.isfinite().all()):
        return math.nan, start
    values, vectors = torch.linalg.eigh(matrix)
    return float(values[-1]), torch.stack(basis[: len(alpha)]).T @ vectors[:, -1]
