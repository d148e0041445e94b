"""T2 `local_picard` in a box: a constant of G on a box, which G maps into itself."""

from __future__ import annotations

from flint import arb

from .._constant import constant_below
from .._document import Box, Document, Evidence, Norm
from .._invariant_box import require_kept
from .._local import walk_over_box
from .._network import Walk
from .._refusal import Rejected
from .._subject import Subject
from .._values import Values
from .._vector_norm import full_weights
from ._base import Rule, damped, exceeds, named, rate_of, require, shown, states_contraction, states_damped


def _boxed_picard(document: Document, evidence: Evidence, subject: Subject, norm: Norm) -> tuple[str, ...]:
    """T2: constant q < 1 on a closed convex set, which G maps into itself."""
    rate, region = rate_of(document), document.region
    if not isinstance(region, Box):
        raise Rejected("region: evidence of kind box speaks of a box")
    require(evidence["bound"] <= rate, "rate: it is below the bound it rests on")
    if document.kind == "converges":
        require(0 < document.damping <= 1, "claim.iteration.damping: in a box it must be in (0, 1]")
        factor = damped(document.damping, evidence["bound"])
        require(document.damping == 1 or bool(factor <= arb(rate)), "rate: it is below |1 - b| + |b| bound")
    weights, constants = full_weights(norm, subject), Values(subject.graph, None, subject.free)
    walk = walk_over_box(subject, constants, region)
    line = require_kept(subject, constants, region, walk, evidence["outside"])

    def walks(whose: Subject, gather: bool) -> Walk:
        return walk_over_box(whose, constants, region, gather)

    own = constant_below(walks, subject, norm, weights, evidence["bound"])
    require(bool(own <= arb(evidence["bound"])), exceeds("Lipschitz constant on the box", own, evidence["bound"]))
    return (f"constant on the box in {named(norm)}: <= {shown(own)}", line)


BOXED_PICARD = Rule(
    _boxed_picard,
    "box",
    {
        "contraction": states_contraction,
        "damped contraction": states_damped,
        "self-map": lambda _, evidence, value, limit: value == evidence["outside"] <= 0 == limit,
        "damping": lambda document, _, value, limit: value == document.damping and limit == 1,
    },
)
