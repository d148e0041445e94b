"""Which states surely lie in a region."""

from __future__ import annotations

import torch
from torch import Tensor

from . import _midrad as midrad
from ._midrad import MidRad
from ._norm import Norm
from ._region import Ball, Global, Region
from ._rounding import add_up, exact_float64, sub_down


def state_distance(norm: Norm, a: list[Tensor], b: list[Tensor], batch_dims: int) -> Tensor:
    """Upper bound of `||a - b||` leaf by leaf, per problem, (problems,)."""
    pairs = [(exact_float64(x), exact_float64(z)) for x, z in zip(a, b, strict=True)]
    gaps = [midrad.sub(MidRad.exact(x), MidRad.exact(z)).magnitude() for x, z in pairs]
    return norm.upper(gaps, batch_dims)


def within(region: Region, norm: Norm, leaves: list[Tensor], batch_dims: int) -> Tensor:
    """Per problem, whether a state is surely in the region, (problems,) bool.

    Args:
        region: of a claim.
        norm: of its ball.
        leaves: the state's.
        batch_dims: as in `certify`.
    """
    if isinstance(region, Global):
        return torch.ones(leaves[0].shape[0] if batch_dims else 1, dtype=torch.bool)
    return holds_boxes(region, norm, leaves, [torch.zeros((), dtype=torch.float64)] * len(leaves), batch_dims)


def holds_boxes(
    region: Region, norm: Norm, leaves: list[Tensor], widths: list[Tensor], batch_dims: int, *, strictly: bool = False
) -> Tensor:
    """Per problem, whether every state within `widths` (entry by entry) of a state is surely in the region.

    Args:
        region: of a claim.
        norm: of its ball.
        leaves: the state's.
        widths: leaf by leaf, each of a shape that can be expanded to the leaf's.
        batch_dims: as in `certify`.
        strictly: whether the boundary of the region does not count.
    """
    points = [exact_float64(leaf) for leaf in leaves]
    problems = points[0].shape[0] if batch_dims else 1
    if isinstance(region, Global):
        return torch.ones(problems, dtype=torch.bool)
    if isinstance(region, Ball):
        moved = [midrad.sub(MidRad.exact(x), MidRad.exact(exact_float64(c))) for x, c in _pairs(points, region)]
        gaps = [add_up(gap.magnitude(), width) for gap, width in zip(moved, widths, strict=True)]
        far = norm.upper(gaps, batch_dims)
        return far < region.radius if strictly else far <= region.radius
    held = []
    for x, width, low, high in zip(points, widths, *region.ends, strict=True):
        below, above = sub_down(x, width), add_up(x, width)
        fits = (below > low) & (above < high) if strictly else (below >= low) & (above <= high)
        held.append(fits.reshape(problems, -1))
    return torch.cat(held, dim=1).all(dim=1)


def _pairs(points: list[Tensor], region: Ball) -> zip[tuple[Tensor, Tensor]]:
    return zip(points, region.leaves, strict=True)
