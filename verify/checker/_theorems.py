"""From the certificate's evidence to its claim: the table at the end of `docs/certificate.md`.

Every number is derived anew from the graph; the certificate's own numbers only have to be at least as large,
and to imply the claim. All comparisons are between balls, true only when certain, and refuse NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from flint import arb

from . import _arithmetic as ball
from ._document import Ball, Document, Evidence, Norm
from ._gains import lipschitz_bound
from ._local import centre_of, moved, residual_bound, walk_over_ball
from ._monotone import excess, residual_factor, single_layer, weighted
from ._network import Walk
from ._refusal import Rejected
from ._subject import Subject
from ._values import Values
from ._vector_norm import full_weights, powered, powers


def establish(document: Document, subject: Subject) -> tuple[str, ...]:
    """Prove the claim from scratch along the certificate's theorem.

    Returns:
        What was established, with the numbers derived here.

    Raises:
        Rejected: a condition of the theorem could not be shown, or the evidence does not support the claim.
    """
    theorem = _THEOREMS.get((document.verdict, document.theorem))
    if theorem is None:
        raise Rejected(f"theorem: {document.theorem} cannot give the verdict {document.verdict}")
    if document.norm is None:
        raise Rejected("norm: a certified or refuted claim needs one")
    return theorem(document, subject, document.norm)


def _require(condition: bool, reason: str) -> None:
    if not condition:
        raise Rejected(reason)


def _evidence(document: Document, kind: str) -> Evidence:
    if document.evidence is None or document.evidence.kind != kind:
        raise Rejected(f"evidence: theorem {document.theorem} needs evidence of kind {kind!r}")
    return document.evidence


def _rate(document: Document) -> float:
    if document.rate is None or not 0 <= document.rate < 1:
        raise Rejected(f"rate: {document.rate} is not in [0, 1)")
    return document.rate


def _damped(damping: float, bound: float) -> Any:
    """|1 - b| + |b| q."""
    b = arb(damping)
    return abs(1 - b) + abs(b) * arb(bound)


# ----------------------------------------------------------------------------------------------- the theorems


def _picard(document: Document, subject: Subject, norm: Norm) -> tuple[str, ...]:
    """T1: constant q < 1 everywhere."""
    evidence, rate = _evidence(document, "lipschitz"), _rate(document)
    _require(document.ball is None, "region: theorem picard speaks of the whole space")
    _require(evidence.bound <= rate, "rate: it is below the bound it rests on")
    if document.kind == "converges":
        factor = _damped(document.damping, evidence.bound)
        _require(bool(factor < 1), "claim.iteration: |1 - b| + |b| q < 1 does not hold")
        _require(document.damping == 1 or bool(factor <= arb(rate)), "rate: it is below |1 - b| + |b| bound")
    lines = _global_constant(subject, norm, evidence)
    _hypotheses(document, evidence)
    return lines


def _damped_picard(document: Document, subject: Subject, norm: Norm) -> tuple[str, ...]:
    """T4: `(1-b) y + b G(y)` has constant |1 - b| + |b| q < 1 everywhere."""
    evidence, rate = _evidence(document, "lipschitz"), _rate(document)
    _require(document.ball is None, "region: theorem damped speaks of the whole space")
    _require(document.kind != "contraction", "claim: theorem damped does not show that G is a contraction")
    _require(document.damping != 0, "claim.iteration.damping: must not be 0")
    factor = _damped(document.damping, evidence.bound)
    _require(bool(factor <= arb(rate)), "rate: it is below |1 - b| + |b| bound")
    lines = _global_constant(subject, norm, evidence)
    _hypotheses(document, evidence)
    return (*lines, f"damped: |1 - b| + |b| q <= {rate!r} with b = {document.damping!r}")


def _local_picard(document: Document, subject: Subject, norm: Norm) -> tuple[str, ...]:
    """T2: constant q < 1 on the ball, which G maps into itself."""
    evidence, rate, region = _evidence(document, "local"), _rate(document), document.ball
    if region is None:
        raise Rejected("region: theorem local_picard speaks of a ball")
    _require([leaf.shape for leaf in region.center] == subject.shapes, "region.center: not of the state's shape")
    _require(evidence.bound <= rate, "rate: it is below the bound it rests on")
    room = (1 - arb(evidence.bound)) * arb(region.radius)
    _require(bool(arb(evidence.residual) <= room), "evidence.residual: exceeds (1 - bound) radius")
    if document.kind == "converges":
        _require(0 < document.damping <= 1, "claim.iteration.damping: in a ball it must be in (0, 1]")
        factor = _damped(document.damping, evidence.bound)
        _require(document.damping == 1 or bool(factor <= arb(rate)), "rate: it is below |1 - b| + |b| bound")
    weights, constants = full_weights(norm, subject), Values(subject.graph, None, subject.free)
    residual = residual_bound(subject, constants, region, norm, weights)
    _require(
        bool(residual <= arb(evidence.residual)),
        _exceeds("residual ||G(c) - c||", residual, evidence.residual),
    )
    walk = walk_over_ball(subject, constants, region, norm, weights)
    own = lipschitz_bound(walk.network.sources, walk.outputs, norm.order, weights)
    _require(bool(own <= arb(evidence.bound)), _exceeds("Lipschitz constant on the ball", own, evidence.bound))
    _hypotheses(document, evidence)
    return (
        f"constant on the ball of radius {region.radius!r} in {_named(norm)}: <= {_shown(own)}",
        f"residual ||G(c) - c|| <= {_shown(residual)}, room (1 - q) r = {_shown(room)}",
    )


def _monotone(document: Document, subject: Subject, norm: Norm) -> tuple[str, ...]:
    """T5 (c, d): `sym((I - a W)^T P (I - b W)) >= mu P` with mu > 0 gives one equilibrium and the error's factor."""
    evidence = _evidence(document, "monotone")
    _require(document.ball is None, "region: theorem monotone speaks of the whole space")
    _require(document.kind == "unique_equilibrium", "claim: theorem monotone shows a unique equilibrium, no more")
    _require(document.rate is None, "rate: theorem monotone gives none")
    _require(norm.order == "l2", "norm: theorem monotone is about l2, weighted or not")
    _require(0 < evidence.mu < math.inf, "evidence.mu: must be positive")
    walk = Walk(subject.graph, Values(subject.graph, None, subject.free))
    layer = single_layer(walk.network, walk.outputs)
    layer = weighted(layer, _last_axis(full_weights(norm, subject), layer.weight.shape[0]))
    least = excess(layer, evidence.mu)
    _require(bool(least >= 0), f"evidence.mu: the inequality could only be shown up to {_shown(least)}")
    factor = residual_factor(layer, evidence.mu)
    _require(bool(factor <= arb(evidence.factor)), _exceeds("factor of the residual", factor, evidence.factor))
    _hypotheses(document, evidence)
    return (f"monotone in {_named(norm)} with mu >= {evidence.mu!r}, ||y - y*|| <= {_shown(factor)} ||G(y) - y||",)


def _last_axis(weights: list[ball.Balls] | None, size: int) -> ball.Balls | None:
    """The weights along the last dimension, where they vary along no other."""
    if weights is None:
        return None
    rows = weights[0].reshape(-1, size)
    _require(bool((rows == rows[0]).all()), "norm.weights: must vary along the last dimension only")
    return np.asarray(rows[0])


def _global_constant(subject: Subject, norm: Norm, evidence: Evidence) -> tuple[str, ...]:
    weights = full_weights(norm, subject)
    walk = Walk(subject.graph, Values(subject.graph, None, subject.free))
    own = lipschitz_bound(walk.network.sources, walk.outputs, norm.order, weights)
    _require(bool(own <= arb(evidence.bound)), _exceeds("Lipschitz constant", own, evidence.bound))
    return (f"constant of G in {_named(norm)}: <= {_shown(own)}, the certificate claims {evidence.bound!r}",)


def _refute(document: Document, subject: Subject, norm: Norm) -> tuple[str, ...]:
    """Two points that G does not bring closer: no q < 1 works."""
    evidence = _evidence(document, "two_points")
    _require(document.kind == "contraction", "claim: two points refute only a contraction")
    _require(document.rate is None and not document.hypotheses, "rate, hypotheses: a refutation has none")
    weights, constants = full_weights(norm, subject), Values(subject.graph, None, subject.free)
    first, second = (_point(subject, point) for point in (evidence.first, evidence.second))
    problems = subject.shapes[0][0] if subject.graph.batch_dims else 1
    _require(evidence.problem < problems, "evidence.problem: there is no such problem")
    if document.ball is not None:
        _require_inside(document.ball, subject, norm, weights, evidence.problem, first, second)
    images = (moved(subject, constants, point) for point in (first, second))
    after = _distance(subject, norm, weights, *images)[evidence.problem]
    before = _distance(subject, norm, weights, first, second)[evidence.problem]
    _require(bool(before > 0), "evidence: the two points are the same")
    _require(bool(after >= before), "evidence: G brings the two points closer, or nearly so")
    return (f"two points that G does not bring closer in {_named(norm)} (problem {evidence.problem})",)


_THEOREMS: dict[tuple[str, str | None], Callable[[Document, Subject, Norm], tuple[str, ...]]] = {
    ("certified", "picard"): _picard,
    ("certified", "damped"): _damped_picard,
    ("certified", "local_picard"): _local_picard,
    ("certified", "monotone"): _monotone,
    ("refuted", "refute"): _refute,
}


def _point(subject: Subject, leaves: tuple[Any, ...]) -> list[ball.Balls]:
    _require([leaf.shape for leaf in leaves] == subject.shapes, "evidence: a point is not of the state's shape")
    return centre_of(Ball(leaves, 0.0))


def _distance(
    subject: Subject, norm: Norm, weights: list[ball.Balls] | None, a: list[ball.Balls], b: list[ball.Balls]
) -> list[Any]:
    gaps = [ball.array(x - y) for x, y in zip(a, b, strict=True)]
    return powers(norm, weights, gaps, subject.graph.batch_dims)


def _require_inside(
    region: Ball,
    subject: Subject,
    norm: Norm,
    weights: list[ball.Balls] | None,
    problem: int,
    *points: list[ball.Balls],
) -> None:
    _require([leaf.shape for leaf in region.center] == subject.shapes, "region.center: not of the state's shape")
    limit = powered(norm, region.radius)
    for point in points:
        distance = _distance(subject, norm, weights, point, centre_of(region))[problem]
        _require(bool(distance <= limit), "evidence: a point lies outside the region")


# ------------------------------------------------------------------------------------------ stated hypotheses


def _hypotheses(document: Document, evidence: Evidence) -> None:
    """Every hypothesis the certificate states is one that was just shown, with these numbers."""
    for stated in document.hypotheses:
        where = f"hypotheses: {stated.name!r}"
        agrees = _HYPOTHESES.get(stated.name)
        if agrees is None or stated.value is None or stated.limit is None or stated.holds is not True:
            raise Rejected(f"{where} is unknown, has no numbers, or is not said to hold")
        _require(
            agrees(document, evidence, stated.value, stated.limit),
            f"{where} does not agree with the evidence",
        )


def _states_self_map(document: Document, evidence: Evidence, value: float, limit: float) -> bool:
    if document.ball is None:
        return False
    room = (1 - arb(evidence.bound)) * arb(document.ball.radius)
    return value == evidence.residual and value <= limit and bool(arb(limit) <= room)


_HYPOTHESES: dict[str, Callable[[Document, Evidence, float, float], bool]] = {
    "contraction": lambda document, evidence, value, limit: value == evidence.bound and value < 1 and limit == 1,
    "damped contraction": lambda document, evidence, value, limit: (
        bool(_damped(document.damping, evidence.bound) <= arb(value)) and value < 1 and limit == 1
    ),
    "damping": lambda document, evidence, value, limit: value == document.damping and limit in (0, 1),
    "self-map": _states_self_map,
    "monotone": lambda document, evidence, value, limit: value == evidence.mu and value > 0 and limit == 0,
}


def _named(norm: Norm) -> str:
    return norm.order if norm.weights is None else f"weighted {norm.order}"


def _shown(value: Any) -> str:
    return repr(float(value))


def _exceeds(what: str, own: Any, claimed: float) -> str:
    return f"evidence: the {what} could only be bounded by {_shown(own)}, the certificate claims {claimed!r}"
