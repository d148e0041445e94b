"""A graph for every value of an input between two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from deqops._errors import InputError, UnsupportedOperationError

from ._ir import ConcreteGraph, Leaf

Ends = tuple[Tensor, Tensor]


def between(graph: ConcreteGraph, boxes: Mapping[int, Ends]) -> ConcreteGraph:
    """The graph whose inputs at some positions are any value from `lower` to `upper`, entry by entry.

    Args:
        graph: at one value of these inputs, from which its shapes come.
        boxes: position -> (lower, upper), of the input's shape.

    Raises:
        InputError: an input is not floating, or its ends have another shape, are not finite, or cross.
        UnsupportedOperationError: a size or an index was computed from the value at hand.
    """
    if not boxes:
        return graph
    for node in graph.nodes:
        if node.inputs & boxes.keys():
            raise UnsupportedOperationError(node.source, "takes a size from an input that is given by two ends")
    leaves = {value: _widened(leaf, boxes) for value, leaf in graph.leaves.items()}
    return replace(graph, leaves=leaves)


def _widened(leaf: Leaf, boxes: Mapping[int, Ends]) -> Leaf:
    if leaf.kind != "input":
        if leaf.inputs & boxes.keys():
            raise UnsupportedOperationError("a constant", "was computed from an input that is given by two ends")
        return leaf
    if leaf.position not in boxes:
        return leaf
    lower, upper = boxes[leaf.position]
    if not leaf.tensor.is_floating_point():
        raise InputError(f"input {leaf.name}: it holds {leaf.tensor.dtype}; only floating inputs lie between two ends")
    if lower.shape != leaf.tensor.shape or upper.shape != leaf.tensor.shape:
        shapes = tuple(lower.shape), tuple(upper.shape)
        raise InputError(
            f"input {leaf.name}: has shape {tuple(leaf.tensor.shape)}, its ends {shapes[0]} and {shapes[1]}"
        )
    if not bool(lower.isfinite().all() & upper.isfinite().all() & (lower <= upper).all()):
        raise InputError(f"input {leaf.name}: its ends must be finite, the lower nowhere above the upper")
    return replace(leaf, ends=(lower, upper))
