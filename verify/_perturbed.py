"""T3 `perturbed`: what a certificate of the exact map G says of its floating-point program G^."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from deqops._errors import InputError
from deqops._layer import operator_of
from deqops._numbers import number_above

from . import _midrad as midrad
from ._certified import certified_problem, contraction_constant, proven_factor
from ._float_program import program_error
from ._guarantees import ErrorBound, power_up
from ._membership import holds_boxes, state_distance, within
from ._midrad import MidRad
from ._norm import Norm
from ._problem import Problem
from ._region import Ball, Box, Region
from ._rounding import add_up, check_environment, div_up, exact_float64, mul_down, mul_up, sub_down
from ._theorems import Hypothesis

if TYPE_CHECKING:
    from ._certificate import Certificate

ULPS = 4.0
"""Assumed accuracy of torch's elementary functions in units in the last place, for `rounding_floor` alone."""
_ROUNDS = 60


@dataclass(frozen=True, eq=False)
class RoundingBound:
    """T3 at one point: nothing is assumed of the program, its result is compared with an enclosure.

    Attributes:
        delta: `||G^(y) - G(y)|| <= delta`, per problem, (problems,) float64, in the certificate's norm.
        residual: `||G^(y) - y||`, rounded upwards, per problem.
        error: `||y - y*|| <= factor (residual + delta)`; infinite where y is outside a local certificate's ball.
        norm: of delta and residual.
        hypotheses: each with its value.
    """

    delta: Tensor
    residual: Tensor
    error: ErrorBound
    norm: Norm
    hypotheses: tuple[Hypothesis, ...]


@dataclass(frozen=True, eq=False)
class RoundingFloor:
    """T3 on a ball: how near the floating-point iteration is promised to come.

    From every start in the ball the iterates of G^ stay in it, and
    `||y^_n - y*|| <= q^n ||y^_0 - y*|| + delta / (1 - q)`; every equilibrium of G^ in it is within `delta / (1 - q)`.

    Attributes:
        delta: `||G^(y) - G(y)|| <= delta` for every y in the ball, per problem, (problems,) float64.
        floor: `delta / (1 - q)`, the bound of limsup `||y^_n - y*||`, in the certificate's norm, l2 and linf.
        rate: q.
        region: the ball.
        hypotheses: each with its value; "libm accuracy" is assumed and not proven.
    """

    delta: Tensor
    floor: ErrorBound
    rate: float
    region: Ball
    hypotheses: tuple[Hypothesis, ...]

    def after(self, steps: int, first_error: float) -> Tensor:
        """`q^n ||y_0 - y*|| + delta / (1 - q)`, rounded upwards, per problem.

        Args:
            steps: n.
            first_error: a proven bound of `||y_0 - y*||` in the certificate's norm; `2 * radius` always is one.
        """
        error = number_above(first_error)
        if steps < 0 or not error >= 0:
            raise InputError(f"after: steps {steps!r} and first_error {first_error!r} must not be negative")
        check_environment()
        return add_up(mul_up(power_up(self.rate, steps), error), self.floor.value)


def rounding_bound(certificate: Certificate, G: Any, y: Any, *inputs: Any) -> RoundingBound:
    """T3 at y: `||y - y*|| <= factor (||G^(y) - y|| + delta)` with `delta >= ||G^(y) - G(y)||`.

    G is run once, as it is, and its result compared with an enclosure of the exact G(y): proven for whatever
    arithmetic ran it, and nothing is assumed of torch's functions.

    Args:
        certificate: any that bounds errors by residuals.
        G: the certified operator.
        y: a state of the certified shapes.
        inputs: the operator's inputs.

    Raises:
        InputError: the certificate bounds no error, or does not fit the operator, the state or the inputs.
    """
    problem = certified_problem(certificate, G, y, inputs)
    factor, norm = proven_factor(certificate)
    leaves = pytree.tree_leaves(y)
    computed = _computed(problem, G, y, inputs)
    gaps = [
        midrad.sub(image, MidRad.exact(exact_float64(leaf))).magnitude()
        for image, leaf in zip(problem.image(leaves), computed, strict=True)
    ]
    delta = norm.upper(gaps, problem.batch_dims)
    residual = state_distance(norm, computed, leaves, problem.batch_dims)
    value = mul_up(add_up(residual, delta), factor)
    value = torch.where(within(certificate.region, norm, leaves, problem.batch_dims), value, math.inf)
    value = torch.where(value.isnan(), math.inf, value)
    statement = "||y - y*|| <= kappa ||G(y) - y|| in the region"
    hypotheses = (
        Hypothesis("residual", statement, factor, math.inf, True),
        Hypothesis("perturbation", "||G^(y) - G(y)|| <= delta", _largest(delta), math.inf, True),
    )
    return RoundingBound(delta, residual, _in_all_norms(norm, value, problem), norm, hypotheses)


def rounding_floor(
    certificate: Certificate, G: Any, y: Any, *inputs: Any, radius: float | None = None, ulps: float = ULPS
) -> RoundingFloor:
    """T3 on a ball around y: the floor `delta / (1 - q)` of Picard's iteration in floating point.

    delta bounds `||G^ - G||` over the ball by a running error analysis of torch's eager program on the CPU, in the
    dtypes of the graph. ASSUMED: its elementary functions (tanh, exp, ...) err by at most `ulps` units in the last
    place. Everything else is IEEE arithmetic in any order of summation. torch's jump of softplus at its threshold is
    part of delta.

    Args:
        certificate: T1, T2 or T4, with q < 1 for G itself.
        G: the certified operator.
        y: the ball's centre, best a computed equilibrium.
        inputs: the operator's inputs.
        radius: of the ball, in the certificate's norm; None for about the smallest that works.
        ulps: the assumption.

    Returns:
        RoundingFloor: for starts in the ball.

    Raises:
        InputError: no ball around y is mapped into itself, the certificate proves no constant of G, or does not fit.
        UnsupportedOperationError: an operation whose rounding is not known here, by name.
    """
    if not (0 < number_above(ulps) < 2**20):
        raise InputError(f"ulps: got {ulps!r}; a positive number is needed")
    if radius is not None and not 0 < number_above(radius) < math.inf:
        raise InputError(f"radius: got {radius!r}; a positive finite number is needed")
    ulps, radius = number_above(ulps), None if radius is None else number_above(radius)
    problem = certified_problem(certificate, G, y, inputs)
    q, norm = contraction_constant(certificate)
    _same_dtypes(problem, _computed(problem, G, y, inputs))
    precise = _full_precision()
    center = tuple(exact_float64(leaf) for leaf in pytree.tree_leaves(y))
    residual = problem.residual(list(center), norm)
    analysis = _Analysis(problem, center, norm, residual, q, ulps)
    chosen = analysis.smallest_radius() if radius is None else radius
    delta, assumed = analysis.delta(chosen)
    pushed, room = _largest(add_up(residual, delta)), float(mul_down(sub_down(1.0, q), chosen))
    if not pushed <= room:
        raise InputError(
            f"y: T3 needs ||G(c) - c|| + delta <= (1 - q) r, and {pushed:.3g} > {room:.3g} at radius {chosen:.3g}; "
            "iterate further, compute in float64, or give another radius"
        )
    _contained(certificate.region, norm, center, chosen, problem)
    value = div_up(delta, sub_down(1.0, q))
    hypotheses = (
        Hypothesis("contraction", "q < 1", q, 1.0, True),
        Hypothesis("self-map", "||G(c) - c|| + delta <= (1 - q) r", pushed, room, True),
        Hypothesis("arithmetic", precise, None, None, True),
        *(
            Hypothesis("libm accuracy", f"{name} errs by at most k ulp: ASSUMED, not proven", ulps, None, True)
            for name in assumed
        ),
    )
    region = Ball(center, chosen, norm)
    return RoundingFloor(delta, _in_all_norms(norm, value, problem), q, region, hypotheses)


class _Analysis:
    """delta as a function of the ball's radius."""

    def __init__(
        self, problem: Problem, center: tuple[Tensor, ...], norm: Norm, residual: Tensor, q: float, ulps: float
    ) -> None:
        self._problem, self._center, self._norm = problem, center, norm
        self._residual, self._q, self._ulps = residual, q, ulps

    def delta(self, radius: float) -> tuple[Tensor, tuple[str, ...]]:
        """Bounds per problem, and the functions whose accuracy was assumed."""
        problem, boxes = self._problem, []
        for spread, center in zip(self._norm.radii(problem.problem_shapes, radius), self._center, strict=True):
            full = spread[None].expand(center.shape) if problem.batch_dims else spread
            boxes.append(MidRad(center, full.clone()))
        found = program_error(problem.written_out, boxes, self._ulps)
        return self._norm.upper(found.leaves, problem.batch_dims), found.assumed

    def smallest_radius(self) -> float:
        """About the smallest radius whose ball G^ maps into itself; the last tried where none was found."""
        gap = float(sub_down(1.0, self._q))
        radius = max(_largest(self._residual) / gap, 2.0**-1000)
        for _ in range(_ROUNDS):
            needed = _largest(add_up(self._residual, self.delta(radius)[0])) / gap * (1 + 2.0**-20)
            if needed <= radius or not math.isfinite(needed):
                break
            radius = 1.5 * needed
        return radius


def _computed(problem: Problem, G: Any, y: Any, inputs: tuple[Any, ...]) -> list[Tensor]:
    """The leaves of G^(y): G run as it is, in its own arithmetic."""
    program = operator_of(G)
    if isinstance(program, torch.export.ExportedProgram):
        program = problem.operator
    with torch.no_grad():
        image = program(y, *inputs)
    if pytree.tree_structure(image) != problem.tree:
        raise InputError("G: its result has not the structure of the state; return the same structure")
    leaves: list[Tensor] = pytree.tree_leaves(image)
    return leaves


def _same_dtypes(problem: Problem, computed: list[Tensor]) -> None:
    """The iteration feeds results back: it is one program only where G keeps the state's dtype."""
    for got, leaf in zip(computed, problem.example, strict=True):
        if got.dtype != leaf.dtype:
            raise InputError(f"G: it maps a state of {leaf.dtype} to {got.dtype}; return the state's dtype")


def _full_precision() -> str:
    """The statement about the arithmetic, once it is known that products are not computed in less."""
    onednn = getattr(torch.backends.mkldnn, "matmul", None)
    kinds = {torch.get_float32_matmul_precision(), str(getattr(onednn, "fp32_precision", "none"))}
    relaxed = os.environ.get("ONEDNN_DEFAULT_FPMATH_MODE", "STRICT").upper() != "STRICT"
    if not kinds <= {"highest", "none", "ieee"} or relaxed or torch.is_autocast_enabled("cpu"):
        raise InputError(
            "arithmetic: float32 products are computed in less than float32 here; "
            'call torch.set_float32_matmul_precision("highest"), unset ONEDNN_DEFAULT_FPMATH_MODE and leave autocast'
        )
    return "each elementary operation rounds to nearest in its dtype; sums in any order"


def _contained(region: Region, norm: Norm, center: tuple[Tensor, ...], radius: float, problem: Problem) -> None:
    if isinstance(region, Box):
        widths = norm.radii(problem.problem_shapes, radius)
        if not bool(holds_boxes(region, norm, list(center), widths, problem.batch_dims).all()):
            raise InputError(
                f"y: a ball of radius {radius:.3g} around it is not inside the certificate's box; certify a larger box"
            )
    if not isinstance(region, Ball):
        return
    apart = _largest(state_distance(norm, list(center), list(region.leaves), problem.batch_dims))
    if not float(add_up(apart, radius)) <= region.radius:
        raise InputError(
            f"y: a ball of radius {radius:.3g} around it is not inside the certificate's ball of radius "
            f"{region.radius:.3g}, which is {apart:.3g} away; certify a larger ball"
        )


def _in_all_norms(norm: Norm, value: Tensor, problem: Problem) -> ErrorBound:
    return ErrorBound(value, norm.to_l2(value, problem.size), norm.to_linf(value))


def _largest(values: Tensor) -> float:
    return float(values.max()) if values.numel() else 0.0
