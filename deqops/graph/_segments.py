"""Attention over the segments of an index as one operation, where a graph spells it out.

Graph libraries write the softmax of scores over the edges that end in one node as a maximum of the segment, a
difference, an exponential, the segment's sum and a quotient, and the message as a product that is summed over the
segment again. Bounds of the parts do not see that the weights sum to 1. `with_attention` puts

    segment_attention(scores, values, index; epsilon):  out_i = sum over e with index_e = i of p_e values_e,
    p_e = exp(scores_e - m_i) / (sum over the segment of exp(scores - m_i) + epsilon),  m_i the segment's largest score,

in the place of such a chain; the function is the same. It is for whoever bounds the function; the graph that
`OperatorGraph.concrete` gives keeps the chain.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deqops.graph._ir import ConcreteGraph, Node
from deqops.graph._replaced import replaced

OPERATION = "segment_attention"


def with_attention(graph: ConcreteGraph) -> ConcreteGraph:
    """The graph with every chain that is attention over segments as one node; the graph itself where there is none."""
    found: dict[int, tuple[Node, ...]] = {}
    for node in graph.nodes:
        fused = _Chain(graph).fused(node) if node.op == "index_add" else None
        if fused is not None:
            found[node.output] = (fused,)
    return replaced(graph, found)


@dataclass(frozen=True, eq=False)
class _Softmax:
    """`exp(scores - m_i) / (sum + epsilon)` over the segments of an index, and the inputs that sizes came from."""

    scores: int
    index: int
    epsilon: float
    inputs: frozenset[int]


class _Chain:
    """Reads a chain of nodes from its end; each method gives None where the chain is another one."""

    def __init__(self, graph: ConcreteGraph) -> None:
        self._graph = graph
        self._used: frozenset[int] = frozenset()

    def fused(self, end: Node) -> Node | None:
        """The one node for `index_add(0, index, p * values)`."""
        base, index, messages = end.operands
        product = self._node(messages, "mul")
        if end.attributes["dim"] != 0 or not self._is_zero(base) or product is None:
            return None
        for weights, values in (product.operands, product.operands[::-1]):
            softmax = self._softmax(weights)
            if softmax is not None and self._fits(softmax, weights, values, index):
                operands = (softmax.scores, values, index)
                inputs = end.inputs | self._used
                attributes = {"epsilon": softmax.epsilon}
                return Node(OPERATION, operands, attributes, end.output, end.shape, end.dtype, end.source, inputs)
        return None

    def _fits(self, softmax: _Softmax, weights: int, values: int, index: int) -> bool:
        """Whether weights of shape (edges, ..., 1, ..) meet values of shape (edges, ..., more)."""
        scores, shape = self._graph.shape(softmax.scores), self._graph.shape(values)
        spread = scores + (1,) * (len(shape) - len(scores))
        same = self._same(softmax.index, index)
        return same and len(scores) <= len(shape) and shape[: len(scores)] == scores and self._is(weights, spread)

    def _is(self, value: int, shape: tuple[int, ...]) -> bool:
        return self._graph.shape(value) == shape

    def _softmax(self, value: int) -> _Softmax | None:
        quotient = self._node(self._before_reshape(value), "div")
        if quotient is None:
            return None
        power = self._node(quotient.operands[0], "exp")
        spread = self._selected(quotient.operands[1])
        if power is None or spread is None:
            return None
        total, epsilon = self._without_constant(spread[0])
        added = self._node(total, "index_add")
        if added is None or epsilon is None or added.attributes["dim"] != 0 or not self._is_zero(added.operands[0]):
            return None
        if added.operands[2] != power.output or not self._same(added.operands[1], spread[1]):
            return None
        scores = self._shifted(power.operands[0], spread[1], self._graph.shape(total)[0])
        return None if scores is None else _Softmax(scores, spread[1], epsilon, frozenset())

    def _shifted(self, value: int, index: int, size: int) -> int | None:
        """The scores of `scores - m_i`, m_i the largest score of the segment."""
        difference = self._node(value, "sub")
        spread = None if difference is None else self._selected(difference.operands[1])
        if difference is None or spread is None or not self._same(spread[1], index):
            return None
        scores, largest = difference.operands[0], self._node(spread[0], "amax")
        if largest is None or largest.attributes["dims"] != (1,) or largest.attributes["keepdim"]:
            return None
        table = self._node(largest.operands[0], "reshape")
        picked = self._selected(table.operands[0] if table is not None else largest.operands[0])
        if picked is None:
            return None
        longest = self._graph.shape(largest.operands[0])[1]
        members = self._leaf(picked[1])
        of_segment = self._leaf(index)
        if members is None or of_segment is None or not self._reads(picked[0], scores):
            return None
        return scores if _is_table_of(members, of_segment, size, longest) else None

    def _reads(self, value: int, scores: int) -> bool:
        """Whether the table picks from the scores, or from these and what empty segments are given."""
        if value == scores:
            return True
        joined = self._node(value, "cat")
        return joined is not None and joined.attributes["dim"] == 0 and joined.operands[0] == scores

    def _without_constant(self, value: int) -> tuple[int, float | None]:
        """`(x, c)` for `x + c` with a known number c >= 0; (value, 0) for anything else that is no sum."""
        total = self._node(value, "add")
        if total is None:
            return value, 0.0
        number = self._leaf(total.operands[1])
        if number is None or number.ndim or not number.is_floating_point() or not 0 <= float(number) < 1:
            return value, None
        return total.operands[0], float(number)

    def _before_reshape(self, value: int) -> int:
        node = self._node(value, "reshape")
        return value if node is None else node.operands[0]

    def _selected(self, value: int) -> tuple[int, int] | None:
        """The operand and the index of a selection along dimension 0."""
        node = self._node(value, "index_select")
        if node is None or node.attributes["dim"] != 0:
            return None
        return node.operands[0], node.operands[1]

    def _node(self, value: int, op: str) -> Node | None:
        node = self._graph.producer.get(value)
        if node is None or node.op != op:
            return None
        self._used |= node.inputs
        return node

    def _leaf(self, value: int) -> Tensor | None:
        """A literal's tensor: what no weight and no input's value can change."""
        leaf = self._graph.leaves.get(value)
        if leaf is None or leaf.kind != "literal":
            return None
        self._used |= leaf.inputs
        return leaf.tensor

    def _is_zero(self, value: int) -> bool:
        tensor = self._leaf(value)
        return tensor is not None and bool((tensor == 0).all())

    def _same(self, first: int, second: int) -> bool:
        a, b = self._leaf(first), self._leaf(second)
        return a is not None and b is not None and torch.equal(a, b)


def _is_table_of(members: Tensor, index: Tensor, size: int, longest: int) -> bool:
    """Whether row i of the table holds each entry of segment i and no other; rows of empty segments do not count."""
    if members.numel() != size * longest or index.ndim != 1 or members.ndim != 1:
        return False
    used = torch.bincount(index, minlength=size) > 0
    rows = torch.arange(size).repeat_interleave(longest)
    inside = used[rows]
    entries, rows = members[inside], rows[inside]
    if bool((entries >= len(index)).any()) or not torch.equal(index[entries], rows):
        return False
    return len(torch.unique(entries)) == len(index)
