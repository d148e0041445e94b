"""T1 in a quadratic norm `||R y||_2`: for affine maps, and nearly affine ones, of spectral radius below 1."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from deqops._errors import InputError, UnsupportedOperationError

from .._evidence import Evidence
from .._interval_jacobian import interval_jacobian
from .._lyapunov import Lyapunov, form_sizes, proposed_form, slopes_contraction
from .._norm import Norm
from .._powers import damped
from .._problem import Problem
from .._region import Global
from ._base import Finding, Hypothesis, Theorem, contraction, used_inputs

if TYPE_CHECKING:
    from .._request import Request

LARGEST = 2048
"""Unknowns of one problem up to which R is looked for."""
LARGEST_AUTO = 256
"""Unknowns up to which `theorem="auto"` looks for it."""
LARGEST_FACTOR = 1e15
"""A factor above it says nothing of any state in float64."""
_EQUIVALENT = "|b| ||R|| ||R^-1|| / (1 - q) is moderate"


def quadratic(problem: Problem, damping: float) -> Finding:
    """T1 in the norm `||R y||_2`, R found in floats: `||R N R^-1|| <= q < 1` for all slopes N of `(1-b) y + b G(y)`.

    Then there is one equilibrium, Picard's (damped) iteration converges to it from every start, and
    `||y - y*||_2 <= |b| ||R|| ||R^-1|| ||G(y) - y||_2 / (1 - q)`. Every affine map of spectral radius below 1 has such
    an R; where slopes differ from state to state, one R must do for all of them.

    Raises:
        UnsupportedOperationError: no Jacobian expression with slopes everywhere, or one too large to write out.
    """
    form = proposed_form(damped(interval_jacobian(problem.jacobian, problem.batch_dims), damping).mid)
    size, inverse_size = form_sizes(form, problem.slack)
    contraction_ = slopes_contraction(form, problem.jacobian, problem.batch_dims, damping, problem.slack)
    found = Lyapunov(0.0, contraction_, size, inverse_size, damping)
    numbers = {
        "contraction": found.contraction,
        "size": found.size,
        "inverse_size": found.inverse_size,
        "factor": found.factor,
    }
    return Finding(
        "quadratic",
        Norm("l2"),
        Global(),
        Evidence("quadratic", numbers, tensors={"form": (form.root,), "inverse": (form.inverse,)}),
        None,
        (
            contraction(found.contraction),
            Hypothesis("equivalent norm", _EQUIVALENT, found.factor, LARGEST_FACTOR, found.factor < LARGEST_FACTOR),
        ),
        used_inputs(problem),
    )


def _attempt(problem: Problem, request: Request) -> Iterator[Finding]:
    if request.norm == "weighted_l2" or (isinstance(request.norm, Norm) and request.norm.weights is not None):
        raise InputError('norm: theorem "quadratic" finds its own quadratic norm; leave the norm out, or say "l2"')
    largest = LARGEST_AUTO if request.theorem == "auto" else LARGEST
    if problem.size > largest:
        raise UnsupportedOperationError("operator", f"has {problem.size} unknowns: a norm is sought for {largest}")
    yield quadratic(problem, request.damping)


QUADRATIC = Theorem(
    name="quadratic",
    number="T1",
    hypotheses=(("contraction", "q < 1"), ("equivalent norm", _EQUIVALENT)),
    guarantee="one equilibrium, which Picard's iteration reaches from every start; "
    "||y - y*|| <= ||R|| ||R^-1|| ||G(y) - y|| / (1 - q)",
    proof=None,
    source="Stein 1952; Banach's theorem in an equivalent norm",
    claim="converges",
    orders=("l2",),
    attempt=_attempt,
    residual_factor=lambda evidence: evidence.numbers["factor"],
    evidence=("quadratic",),
    rated=False,
)
