"""How a graph spells its values: what its recognisers read."""

from __future__ import annotations

from deqops.graph._ir import ConcreteGraph, Node
from deqops.graph._value_classes import value_classes


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
