"""T12 on balls of the certifier's choice, around a point that Newton's method has sharpened."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor

from ._bisection import largest_ball
from ._lyapunov import damped_slopes, proposed_form
from ._newton_around import RADII, scale_of
from ._norm import Norm
from ._problem import Problem
from ._region import Ball
from ._request import Request
from ._theorems import Finding, local_lyapunov

LARGEST = 1024  # unknowns of one problem, as many as the checker takes


def lyapunov_around(problem: Problem, center: tuple[Tensor, ...], request: Request) -> Iterator[Finding]:
    """T12 on the largest ball of a list for which it holds, where any norm may be chosen."""
    if problem.size > LARGEST or request.norm != "auto":
        return
    scale = scale_of(center)
    smallest = 4 * float(problem.residual(list(center), Norm("l2")).max()) + 1e-13 * scale
    if not math.isfinite(smallest):
        return  # values overflow near the point: no ball can be enclosed
    damping, ball = request.iteration_damping(), Ball(center, smallest)
    form = proposed_form(damped_slopes(problem, ball, damping).mid)
    least = local_lyapunov(problem, ball, damping, form)
    wanted = _wanted(least)
    if not least.holds and 0 < wanted < math.inf:
        least = local_lyapunov(problem, Ball(center, wanted), damping, form)
    if least.holds:
        radii = [factor * scale for factor in RADII]
        least = largest_ball(least, radii, lambda larger: local_lyapunov(problem, larger, damping, form))
    yield least


def _wanted(found: Finding) -> float:
    """A radius with room for the residual: twice the least that could do."""
    numbers = found.evidence.numbers
    gap = 1 - numbers["contraction"]
    return 2 * numbers["defect"] * numbers["inverse_size"] / gap if gap > 0 else math.inf
