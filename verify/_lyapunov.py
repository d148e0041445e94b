"""The numbers of T12: contraction in the norm `||R y||_2` on an ellipsoid, per problem and proven."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from . import _midrad as midrad
from ._interval_jacobian import interval_jacobian
from ._jacobian import Jacobian
from ._local import local_jacobian
from ._midrad import MidRad
from ._newton import gap, proposed_inverse
from ._norm import Norm
from ._powers import damped
from ._problem import Problem
from ._region import Ball
from ._rounding import add_up, div_up, mul_up, sqrt_up, sub_down, sum_of_squares_up
from ._spread import spread
from ._stack_norm import identity_like, operator_norm_bound

_DOUBLINGS = 48  # of Smith's iteration: 2^48 terms
_L2 = Norm("l2")


@dataclass(frozen=True, eq=False)
class Form:
    """R of the norm `||R y||_2`, P = R^T R, and S, about its inverse; each (problems, n, n), witnesses."""

    root: Tensor
    inverse: Tensor


@dataclass(frozen=True)
class Lyapunov:
    """Proven numbers for every problem at once.

    Attributes:
        defect: bound of `||R b (G(c) - c)||_2`.
        contraction: bound of `||R N R^-1||_2` for the slopes N of `(1-b) y + b G(y)` on the ellipsoid.
        size: bound of `||R||_2`.
        inverse_size: bound of `||R^-1||_2`.
        damping: b.
    """

    defect: float
    contraction: float
    size: float
    inverse_size: float
    damping: float

    @property
    def factor(self) -> float:
        """`|b| ||R|| ||R^-1|| / (1 - q)`, rounded up; inf unless q < 1."""
        if not self.contraction < 1:
            return math.inf
        condition = mul_up(mul_up(self.size, self.inverse_size), abs(self.damping))
        return float(div_up(condition, sub_down(1.0, self.contraction)))


def lyapunov_numbers(problem: Problem, ball: Ball, damping: float, form: Form, slack: float) -> Lyapunov:
    """The numbers of T12 on the ellipsoid `{||R (y - c)||_2 <= ||R|| r}`, each multiplied by `slack` >= 1.

    The ellipsoid contains the l2 ball of radius r; slopes are taken on the l2 ball of radius `||R|| ||R^-1|| r`, which
    contains it.

    Raises:
        UnsupportedOperationError: the operator has no Jacobian expression, or one too large to write out.
    """
    size, inverse_size = form_sizes(form, slack)
    reach = float(mul_up(mul_up(size, inverse_size), ball.radius))
    if not reach < math.inf:
        return Lyapunov(math.inf, math.inf, size, inverse_size, damping)
    jacobian = local_jacobian(problem, Ball(ball.center, reach), _L2)
    contraction = slopes_contraction(form, jacobian, problem.batch_dims, damping, slack)
    defect = _defect(problem, ball, damping, MidRad.exact(form.root), slack)
    return Lyapunov(defect, contraction, size, inverse_size, damping)


def form_sizes(form: Form, slack: float) -> tuple[float, float]:
    """Bounds of `||R||_2` and `||R^-1||_2`, each multiplied by `slack`; infinite where R is not shown to be regular."""
    kept = _kept(form)
    if kept is None:
        return math.inf, math.inf
    size, inverse_size = (operator_norm_bound(MidRad.exact(part), "l2", None) for part in (form.root, form.inverse))
    return float(mul_up(size, slack)), float(mul_up(div_up(inverse_size, kept), slack))


def slopes_contraction(form: Form, jacobian: Jacobian, batch_dims: int, damping: float, slack: float) -> float:
    """Bound of `||R N R^-1||_2` for the slopes N of `(1-b) y + b G(y)`, multiplied by `slack`.

    The less of that of the matrix of intervals and `||R T R^-1|| + |b| ||R|| ||R^-1|| d` for all within d of T
    (`_spread.py`).

    Raises:
        UnsupportedOperationError: a matrix on the way would be too large.
    """
    found = form_contraction(form, damped(interval_jacobian(jacobian, batch_dims), damping), slack)
    size, inverse_size = form_sizes(form, slack)
    if not size * inverse_size < math.inf:
        return found
    around = spread(jacobian, batch_dims)
    middle = form_contraction(form, damped(MidRad.exact(around.middle), damping), slack)
    away = mul_up(mul_up(mul_up(size, inverse_size), abs(damping)), around.deviation)
    return min(found, float(mul_up(add_up(middle, away), slack)))


def form_contraction(form: Form, slopes: MidRad, slack: float) -> float:
    """Bound of `||R N R^-1||_2` for all N in an enclosure, multiplied by `slack`."""
    kept = _kept(form)
    if kept is None:
        return math.inf
    conjugated = midrad.matmul(midrad.matmul(MidRad.exact(form.root), slopes), MidRad.exact(form.inverse))
    return float(mul_up(div_up(operator_norm_bound(conjugated, "l2", None), kept), slack))


def _kept(form: Form) -> float | None:
    """A number k > 0 with `||(R S)^-1||_2 <= 1 / k`, so that `R^-1 = S (R S)^-1`; None where there is none."""
    R, S = MidRad.exact(form.root), MidRad.exact(form.inverse)
    apart = operator_norm_bound(midrad.sub(identity_like(R), midrad.matmul(R, S)), "l2", None)
    return float(sub_down(1.0, apart)) if apart < 1 else None


def damped_slopes(problem: Problem, ball: Ball, damping: float) -> MidRad:
    """Enclosure of `(1-b) I + b M` for all slope products M over an l2 ball, (problems, n, n)."""
    M = interval_jacobian(local_jacobian(problem, ball, _L2), problem.batch_dims)
    return damped(M, damping)


def _defect(problem: Problem, ball: Ball, damping: float, R: MidRad, slack: float) -> float:
    step = midrad.matmul(R, gap(problem, ball)).magnitude()[..., 0]
    largest = float(torch.stack([sqrt_up(sum_of_squares_up(row)) for row in step]).max())  # NaN where any is
    return float(mul_up(mul_up(largest, abs(damping)), slack))


def proposed_form(slopes: Tensor) -> Form:
    """R in whose norm each matrix N, (problems, n, n), is about `(1 + rho(N)) / 2`; the identity where rho(N) >= 1.

    `R^T R = sum_k (N / rate)^k^T (N / rate)^k` satisfies `N^T R^T R N <= rate^2 R^T R`; the root of the sum by doubling
    (Smith, *Matrix equation XA + BX = C*, SIAM J. Appl. Math. 16, 1968) and QR, which keep its digits.
    """
    eye = torch.eye(slopes.shape[-1], dtype=torch.float64).expand(slopes.shape)
    finite = slopes.isfinite().all(dim=-1).all(dim=-1)[:, None, None]
    slopes = torch.where(finite, slopes, torch.zeros_like(slopes))
    radius = torch.linalg.eigvals(slopes).abs().amax(dim=-1)
    power = slopes / ((1 + radius) / 2)[:, None, None]
    root = eye
    for _ in range(_DOUBLINGS):
        taller = torch.cat([root, root @ power], dim=-2)
        if not bool(taller.isfinite().all()) or not bool(power.abs().amax() > 1e-100):
            break
        root, power = torch.linalg.qr(taller).R, power @ power
    good = (radius < 1)[:, None, None] & root.isfinite().all()
    root = torch.where(good, root, eye)
    root = root / root.abs().amax(dim=(-2, -1), keepdim=True)
    return Form(root.contiguous(), proposed_inverse(root).contiguous())
