"""Ranges of a graph's values over boxes of states, and over all states where functions are bounded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from deqops.graph import ConcreteGraph, Node

from ._arctangent import HALF_PI_UP
from ._domains import has_domain, require_defined
from ._enclosures import Constants, Enclosed, as_exact, as_midrad, enclose_node, segments_of
from ._midrad import MidRad
from ._normalisation import NORMALISATIONS, Normalisation

_RANGES = {
    "tanh": (-1.0, 1.0),
    "erf": (-1.0, 1.0),
    "sin": (-1.0, 1.0),
    "cos": (-1.0, 1.0),
    "softsign": (-1.0, 1.0),
    "atan": (-HALF_PI_UP, HALF_PI_UP),
    "sigmoid": (0.0, 1.0),
    "softmax": (0.0, 1.0),
    "relu6": (0.0, 6.0),
}
"""What a function's values lie in, whatever its argument."""


def ranges_over(
    graph: ConcreteGraph, constants: Constants, state: Mapping[int, MidRad | None]
) -> dict[int, Enclosed | None]:
    """Enclosures of the state-dependent values; None stands for any real numbers, in the state and in the result.

    G must be defined on all of the box: tanh is bounded, and `tanh(log(z))` still says nothing of a state where log
    has no value. Constants are looked at only where an enclosure or a domain needs them.

    Raises:
        UnsupportedOperationError: an operation without enclosure, or one that some state takes out of its domain.
    """
    values: dict[int, Enclosed | None] = dict(state)
    for node in graph.nodes:
        if node.output not in graph.state_dependent:
            continue
        own = {v: values[v] for v in node.operands if v in graph.state_dependent}
        known = all(value is not None for value in own.values())
        needed = known or has_domain(node) or node.op == "segment_attention"
        operands = [own[v] if v in own else constants[v] if needed else None for v in node.operands]
        require_defined(node, operands)
        if known:
            values[node.output] = enclose_node(node, [operand for operand in operands if operand is not None])
        else:
            values[node.output] = _attended(node, operands) if node.op == "segment_attention" else _range(node)
    return values


def _attended(node: Node, operands: list[Enclosed | None]) -> MidRad | None:
    """Averages of bounded values, whatever the scores are."""
    _, values, index = operands
    if values is None or index is None:
        return None
    segments, x = segments_of(node, as_exact(node, index)), as_midrad(values)
    weights = segments.weights_everywhere(tuple(x.shape))
    return segments.value(weights, x)


def _range(node: Node) -> MidRad | None:
    ends = _RANGES.get(node.op) or _clamped(node.op, node.attributes) or _normalised(node)
    if ends is None:
        return None
    lower, upper = (torch.full(tuple(node.shape), end, dtype=torch.float64) for end in ends)
    return MidRad.from_bounds(lower, upper)


def _normalised(node: Node) -> tuple[float, float] | None:
    if node.op not in NORMALISATIONS:
        return None
    limit = Normalisation.of(node).limit
    return -limit, limit


def _clamped(op: str, attributes: Mapping[str, Any]) -> tuple[float, float] | None:
    if op not in ("hardtanh", "clamp"):
        return None
    lower, upper = (attributes.get(name) for name in ("minimum", "maximum"))
    if lower is None or upper is None or not (math.isfinite(lower) and math.isfinite(upper)):
        return None
    return min(float(lower), float(upper)), float(upper)
