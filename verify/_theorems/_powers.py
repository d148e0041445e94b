"""T1, powers: a power of G contracts, where G itself may expand."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from deqops._errors import UnsupportedOperationError

from .._evidence import Evidence
from .._norm import Norm
from .._powers import power_bounds
from .._problem import Problem
from .._region import Global
from .._rounding import div_up, mul_up, sub_down
from ._base import Finding, Theorem, contraction, used_inputs

if TYPE_CHECKING:
    from .._request import Request

LARGEST = 2048
"""Unknowns up to which slope matrices are multiplied."""
LARGEST_AUTO = 256
"""Unknowns up to which `theorem="auto"` does."""


def picard_powers(problem: Problem, norm: Norm, damping: float) -> Finding:
    """T1, powers: G^m has a constant q_m < 1, m = 2^doublings.

    Then there is exactly one equilibrium and Picard's iteration converges to it from every start. For every y,
    `||y - y*|| <= ||I + M_1 + ... + M_(m-1) ... M_1|| ||G(y) - y|| / (1 - q_m)` over all slope matrices M_k, which is
    at most `(1 + L + ... + L^(m-1)) / (1 - q_m)`. With damping b all this is said of `(1-b) y + b G(y)`.

    Raises:
        UnsupportedOperationError: no Jacobian expression with slopes everywhere, or one too large to write out.
    """
    best = None
    for power in power_bounds(problem, norm, damping):
        if best is None or power.bound < best.bound:
            best = power
    if best is None:
        raise AssertionError("there is a first power")
    bound, gap = float(mul_up(best.bound, problem.slack)), float(sub_down(1.0, mul_up(best.bound, problem.slack)))
    spread = float(mul_up(mul_up(best.spread, abs(damping)), problem.slack))
    factor = float(div_up(spread, gap)) if gap > 0 else math.inf
    return Finding(
        "powers",
        norm,
        Global(),
        Evidence("powers", {"contraction": bound, "factor": factor}, {"doublings": best.doublings}),
        None,
        (contraction(bound if math.isfinite(factor) else math.inf, statement="q_m < 1 of G^m"),),
        used_inputs(problem),
    )


def _attempt(problem: Problem, request: Request) -> Iterator[Finding]:
    largest = LARGEST_AUTO if request.theorem == "auto" else LARGEST
    if problem.size > largest:
        raise UnsupportedOperationError("operator", f"has {problem.size} unknowns: powers are taken of {largest}")
    for norm in request.plain_norms(problem, lambda: problem.jacobian):
        yield picard_powers(problem, norm, request.damping)


POWERS = Theorem(
    name="powers",
    number="T1",
    hypotheses=(("contraction", "q_m < 1 of G^m"),),
    guarantee="one equilibrium, which Picard's iteration reaches from every start; "
    "||y - y*|| <= ||I + M_1 + ... + M_(m-1) ... M_1|| ||G(y) - y|| / (1 - q_m)",
    proof="picard_powers",
    source="Caccioppoli 1930; Banach's theorem for a power of the map",
    claim="converges",
    attempt=_attempt,
    residual_factor=lambda evidence: evidence.numbers["factor"],
    evidence=("powers",),
    rated=False,
)
