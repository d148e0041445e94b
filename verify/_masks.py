"""Scores that a softmax reads and nothing else does: minus infinity may stand among them, for a probability of 0.

Which entries are minus infinity is a matter of constants: conditions of `where`, and what is added. It is followed
through the graph apart from the numbers, so that a row of nothing else, of which softmax makes no number, is refused.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from deqops._errors import UnsupportedOperationError
from deqops.graph import ConcreteGraph, Node

from ._enclosures import Constants, as_exact, move
from ._midrad import MidRad

_MOVEMENTS = frozenset(("reshape", "permute", "expand", "slice", "select", "index_select"))


def scores(graph: ConcreteGraph) -> frozenset[int]:
    """The values, leaves too, that reach the rest through softmaxes only, by masks, sums and data movement."""
    readers: dict[int, list[Node]] = {}
    for node in graph.nodes:
        for value in node.operands:
            readers.setdefault(value, []).append(node)
    found: set[int] = set()
    for value in (*(node.output for node in reversed(graph.nodes)), *graph.leaves):
        several = readers.get(value, [])
        if several and value not in graph.outputs and all(_passes(reader, value, found) for reader in several):
            found.add(value)
    return frozenset(found)


def _passes(reader: Node, value: int, found: set[int]) -> bool:
    if reader.op == "softmax":
        return True
    chosen = reader.op == "where" and value != reader.operands[0]
    return (chosen or reader.op == "add" or reader.op in _MOVEMENTS) and reader.output in found


def is_mask(constant: MidRad) -> bool:
    """Whether every entry is a number or exactly minus infinity."""
    return bool(((constant.mid.isfinite() | (constant.mid == -math.inf)) & constant.rad.isfinite()).all())


class Masks:
    """Which entries of the state-dependent scores of a graph are minus infinity, whatever the state."""

    def __init__(self, graph: ConcreteGraph, constants: Constants) -> None:
        self._graph, self._constants, self._scores = graph, constants, scores(graph)
        self._gone: dict[int, Tensor] = {}

    def allows(self, node: Node, value: int) -> bool:
        """Whether a constant operand may hold minus infinity, and holds nothing worse."""
        if node.op not in ("where", "add") or node.output not in self._scores:
            return False
        known = self._constants[value]
        return isinstance(known, MidRad) and is_mask(known)

    def follow(self, node: Node) -> None:
        """Note what a node does to masked entries.

        Raises:
            UnsupportedOperationError: a softmax of nothing but minus infinity.
        """
        if node.op == "softmax":
            gone, dim = self._gone.get(node.operands[0]), node.attributes["dim"]
            if gone is not None and bool(gone.all(dim=dim).any()):  # type: ignore[arg-type]
                raise UnsupportedOperationError(node.source, "has nothing but minus infinity along its dimension")
        elif node.output in self._scores:
            masked = [self._masked(node, value) for value in node.operands]
            if any(part is not None for part in masked):
                self._gone[node.output] = self._moved(node, masked)

    def _masked(self, node: Node, value: int) -> Tensor | None:
        if value in self._graph.state_dependent or node.op not in ("where", "add"):
            return self._gone.get(value)
        known = self._constants[value]
        return known.mid == -math.inf if isinstance(known, MidRad) and bool(known.mid.isinf().any()) else None

    def _moved(self, node: Node, masked: list[Tensor | None]) -> Tensor:
        none = torch.zeros((), dtype=torch.bool)
        parts = [none if part is None else part for part in masked]
        if node.op == "add":
            return (parts[0] | parts[1]).expand(node.shape)
        if node.op == "where":
            condition = as_exact(node, self._constants[node.operands[0]]).to(torch.bool)
            return torch.where(condition, parts[1], parts[2]).expand(node.shape)
        if node.op == "index_select":
            dim: int = node.attributes["dim"]  # type: ignore[assignment]
            return parts[0].index_select(dim, as_exact(node, self._constants[node.operands[1]]))
        return move(node, parts[0])
