"""Conditions and steps that have one value on a whole region: constants there, whatever jumps elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from deqops._errors import UnsupportedOperationError
from deqops.graph import ConcreteGraph, Leaf, Node, replaced

from ._defined import Defined
from ._domains import require_defined
from ._enclosures import Constants, Enclosed, enclose_node
from ._midrad import MidRad

_CONDITIONS = ("eq", "ne", "lt", "le", "gt", "ge", "isinf", "isnan", "logical_not", "logical_and", "logical_or")
_JUMPS = frozenset((*_CONDITIONS, "sign", "floor", "ceil", "round"))


def decided(graph: ConcreteGraph, constants: Constants, boxes: list[MidRad]) -> tuple[ConcreteGraph, Constants]:
    """The graph on boxes of the state's leaves, what jumps elsewhere but not there being literals of it.

    Args:
        graph: the operator graph; itself the answer where nothing in it jumps.
        constants: of the graph; notes which inputs were used.
        boxes: leaf by leaf.
    """
    if not jumps(graph):
        return graph, constants
    every_input = frozenset(range(len(graph.inputs)))
    found = {
        value: Leaf("literal", -1, "literal", tensor, every_input)
        for value, tensor in _settled(graph, constants, boxes).items()
    }
    if not found:
        return graph, constants
    nodes = tuple(node for node in graph.nodes if node.output not in found)
    there = replace(graph, leaves={**graph.leaves, **found}, nodes=nodes)
    there = replaced(there, {node.output: (_branch(node, found),) for node in nodes if _is_uniform(node, found)})
    return there, constants.of(there)


def jumps(graph: ConcreteGraph) -> bool:
    """Whether a condition or a step depends on the state."""
    return any(node.op in _JUMPS and node.output in graph.state_dependent for node in graph.nodes)


def _is_uniform(node: Node, found: Mapping[int, Leaf]) -> bool:
    """Whether a choice is the same for all entries; the other side need not be defined then."""
    condition = found.get(node.operands[0]) if node.op == "where" else None
    entries = condition.tensor.reshape(-1) if condition is not None else torch.empty(0)
    return len(entries) > 0 and bool((entries == entries[0]).all())


def _branch(node: Node, found: Mapping[int, Leaf]) -> Node:
    first = bool(found[node.operands[0]].tensor.reshape(-1)[0])
    return replace(node, op="expand", operands=(node.operands[1 if first else 2],), attributes={"shape": node.shape})


def _settled(graph: ConcreteGraph, constants: Constants, boxes: list[MidRad]) -> dict[int, Tensor]:
    """The values of conditions and steps that are decided.

    Whatever has no enclosure, may jump, or is not defined for every state there, decides nothing.
    """
    values: dict[int, Enclosed] = dict(zip(graph.state, boxes, strict=True))
    found, fixed = dict[int, Tensor](), Defined(graph, constants)

    def operand(value: int) -> Enclosed:
        if value in graph.state_dependent:
            return values[value]
        if value not in graph.leaves:
            fixed.require(value)
        return constants[value]

    for node in graph.nodes:
        if node.output not in graph.state_dependent:
            continue
        try:
            operands = [operand(value) for value in node.operands]
            require_defined(node, [*operands])
            value = values[node.output] = enclose_node(node, operands)
        except (UnsupportedOperationError, KeyError):
            continue
        if node.op in _JUMPS and not isinstance(value, MidRad):
            found[node.output] = value
        elif node.op in _JUMPS and isinstance(value, MidRad) and value.is_exact() and value.is_finite():
            found[node.output] = value.mid.to(torch.float64)
    return found
