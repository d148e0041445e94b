"""T13 `componentwise` (Perov): differences shrink entry by entry, `|G(y) - G(z)| <= N |y - z|`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor

from deqops._errors import InputError

from .._claim import Claim, Converges, UniqueEquilibrium
from .._componentwise import equivalence, growth, image_radius, proposed_vector
from .._evidence import Evidence
from .._invariant_box import outside_bound
from .._jacobian import Jacobian
from .._local import local_jacobian
from .._norm import Norm, finite
from .._problem import Problem
from .._region import Ball, Box, Global, Region
from .._rounding import mul_up
from ._base import Finding, Hypothesis, Theorem, contraction, used_inputs
from ._boxed_picard import keeps_box

if TYPE_CHECKING:
    from .._request import Request


def componentwise(
    problem: Problem,
    norm: Norm,
    vector: tuple[Tensor, ...],
    jacobian: Jacobian,
    where: Ball | Box | None = None,
    damping: float = 1.0,
) -> Finding:
    """T13: `|G(y) - G(z)| <= N |y - z|` on a box S with G(S) in S, and N x <= q x for some x > 0, q < 1.

    Then there is one equilibrium in S, Picard's iteration converges to it from every start in S, and
    `|y - y*| <= (I - N)^-1 |G(y) - y|` entry by entry (`componentwise_error_bound`). In the norm it is
    `||y - y*|| <= kappa ||G(y) - y||`, `kappa = max w_i x_i max 1/(w_i x_i) / (1 - q)`. A damping in (0, 1] keeps S
    invariant and gives `1 - b + b N` for N; with another one only the one equilibrium is claimed.

    Args:
        problem: the operator.
        norm: linf with weights w, of the errors; a ball is one of this norm.
        vector: x, in the leaves' shapes for one problem.
        jacobian: with slopes that hold on S.
        where: S, None for the whole space.
        damping: b of the iteration asked about.
    """
    q = float(mul_up(growth(jacobian, vector, problem.batch_dims), problem.slack))
    same = equivalence(norm, vector, problem.slack)
    numbers = {
        "contraction": q,
        "size": same.size,
        "inverse_size": same.inverse_size,
        "factor": float(mul_up(same.factor(q), problem.slack)),
        "image": 0.0,
    }
    region: Region = Global()
    hypotheses: tuple[Hypothesis, ...] = (contraction(q, statement="N x <= q x with q < 1"),)
    if isinstance(where, Box):
        numbers["image"], region = outside_bound(problem, jacobian, where), where
        hypotheses += (keeps_box(numbers["image"]),)
    if isinstance(where, Ball):
        ball = where
        image = float(mul_up(image_radius(problem, jacobian, ball, norm), problem.slack))
        numbers["image"], region = image, Ball(ball.center, ball.radius, norm)
        holds = finite(image) and bool(image <= ball.radius)
        hypotheses += (Hypothesis("self-map", "||G(y) - c|| <= r on the box", image, ball.radius, holds),)
    claim: Claim = Converges(region, damping) if 0 < damping <= 1 else UniqueEquilibrium(region)
    return Finding(
        "componentwise",
        norm,
        region,
        Evidence("componentwise", numbers, tensors={"vector": vector}),
        None,
        hypotheses,
        used_inputs(problem) if where is None else frozenset(range(len(problem.graph.inputs))),
        claim=claim,
    )


def _attempt(problem: Problem, request: Request) -> Iterator[Finding]:
    request.check_weights(problem)
    if isinstance(request.region, Box):
        box = request.box(problem)
        jacobian = local_jacobian(problem, box, Norm("linf"))
        vector = proposed_vector(jacobian, problem.batch_dims)
        yield componentwise(problem, _norm(request.norm, vector), vector, jacobian, box, request.damping)
        return
    ball = request.ball(problem) if isinstance(request.region, Ball) else None
    given = request.norm if ball is None or ball.norm is None else ball.norm
    if isinstance(given, Norm) and given.order != "linf":
        raise InputError(f'norm: theorem "componentwise" is about boxes; give the Ball in linf, got {given.describe()}')
    if ball is None:
        vector = proposed_vector(problem.jacobian, problem.batch_dims)
        yield componentwise(problem, _norm(given, vector), vector, problem.jacobian, None, request.damping)
        return
    # In a box whose shape is left open, its shape is the vector's: proposed where slopes are those at the centre.
    at_center = local_jacobian(problem, ball.core(), Norm("linf"))
    norm = _norm(given, proposed_vector(at_center, problem.batch_dims))
    jacobian = local_jacobian(problem, ball, norm)
    vector = proposed_vector(jacobian, problem.batch_dims)
    yield componentwise(problem, norm, vector, jacobian, ball, request.damping)


def _norm(given: str | Norm, vector: tuple[Tensor, ...]) -> Norm:
    return given if isinstance(given, Norm) else Norm("linf", tuple(1 / x for x in vector))


COMPONENTWISE = Theorem(
    name="componentwise",
    number="T13",
    hypotheses=(("contraction", "N x <= q x with q < 1"), ("self-map", "G maps the box into itself")),
    guarantee="one equilibrium in the box, reached from every start there; |y - y*| <= (I - N)^-1 |G(y) - y|",
    proof="componentwise",
    source="Perov 1964; Ortega and Rheinboldt, Iterative Solution of Nonlinear Equations in Several Variables, 13.1",
    claim="converges",
    region="any",
    orders=("linf",),
    attempt=_attempt,
    residual_factor=lambda evidence: evidence.numbers["factor"],
    evidence=("componentwise",),
    rated=False,
)
