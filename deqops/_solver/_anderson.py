"""Anderson acceleration of type II, each problem by itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from deqops._errors import InputError
from deqops._solver._gram import Columns, least_squares_weights
from deqops._tree import row_norms

from ._picard import check_damping

SETBACK = 2.0
"""Memory is dropped where the residual exceeds this times the best one since the last drop."""


@dataclass(frozen=True)
class AndersonMemory:
    """The last point, and the differences of consecutive points."""

    picard: Tensor  # (problems, unknowns): z + damping * r
    residual: Tensor  # (problems, unknowns): r = G(z) - z
    columns: Columns
    best: Tensor  # (problems,): the smallest residual norm since the last drop
    rested: Tensor  # (problems,) bool: the last step was no drop


@dataclass(frozen=True)
class Anderson:
    """Anderson acceleration: `z <- z + b r - sum_i c_i (dz_i + b dr_i)`, c minimises `||r - sum c_i dr_i||`.

    r = G(z) - z; dz_i and dr_i are the differences of the last `memory` points and of their residuals. The
    least squares problem is solved by the triangular factor of the scaled columns, newest first, from their inner
    products, which are updated by one row a step. The first column that depends on the newer ones (its orthogonal
    part is below `regularization` of its length) is left out, and so are the older ones. Where the residual exceeds
    twice the best one, that problem's memory is dropped, and the step is Picard's. All of this is relative: scaling
    a problem, z -> c z, changes nothing.

    Args:
        memory: how many differences to keep, at least 1; twice as many vectors like the state.
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

    def init(self, z: Tensor) -> AndersonMemory | None:
        """Nothing is known before the first evaluation."""
        return None

    def step(self, memory: AndersonMemory | None, z: Tensor, image: Tensor) -> tuple[Tensor, AndersonMemory]:
        """The accelerated point of each problem, and the memory with the newest difference; the old one is spent."""
        wide = torch.promote_types(z.dtype, torch.float32)
        point, picard = z.to(wide), image.to(wide)
        residual = picard - point
        if self.damping != 1.0:
            picard = point + self.damping * residual
        norm = row_norms(residual)
        if memory is None:
            columns = Columns.empty(residual, self.memory)
            rested = torch.zeros_like(norm, dtype=torch.bool)
            return picard.to(z.dtype), AndersonMemory(picard, residual, columns, norm, rested)
        drop = (norm > SETBACK * memory.best) & memory.rested
        size = torch.where((norm > 0) & norm.isfinite(), norm, 1.0)[:, None]
        products = memory.columns.push(picard - memory.picard, residual - memory.residual, residual / size, ~drop)
        floor = self.regularization or (30 * torch.finfo(z.dtype).eps) ** 0.5
        weights = size * least_squares_weights(memory.columns, products, floor)
        best = torch.where(drop, norm, torch.minimum(norm, memory.best))
        new = AndersonMemory(picard, residual, memory.columns, best, ~drop)
        return memory.columns.subtracted(picard, weights).to(z.dtype), new

    def narrowed(self, memory: AndersonMemory, rows: Tensor) -> AndersonMemory:
        """The memory of these problems alone."""
        return replace(
            memory,
            picard=memory.picard[rows],
            residual=memory.residual[rows],
            columns=memory.columns.narrowed(rows),
            best=memory.best[rows],
            rested=memory.rested[rows],
        )
