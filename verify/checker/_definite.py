"""Lower bounds of smallest eigenvalues of symmetric matrices of balls.

H is replaced by integers, `H = 2^-k N + E`. For any integer matrix L, `N = L L^T + R` gives
`lambda_min(N) >= min_i (R_ii - sum_{j != i} |R_ij|)` (Gershgorin): exact integer arithmetic; floating point only
proposes L, the Cholesky factor of N less some of the room there is.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from flint import arb, fmpz, fmpz_mat

from . import _arithmetic as ball
from ._matrix_norm import BITS, rounded

ROOM = 2.0**-37  # of the matrix' norm: how far the factor's matrix lies below N, where half of its room is less


def lowest_eigenvalue(H: ball.Balls) -> Any:
    """A lower bound of the smallest eigenvalue of every symmetric matrix in H."""
    n = H.shape[0]
    top = float(ball.largest(ball.absolute(H)).upper())
    if not 0 < top < math.inf:
        return arb(0) if top == 0 else arb.neg_inf()
    shift = BITS - math.frexp(top)[1]
    integers, error = rounded(H, shift)
    grid = np.array(integers, dtype=object).reshape(n, n)
    grid = np.tril(grid) + np.tril(grid, -1).T  # symmetric to the last bit
    floats = np.array([float(int(value)) for value in grid.reshape(-1)]).reshape(n, n) * 2.0**-BITS
    size = float(np.abs(floats).sum(axis=1).max())
    bounds = [_factored(grid, floats - room * np.eye(n)) for room in _rooms(floats, size)]
    known = [bound for bound in bounds if bound is not None]
    if not known:
        return arb.neg_inf()
    return (arb(max(known)) * arb(2) ** (-shift - BITS) - error * n).lower()


def _rooms(floats: np.ndarray[Any, Any], size: float) -> list[float]:
    """How far below N to look for a factor: a little, and half of the smallest eigenvalue as computed."""
    try:
        half = float(np.linalg.eigvalsh(floats)[0]) / 2
    except np.linalg.LinAlgError:
        half = 0.0
    return [ROOM * size, half] if half > 0 else [ROOM * size]


def _factored(grid: np.ndarray[Any, Any], proposal: np.ndarray[Any, Any]) -> fmpz | None:
    """`2^BITS` times a lower bound of N's smallest eigenvalue, from the Cholesky factor of a proposal just below N."""
    n = len(grid)
    try:
        factor = np.linalg.cholesky(proposal)
    except np.linalg.LinAlgError:
        return None
    if not np.isfinite(factor).all():
        return None
    lower = fmpz_mat(n, n, [fmpz(int(value * 2.0**BITS)) for value in factor.reshape(-1).tolist()])
    rest = fmpz_mat(n, n, grid.reshape(-1).tolist()) * fmpz(2) ** BITS - lower * lower.transpose()
    entries = rest.entries()
    return min(_gershgorin(entries[i * n : (i + 1) * n], i) for i in range(n))


def _gershgorin(row: list[fmpz], i: int) -> fmpz:
    return row[i] - sum((abs(entry) for j, entry in enumerate(row) if j != i), fmpz(0))
