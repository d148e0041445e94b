"""T1 `picard`: a constant q < 1 everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .._chain_gain import LARGEST_CHECKED, ROOM, chain_gain
from .._evidence import Evidence
from .._gains import lipschitz_gain
from .._norm import Norm
from .._problem import Problem
from .._region import Global
from .._rounding import mul_up
from .._slope_norm import CERTIFIED, slope_norm
from ._base import Finding, Hypothesis, Theorem, contraction, damped_rate, inverse_gap, used_inputs

if TYPE_CHECKING:
    from .._request import Request


def picard(problem: Problem, norm: Norm, damping: float = 1.0) -> Finding:
    """T1 (Banach-Caccioppoli): G has a constant q < 1 on X.

    Then there is exactly one equilibrium and Picard's iteration converges to it from every start, with
    `||y - y*|| <= ||G(y) - y|| / (1 - q)` for any y. With `damping` b the rate is that of `(1-b) y + b G(y)`.
    """
    gain = lipschitz_gain(problem.jacobian, norm, problem.batch_dims)
    bound = float(mul_up(gain.upper, problem.slack))
    return _finding(problem, norm, Evidence("lipschitz", {"bound": bound}), damping, gain.contributions)


def picard_by_multipliers(problem: Problem, damping: float = 1.0) -> Finding | None:
    """T1 in plain l2 with the constant of `_chain_gain.py`, multipliers in the evidence; None unless q < 1.

    Raises:
        UnsupportedOperationError: the operator has no Jacobian expression with slopes everywhere.
    """
    if problem.boxes:
        return None  # inputs in a box, for which the checker has no multipliers
    gain = chain_gain(problem.jacobian, problem.batch_dims, 1 / ROOM, LARGEST_CHECKED)
    if gain is None:
        return None
    bound = float(mul_up(gain.upper, ROOM))
    evidence = Evidence("chain", {"bound": bound}, tensors={"multipliers": gain.multipliers})
    parts = lipschitz_gain(problem.jacobian, Norm("l2"), problem.batch_dims).contributions
    return _finding(problem, Norm("l2"), evidence, damping, parts)


def picard_by_slopes(problem: Problem, norm: Norm, damping: float = 1.0) -> Finding | None:
    """T1 with the norm of the matrix of intervals that holds all slope products; None where it is too large.

    Raises:
        UnsupportedOperationError: the operator has no Jacobian expression with slopes everywhere.
    """
    found = slope_norm(problem.jacobian, norm, problem.batch_dims, CERTIFIED)
    if found is None:
        return None
    return _finding(problem, norm, Evidence("lipschitz", {"bound": float(mul_up(found, problem.slack))}), damping)


def _finding(
    problem: Problem, norm: Norm, evidence: Evidence, damping: float, parts: tuple[tuple[str, float], ...] = ()
) -> Finding:
    rate = bound = evidence.numbers["bound"]
    hypotheses: tuple[Hypothesis, ...] = (contraction(bound),)
    if damping != 1:
        rate = damped_rate(bound, damping)
        hypotheses += (contraction(rate, "damped contraction", "|1 - b| + |b| q < 1"),)
    return Finding("picard", norm, Global(), evidence, rate, hypotheses, used_inputs(problem), parts)


def damped(problem: Problem, norm: Norm, damping: float) -> Finding:
    """T4 (smoothing factor): `(1-b) y + b G(y)` has constant `|1-b| + |b| q` < 1 and the equilibria of G."""
    plain = picard(problem, norm)
    rate = damped_rate(plain.evidence.numbers["bound"], damping)
    hypotheses = (
        Hypothesis("damping", "b != 0", damping, 0.0, damping != 0),
        contraction(rate, "damped contraction", "|1 - b| + |b| q < 1"),
    )
    return Finding("damped", norm, Global(), plain.evidence, rate, hypotheses, plain.inputs, plain.contributions)


def _attempt(problem: Problem, request: Request) -> Iterator[Finding]:
    for norm in request.norms(problem, lambda: problem.jacobian):
        yield picard(problem, norm, request.iteration_damping())
    if request.takes_plain_l2():
        found = picard_by_multipliers(problem, request.iteration_damping())
        if found is not None:
            yield found
    for norm in request.norms_of_slopes(problem, lambda: problem.jacobian):
        found = picard_by_slopes(problem, norm, request.iteration_damping())
        if found is not None:
            yield found


def _attempt_damped(problem: Problem, request: Request) -> Iterator[Finding]:
    for norm in request.norms(problem, lambda: problem.jacobian):
        yield damped(problem, norm, request.damping)


PICARD = Theorem(
    name="picard",
    number="T1",
    hypotheses=(("contraction", "q < 1"), ("damped contraction", "|1 - b| + |b| q < 1")),
    guarantee="one equilibrium; ||y_n - y*|| <= q^n / (1 - q) ||y_1 - y_0||; ||y - y*|| <= ||G(y) - y|| / (1 - q)",
    proof="picard",
    source="Banach 1922; Caccioppoli 1930",
    attempt=_attempt,
    residual_factor=inverse_gap,
    evidence=("lipschitz", "chain"),
)

DAMPED = Theorem(
    name="damped",
    number="T4",
    hypotheses=(("damping", "b != 0"), ("damped contraction", "|1 - b| + |b| q < 1")),
    guarantee="one equilibrium, reached by y <- (1-b) y + b G(y) at the rate |1 - b| + |b| q",
    proof="damped",
    source="Krasnosel'skii 1955; Mann 1953, for contractions",
    claim="converges",
    attempt=_attempt_damped,
    residual_factor=inverse_gap,
    evidence=("lipschitz",),
)
