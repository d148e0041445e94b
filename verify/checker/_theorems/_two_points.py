"""T9 `refute`: two points that G does not bring closer."""

from __future__ import annotations

from .._document import Document, Evidence, Norm
from .._local import moved
from .._subject import Subject
from .._values import Values
from .._vector_norm import full_weights
from ._base import Rule, distances, named, point_of, require
from ._refutation import require_inside


def _two_points(document: Document, evidence: Evidence, subject: Subject, norm: Norm) -> tuple[str, ...]:
    """Two points that G does not bring closer: no q < 1 works."""
    require(document.kind == "contraction", "claim: two points refute only a contraction")
    require(document.rate is None and not document.hypotheses, "rate, hypotheses: a refutation has none")
    weights, constants = full_weights(norm, subject), Values(subject.graph, None, subject.free)
    first, second = (point_of(subject, point) for point in (evidence.arrays["first"], evidence.arrays["second"]))
    problems = subject.shapes[0][0] if subject.graph.batch_dims else 1
    require(evidence.counts["problem"] < problems, "evidence.problem: there is no such problem")
    for point in (first, second):
        require_inside(document, subject, norm, evidence.counts["problem"], point, 0.0)
    images = (moved(subject, constants, point) for point in (first, second))
    after = distances(subject, norm, weights, *images)[evidence.counts["problem"]]
    before = distances(subject, norm, weights, first, second)[evidence.counts["problem"]]
    require(bool(before > 0), "evidence: the two points are the same")
    require(bool(after >= before), "evidence: G brings the two points closer, or nearly so")
    return (f"two points that G does not bring closer in {named(norm)} (problem {evidence.counts['problem']})",)


TWO_POINTS = Rule(_two_points, "two_points")
