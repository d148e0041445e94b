"""Whether G maps a box into itself: how far its values leave the box, enclosed."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from . import _midrad as midrad
from ._absorbing import image_over
from ._gains import apply_magnitude
from ._jacobian import Jacobian
from ._local import intervals
from ._midrad import MidRad
from ._problem import Problem
from ._region import Box
from ._rounding import add_up, mul_up, sub_up


def outside_bound(problem: Problem, jacobian: Jacobian | None, box: Box) -> float:
    """Proven bound of `max_i max(lower_i - G(y)_i, G(y)_i - upper_i)` over the box: G keeps the box where it is <= 0.

    Entry by entry and end by end the better of the interval image and of `G(c) +- N w`, c the middle and w the
    half-widths. An end that G attains exactly does not count as kept.

    Args:
        problem: the operator.
        jacobian: with slopes that hold on the box; None for the interval image alone.
        box: for each problem its own.

    Raises:
        UnsupportedOperationError: an operation without enclosure, or one that some state takes out of its domain.
    """
    boxes: list[MidRad | None] = [*intervals(box)]
    direct = image_over(problem, boxes)
    around = [None] * len(direct) if jacobian is None else _around_middle(problem, jacobian, box)
    found = [
        _leaf_excess([part for part in parts if part is not None], low, high, problem.slack - 1)
        for *parts, low, high in zip(direct, around, *box.ends, strict=True)
    ]
    return max(found, default=-math.inf)


def _around_middle(problem: Problem, jacobian: Jacobian, box: Box) -> list[MidRad | None]:
    """`G(c) +- N w` leaf by leaf."""
    parts = intervals(box)
    reach = apply_magnitude(jacobian, [part.rad for part in parts])
    images = problem.image([part.mid for part in parts])
    return [midrad.add(g, MidRad(torch.zeros_like(w), w)) for g, w in zip(images, reach, strict=True)]


def _leaf_excess(images: list[MidRad], low: Tensor, high: Tensor, slack: float) -> float:
    """How far the part that all the images share leaves one leaf of the box, at most; infinite where unknown.

    A share of each end's size is added: room for a checker's own enclosures.
    """
    if not images:
        return math.inf
    if not low.numel():
        return -math.inf
    below = [sub_up(low, image.lower().expand(low.shape)) for image in images]
    above = [sub_up(image.upper().expand(high.shape), high) for image in images]
    room = mul_up(torch.maximum(low.abs(), high.abs()), slack)
    excess = add_up(torch.maximum(_least(below), _least(above)), room)
    return float(excess.nan_to_num(math.inf, math.inf, -math.inf).max())


def _least(bounds: list[Tensor]) -> Tensor:
    """The smaller of upper bounds entry by entry; the one that is a number where the other is none."""
    first, *others = bounds
    for other in others:
        first = torch.fmin(first, other)
    return first
