"""T1, powers: a product of 2^doublings slope matrices has a norm below 1."""

from __future__ import annotations

from typing import Any

import numpy as np
from flint import arb

from .. import _arithmetic as ball
from .._derivative import damped_slopes, largest_norm, slope_products
from .._document import Document, Evidence, Norm
from .._interval import Interval
from .._network import Walk
from .._subject import Subject
from .._values import Values
from .._vector_norm import flat_weights
from ._base import Rule, exceeds, named, require, shown

MOST_DOUBLINGS = 20


def _powers(document: Document, evidence: Evidence, subject: Subject, norm: Norm) -> tuple[str, ...]:
    """`||M_m ... M_1|| <= contraction < 1`, and what that makes of a residual."""
    q, doublings = evidence["contraction"], evidence.counts["doublings"]
    require(document.region is None, "region: theorem powers speaks of the whole space")
    require(document.kind != "contraction", "claim: theorem powers shows no contraction of G itself")
    require(document.rate is None, "rate: theorem powers gives none of a single step")
    require(document.damping != 0, "claim.iteration.damping: must not be 0")
    require(0 <= q < 1, "evidence.contraction: must be in [0, 1)")
    require(doublings <= MOST_DOUBLINGS, f"evidence.doublings: must be at most {MOST_DOUBLINGS}")
    walk, b = Walk(subject.graph, Values(subject.graph, None, subject.free)), arb(document.damping)
    product = damped_slopes(slope_products(walk, subject), b)
    total = _identity(product)
    for _ in range(doublings):
        total, product = _sum(total, _product(product, total)), _product(product, product)
    weights = flat_weights(norm)
    bound, spread = (largest_norm(each, norm.order, weights) for each in (product, total))
    require(bool(bound <= arb(q)), exceeds("constant of the power", bound, q))
    factor = (abs(b) * spread / (1 - arb(q))).upper()
    require(bool(factor <= arb(evidence["factor"])), exceeds("factor of the residual", factor, evidence["factor"]))
    return (f"constant of G^{2**doublings} in {named(norm)}: <= {shown(bound)}",)


def _identity(like: Interval) -> Interval:
    middle = ball.full(0, like.middle.shape)
    for k in range(middle.shape[-1]):
        middle[:, k, k] = arb(1)
    return Interval(middle, ball.full(0, middle.shape))


def _product(A: Interval, B: Interval) -> Interval:
    """|A B - mid A mid B| <= |mid A| rad B + rad A (|mid B| + rad B)."""
    size, spread = ball.absolute(A.middle), ball.array(ball.absolute(B.middle) + B.radius)
    radius = ball.array(_each(size, B.radius) + _each(A.radius, spread))
    return Interval(_each(A.middle, B.middle), radius)


def _sum(A: Interval, B: Interval) -> Interval:
    return Interval(ball.plus(A.middle, B.middle), ball.plus(A.radius, B.radius))


def _each(A: Any, B: Any) -> ball.Balls:
    return np.stack([ball.matrix_product(a, b) for a, b in zip(A, B, strict=True)])


POWERS = Rule(
    _powers,
    "powers",
    {"contraction": lambda _, evidence, value, limit: value == evidence["contraction"] and value < 1 and limit == 1},
)
