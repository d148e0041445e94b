"""Which operators are analytic on the whole space, and which are differentiable on a region."""

from __future__ import annotations

from torch import Tensor

from deqops.graph import ConcreteGraph, Node

from ._jacobian import Elementwise, Jacobian, Largest, Sorted
from ._normalisation import NORMALISATIONS, Normalisation

ANALYTIC = frozenset(
    (
        "softmax",
        "product",
        "tanh",
        "sigmoid",
        "silu",
        "gelu",
        "softplus",
        "mish",
        "exp",
        "expm1",
        "erf",
        "atan",
        "square",
        "sin",
        "cos",
    )
)
"""Functions that are real-analytic wherever they are defined (softplus: the smooth function; quotients: products)."""
AFFINE = frozenset(
    (
        "neg",
        "cast",
        "add",
        "sub",
        "mul",
        "div",
        "matmul",
        "conv",
        "conv_transpose",
        "reshape",
        "permute",
        "expand",
        "slice",
        "select",
        "index_select",
        "index_add",
        "cat",
        "where",
        "sum",
        "mean",
    )
)
"""Operations that are affine in each operand, and so polynomial."""


def is_analytic(graph: ConcreteGraph) -> bool:
    """Whether G is a composition of affine maps and analytic functions; for a graph that has a Jacobian expression."""
    return all(_is_analytic(graph, node) for node in graph.nodes if node.output in graph.state_dependent)


def _is_analytic(graph: ConcreteGraph, node: Node) -> bool:
    if node.op == "div" and node.operands[1] in graph.state_dependent:
        return False  # it may have poles
    if node.op in NORMALISATIONS:
        return Normalisation.of(node).eps > 0  # or refused: then v + eps is positive everywhere
    return node.op in ANALYTIC | AFFINE and node.dtype.is_floating_point


def is_differentiable(jacobian: Jacobian) -> bool:
    """Whether G is differentiable on the region of the expression's slopes.

    An elementwise function that is not analytic must have one slope only there: no kink is met. Linear maps and
    normalisations (eps > 0) are analytic.
    """
    for basis in jacobian.bases:
        if isinstance(basis, Largest) and not basis.weights.is_one:
            return False
        if isinstance(basis, Sorted) and not basis.permutations.is_one:
            return False
        if isinstance(basis, Elementwise) and basis.name not in ANALYTIC:
            ends = (basis.lower, basis.upper)
            if not all(isinstance(end, Tensor) for end in ends) or not bool((ends[0] == ends[1]).all()):  # type: ignore[union-attr]
                return False
    return True
