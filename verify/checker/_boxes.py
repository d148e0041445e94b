"""Ranges of a graph's values: over boxes of states, and over all states where functions are bounded."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from flint import arb

from deqops.graph import ConcreteGraph, Node

from . import _arithmetic as ball
from ._elementary import elementary, image_of
from ._network import Interval, between, extremum_range, moved_range, result_range
from ._normalisation import normalisation_of
from ._refusal import Rejected
from ._values import UNKNOWN, Values, must_be_total

_RANGES: dict[str, tuple[float, float]] = {
    "tanh": (-1, 1),
    "erf": (-1, 1),
    "softsign": (-1, 1),
    "sigmoid": (0, 1),
    "relu6": (0, 6),
}
"""What a function's values lie in, whatever its argument."""


def image(graph: ConcreteGraph, constants: Values, box: list[Interval | None]) -> list[Interval | None]:
    """Boxes around the values of G over a box of states; None stands for any real numbers."""
    known: dict[int, Interval | None] = dict(zip(graph.state, box, strict=True))
    for node in graph.nodes:
        if node.output in graph.state_dependent:
            known[node.output] = _range(graph, constants, node, known)
    exact = {value: constants.balls(value) for value in graph.outputs if value not in known}
    return [known[v] if v in known else Interval(exact[v], ball.full(0, exact[v].shape)) for v in graph.outputs]


def inside(box: Interval, lower: ball.Balls, upper: ball.Balls) -> bool:
    """Whether a box certainly lies within the given ends."""
    low, high = box.ends
    return bool(ball.each(lambda a, b, c, d: bool(a >= c) and bool(b <= d), low, high, lower, upper).all())


def cut(box: Interval, other: Interval) -> Interval:
    """The part of a box inside another, where both contain the values."""
    (a, b), (c, d) = box.ends, other.ends
    low = ball.each(lambda x, y: x.max(y).lower(), a, c)
    return between(low, ball.each(lambda x, y, z: x.min(y).max(z).upper(), b, d, low))


def _range(
    graph: ConcreteGraph, constants: Values, node: Node, known: Mapping[int, Interval | None]
) -> Interval | None:
    ranges = {value: known[value] for value in node.operands if value in known}
    finite = {value: interval for value, interval in ranges.items() if interval is not None}
    if len(finite) < len(ranges):
        must_be_total(node, [UNKNOWN if value in known else constants[value] for value in node.operands])
        return _bounded(node)
    if node.op in ("maximum", "minimum") and len(finite) == 1:
        return extremum_range(node, constants, finite)
    rule = normalisation_of(node)
    if rule is not None:
        return result_range(node, rule.over(*finite[node.operands[0]].ends))
    table = elementary(node.op, node.attributes)
    if table is None:
        return moved_range(node, constants, finite)
    return between(*image_of(table, *finite[node.operands[0]].ends))


def _bounded(node: Node) -> Interval | None:
    """The range of a function over the whole line, where it is bounded."""
    rule = normalisation_of(node)
    if rule is not None:
        return result_range(node, rule.everywhere(math.prod(node.shape) // rule.size))
    ends: tuple[float, float] | None = _RANGES.get(node.op)
    if ends is None and node.op in ("hardtanh", "clamp"):
        low, high = node.attributes.get("minimum"), node.attributes.get("maximum")
        if isinstance(low, int | float) and isinstance(high, int | float):
            ends = (min(low, high), high)
    if ends is None or not all(arb(end).is_finite() for end in ends):
        return None
    shape = tuple(node.shape)
    return between(ball.full(arb(ends[0]), shape), ball.full(arb(ends[1]), shape))


def swept(graph: ConcreteGraph, constants: Values, sweeps: int) -> list[Interval]:
    """A box around `G^sweeps(X)` that G maps into itself.

    Each step cuts the box around the image down to the box before, which contains it as well.

    Raises:
        Rejected: the values of G are not bounded.
    """
    everything: list[Interval | None] = [None] * len(graph.state)
    box = _finite(image(graph, constants, everything))
    for _ in range(sweeps - 1):
        both = zip(_finite(image(graph, constants, list(box))), box, strict=True)
        box = [cut(new, old) for new, old in both]
    shapes = [graph.shape(value) for value in graph.state]
    return [_expanded(part, shape) for part, shape in zip(box, shapes, strict=True)]


def _finite(box: list[Interval | None]) -> list[Interval]:
    found = [part for part in box if part is not None]
    if len(found) < len(box) or not all(ball.all_finite(end) for part in found for end in part.ends):
        raise Rejected("the values of the operator are not known to be bounded")
    return found


def _expanded(part: Interval, shape: tuple[int, ...]) -> Interval:
    return Interval(np.broadcast_to(part.middle, shape), np.broadcast_to(part.radius, shape))
