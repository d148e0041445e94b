"""T12 `local_lyapunov`, and T1 in a quadratic norm: `||R N R^-1|| <= q < 1` for the slopes N, R a witness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from flint import arb

from .. import _arithmetic as ball
from .._derivative import damped_slopes, largest_norm, slope_products
from .._document import Ball, Document, Evidence, Norm
from .._interval import Interval
from .._local import centre_of, moved, walk_over_ball
from .._network import Walk
from .._refusal import Rejected
from .._spread import spread
from .._subject import Subject
from .._values import Values
from ._base import Rule, exceeds, matrices_of, require, shown


def _local_lyapunov(document: Document, evidence: Evidence, subject: Subject, norm: Norm) -> tuple[str, ...]:
    """T12: `E = {||R (y - c)|| <= ||R|| r}` contains the ball; its one equilibrium is in the ball."""
    region, form = _in_ball(document, evidence, subject, norm), _form(document, evidence, subject)
    constants = Values(subject.graph, None, subject.free)
    own = (abs(arb(document.damping)) * _defect(subject, constants, region, form.root)).upper()
    require(bool(own <= arb(evidence["defect"])), exceeds("defect ||R b (G(c) - c)||", own, evidence["defect"]))
    reach = _upper_float(arb(evidence["size"]) * arb(evidence["inverse_size"]) * arb(region.radius))
    walk = walk_over_ball(subject, constants, Ball(region.center, reach), norm, None)
    line = _shrinks(document, evidence, subject, form, walk)
    return (f"{line} on the ball of radius {reach!r}, which holds the ellipsoid", f"||R (G(c) - c)|| <= {shown(own)}")


def _quadratic(document: Document, evidence: Evidence, subject: Subject, norm: Norm) -> tuple[str, ...]:
    """T1 in the norm `||R y||_2`, everywhere."""
    _well_formed(document, evidence, norm)
    require(document.region is None, "region: theorem quadratic speaks of the whole space")
    form = _form(document, evidence, subject)
    walk = Walk(subject.graph, Values(subject.graph, None, subject.free))
    return (f"{_shrinks(document, evidence, subject, form, walk)} everywhere",)


@dataclass(frozen=True, eq=False)
class _Form:
    """R, S near its inverse, both (problems, n, n), and a bound of `||R S - I||`."""

    root: ball.Balls
    inverse: ball.Balls
    apart: Any


def _form(document: Document, evidence: Evidence, subject: Subject) -> _Form:
    """The witness with its stated sizes verified."""
    R, S = (matrices_of(evidence, name, subject) for name in ("form", "inverse"))
    apart = largest_norm(_exactly(_minus_identity(_products(R, S))), "l2", None)
    require(bool(apart < 1), "evidence.inverse: is not near the inverse of evidence.form")
    size = largest_norm(_exactly(R), "l2", None)
    inverse_size = (largest_norm(_exactly(S), "l2", None) / (1 - apart)).upper()
    require(bool(size <= arb(evidence["size"])), exceeds("norm of R", size, evidence["size"]))
    stated = evidence["inverse_size"]
    require(bool(inverse_size <= arb(stated)), exceeds("norm of R^-1", inverse_size, stated))
    condition = arb(evidence["size"]) * arb(stated)
    factor = (abs(arb(document.damping)) * condition / (1 - arb(evidence["contraction"]))).upper()
    require(bool(factor <= arb(evidence["factor"])), exceeds("factor of the residual", factor, evidence["factor"]))
    return _Form(R, S, apart)


def _shrinks(document: Document, evidence: Evidence, subject: Subject, form: _Form, walk: Walk) -> str:
    """`||R N R^-1|| <= contraction` for the slopes N of `(1-b) y + b G(y)`."""
    b = arb(document.damping)
    rate = _conjugated(form, damped_slopes(slope_products(walk, subject), b))
    if not rate <= arb(evidence["contraction"]):
        around = spread(walk, subject)
        away = abs(b) * arb(evidence["size"]) * arb(evidence["inverse_size"]) * around.deviation
        rate = rate.min(_conjugated(form, damped_slopes(_exactly(around.middle), b)) + away).upper()
    require(bool(rate <= arb(evidence["contraction"])), exceeds("norm of R N R^-1", rate, evidence["contraction"]))
    return f"||R N R^-1|| <= {shown(rate)}"


def _conjugated(form: _Form, matrices: Interval) -> Any:
    """An upper bound of `||R N R^-1||`."""
    middle = _products(_products(form.root, matrices.middle), form.inverse)
    radius = _products(_products(ball.absolute(form.root), matrices.radius), ball.absolute(form.inverse))
    return (largest_norm(Interval(middle, radius), "l2", None) / (1 - form.apart)).upper()


def _well_formed(document: Document, evidence: Evidence, norm: Norm) -> None:
    where = f"theorem {document.theorem}"
    require(norm.order == "l2" and norm.weights is None, f"norm: {where} states errors in plain l2")
    require(document.kind != "contraction", f"claim: {where} shows no contraction in l2")
    require(document.rate is None, f"rate: {where} gives none in l2")
    require(document.damping != 0, "claim.iteration.damping: must not be 0")
    require(0 <= evidence["contraction"] < 1, "evidence.contraction: must be in [0, 1)")


def _in_ball(document: Document, evidence: Evidence, subject: Subject, norm: Norm) -> Ball:
    _well_formed(document, evidence, norm)
    region = document.region
    if not isinstance(region, Ball):
        raise Rejected("region: theorem local_lyapunov speaks of a ball")
    require([leaf.shape for leaf in region.center] == subject.shapes, "region.center: not of the state's shape")
    moved_by = arb(evidence["inverse_size"]) * arb(evidence["defect"])
    room = (1 - arb(evidence["contraction"])) * arb(region.radius)
    require(bool(moved_by <= room), "evidence.defect: exceeds (1 - contraction) radius / inverse_size")
    return region


def _defect(subject: Subject, constants: Values, region: Ball, R: ball.Balls) -> Any:
    """An upper bound of `||R (G(c) - c)||_2` over all problems."""
    centre, problems = centre_of(region), len(R)
    both = zip(centre, moved(subject, constants, centre), strict=True)
    step = np.concatenate([ball.array(g - c).reshape(problems, -1) for c, g in both], axis=1)
    lengths = [ball.matmul(one, row) for one, row in zip(R, step, strict=True)]
    top = ball.largest(np.array([ball.total(ball.times(x, x)) for x in lengths], dtype=object))
    return ball.root_up(top)


def _products(A: ball.Balls, B: ball.Balls) -> ball.Balls:
    return np.stack([ball.matrix_product(a, b) for a, b in zip(A, B, strict=True)])


def _minus_identity(A: ball.Balls) -> ball.Balls:
    result = A.copy()
    for k in range(A.shape[-1]):
        result[:, k, k] -= 1
    return result


def _exactly(A: ball.Balls) -> Interval:
    return Interval(A, ball.full(0, A.shape))


def _upper_float(value: Any) -> float:
    """A float at least as large as a ball, and finite."""
    found = float(value.upper())
    while not bool(arb(found) >= value):
        found = float(np.nextafter(found, np.inf))
    require(found < float("inf"), "region.radius: the ellipsoid around the ball is too large")
    return found


def _states_self_map(document: Document, evidence: Evidence, value: float, limit: float) -> bool:
    if not isinstance(document.region, Ball):
        return False
    room = (1 - arb(evidence["contraction"])) * arb(document.region.radius)
    least = arb(evidence["inverse_size"]) * arb(evidence["defect"])
    return bool(least <= arb(value)) and value <= limit and bool(arb(limit) <= room)


LOCAL_LYAPUNOV = Rule(
    _local_lyapunov,
    "lyapunov",
    {
        "contraction": lambda _, evidence, value, limit: value == evidence["contraction"] and value < 1 and limit == 1,
        "self-map": _states_self_map,
    },
)
QUADRATIC = Rule(
    _quadratic,
    "quadratic",
    {
        "contraction": lambda _, evidence, value, limit: value == evidence["contraction"] and value < 1 and limit == 1,
        "equivalent norm": lambda _, evidence, value, limit: value == evidence["factor"] and value < limit,
    },
)
