"""T5, form (a): `<G(y) - G(z), y - z> <= m ||y - z||^2` in l2, diagonally weighted or not."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from deqops._errors import UnsupportedOperationError

from . import _midrad as midrad
from ._definite import lowest_eigenvalue_bound
from ._interval_jacobian import interval_jacobian
from ._midrad import MidRad
from ._monotone import Layer
from ._norm import Norm
from ._problem import Problem
from ._rounding import add_up, mul_up, sqrt_up, sum_up
from ._stack_norm import flat_weights

SLACK = 2.0**-36  # of the matrix' norm: room for a checker's own method
LARGEST = 2048  # unknowns of one problem
_HALVINGS = range(-3, 6)


def layer_one_sided(layer: Layer, weights: Tensor, multiplier: float) -> float:
    """Upper bound of the largest eigenvalue of sym(M) over all `M = S V`, `V = D W D^-1`, S diagonal in [a, b].

    With c = (a + b) / 2, h = (b - a) / 2 and any t > 0: `x^T S V x <= x^T (c sym(V) + h/2 (t I + V^T V / t)) x`, since
    `|x^T (S - c) V x| <= h ||x|| ||V x||`.
    """
    V = _scaled(layer.weight, weights)
    centre = midrad.mul(midrad.add(layer.lower, layer.upper), _scalar(0.5))
    quarter = midrad.mul(midrad.sub(layer.upper, layer.lower), _scalar(0.25))  # h / 2
    squares = midrad.div(midrad.matmul(_transposed(V), V), _scalar(multiplier))
    eye = MidRad.exact(torch.eye(len(weights), dtype=torch.float64) * multiplier)
    return _largest_eigenvalue(
        midrad.add(midrad.mul(_symmetric(V), centre), midrad.mul(midrad.add(eye, squares), quarter))
    )


def proposed_multiplier(layer: Layer, weights: Tensor) -> float:
    """A t > 0 for which `layer_one_sided` is nearly smallest."""
    V = (layer.weight.mid * weights[:, None] / weights[None, :]).nan_to_num(0.0, 0.0, 0.0)
    low, high = float(layer.lower.mid), float(layer.upper.mid)
    size = float(torch.linalg.matrix_norm(V, 2))
    if not 1e-100 < size < 1e100:
        return 1.0
    symmetric, squares, eye = (V + V.T) / 2, V.T @ V, torch.eye(len(V), dtype=torch.float64)
    best, smallest = size, math.inf
    for halvings in _HALVINGS:
        t = size * 2.0 ** (-halvings / 2)
        H = (low + high) / 2 * symmetric + (high - low) / 4 * (t * eye + squares / t)
        top = float(torch.linalg.eigvalsh(H)[-1])
        if top < smallest:
            best, smallest = t, top
    return best


def operator_one_sided(problem: Problem, norm: Norm) -> float:
    """Upper bound of the largest eigenvalue of sym(D M D^-1) over all slope products M, each entry in its interval.

    Raises:
        UnsupportedOperationError: no Jacobian expression with slopes everywhere, or one too large to write out.
    """
    problems = problem.example[0].shape[0] if problem.batch_dims else 1
    if problem.size > LARGEST:
        raise UnsupportedOperationError("operator", f"has {problem.size} unknowns: too many for theorem one_sided")
    J, weights = interval_jacobian(problem.jacobian, problem.batch_dims), flat_weights(norm)
    parts = [MidRad(J.mid[k], J.rad[k]) for k in range(problems)]
    return max(_largest_eigenvalue(_symmetric(part if weights is None else _scaled(part, weights))) for part in parts)


def damped_constant(mu: float, bound: float, damping: float) -> float:
    """Upper bound of `sqrt((1-b)^2 + 2 b (1-b) m + b^2 L^2)` for 0 < b <= 1; inf where a part is not finite."""
    if not (math.isfinite(mu) and math.isfinite(bound)):
        return math.inf
    b, m, L = (_scalar(value) for value in (damping, mu, bound))
    kept = midrad.sub(_scalar(1.0), b)
    cross = midrad.mul(midrad.mul(midrad.mul(b, kept), m), _scalar(2.0))
    total = midrad.add(midrad.add(midrad.mul(kept, kept), cross), midrad.mul(midrad.mul(b, b), midrad.mul(L, L)))
    return float(sqrt_up(total.upper().clamp(min=0)))


def best_damping(mu: float, bound: float) -> float:
    """About `min(1, (1-m) / (1-2m+L^2))`, the damping with the smallest constant; 1 where that is none."""
    try:
        found = (1 - mu) / (1 - 2 * mu + bound * bound)
    except (OverflowError, ZeroDivisionError):
        return 1.0
    return min(1.0, found) if found > 0 else 1.0


def _largest_eigenvalue(H: MidRad) -> float:
    if not H.is_finite():
        return math.inf
    size = float(sum_up(H.magnitude(), dim=1).max())
    return float(add_up(-lowest_eigenvalue_bound(midrad.neg(H)), mul_up(SLACK, size)))


def _symmetric(A: MidRad) -> MidRad:
    return midrad.mul(midrad.add(A, _transposed(A)), _scalar(0.5))


def _scaled(A: MidRad, weights: Tensor) -> MidRad:
    return midrad.mul(A, midrad.div(MidRad.exact(weights[:, None]), MidRad.exact(weights[None, :])))


def _transposed(A: MidRad) -> MidRad:
    return A.apply_exact(lambda t: t.T)


def _scalar(value: float) -> MidRad:
    return MidRad.exact(torch.tensor(value, dtype=torch.float64))
