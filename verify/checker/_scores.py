"""Which entries of masked scores are minus infinity: a matter of constants, followed apart from the numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deqops.graph import ConcreteGraph, Node

from ._masks import masked
from ._refusal import Rejected
from ._values import Values, indices, integer, move


def gone_after(graph: ConcreteGraph, constants: Values, node: Node, gone: Mapping[int, Any]) -> NDArray[Any] | None:
    """Which entries of a node of such values are minus infinity, whatever the state; None where none is.

    Args:
        graph: the operator graph.
        constants: the state-independent values.
        node: the node.
        gone: the same for its state-dependent operands.
    """
    parts = [_entries(graph, constants, node, value, gone) for value in node.operands]
    if all(part is None for part in parts):
        return None
    first, *rest = [np.zeros((), dtype=bool) if part is None else part for part in parts]
    if node.op == "add":
        return np.broadcast_to(first | rest[0], node.shape)
    if node.op == "where":
        choice = constants.integers(node.operands[0]).astype(bool)
        return np.broadcast_to(np.where(choice, rest[0], rest[1]), node.shape)
    if node.op == "index_select":
        index = indices(constants.integers(node.operands[1]), first.shape[integer(node, "dim")])
        return np.take(first, index, axis=integer(node, "dim"))
    return np.asarray(move(node, first))


def _entries(graph: ConcreteGraph, constants: Values, node: Node, value: int, gone: Mapping[int, Any]) -> Any:
    if value in graph.state_dependent:
        return gone.get(value)
    if node.op not in ("add", "where") or not constants.is_known(value):
        return None
    found = masked(constants.scores(value))
    return found if found.any() else None


def require_a_number(node: Node, gone: NDArray[Any] | None) -> None:
    """Refuse a softmax that has nothing but minus infinity along its dimension."""
    if gone is not None and gone.all(axis=integer(node, "dim")).any():
        raise Rejected(f"{node.source}: has nothing but minus infinity along its dimension")
