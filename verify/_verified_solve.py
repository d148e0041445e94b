"""Verified linear algebra with an approximate inverse: zeros of equations, nonsingular matrices, signs of determinants.

Whoever computed the approximate inverse A, `||I - A M||_inf < 1` proves that A and M are nonsingular; nothing is
assumed of LAPACK. Norms are linf: largest row sums of moduli, rounded up.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from . import _midrad as midrad
from ._midrad import MidRad
from ._rounding import add_up, mul_up
from ._spectral import inf_norm_bound


def approximate_inverse(matrix: Tensor) -> Tensor | None:
    """An approximation of the inverse of (n, n), a proposal; None where none is finite."""
    inverse, info = torch.linalg.inv_ex(matrix)
    return inverse if int(info) == 0 and bool(inverse.isfinite().all()) else None


def contraction_defect_bound(inverse: Tensor, matrix: MidRad) -> float:
    """Upper bound of `||I - A M||_inf` for every M in the enclosure; inf where that is not finite."""
    eye = MidRad.exact(torch.eye(inverse.shape[0], dtype=torch.float64))
    return _norm_bound(midrad.sub(eye, midrad.matmul(MidRad.exact(inverse), matrix)))


def newton_bound(inverse: Tensor, values: MidRad) -> float:
    """Upper bound of `||A F||_inf` for every vector F in the enclosure; inf where that is not finite."""
    return _norm_bound(midrad.matmul(MidRad.exact(inverse), values.apply_exact(lambda t: t.reshape(-1, 1))))


def has_one_zero(residual_bound: float, defect_bound: float, radius: float) -> bool:
    """T6 (Newton-Kantorovich): `Z < 1` and `Y + Z r <= r`.

    Then `y -> y - A F(y)` contracts the closed ball B(c, r) into itself and A is nonsingular: F has exactly one zero
    in the ball.
    """
    if not (defect_bound < 1 and 0 < radius < math.inf):
        return False
    return bool(add_up(residual_bound, mul_up(defect_bound, radius)) <= radius)


def determinant_sign(matrix: MidRad) -> int:
    """The sign of det M, the same for every M in the enclosure; 0 where it is not proven.

    With the factors `mid = Q L U` of LAPACK as proposals, X and Y are triangular approximations of the inverses of L
    and U, X with ones on its diagonal: `||I - Y X Q^T M|| < 1` gives `sign det M = sign det(Q) prod sign(Y_ii)`, for
    `det(Y X Q^T M) > 0` (there is no zero of `det(I + t (Y X Q^T M - I))` on 0 <= t <= 1).
    """
    if not matrix.is_finite():
        return 0
    n = matrix.mid.shape[0]
    permutation, lower, upper = torch.linalg.lu(matrix.mid)
    eye = torch.eye(n, dtype=torch.float64)
    left = torch.linalg.solve_triangular(lower, eye, upper=False, unitriangular=True).tril(-1) + eye
    right = torch.linalg.solve_triangular(upper, eye, upper=True).triu()
    order = permutation.argmax(dim=0)
    if not bool(left.isfinite().all() & right.isfinite().all()) or sorted(order.tolist()) != list(range(n)):
        return 0
    moved = matrix.apply_exact(lambda t: t[order])
    product = midrad.matmul(MidRad.exact(right), midrad.matmul(MidRad.exact(left), moved))
    if not _norm_bound(midrad.sub(MidRad.exact(eye), product)) < 1:
        return 0
    negative = int((right.diagonal() < 0).sum())
    return _parity(order.tolist()) * (-1 if negative % 2 else 1)


def _parity(order: list[int]) -> int:
    """The sign of a permutation: -1 for each cycle of even length."""
    seen, sign = set[int](), 1
    for start in range(len(order)):
        length, place = 0, start
        while place not in seen:
            seen.add(place)
            place, length = order[place], length + 1
        if length and length % 2 == 0:
            sign = -sign
    return sign


def _norm_bound(matrix: MidRad) -> float:
    return inf_norm_bound(matrix) if matrix.is_finite() else math.inf
