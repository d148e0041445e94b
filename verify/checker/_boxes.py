"""Ranges of a graph's values: over boxes of states, and over all states where functions are bounded."""

from __future__ import annotations

import numpy as np

from deqops.graph import ConcreteGraph

from . import _arithmetic as ball
from ._decided import decided
from ._interval import Interval, between
from ._ranges import node_range
from ._refusal import Rejected
from ._subject import Subject
from ._values import Values


def image(graph: ConcreteGraph, constants: Values, box: list[Interval | None]) -> list[Interval | None]:
    """Boxes around the values of G over a box of states; None stands for any real numbers."""
    known: dict[int, Interval | None] = dict(zip(graph.state, box, strict=True))
    for node in graph.nodes:
        if node.output in graph.state_dependent:
            known[node.output] = node_range(graph, constants, node, known)
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


def swept(subject: Subject, constants: Values, sweeps: int) -> list[Interval]:
    """A box around `G^sweeps(X)` that G maps into itself.

    Each step cuts the box around the image down to the box before, which contains it as well.

    Raises:
        Rejected: the values of G are not bounded.
    """
    graph = subject.graph
    everything: list[Interval | None] = [None] * len(graph.state)
    box = _finite(image(graph, constants, everything))
    for _ in range(sweeps - 1):
        there = decided(graph, constants, box, subject.free)
        both = zip(_finite(image(*there, list(box))), box, strict=True)
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
