"""A point that a few steps of Newton's method have brought nearer to an equilibrium."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ._interval_jacobian import interval_jacobian
from ._local import local_jacobian
from ._newton import gap, proposed_inverse
from ._norm import Norm
from ._problem import Problem
from ._region import Ball

_STEPS = 12
_DAMPINGS = (1.0, 0.3, 0.1)


def sharpened(problem: Problem, center: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A point with a smaller residual, by damped Newton steps in floats; a proposal, problem by problem."""
    best = torch.cat([_rows(leaf, problem) for leaf in center], dim=1)  # (problems, n)
    size = _residuals(problem, best)
    for _ in range(_STEPS):
        ball = Ball(_leaves(best, problem), 1e-12 * scale_of(center))
        slope = interval_jacobian(local_jacobian(problem, ball, Norm("linf")), problem.batch_dims).mid
        step = (proposed_inverse(torch.eye(slope.shape[-1], dtype=torch.float64) - slope) @ gap(problem, ball).mid)[
            ..., 0
        ]
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
