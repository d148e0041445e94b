"""Anderson acceleration of type II, each problem by itself."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from deqops._errors import InputError


@dataclass(frozen=True)
class AndersonMemory:
    """The last points' differences, newest last: (problems, columns, unknowns) each."""

    z: Tensor
    residual: Tensor
    steps: Tensor  # differences of z + damping * residual
    residuals: Tensor  # differences of the residual
    best: Tensor  # (problems,) smallest residual norm so far
    used: int


@dataclass(frozen=True)
class Anderson:
    """Anderson acceleration: `z <- g - sum_i c_i (g_i' - g_i)` with c minimising `||r - sum_i c_i (r_i' - r_i)||`.

    Differences of the last `memory` residuals are orthogonalised (QR by modified Gram-Schmidt, newest first);
    a column whose part orthogonal to the newer ones is below `regularization` times its length is left out.
    Every decision is relative, so scaling the problem changes nothing. Where the residual has grown beyond
    `2` times the best one, the memory of that problem is dropped: the step is then Picard's.

    Args:
        memory: how many differences to keep, at least 1.
        regularization: the relative length under which a column counts as dependent; in (0, 1).
        damping: b of the underlying Picard step, finite and not 0.

    Source: Anderson (1965); Walker and Ni, *Anderson Acceleration for Fixed-Point Iterations*, SINUM 49, 2011.
    """

    memory: int = 10
    regularization: float | None = None
    damping: float = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.memory, bool) or not isinstance(self.memory, int) or self.memory < 1:
            raise InputError(f"memory: a whole number of at least 1 is needed, got {self.memory!r}")
        if self.regularization is not None and not 0 < self.regularization < 1:
            raise InputError(f"regularization: a number between 0 and 1 is needed, got {self.regularization!r}")
        if self.damping == 0 or not math.isfinite(self.damping):
            raise InputError(f"damping: it must be finite and not 0, got {self.damping!r}")

    def init(self, z: Tensor) -> AndersonMemory | None:
        """Nothing is known before the first evaluation."""
        return None

    def step(self, memory: AndersonMemory | None, z: Tensor, image: Tensor) -> tuple[Tensor, AndersonMemory | None]:
        """The accelerated point of each problem; Picard's where the accelerated one is not finite."""
        residual = image - z
        picard = z + self.damping * residual
        norm = _norms(residual)
        if memory is None:
            empty = z.new_zeros(z.shape[0], 0, z.shape[1])
            return picard, AndersonMemory(z, residual, empty, empty, norm, 0)
        steps = _remembered(memory.steps, picard - (memory.z + self.damping * memory.residual), self.memory)
        residuals = _remembered(memory.residuals, residual - memory.residual, self.memory)
        fresh = norm <= 2.0 * memory.best
        keep = fresh[:, None, None]
        steps, residuals = torch.where(keep, steps, 0.0), torch.where(keep, residuals, 0.0)
        floor = self.regularization or 10 * torch.finfo(z.dtype).eps
        mixed = picard - _correction(steps, residuals, residual, floor)
        good = mixed.isfinite().all(dim=1, keepdim=True)
        best = torch.where(fresh, torch.minimum(norm, memory.best), norm)
        new = AndersonMemory(z, residual, steps, residuals, best, memory.used + 1)
        return torch.where(good, mixed, picard), new


def _norms(rows: Tensor) -> Tensor:
    return torch.linalg.vector_norm(rows, dim=-1)


def _remembered(columns: Tensor, new: Tensor, limit: int) -> Tensor:
    return torch.cat([columns, new[:, None]], dim=1)[:, -limit:]


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Row-wise inner products, (problems, 1): sums along one dimension, so rows cannot influence each other."""
    return (a * b).sum(dim=-1, keepdim=True)


def _correction(steps: Tensor, residuals: Tensor, target: Tensor, floor: float) -> Tensor:
    """`sum_i c_i steps_i` for the c that minimises `||target - sum_i c_i residuals_i||`, per problem.

    Orthogonalising the residual columns and applying the same operations to the step columns gives the sum
    without forming c.
    """
    basis: list[Tensor] = []
    moved: list[Tensor] = []
    total = torch.zeros_like(target)
    rest = target
    for column in range(residuals.shape[1] - 1, -1, -1):
        q, s = residuals[:, column], steps[:, column]
        length = _norms(q)[:, None]
        scale = torch.where(length > 0, length, torch.ones_like(length))
        q, s = q / scale, s / scale
        for _ in range(2):  # twice is enough (Kahan, Parlett)
            for b, m in zip(basis, moved, strict=True):
                weight = _dot(b, q)
                q, s = q - weight * b, s - weight * m
        left = _norms(q)[:, None]
        usable = (length > 0) & (left > floor)
        divisor = torch.where(usable, left, torch.ones_like(left))
        q, s = torch.where(usable, q / divisor, 0.0), torch.where(usable, s / divisor, 0.0)
        basis.append(q)
        moved.append(s)
        weight = _dot(q, rest)
        rest, total = rest - weight * q, total + weight * s
    return total
