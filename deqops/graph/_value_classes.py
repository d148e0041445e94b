"""Which values of a graph are equal because they are computed alike."""

from __future__ import annotations

from deqops.graph._ir import ConcreteGraph, Node

_Key = tuple[object, ...]


def value_classes(graph: ConcreteGraph) -> dict[int, int]:
    """A class for each value; values of one class are computed in the same way, but for casts, so they are equal.

    An operation under its exported name is in no class with another: its node does not say all of its arguments.
    """
    classes: dict[int, int] = {value: value for value in graph.leaves}
    known: dict[_Key, int] = {}
    for node in graph.nodes:
        operands = tuple(classes[value] for value in node.operands)
        if node.op == "cast" or node.op.startswith("aten."):
            classes[node.output] = operands[0] if node.op == "cast" else node.output
            continue
        mean = graph.producer.get(node.operands[0]) if node.op == "reshape" else node
        if (
            mean is not None
            and mean.op == "mean"
            and node.shape == reduced(graph.shape(mean.operands[0]), dims_of(mean))
        ):
            key: _Key = ("mean", classes[mean.operands[0]], dims_of(mean))  # its dimensions kept or put back
        else:
            key = (node.op, operands, tuple(sorted(node.attributes.items())), node.shape)
        classes[node.output] = known.setdefault(key, node.output)
    return classes


def dims_of(node: Node) -> tuple[int, ...]:
    """The dimensions of a reduction, in order."""
    dims = node.attributes["dims"]
    return tuple(sorted(dims)) if isinstance(dims, tuple) else ()


def reduced(shape: tuple[int, ...], dims: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with these dimensions reduced to size 1."""
    return tuple(1 if d in dims else size for d, size in enumerate(shape))
