"""T2 `local_picard` in a box: a constant q < 1 on a box that G maps into itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .._evidence import Evidence
from .._gains import lipschitz_gain
from .._invariant_box import outside_bound
from .._jacobian import Jacobian
from .._local import local_jacobian
from .._norm import Norm, finite
from .._problem import Problem
from .._region import Box
from .._rounding import mul_up
from .._slope_norm import CERTIFIED, slope_norm
from ._base import Finding, Hypothesis, contraction, damped_rate

if TYPE_CHECKING:
    from .._request import Request


def boxed_picard(
    problem: Problem, norm: Norm, box: Box, jacobian: Jacobian, outside: float, damping: float = 1.0
) -> Finding:
    """T2 (Banach on a closed set): constant q < 1 on a box S with G(S) in S.

    Then G has exactly one equilibrium in S, and Picard's iteration converges to it from every start there. The norm
    is the contraction's alone: which states are meant is the box' business.

    Args:
        problem: the operator.
        norm: in which G contracts.
        box: S.
        jacobian: with slopes that hold on S.
        outside: how far G leaves S, a proven bound (`outside_bound`).
        damping: b; a convex S stays invariant for 0 < b <= 1.
    """
    gain = lipschitz_gain(jacobian, norm, problem.batch_dims)
    return _finding(problem, norm, box, gain.upper, outside, damping, gain.contributions)


def boxed_picard_by_slopes(
    problem: Problem, norm: Norm, box: Box, jacobian: Jacobian, outside: float, damping: float = 1.0
) -> Finding | None:
    """The same with the norm of the matrix of intervals that holds all slope products on S; None if too large."""
    found = slope_norm(jacobian, norm, problem.batch_dims, CERTIFIED)
    return None if found is None else _finding(problem, norm, box, found, outside, damping)


def _finding(
    problem: Problem,
    norm: Norm,
    box: Box,
    constant: float,
    outside: float,
    damping: float,
    parts: tuple[tuple[str, float], ...] = (),
) -> Finding:
    bound = float(mul_up(constant, problem.slack))
    hypotheses: tuple[Hypothesis, ...] = (contraction(bound), keeps_box(outside))
    if damping != 1:
        statement = "0 < b <= 1 keeps the box invariant"
        hypotheses += (Hypothesis("damping", statement, damping, 1.0, 0 < damping <= 1),)
    used = frozenset(range(len(problem.graph.inputs)))  # the self-map takes every input's value
    rate = bound if damping == 1 else damped_rate(bound, damping)
    evidence = Evidence("box", {"bound": bound, "outside": outside})
    return Finding("local_picard", norm, box, evidence, rate, hypotheses, used, parts)


def keeps_box(outside: float) -> Hypothesis:
    """`G(S) in S` for a box S, from the bound of how far G leaves it."""
    return Hypothesis("self-map", "lower <= G(y) <= upper on the box", outside, 0.0, finite(outside) and outside <= 0)


def attempt_in_box(problem: Problem, request: Request) -> Iterator[Finding]:
    """T2 in each norm asked for, on the box asked for."""
    box = request.box(problem)
    jacobian = local_jacobian(problem, box, Norm("linf"))
    outside = outside_bound(problem, jacobian, box)
    for norm in request.norms(problem, lambda: jacobian):
        yield boxed_picard(problem, norm, box, jacobian, outside, request.iteration_damping())
    for norm in request.norms_of_slopes(problem, lambda: jacobian):
        found = boxed_picard_by_slopes(problem, norm, box, jacobian, outside, request.iteration_damping())
        if found is not None:
            yield found
