"""Lower bounds of smallest eigenvalues of symmetric matrices of balls.

H is replaced by integers, `H = 2^-k N + E`. For any integer matrix L, `N = L L^T + R` gives
`lambda_min(N) >= min_i (R_ii - sum_{j != i} |R_ij|)` (Gershgorin): exact integer arithmetic; floating point only
proposes L, the Cholesky factor of N less some of the room there is.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from flint import arb

from . import _arithmetic as ball
from ._integers import (
    LARGEST_TERMS,
    Ints,
    add_multiple_of_2_60,
    factor_in_integers,
    in_units_of_2_40,
    midpoints,
    rounded,
    square_of,
    sums_up,
)

BITS = 56  # of the largest integer that stands for an entry of H
ROOM = 2.0**-37  # of the matrix' norm: how far the factor's matrix lies below N


def lowest_eigenvalue(H: ball.Balls) -> Any:
    """A lower bound of the smallest eigenvalue of every symmetric matrix in H."""
    n, near = H.shape[0], midpoints(H)
    top = float(np.abs(near).max(initial=0.0))
    if not 0 < top < math.inf or n > LARGEST_TERMS:
        return arb.neg_inf()
    shift = BITS - math.frexp(top)[1]  # N = 2^shift H is below 2^BITS, L L^T near 2^60 N
    grid = rounded(H, near, shift)
    if grid is None:
        return arb.neg_inf()
    # Symmetric to the last bit; an entry that stands for its mirror image brings its own error, sqrt(2) in all.
    integers = np.tril(grid.integers) + np.tril(grid.integers, -1).T
    found = _least(integers, _nearly_least(integers))
    return (arb(found) * arb(2) ** -shift - 2 * grid.error).lower() if found is not None else arb.neg_inf()


def _nearly_least(integers: Ints) -> int:
    """An integer somewhat below the smallest eigenvalue, as far as floating point can tell; 0 where that is less."""
    try:
        values = np.linalg.eigvalsh(integers.astype(np.float64))
    except np.linalg.LinAlgError:
        return 0
    least = float(values[0]) - 4 * ROOM * float(np.abs(values).max())
    return int(least) if 0 < least < 2.0**BITS else 0


def _least(integers: Ints, given: int) -> Any:
    """A lower bound of the smallest eigenvalue of N: `given`, taken from the diagonal, and that of the rest."""
    taken = integers - given * np.eye(len(integers), dtype=np.int64)
    floats = np.ldexp(taken.astype(np.float64), -BITS)
    room = ROOM * float(np.abs(floats).sum(axis=1).max())
    lower = factor_in_integers(floats - room * np.eye(len(floats)), (BITS + 60) // 2)
    if lower is None:
        return None if given == 0 else _least(integers, 0)
    rest = [-part for part in square_of(lower)]
    add_multiple_of_2_60(rest, taken)
    units = in_units_of_2_40(rest)
    return None if units is None else arb(given) + arb(_gershgorin(units)) * arb(2) ** -20


def _gershgorin(units: Ints) -> float:
    """A lower bound of `min_i R_ii - sum_{j != i} |R_ij|` in units of 2^40, from `0 <= R - 2^40 units < 2^40`."""
    moduli = np.abs(units) + 1
    np.fill_diagonal(moduli, 0)
    return float((np.diag(units).astype(np.float64) * (1 - np.sign(np.diag(units)) * 2.0**-50) - sums_up(moduli)).min())
