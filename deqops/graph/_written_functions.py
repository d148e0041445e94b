"""Functions of one variable as one operation, where a graph spells them out.

Soft thresholding is written as `sign(v) relu(|v| - t)` or `relu(v - t) - relu(-v - t)`, a leaky ReLU by `where`, a
sigmoid as `1 / (1 + exp(-v))`. The parts of these jump, or have no slope on the whole line, or together half of the
slope that they have one by one. `with_functions` puts the function itself in the place of such a spelling: that of the
exact numbers is the same, casts being the identity of the exact-real function.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch

from deqops.graph._ir import Attribute, ConcreteGraph, Leaf, Node
from deqops.graph._replaced import replaced
from deqops.graph._spelling import Spelling


def with_functions(graph: ConcreteGraph) -> ConcreteGraph:
    """The graph with each spelling of a function of the state as one node; the graph itself where there is none."""
    if not any(node.op in _ENDS for node in graph.nodes):
        return graph
    reader, found = _Functions(graph), dict[int, tuple[Node, ...]]()
    for node in graph.nodes:
        if node.op in _ENDS and node.output in graph.state_dependent and node.dtype.is_floating_point:
            nodes = reader.function(node)
            if nodes:
                found[node.output] = nodes
    graph = replace(graph, leaves={**graph.leaves, **reader.literals}) if reader.literals else graph
    return replaced(graph, found)


_ENDS = ("where", "mul", "sub", "reciprocal")
_Chosen = tuple[int, float, int, int]
_Scaled = tuple[int, float]


class _Functions(Spelling):
    """Reads functions from their last operation."""

    def __init__(self, graph: ConcreteGraph) -> None:
        super().__init__(graph)
        self.literals: dict[int, Leaf] = {}

    def function(self, end: Node) -> tuple[Node, ...]:
        """The nodes that compute `end` as a known function; none where it is not one."""
        if end.op == "where":
            return self._chosen(end)
        if end.op == "mul":
            return self._signed(end) or self._switched(end)
        if end.op == "sub":
            return self._between(end) or self._two_sided(end)
        return self._logistic(end)

    # ------------------------------------------------------------------------------------------- soft thresholds

    def _signed(self, end: Node) -> tuple[Node, ...]:
        """`a sign(v) relu(|v| - t)`: soft thresholding where t >= 0, which whoever bounds it has to show."""
        for one, other in (end.operands, end.operands[::-1]):
            (sign, a), (size, b) = self._factor(one), self._factor(other)
            v, excess = self._argument(sign, "sign"), self._positive_part(size)
            over = None if excess is None else self.node(excess, "sub")
            if v is None or over is None or 1.0 not in (a, b):
                continue
            inner, t = self._argument(over.operands[0], "abs"), over.operands[1]
            if inner is not None and self.same(inner, v) and self.graph.shape(v) == end.shape:
                return self._scaled(self._shrunk(end, v, t), a if b == 1.0 else b)
        return ()

    def _scaled(self, nodes: tuple[Node, ...], factor: float) -> tuple[Node, ...]:
        """What these compute times a number."""
        if not nodes or factor == 1.0:
            return nodes
        (end,) = nodes
        inner = replace(end, output=self.unused())
        return inner, self._node(end, "mul", (inner.output, self._literal(factor)), {})

    def _between(self, end: Node) -> tuple[Node, ...]:
        """`v - clamp(v, -t, t)`."""
        v, middle = end.operands[0], self.node(end.operands[1])
        if middle is None or middle.op not in ("clamp", "hardtanh") or not self.same(middle.operands[0], v):
            return ()
        low, high = middle.attributes["minimum"], middle.attributes["maximum"]
        if not isinstance(low, float) or not isinstance(high, float) or low != -high or not 0 <= high < math.inf:
            return ()
        return self._shrunk(end, v, self._literal(high))

    def _two_sided(self, end: Node) -> tuple[Node, ...]:
        """`relu(v - t) - relu(-v - t)` with t >= 0, and `relu(v) - a relu(-v)`."""
        right, (left, factor) = self._positive_part(end.operands[0]), self._factor(end.operands[1])
        below = self._positive_part(left)
        if right is None or below is None:
            return ()
        if self._is_negative_of(below, right):
            return self._leaky(end, right, factor)
        above, under = self.node(right, "sub"), self.node(below, "sub")
        if factor != 1.0 or above is None or under is None:
            return ()
        (v, t), (negative, again) = above.operands, under.operands
        if self._is_negative_of(negative, v) and self._is_same_number(t, again) and self.graph.shape(v) == end.shape:
            return self._shrunk(end, v, t)
        return ()

    def _is_same_number(self, t: int, again: int) -> bool:
        """Whether both are one threshold, at least 0."""
        leaf = self.graph.leaves.get(t)
        if leaf is None or leaf.inputs or leaf.kind not in ("literal", "parameter"):
            return False
        known = self.number(t)
        return bool((leaf.tensor >= 0).all()) and (
            self.same(t, again) or (known is not None and known == self.number(again))
        )

    def _shrunk(self, end: Node, v: int, t: int) -> tuple[Node, ...]:
        if t in self.graph.state_dependent:
            return ()
        return (self._node(end, "softshrink", (v, t), {}),)

    # ---------------------------------------------------------------------------------------------------- choices

    def _chosen(self, end: Node) -> tuple[Node, ...]:
        """A function on either side of a number where both sides meet."""
        for v, limit, above, below in self._sides(end):
            if limit == 0.0:
                upper, lower = self._multiple(above, v), self._multiple(below, v)
                if upper is not None and lower is not None:
                    return self._bent(end, v, upper, lower)
                alpha = self._exponential(below, v)
                if upper == 1.0 and alpha is not None:
                    return (self._node(end, "elu", (v,), {"alpha": alpha}),)
            if self.same(above, v) and self.number(below) == limit:
                return (self._node(end, "clamp", (v,), {"minimum": limit, "maximum": None}),)
            if self.same(below, v) and self.number(above) == limit:
                return (self._node(end, "clamp", (v,), {"minimum": None, "maximum": limit}),)
            inner = self._argument(v, "abs")
            if inner is not None and limit >= 0 and self.same(below, inner) and self._is_end(above, inner, limit):
                return (self._node(end, "clamp", (inner,), {"minimum": -limit, "maximum": limit}),)
        return ()

    def _switched(self, end: Node) -> tuple[Node, ...]:
        """`v (v > 0)`, the condition as the numbers 1 and 0."""
        for v, switch in (end.operands, end.operands[::-1]):
            choice = self.node(switch, "where")
            if choice is None or self.graph.shape(switch) != end.shape or self.graph.shape(v) != end.shape:
                continue
            for argument, limit, above, below in self._sides(choice):
                upper, lower = self.number(above), self.number(below)
                if limit == 0.0 and self.same(argument, v) and upper is not None and lower is not None:
                    return self._bent(end, v, upper, lower)
        return ()

    def _sides(self, choice: Node) -> Iterator[_Chosen]:
        """(v, limit, above, below) of `where(v > limit, above, below)`, however it compares."""
        condition, first, second = choice.operands
        comparison = self.node(condition)
        if comparison is None or comparison.op not in ("gt", "ge", "lt", "le"):
            return
        v, other = comparison.operands
        is_above = comparison.op in ("gt", "ge")
        limit = self.number(other)
        if limit is None:
            v, other, is_above = other, v, not is_above
            limit = self.number(other)
        if limit is None or not math.isfinite(limit):
            return
        if v in self.graph.state_dependent and self.graph.shape(v) == choice.shape:
            yield (v, limit, first, second) if is_above else (v, limit, second, first)

    def _bent(self, end: Node, v: int, upper: float, lower: float) -> tuple[Node, ...]:
        """`upper v` above 0 and `lower v` below."""
        if upper == 1.0:
            return self._leaky(end, v, lower)
        if (upper, lower) == (0.0, 1.0):
            return (self._node(end, "clamp", (v,), {"minimum": None, "maximum": 0.0}),)
        return ()

    def _leaky(self, end: Node, v: int, slope: float) -> tuple[Node, ...]:
        if not math.isfinite(slope) or self.graph.shape(v) != end.shape:
            return ()
        if slope == 0.0:
            return (self._node(end, "relu", (v,), {}),)
        return (self._node(end, "leaky_relu", (v,), {"negative_slope": slope}),)

    def _is_end(self, value: int, v: int, limit: float) -> bool:
        """Whether a value is `limit sign(v)`."""
        base, factor = self._factor(value)
        inner = self._argument(base, "sign")
        return inner is not None and self.same(inner, v) and factor == limit

    def _multiple(self, value: int, v: int) -> float | None:
        """a where the value is a v."""
        if self.number(value) == 0.0:
            return 0.0
        base, factor = self._factor(value)
        if self.same(base, v):
            return factor
        return -factor if self._is_negative_of(base, v) else None

    def _exponential(self, value: int, v: int) -> float | None:
        """a where the value is `a (exp(v) - 1)`."""
        base, factor = self._factor(value)
        inner = self._argument(base, "expm1")
        less = self.node(base, "sub")
        if inner is None and less is not None and self.number(less.operands[1]) == 1.0:
            inner = self._argument(less.operands[0], "exp")
        return factor if inner is not None and self.same(inner, v) and math.isfinite(factor) else None

    # -------------------------------------------------------------------------------------------------- a sigmoid

    def _logistic(self, end: Node) -> tuple[Node, ...]:
        """`1 / (1 + exp(-v))`."""
        total = self.node(end.operands[0], "add")
        if total is None:
            return ()
        for one, power in (total.operands, total.operands[::-1]):
            inner = self._argument(power, "exp")
            v = None if inner is None else self._argument(inner, "neg")
            if v is not None and self.number(one) == 1.0 and self.graph.shape(v) == end.shape:
                return (self._node(end, "sigmoid", (v,), {}),)
        return ()

    # ------------------------------------------------------------------------------------------------------ parts

    def _argument(self, value: int, op: str) -> int | None:
        """x where the value is `op(x)`."""
        node = self.node(value, op)
        return None if node is None else node.operands[0]

    def _positive_part(self, value: int) -> int | None:
        """x where the value is `max(x, 0)`."""
        node = self.node(value)
        if node is None:
            return None
        if node.op == "relu" or (
            node.op == "clamp" and (node.attributes["minimum"], node.attributes["maximum"]) == (0.0, None)
        ):
            return node.operands[0]
        if node.op == "maximum":
            for x, zero in (node.operands, node.operands[::-1]):
                if self.number(zero) == 0.0 and self.graph.shape(x) == node.shape:
                    return x
        return None

    def _factor(self, value: int) -> _Scaled:
        """(x, a) where the value is a x, a a known number: 1 for any other value."""
        node = self.node(value)
        if node is not None and node.op == "mul":
            for x, factor in (node.operands, node.operands[::-1]):
                known = self.number(factor)
                if known is not None and self.graph.shape(x) == node.shape:
                    return x, known
        return value, 1.0

    def _is_negative_of(self, value: int, v: int) -> bool:
        inner = self._argument(value, "neg")
        return inner is not None and self.same(inner, v)

    def _literal(self, number: float) -> int:
        value = self.unused()
        self.literals[value] = Leaf("literal", -1, "literal", torch.tensor(number, dtype=torch.float64))
        return value

    def _node(self, end: Node, op: str, operands: tuple[int, ...], attributes: dict[str, Attribute]) -> Node:
        return Node(op, operands, attributes, end.output, end.shape, end.dtype, end.source, end.inputs)
