"""Which operators are analytic on the whole space, and which are differentiable on a box."""

from __future__ import annotations

from . import _arithmetic as ball
from ._network import Walk
from ._normalisation import normalisation_of
from ._subject import Subject

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
"""Functions that are real-analytic wherever they are defined."""


def is_analytic(subject: Subject) -> bool:
    """Whether G is a composition of affine maps and analytic functions."""
    graph = subject.graph
    for node in graph.nodes:
        if node.output not in graph.state_dependent or node.op in ANALYTIC or normalisation_of(node):
            continue
        pole = node.op == "div" and node.operands[1] in graph.state_dependent
        if node.op not in _AFFINE or pole or not node.dtype.is_floating_point:
            return False
    return True


_AFFINE = frozenset(
    """neg cast add sub mul div matmul conv conv_transpose reshape permute expand slice select index_select
    index_add cat where sum mean""".split()  # noqa: SIM905 - a list that reads as one
)


def is_differentiable(walk: Walk) -> bool:
    """Whether G is differentiable on the walk's box: a function that is not analytic has one slope there.

    Normalisations (eps > 0) are analytic.
    """
    for source in walk.network.sources:
        if source.derivative is not None and not source.derivative.smooth:
            return False
        if not source.name or source.name in ANALYTIC or source.derivative is not None:
            continue
        if not bool(ball.each(lambda a, b: bool(a == b), *map(ball.array, source.interval)).all()):
            return False
    return True
