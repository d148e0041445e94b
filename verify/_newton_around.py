"""T6 on balls of the certifier's choice, around a point that Newton's method has sharpened."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ._bisection import largest_ball
from ._local import local_jacobian
from ._newton import derivative_over_ball, gap, proposed_inverse
from ._norm import Norm
from ._problem import Problem
from ._region import Ball
from ._request import Request
from ._theorems import Finding, newton_kantorovich

LARGEST_TRIED = 1024  # unknowns of one problem; larger ones are tried where the theorem is asked for by name
_STEPS = 12
_DAMPINGS = (1.0, 0.3, 0.1)
RADII = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 5e-3, 2e-3, 1e-3, 3e-4, 1e-4, 1e-5, 1e-6, 1e-8)


def newton_around(problem: Problem, center: tuple[Tensor, ...], request: Request) -> Iterator[Finding]:
    """T6 in each norm asked for, on the largest ball of a list; the centre as `sharpened` left it."""
    scale = scale_of(center)
    smallest = 4 * float(problem.residual(list(center), Norm("l2")).max()) + 1e-13 * scale
    if not math.isfinite(smallest):
        return  # values overflow near the point: no ball can be enclosed
    ball = Ball(center, smallest)
    for norm in request.plain_norms(problem, lambda: local_jacobian(problem, ball, Norm("linf"))):
        least = _least(problem, norm, ball)
        if least.holds:
            radii = [factor * scale for factor in RADII]
            least = largest_ball(least, radii, lambda larger, norm=norm: newton_kantorovich(problem, norm, larger))  # type: ignore[misc]
        yield least


def _least(problem: Problem, norm: Norm, ball: Ball) -> Finding:
    """The finding on the given ball, or on one with room for `||A F(c)||`, which may be larger than `||F(c)||`."""
    found = newton_kantorovich(problem, norm, ball)
    Y, Z = found.evidence.numbers["defect"], found.evidence.numbers["contraction"]
    wanted = 2 * Y / (1 - Z) if Z < 1 else math.inf
    if found.holds or not 0 < wanted < math.inf:
        return found
    return newton_kantorovich(problem, norm, Ball(ball.center, wanted))


def sharpened(problem: Problem, center: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A point with a smaller residual, by damped Newton steps in floats; a proposal, problem by problem."""
    best = torch.cat([_rows(leaf, problem) for leaf in center], dim=1)  # (problems, n)
    size = _residuals(problem, best)
    for _ in range(_STEPS):
        ball = Ball(_leaves(best, problem), 1e-12 * scale_of(center))
        slope = derivative_over_ball(problem, Norm("linf"), ball).mid
        step = (proposed_inverse(slope) @ gap(problem, ball).mid)[..., 0]
        before = size
        for damping in _DAMPINGS:
            point = best - damping * step
            found = _residuals(problem, point)
            better = found < size
            best, size = torch.where(better[:, None], point, best), torch.where(better, found, size)
            if bool(better.all()):
                break
        if not bool((size < before / 2).any()):
            break
    return _leaves(best, problem)


def scale_of(center: tuple[Tensor, ...]) -> float:
    """The largest modulus of an entry, at least 1."""
    return max(1.0, max(float(leaf.abs().max()) for leaf in center if leaf.numel()))


def _rows(leaf: Tensor, problem: Problem) -> Tensor:
    return leaf.reshape(leaf.shape[0] if problem.batch_dims else 1, -1)


def _leaves(rows: Tensor, problem: Problem) -> tuple[Tensor, ...]:
    sizes = [math.prod(shape) for shape in problem.problem_shapes]
    both = zip(torch.split(rows, sizes, dim=1), problem.example, strict=True)
    return tuple(part.reshape(leaf.shape).contiguous() for part, leaf in both)


def _residuals(problem: Problem, rows: Tensor) -> Tensor:
    if not bool(rows.isfinite().all()):
        return torch.full((len(rows),), math.inf, dtype=torch.float64)
    return problem.residual(list(_leaves(rows, problem)), Norm("l2"))
