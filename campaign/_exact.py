"""Exact integers and rationals that bounds are compared with; none of it comes from `deqops`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from flint import arb, fmpq, fmpq_mat, fmpz_mat
from numpy.typing import NDArray
from torch import Tensor

Rational = Any  # flint.fmpq
RationalMatrix = Any  # flint.fmpq_mat
IntegerMatrix = Any  # flint.fmpz_mat
Floats = NDArray[np.float64]


def rational(value: float) -> Rational:
    """A float as it is."""
    numerator, denominator = float(value).as_integer_ratio()
    return fmpq(numerator, denominator)


def rationals(tensor: Tensor) -> list[Rational]:
    """A tensor's entries as they are, row by row."""
    return [rational(value) for value in tensor.detach().double().reshape(-1).tolist()]


def rational_matrix(tensor: Tensor) -> RationalMatrix:
    """A matrix of floats as it is."""
    rows, cols = tensor.shape
    return fmpq_mat(rows, cols, rationals(tensor))


def identity(size: int) -> RationalMatrix:
    """The identity matrix."""
    return diagonal([fmpq(1)] * size)


def diagonal(values: Sequence[Rational]) -> RationalMatrix:
    """A diagonal matrix."""
    size = len(values)
    return fmpq_mat(size, size, [values[i] if i == j else fmpq(0) for i in range(size) for j in range(size)])


def kronecker(a: RationalMatrix, b: RationalMatrix) -> RationalMatrix:
    """The Kronecker product, which acts on tensors flattened row by row."""
    rows, cols = a.nrows() * b.nrows(), a.ncols() * b.ncols()
    entries = [
        a[i // b.nrows(), j // b.ncols()] * b[i % b.nrows(), j % b.ncols()] for i in range(rows) for j in range(cols)
    ]
    return fmpq_mat(rows, cols, entries)


# --------------------------------------------------------------------------------------- integers of matrices


def integers(a: Floats) -> tuple[IntegerMatrix, int]:
    """`(M, e)` with `a = M 2^e` exactly."""
    mantissa, exponent = np.frexp(a)
    whole = np.ldexp(mantissa, 53).astype(np.int64)
    places = np.where(a != 0, exponent.astype(np.int64) - 53, 0)
    least = int(places[a != 0].min()) if bool((a != 0).any()) else 0
    rows = [
        [int(m) << int(p - least) if m else 0 for m, p in zip(row, place, strict=True)]
        for row, place in zip(whole, places, strict=True)
    ]
    return fmpz_mat(rows), least


def gram(matrix: IntegerMatrix) -> IntegerMatrix:
    """`M^T M` or `M M^T`, the smaller."""
    flipped = matrix.transpose()
    return flipped * matrix if matrix.ncols() <= matrix.nrows() else matrix * flipped


def is_semidefinite(matrix: IntegerMatrix, *, definite: bool = False) -> bool:
    """Whether a symmetric integer matrix is positive semidefinite (or definite), exactly.

    The coefficients of its characteristic polynomial are, with alternating signs, the elementary symmetric functions
    of its real eigenvalues; these are all nonnegative if and only if no eigenvalue is negative.
    """
    coefficients = matrix.charpoly().coeffs()
    degree = matrix.nrows()
    signed = [-c if (degree - k) % 2 else c for k, c in enumerate(coefficients)]
    return all(c > 0 if definite else c >= 0 for c in signed)


def shifted(square: Rational, matrix: IntegerMatrix, exponent: int) -> IntegerMatrix:
    """A positive multiple of `square I - M 2^exponent` in integers."""
    factor = square / fmpq(2) ** exponent if exponent >= 0 else square * fmpq(2) ** -exponent
    size, top, bottom = matrix.nrows(), factor.p, factor.q
    return fmpz_mat(size, size, [top if i == j else 0 for i in range(size) for j in range(size)]) - matrix * bottom


# ------------------------------------------------------------------------------------- norms of rational matrices


def norm_at_most(matrix: RationalMatrix, order: str, limit: Rational, *, strictly: bool = False) -> bool:
    """Whether the operator norm from l_p to l_p is at most (or below) `limit`."""
    if limit < 0:
        return False
    if order == "l2":
        numerators, denominator = matrix.numer_denom()
        return is_semidefinite(shifted((limit * denominator) ** 2, gram(numerators), 0), definite=strictly)
    table = matrix.tolist() if order == "linf" else matrix.transpose().tolist()
    largest = max((sum((abs(x) for x in row), fmpq(0)) for row in table), default=fmpq(0))
    return bool(largest < limit if strictly else largest <= limit)


def is_stable(matrix: RationalMatrix) -> bool:
    """Whether every eigenvalue has modulus below 1: Schur and Cohn's reduction of the characteristic polynomial."""
    p = list(matrix.charpoly().coeffs())
    while len(p) > 1:
        constant, leading = p[0], p[-1]
        if not abs(constant) < abs(leading):
            return False
        reduced = [leading * a - constant * b for a, b in zip(p, reversed(p), strict=True)][1:]
        p = [a / reduced[-1] for a in reduced]
    return True


def vector_power(values: Sequence[Any], order: str) -> Any:
    """The l1 or linf norm, or the square of the l2 norm, of rationals or balls."""
    if order == "l2":
        return sum((v * v for v in values), values[0] * 0)
    moduli = [abs(v) for v in values]
    if order == "l1":
        return sum(moduli, values[0] * 0)
    largest = moduli[0]
    for modulus in moduli[1:]:
        largest = largest.max(modulus) if isinstance(largest, arb) else max(largest, modulus)
    return largest


def power(value: Rational, order: str) -> Rational:
    """A norm's value in the form of `vector_power`."""
    return value * value if order == "l2" else value
