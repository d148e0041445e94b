"""Broyden's method with limited memory, each problem by itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deqops._equation import Equation
from deqops._errors import InputError
from deqops._tree import host, row_norms

from ._factors import Factors
from ._picard import check_damping

SETBACK = 1000.0
"""Factors are dropped where the residual exceeds this times the best one since the last drop.

Broyden's residuals are not monotone: on linear problems of rate 0.999 smaller limits drop what the next steps need.
"""
DEGENERATE = 10.0
"""A factor is left out where its denominator is below this many units of rounding of ||s|| or ||H y||."""
KEPT = 2 / 3
"""The part of a full memory that goes on, as a matrix of that rank."""
PATIENCE = 20
"""Steps in which a residual is to be halved: a problem that did not goes on without factors, once memory is full."""


@dataclass
class BroydenMemory:
    """The last point, what H makes of its residual, and the factors of H; each step writes into it."""

    point: Tensor  # (problems, unknowns): z
    residual: Tensor  # (problems, unknowns): r = G(z) - z
    applied: Tensor  # (problems, unknowns): H r
    factors: Factors
    best: NDArray[np.float64]  # (problems,): the smallest residual norm since the last drop
    rested: NDArray[np.bool_]  # (problems,): the last step was no drop
    low: NDArray[np.float64]  # (problems,): the smallest residual norm up to the last look at progress
    lately: NDArray[np.float64]  # (problems,): and since
    since: int = 0  # steps since that look


@dataclass(frozen=True)
class Broyden:
    """Broyden's "good" method on `F(z) = G(z) - z`: `z <- z - H F(z)`, H near the inverse Jacobian of F.

    H starts as -b I, so that the first step is Picard's damped one. With s the last step and y the change of F,
    `H <- (I + w s^T) H`, `w = (s - H y) / (s^T H y)`: the inverse of the matrix that maps s to y and is nearest
    to the one before, in the Frobenius norm. Kept are the factors, never H: two vectors like the state for each
    step done. After `memory` steps the product of the factors goes on as I plus a matrix of rank 2/3 `memory`, near
    the nearest to the rest of it in the Frobenius norm; for a problem that did not halve its residual in 20 steps or
    more, as I alone. A factor whose denominator is nothing but rounding beside s or H y is left out. Where the
    residual exceeds 1000 times the best one, that problem's factors are dropped, and the step is Picard's damped
    one. All of this is relative: scaling a problem, z -> c z, changes nothing.

    Args:
        memory: how many steps to remember before forgetting a third, at least 1 (which forgets that one);
            `2 memory + 3` vectors like the state, in blocks of 16, and half as many more while it forgets.
        damping: b of the first step, above 0.

    Raises:
        InputError: a setting is out of range.

    Source: Broyden, Math. Comp. 19, 1965; Kelley, *Iterative Methods for Linear and Nonlinear Equations*, SIAM
    1995, chapter 7 (factors); van de Rotten, *A Limited Memory Broyden Method to Solve High-Dimensional Systems of
    Nonlinear Equations*, thesis, Leiden 2003, chapter 3 (reduction of the rank). With all steps remembered
    it converges superlinearly from near an equilibrium where I - J is regular; from afar no theorem covers it: what
    it finds, the residual judges.
    """

    memory: int = 30
    damping: float = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.memory, bool) or not isinstance(self.memory, int) or self.memory < 1:
            raise InputError(f"memory: a whole number of at least 1 is needed, got {self.memory!r}")
        check_damping(self.damping)

    def prepared(self, equation: Equation) -> QuasiNewton:
        """The solver with the residual norms that the loop knows already."""
        return QuasiNewton(self, equation)

    def init(self, z: Tensor) -> BroydenMemory | None:
        """Nothing is known before the first evaluation."""
        return None

    def step(self, memory: BroydenMemory | None, z: Tensor, image: Tensor) -> tuple[Tensor, BroydenMemory]:
        """The quasi-Newton point of each problem, and its memory; the old one is spent."""
        return QuasiNewton(self, None).step(memory, z, image)


@dataclass(frozen=True)
class QuasiNewton:
    """`Broyden` for one equation; None for a solve without a loop."""

    settings: Broyden
    equation: Equation | None

    def init(self, z: Tensor) -> BroydenMemory | None:
        """Nothing is known before the first evaluation."""
        return None

    def step(self, memory: BroydenMemory | None, z: Tensor, image: Tensor) -> tuple[Tensor, BroydenMemory]:
        """As `Broyden.step`."""
        point = z.to(torch.promote_types(z.dtype, torch.float32))
        residual = image.to(point.dtype) - point
        length = self._lengths(residual)
        if memory is None:
            factors, rested = Factors.none(len(z), z.device), np.zeros(len(z), dtype=bool)
            none = np.full(len(z), np.inf)
            applied = -self.settings.damping * residual
            memory = BroydenMemory(point, residual, applied, factors, length, rested, length, none)
        else:
            self._update(memory, point, residual, length)
        return (point - memory.applied).to(z.dtype), memory

    def narrowed(self, memory: BroydenMemory, rows: Tensor) -> BroydenMemory:
        """The memory of these problems alone."""
        kept = rows.cpu().numpy()
        return BroydenMemory(
            memory.point[rows],
            memory.residual[rows],
            memory.applied[rows],
            memory.factors.narrowed(rows),
            memory.best[kept],
            memory.rested[kept],
            memory.low[kept],
            memory.lately[kept],
            memory.since,
        )

    def _update(self, memory: BroydenMemory, point: Tensor, residual: Tensor, length: NDArray[np.float64]) -> None:
        """Take over the newest point and its factor; no factors for a problem set back (never twice in a row)."""
        start = -self.settings.damping * residual
        if memory.factors.count == self.settings.memory:
            self._make_room(memory)
        dropped = (length / SETBACK > memory.best) & memory.rested  # a product may overflow
        applied = memory.factors.applied(start)
        change, step = _factor(point - memory.point, applied - memory.applied)  # H y = H r - H r_old
        memory.factors.append(change, step)
        memory.applied = torch.addcmul(applied, (step * applied).sum(dim=1, keepdim=True), change)
        if dropped.any():
            rows = torch.from_numpy(np.flatnonzero(dropped)).to(point.device)
            memory.factors.drop(rows)
            memory.applied[rows] = start[rows]
        memory.point, memory.residual = point, residual
        memory.best, memory.rested = np.where(dropped, length, np.fmin(memory.best, length)), ~dropped
        memory.lately, memory.since = np.fmin(memory.lately, length), memory.since + 1

    def _make_room(self, memory: BroydenMemory) -> None:
        """Reduce the rank of a full memory; no factors for a problem without progress."""
        memory.factors.reduce(int(KEPT * self.settings.memory))
        if memory.since >= PATIENCE:
            stuck = np.flatnonzero(memory.lately > memory.low / 2)
            if len(stuck):
                memory.factors.drop(torch.from_numpy(stuck).to(memory.point.device))
            memory.low, memory.lately, memory.since = memory.lately, np.full(len(memory.low), np.inf), 0
        memory.applied = memory.factors.applied(-self.settings.damping * memory.residual)

    def _lengths(self, residual: Tensor) -> NDArray[np.float64]:
        known = None if self.equation is None else self.equation.lengths
        return host(row_norms(residual)) if known is None else known


def _factor(step: Tensor, applied: Tensor) -> tuple[Tensor, Tensor]:
    """w and s of the factor for a step and H y; 0 where it would divide by nothing but rounding."""
    length, size = row_norms(step), row_norms(applied)
    unit = step / torch.where(length > 0, length, 1.0)[:, None]
    denominator = (unit * applied).sum(dim=1)
    floor = DEGENERATE * torch.finfo(step.dtype).eps * torch.maximum(length, size)
    usable = ((denominator.abs() > floor) & (length > 0) & size.isfinite())[:, None]
    if bool(usable.all()):
        return (step - applied) / denominator[:, None], unit
    change = (step - applied) / torch.where(usable, denominator[:, None], 1.0)
    return torch.where(usable, change, 0.0), torch.where(usable, unit, 0.0)
