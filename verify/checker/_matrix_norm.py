"""Upper bounds of ||A||_2 for matrices of balls.

Two ways, both checked in exact or ball arithmetic; floating point only proposes.

*Factorisation.* A is replaced by integers N with A = 2^-k N + E, |E| small. For an integer T and any integer
matrix L, `T I - N^T N = L L^T + R` gives `N^T N <= T I - R`, hence `||N||_2^2 <= T + max_i sum_j |R_ij|`:
exact integer arithmetic; a good floating-point Cholesky factor L makes R tiny.

*Collatz-Wielandt.* For any x > 0, `||A||_2^2 <= max_i (|A|^T |A| x)_i / x_i`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from flint import arb, fmpz, fmpz_mat
from numpy.typing import NDArray

from . import _arithmetic as ball
from ._matrix import Matrix

BITS = 72  # of the largest integer; entries lose at most 2^-72 of the largest one
LARGEST_FACTORED = 2048  # order of the Gram matrix; beyond it only Collatz-Wielandt
LARGEST_SPARSE_FACTORED = 400

Floats = NDArray[np.float64]


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
    factored = order <= limit and max(matrix.shape) <= 4 * limit
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
    top = float(ball.largest(ball.absolute(tall)).upper())
    if not 0 < top < math.inf:  # not finite, or beyond binary64: the Frobenius norm will do
        return ball.total(ball.times(tall, tall)).sqrt().upper()
    shift = BITS - math.frexp(top)[1]
    unit = arb(2) ** (-shift)
    integers, error = rounded(tall, shift)
    grid = fmpz_mat(tall.shape[0], tall.shape[1], integers)
    squared = _gram_bound(grid.transpose() * grid, _floats(integers, tall.shape))
    return (arb(squared).sqrt() * unit + error * arb(tall.size).sqrt()).upper()


def rounded(entries: ball.Balls, shift: int) -> tuple[list[fmpz], ball.Ball]:
    """Integers N and a number e with |A - 2^-shift N| <= e entry by entry."""
    scale = arb(2) ** shift
    integers, error = [], arb(0)
    for entry in entries.reshape(-1):
        scaled = entry * scale
        nearest = (scaled.mid() + arb(0.5)).floor().mid().unique_fmpz()
        integers.append(nearest)
        error = error.max(abs(scaled - arb(nearest)))
    return integers, (error.upper() / scale).upper()


def _floats(integers: list[fmpz], shape: tuple[int, ...]) -> Floats:
    """N in floating point, scaled to entries of at most 1: for proposals only."""
    return np.array([float(int(value)) for value in integers]).reshape(shape) * 2.0**-BITS


def _gram_bound(gram: fmpz_mat, proposal: Floats) -> fmpz:
    """An integer at least ||N||_2^2, N^T N = gram: with the first shift T that has a factor, or row sums."""
    n, simple = gram.nrows(), max(_row_sums(gram.entries(), gram.nrows()))
    estimate = float(np.linalg.norm(proposal, 2)) ** 2
    for tiny in (4.0 * n, 40.0 * n, 1e4 * n, 2.0**45):
        bound = _shifted_bound(gram, proposal, estimate * (1 + tiny * 2.0**-53))
        if bound is not None:
            return min(bound, simple)
    return simple


def _shifted_bound(gram: fmpz_mat, proposal: Floats, shift: float) -> fmpz | None:
    """`T + max_i sum_j |R_ij|`, R = T I - gram - L L^T exactly; None where no factor was found."""
    n = gram.nrows()
    try:
        factor = np.linalg.cholesky(shift * np.eye(n) - proposal.T @ proposal)
    except np.linalg.LinAlgError:
        return None
    if not np.isfinite(factor).all():
        return None
    lower = fmpz_mat(n, n, [fmpz(int(value * 2.0**BITS)) for value in factor.reshape(-1).tolist()])
    top = fmpz(int(shift * 2.0**100)) * fmpz(2) ** (2 * BITS - 100)
    rest = gram + lower * lower.transpose()
    residual = [-entry for entry in rest.entries()]
    for i in range(n):
        residual[i * n + i] += top
    return top + max(_row_sums(residual, n))


def _row_sums(entries: list[fmpz], n: int) -> Iterator[fmpz]:
    return (sum((abs(entry) for entry in entries[i * n : (i + 1) * n]), fmpz(0)) for i in range(n))


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
