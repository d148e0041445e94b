"""Block-tridiagonal symmetric matrices, and the smallest eigenvalue by block Cholesky factors, O(sum of n_k^3).

The factor `L` of a shift is block bidiagonal; any L bounds the eigenvalue by its residual `H + t I - L L^T`, which
again is block tridiagonal.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from deqops._errors import InputError

from . import _midrad as midrad
from ._midrad import MidRad
from ._rounding import TINY, U, add_up, gamma, mul_up, sub_down, sum_up
from ._scaling import times_power_of_two
from ._shifted import Factor


@dataclass(frozen=True, eq=False)
class BlockTridiagonal:
    """A symmetric matrix of blocks A_k on the diagonal and B_k below it, enclosed.

        [A_0  B_0^T          ]
        [B_0  A_1   B_1^T    ]
        [     B_1   A_2   ...]

    Args:
        diagonal: A_k, (n_k, n_k) each, read below and on the diagonal; at least one.
        below: B_k, (n_{k+1}, n_k) each, one fewer.

    Raises:
        InputError: the blocks do not fit together, or there are none, or one is empty.
    """

    diagonal: tuple[MidRad, ...]
    below: tuple[MidRad, ...] = ()

    def __post_init__(self) -> None:
        if not self.diagonal:
            raise InputError("diagonal: at least one block is needed, got none")
        if len(self.below) != len(self.diagonal) - 1:
            raise InputError(f"below: {len(self.diagonal) - 1} blocks are needed, got {len(self.below)}")
        for k, block in enumerate(self.diagonal):
            if block.mid.ndim != 2 or block.mid.shape[0] != block.mid.shape[1] or not block.mid.numel():
                raise InputError(f"diagonal: block {k} must be a square matrix, got shape {tuple(block.mid.shape)}")
        for k, block in enumerate(self.below):
            needed = (self.sizes[k + 1], self.sizes[k])
            if tuple(block.mid.shape) != needed:
                raise InputError(f"below: block {k} must have shape {needed}, got {tuple(block.mid.shape)}")

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Rows of each diagonal block."""
        return tuple(len(block.mid) for block in self.diagonal)

    def blocks(self) -> tuple[MidRad, ...]:
        """All blocks."""
        return (*self.diagonal, *self.below)

    def is_finite(self) -> bool:
        """Whether every midpoint and radius is a number."""
        return all(block.is_finite() for block in self.blocks())

    def symmetric(self) -> BlockTridiagonal:
        """The same with the diagonal blocks' upper triangles filled in from the lower ones."""
        mirror = tuple(block.apply_exact(lambda t: t.tril() + t.tril(-1).T) for block in self.diagonal)
        return BlockTridiagonal(mirror, self.below)

    def scaled(self, exponent: int) -> BlockTridiagonal:
        """`H 2^exponent`, enclosed."""
        return BlockTridiagonal(
            tuple(times_power_of_two(block, exponent) for block in self.diagonal),
            tuple(times_power_of_two(block, exponent) for block in self.below),
        )

    def congruent(self, weights: Tensor) -> BlockTridiagonal:
        """`D H D` for D = diag(weights), powers of two, (n,)."""
        w = [MidRad.exact(part) for part in torch.split(weights, list(self.sizes))]
        return BlockTridiagonal(
            tuple(_between(a, v, v) for a, v in zip(self.diagonal, w, strict=True)),
            tuple(_between(b, v, u) for b, (u, v) in zip(self.below, itertools.pairwise(w), strict=True)),
        )

    def dense(self) -> MidRad:
        """The matrix with every entry written out."""
        size, ends = sum(self.sizes), list(itertools.accumulate(self.sizes, initial=0))
        mid, rad = (torch.zeros(size, size, dtype=torch.float64) for _ in "mr")
        whole = self.symmetric()
        for k, block in enumerate(whole.diagonal):
            here = slice(ends[k], ends[k + 1])
            mid[here, here], rad[here, here] = block.mid, block.rad
        for k, block in enumerate(whole.below):
            i, j = slice(ends[k + 1], ends[k + 2]), slice(ends[k], ends[k + 1])
            mid[i, j], mid[j, i], rad[i, j], rad[j, i] = block.mid, block.mid.T, block.rad, block.rad.T
        return MidRad(mid, rad)


def _between(block: MidRad, left: MidRad, right: MidRad) -> MidRad:
    rows = midrad.mul(block, left.apply_exact(lambda t: t[:, None]))
    return midrad.mul(rows, right.apply_exact(lambda t: t[None, :]))


Blocks = tuple[Tensor, ...]


def row_sums(diagonal: Blocks, below: Blocks) -> Tensor:
    """Upper bounds of the row sums of a nonnegative symmetric block-tridiagonal matrix, (n,)."""
    sums = [sum_up(block, dim=1) for block in diagonal]
    for k, block in enumerate(below):
        sums[k + 1] = add_up(sums[k + 1], sum_up(block, dim=1))
        sums[k] = add_up(sums[k], sum_up(block, dim=0))
    return torch.cat(sums)


def circles_bound(H: BlockTridiagonal) -> float:
    """Gershgorin: the least of the diagonal entries less the moduli beside them, for symmetric blocks."""
    centers = torch.cat([block.lower().diagonal() for block in H.diagonal])
    beside = tuple(_without_diagonal(block.magnitude()) for block in H.diagonal)
    radii = row_sums(beside, tuple(block.magnitude() for block in H.below))
    return float(sub_down(centers, radii).min())


def _without_diagonal(block: Tensor) -> Tensor:
    return block - torch.diag(block.diagonal())


@dataclass(frozen=True, eq=False)
class ShiftedBlocks:
    """The midpoints, symmetric and of moderate size, to be shifted and factored."""

    diagonal: Blocks
    below: Blocks
    scale: float
    start: float

    @staticmethod
    def of(H: BlockTridiagonal) -> ShiftedBlocks:
        """The midpoints of symmetric blocks."""
        diagonal, below = tuple(a.mid for a in H.diagonal), tuple(b.mid for b in H.below)
        beside = row_sums(tuple(_without_diagonal(a.abs()) for a in diagonal), tuple(b.abs() for b in below))
        centers = torch.cat([a.diagonal() for a in diagonal])
        return ShiftedBlocks(diagonal, below, float((centers.abs() + beside).max()), float((beside - centers).max()))

    @property
    def size(self) -> int:
        """Rows."""
        return sum(len(block) for block in self.diagonal)

    @property
    def unit(self) -> float:
        """About the relative error of a factor."""
        return U * (2 * max(len(block) for block in self.diagonal) + 2)

    def factor(self, shift: float) -> Factor | None:
        """Block Cholesky, by its own return codes."""
        own: list[Tensor] = []
        beside: list[Tensor] = []
        for k, block in enumerate(self.diagonal):
            moved = _moved(block, shift)
            if k:
                beside.append(torch.linalg.solve_triangular(own[-1], self.below[k - 1].T, upper=False).T)
                moved = moved - beside[-1] @ beside[-1].T
            factor, info = torch.linalg.cholesky_ex(moved)
            if int(info) != 0:
                return None
            own.append(factor.tril())
        return BlockFactor(self, shift, tuple(own), tuple(beside))


def _moved(block: Tensor, shift: float) -> Tensor:
    moved = block.clone()
    moved.diagonal().add_(shift)
    return moved


@dataclass(frozen=True, eq=False)
class BlockFactor:
    """L with `L L^T` about `H + shift I`: lower triangular blocks D_k, and C_k below them."""

    problem: ShiftedBlocks
    shift: float
    own: Blocks
    beside: Blocks

    def solve(self, x: Tensor) -> Tensor:
        """About `(H + shift I)^-1 x`."""
        parts = [part[:, None] for part in torch.split(x, [len(block) for block in self.own])]
        for k, D in enumerate(self.own):
            right = parts[k] if not k else parts[k] - self.beside[k - 1] @ parts[k - 1]
            parts[k] = torch.linalg.solve_triangular(D, right, upper=False)
        for k in reversed(range(len(self.own))):
            right = parts[k] if k + 1 == len(parts) else parts[k] - self.beside[k].T @ parts[k + 1]
            parts[k] = torch.linalg.solve_triangular(self.own[k].T, right, upper=True)
        return torch.cat(parts).reshape(-1)

    def deficit(self) -> float:
        """`||L L^T - (H + shift I)||` from above: the largest row sum."""
        moved = tuple(_moved(block, self.shift) for block in self.problem.diagonal)
        residual = float(row_sums(*self._residual(moved)).max())
        terms = 2 * max(len(block) for block in self.own)
        # Each entry of L L^T is a sum of at most `terms` products; the subtraction errs by u relatively, the sum
        # H + shift I by u of its diagonal.
        rounding = add_up(mul_up(self._moduli(), gamma(terms + 2)), 2.0 * terms * terms * TINY)
        own = mul_up(torch.cat([block.diagonal() for block in moved]).abs().max(), U)
        return float(add_up(add_up(mul_up(residual, 1.0 + 4.0 * U), rounding), own))

    def _residual(self, moved: Blocks) -> tuple[Blocks, Blocks]:
        """Moduli of `fl(L L^T - (H + shift I))`."""
        diagonal = [D @ D.T for D in self.own]
        for k, C in enumerate(self.beside):
            diagonal[k + 1] = diagonal[k + 1] + C @ C.T
        own = tuple((P - A).abs() for P, A in zip(diagonal, moved, strict=True))
        pairs = zip(self.beside, self.own[:-1], self.problem.below, strict=True)
        return own, tuple((C @ D.T - B).abs() for C, D, B in pairs)

    def _moduli(self) -> float:
        """Upper bound of the largest row sum of `|L| |L|^T`."""
        columns = [sum_up(D.abs(), dim=0) for D in self.own]
        for k, C in enumerate(self.beside):
            columns[k] = add_up(columns[k], sum_up(C.abs(), dim=0))
        rows = [_times_up(D, v) for D, v in zip(self.own, columns, strict=True)]
        for k, C in enumerate(self.beside):
            rows[k + 1] = add_up(rows[k + 1], _times_up(C, columns[k]))
        return float(torch.cat(rows).max())


def _times_up(block: Tensor, x: Tensor) -> Tensor:
    """Upper bound of `|block| x`, x >= 0."""
    return add_up(mul_up(block.abs() @ x, 1.0 + 2.0 * gamma(len(x) + 2)), float(len(x) + 1) * TINY)
