"""What the rules share: evidence and conditions, and what a rule returns.

Every number is derived anew from the graph; the certificate's own numbers only have to be at least as large,
and to imply the claim. All comparisons are between balls, true only when certain, and refuse NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flint import arb

from .. import _arithmetic as ball
from .._chain import require_chain
from .._constant import constant_below
from .._document import Ball, Document, Evidence, Norm
from .._local import centre_of
from .._network import Walk
from .._refusal import Rejected
from .._subject import Subject
from .._values import Values
from .._vector_norm import full_weights, powers

Agrees = Callable[[Document, Evidence, float, float], bool]


@dataclass(frozen=True)
class Rule:
    """How one theorem's certificates are verified.

    Attributes:
        establish: proves the claim from scratch and returns what was established; raises `Rejected`.
        kind: of the evidence it needs.
        hypotheses: the conditions that its certificates may state, each with the test that the stated value and
            limit agree with the evidence.
    """

    establish: Callable[[Document, Evidence, Subject, Norm], tuple[str, ...]]
    kind: str
    hypotheses: dict[str, Agrees] = field(default_factory=dict)


def require(condition: bool, reason: str) -> None:
    """Reject for this reason unless the condition holds."""
    if not condition:
        raise Rejected(reason)


def rate_of(document: Document) -> float:
    """The certificate's rate, in [0, 1)."""
    if document.rate is None or not 0 <= document.rate < 1:
        raise Rejected(f"rate: {document.rate} is not in [0, 1)")
    return document.rate


def rate_of_iteration(document: Document) -> float | None:
    """The rate of a claim that an iteration converges, in [0, 1); a claim about the equilibrium alone states none."""
    if document.kind == "converges":
        return rate_of(document)
    require(document.rate is None, "rate: it is that of an iteration, and the claim is about none")
    return None


def damped(damping: float, bound: float) -> Any:
    """|1 - b| + |b| q."""
    b = arb(damping)
    return abs(1 - b) + abs(b) * arb(bound)


def global_constant(subject: Subject, norm: Norm, evidence: Evidence) -> tuple[str, ...]:
    """The bound that holds everywhere, derived anew."""
    weights, claimed = full_weights(norm, subject), evidence["bound"]
    constants = Values(subject.graph, None, subject.free)

    def walks(whose: Subject, gather: bool) -> Walk:
        return Walk(whose.graph, constants, gather=gather)

    own = constant_below(walks, subject, norm, weights, claimed)
    require(bool(own <= arb(claimed)), exceeds("Lipschitz constant", own, claimed))
    return (f"constant of G in {named(norm)}: <= {shown(own)}, the certificate claims {claimed!r}",)


def chain_constant(subject: Subject, norm: Norm, evidence: Evidence, walk: Walk) -> tuple[str, ...]:
    """The bound, from the evidence's multipliers."""
    require(norm.order == "l2" and norm.weights is None, "norm: multipliers are about plain l2")
    bound = evidence["bound"]
    looked_at = require_chain(walk, subject, evidence.arrays["multipliers"], bound)
    return (f"constant in l2: <= {bound!r} by the multipliers, {looked_at} matrices shown to be semidefinite",)


def point_of(subject: Subject, leaves: tuple[Any, ...]) -> list[ball.Balls]:
    """A witness's point, leaf by leaf."""
    require([leaf.shape for leaf in leaves] == subject.shapes, "evidence: a point is not of the state's shape")
    return centre_of(Ball(leaves, 0.0))


def matrices_of(evidence: Evidence, name: str, subject: Subject) -> ball.Balls:
    """A witness of matrices over the unknowns of one problem, (problems, n, n)."""
    unknowns = sum(math.prod(shape) for shape in subject.problem_shapes)
    problems = subject.shapes[0][0] if subject.graph.batch_dims else 1
    arrays = evidence.arrays[name]
    require(
        [array.shape for array in arrays] == [(problems, unknowns, unknowns)],
        f"evidence.{name}: must be one array (problems, n, n)",
    )
    return ball.balls(arrays[0].reshape(-1).tolist(), arrays[0].shape)


def distances(
    subject: Subject, norm: Norm, weights: list[ball.Balls] | None, a: list[ball.Balls], b: list[ball.Balls]
) -> list[Any]:
    """The norm of the difference of two points, of each problem as a power (`powers`)."""
    gaps = [ball.array(x - y) for x, y in zip(a, b, strict=True)]
    return powers(norm, weights, gaps, subject.graph.batch_dims)


def last_axis(weights: list[ball.Balls] | None, size: int) -> ball.Balls | None:
    """The weights along the last dimension, where they vary along no other."""
    if weights is None:
        return None
    rows = weights[0].reshape(-1, size)
    require(bool((rows == rows[0]).all()), "norm.weights: must vary along the last dimension only")
    return np.asarray(rows[0])


def named(norm: Norm) -> str:
    """The norm in words."""
    return norm.order if norm.weights is None else f"weighted {norm.order}"


def shown(value: Any) -> str:
    """A number near the value, for messages."""
    return repr(float(value))


def exceeds(what: str, own: Any, claimed: float) -> str:
    """The reason for rejecting a claim that is below the checker's own bound."""
    return f"evidence: the {what} could only be bounded by {shown(own)}, the certificate claims {claimed!r}"


def states_contraction(_: Document, evidence: Evidence, value: float, limit: float) -> bool:
    """The stated value is the bound, and below 1."""
    return value == evidence["bound"] and value < 1 and limit == 1


def states_damped(document: Document, evidence: Evidence, value: float, limit: float) -> bool:
    """The stated value is at least |1 - b| + |b| q, and below 1."""
    return bool(damped(document.damping, evidence["bound"]) <= arb(value)) and value < 1 and limit == 1
