"""Values in ascending order, group by group, and the range of the derivatives.

Where no two values are equal the derivative of `sort` is a permutation matrix. Over a segment the values change by the
mean of such matrices times `v - v'`: a doubly stochastic matrix, whose l1, l2 and linf norms are 1. Its entry (i, j) is
0 unless v_j is somewhere the i-th smallest: then its interval meets that of the i-th smallest value.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ._midrad import MidRad

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Permutations:
    """Every such matrix of each group: `kept`, (groups, n, n), says which entries may differ from 0; None for all."""

    kept: Tensor | None

    @property
    def is_one(self) -> bool:
        """Whether the values of each group are in the same order throughout: the derivative is a constant."""
        return self.kept is not None and bool((self.kept.sum(dim=2) == 1).all())

    def magnitude_times(self, x: Tensor) -> Tensor:
        """Upper bound of `C x` for x >= 0 of shape (groups, n)."""
        return _largest(x, self.kept)

    def magnitude_transposed_times(self, y: Tensor) -> Tensor:
        """Upper bound of `C^T y` for y >= 0 of shape (groups, n)."""
        return _largest(y, None if self.kept is None else self.kept.mT)

    def columns(self, x: MidRad) -> MidRad:
        """Enclosure of `C x`, column by column: x of shape (groups, n, columns)."""
        lower, upper = x.lower(), x.upper()
        if self.kept is None:
            ends = [end.expand(lower.shape) for end in (lower.amin(1, keepdim=True), upper.amax(1, keepdim=True))]
            return MidRad.from_bounds(*ends)
        places = [self.kept[:, place, :, None] for place in range(self.kept.shape[1])]
        least = [torch.where(kept, lower, torch.inf).amin(dim=1) for kept in places]
        most = [torch.where(kept, upper, -torch.inf).amax(dim=1) for kept in places]
        return MidRad.from_bounds(torch.stack(least, dim=1), torch.stack(most, dim=1))


def _largest(x: Tensor, kept: Tensor | None) -> Tensor:
    if kept is None:
        return x.amax(dim=1, keepdim=True).expand(x.shape)
    return torch.where(kept, x[:, None], 0.0).amax(dim=2)


LARGEST = 2**20
"""Entries of all groups' matrices up to which each is looked at; the checker looks at as many."""


def permutations_over(x: MidRad) -> Permutations:
    """The matrices over a box, (groups, n), n > 0."""
    if x.shape.numel() * x.shape[1] > LARGEST:
        return Permutations(None)
    lower, upper = x.lower(), x.upper()
    least, most = lower.sort(dim=1).values, upper.sort(dim=1).values
    return Permutations((upper[:, None] >= least[:, :, None]) & (lower[:, None] <= most[:, :, None]))


def in_order(x: MidRad, dim: int) -> MidRad:
    """The values in ascending order along a dimension: the i-th smallest grows with each value."""
    if not x.shape or not x.shape.numel():
        return x
    return MidRad.from_bounds(x.lower().sort(dim=dim).values, x.upper().sort(dim=dim).values)
