"""T5 (a) `one_sided`: `<G(y) - G(z), y - z> <= m ||y - z||^2`, m < 1, and a constant of the damped iteration."""

from __future__ import annotations

from typing import Any

from flint import arb

from .. import _arithmetic as ball
from .._definite import lowest_eigenvalue
from .._derivative import slope_products
from .._document import Document, Evidence, Norm
from .._interval import Interval
from .._monotone import Layer, single_layer, weighted
from .._network import Walk
from .._subject import Subject
from .._values import Values
from .._vector_norm import flat_weights, full_weights
from ._base import Rule, global_constant, last_axis, named, rate_of_iteration, require, shown


def _one_sided(document: Document, evidence: Evidence, subject: Subject, norm: Norm) -> tuple[str, ...]:
    """`sqrt((1-b)^2 + 2b(1-b) mu + b^2 bound^2) <= rate` for 0 < b <= 1; sym(M) <= mu for all slopes M."""
    rate, mu, b = rate_of_iteration(document), arb(evidence["mu"]), arb(document.damping)
    require(document.region is None, "region: theorem one_sided speaks of the whole space")
    require(document.kind != "contraction", "claim: theorem one_sided does not show that G is a contraction")
    require(norm.order == "l2", "norm: theorem one_sided is about l2, weighted or not")
    require(bool(mu < 1), "evidence.mu: is not below 1")
    require(bool(1 / (1 - mu) <= arb(evidence["factor"])), "evidence.factor: is below 1 / (1 - mu)")
    if rate is not None:
        require(0 < document.damping <= 1, "claim.iteration.damping: must be in (0, 1]")
        square = (1 - b) ** 2 + 2 * b * (1 - b) * mu + (b * arb(evidence["bound"])) ** 2
        require(bool(square <= arb(rate) ** 2), "rate: it is below the damped iteration's constant")
    excess = _excess(subject, norm, evidence)
    require(bool(excess >= 0), f"evidence.mu: the inequality could only be shown up to {shown(excess)}")
    constant = global_constant(subject, norm, evidence)
    return (*constant, f"one-sided constant in {named(norm)} <= {evidence['mu']!r}")


def _excess(subject: Subject, norm: Norm, evidence: Evidence) -> Any:
    """A lower bound of the smallest eigenvalue of `mu I - sym(D M D^-1)` over all slopes M."""
    weights = full_weights(norm, subject)
    walk = Walk(subject.graph, Values(subject.graph, None, subject.free))
    mu, multiplier = arb(evidence["mu"]), arb(evidence["multiplier"])
    if evidence["multiplier"] > 0:
        layer = single_layer(walk.network, walk.outputs)
        return _layer_excess(weighted(layer, last_axis(weights, layer.weight.shape[0])), mu, multiplier)
    require(evidence["multiplier"] == 0, "evidence.multiplier: must not be negative")
    products, flat = slope_products(walk, subject), flat_weights(norm)
    scales = None if flat is None else ball.array(flat[:, None] / flat[None, :])
    least = arb.pos_inf()
    for middle, radius in zip(products.middle, products.radius, strict=True):
        part = Interval(middle, radius)
        if scales is not None:
            part = Interval(ball.times(middle, scales), ball.times(radius, scales))
        least = least.min(_matrix_excess(part, mu))
    return least


def _layer_excess(layer: Layer, mu: Any, t: Any) -> Any:
    """`x^T S V x <= x^T (c sym(V) + h/2 (t I + V^T V / t)) x` for slopes S within c +- h."""
    V = layer.weight
    centre, half = (layer.low + layer.high) / 2, (layer.high - layer.low) / 2
    squares = ball.times(ball.matrix_product(ball.array(V.T), V), half / (2 * t))
    H = ball.plus(ball.times(V + V.T, -centre / 2), -squares)
    return _shifted(H, mu - half * t / 2)


def _matrix_excess(M: Interval, mu: Any) -> Any:
    """With |M - middle| <= radius the symmetric part moves by at most its radius' largest row sum."""
    spread = ball.largest(ball.array(ball.array((M.radius + M.radius.T) / 2).sum(axis=1))).upper()
    return _shifted(ball.array((M.middle + M.middle.T) / -2), mu - spread)


def _shifted(H: ball.Balls, shift: Any) -> Any:
    """A lower bound of the smallest eigenvalue of `H + shift I`."""
    moved = H.copy()
    for i in range(len(moved)):
        moved[i, i] += shift
    return lowest_eigenvalue(moved) if ball.all_finite(moved) else arb.neg_inf()


ONE_SIDED = Rule(
    _one_sided,
    "one_sided",
    {
        "one-sided": lambda _, evidence, value, limit: value == evidence["mu"] and value < 1 and limit == 1,
        "damping": lambda document, _, value, limit: (
            document.kind == "converges" and value == document.damping and limit == 1
        ),
        "damped contraction": lambda document, _, value, limit: value == document.rate and value < 1 and limit == 1,
    },
)
