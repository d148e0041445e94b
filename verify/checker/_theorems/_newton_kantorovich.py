"""T6 `newton_kantorovich`: `||A F(c)|| <= Y`, `||I - A DF|| <= Z < 1` over the ball, and `Y + Z r <= r`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from flint import arb

from .. import _arithmetic as ball
from .._derivative import largest_norm, slope_products
from .._document import Ball, Document, Evidence, Norm
from .._interval import Interval, exactly
from .._local import centre_of, moved, walk_over_ball
from .._refusal import Rejected
from .._spread import spread
from .._subject import Subject
from .._values import Values
from .._vector_norm import flat_weights, full_weights, powers
from .._vector_norm import largest_norm as largest_vector_norm
from ._base import Rule, exceeds, matrices_of, named, require, shown


def _newton(document: Document, evidence: Evidence, subject: Subject, norm: Norm) -> tuple[str, ...]:
    """T6 with F(y) = y - G(y): T(y) = y - A F(y) contracts by Z and maps the ball into itself."""
    region, defect, contraction = document.region, evidence["defect"], evidence["contraction"]
    if not isinstance(region, Ball):
        raise Rejected("region: theorem newton_kantorovich speaks of a ball")
    require([leaf.shape for leaf in region.center] == subject.shapes, "region.center: not of the state's shape")
    require(document.kind == "unique_equilibrium", "claim: theorem newton_kantorovich shows one equilibrium, no more")
    require(document.rate is None, "rate: theorem newton_kantorovich gives none")
    require(0 <= contraction < 1, "evidence.contraction: must be in [0, 1)")
    room = (1 - arb(contraction)) * arb(region.radius)
    require(bool(arb(defect) <= room), "evidence.defect: exceeds (1 - contraction) radius")
    inverse = matrices_of(evidence, "inverse", subject)
    weights, constants = full_weights(norm, subject), Values(subject.graph, None, subject.free)
    own = _defect(subject, constants, region, norm, weights, inverse)
    require(bool(own <= arb(defect)), exceeds("defect ||A F(c)||", own, defect))
    walk, flat = walk_over_ball(subject, constants, region, norm, weights), flat_weights(norm)
    rest = largest_norm(_rest(slope_products(walk, subject), inverse), norm.order, flat)
    size = largest_norm(exactly(inverse), norm.order, flat)
    if norm.order == "l2" and weights is None and not rest <= arb(contraction):
        around = spread(walk, subject)
        middle = largest_norm(_rest(exactly(around.middle), inverse), "l2", None)
        rest = rest.min(middle + size * around.deviation).upper()
    require(bool(rest <= arb(contraction)), exceeds("norm of I - A DF", rest, contraction))
    factor = (size / (1 - arb(contraction))).upper()
    require(bool(factor <= arb(evidence["factor"])), exceeds("factor of the residual", factor, evidence["factor"]))
    return (
        f"||I - A DF|| on the ball of radius {region.radius!r} in {named(norm)}: <= {shown(rest)}",
        f"||A F(c)|| <= {shown(own)}, room (1 - Z) r = {shown(room)}; ||y - y*|| <= {shown(factor)} ||G(y) - y||",
    )


def _defect(
    subject: Subject,
    constants: Values,
    region: Ball,
    norm: Norm,
    weights: list[ball.Balls] | None,
    inverse: ball.Balls,
) -> Any:
    """An upper bound of `||A (c - G(c))||` over all problems."""
    centre, problems = centre_of(region), len(inverse)
    both = zip(centre, moved(subject, constants, centre), strict=True)
    gap = np.concatenate([ball.array(c - g).reshape(problems, -1) for c, g in both], axis=1)
    steps = np.stack([ball.matmul(A, F) for A, F in zip(inverse, gap, strict=True)])
    ends = np.cumsum([math.prod(shape) for shape in subject.problem_shapes])[:-1]
    parts = zip(np.split(steps, ends, axis=1), subject.shapes, strict=True)
    leaves = [part.reshape(shape) for part, shape in parts]
    return largest_vector_norm(norm, powers(norm, weights, leaves, subject.graph.batch_dims))


def _rest(products: Interval, inverse: ball.Balls) -> Interval:
    """`I - A (I - M)` for all slope products M: the middle's own, and `|A| radius`."""
    identity = ball.full(0, inverse.shape[1:])
    for k in range(len(identity)):
        identity[k, k] = arb(1)
    pairs = list(zip(inverse, products.middle, products.radius, strict=True))
    middle = np.stack([ball.array(identity - ball.matrix_product(A, ball.array(identity - m))) for A, m, _ in pairs])
    radius = np.stack([ball.matrix_product(ball.absolute(A), r) for A, _, r in pairs])
    return Interval(middle, radius)


def _states_self_map(document: Document, evidence: Evidence, value: float, limit: float) -> bool:
    if not isinstance(document.region, Ball):
        return False
    room = (1 - arb(evidence["contraction"])) * arb(document.region.radius)
    return value == evidence["defect"] and value <= limit and bool(arb(limit) <= room)


NEWTON_KANTOROVICH = Rule(
    _newton,
    "newton",
    {
        "contraction": lambda _, evidence, value, limit: value == evidence["contraction"] and value < 1 and limit == 1,
        "self-map": _states_self_map,
    },
)
