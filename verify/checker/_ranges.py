"""Intervals of values, and those of a node's results from those of its operands."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from flint import arb

from deqops.graph import ConcreteGraph, Node

from . import _arithmetic as ball
from ._affine import Network, Source, affine, refuse
from ._attention import ATTENTION, attended
from ._elementary import elementary, image_of
from ._extreme import EXTREMES, extreme_range
from ._gains import forward
from ._interval import Interval, between, exactly, matmul, times
from ._normalisation import Derivative, normalisation_of
from ._permutations import sorted_range
from ._soft_threshold import soft_threshold_range
from ._softmax import softmax_over
from ._term import Form
from ._values import UNKNOWN, Values, evaluate, integer, must_be_total

_RANGES: dict[str, tuple[float, float]] = {
    "tanh": (-1, 1),
    "erf": (-1, 1),
    "sin": (-1, 1),
    "cos": (-1, 1),
    "softsign": (-1, 1),
    "atan": (-1.58, 1.58),
    "sigmoid": (0, 1),
    "softmax": (0, 1),
    "relu6": (0, 6),
}
"""What a function's values lie in, whatever its argument."""


def moved_range(
    node: Node, constants: Values, ranges: Mapping[int, Interval], scores: frozenset[int] = frozenset()
) -> Interval:
    """The interval of an affine node: its value at the middles, and |A| times the radii.

    Args:
        node: affine in the operands that have a range.
        constants: the other operands.
        ranges: of the state-dependent operands.
        scores: values that only a softmax reads; minus infinity may stand among them.
    """
    step = Network(constants, scores)
    inputs: list[Form | None] = []
    values, radii = [], []
    for value in node.operands:
        if value not in ranges:
            inputs.append(None)
            open_ = node.output in scores and constants.is_known(value)
            values.append(constants.scores(value) if open_ else constants[value])
            continue
        inputs.append(step.add(Source(ranges[value].middle.shape)))
        values.append(ranges[value].middle)
        radii.append(ranges[value].radius)
    form = affine(step, node, inputs)
    if form is None:
        raise refuse(node, "is not affine")
    return Interval(evaluate(node, values), forward(step.sources, [form], radii)[0])


def result_range(node: Node, derivative: Derivative) -> Interval:
    """The interval of a normalisation's results."""
    return between(derivative.bottom.reshape(node.shape), derivative.top.reshape(node.shape))


def extremum_range(node: Node, constants: Values, ranges: Mapping[int, Interval]) -> Interval:
    """The interval of the larger or smaller of a state-dependent value and a constant."""
    a, b = node.operands
    value, constant = (a, b) if a in ranges else (b, a)
    limit = constants.balls(constant)
    pick = (lambda x, y: x.max(y)) if node.op == "maximum" else (lambda x, y: x.min(y))
    low, high = ranges[value].ends
    return between(ball.each(pick, low, limit), ball.each(pick, high, limit))


PRODUCTS = frozenset(("mul", "div", "matmul"))


def varies(graph: ConcreteGraph, node: Node) -> bool:
    """Whether a node multiplies, or divides by, what depends on the state with what does as well, or is constant."""
    dependent = [value in graph.state_dependent for value in node.operands]
    return node.op in PRODUCTS and (all(dependent) or (node.op == "div" and dependent[1]))


def product_range(node: Node, a: Interval, b: Interval) -> Interval:
    """The interval of a product or a quotient."""
    if node.op == "matmul":
        return matmul(a, b)
    return times(a, inverse(node, b) if node.op == "div" else b)


def inverse(node: Node, b: Interval) -> Interval:
    """The reciprocals.

    Raises:
        Rejected: an interval is not known to be apart from 0.
    """
    low, high = b.ends
    if not bool(ball.each(lambda x, y: bool(x > 0) or bool(y < 0), low, high).all()):
        raise refuse(node, "divides by what may be 0")
    return between(ball.array(arb(1) / high), ball.array(arb(1) / low))


def softmax_range(node: Node, x: Interval) -> Interval:
    """The interval of a softmax along the attribute `dim`."""
    dim = integer(node, "dim")
    low, high = (np.moveaxis(end, dim, -1) for end in x.ends)
    rows = (int(np.prod(low.shape[:-1], dtype=np.int64)), low.shape[-1])
    found = softmax_over(low.reshape(rows), high.reshape(rows))
    return between(*(np.moveaxis(end.reshape(low.shape), -1, dim) for end in (found.low, found.high)))


def node_range(
    graph: ConcreteGraph,
    constants: Values,
    node: Node,
    known: Mapping[int, Interval | None],
    scores: frozenset[int] = frozenset(),
) -> Interval | None:
    """The interval of a state-dependent node's results; None stands for any real numbers.

    Args:
        graph: the operator graph.
        constants: the state-independent values.
        node: the node.
        known: the intervals of the state-dependent operands.
        scores: values that only a softmax reads; minus infinity may stand among them.
    """
    ranges = {value: known[value] for value in node.operands if value in known}
    finite = {value: interval for value, interval in ranges.items() if interval is not None}
    if len(finite) < len(ranges) and node.output in scores:
        return None
    if node.op == ATTENTION:
        return _attended(node, constants, ranges)
    if len(finite) < len(ranges):
        must_be_total(node, [UNKNOWN if value in known else constants[value] for value in node.operands])
        return _bounded(node)
    if varies(graph, node):
        a, b = (finite[v] if v in finite else exactly(constants.balls(v)) for v in node.operands)
        return product_range(node, a, b)
    if node.op in ("maximum", "minimum") and len(finite) == 1:
        return extremum_range(node, constants, finite)
    if node.op in ("maximum", "minimum"):
        raise refuse(node, "of two state-dependent tensors has no rule in the checker")
    own = finite.get(node.operands[0])
    if node.op == "softmax" and own is not None:
        return softmax_range(node, own)
    if node.op == "softshrink" and own is not None:
        return soft_threshold_range(node, own, constants.balls(node.operands[1]))
    if node.op == "sort" and own is not None:
        return sorted_range(node, own, integer(node, "dim"))
    if node.op in EXTREMES and own is not None:
        return extreme_range(node, own)
    rule = normalisation_of(node)
    if rule is not None and own is not None:
        return result_range(node, rule.over(*own.ends))
    table = elementary(node.op, node.attributes)
    if table is None or own is None:
        return moved_range(node, constants, finite, scores)
    return between(*image_of(table, *own.ends))


def _attended(node: Node, constants: Values, ranges: Mapping[int, Interval | None]) -> Interval | None:
    """Averages of values, which are bounded where the values are, whatever the scores."""
    scores, values, index = node.operands
    known = [ranges[v] if v in ranges else exactly(constants.balls(v)) for v in (scores, values)]
    return None if known[1] is None else attended(node, known[0], known[1], constants.integers(index))


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
