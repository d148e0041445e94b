"""The numbers of T13: a positive vector that the entrywise bound N shrinks, and a box that G maps into itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from . import _midrad as midrad
from ._absorbing import image_over
from ._gains import apply_magnitude
from ._jacobian import Jacobian
from ._midrad import MidRad
from ._norm import Norm
from ._problem import Problem
from ._region import Ball
from ._rounding import add_up, div_up, exact_float64, mul_up, sub_down
from ._weights import proposed_norm

Apply = Callable[[list[Tensor]], list[Tensor]]
_EVALUATIONS = 300


@dataclass(frozen=True)
class Equivalence:
    """`||y||_x <= size ||y||` and `||y|| <= inverse_size ||y||_x`, with `||y||_x = max |y_i| / x_i`."""

    size: float
    inverse_size: float

    def factor(self, contraction: float) -> float:
        """kappa of `||y - y*|| <= kappa ||G(y) - y||` where G contracts by so much in `|| . ||_x`."""
        condition = mul_up(self.size, self.inverse_size)
        return float(div_up(condition, sub_down(1.0, contraction))) if contraction < 1 else float("inf")


def proposed_vector(jacobian: Jacobian, batch_dims: int) -> tuple[Tensor, ...]:
    """x > 0 with N x < x where one is found, in the leaves' shapes for one problem; a proposal.

    Perron's vector first, whose growth is the smallest; else `(I - N)^-1 1`, which is such an x whenever the spectral
    radius of N is below 1.
    """
    x = tuple(1 / weight for weight in proposed_norm(jacobian, "linf", batch_dims).weights or ())
    if growth(jacobian, x, batch_dims) < 1:
        return x
    ones = [torch.ones_like(part) for part in x]
    found = tuple(resolvent_estimate(lambda parts: _image(jacobian, tuple(parts), batch_dims), ones, 0))
    return found if growth(jacobian, found, batch_dims) < 1 else x


def resolvent_estimate(apply: Apply, right: list[Tensor], batch_dims: int) -> list[Tensor]:
    """About `(I - N)^-1 right`, at least `right`: an estimate that proves nothing.

    Args:
        apply: N.
        right: nonnegative, leaf by leaf.
        batch_dims: 1 where dimension 0 of the leaves counts independent problems.
    """
    from deqops import Anderson, Tolerance, solve

    with torch.no_grad():
        solution = solve(
            lambda state: tuple(r + image for r, image in zip(right, apply(list(state)), strict=True)),
            tuple(right),
            solver=Anderson(),
            tolerance=Tolerance(relative=1e-12, absolute=0.0),
            max_evaluations=_EVALUATIONS,
            batch_dims=batch_dims,
            throw=False,
        )
    values = [part.nan_to_num(0.0, 0.0, 0.0) for part in solution.value]
    return [torch.maximum(part, r) for part, r in zip(values, right, strict=True)]


def _image(jacobian: Jacobian, x: tuple[Tensor, ...], batch_dims: int) -> list[Tensor]:
    """The largest `N x` of all problems, leaf by leaf."""
    image = apply_magnitude(jacobian, spread_out(jacobian, x, batch_dims))
    return [part.amax(dim=0) if batch_dims else part for part in image]


def spread_out(jacobian: Jacobian, x: tuple[Tensor, ...], batch_dims: int) -> list[Tensor]:
    """The same vector for every problem, in the leaves' full shapes."""
    both = zip(x, jacobian.outputs, strict=True)
    return [(part[None] if batch_dims else part).expand(output.shape) for part, output in both]


def growth(jacobian: Jacobian, x: tuple[Tensor, ...], batch_dims: int) -> float:
    """Proven q with N x <= q x for every problem; NaN or infinity where there is none."""
    full = spread_out(jacobian, x, batch_dims)
    ratios = [div_up(a, b).max() for a, b in zip(apply_magnitude(jacobian, full), full, strict=True) if b.numel()]
    return float(torch.stack(ratios).max()) if ratios else 0.0


def equivalence(norm: Norm, x: tuple[Tensor, ...], slack: float) -> Equivalence:
    """How `max |y_i| / x_i` and a norm linf, weighted or not, bound each other, with some slack in each number."""
    weights = [norm.weight(number) for number in range(len(x))]
    products = [part if weight is None else mul_up(part, weight) for part, weight in zip(x, weights, strict=True)]
    inverses = [div_up(1.0, part) for part in x]
    inverses = [v if weight is None else div_up(v, weight) for v, weight in zip(inverses, weights, strict=True)]
    return Equivalence(*(float(mul_up(_largest(parts), slack)) for parts in (inverses, products)))


def _largest(parts: list[Tensor]) -> float:
    return max((float(part.max()) for part in parts if part.numel()), default=1.0)


def image_radius(problem: Problem, jacobian: Jacobian, ball: Ball, norm: Norm) -> float:
    """Proven bound of `||G(y) - c||` over the box `|y_i - c_i| <= r / w_i`.

    Entry by entry the smaller of `|G(c) - c| + N r/w` and the width of the interval image.

    Args:
        problem: the operator.
        jacobian: with slopes that hold on the box.
        ball: its centre and radius r.
        norm: linf with weights w.
    """
    centers = [MidRad.exact(exact_float64(leaf)) for leaf in ball.leaves]
    widths = [
        (width[None] if problem.batch_dims else width).expand(center.shape).contiguous()
        for width, center in zip(norm.radii(problem.problem_shapes, ball.radius), centers, strict=True)
    ]
    moved = [midrad.sub(g, c).magnitude() for g, c in zip(problem.image(list(ball.leaves)), centers, strict=True)]
    reach = [add_up(a, b) for a, b in zip(moved, apply_magnitude(jacobian, widths), strict=True)]
    box: list[MidRad | None] = [MidRad(c.mid, width) for c, width in zip(centers, widths, strict=True)]
    for number, part in enumerate(image_over(problem, box)):
        if part is not None:
            reach[number] = torch.fmin(reach[number], midrad.sub(part, centers[number]).magnitude())
    found = norm.upper(reach, problem.batch_dims)
    return float(found.max()) if found.numel() else 0.0
