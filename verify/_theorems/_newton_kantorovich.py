"""T6 `newton_kantorovich`: one equilibrium in a ball, where the Newton map of an approximate inverse contracts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from deqops._errors import UnsupportedOperationError

from .._claim import UniqueEquilibrium
from .._evidence import Evidence
from .._local import local_jacobian
from .._newton import LARGEST, LARGEST_INVERSES, newton_numbers
from .._norm import Norm, finite
from .._problem import Problem
from .._region import Ball
from .._rounding import mul_down, sub_down
from ._base import Finding, Hypothesis, Theorem, contraction

if TYPE_CHECKING:
    from .._request import Request


def newton_kantorovich(problem: Problem, norm: Norm, ball: Ball) -> Finding:
    """T6: `Y >= ||A (c - G(c))||`, `Z >= ||I - A (I - M)||` for all slope products M over B(c, r).

    With Z < 1 and Y + Z r <= r there is exactly one equilibrium in B(c, r), and for every y in the ball
    `||y - y*|| <= ||A|| ||G(y) - y|| / (1 - Z)`, since `y - y* = A F(y) + (I - A (I - M)) (y - y*)` for one of the M.
    A, found in floats, is a witness: Z < 1 makes it invertible. Nothing is said of Picard's iteration.

    Raises:
        UnsupportedOperationError: the operator has no Jacobian expression, or one too large to write out.
    """
    _refuse_large(problem)
    found = newton_numbers(problem, norm, ball, problem.slack)
    room = float(mul_down(sub_down(1.0, found.contraction), ball.radius)) if found.contraction < 1 else 0.0
    holds = finite(found.defect) and finite(found.factor) and bool(found.defect <= room)
    region = Ball(ball.center, ball.radius, norm)
    return Finding(
        "newton_kantorovich",
        norm,
        region,
        Evidence(
            "newton",
            {"defect": found.defect, "contraction": found.contraction, "factor": found.factor},
            tensors={"inverse": (found.inverse,)},
        ),
        None,
        (
            contraction(found.contraction, statement="Z < 1"),
            Hypothesis("self-map", "Y + Z r <= r", found.defect, room, holds),
        ),
        frozenset(range(len(problem.graph.inputs))),  # F(c) takes every input's value
        claim=UniqueEquilibrium(region),
    )


def _refuse_large(problem: Problem) -> None:
    problems = problem.example[0].shape[0] if problem.batch_dims else 1
    if problem.size > LARGEST or problems * problem.size**2 > LARGEST_INVERSES:
        raise UnsupportedOperationError(
            "operator", f"has {problems} problems of {problem.size} unknowns: too many for approximate inverses"
        )


def _attempt(problem: Problem, request: Request) -> Iterator[Finding]:
    ball = request.ball(problem)
    for norm in request.plain_norms(problem, lambda: local_jacobian(problem, ball, Norm("linf"))):
        yield newton_kantorovich(problem, norm, ball)


NEWTON_KANTOROVICH = Theorem(
    name="newton_kantorovich",
    number="T6",
    hypotheses=(("contraction", "Z < 1"), ("self-map", "Y + Z r <= r")),
    guarantee="one equilibrium in B(c, r); ||y - y*|| <= ||A|| ||G(y) - y|| / (1 - Z) for y in it",
    proof="newton_kantorovich",
    source="Kantorovich 1948; radii form: Krawczyk 1969, Rump 1983",
    claim="unique_equilibrium",
    region="ball",
    attempt=_attempt,
    residual_factor=lambda evidence: evidence.numbers["factor"],
    evidence=("newton",),
    rated=False,
)
