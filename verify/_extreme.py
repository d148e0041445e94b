"""The largest of n values, group by group, and the range of its derivatives.

`max_j v_j` is convex: over a segment it changes by `c^T (v - v')` with c >= 0, `sum_j c_j = 1` and `c_j = 0` unless v_j
is somewhere the largest. Each row of the matrix that such weights make has l2 norm at most 1, the rows do not overlap.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ._midrad import MidRad

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Weights:
    """Every choice of weights: `kept`, (groups, n), says which may differ from 0."""

    kept: Tensor

    @property
    def is_one(self) -> bool:
        """Whether in each group the same value is the largest throughout: the derivative is a constant."""
        return bool((self.kept.sum(dim=1) == 1).all())

    def magnitude_times(self, x: Tensor) -> Tensor:
        """Upper bound of `C x` for x >= 0 of shape (groups, n): (groups,)."""
        return torch.where(self.kept, x, 0.0).amax(dim=1)

    def magnitude_transposed_times(self, y: Tensor) -> Tensor:
        """Upper bound of `C^T y` for y >= 0 of shape (groups,): (groups, n)."""
        return torch.where(self.kept, y[:, None], 0.0)

    def columns(self, x: MidRad) -> MidRad:
        """Enclosure of `C x`, column by column: x of shape (groups, n, columns)."""
        kept = self.kept[..., None]
        lower = torch.where(kept, x.lower(), torch.inf).amin(dim=1)
        upper = torch.where(kept, x.upper(), -torch.inf).amax(dim=1)
        return MidRad.from_bounds(lower, upper)


def weights_over(x: MidRad) -> Weights:
    """The weights over a box, (groups, n), n > 0: a value that stays below another's least is never the largest."""
    least = x.lower().amax(dim=1, keepdim=True)
    return Weights(~(x.upper() < least))


def weights_everywhere(shape: tuple[int, int]) -> Weights:
    """The weights over all real values."""
    return Weights(torch.ones(shape, dtype=torch.bool))


def largest(x: MidRad, dims: tuple[int, ...], keepdim: bool) -> MidRad:
    """The largest value over dimensions."""
    return MidRad.from_bounds(x.lower().amax(dim=dims, keepdim=keepdim), x.upper().amax(dim=dims, keepdim=keepdim))


def smallest(x: MidRad, dims: tuple[int, ...], keepdim: bool) -> MidRad:
    """The smallest value over dimensions."""
    return MidRad.from_bounds(x.lower().amin(dim=dims, keepdim=keepdim), x.upper().amin(dim=dims, keepdim=keepdim))
