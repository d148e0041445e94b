"""T12 `local_lyapunov`: a contraction in an ellipsoidal norm near an equilibrium, where G contracts in no plain one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from deqops._errors import InputError, UnsupportedOperationError

from .._evidence import Evidence
from .._lyapunov import Form, damped_slopes, lyapunov_numbers, proposed_form
from .._newton import LARGEST_INVERSES
from .._norm import Norm, finite
from .._problem import Problem
from .._region import Ball
from .._rounding import mul_down, mul_up, sub_down
from ._base import Finding, Hypothesis, Theorem, contraction

if TYPE_CHECKING:
    from .._request import Request

LARGEST = 2048  # unknowns of one problem


def local_lyapunov(problem: Problem, ball: Ball, damping: float, form: Form) -> Finding:
    """T12: `M^T P M <= q^2 P` on an ellipsoid around the l2 ball B(c, r), P = R^T R.

    With `||R^-1|| ||R (G(c) - c)|| <= (1 - q) r` the ellipsoid `E = {||R (y - c)|| <= ||R|| r}` contains the ball and
    is mapped into itself; its one equilibrium lies in the ball, and Picard's iteration converges to it from every
    start in E. For y in the ball `||y - y*||_2 <= ||R|| ||R^-1|| ||G(y) - y||_2 / (1 - q)`. With damping b all this is
    said of `(1-b) y + b G(y)`.

    Raises:
        UnsupportedOperationError: the operator has no Jacobian expression, or one too large to write out.
    """
    _refuse_large(problem)
    found = lyapunov_numbers(problem, ball, damping, form, problem.slack)
    room = float(mul_down(sub_down(1.0, found.contraction), ball.radius)) if found.contraction < 1 else 0.0
    moved = float(mul_up(found.inverse_size, found.defect))
    holds = finite(moved) and finite(found.factor) and bool(moved <= room)
    norm = Norm("l2")
    return Finding(
        "local_lyapunov",
        norm,
        Ball(ball.center, ball.radius, norm),
        Evidence(
            "lyapunov",
            {
                "defect": found.defect,
                "contraction": found.contraction,
                "size": found.size,
                "inverse_size": found.inverse_size,
                "factor": found.factor,
            },
            tensors={"form": (form.root,), "inverse": (form.inverse,)},
        ),
        None,
        (
            contraction(found.contraction),
            Hypothesis("self-map", "||R^-1|| ||R (G(c) - c)|| <= (1 - q) r", moved, room, holds),
        ),
        frozenset(range(len(problem.graph.inputs))),  # the defect takes every input's value
    )


def _refuse_large(problem: Problem) -> None:
    problems = problem.example[0].shape[0] if problem.batch_dims else 1
    if problem.size > LARGEST or problems * problem.size**2 > LARGEST_INVERSES:
        raise UnsupportedOperationError(
            "operator", f"has {problems} problems of {problem.size} unknowns: too many for quadratic norms"
        )


def _attempt(problem: Problem, request: Request) -> Iterator[Finding]:
    ball, damping = request.ball(problem), request.iteration_damping()
    if request.norm == "weighted_l2" or any(_is_weighted(norm) for norm in (request.norm, ball.norm)):
        raise InputError('norm: theorem "local_lyapunov" finds its own quadratic norm; give the ball in plain l2')
    _refuse_large(problem)
    form = proposed_form(damped_slopes(problem, ball.core(), damping).mid)
    yield local_lyapunov(problem, ball, damping, form)


def _is_weighted(norm: str | Norm | None) -> bool:
    return isinstance(norm, Norm) and (norm.weights is not None or norm.order != "l2")


LOCAL_LYAPUNOV = Theorem(
    name="local_lyapunov",
    number="T12",
    hypotheses=(("contraction", "q < 1"), ("self-map", "||R^-1|| ||R (G(c) - c)|| <= (1 - q) r")),
    guarantee="one equilibrium in B(c, r), reached from every start there; "
    "||y - y*|| <= ||R|| ||R^-1|| ||G(y) - y|| / (1 - q) for y in it",
    proof="local_lyapunov",
    source="Stein 1952; Banach's theorem in the norm of a quadratic Lyapunov function",
    claim="converges",
    region="ball",
    orders=("l2",),
    attempt=_attempt,
    residual_factor=lambda evidence: evidence.numbers["factor"],
    evidence=("lyapunov",),
    rated=False,
)
