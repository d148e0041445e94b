"""T4 `damped` where q = 1 (Krasnosel'skii 1955, Mann 1953): damping makes a nonexpansive map's residuals vanish."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from deqops._errors import InputError, UnsupportedOperationError
from deqops._numbers import exact_number
from deqops.graph import MixesProblemsError, check_independent, trace

from . import _midrad as midrad
from ._absorbing import absorbing_box, image_over
from ._agreement import require_agreement
from ._exact_gain import is_nonexpansive
from ._impure import require_one_map
from ._invariant_box import outside_bound
from ._local import intervals, local_jacobian
from ._membership import within
from ._midrad import MidRad
from ._norm import Norm, as_norm
from ._problem import Problem
from ._region import Ball, Box, Region, check_kind
from ._request import Request
from ._rounding import check_environment, div_up, exact_float64, mul_down, sqrt_down, sub_down
from ._theorems import Hypothesis


@dataclass(frozen=True, eq=False)
class NonexpansiveBound:
    """T4 with q = 1: `||G(y_n) - y_n||^2 <= ||y_0 - y*||^2 / (b (1-b) (n+1))` for `y <- (1-b) y + b G(y)`.

    G has an equilibrium in the box, and the damped iteration from y_0 converges to one. Which one depends on the
    start: there may be many, and a small residual bounds no distance to any of them.

    Attributes:
        distance: `||y_0 - y*||` is at most this for some equilibrium y*, per problem, (problems,) float64.
        damping: b.
        norm: of the distance and of the residuals, l2, weighted or not.
        lower, upper: a box that holds an equilibrium, leaf by leaf.
        hypotheses: each with its value.
    """

    distance: Tensor
    damping: float
    norm: Norm
    lower: tuple[Tensor, ...]
    upper: tuple[Tensor, ...]
    hypotheses: tuple[Hypothesis, ...]

    def residual_bound(self, steps: int) -> Tensor:
        """Proven bound of `||G(y_n) - y_n||` after n steps, per problem, (problems,).

        Args:
            steps: n, at least 0 and below 2^53.

        Raises:
            InputError: n is no such number.
        """
        if not 0 <= steps < 2**53:
            raise InputError(f"steps: got {steps!r}; a number from 0 to 2^53 is needed")
        check_environment()
        bound = div_up(self.distance, sqrt_down(mul_down(self._share(), float(steps + 1)).clamp(min=0.0)))
        return bound.nan_to_num(nan=math.inf, posinf=math.inf)

    def steps(self, residual: float) -> int:
        """A number n after which every problem's `||G(y_n) - y_n||` is at most `residual`.

        Raises:
            InputError: `residual` is not positive and finite, or so small that it takes 2^52 steps or more.
        """
        if not 0 < residual < math.inf:
            raise InputError(f"residual: got {residual!r}; a positive finite number is needed")
        largest = float(self.distance.max()) if self.distance.numel() else 0.0
        ratio, share = largest / residual, float(self._share())
        wanted = ratio * ratio / share if share > 0 else math.inf
        if not wanted < 2**52:
            raise InputError(f"residual: {residual!r} is only promised after 2^52 steps or more")
        steps = max(math.ceil(wanted) - 1, 0)
        while not float(self.residual_bound(steps).max()) <= residual:
            steps += 1 + steps // 10**6
        return steps

    def _share(self) -> Tensor:
        """`b (1-b)`, rounded downwards."""
        return mul_down(self.damping, sub_down(1.0, self.damping)).clamp(min=0.0)


def nonexpansive_bound(
    G: Any,
    y0: Any,
    *inputs: Any,
    damping: float = 0.5,
    norm: str | Norm = "l2",
    region: Region | None = None,
    batch_dims: int | None = None,
) -> NonexpansiveBound:
    """T4 (Krasnosel'skii-Mann): the damped iteration of a nonexpansive map that keeps a bounded convex set.

    The constant 1 is shown exactly: rounded upwards it would never be. Existence is Brouwer's theorem on a box (or a
    ball) that G maps into itself; without one nothing is promised, for a translation is nonexpansive and has no
    equilibrium.

    Args:
        G: what `deqops.graph.trace` takes.
        y0: the start, whose distance to the equilibrium enters.
        inputs: the operator's inputs, at these values.
        damping: b, 0 < b < 1.
        norm: "l2", or a `Norm` of order l2 with weights along the last dimension.
        region: None for a box that absorbs every state; else a `Ball` or a `Box` that G maps into itself.
        batch_dims: as in `certify`.

    Raises:
        InputError: an argument does not fit.
        UnsupportedOperationError: a hypothesis is not shown, or an operation has no rule, by name.
    """
    check_environment()
    chosen = as_norm(norm)
    if chosen.order != "l2":
        raise InputError(f"norm: T4 with q = 1 holds in l2, weighted or not; got {chosen.describe()}")
    if not 0 < exact_number(damping) < 1:
        raise InputError(f"damping: got {damping!r}; T4 with q = 1 needs 0 < b < 1, a number of float64")
    check_kind(region)
    problem = _problem(G, y0, inputs, batch_dims)
    Request(chosen, None, "auto", 1.0).check_weights(problem)
    kept = _kept(problem, chosen, region) if isinstance(region, Ball | Box) else _absorbed(problem)
    points = [MidRad.exact(exact_float64(leaf)) for leaf in problem.example]
    constant = _constant(problem, chosen, kept.region, points)
    gaps = [midrad.sub(box, point).magnitude() for box, point in zip(kept.boxes, points, strict=True)]
    return NonexpansiveBound(
        chosen.upper(gaps, problem.batch_dims),
        float(damping),
        chosen,
        tuple(box.lower() for box in kept.boxes),
        tuple(box.upper() for box in kept.boxes),
        (
            Hypothesis("nonexpansive", "||G(y) - G(z)|| <= ||y - z||", constant, 1.0, True),
            kept.hypothesis,
            Hypothesis("damping", "0 < b < 1", float(damping), 1.0, True),
        ),
    )


def _problem(G: Any, y0: Any, inputs: tuple[Any, ...], batch_dims: int | None) -> Problem:
    operator = trace(G, y0, *inputs, batch_dims=batch_dims)
    require_one_map(operator.impure)
    problem = Problem(operator, y0, inputs)
    try:
        check_independent(problem.written_out)
    except MixesProblemsError as error:
        raise UnsupportedOperationError(error.operation, f"{error}; one problem alone needs batch_dims=0") from error
    require_agreement(operator, problem, inputs)
    return problem


@dataclass(frozen=True, eq=False)
class _Invariant:
    """Boxes around G(S) for a set S that G maps into itself; `region` is S where it was given."""

    boxes: list[MidRad]
    region: Ball | Box | None
    hypothesis: Hypothesis


def _absorbed(problem: Problem) -> _Invariant:
    box = absorbing_box(problem)
    if box is None:
        raise UnsupportedOperationError(
            "operator", "has values without a bound, so no box is known to hold an equilibrium; give region=Ball(..)"
        )
    statement = "G^j maps every state into a box S, and S into itself"
    return _Invariant(box.intervals, None, Hypothesis("invariant set", statement, float(box.sweeps), None, True))


def _kept(problem: Problem, norm: Norm, region: Ball | Box) -> _Invariant:
    if isinstance(region, Box):
        return _kept_box(problem, Request("auto", region, "auto", 1.0).box(problem))
    ball = Request("auto", region, "auto", 1.0).ball(problem)
    own = ball.norm or norm
    centers = [MidRad.exact(exact_float64(leaf)) for leaf in ball.leaves]
    state: list[MidRad | None] = []
    for width, center in zip(own.radii(problem.problem_shapes, ball.radius), centers, strict=True):
        full = (width[None] if problem.batch_dims else width).expand(center.shape)
        state.append(MidRad(center.mid, full.contiguous()))
    boxes = [box for box in image_over(problem, state) if box is not None]
    gaps = [midrad.sub(box, center).magnitude() for box, center in zip(boxes, centers, strict=True)]
    reach = float(own.upper(gaps, problem.batch_dims).max())
    if not reach <= ball.radius:
        raise UnsupportedOperationError(
            "operator", f"is not shown to keep the ball: ||G(y) - c|| is only known to be at most {reach:.17g} there"
        )
    statement = "||G(y) - c|| <= r for all y in the ball"
    return _Invariant(boxes, ball, Hypothesis("invariant set", statement, reach, ball.radius, True))


def _kept_box(problem: Problem, box: Box) -> _Invariant:
    excess = outside_bound(problem, None, box)
    if not excess <= 0:
        raise UnsupportedOperationError(
            "operator", f"is not shown to keep the box: its values are only known to leave it by at most {excess:.17g}"
        )
    boxes: list[MidRad | None] = [*intervals(box)]
    images = [image for image in image_over(problem, boxes) if image is not None]
    return _Invariant(
        images, box, Hypothesis("invariant set", "G(y) in [lower, upper] for all y in it", excess, 0.0, True)
    )


def _constant(problem: Problem, norm: Norm, ball: Ball | Box | None, points: list[MidRad]) -> float:
    """The constant, at most 1: everywhere, or on a ball or a box that holds the start."""
    try:
        holds, constant = is_nonexpansive(problem.jacobian, norm, problem.batch_dims)
    except UnsupportedOperationError:
        if ball is None:
            raise
        holds, constant = False, math.inf
    if not holds and ball is not None:
        own = (ball.norm if isinstance(ball, Ball) else None) or norm
        jacobian = local_jacobian(problem, ball, own)
        holds, constant = is_nonexpansive(jacobian, norm, problem.batch_dims)
        if holds and not bool(within(ball, own, [point.mid for point in points], problem.batch_dims).all()):
            raise InputError("y0: lies outside of the region on which G is nonexpansive; start inside")
    if not holds:
        raise UnsupportedOperationError(
            "operator",
            f"is not shown to be nonexpansive: its constant in l2 is only known to be at most {constant:.17g}",
        )
    return constant
