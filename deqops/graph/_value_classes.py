"""Which values of a graph are equal because they are computed alike, and how they are computed."""

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


class Spelling:
    """Reads how a graph spells its values, through casts; each method gives None where a value is another one."""

    def __init__(self, graph: ConcreteGraph) -> None:
        self.graph, self.classes = graph, value_classes(graph)
        self._unused = 1 + max([*graph.leaves, *graph.producer])

    def unused(self) -> int:
        """A number for a new value."""
        self._unused += 1
        return self._unused - 1

    def node(self, value: int, op: str | None = None) -> Node | None:
        """The node of this operation, or any, that computes a value but for casts and shapes that stay.

        None where its attributes came from an input: whoever reads them must not take them for the operator's own.
        """
        node = self.graph.producer.get(value)
        while node is not None and (node.op == "cast" or self._stays(node)):
            node = self.graph.producer.get(node.operands[0])
        return node if node is not None and op in (None, node.op) and not node.inputs else None

    def _stays(self, node: Node) -> bool:
        return node.op in ("reshape", "expand") and node.shape == self.graph.shape(node.operands[0])

    def number(self, value: int) -> float | None:
        """The number that a constant of the operator's own holds in each of its entries, under whatever shape."""
        node = self.graph.producer.get(value)
        while node is not None and node.op in ("reshape", "expand") and not node.inputs:
            value = node.operands[0]
            node = self.graph.producer.get(value)
        leaf = self.graph.leaves.get(value)
        if leaf is None or leaf.kind not in ("literal", "parameter") or leaf.inputs or not leaf.tensor.numel():
            return None
        entries = leaf.tensor.reshape(-1)
        return float(entries[0]) if bool((entries == entries[0]).all()) else None

    def same(self, first: int, second: int) -> bool:
        """Whether two values are computed alike."""
        return self.classes[first] == self.classes[second]
