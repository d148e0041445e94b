"""Broyden's method with limited memory, each problem by itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deqops._errors import InputError
from deqops._tree import row_norms

from ._picard import check_damping

SETBACK = 1000.0
"""Factors are dropped where the residual exceeds this times the best one since the last drop.

Broyden's residuals are not monotone: on linear problems of rate 0.999 smaller limits drop what the next steps need.
"""
DEGENERATE = 10.0
"""A factor is left out where its denominator is below this many units of rounding of ||s|| or ||H y||."""


@dataclass(frozen=True)
class Update:
    """One factor `I + w s^T` of H; both are 0 where a problem left it out."""

    change: Tensor  # (problems, unknowns): w
    step: Tensor  # (problems, unknowns): s, of length 1


@dataclass(frozen=True)
class BroydenMemory:
    """The last point, what H makes of its residual, and the factors of H, oldest first."""

    point: Tensor  # (problems, unknowns): z
    residual: Tensor  # (problems, unknowns): r = G(z) - z
    applied: Tensor  # (problems, unknowns): H r
    updates: tuple[Update, ...]
    since: Tensor  # (problems,) int64: the first update that the problem still uses
    best: Tensor  # (problems,): the smallest residual norm since the last drop
    rested: Tensor  # (problems,) bool: the last step was no drop


@dataclass(frozen=True)
class Broyden:
    """Broyden's "good" method on `F(z) = G(z) - z`: `z <- z - H F(z)`, H near the inverse Jacobian of F.

    H starts as -b I, so that the first step is Picard's damped one. With s the last step and y the change of F,
    `H <- (I + w s^T) H`, `w = (s - H y) / (s^T H y)`: the inverse of the matrix that maps s to y and is nearest
    to the one before, in the Frobenius norm. Kept are the factors, never H: two vectors like the state for each
    step done. After `memory` steps H starts anew from -b I and the newest step. A factor whose denominator is
    nothing but rounding beside s or H y is left out. Where the residual exceeds 1000 times the best one, that
    problem's factors are dropped, and the step is Picard's damped one. All of this is relative: scaling a
    problem, z -> c z, changes nothing.

    Args:
        memory: how many steps to remember before starting anew, at least 1; `2 memory + 3` vectors like the
            state at most.
        damping: b of the first step, above 0.

    Raises:
        InputError: a setting is out of range.

    Source: Broyden, Math. Comp. 19, 1965; Kelley, *Iterative Methods for Linear and Nonlinear Equations*, SIAM
    1995, chapter 7 (factors and restart). Without restarts it converges superlinearly from near an equilibrium where
    I - J is regular; from afar no theorem covers it: what it finds, the residual judges.
    """

    memory: int = 30
    damping: float = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.memory, bool) or not isinstance(self.memory, int) or self.memory < 1:
            raise InputError(f"memory: a whole number of at least 1 is needed, got {self.memory!r}")
        check_damping(self.damping)

    def init(self, z: Tensor) -> BroydenMemory | None:
        """Nothing is known before the first evaluation."""
        return None

    def step(self, memory: BroydenMemory | None, z: Tensor, image: Tensor) -> tuple[Tensor, BroydenMemory]:
        """The quasi-Newton point of each problem, and the memory with the newest factor last."""
        point = z.to(torch.promote_types(z.dtype, torch.float32))
        residual = image.to(point.dtype) - point
        if memory is None:
            new = _first(point, residual, -self.damping * residual)
        elif len(memory.updates) < self.memory:
            new = _updated(memory, point, residual, -self.damping * residual)
        else:
            new = _updated(_anew(memory, self.damping), point, residual, -self.damping * residual)
        return (point - new.applied).to(z.dtype), new

    def narrowed(self, memory: BroydenMemory, rows: Tensor) -> BroydenMemory:
        """The memory of these problems alone."""
        return BroydenMemory(
            memory.point[rows],
            memory.residual[rows],
            memory.applied[rows],
            tuple(Update(update.change[rows], update.step[rows]) for update in memory.updates),
            memory.since[rows],
            memory.best[rows],
            memory.rested[rows],
        )


def _first(point: Tensor, residual: Tensor, applied: Tensor) -> BroydenMemory:
    norm = row_norms(residual)
    since = torch.zeros_like(norm, dtype=torch.int64)
    return BroydenMemory(point, residual, applied, (), since, norm, torch.zeros_like(since, dtype=torch.bool))


def _anew(old: BroydenMemory, damping: float) -> BroydenMemory:
    """The memory without factors. It is due after so many steps, whatever the problems' values."""
    since = torch.zeros_like(old.since)
    return BroydenMemory(old.point, old.residual, -damping * old.residual, (), since, old.best, old.rested)


def _updated(old: BroydenMemory, point: Tensor, residual: Tensor, start: Tensor) -> BroydenMemory:
    """The memory with the newest factor; no factors for a problem that was set back (never twice in a row).

    Args:
        start: -b r, to which the factors are applied.
    """
    norm, count = row_norms(residual), len(old.updates)
    drop = (norm > SETBACK * old.best) & old.rested
    since = torch.where(drop, count + 1, old.since)
    applied = start
    for number, update in enumerate(old.updates):
        applied = _times(update, applied, since <= number)
    newest = _update(point - old.point, applied - old.applied)  # H y = H r - H r_old: one application does
    return BroydenMemory(
        point,
        residual,
        _times(newest, applied, since <= count),
        (*old.updates, newest),
        since,
        torch.where(drop, norm, torch.minimum(norm, old.best)),
        ~drop,
    )


def _update(step: Tensor, applied: Tensor) -> Update:
    """The factor for a step s and H y; 0 where it would divide by nothing but rounding."""
    length, size = row_norms(step), row_norms(applied)
    unit = step / torch.where(length > 0, length, 1.0)[:, None]
    denominator = (unit * applied).sum(dim=1)
    floor = DEGENERATE * torch.finfo(step.dtype).eps * torch.maximum(length, size)
    usable = (denominator.abs() > floor) & (length > 0) & size.isfinite()
    change = (step - applied) / torch.where(usable, denominator, 1.0)[:, None]
    return Update(torch.where(usable[:, None], change, 0.0), torch.where(usable[:, None], unit, 0.0))


def _times(update: Update, vectors: Tensor, used: Tensor) -> Tensor:
    """`(I + w s^T) v` for each problem that uses the update, v for the others; by sums within a problem only."""
    weights = torch.where(used, (update.step * vectors).sum(dim=1), 0.0)
    return torch.addcmul(vectors, weights[:, None], update.change)
