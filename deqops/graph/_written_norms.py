"""Layer and RMS norms as one operation, where a graph spells them out.

Many models write their normalisation in arithmetic,

    x rsqrt(mean(x^2) + eps)  or  x / sqrt(mean(x^2) + eps),

x possibly `u - mean(u)`. Bounds of the parts know nothing of each other: the square has no slope on the whole line,
and the quotient none where its parts are unbounded. `with_normalisations` puts `rms_norm(x)` or `layer_norm(u)` in the
place of such a chain; the function is the same, casts being the identity of the exact-real function.
"""

from __future__ import annotations

import math

from deqops.graph._ir import ConcreteGraph, Node
from deqops.graph._replaced import replaced
from deqops.graph._spelling import Spelling
from deqops.graph._value_classes import dims_of, reduced


def with_normalisations(graph: ConcreteGraph) -> ConcreteGraph:
    """The graph with each chain that is a normalisation of the state as one; the graph itself where there is none."""
    found: dict[int, tuple[Node, ...]] = {}
    if any(node.op in _ROOTS for node in graph.nodes):
        chain = _Chains(graph)
        for node in graph.nodes:
            if node.op in ("mul", "div") and node.output in graph.state_dependent:
                nodes = chain.normalisation(node)
                if nodes:
                    found[node.output] = nodes
    return replaced(graph, found)


_ROOTS = ("rsqrt", "sqrt", "pow_scalar")


class _Chains(Spelling):
    """Reads chains of nodes from their ends."""

    def normalisation(self, end: Node) -> tuple[Node, ...]:
        """The nodes that compute `end` as a normalisation; none where it is no normalisation."""
        first, second = end.operands
        power = -0.5 if end.op == "mul" else 0.5
        for x, root in ((first, second), (second, first))[: 2 if end.op == "mul" else 1]:
            found = self._squares(root, power)
            if found is None or self.graph.shape(x) != end.shape:
                continue
            squared, dims, eps = found
            if self.same(squared, x) and self.graph.shape(root) == reduced(end.shape, dims):
                return self._written(end, x, dims, eps)
        return ()

    def _squares(self, root: int, power: float) -> tuple[int, tuple[int, ...], float] | None:
        """(y, dims, eps) where the value is (mean of y^2 over dims + eps)^power, eps a known number above 0."""
        below = self._under_root(root, power)
        total = None if below is None else self.node(below, "add")
        if total is None:
            return None
        for part, other in (total.operands, total.operands[::-1]):
            eps, mean = self.single(other), self._mean(part)
            if eps is not None and 0.0 < eps < math.inf and mean is not None:
                base = self._base_of_square(mean[0])
                return None if base is None else (base, mean[1], eps)
        return None

    def _under_root(self, value: int, power: float) -> int | None:
        """y where the value is y^power, power being 1/2 or -1/2."""
        node = self.node(value)
        if node is None:
            return None
        if node.op == "reciprocal" and power < 0:
            return self._under_root(node.operands[0], -power)
        if node.op == "mul" and 1.0 in map(self.single, node.operands):  # 1 / x is exported as reciprocal(x) * 1
            return self._under_root(node.operands[self.single(node.operands[0]) == 1.0], power)
        is_root = node.op == ("sqrt" if power > 0 else "rsqrt")
        return node.operands[0] if is_root or node.attributes.get("exponent") == power else None

    def _mean(self, value: int) -> tuple[int, tuple[int, ...]] | None:
        """(y, dims) where the value is y's mean over dims, which are kept or put back as dimensions of size 1."""
        node = self.node(value)
        if node is not None and node.op == "reshape":
            node = self.node(node.operands[0])
        if node is not None and node.op == "div":
            total, count = self.node(node.operands[0], "sum"), self.single(node.operands[1])
            node = total if total is not None and count == _entries(self.graph, total) else None
        elif node is not None and node.op != "mean":
            return None
        if node is None:
            return None
        whole, dims = node.operands[0], dims_of(node)
        return (whole, dims) if dims and self.graph.shape(value) == reduced(self.graph.shape(whole), dims) else None

    def _base_of_square(self, value: int) -> int | None:
        node = self.node(value)
        if node is None:
            return None
        if node.op == "square" or (node.op == "pow_scalar" and node.attributes["exponent"] == 2.0):
            return node.operands[0]
        return node.operands[0] if node.op == "mul" and self.same(*node.operands) else None

    def single(self, value: int) -> float | None:
        """The one number that a literal is."""
        leaf = self.graph.leaves.get(value)
        return None if leaf is None or leaf.tensor.numel() != 1 else self.number(value)

    def _centred(self, value: int, dims: tuple[int, ...]) -> int | None:
        """u where the value is u less its mean over these dims."""
        node = self.node(value, "sub")
        mean = None if node is None else self._mean(node.operands[1])
        if node is None or mean is None or mean[1] != dims or self.graph.shape(node.operands[0]) != node.shape:
            return None
        return node.operands[0] if self.same(mean[0], node.operands[0]) else None

    def _written(self, end: Node, x: int, dims: tuple[int, ...], eps: float) -> tuple[Node, ...]:
        """The normalisation over the last dimensions, others moved there and back."""
        centred = self._centred(x, dims)
        op, operand = ("rms_norm", x) if centred is None else ("layer_norm", centred)
        rank = len(end.shape)
        order = (*(d for d in range(rank) if d not in dims), *dims)
        sizes = tuple(end.shape[d] for d in order)
        attributes = {"normalized_shape": sizes[rank - len(dims) :], "eps": eps}

        def node(op: str, operand: int, attributes: dict[str, object], output: int, shape: tuple[int, ...]) -> Node:
            return Node(op, (operand,), attributes, output, shape, end.dtype, end.source, end.inputs)  # type: ignore[arg-type]

        if order == tuple(range(rank)):
            return (node(op, operand, attributes, end.output, end.shape),)
        moved, normed = self.unused(), self.unused()
        back = tuple(order.index(d) for d in range(rank))
        return (
            node("permute", operand, {"dims": order}, moved, sizes),
            node(op, moved, attributes, normed, sizes),
            node("permute", normed, {"dims": back}, end.output, end.shape),
        )


def _entries(graph: ConcreteGraph, node: Node) -> int:
    """How many numbers each of a sum's results is the sum of."""
    shape = graph.shape(node.operands[0])
    return math.prod(shape[d] for d in dims_of(node))
