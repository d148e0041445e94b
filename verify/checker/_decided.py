"""Choices that are the same for every state of a region: there the operator is one without them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from deqops.graph import ConcreteGraph, Leaf, Node, replaced

from . import _arithmetic as ball
from ._interval import Interval
from ._masks import read_by_softmax_alone
from ._ranges import node_range
from ._refusal import Rejected
from ._steps import STEPS, step
from ._values import Value, Values, evaluate

_CONDITIONS = frozenset(("eq", "ne", "lt", "le", "gt", "ge", "isinf", "isnan"))
_OF_CONDITIONS = frozenset(("logical_not", "logical_and", "logical_or"))
_JUMPING = _CONDITIONS | _OF_CONDITIONS | frozenset(STEPS)


def decided(
    graph: ConcreteGraph, constants: Values, box: list[Interval], free: frozenset[int]
) -> tuple[ConcreteGraph, Values]:
    """The operator on a box of states, with the choices that all of these agree on as constants.

    Args:
        graph: the operator graph; returned as it is where all choices are constants already.
        constants: its state-independent values.
        box: the intervals of the state's leaves.
        free: the positions of the inputs whose values are unknown.
    """
    while jumps(graph):
        agreed = _agreed(graph, constants, box)
        if not agreed:
            break
        graph = _with(graph, agreed)
        constants = Values(graph, None, free)
    return graph, constants


def jumps(graph: ConcreteGraph) -> bool:
    """Whether a choice or a step depends on the state."""
    return any(_chooses(graph, node) for node in graph.nodes)


def _chooses(graph: ConcreteGraph, node: Node) -> bool:
    return node.op in _JUMPING and node.output in graph.state_dependent


def _agreed(graph: ConcreteGraph, constants: Values, box: list[Interval]) -> dict[int, torch.Tensor]:
    """What jumps and has one value, of those that read nothing else that jumps."""
    scores, found = read_by_softmax_alone(graph), dict[int, torch.Tensor]()
    known: dict[int, Interval | None] = dict(zip(graph.state, box, strict=True))
    for node in graph.nodes:
        dependent = [value for value in node.operands if value in graph.state_dependent]
        if not dependent or any(known.get(value) is None for value in dependent):
            continue
        try:
            if _chooses(graph, node):
                value = _only_value(_outcome(constants, node, known))
                if value is not None:
                    found[node.output] = value
            else:
                known[node.output] = node_range(graph, constants, node, known, scores)
        except Rejected:
            continue
    return found


def _outcome(constants: Values, node: Node, known: dict[int, Interval | None]) -> Value:
    """An enclosure of the results; of a step from both ends, for a ball around them is wider."""
    interval = known.get(node.operands[0])
    if node.op in STEPS and interval is not None:
        return step(node.op, *interval.ends)
    return evaluate(node, [_operand(constants, known, value) for value in node.operands])


def _operand(constants: Values, known: dict[int, Interval | None], value: int) -> Value:
    interval = known.get(value)
    return constants[value] if interval is None else ball.hull(*interval.ends)


def _only_value(value: Value) -> torch.Tensor | None:
    """The value itself where it is one: conditions, or exact numbers that a float holds."""
    if value.dtype != object:
        return torch.from_numpy(np.array(value))
    flat: list[Any] = list(value.reshape(-1))
    if not all(entry.is_exact() and entry.is_finite() and _is_float(entry) for entry in flat):
        return None
    return torch.tensor([float(entry) for entry in flat], dtype=torch.float64).reshape(value.shape)


def _is_float(entry: Any) -> bool:
    """Whether an exact ball is a binary64 number."""
    return bool(entry == float(entry))


def _with(graph: ConcreteGraph, agreed: dict[int, torch.Tensor]) -> ConcreteGraph:
    """The graph with these values given, whatever the free inputs are, and without the sides that no entry chooses."""
    given = {value: Leaf("literal", -1, "literal", tensor) for value, tensor in agreed.items()}
    nodes = tuple(node for node in graph.nodes if node.output not in agreed)
    chosen = {node.output: _side(node, agreed[node.operands[0]]) for node in nodes if _is_one_side(node, agreed)}
    return replaced(replace(graph, leaves={**graph.leaves, **given}, nodes=nodes), chosen)


def _is_one_side(node: Node, agreed: dict[int, torch.Tensor]) -> bool:
    condition = agreed.get(node.operands[0]) if node.op == "where" else None
    return condition is not None and len({*condition.reshape(-1).tolist()}) == 1


def _side(node: Node, condition: torch.Tensor) -> tuple[Node]:
    side = node.operands[1] if bool(condition.reshape(-1)[0]) else node.operands[2]
    return (replace(node, op="expand", operands=(side,), attributes={"shape": node.shape}),)
