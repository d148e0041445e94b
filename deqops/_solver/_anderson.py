"""Anderson acceleration of type II, each problem by itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deqops._equation import Equation
from deqops._errors import InputError
from deqops._numbers import is_count, is_number, keep_plain
from deqops._solver._directions import Directions
from deqops._tree import at_least_float32, host, row_norms

from ._base import refuse_gradients
from ._picard import check_damping

SETBACK = 2.0
"""Memory is dropped where the residual exceeds this times the best one since the last drop."""
LEAN = 0.1
"""A difference that lies in the older columns by more than this part of its length depends on what is dropped."""


@dataclass
class AndersonMemory:
    """The last differences; each step writes into it."""

    directions: Directions
    best: NDArray[np.float64]  # (problems,): the smallest residual norm since the last drop
    rested: NDArray[np.bool_]  # (problems,): the last step was no drop
    age: NDArray[np.int64]  # (problems,): steps since the memory was empty


@dataclass(frozen=True)
class Anderson:
    """Anderson acceleration: `z <- z + b r - sum_i c_i (dz_i + b dr_i)`, c minimises `||r - sum c_i dr_i||`.

    r = G(z) - z; dz_i and dr_i are differences of successive points and of their residuals. Each new dr is made
    orthogonal to the kept ones by Gram-Schmidt, its dz goes along, and takes the place of the oldest: what is kept is
    orthogonal to what was dropped before, so that on symmetric linear problems three differences do what all would.
    Where a difference lies in the older ones, so that dropping costs, the columns are made anew of the last half of the
    differences alone, each `memory / 2` steps. A difference of which less than `regularization` is orthogonal to the
    kept ones is no column, and makes the next one begin anew. Where the residual exceeds twice the best one, that
    problem's memory is dropped, and the step is Picard's. All of this is relative: scaling a problem, z -> c z,
    changes nothing.

    Args:
        memory: how many differences to keep, at least 1; `2 memory + 4` vectors like the state, above 32 as they
            are needed.
        regularization: between 0 and 1; None for the square root of 30 units of rounding of the state's dtype, below
            which the orthogonal part is nothing but rounding.
        damping: b of the underlying damped Picard step, above 0.

    Raises:
        InputError: a setting is out of range.

    Source: Anderson, J. ACM 12, 1965; Walker and Ni, *Anderson Acceleration for Fixed-Point Iterations*, SIAM
    J. Numer. Anal. 49, 2011; Tang, Xu, He, Saad and Xi, *Anderson Acceleration with Truncated Gram-Schmidt*,
    arXiv:2403.14961. No convergence theorem covers it in general: what it finds, the residual judges.
    """

    memory: int = 10
    regularization: float | None = None
    damping: float = 1.0

    def __post_init__(self) -> None:
        keep_plain(self, "memory", "regularization", "damping")
        if not is_count(self.memory, 1):
            raise InputError(f"memory: a whole number of at least 1 is needed, got {self.memory!r}")
        given = self.regularization
        if given is not None and not (is_number(given) and 0 < given < 1):
            raise InputError(f"regularization: a number between 0 and 1 is needed, got {given!r}")
        check_damping(self.damping)

    def prepared(self, equation: Equation) -> Acceleration:
        """The solver with the residual norms that the loop knows already."""
        return Acceleration(self, equation)

    def init(self, z: Tensor) -> AndersonMemory | None:
        """Nothing is known before the first evaluation."""
        return None

    def step(self, memory: AndersonMemory | None, z: Tensor, image: Tensor) -> tuple[Tensor, AndersonMemory]:
        """The accelerated point of each problem, and its memory; the old one is spent."""
        refuse_gradients(z, image)
        return Acceleration(self, None).step(memory, z, image)


@dataclass(frozen=True)
class Acceleration:
    """`Anderson` for one equation; None for a solve without a loop."""

    settings: Anderson
    equation: Equation | None

    def init(self, z: Tensor) -> AndersonMemory | None:
        """Nothing is known before the first evaluation."""
        return None

    def step(self, memory: AndersonMemory | None, z: Tensor, image: Tensor) -> tuple[Tensor, AndersonMemory]:
        """As `Anderson.step`."""
        point, picard = at_least_float32(z), at_least_float32(image)
        if self.settings.damping != 1.0:
            picard = torch.lerp(point, picard, self.settings.damping)
        if memory is None:
            memory = self._begun(point, picard, torch.finfo(z.dtype).eps)
            return picard.to(z.dtype), memory
        memory.directions = memory.directions.with_room(self.settings.memory)
        length = self._lengths(point, picard)
        dropped = self._setbacks(memory, length)
        begun = self._refreshed(memory, dropped)
        proposal = memory.directions.proposal(point, picard, begun, self.equation is None)
        if dropped is not None:
            proposal = torch.where(_column(dropped, z.device), picard, proposal)
            memory.directions.forget(_numbers(dropped, z.device))
            memory.age[dropped] = 0
        return proposal.to(z.dtype), memory

    def narrowed(self, memory: AndersonMemory, rows: Tensor) -> AndersonMemory:
        """The memory of these problems alone."""
        kept = rows.cpu().numpy()
        numbers = memory.best[kept], memory.rested[kept], memory.age[kept]
        return AndersonMemory(memory.directions.narrowed(rows), *numbers)

    def _begun(self, point: Tensor, image: Tensor, unit: float) -> AndersonMemory:
        floor = self.settings.regularization or (30 * unit) ** 0.5
        directions = Directions.begun(point, image, self.settings.memory, floor)
        length = self._lengths(point, image)
        nothing = np.zeros(len(length), dtype=np.int64)
        return AndersonMemory(directions, length, nothing.astype(bool), nothing)

    def _setbacks(self, memory: AndersonMemory, length: NDArray[np.float64]) -> NDArray[np.bool_] | None:
        """The problems whose residual grew too much, or whose last proposal overflowed; None for none."""
        dropped: NDArray[np.bool_] = (length / SETBACK > memory.best) & memory.rested  # a product may overflow
        replaced = None if self.equation is None else self.equation.replaced
        dropped = dropped if replaced is None else dropped | replaced
        best = np.fmin(memory.best, length)
        if not np.count_nonzero(dropped):
            memory.best, memory.rested = best, np.ones_like(dropped)
            return None
        memory.best, memory.rested = np.where(dropped, length, best), ~dropped
        return dropped

    def _refreshed(self, memory: AndersonMemory, dropped: NDArray[np.bool_] | None) -> Tensor | None:
        """Forget the columns of the problems whose last difference lay in them, (problems, 1) bool; None for none."""
        directions = memory.directions
        worn = directions.dependent()
        memory.age += 1
        if directions.is_half:
            self._rebuild(memory, ~worn)
        if dropped is not None:
            worn &= ~dropped
        if not np.count_nonzero(worn):
            return None
        device = directions.rows.device
        directions.forget(_numbers(worn, device))
        memory.age[worn] = 1
        return _column(worn, device)

    def _rebuild(self, memory: AndersonMemory, may: NDArray[np.bool_]) -> None:
        """Make columns of the last differences alone, where differences depend on what is dropped."""
        full = may & (memory.age > self.settings.memory)
        if not np.count_nonzero(full):
            return
        leaning = full & (memory.directions.leaning() > LEAN**2)
        if np.count_nonzero(leaning):
            memory.directions.rebuild(_numbers(leaning, memory.directions.rows.device))

    def _lengths(self, point: Tensor, image: Tensor) -> NDArray[np.float64]:
        known = None if self.equation is None else self.equation.lengths
        return host(row_norms(image - point)) if known is None else known


def _numbers(problems: NDArray[np.bool_], device: torch.device) -> Tensor:
    return torch.from_numpy(np.flatnonzero(problems)).to(device)


def _column(problems: NDArray[np.bool_], device: torch.device) -> Tensor:
    return torch.from_numpy(problems).to(device)[:, None]
