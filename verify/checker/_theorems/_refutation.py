"""What the refutations share: no rate, a problem that exists, a box that lies in the region."""

from __future__ import annotations

from flint import arb

from .. import _arithmetic as ball
from .._document import Ball, Box, Document, Evidence, Norm
from .._local import centre_of, ends_of, require_fitting_box
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
    require_inside(document, subject, norm, problem, point, radius, strictly=True)


def require_inside(
    document: Document,
    subject: Subject,
    norm: Norm,
    problem: int,
    point: list[ball.Balls],
    radius: float,
    *,
    strictly: bool = False,
) -> None:
    """Every state within `radius` (linf) of the point lies in the region."""
    region = document.region
    if isinstance(region, Ball):
        require(_in_ball(region, subject, norm, problem, point, radius, strictly), _OUTSIDE)
    elif isinstance(region, Box):
        require(_in_box(region, subject, problem, point, radius, strictly), _OUTSIDE)


_OUTSIDE = "evidence: the witness is outside of the region, or not shown to lie inside the region"


def _in_ball(
    region: Ball, subject: Subject, norm: Norm, problem: int, point: list[ball.Balls], radius: float, strictly: bool
) -> bool:
    require([leaf.shape for leaf in region.center] == subject.shapes, "region.center: not of the state's shape")
    centre = centre_of(region)
    gaps = [ball.array(ball.absolute(ball.array(x - c)) + arb(radius)) for x, c in zip(point, centre, strict=True)]
    far = powers(norm, full_weights(norm, subject), gaps, subject.graph.batch_dims)[problem]
    limit = powered(norm, region.radius)
    return bool(far < limit) if strictly else bool(far <= limit)


def _in_box(
    region: Box, subject: Subject, problem: int, point: list[ball.Balls], radius: float, strictly: bool
) -> bool:
    require_fitting_box(region, subject)
    inside = []
    for x, (low, high) in zip(point, ends_of(region), strict=True):
        one = (x, low, high)
        if subject.graph.batch_dims:
            one = (x[problem], low[problem], high[problem])
        parts = (ball.array(part).reshape(-1) for part in one)
        for entry, a, b in zip(*parts, strict=True):
            below, above = entry - arb(radius), entry + arb(radius)
            inside.append(bool(below > a and above < b) if strictly else bool(below >= a and above <= b))
    return all(inside)
