"""T2 `local_picard`: a constant of G on a ball, which G maps into itself."""

from __future__ import annotations

from typing import Any

from flint import arb

from .._blocks import applies, block_bound
from .._constant import Walks, constant_below
from .._document import Ball, Document, Evidence, Norm
from .._gains import Weights
from .._local import residual_bound, walk_over_ball
from .._network import Walk
from .._refusal import Rejected
from .._subject import Subject
from .._values import Values
from .._vector_norm import full_weights
from ._base import (
    Rule,
    chain_constant,
    damped,
    exceeds,
    named,
    rate_of,
    require,
    shown,
    states_contraction,
    states_damped,
)

_MANY_NODES = 512


def _local_picard(document: Document, evidence: Evidence, subject: Subject, norm: Norm) -> tuple[str, ...]:
    """T2: constant q < 1 on the ball, which G maps into itself."""
    rate, region = rate_of(document), document.region
    if not isinstance(region, Ball):
        raise Rejected("region: theorem local_picard speaks of a ball")
    require([leaf.shape for leaf in region.center] == subject.shapes, "region.center: not of the state's shape")
    require(evidence["bound"] <= rate, "rate: it is below the bound it rests on")
    room = (1 - arb(evidence["bound"])) * arb(region.radius)
    require(bool(arb(evidence["residual"]) <= room), "evidence.residual: exceeds (1 - bound) radius")
    if document.kind == "converges":
        require(0 < document.damping <= 1, "claim.iteration.damping: in a ball it must be in (0, 1]")
        factor = damped(document.damping, evidence["bound"])
        require(document.damping == 1 or bool(factor <= arb(rate)), "rate: it is below |1 - b| + |b| bound")
    weights, constants = full_weights(norm, subject), Values(subject.graph, None, subject.free)
    residual = residual_bound(subject, constants, region, norm, weights)
    require(
        bool(residual <= arb(evidence["residual"])),
        exceeds("residual ||G(c) - c||", residual, evidence["residual"]),
    )

    def walks(whose: Subject, gather: bool) -> Walk:
        return walk_over_ball(whose, constants, region, norm, weights, gather)

    return (
        *_constant(subject, norm, evidence, walks, weights, region.radius),
        f"residual ||G(c) - c|| <= {shown(residual)}, room (1 - q) r = {shown(room)}",
    )


def _constant(
    subject: Subject, norm: Norm, evidence: Evidence, walks: Walks, weights: Weights | None, radius: float
) -> tuple[str, ...]:
    """The bound on the ball of this radius."""
    if evidence.kind == "local_chain":
        return chain_constant(subject, norm, evidence, walks(subject, False))
    own = _smallest_constant(subject, norm, walks, weights, evidence["bound"])
    require(bool(own <= arb(evidence["bound"])), exceeds("Lipschitz constant on the ball", own, evidence["bound"]))
    return (f"constant on the ball of radius {radius!r} in {named(norm)}: <= {shown(own)}",)


def _smallest_constant(subject: Subject, norm: Norm, walks: Walks, weights: Weights | None, claimed: float) -> Any:
    """By products of norms or of slopes; for the nodes of one graph, where that is more than was claimed, by blocks."""
    if norm.order != "l2" or subject.graph.batch_dims:
        return constant_below(walks, subject, norm, weights, claimed)
    walk = walks(subject, False)
    sources, outputs = walk.network.sources, walk.outputs
    by_blocks = applies(sources, weights, subject.graph.batch_dims)
    if by_blocks and len(sources[0].shape) == 2 and sources[0].shape[0] >= _MANY_NODES:
        own = block_bound(sources, outputs[0], weights)  # norms of matrices that large take longer: they come last
        return own if bool(own <= arb(claimed)) else own.min(constant_below(walks, subject, norm, weights, claimed))
    own = constant_below(walks, subject, norm, weights, claimed)
    if by_blocks and not bool(own <= arb(claimed)):
        own = own.min(block_bound(sources, outputs[0], weights))
    return own


def _states_self_map(document: Document, evidence: Evidence, value: float, limit: float) -> bool:
    if not isinstance(document.region, Ball):
        return False
    room = (1 - arb(evidence["bound"])) * arb(document.region.radius)
    return value == evidence["residual"] and value <= limit and bool(arb(limit) <= room)


LOCAL_PICARD = Rule(
    _local_picard,
    "local",
    {
        "contraction": states_contraction,
        "damped contraction": states_damped,
        "self-map": _states_self_map,
        "damping": lambda document, _, value, limit: value == document.damping and limit == 1,
    },
)
LOCAL_PICARD_CHAIN = Rule(_local_picard, "local_chain", LOCAL_PICARD.hypotheses)
