"""The numbers of T6: `||A F(c)||`, `sup ||I - A DF||` and `||A||` for F(y) = y - G(y), per problem and proven."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from . import _midrad as midrad
from ._interval_jacobian import interval_jacobian
from ._local import local_jacobian
from ._midrad import MidRad
from ._norm import Norm
from ._problem import Problem
from ._region import Ball
from ._rounding import div_up, exact_float64, mul_up, sqrt_up, sub_down, sum_up
from ._spectral import spectral_norm_bound

LARGEST = 4096  # unknowns of one problem
LARGEST_INVERSES = 2**24  # entries of the approximate inverses of all problems


@dataclass(frozen=True, eq=False)
class Newton:
    """Proven numbers for every problem at once.

    Attributes:
        inverse: A, the approximate inverses of DF, (problems, n, n).
        defect: bound of `||A F(c)||`.
        contraction: bound of `||I - A DF||` for all slopes over the ball.
        size: bound of `||A||`.
    """

    inverse: Tensor
    defect: float
    contraction: float
    size: float

    @property
    def factor(self) -> float:
        """`||A|| / (1 - Z)`, rounded up: kappa of `||y - y*|| <= kappa ||G(y) - y||`; inf unless Z < 1."""
        if not self.contraction < 1:
            return math.inf
        return float(div_up(self.size, sub_down(1.0, self.contraction)))


def newton_numbers(problem: Problem, norm: Norm, ball: Ball, slack: float) -> Newton:
    """The numbers of T6 on a ball, each multiplied by `slack` >= 1; A is found here, in floats.

    Raises:
        UnsupportedOperationError: the operator has no Jacobian expression, or one too large to write out.
    """
    derivative = derivative_over_ball(problem, norm, ball)
    inverse = proposed_inverse(derivative.mid)
    rest = midrad.sub(identity_like(derivative), midrad.matmul(MidRad.exact(inverse), derivative))
    step = midrad.matmul(MidRad.exact(inverse), gap(problem, ball))
    weights = flat_weights(norm)
    defect = norm.upper(_leaves(step.magnitude(), problem), batch_dims=1)
    return Newton(
        inverse,
        float(mul_up(_largest(defect), slack)),
        float(mul_up(operator_norm_bound(rest, norm.order, weights), slack)),
        float(mul_up(operator_norm_bound(MidRad.exact(inverse), norm.order, weights), slack)),
    )


def derivative_over_ball(problem: Problem, norm: Norm, ball: Ball) -> MidRad:
    """Enclosure of `I - M` for all slope products M over the ball, (problems, n, n)."""
    J = interval_jacobian(local_jacobian(problem, ball, norm), problem.batch_dims)
    return midrad.sub(identity_like(J), J)


def gap(problem: Problem, ball: Ball) -> MidRad:
    """Enclosure of `F(c) = c - G(c)`, (problems, n, 1)."""
    centers = [exact_float64(leaf) for leaf in ball.leaves]
    parts = [midrad.sub(MidRad.exact(c), g) for c, g in zip(centers, problem.image(centers), strict=True)]
    problems = centers[0].shape[0] if problem.batch_dims else 1
    flat = [part.apply_exact(lambda t: t.reshape(problems, -1, 1)) for part in parts]
    return MidRad(torch.cat([p.mid for p in flat], dim=1), torch.cat([p.rad for p in flat], dim=1))


def proposed_inverse(matrices: Tensor) -> Tensor:
    """About the inverse of each matrix, (problems, n, n); zero where there is none."""
    finite = matrices.isfinite().all(dim=-1).all(dim=-1)
    usable = torch.where(finite[:, None, None], matrices, torch.eye(matrices.shape[-1], dtype=torch.float64))
    inverse, info = torch.linalg.inv_ex(usable)
    good = finite & (info == 0) & inverse.isfinite().all(dim=-1).all(dim=-1)
    return torch.where(good[:, None, None], inverse, torch.zeros_like(inverse))


def flat_weights(norm: Norm) -> Tensor | None:
    """The weights of all leaves in one row, or None."""
    return None if norm.weights is None else torch.cat([weight.reshape(-1) for weight in norm.weights])


def operator_norm_bound(A: MidRad, order: str, weights: Tensor | None) -> float:
    """Proven bound of `||D A D^-1||`, D = diag(weights), over all matrices of the stack (problems, n, n)."""
    if weights is not None:
        A = midrad.mul(A, midrad.div(MidRad.exact(weights[:, None]), MidRad.exact(weights[None, :])))
    if not A.is_finite():
        return math.inf
    rows, columns = (sum_up(A.magnitude(), dim=dim) for dim in (2, 1))
    if order == "linf":
        return _largest(rows)
    if order == "l1":
        return _largest(columns)
    return _largest_spectral(A, sqrt_up(mul_up(rows.amax(dim=1), columns.amax(dim=1))))


def _largest_spectral(A: MidRad, mixed: Tensor) -> float:
    """The largest l2 norm: matrices whose `sqrt(l1 linf)` cannot exceed what was found are not looked at."""
    found = 0.0
    for problem in mixed.argsort(descending=True).tolist():
        if found >= float(mixed[problem]):
            break
        bound = float(spectral_norm_bound(MidRad(A.mid[problem], A.rad[problem])))
        found = max(found, min(bound, float(mixed[problem])))
    return found


def _largest(bounds: Tensor) -> float:
    return float(bounds.max()) if bounds.numel() else 0.0


def identity_like(A: MidRad) -> MidRad:
    """The identity for each matrix of the stack."""
    return MidRad.exact(torch.eye(A.mid.shape[-1], dtype=torch.float64).expand(A.mid.shape))


def _leaves(flat: Tensor, problem: Problem) -> list[Tensor]:
    """The rows (problems, n, 1) leaf by leaf, each (problems, *leaf)."""
    sizes = [math.prod(shape) for shape in problem.problem_shapes]
    parts = torch.split(flat[..., 0], sizes, dim=1)
    return [part.reshape(len(part), *shape) for part, shape in zip(parts, problem.problem_shapes, strict=True)]
