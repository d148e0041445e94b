"""Minus infinity among numbers that a softmax reads: the entries that get probability 0."""

from __future__ import annotations

from typing import Any

from flint import arb
from numpy.typing import NDArray

from deqops.graph import ConcreteGraph

from . import _arithmetic as ball

_PASSING = frozenset(("reshape", "permute", "expand", "slice", "select", "index_select", "add", "where"))


def read_by_softmax_alone(graph: ConcreteGraph) -> frozenset[int]:
    """Values from which every path leads into a softmax before anything but sums, choices and movement."""
    exposed = set(graph.outputs)
    for node in reversed(graph.nodes):
        if node.op == "softmax":
            continue
        if node.op not in _PASSING or node.output in exposed:
            exposed.update(node.operands)
        elif node.op == "where":
            exposed.add(node.operands[0])
        elif node.op == "index_select":
            exposed.update(node.operands[1:])
    return frozenset((*graph.leaves, *(node.output for node in graph.nodes))) - exposed


def masked(x: ball.Balls) -> NDArray[Any]:
    """Which entries are exactly minus infinity."""
    return ball.each(lambda entry: bool(entry == arb.neg_inf()), x).astype(bool)


def numbers_or_masked(x: ball.Balls) -> bool:
    """Whether every entry is bounded, or exactly minus infinity."""
    return bool((ball.each(lambda entry: bool(entry.is_finite()), x).astype(bool) | masked(x)).all())
