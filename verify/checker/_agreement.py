"""The graph's balls at the example beside what torch computes there: a test of the reader, once for each check."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from flint import arb
from torch.utils import _pytree as pytree

from deqops._errors import DeqopsError
from deqops.graph import ConcreteGraph, Node, OperatorGraph, coarsest_eps, entries, moved_a_little

from . import _arithmetic as ball
from ._refusal import Rejected
from ._values import Values

MOST_ENTRIES, MOST_PRODUCTS = 2**20, 2**24
"""More numbers, or products of two, take too long in balls."""


def require_agreement(operator: OperatorGraph, graph: ConcreteGraph, y0: Any, inputs: tuple[Any, ...]) -> None:
    """Refuse a graph whose image of the example state, or of one near it, is not what the program computes.

    Nothing is said where there is no enclosure, or where numbers are too many.

    Raises:
        Rejected: they are further apart than rounding explains.
    """
    if entries(graph) > MOST_ENTRIES or sum(_products(graph, node) for node in graph.nodes) > MOST_PRODUCTS:
        return
    example, tree = pytree.tree_flatten(y0)
    for where, leaves in (("at", example), ("near", moved_a_little(example))):
        try:
            with torch.no_grad(), np.errstate(all="ignore"):  # Python's powers of what has none raise NumPy's flags
                values = Values(graph, [ball.exact(leaf) for leaf in leaves], frozenset())
                images = [values.balls(value) for value in graph.outputs]
                computed = pytree.tree_leaves(operator(pytree.tree_unflatten(leaves, tree), *inputs))
        except (Rejected, DeqopsError):
            continue
        tolerance = math.sqrt(coarsest_eps(graph, computed))
        for image, value in zip(images, computed, strict=True):
            numbers = value.detach().cpu().double().reshape(-1).tolist()
            if not all(_is_near(x, y, tolerance) for x, y in zip(image.reshape(-1), numbers, strict=True)):
                why = "the graph as it is read and the program differ {} the example state, by more than rounding"
                raise Rejected(why.format(where))


def _is_near(enclosed: Any, value: float, tolerance: float) -> bool:
    """Whether a computed value is within rounding of a ball; one that is not finite may be out of the dtype's range."""
    if not math.isfinite(value):
        return True
    gap = abs(enclosed - arb(value)).abs_lower()
    return bool(gap <= tolerance * (1 + max(abs(value), float(abs(enclosed).mid()))))


def _products(graph: ConcreteGraph, node: Node) -> int:
    """How many numbers a matrix product or a convolution multiplies."""
    if node.op == "matmul":
        return math.prod(node.shape) * graph.shape(node.operands[0])[-1]
    if node.op in ("conv", "conv_transpose"):
        weight = graph.shape(node.operands[1])
        return math.prod(node.shape) * math.prod(weight[1:])
    return 0
