"""T5 (c, d) `monotone`: `sym((I - a W)^T P (I - b W)) >= mu P` for one layer."""

from __future__ import annotations

import math

from flint import arb

from .._document import Document, Evidence, Norm
from .._monotone import excess, residual_factor, single_layer, weighted
from .._network import Walk
from .._subject import Subject
from .._values import Values
from .._vector_norm import full_weights
from ._base import Rule, exceeds, last_axis, named, require, shown


def _monotone(document: Document, evidence: Evidence, subject: Subject, norm: Norm) -> tuple[str, ...]:
    """T5 (c, d): `sym((I - a W)^T P (I - b W)) >= mu P` with mu > 0 gives one equilibrium and the error's factor."""
    require(document.region is None, "region: theorem monotone speaks of the whole space")
    require(document.kind == "unique_equilibrium", "claim: theorem monotone shows a unique equilibrium, no more")
    require(document.rate is None, "rate: theorem monotone gives none")
    require(norm.order == "l2", "norm: theorem monotone is about l2, weighted or not")
    require(0 < evidence["mu"] < math.inf, "evidence.mu: must be positive")
    walk = Walk(subject.graph, Values(subject.graph, None, subject.free))
    layer = single_layer(walk.network, walk.outputs)
    layer = weighted(layer, last_axis(full_weights(norm, subject), layer.weight.shape[0]))
    least = excess(layer, evidence["mu"])
    require(bool(least >= 0), f"evidence.mu: the inequality could only be shown up to {shown(least)}")
    factor = residual_factor(layer, evidence["mu"])
    require(bool(factor <= arb(evidence["factor"])), exceeds("factor of the residual", factor, evidence["factor"]))
    return (f"monotone in {named(norm)} with mu >= {evidence['mu']!r}, ||y - y*|| <= {shown(factor)} ||G(y) - y||",)


MONOTONE = Rule(
    _monotone,
    "monotone",
    {"monotone": lambda _, evidence, value, limit: value == evidence["mu"] and value > 0 and limit == 0},
)
