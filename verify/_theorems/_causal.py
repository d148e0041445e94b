"""T8 `causal`: no component waits for itself, so that Picard's iteration ends after finitely many sweeps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from deqops._errors import UnsupportedOperationError

from .._claim import Claim, Converges, UniqueEquilibrium
from .._evidence import Evidence
from .._levels import levels
from .._norm import Norm
from .._problem import Problem
from .._region import Global
from ._base import Finding, Hypothesis, Theorem

if TYPE_CHECKING:
    from .._request import Request

LARGEST_AUTO = 2048
"""Components of one problem up to which `theorem="auto"` tries T8; asked for by name it has no limit."""


def causal(problem: Problem, norm: Norm, damping: float = 1.0) -> Finding:
    """T8: the dependences of G's components, followed through the graph, have no cycle.

    A component of level n depends only on components of levels < n, so n sweeps of Picard's iteration make it final,
    from any start: `depth` sweeps, the number of levels, reach the one equilibrium, whatever q, in exact arithmetic.
    A damped iteration does not end, so that only the one equilibrium is claimed then. No norm is involved and no
    error is bounded by a residual; the certificate's norm only measures distances.

    Raises:
        UnsupportedOperationError: an operation whose dependences are not understood, by name.
    """
    found = levels(problem)
    statement = "components on or behind a cycle of dependences = 0"
    claim: Claim = Converges(Global()) if damping == 1 else UniqueEquilibrium(Global())
    return Finding(
        "causal",
        norm,
        Global(),
        Evidence("causal", counts={"depth": found.depth}, tensors={"levels": found.leaves}),
        None,
        (
            Hypothesis("acyclic", statement, float(found.left), 0.0, found.left == 0),
            Hypothesis("sweeps", "depth <= N", float(found.depth), float(problem.size), found.depth <= problem.size),
        ),
        found.inputs,
        claim=claim,
    )


def _attempt(problem: Problem, request: Request) -> Iterator[Finding]:
    """Once: the structure is the same in every norm."""
    if request.theorem == "auto" and problem.size > LARGEST_AUTO:
        reason = f"has more than {LARGEST_AUTO} components: ask for theorem causal by name"
        raise UnsupportedOperationError("operator", reason)
    request.check_weights(problem)
    yield causal(problem, request.default_norm(), request.damping)


CAUSAL = Theorem(
    name="causal",
    number="T8",
    hypotheses=(("acyclic", "components on or behind a cycle of dependences = 0"), ("sweeps", "depth <= N")),
    guarantee="one equilibrium, which Picard's iteration reaches from every start in `depth` sweeps, exactly",
    proof="causal_ends",
    source="substitution along a topological order; Song, Meng, Liao and Ermon, ICML 2021 (Jacobi decoding)",
    claim="converges",
    attempt=_attempt,
    residual_factor=lambda _: math.inf,
    evidence=("causal",),
    rated=False,
)
