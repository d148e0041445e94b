"""Anderson acceleration of type II, each problem by itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deqops._equation import Equation
from deqops._errors import InputError
from deqops._solver._ring import Ring

from ._picard import check_damping

SETBACK = 2.0
"""Memory is dropped where the residual exceeds this times the best one since the last drop."""


@dataclass
class AndersonMemory:
    """The last points and their residuals; each step writes into it."""

    ring: Ring
    best: NDArray[np.float64]  # (problems,): the smallest residual norm since the last drop
    rested: NDArray[np.bool_]  # (problems,): the last step was no drop


@dataclass(frozen=True)
class Anderson:
    """Anderson acceleration: `z <- z + b r - sum_i c_i (dz_i + b dr_i)`, c minimises `||r - sum c_i dr_i||`.

    r = G(z) - z; dz_i and dr_i are the differences of the last `memory` points and of their residuals. c comes from
    the triangular factor of the dr_i, newest first, by their inner products in float64, which change by one row a
    step. The first column that depends on the newer ones (its orthogonal part is below `regularization` of its
    length) is left out, and so are the older ones. Where the residual exceeds twice the best one, that problem's
    memory is dropped, and the step is Picard's. All of this is relative: scaling a problem, z -> c z, changes
    nothing.

    Args:
        memory: how many differences to keep, at least 1; `2 memory + 2` vectors like the state.
        regularization: between 0 and 1; None for the square root of 30 units of rounding of the state's dtype, below
            which the factor is nothing but rounding.
        damping: b of the underlying damped Picard step, above 0.

    Raises:
        InputError: a setting is out of range.

    Source: Anderson, J. ACM 12, 1965; Walker and Ni, *Anderson Acceleration for Fixed-Point Iterations*, SIAM
    J. Numer. Anal. 49, 2011. No convergence theorem covers it in general: what it finds, the residual judges.
    """

    memory: int = 10
    regularization: float | None = None
    damping: float = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.memory, bool) or not isinstance(self.memory, int) or self.memory < 1:
            raise InputError(f"memory: a whole number of at least 1 is needed, got {self.memory!r}")
        given = self.regularization
        if given is not None and not (isinstance(given, float | int) and 0 < given < 1):
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
        wide = torch.promote_types(z.dtype, torch.float32)
        point, picard = z.to(wide), image.to(wide)
        if self.settings.damping != 1.0:
            picard = torch.lerp(point, picard, self.settings.damping)
        if memory is None:
            floor = self.settings.regularization or (30 * torch.finfo(z.dtype).eps) ** 0.5
            ring = Ring.begun(point, picard, self.settings.memory, floor)
            length = self._lengths(ring)
            return picard.to(z.dtype), AndersonMemory(ring, length, np.zeros(len(length), dtype=bool))
        memory.ring.push(point, picard)
        length = self._lengths(memory.ring)
        dropped = (length / SETBACK > memory.best) & memory.rested  # a product may overflow
        memory.best = np.where(dropped, length, np.fmin(memory.best, length))
        memory.rested = ~dropped
        if dropped.any():
            memory.ring.drop(torch.from_numpy(np.flatnonzero(dropped)).to(z.device))
        return memory.ring.combined().to(z.dtype), memory

    def narrowed(self, memory: AndersonMemory, rows: Tensor) -> AndersonMemory:
        """The memory of these problems alone."""
        kept = rows.cpu().numpy()
        return AndersonMemory(memory.ring.narrowed(rows), memory.best[kept], memory.rested[kept])

    def _lengths(self, ring: Ring) -> NDArray[np.float64]:
        known = None if self.equation is None else self.equation.lengths
        return ring.newest_lengths() if known is None else known
