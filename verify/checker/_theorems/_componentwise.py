"""T13 `componentwise`: a positive vector that the entrywise bound of all slopes shrinks, on a box that G keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
from flint import arb

from .. import _arithmetic as ball
from .._boxes import image
from .._document import Ball, Box, Document, Evidence, Norm
from .._gains import forward
from .._interval import Interval
from .._invariant_box import require_kept
from .._local import centre_of, moved, walk_over_ball, walk_over_box
from .._network import Walk
from .._refusal import Rejected
from .._subject import Subject
from .._values import Values
from .._vector_norm import full_weights
from ._base import Rule, exceeds, require, shown


def _componentwise(document: Document, evidence: Evidence, subject: Subject, norm: Norm) -> tuple[str, ...]:
    """`|M| x <= q x` for all slopes M, q < 1; in a ball also `||G(y) - c|| <= radius`, in a box the like."""
    _well_formed(document, evidence, norm)
    vector = _vector(evidence, subject)
    weights, constants = full_weights(norm, subject), Values(subject.graph, None, subject.free)
    weights = weights or [ball.full(1, shape) for shape in subject.shapes]
    _equivalent(evidence, [ball.times(x, w) for x, w in zip(vector, weights, strict=True)])
    region = document.region
    if region is None:
        walk = Walk(subject.graph, constants)
        require(evidence["image"] == 0, "evidence.image: must be 0 where the claim is global")
    elif isinstance(region, Box):
        walk = walk_over_box(subject, constants, region)
        require_kept(subject, constants, region, walk, evidence["image"])
    else:
        require([leaf.shape for leaf in region.center] == subject.shapes, "region.center: not the state's shape")
        walk = walk_over_ball(subject, constants, region, norm, weights)
        reach = _reach(subject, constants, region, walk, weights)
        require(bool(reach <= arb(evidence["image"])), exceeds("image of the box", reach, evidence["image"]))
        require(evidence["image"] <= region.radius, "evidence.image: the box is not mapped into itself")
    grown = forward(walk.network.sources, walk.outputs, vector)
    own = _largest([ball.array(a / x) for a, x in zip(grown, vector, strict=True)])
    require(bool(own <= arb(evidence["contraction"])), exceeds("growth of x", own, evidence["contraction"]))
    return (f"entry by entry |M| x <= {shown(own)} x for all slopes M",)


def _well_formed(document: Document, evidence: Evidence, norm: Norm) -> None:
    require(norm.order == "linf", "norm: theorem componentwise is about linf, weighted or not")
    require(document.kind != "contraction", "claim: theorem componentwise shows no contraction in the norm")
    require(document.rate is None, "rate: theorem componentwise gives none in the norm")
    require(0 <= evidence["contraction"] < 1, "evidence.contraction: must be in [0, 1)")
    if document.kind == "converges":
        require(0 < document.damping <= 1, "claim.iteration.damping: must be in (0, 1]")


def _vector(evidence: Evidence, subject: Subject) -> list[ball.Balls]:
    """x, in the leaves' full shapes."""
    arrays = evidence.arrays["vector"]
    require([part.shape for part in arrays] == subject.problem_shapes, "evidence.vector: not of one problem's shape")
    require(all(bool((part > 0).all()) for part in arrays), "evidence.vector: an entry is not positive")
    return full_weights(Norm("linf", arrays), subject) or []


def _equivalent(evidence: Evidence, products: list[ball.Balls]) -> None:
    """The products w x against the norms' constants."""
    size, inverse_size = (arb(evidence[name]) for name in ("size", "inverse_size"))
    inverses = [ball.array(arb(1) / part) for part in products]
    require(bool(_largest(inverses) <= size), "evidence.size: is below an entry of 1/(w x)")
    require(bool(_largest(products) <= inverse_size), "evidence.inverse_size: is below an entry of w x")
    factor = size * inverse_size / (1 - arb(evidence["contraction"]))
    require(bool(factor <= arb(evidence["factor"])), "evidence.factor: is below size inverse_size / (1 - contraction)")


def _reach(subject: Subject, constants: Values, region: Ball, walk: Walk, weights: list[ball.Balls]) -> Any:
    """Upper bound of `||G(y) - c||` over the box, entry by entry the better of two enclosures of G."""
    centre = centre_of(region)
    widths = [ball.array(arb(region.radius) / w) for w in weights]
    steps = zip(moved(subject, constants, centre), centre, strict=True)
    around = [ball.absolute(ball.array(g - c)) for g, c in steps]
    spread = forward(walk.network.sources, walk.outputs, widths)
    reach = [ball.array(a + b) for a, b in zip(around, spread, strict=True)]
    box: list[Interval | None] = [Interval(c, width) for c, width in zip(centre, widths, strict=True)]
    try:
        direct = image(subject.graph, constants, box)
    except Rejected:  # an operation that has a slope here and no range
        direct = []
    for number, part in enumerate(direct):
        if part is not None:
            low, high = part.ends
            c = centre[number]
            reach[number] = ball.each(
                lambda r, a, b: _smaller(r, abs(a).max(abs(b))),
                reach[number],
                ball.array(low - c),
                ball.array(high - c),
            )
    return _largest([ball.times(r, w) for r, w in zip(reach, weights, strict=True)])


def _smaller(a: Any, b: Any) -> Any:
    """The smaller of two upper bounds; the first where the second is no number."""
    return a.min(b) if b.is_finite() else a


def _largest(parts: list[ball.Balls]) -> Any:
    top = ball.largest(np.array([ball.largest(part) for part in parts], dtype=object)).upper()
    return top if top.is_finite() else arb.nan()  # which no comparison holds of


def _states_self_map(document: Document, evidence: Evidence, value: float, limit: float) -> bool:
    region = document.region
    within = (isinstance(region, Box) and limit == 0) or (isinstance(region, Ball) and limit == region.radius)
    return within and value == evidence["image"] and value <= limit


COMPONENTWISE = Rule(
    _componentwise,
    "componentwise",
    {
        "contraction": lambda _, evidence, value, limit: value == evidence["contraction"] and value < 1 and limit == 1,
        "self-map": _states_self_map,
    },
)
