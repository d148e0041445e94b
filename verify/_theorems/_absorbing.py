"""T11 `absorbing`: global convergence from a contraction on a box that all values of G fall into."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from deqops._errors import UnsupportedOperationError

from .._absorbing import AbsorbingBox, absorbing_box
from .._claim import Claim, Converges, UniqueEquilibrium
from .._evidence import Evidence
from .._gains import lipschitz_gain
from .._jacobian import Jacobian
from .._local import jacobian_over
from .._norm import Norm
from .._problem import Problem
from .._region import Global
from .._rounding import mul_up
from ._base import Finding, Theorem, contraction

if TYPE_CHECKING:
    from .._request import Request


def absorbing(problem: Problem, norm: Norm, box: AbsorbingBox, jacobian: Jacobian, damping: float = 1.0) -> Finding:
    """T11: `G^j(X)` lies in a box S, `G(S)` in S, and G has a constant q < 1 on S.

    Then there is one equilibrium in all of X, and Picard's iteration converges to it from every start, at the rate q
    once it is in S. For y in S `||y - y*|| <= ||G(y) - y|| / (1 - q)`. A damped iteration never quite enters S, so that
    only the one equilibrium is claimed then.

    Args:
        problem: the operator.
        norm: of the constant.
        box: S, with the number of steps after which every start is in it.
        jacobian: with slopes that hold on the box.
        damping: b of the iteration asked about.
    """
    gain = lipschitz_gain(jacobian, norm, problem.batch_dims)
    bound = float(mul_up(gain.upper, problem.slack))
    claim: Claim = Converges(Global()) if damping == 1 else UniqueEquilibrium(Global())
    return Finding(
        "absorbing",
        norm,
        Global(),
        Evidence("absorbing", {"bound": bound}, {"sweeps": box.sweeps}, {"lower": box.lower, "upper": box.upper}),
        None,
        (contraction(bound, statement="q < 1 on the box S"),),
        frozenset(range(len(problem.graph.inputs))),  # the box takes every input's value
        gain.contributions,
        claim=claim,
    )


def _attempt(problem: Problem, request: Request) -> Iterator[Finding]:
    request.check_weights(problem)
    with problem.constants.untouched():
        box = absorbing_box(problem)
        if box is None:
            raise UnsupportedOperationError("operator", "has values without a bound: no box absorbs every start")
        jacobian = jacobian_over(problem, box.intervals)
        for norm in request.norms(problem, lambda: jacobian):
            yield absorbing(problem, norm, box, jacobian, request.damping)


ABSORBING = Theorem(
    name="absorbing",
    number="T11",
    hypotheses=(("contraction", "q < 1 on the box S"),),
    guarantee="one equilibrium, which Picard's iteration reaches from every start; "
    "||y - y*|| <= ||G(y) - y|| / (1 - q) for y in S",
    proof=None,
    source="Banach's theorem on an absorbing set",
    claim="converges",
    attempt=_attempt,
    residual_factor=lambda _: math.inf,
    evidence=("absorbing",),
    rated=False,
)
