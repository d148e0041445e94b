"""Slopes on a ball or a box: boxes for the state, narrower enclosures of pre-activations where l2 gives them."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ._decided import decided
from ._enclosures import Enclosed, as_midrad, enclose_values
from ._gains import L2Gains
from ._jacobian import Builder, Combination, Jacobian, Refine, StateLeaf
from ._linear_form import LinearForms
from ._matrix import row_l2_norms
from ._midrad import MidRad
from ._norm import Norm
from ._normalisation import Near
from ._problem import Problem
from ._reach import Reach
from ._region import Ball, Box
from ._rounding import exact_float64, mul_up


def local_jacobian(problem: Problem, region: Ball | Box, norm: Norm) -> Jacobian:
    """The Jacobian expression with slopes that hold on the ball (and on the box around it), or on the box.

    Args:
        problem: the operator.
        region: a ball or a box of states.
        norm: of the ball; a box has none.
    """
    if isinstance(region, Box):
        return jacobian_over(problem, intervals(region))
    ball, centers = region, [exact_float64(leaf) for leaf in region.leaves]
    radii = norm.radii(problem.problem_shapes, ball.radius)
    spread = [
        radius[None].expand(center.shape) if problem.batch_dims else radius
        for radius, center in zip(radii, centers, strict=True)
    ]
    boxes = [MidRad(center, radius.clone()) for center, radius in zip(centers, spread, strict=True)]
    if not _is_plain_l2(norm):
        return jacobian_over(problem, boxes)
    at_center = _values(problem, tuple(centers))
    return jacobian_over(problem, boxes, lambda: _Refinement(at_center, ball.radius))


def followed_jacobian(problem: Problem, region: Ball | Box, norm: Norm) -> tuple[Jacobian, LinearForms]:
    """The expression with slopes over narrower enclosures, and how arguments follow the state (`_linear_form.py`).

    The checker does not do this: it is for bounds, not for certificates.

    Args:
        problem: the operator.
        region: a ball or a box of states.
        norm: of the ball; a box has none.
    """
    reach, made = Reach.of(region, norm, problem), list[LinearForms]()
    at_center = _values(problem, tuple(box.mid for box in reach.boxes))

    def refine() -> LinearForms:
        ball = _Refinement(at_center, region.radius) if isinstance(region, Ball) and _is_plain_l2(norm) else None
        made.append(LinearForms(at_center, reach, problem.batch_dims, ball))
        return made[-1]

    jacobian = jacobian_over(problem, list(reach.boxes), refine)
    return jacobian, made[-1]


def _is_plain_l2(norm: Norm) -> bool:
    return norm.order == "l2" and norm.weights is None


def _values(problem: Problem, state: tuple[Tensor, ...]) -> dict[int, Enclosed]:
    exact = {v: MidRad.exact(leaf) for v, leaf in zip(problem.graph.state, state, strict=True)}
    values = enclose_values(problem.graph, problem.constants, exact)
    return (
        values if problem.paired is problem.graph else enclose_values(problem.paired, problem.constants, exact) | values
    )


def jacobian_over(problem: Problem, boxes: list[MidRad], refine: Callable[[], Refine] | None = None) -> Jacobian:
    """The Jacobian expression with slopes that hold on boxes of the state's leaves.

    Args:
        problem: the operator.
        boxes: leaf by leaf.
        refine: makes what narrows pre-activations; it may remember what it has seen of one expression.
    """
    return problem.expression(
        lambda graph, e: Builder(
            *decided(graph, problem.constants, boxes), boxes, None if refine is None else refine(), e
        )
    )


def intervals(box: Box) -> list[MidRad]:
    """The box as midpoints and radii, leaf by leaf."""
    return [MidRad.from_bounds(low, high) for low, high in zip(*box.ends, strict=True)]


class _Refinement:
    """`|v_i - v_i(c)| <= ||row_i of M||_2 r` for v = v(c) + M (y - c), y in an l2 ball."""

    def __init__(self, at_center: dict[int, Enclosed], radius: float) -> None:
        self._at_center, self._radius = at_center, radius
        self._gains: L2Gains | None = None

    def __call__(self, builder: Builder, value: int, combination: Combination, box: MidRad) -> MidRad:
        center = as_midrad(self._at_center[value])
        deviation = mul_up(self._rows(builder, combination), torch.full((), self._radius, dtype=torch.float64))
        ball = MidRad(center.mid, center.rad)
        lower = torch.maximum(box.lower(), _lower(ball, deviation))
        upper = torch.minimum(box.upper(), _upper(ball, deviation))
        return MidRad.from_bounds(lower, torch.maximum(lower, upper))

    def near(self, builder: Builder, value: int, combination: Combination) -> Near | None:
        """`||v - v(c)||_2 <= gain r`; None where that is no number."""
        distance = float(mul_up(self._gain(builder, combination), self._radius))
        return Near(as_midrad(self._at_center[value]), distance) if distance < math.inf else None

    def _rows(self, builder: Builder, combination: Combination) -> Tensor:
        maps = [(k, one) for k, several in combination.terms.items() for one in several]
        if len(maps) == 1 and isinstance(builder.bases[maps[0][0]], StateLeaf):
            matrix = maps[0][1].last_axis_matrix()
            if matrix is not None:
                return row_l2_norms(matrix)
        return torch.full((), self._gain(builder, combination), dtype=torch.float64)

    def _gain(self, builder: Builder, combination: Combination) -> float:
        if self._gains is None:
            self._gains = L2Gains(builder.bases)
        return self._gains.of(combination)


def _lower(center: MidRad, deviation: Tensor) -> Tensor:
    from ._rounding import sub_down

    return sub_down(center.lower(), deviation.expand(center.mid.shape))


def _upper(center: MidRad, deviation: Tensor) -> Tensor:
    from ._rounding import add_up

    return add_up(center.upper(), deviation.expand(center.mid.shape))
