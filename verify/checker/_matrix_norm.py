"""Upper bounds of ||A||_2 for matrices of balls.

Two ways, both checked in exact or ball arithmetic; floating point only proposes.

*Factorisation.* A is replaced by integers N with A = 2^-k N + E, ||E|| small. For an integer T and any integer
matrix L, `T I - N^T N = L L^T + R` gives `N^T N <= T I - R`, hence `||N||_2^2 <= T + max_i sum_j |R_ij|`:
exact integer arithmetic (`_integers.py`); a good floating-point Cholesky factor L makes R tiny.

*Collatz-Wielandt.* For any x > 0, `||A||_2^2 <= max_i (|A|^T |A| x)_i / x_i`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from flint import arb

from . import _arithmetic as ball
from ._integers import (
    LARGEST_TERMS,
    Floats,
    Ints,
    add_multiple_of_2_60,
    factor_in_integers,
    gram,
    in_units_of_2_40,
    midpoints,
    rounded,
    square_of,
    sums_up,
)
from ._matrix import Matrix, from_dense

NORM_BITS = 57  # ||N||_2 is near 2^57 in the factorisation
LARGEST_FACTORED = 4096  # order of the Gram matrix; beyond it only Collatz-Wielandt
LARGEST_SPARSE_FACTORED = 400
_SOLVED = 1536  # columns up to which all singular values are proposed at once


def enclosed_spectral_norm(entries: ball.Balls) -> ball.Ball:
    """||A||_2 of a dense matrix: from above by `spectral_bound`, from below by the gain of one vector."""
    upper = spectral_bound(from_dense(entries))
    if not entries.size or not ball.all_finite(entries):
        return upper
    middle = np.array([[float(entry.mid()) for entry in row] for row in entries])
    direction = ball.balls(np.linalg.svd(middle, full_matrices=False)[2][0].tolist(), (entries.shape[1], 1))
    image = ball.matrix_product(entries, direction)
    gain = ball.total(ball.times(image, image)).sqrt() / ball.total(ball.times(direction, direction)).sqrt()
    lower = gain.lower() if gain.is_finite() and bool(gain.lower() > 0) else arb(0)
    return lower.union(upper)


def spectral_bound(matrix: Matrix) -> ball.Ball:
    """An exact upper bound of ||A||_2.

    Args:
        matrix: (m, n), entries enclosed and finite.
    """
    if not len(matrix.values):
        return arb(0)
    if not ball.all_finite(matrix.values):
        return arb.pos_inf()
    bounds, order = [], min(matrix.shape)
    limit = LARGEST_FACTORED if matrix.full else LARGEST_SPARSE_FACTORED
    factored = order <= limit and max(matrix.shape) <= min(4 * limit, LARGEST_TERMS)
    if not factored or not matrix.full or _nonnegative(matrix):
        bounds.append(collatz_wielandt_bound(matrix))
    if factored:
        bounds.append(factored_bound(matrix.dense()))
    result = bounds[0]
    for bound in bounds[1:]:
        result = result.min(bound)
    return result.upper()


def _nonnegative(matrix: Matrix) -> bool:
    return all(value >= 0 for value in matrix.values)


# ---------------------------------------------------------------------------------------------- factorisation


def factored_bound(entries: ball.Balls) -> ball.Ball:
    """An upper bound of ||A||_2 by an exactly verified factorisation; A is (m, n)."""
    tall = entries if entries.shape[0] >= entries.shape[1] else entries.T
    near = midpoints(tall)
    scale = float(np.abs(near).max(initial=0.0))
    if not 0 < scale < math.inf:  # only tiny radii, or beyond binary64: the Frobenius norm will do
        return _frobenius(tall)
    estimate = _norm_estimate(near / scale)
    shift = NORM_BITS - math.frexp(scale)[1] - math.frexp(estimate)[1]
    grid = rounded(tall, near, shift)
    if grid is None:
        return _frobenius(tall)
    simple = arb(float(_row_sums_of_gram(grid.integers).max(initial=0.0)))
    bound, coefficients = simple, gram(grid.integers)
    proposal = np.ldexp(grid.integers.astype(np.float64), -NORM_BITS)
    square = (estimate * math.ldexp(scale, shift - NORM_BITS)) ** 2
    for tiny in (4.0, 40.0, 1e4, 2.0**40):
        found = _shifted_bound(coefficients, proposal, square * (1 + tiny * tall.shape[1] * 2.0**-53))
        if found is not None:
            bound = bound.min(found)
            break
    return (bound.sqrt() * arb(2) ** (-shift) + grid.error).upper()


def _norm_estimate(matrix: Floats) -> float:
    """About ||A||_2, for a proposal."""
    from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

    n = matrix.shape[1]
    if n <= _SOLVED:  # Lanczos' method takes thousands of steps where the largest singular values are near each other
        return math.sqrt(max(float(np.linalg.eigvalsh(matrix.T @ matrix)[-1]), 0.0))
    operator = LinearOperator((n, n), matvec=lambda x: matrix.T @ (matrix @ x), dtype=np.float64)
    try:
        return math.sqrt(float(eigsh(operator, k=1, v0=np.cos(np.arange(n)), tol=0, return_eigenvectors=False)[0]))
    except (ArpackError, ValueError):
        return float(np.linalg.norm(matrix, 2))


def _frobenius(entries: ball.Balls) -> ball.Ball:
    return ball.root_up(ball.total(ball.times(entries, entries)))


def _row_sums_of_gram(integers: Ints) -> Floats:
    """Upper bounds of the row sums of `|N|^T |N|`, for what needs no factor."""
    moduli = np.abs(integers.astype(np.float64))
    return np.asarray(moduli.T @ moduli.sum(axis=1) * (1 + 2.0**-30))


def _shifted_bound(coefficients: list[Ints], proposal: Floats, square: float) -> ball.Ball | None:
    """`T + max_i sum_j |R_ij|`, R = T I - N^T N - L L^T exactly; None where no factor was found.

    Args:
        coefficients: of N^T N, as `gram` gives them.
        proposal: 2^-NORM_BITS N, of norm at most 1.
        square: a little above the proposal's norm squared, if T is to have a factor.
    """
    n = proposal.shape[1]
    top = int(square * 2.0 ** (2 * NORM_BITS - 60))
    lower = factor_in_integers(square * np.eye(n) - proposal.T @ proposal, NORM_BITS)
    if lower is None:
        return None
    rest = [-a - b for a, b in zip(coefficients, square_of(lower), strict=True)]
    add_multiple_of_2_60(rest, np.diag(np.full(n, top, dtype=np.int64)))
    units = in_units_of_2_40(rest)
    if units is None:
        return None
    return arb(top) * arb(2) ** 60 + arb(float(sums_up(np.abs(units) + 1).max())) * arb(2) ** 40


# ------------------------------------------------------------------------------------------- Collatz-Wielandt


def collatz_wielandt_bound(matrix: Matrix) -> ball.Ball:
    """An upper bound of ||A||_2 from the best of a few proposed positive vectors."""
    transposed = matrix.transposed()
    best = arb.pos_inf()
    for proposal in _proposals(matrix):
        x = ball.balls(proposal.tolist(), (len(proposal), 1))
        image = transposed.magnitude_times(matrix.magnitude_times(x))
        ratio = ball.largest(ball.array(image / x))
        if ratio.is_finite():
            best = best.min(ratio.upper())
    return best.sqrt().upper()


def _proposals(matrix: Matrix) -> Iterator[Floats]:
    """Positive vectors near the dominant right singular vector of |A|."""
    n = matrix.shape[1]
    yield np.ones(n)
    values = np.array([float(abs(value).mid()) for value in matrix.values])
    top = values.max()
    values = values / top if 0 < top < math.inf else np.ones(len(values))
    for start in (np.ones(n), _dominant(matrix, values)):
        x = _positive(start)
        for _ in range(200):
            y = np.bincount(matrix.rows, values * x[matrix.cols], matrix.shape[0])
            x = _positive(np.bincount(matrix.cols, values * y[matrix.rows], n))
        yield x


def _dominant(matrix: Matrix, values: Floats) -> Floats:
    """The dominant right singular vectors of the connected parts of |A|, one beside the other."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components
    from scipy.sparse.linalg import ArpackError, eigsh

    m, n = matrix.shape
    a = csr_array((values, (matrix.rows, matrix.cols)), shape=(m, n))
    gram = csr_array(a.T @ a)
    count, label = connected_components(gram, directed=False)
    result = np.ones(n)
    for part in range(min(count, 1000)):
        where = np.flatnonzero(label == part)
        if len(where) < 3:
            continue
        try:
            _, vectors = eigsh(gram[where][:, where], k=1, which="LA", v0=np.ones(len(where)), tol=0)
        except ArpackError:
            continue
        result[where] = np.abs(vectors[:, 0])
    return result


def _positive(x: Any) -> Floats:
    """The vector scaled to a largest entry of 1, zeros replaced by something tiny."""
    top = float(np.max(x, initial=0.0))
    if not 0 < top < math.inf:
        return np.ones(len(x))
    return np.maximum(np.asarray(x) / top, 1e-100)
