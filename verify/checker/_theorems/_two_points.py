"""T9 `refute`: two points that G does not bring closer."""

from __future__ import annotations

from .. import _arithmetic as ball
from .._document import Ball, Document, Evidence, Norm
from .._local import centre_of, moved
from .._subject import Subject
from .._values import Values
from .._vector_norm import full_weights, powered
from ._base import Rule, distances, named, point_of, require


def _two_points(document: Document, evidence: Evidence, subject: Subject, norm: Norm) -> tuple[str, ...]:
    """Two points that G does not bring closer: no q < 1 works."""
    require(document.kind == "contraction", "claim: two points refute only a contraction")
    require(document.rate is None and not document.hypotheses, "rate, hypotheses: a refutation has none")
    weights, constants = full_weights(norm, subject), Values(subject.graph, None, subject.free)
    first, second = (point_of(subject, point) for point in (evidence.arrays["first"], evidence.arrays["second"]))
    problems = subject.shapes[0][0] if subject.graph.batch_dims else 1
    require(evidence.counts["problem"] < problems, "evidence.problem: there is no such problem")
    if document.ball is not None:
        _require_inside(document.ball, subject, norm, weights, evidence.counts["problem"], first, second)
    images = (moved(subject, constants, point) for point in (first, second))
    after = distances(subject, norm, weights, *images)[evidence.counts["problem"]]
    before = distances(subject, norm, weights, first, second)[evidence.counts["problem"]]
    require(bool(before > 0), "evidence: the two points are the same")
    require(bool(after >= before), "evidence: G brings the two points closer, or nearly so")
    return (f"two points that G does not bring closer in {named(norm)} (problem {evidence.counts['problem']})",)


def _require_inside(
    region: Ball,
    subject: Subject,
    norm: Norm,
    weights: list[ball.Balls] | None,
    problem: int,
    *points: list[ball.Balls],
) -> None:
    require([leaf.shape for leaf in region.center] == subject.shapes, "region.center: not of the state's shape")
    limit = powered(norm, region.radius)
    for point in points:
        distance = distances(subject, norm, weights, point, centre_of(region))[problem]
        require(bool(distance <= limit), "evidence: a point lies outside the region")


TWO_POINTS = Rule(_two_points, "two_points")
