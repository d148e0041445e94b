"""Broyden's method with limited memory, each problem by itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deqops._equation import Equation
from deqops._errors import InputError
from deqops._numbers import is_count, keep_plain
from deqops._tree import at_least_float32, host, row_norms

from ._base import refuse_gradients
from ._picard import check_damping
from ._subspace import Subspace

SETBACK = 1000.0
"""H starts anew where the residual exceeds this times the best one since the last drop.

Broyden's residuals are not monotone: on linear problems of rate 0.999 smaller limits drop what the next steps need.
"""
DEGENERATE = 10.0
"""A change of H is left out where its denominator is below this many units of rounding of ||s|| or ||H y||."""
KEPT = 2 / 3
"""The part of the rank of H + b I that is left of a full memory."""
PATIENCE = 20
"""Steps in which a residual is to be halved: H of a problem that did not starts anew, once memory is full."""


@dataclass
class BroydenMemory:
    """H as `-b P`, and the last residual and step in the directions of P; each step writes into it."""

    inverse: Subspace  # P
    last: Tensor  # (problems, 2, room) float64: b r = b (G(z) - z) and the step from z, coordinates
    best: NDArray[np.float64]  # (problems,): the smallest residual norm since the last drop
    rested: NDArray[np.bool_]  # (problems,): the last step was no drop
    low: NDArray[np.float64]  # (problems,): the smallest residual norm up to the last look at progress
    lately: NDArray[np.float64]  # (problems,): and since
    since: int = 0  # steps since that look
    rank: int = 0  # of P - I, at most


@dataclass(frozen=True)
class Broyden:
    """Broyden's "good" method on `F(z) = G(z) - z`: `z <- z - H F(z)`, H near the inverse Jacobian of F.

    H starts as -b I, so that the first step is Picard's damped one. With s the last step and y the change of F,
    `H <- (I + w s^T) H`, `w = (s - H y) / (s^T H y)`: the inverse of the matrix that maps s to y and is nearest
    to the one before, in the Frobenius norm. H + b I maps the span of the residuals so far into itself and the rest
    to 0, so what is kept is one vector like the state for each step done, an orthonormal basis of that span, and a
    matrix of as many rows as steps. After `memory` steps H + b I goes on with 2/3 of its rank, near the largest part
    of it; for a problem that did not halve its residual in 20 steps or more, as 0. A change of H whose denominator
    is nothing but rounding beside s or H y is left out. Where the residual exceeds 1000 times the best one, that
    problem's H starts anew, and the step is Picard's damped one. All of this is relative: scaling a problem,
    z -> c z, changes nothing.

    Args:
        memory: how many steps to remember before forgetting a third, at least 1 (which forgets that one);
            `memory + 2` vectors like the state, in blocks of 32, and as many again once it forgets.
        damping: b of the first step, above 0.

    Raises:
        InputError: a setting is out of range.

    Source: Broyden, Math. Comp. 19, 1965; Kelley, *Iterative Methods for Linear and Nonlinear Equations*, SIAM
    1995, chapter 7; van de Rotten, *A Limited Memory Broyden Method to Solve High-Dimensional Systems of Nonlinear
    Equations*, thesis, Leiden 2003, chapter 3 (reduction of the rank); Saad, *Numerical Methods for Large Eigenvalue
    Problems*, SIAM 2011, chapter 5 (subspace iteration). With all steps remembered it converges superlinearly from
    near an equilibrium where I - J is regular; from afar no theorem covers it: what it finds, the residual judges.
    """

    memory: int = 30
    damping: float = 1.0

    def __post_init__(self) -> None:
        keep_plain(self, "memory", "damping")
        if not is_count(self.memory, 1):
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
        refuse_gradients(z, image)
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
        point = at_least_float32(z)
        residual = at_least_float32(image) - point
        length = self._lengths(residual)
        if self.settings.damping != 1.0:
            residual = residual.mul_(self.settings.damping)
        if memory is None:
            memory = _begun(residual, length)
        else:
            self._update(memory, residual, length)
        return memory.inverse.moved(point, memory.last[:, 1]).to(z.dtype), memory

    def narrowed(self, memory: BroydenMemory, rows: Tensor) -> BroydenMemory:
        """The memory of these problems alone."""
        kept = rows.cpu().numpy()
        return replace(
            memory,
            inverse=memory.inverse.narrowed(rows),
            last=memory.last[rows],
            best=memory.best[kept],
            rested=memory.rested[kept],
            low=memory.low[kept],
            lately=memory.lately[kept],
        )

    def _update(self, memory: BroydenMemory, residual: Tensor, length: NDArray[np.float64]) -> None:
        """Take over the newest residual, change H, and find the step; H anew where set back (never twice in a row)."""
        if memory.rank == self.settings.memory:
            self._make_room(memory)
        dropped = (length / SETBACK > memory.best) & memory.rested  # a product may overflow
        replaced = None if self.equation is None else self.equation.replaced
        dropped = dropped if replaced is None else dropped | replaced
        unit = torch.finfo(residual.dtype).eps
        new = memory.inverse.admit(residual)
        room = new.shape[1] - memory.last.shape[2]
        last = torch.nn.functional.pad(memory.last, (0, room)) if room else memory.last
        step = _changed(memory.inverse, last, new, unit)
        if np.count_nonzero(dropped):
            rows = torch.from_numpy(np.flatnonzero(dropped)).to(residual.device)
            memory.inverse.drop(rows)
            step[rows] = new[rows]
        memory.last = torch.stack([new, step], dim=1)
        memory.best, memory.rested = np.where(dropped, length, np.fmin(memory.best, length)), ~dropped
        memory.lately = np.fmin(memory.lately, length)
        memory.since, memory.rank = memory.since + 1, memory.rank + 1

    def _make_room(self, memory: BroydenMemory) -> None:
        """Reduce the rank of a full memory; H anew for a problem without progress."""
        memory.rank = int(KEPT * self.settings.memory)
        memory.last = memory.inverse.reduce(memory.rank, memory.last)
        if memory.since >= PATIENCE:
            stuck = np.flatnonzero(memory.lately > memory.low / 2)
            if len(stuck):
                memory.inverse.drop(torch.from_numpy(stuck).to(memory.last.device))
            memory.low, memory.lately, memory.since = memory.lately, np.full(len(memory.low), np.inf), 0

    def _lengths(self, residual: Tensor) -> NDArray[np.float64]:
        known = None if self.equation is None else self.equation.lengths
        return host(row_norms(residual)) if known is None else known


def _begun(residual: Tensor, length: NDArray[np.float64]) -> BroydenMemory:
    inverse = Subspace.none(len(residual), residual.device)
    start = inverse.admit(residual)
    rested, none = np.zeros(len(length), dtype=bool), np.full(len(length), np.inf)
    return BroydenMemory(inverse, torch.stack([start, start], dim=1), length, rested, length, none)


def _changed(inverse: Subspace, last: Tensor, new: Tensor, unit: float) -> Tensor:
    """Change P by the last step, and return P of the new residual; all in coordinates, residuals times b.

    Args:
        inverse: P; `H = -b P`. A problem whose P is not finite gets the identity.
        last: the residual before the step and s, the step, (problems, 2, room).
        new: the residual after it, (problems, room).
        unit: of rounding of the state.
    """
    P, taken = inverse.matrix, last[:, 1]
    both = torch.stack([last[:, 0], new], dim=2)
    before, step = torch.baddbmm(both, P, both).unbind(2)
    applied = before - step  # H y
    length, size = row_norms(taken), row_norms(applied)
    direction = taken / torch.where(length > 0, length, 1.0)[:, None]
    denominator = (direction * applied).sum(dim=1)
    change = taken - applied
    usable = (denominator.abs() > DEGENERATE * unit * torch.maximum(length, size)) & (length > 0) & size.isfinite()
    if not bool(usable.all()):
        lost = (~step.isfinite().all(dim=1)).nonzero()[:, 0]
        inverse.drop(lost)
        step[lost] = new[lost]
        change = torch.where(usable[:, None], change, 0.0)
        direction = torch.where(usable[:, None], direction, 0.0)
        denominator = torch.where(usable, denominator, 1.0)
    row = torch.baddbmm(direction[:, None], direction[:, None], P)  # s^T P
    change = change / denominator[:, None]
    P.addcmul_(change[:, :, None], row)
    return torch.addcmul(step, change, (row[:, 0] * new).sum(dim=1, keepdim=True))
