"""T5 (c, d) `monotone`: one layer whose matrix satisfies an inequality, where G need not contract."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from deqops._errors import UnsupportedOperationError

from .._claim import UniqueEquilibrium
from .._evidence import Evidence
from .._monotone import Layer, Monotonicity, last_axis_weights, monotonicity, single_layer
from .._monotone_weights import LARGEST_SEARCHED, proposed_weights
from .._norm import Norm
from .._problem import Problem
from .._region import Global
from ._base import Finding, Hypothesis, Theorem, used_inputs

if TYPE_CHECKING:
    from .._request import Request


def monotone(problem: Problem, layer: Layer, norm: Norm) -> Finding:
    """T5 (c, d): `G(z) = s(W z + c)` with slopes in [a, b] and `sym((I - a W)^T P (I - b W)) >= mu P`, mu > 0.

    Then there is exactly one equilibrium, for every c, and `||y - y*||_P <= factor ||G(y) - y||_P`. It says nothing
    of Picard's iteration. P is the square of the norm's weights, constant along all dimensions but the last.
    """
    weights = last_axis_weights(norm, layer.weight.shape[0])
    found = Monotonicity(-math.inf, math.inf) if weights is None else monotonicity(layer, weights)
    holds = found.mu > 0 and math.isfinite(found.factor)
    return Finding(
        "monotone",
        norm,
        Global(),
        Evidence("monotone", {"mu": found.mu, "factor": found.factor}),
        None,
        (Hypothesis("monotone", "mu > 0", found.mu, 0.0, holds),),
        used_inputs(problem),
        claim=UniqueEquilibrium(Global()),
    )


def _attempt(problem: Problem, request: Request) -> Iterator[Finding]:
    """In plain l2, then in l2 with proposed weights."""
    layer, wanted = single_layer(problem.jacobian), request.norm
    if layer is None:
        raise UnsupportedOperationError("operator", "theorem monotone needs the form s(W z + c)")
    if isinstance(wanted, Norm):
        request.check_weights(problem)
        yield monotone(problem, layer, wanted)
        return
    if wanted != "weighted_l2":
        yield monotone(problem, layer, Norm("l2"))
    if wanted != "l2" and layer.weight.shape[0] <= LARGEST_SEARCHED:
        proposal = proposed_weights(layer.weight.mid, float(layer.lower.mid), float(layer.upper.mid))
        weights = proposal.expand(problem.problem_shapes[0]).clone()
        yield monotone(problem, layer, Norm("l2", (weights,)))


MONOTONE = Theorem(
    name="monotone",
    number="T5",
    hypotheses=(("monotone", "mu > 0"),),
    guarantee="one equilibrium for every c; ||y - y*||_P <= ||2 I - (a + b) W||_P ||G(y) - y||_P / mu",
    proof="slope_wellposed",
    source="Winston and Kolter, NeurIPS 2020; Revay, Wang and Manchester 2020",
    claim="unique_equilibrium",
    orders=("l2",),
    attempt=_attempt,
    residual_factor=lambda evidence: evidence.numbers["factor"],
    evidence=("monotone",),
    rated=False,
)
