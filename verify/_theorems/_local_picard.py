"""T2 `local_picard`: a constant q < 1 on a ball that G maps into itself; in a box: `_boxed_picard.py`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from deqops._errors import UnsupportedOperationError

from .._block_gain import ROOM as ROOM_OF_BLOCKS
from .._block_gain import block_gain, has_nodes, proposed_node_norm
from .._chain_gain import LARGEST_CHECKED, ROOM, chain_gain
from .._evidence import Evidence
from .._gains import lipschitz_gain
from .._jacobian import Jacobian
from .._local import local_jacobian
from .._norm import Norm, finite
from .._problem import Problem
from .._region import Ball, Box
from .._rounding import mul_down, mul_up, sub_down
from .._slope_norm import CERTIFIED, slope_norm, spread_norm
from ._base import Finding, Hypothesis, Theorem, contraction, damped_rate, inverse_gap
from ._boxed_picard import attempt_in_box

if TYPE_CHECKING:
    from .._request import Request


def local_picard(problem: Problem, norm: Norm, ball: Ball, damping: float = 1.0) -> Finding:
    """T2: constant q < 1 on B(c, r) and `||G(c) - c|| <= (1 - q) r`.

    Then G maps the ball into itself, has exactly one equilibrium in it, and Picard's iteration converges to it
    from every start there.
    """
    jacobian = local_jacobian(problem, ball, norm)
    gain = lipschitz_gain(jacobian, norm, problem.batch_dims)
    bound, parts = float(mul_up(gain.upper, problem.slack)), gain.contributions
    if norm.order == "l2" and not bound < 1:
        by_blocks = _bound_by_blocks(jacobian, norm, problem.batch_dims)
        bound, parts = (by_blocks, (("blocks", by_blocks),)) if by_blocks < bound else (bound, parts)
    around = spread_norm(jacobian, norm, problem.batch_dims, CERTIFIED)
    if around is not None:
        bound = min(bound, float(mul_up(around, problem.slack)))
    numbers = {"bound": bound, "residual": _residual(problem, norm, ball)}
    return _finding(problem, norm, ball, Evidence("local", numbers), damping, parts)


def _bound_by_blocks(jacobian: Jacobian, norm: Norm, batch_dims: int) -> float:
    """What may be published of the bound by `_block_gain.py`; infinity where it does not apply."""
    if not has_nodes(jacobian, batch_dims):
        return math.inf
    try:
        return float(mul_up(block_gain(jacobian, norm), ROOM_OF_BLOCKS))
    except UnsupportedOperationError:
        return math.inf


def local_picard_by_multipliers(problem: Problem, ball: Ball, damping: float = 1.0) -> Finding | None:
    """T2 in plain l2 with the constant of `_chain_gain.py`, multipliers in the evidence; None unless q < 1.

    Raises:
        UnsupportedOperationError: the operator has no Jacobian expression.
    """
    if problem.boxes:
        return None  # inputs in a box, for which the checker has no multipliers
    norm = Norm("l2")
    jacobian = local_jacobian(problem, ball, norm)
    gain = chain_gain(jacobian, problem.batch_dims, 1 / ROOM, LARGEST_CHECKED)
    if gain is None:
        return None
    numbers = {"bound": float(mul_up(gain.upper, ROOM)), "residual": _residual(problem, norm, ball)}
    evidence = Evidence("local_chain", numbers, tensors={"multipliers": gain.multipliers})
    parts = lipschitz_gain(jacobian, norm, problem.batch_dims).contributions
    return _finding(problem, norm, ball, evidence, damping, parts)


def node_norm(problem: Problem, request: Request, jacobian: Callable[[], Jacobian]) -> Norm | None:
    """The norm l2 with weights on nodes in which the Jacobian contracts, where norms may be chosen and there is one.

    Args:
        problem: the operator.
        request: what is asked.
        jacobian: makes the expression at the ball's centre.
    """
    if not request.may_weight_l2() or problem.batch_dims:
        return None
    try:
        at_center = jacobian()
        return proposed_node_norm(at_center) if has_nodes(at_center, problem.batch_dims) else None
    except UnsupportedOperationError:
        return None


def local_picard_by_slopes(problem: Problem, norm: Norm, ball: Ball, damping: float = 1.0) -> Finding | None:
    """T2 with the norm of the matrix of intervals that holds all slope products on the ball; None if too large."""
    found = slope_norm(local_jacobian(problem, ball, norm), norm, problem.batch_dims, CERTIFIED)
    if found is None:
        return None
    numbers = {"bound": float(mul_up(found, problem.slack)), "residual": _residual(problem, norm, ball)}
    return _finding(problem, norm, ball, Evidence("local", numbers), damping)


def _residual(problem: Problem, norm: Norm, ball: Ball) -> float:
    residuals = problem.residual(list(ball.leaves), norm)
    return float(mul_up(float(residuals.max()), problem.slack)) if residuals.numel() else 0.0


def _finding(
    problem: Problem,
    norm: Norm,
    ball: Ball,
    evidence: Evidence,
    damping: float,
    parts: tuple[tuple[str, float], ...] = (),
) -> Finding:
    bound, residual = evidence.numbers["bound"], evidence.numbers["residual"]
    room = float(mul_down(sub_down(1.0, bound), ball.radius)) if bound < 1 else 0.0
    statement = "||G(c) - c|| <= (1 - q) r"
    hypotheses: tuple[Hypothesis, ...] = (
        contraction(bound),
        Hypothesis("self-map", statement, residual, room, finite(residual) and bool(residual <= room)),
    )
    if damping != 1:
        allowed = 0 < damping <= 1
        hypotheses += (Hypothesis("damping", "0 < b <= 1 keeps the ball invariant", damping, 1.0, allowed),)
    region = Ball(ball.center, ball.radius, norm)
    used = frozenset(range(len(problem.graph.inputs)))  # the residual takes every input's value
    rate = bound if damping == 1 else damped_rate(bound, damping)
    return Finding("local_picard", norm, region, evidence, rate, hypotheses, used, parts)


def _attempt(problem: Problem, request: Request) -> Iterator[Finding]:
    if isinstance(request.region, Box):
        yield from attempt_in_box(problem, request)
        return
    ball = request.ball(problem)
    nearby: Callable[[], Jacobian] = lambda: local_jacobian(problem, ball, Norm("linf"))  # noqa: E731
    for norm in request.norms(problem, nearby):
        yield local_picard(problem, norm, ball, request.iteration_damping())
    fitted = node_norm(problem, request, nearby)
    if fitted is not None:
        yield local_picard(problem, fitted, ball, request.iteration_damping())
    if request.takes_plain_l2():
        found = local_picard_by_multipliers(problem, ball, request.iteration_damping())
        if found is not None:
            yield found
    for norm in request.norms_of_slopes(problem, lambda: local_jacobian(problem, ball, Norm("linf"))):
        found = local_picard_by_slopes(problem, norm, ball, request.iteration_damping())
        if found is not None:
            yield found


LOCAL_PICARD = Theorem(
    name="local_picard",
    number="T2",
    hypotheses=(
        ("contraction", "q < 1"),
        ("self-map", "||G(c) - c|| <= (1 - q) r"),
        ("damping", "0 < b <= 1 keeps the ball invariant"),
    ),
    guarantee="one equilibrium in B(c, r), or in a box that G maps into itself; T1's bounds for starts in it",
    proof="local_picard",
    source="Banach's theorem on a closed ball or box",
    region="local",
    attempt=_attempt,
    residual_factor=inverse_gap,
    evidence=("local", "local_chain", "box"),
)
