"""What the refutations share: no rate, a problem that exists, a box that lies in the region."""

from __future__ import annotations

from flint import arb

from .. import _arithmetic as ball
from .._document import Document, Evidence, Norm
from .._local import centre_of
from .._subject import Subject
from .._vector_norm import full_weights, powered, powers
from ._base import require


def require_plain(document: Document) -> None:
    """A refutation states no rate and no hypotheses."""
    require(document.rate is None and not document.hypotheses, "rate, hypotheses: a refutation has none")


def require_problem(evidence: Evidence, subject: Subject) -> int:
    """The number of the problem the witness is about."""
    problems = subject.shapes[0][0] if subject.graph.batch_dims else 1
    require(evidence.counts["problem"] < problems, "evidence.problem: there is no such problem")
    return evidence.counts["problem"]


def require_box_inside(
    document: Document, subject: Subject, norm: Norm, problem: int, point: list[ball.Balls], radius: float
) -> None:
    """Every state within `radius` (linf) of the point lies in the region, away from its boundary."""
    region = document.ball
    if region is None:
        return
    require([leaf.shape for leaf in region.center] == subject.shapes, "region.center: not of the state's shape")
    centre = centre_of(region)
    gaps = [ball.array(ball.absolute(ball.array(x - c)) + arb(radius)) for x, c in zip(point, centre, strict=True)]
    far = powers(norm, full_weights(norm, subject), gaps, subject.graph.batch_dims)[problem]
    require(bool(far < powered(norm, region.radius)), "evidence: the witness does not lie inside the region")
