"""Balls around the computed equilibrium, for claims about a region of the certifier's choice."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ._local import local_jacobian
from ._lyapunov_around import lyapunov_around
from ._newton_around import LARGEST_TRIED, newton_around, sharpened
from ._norm import Norm
from ._problem import Problem
from ._region import Ball
from ._request import Request
from ._theorems import Finding, local_picard

_RADII = (1.0, 0.3, 0.1, 0.03, 0.01, 1e-3, 1e-4, 1e-5, 1e-6, 1e-8)


def around_equilibrium(problem: Problem, inputs: tuple[object, ...], request: Request) -> Iterator[Finding]:
    """T2 on balls around the computed equilibrium, the largest first; then T12; then T6, of existence only."""
    center = computed_equilibrium(problem, inputs)
    if center is None:
        return
    scale = max(1.0, max(float(leaf.abs().max()) for leaf in center if leaf.numel()))
    smallest = 4 * float(problem.residual(list(center), Norm("l2")).max()) + 1e-13 * scale
    if not math.isfinite(smallest):
        return  # values overflow near the point: no ball can be enclosed
    damping = request.iteration_damping()
    # Slopes only widen with the radius: a norm that fails on the smallest ball is not tried on larger ones.
    ball = Ball(center, smallest)
    norms = request.norms(problem, lambda: local_jacobian(problem, ball, Norm("linf")))
    tiny = [local_picard(problem, norm, ball, damping) for norm in norms]
    hopeful = [finding.norm for finding in tiny if finding.bound is not None and finding.bound < 1]
    for radius in (factor * scale for factor in _RADII if factor * scale > smallest):
        for norm in hopeful:
            yield local_picard(problem, norm, Ball(center, radius), damping)
    yield from tiny
    if problem.size <= LARGEST_TRIED:
        center = sharpened(problem, center)
        yield from lyapunov_around(problem, center, request)
        yield from newton_around(problem, center, request)


def computed_equilibrium(problem: Problem, inputs: tuple[object, ...]) -> tuple[Tensor, ...] | None:
    """Where Anderson's method ends up from the example state, float64 leaves; None where it is not finite.

    A proposal: nothing says that it is near an equilibrium.
    """
    from deqops import Anderson, Tolerance, solve

    with torch.no_grad():
        solution = solve(
            problem.operator,
            pytree.tree_unflatten(problem.example, problem.tree),
            *inputs,
            solver=Anderson(),
            tolerance=Tolerance(relative=0.0, absolute=0.0),
            max_evaluations=200,
            batch_dims=problem.batch_dims,
            throw=False,
        )
    leaves = tuple(leaf.detach().to(torch.float64) for leaf in pytree.tree_leaves(solution.value))
    return leaves if all(bool(leaf.isfinite().all()) for leaf in leaves) else None
