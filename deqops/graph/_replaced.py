"""A graph with some of its values computed in another way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from deqops.graph._ir import ConcreteGraph, Node


def replaced(graph: ConcreteGraph, found: Mapping[int, Sequence[Node]]) -> ConcreteGraph:
    """The graph where these nodes compute a value, and without what nobody reads any more.

    Args:
        graph: not changed; itself the answer where nothing is found.
        found: for a value the nodes, in order, that take the place of the one that computed it; the last gives it.
    """
    if not found:
        return graph
    live, kept = set(graph.outputs), list[Node]()
    for node in reversed(graph.nodes):
        if node.output in live:
            for part in reversed(found.get(node.output, (node,))):
                kept.append(part)
                live.update(part.operands)
    return replace(graph, nodes=tuple(reversed(kept)))
