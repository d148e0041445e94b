"""T1 `picard` and T4 `damped`: a constant of G everywhere."""

from __future__ import annotations

from flint import arb

from .._document import Document, Evidence, Norm
from .._network import Walk
from .._subject import Subject
from .._values import Values
from ._base import Rule, chain_constant, damped, global_constant, rate_of, require, states_contraction, states_damped


def _picard(document: Document, evidence: Evidence, subject: Subject, norm: Norm) -> tuple[str, ...]:
    """T1: constant q < 1 everywhere."""
    rate = rate_of(document)
    require(document.region is None, "region: theorem picard speaks of the whole space")
    require(evidence["bound"] <= rate, "rate: it is below the bound it rests on")
    if document.kind == "converges":
        factor = damped(document.damping, evidence["bound"])
        require(bool(factor < 1), "claim.iteration: |1 - b| + |b| q < 1 does not hold")
        require(document.damping == 1 or bool(factor <= arb(rate)), "rate: it is below |1 - b| + |b| bound")
    return _constant(subject, norm, evidence)


def _constant(subject: Subject, norm: Norm, evidence: Evidence) -> tuple[str, ...]:
    if evidence.kind == "lipschitz":
        return global_constant(subject, norm, evidence)
    return chain_constant(subject, norm, evidence, Walk(subject.graph, Values(subject.graph, None, subject.free)))


def _damped_picard(document: Document, evidence: Evidence, subject: Subject, norm: Norm) -> tuple[str, ...]:
    """T4: `(1-b) y + b G(y)` has constant |1 - b| + |b| q < 1 everywhere."""
    rate = rate_of(document)
    require(document.region is None, "region: theorem damped speaks of the whole space")
    require(document.kind != "contraction", "claim: theorem damped does not show that G is a contraction")
    require(document.damping != 0, "claim.iteration.damping: must not be 0")
    factor = damped(document.damping, evidence["bound"])
    require(bool(factor <= arb(rate)), "rate: it is below |1 - b| + |b| bound")
    lines = global_constant(subject, norm, evidence)
    return (*lines, f"damped: |1 - b| + |b| q <= {rate!r} with b = {document.damping!r}")


PICARD = Rule(_picard, "lipschitz", {"contraction": states_contraction, "damped contraction": states_damped})
PICARD_CHAIN = Rule(_picard, "chain", PICARD.hypotheses)
DAMPED = Rule(
    _damped_picard,
    "lipschitz",
    {
        "damped contraction": states_damped,
        "damping": lambda document, _, value, limit: value == document.damping and limit == 0,
    },
)
