"""Boxes that every value of G falls into: where T11 finds its absorbing set."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from deqops.graph import Node

from . import _midrad as midrad
from ._domains import require_defined
from ._enclosures import Enclosed, as_midrad, enclose_image, enclose_node
from ._midrad import MidRad
from ._normalisation import NORMALISATIONS, Normalisation
from ._problem import Problem

MOST_SWEEPS = 64
_PROGRESS = 0.99  # a sweep that leaves more than this share of the box is the last
_ROOM = 2.0**-40  # of each entry's size: room for a checker's own enclosures

_RANGES = {
    "tanh": (-1.0, 1.0),
    "erf": (-1.0, 1.0),
    "softsign": (-1.0, 1.0),
    "sigmoid": (0.0, 1.0),
    "relu6": (0.0, 6.0),
}
"""What a function's values lie in, whatever its argument."""


@dataclass(frozen=True, eq=False)
class Box:
    """`G^sweeps` maps every state into `[lower, upper]`, leaf by leaf."""

    sweeps: int
    lower: tuple[Tensor, ...]
    upper: tuple[Tensor, ...]

    @property
    def intervals(self) -> list[MidRad]:
        """The box as midpoints and radii."""
        return [MidRad.from_bounds(a, b) for a, b in zip(self.lower, self.upper, strict=True)]


def absorbing_box(problem: Problem) -> Box | None:
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
    return Box(sweeps, tuple(box.lower() for box in widened), tuple(box.upper() for box in widened))


def _widened(box: MidRad) -> MidRad:
    size = box.magnitude()
    return midrad.add(box, MidRad(torch.zeros_like(size), size * _ROOM + 2.0**-1000))


def image_over(problem: Problem, state: list[MidRad | None]) -> list[MidRad | None]:
    """Boxes around G(y) over a box of states; None stands for any real numbers, in the state and in the result.

    G must be defined on all of the box: tanh is bounded, and `tanh(log(z))` still says nothing of a state where log
    has no value.

    Raises:
        UnsupportedOperationError: an operation without enclosure, or one that some state takes out of its domain.
    """
    graph, constants = problem.graph, problem.constants
    values: dict[int, Enclosed | None] = {**dict(zip(graph.state, state, strict=True))}
    for node in graph.nodes:
        if node.output in graph.state_dependent:
            operands = [values[v] if v in graph.state_dependent else constants[v] for v in node.operands]
            require_defined(node, operands)
            known = [operand for operand in operands if operand is not None]
            values[node.output] = enclose_node(node, known) if len(known) == len(operands) else _range(node)
    found = [values[v] if v in graph.state_dependent else constants[v] for v in graph.outputs]
    return [None if value is None else as_midrad(value) for value in found]


def _finite(boxes: list[MidRad | None]) -> list[MidRad] | None:
    """The boxes, where all of them are bounded."""
    found = [box for box in boxes if box is not None and box.is_finite()]
    return found if len(found) == len(boxes) else None


def _range(node: Node) -> MidRad | None:
    ends = _RANGES.get(node.op) or _clamped(node.op, node.attributes) or _normalised(node)
    if ends is None:
        return None
    lower, upper = (torch.full(tuple(node.shape), end, dtype=torch.float64) for end in ends)
    return MidRad.from_bounds(lower, upper)


def _normalised(node: Node) -> tuple[float, float] | None:
    if node.op not in NORMALISATIONS:
        return None
    limit = Normalisation.of(node).limit
    return -limit, limit


def _clamped(op: str, attributes: Mapping[str, Any]) -> tuple[float, float] | None:
    if op not in ("hardtanh", "clamp"):
        return None
    lower, upper = (attributes.get(name) for name in ("minimum", "maximum"))
    if lower is None or upper is None or not (math.isfinite(lower) and math.isfinite(upper)):
        return None
    return min(float(lower), float(upper)), float(upper)
