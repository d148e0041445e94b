"""T11 `absorbing`: a box that `G^j` maps every state into, on which G contracts."""

from __future__ import annotations

from flint import arb

from .. import _arithmetic as ball
from .._boxes import inside, swept
from .._constant import constant_below
from .._decided import decided
from .._document import Document, Evidence, Norm
from .._interval import between
from .._network import Walk
from .._subject import Subject
from .._values import Values
from .._vector_norm import full_weights
from ._base import Rule, exceeds, named, require, shown

MOST_SWEEPS = 256


def _absorbing(document: Document, evidence: Evidence, subject: Subject, norm: Norm) -> tuple[str, ...]:
    """T11: every start is in the checker's own box after `sweeps` steps, and that box lies in [lower, upper]."""
    bound, sweeps = evidence["bound"], evidence.counts["sweeps"]
    require(document.region is None, "region: theorem absorbing speaks of the whole space")
    require(document.kind != "contraction", "claim: theorem absorbing shows no contraction everywhere")
    require(document.damping == 1, "claim.iteration.damping: theorem absorbing is about 1")
    require(document.rate is None, "rate: theorem absorbing gives none from every start")
    require(0 <= bound < 1, "evidence.bound: must be in [0, 1)")
    require(1 <= sweeps <= MOST_SWEEPS, f"evidence.sweeps: must be from 1 to {MOST_SWEEPS}")
    lower, upper = evidence.arrays["lower"], evidence.arrays["upper"]
    for several in (lower, upper):
        require([end.shape for end in several] == subject.shapes, "evidence: the box has not the state's shape")
    weights, constants = full_weights(norm, subject), Values(subject.graph, None, subject.free)
    own = swept(subject, constants, sweeps)
    box = []
    for part, low, high in zip(own, lower, upper, strict=True):
        ends = [ball.balls(end.reshape(-1).tolist(), end.shape) for end in (low, high)]
        require(inside(part, *ends), f"evidence: the box does not hold every state after {sweeps} steps")
        box.append(between(*ends))

    def walks(whose: Subject, gather: bool) -> Walk:
        return Walk(*decided(whose.graph, constants, box, whose.free), box, gather=gather)

    constant = constant_below(walks, subject, norm, weights, bound)
    require(bool(constant <= arb(bound)), exceeds("Lipschitz constant on the box", constant, bound))
    return (f"every start is in the box after {sweeps} steps; constant in {named(norm)} there: <= {shown(constant)}",)


ABSORBING = Rule(
    _absorbing,
    "absorbing",
    {"contraction": lambda _, evidence, value, limit: value == evidence["bound"] and value < 1 and limit == 1},
)
