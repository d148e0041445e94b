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
from ._rounding import add_up, div_up, exact_float64, mul_up, sub_down
from ._spread import spread
from ._stack_norm import flat_weights, identity_like, operator_norm_bound

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

    In l2 the less of the norm of the matrix of intervals and `||I - A (I - T)|| + ||A|| d` for all within d of T
    (`_spread.py`).

    Raises:
        UnsupportedOperationError: the operator has no Jacobian expression, or one too large to write out.
    """
    jacobian = local_jacobian(problem, ball, norm)
    J = interval_jacobian(jacobian, problem.batch_dims)
    inverse = proposed_inverse(identity_like(J).mid - J.mid)
    step = midrad.matmul(MidRad.exact(inverse), gap(problem, ball))
    weights = flat_weights(norm)
    defect = norm.upper(_leaves(step.magnitude(), problem), batch_dims=1)
    size = operator_norm_bound(MidRad.exact(inverse), norm.order, weights)
    contraction = operator_norm_bound(_rest(inverse, J), norm.order, weights)
    if norm.order == "l2" and weights is None and size < math.inf:
        around = spread(jacobian, problem.batch_dims)
        middle = operator_norm_bound(_rest(inverse, MidRad.exact(around.middle)), "l2", None)
        contraction = min(contraction, float(add_up(middle, mul_up(size, around.deviation))))
    return Newton(
        inverse,
        float(mul_up(float(defect.max()) if defect.numel() else 0.0, slack)),
        float(mul_up(contraction, slack)),
        float(mul_up(size, slack)),
    )


def _rest(inverse: Tensor, J: MidRad) -> MidRad:
    """`I - A (I - J)`."""
    derivative = midrad.sub(identity_like(J), J)
    return midrad.sub(identity_like(J), midrad.matmul(MidRad.exact(inverse), derivative))


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


def _leaves(flat: Tensor, problem: Problem) -> list[Tensor]:
    """The rows (problems, n, 1) leaf by leaf, each (problems, *leaf)."""
    sizes = [math.prod(shape) for shape in problem.problem_shapes]
    parts = torch.split(flat[..., 0], sizes, dim=1)
    return [part.reshape(len(part), *shape) for part, shape in zip(parts, problem.problem_shapes, strict=True)]
