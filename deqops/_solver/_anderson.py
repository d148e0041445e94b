"""Anderson acceleration of type II, each problem by itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deqops._errors import InputError
from deqops._tree import row_norms

from ._picard import check_damping

SETBACK = 2.0
"""Memory is dropped where the residual exceeds this times the best one since the last drop."""


@dataclass(frozen=True)
class AndersonMemory:
    """The last point and the differences of consecutive points, newest first."""

    picard: Tensor  # (problems, unknowns): z + damping * r
    residual: Tensor  # (problems, unknowns): r = G(z) - z
    steps: Tensor  # (problems, columns, unknowns): differences of picard
    residuals: Tensor  # (problems, columns, unknowns): differences of residual
    best: Tensor  # (problems,): the smallest residual norm since the last drop
    rested: Tensor  # (problems,) bool: the last step was no drop


@dataclass(frozen=True)
class Anderson:
    """Anderson acceleration: `z <- z + b r - sum_i c_i (dz_i + b dr_i)`, c minimises `||r - sum c_i dr_i||`.

    r = G(z) - z; dz_i and dr_i are the differences of the last `memory` points and of their residuals. The
    least squares problem is solved by a QR factorisation of the scaled columns, newest first. The first
    column that depends on the newer ones (its orthogonal part is below `regularization` of its length) is
    left out, and so are the older ones. Where the residual exceeds twice the best one, that problem's memory is
    dropped, and the step is Picard's. All of this is relative: scaling a problem, z -> c z, changes nothing.

    Args:
        memory: how many differences to keep, at least 1.
        regularization: between 0 and 1; None for 10 units of rounding of the state's dtype.
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
        """The accelerated point of each problem, and the memory with the newest difference in front."""
        wide = torch.promote_types(z.dtype, torch.float32)
        residual = image.to(wide) - z.to(wide)
        picard = z.to(wide) + self.damping * residual
        if memory is None:
            return picard.to(z.dtype), _first(picard, residual)
        new = _remembered(memory, picard, residual, self.memory)
        floor = self.regularization or 10 * torch.finfo(z.dtype).eps
        weights = _least_squares(new.residuals, residual, floor)
        return (picard - _combined(weights, new.steps)).to(z.dtype), new


def _first(picard: Tensor, residual: Tensor) -> AndersonMemory:
    problems, unknowns = residual.shape
    empty = residual.new_zeros(problems, 0, unknowns)
    rested = torch.zeros(problems, dtype=torch.bool, device=residual.device)
    return AndersonMemory(picard, residual, empty, empty, row_norms(residual), rested)


def _remembered(old: AndersonMemory, picard: Tensor, residual: Tensor, limit: int) -> AndersonMemory:
    """The memory with the newest difference; empty for a problem that was set back (never twice in a row)."""
    norm = row_norms(residual)
    drop = (norm > SETBACK * old.best) & old.rested
    steps = torch.cat([(picard - old.picard)[:, None], old.steps], dim=1)[:, :limit]
    residuals = torch.cat([(residual - old.residual)[:, None], old.residuals], dim=1)[:, :limit]
    return AndersonMemory(
        picard,
        residual,
        torch.where(drop[:, None, None], 0.0, steps),
        torch.where(drop[:, None, None], 0.0, residuals),
        torch.where(drop, norm, torch.minimum(norm, old.best)),
        ~drop,
    )


def _combined(weights: Tensor, columns: Tensor) -> Tensor:
    """`sum_i weights_i columns_i`: (problems, unknowns), by sums within a problem only."""
    return (weights[:, :, None] * columns).sum(dim=1)


def _least_squares(columns: Tensor, target: Tensor, floor: float) -> Tensor:
    """The weights, (problems, columns), that minimise `||target - sum_i weights_i columns_i||`.

    A column that is left out has weight 0. LAPACK factorises one problem after the other: no problem's
    numbers reach another's.
    """
    problems, count, unknowns = columns.shape
    length = row_norms(columns.reshape(-1, unknowns)).reshape(problems, count)
    scale = torch.where(length > 0, length, torch.ones_like(length))
    q, r = torch.linalg.qr((columns / scale[:, :, None]).mT)
    independent = r.diagonal(dim1=1, dim2=2).abs() > floor
    used = independent.cumprod(dim=1).to(torch.bool)
    rank = used.shape[1]  # at most min(columns, unknowns)
    identity = torch.eye(rank, dtype=r.dtype, device=r.device)
    triangle = torch.where(used[:, :, None] & used[:, None, :], r[:, :, :rank], identity)
    goal = torch.where(used, (q * target[:, :, None]).sum(dim=1), 0.0)
    weights = torch.linalg.solve_triangular(triangle, goal[:, :, None], upper=True)[:, :, 0]
    weights = torch.where(used, weights / scale[:, :rank], 0.0)
    return torch.nn.functional.pad(weights, (0, count - rank))
