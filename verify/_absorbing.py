"""Boxes that every value of G falls into: where T11 finds its absorbing set."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from . import _midrad as midrad
from ._enclosures import as_midrad, enclose_image
from ._midrad import MidRad
from ._problem import Problem
from ._ranges import ranges_over

MOST_SWEEPS = 64
_PROGRESS = 0.99  # a sweep that leaves more than this share of the box is the last
_ROOM = 2.0**-40  # of each entry's size: room for a checker's own enclosures


@dataclass(frozen=True, eq=False)
class AbsorbingBox:
    """`G^sweeps` maps every state into `[lower, upper]`, leaf by leaf."""

    sweeps: int
    lower: tuple[Tensor, ...]
    upper: tuple[Tensor, ...]

    @property
    def intervals(self) -> list[MidRad]:
        """The box as midpoints and radii."""
        return [MidRad.from_bounds(a, b) for a, b in zip(self.lower, self.upper, strict=True)]


def absorbing_box(problem: Problem) -> AbsorbingBox | None:
    """A box S with `G^sweeps(X)` in it; None where the values of G are not bounded.

    With `S_1` a box around G(X) and `S_{k+1}` one around `G(S_k)`, cut down to `S_k`, each `S_k` contains `G^k(X)` and
    is mapped into itself. The box returned is a little larger than the last.

    Raises:
        UnsupportedOperationError: an operation without enclosure, or one that some state takes out of its domain.
    """
    boxes = _finite(image_over(problem, [None] * len(problem.graph.state)))
    if boxes is None:
        return None
    sweeps = 1
    while sweeps < MOST_SWEEPS:
        image = enclose_image(problem.graph, problem.constants, boxes)
        smaller = [midrad.intersect(new, old.lower(), old.upper()) for new, old in zip(image, boxes, strict=True)]
        before, after = (max(float(box.rad.max()) for box in several) for several in (boxes, smaller))
        if not after <= _PROGRESS * before:
            break
        boxes, sweeps = smaller, sweeps + 1
    widened = [_widened(box) for box in boxes]
    return AbsorbingBox(sweeps, tuple(box.lower() for box in widened), tuple(box.upper() for box in widened))


def _widened(box: MidRad) -> MidRad:
    size = box.magnitude()
    return midrad.add(box, MidRad(torch.zeros_like(size), size * _ROOM + 2.0**-1000))


def image_over(problem: Problem, state: list[MidRad | None]) -> list[MidRad | None]:
    """Boxes around G(y) over a box of states; None stands for any real numbers, in the state and in the result.

    Raises:
        UnsupportedOperationError: an operation without enclosure, or one that some state takes out of its domain.
    """
    graph = problem.graph
    values = ranges_over(graph, problem.constants, dict(zip(graph.state, state, strict=True)))
    found = [values[v] if v in graph.state_dependent else problem.constants[v] for v in graph.outputs]
    return [None if value is None else as_midrad(value) for value in found]


def _finite(boxes: list[MidRad | None]) -> list[MidRad] | None:
    """The boxes, where all of them are bounded."""
    found = [box for box in boxes if box is not None and box.is_finite()]
    return found if len(found) == len(boxes) else None
