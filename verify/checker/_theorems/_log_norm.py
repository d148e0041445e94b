"""T5 (b) `log_norm`: the logarithmic norm of `s(W z + c)` over all slopes is below 1."""

from __future__ import annotations

from typing import Any

from flint import arb

from .. import _arithmetic as ball
from .._document import Document, Evidence, Norm
from .._monotone import Layer, single_layer
from .._network import Walk
from .._subject import Subject
from .._values import Values
from .._vector_norm import full_weights
from ._base import Rule, exceeds, last_axis, named, rate_of_iteration, require, shown


def _log_norm(document: Document, evidence: Evidence, subject: Subject, norm: Norm) -> tuple[str, ...]:
    """`mu(S W) <= mu < 1`, `S_ii W_ii >= least`; `1 - b (1 - mu) <= rate` for `0 < b <= 1 / (1 - least)`."""
    rate = rate_of_iteration(document)
    require(document.region is None, "region: theorem log_norm speaks of the whole space")
    require(document.kind != "contraction", "claim: theorem log_norm does not show that G is a contraction")
    require(norm.order in ("l1", "linf"), "norm: theorem log_norm is about l1 and linf, weighted or not")
    mu, least, b = arb(evidence["mu"]), arb(evidence["least"]), arb(document.damping)
    require(bool(mu < 1), "evidence.mu: is not below 1")
    require(bool(1 / (1 - mu) <= arb(evidence["factor"])), "evidence.factor: is below 1 / (1 - mu)")
    if rate is not None:
        require(bool(b > 0) and bool(b * (1 - least) <= 1), "claim.iteration.damping: exceeds 1 / (1 - least)")
        require(bool(1 - b * (1 - mu) <= arb(rate)), "rate: it is below 1 - b (1 - mu)")
    layer = single_layer(*_network(subject))
    weights = last_axis(full_weights(norm, subject), layer.weight.shape[0])
    own, smallest = _bounds(layer, norm.order, weights)
    require(bool(own <= mu), exceeds("logarithmic norm", own, evidence["mu"]))
    require(bool(smallest >= least), f"evidence.least: the diagonal could only be bounded by {shown(smallest)}")
    return (f"logarithmic norm in {named(norm)} <= {shown(own)}, diagonal >= {shown(smallest)}",)


def _network(subject: Subject) -> tuple[Any, Any]:
    walk = Walk(subject.graph, Values(subject.graph, None, subject.free))
    return walk.network, walk.outputs


def _bounds(layer: Layer, order: str, weights: ball.Balls | None) -> tuple[Any, Any]:
    """An upper bound of the logarithmic norm and a lower one of the diagonal."""
    n = layer.weight.shape[0]
    top, smallest = arb.neg_inf(), arb.pos_inf()
    for i in range(n):
        ends = [layer.low * layer.weight[i, i], layer.high * layer.weight[i, i]]
        smallest = smallest.min(ends[0]).min(ends[1])
        others = [j for j in range(n) if j != i]
        if order == "linf":
            apart = sum((_share(layer, weights, i, j) for j in others), arb(0))
            candidates = [end + abs(slope) * apart for end, slope in zip(ends, (layer.low, layer.high), strict=True)]
        else:
            apart = sum((_share(layer, weights, j, i) for j in others), arb(0))
            candidates = [end + abs(layer.low).max(abs(layer.high)) * apart for end in ends]
        top = top.max(candidates[0]).max(candidates[1])
    return top.upper(), smallest.lower()


def _share(layer: Layer, weights: ball.Balls | None, i: int, j: int) -> Any:
    """`|W_ij| w_i / w_j`."""
    entry = abs(layer.weight[i, j])
    return entry if weights is None else entry * weights[i] / weights[j]


LOG_NORM = Rule(
    _log_norm,
    "log_norm",
    {
        "logarithmic norm": lambda _, evidence, value, limit: value == evidence["mu"] and value < 1 and limit == 1,
        "damping": lambda document, evidence, value, limit: (
            document.kind == "converges"
            and value == document.damping
            and value <= limit
            and bool(arb(limit) * (1 - arb(evidence["least"])) <= 1)
        ),
        "damped contraction": lambda document, _, value, limit: value == document.rate and value < 1 and limit == 1,
    },
)
