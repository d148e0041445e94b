"""Powers of an operator (T1): products of m slope matrices, as one matrix of intervals per problem."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from . import _midrad as midrad
from ._interval_jacobian import interval_jacobian
from ._midrad import MidRad
from ._norm import Norm
from ._problem import Problem
from ._stack_norm import flat_weights, identity_like, operator_norm_bound

MOST_DOUBLINGS = 20  # the largest power is 2^20
_HOPELESS = 1e100


@dataclass(frozen=True)
class Power:
    """Proven numbers of G^m, m = 2^doublings.

    Attributes:
        doublings: how often the slope matrix was squared.
        bound: of `||M_m ... M_1||` for all slopes M_k: a constant of G^m.
        spread: of `||I + M_1 + ... + M_(m-1) ... M_1||`.
    """

    doublings: int
    bound: float
    spread: float


def power_bounds(problem: Problem, norm: Norm, damping: float) -> Iterator[Power]:
    """The powers 1, 2, 4, .. of `(1-b) y + b G(y)`, as long as there is hope.

    With `P_m` an enclosure of all products of m slope matrices and `S_m` one of all sums of the products of 0 to m - 1
    of them, `P_2m = P_m P_m` and `S_2m = S_m + P_m S_m`.

    Raises:
        UnsupportedOperationError: no Jacobian expression with slopes everywhere, or one too large to write out.
    """
    weights = flat_weights(norm)
    product = damped(interval_jacobian(problem.jacobian, problem.batch_dims), damping)
    total = identity_like(product)
    for doublings in range(MOST_DOUBLINGS + 1):
        bound, spread = (operator_norm_bound(each, norm.order, weights) for each in (product, total))
        yield Power(doublings, bound, spread)
        if not (bound < _HOPELESS and math.isfinite(spread)) or bound < 1:
            return
        total = midrad.add(total, midrad.matmul(product, total))
        product = midrad.matmul(product, product)


def damped(slopes: MidRad, damping: float) -> MidRad:
    """`(1-b) I + b M` for matrices M of a stack."""
    if damping == 1:
        return slopes
    b, eye = MidRad.exact(torch.tensor(damping, dtype=torch.float64)), identity_like(slopes)
    return midrad.add(eye, midrad.mul(midrad.sub(slopes, eye), b))
