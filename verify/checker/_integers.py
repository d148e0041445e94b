"""Exact integer products of large matrices from floating-point ones, and the balls they come from.

An integer below 2^60 in modulus is three digits to the base 2^20, the leading one signed. A product of two digit
matrices with at most 8192 terms an entry is a sum of integers whose partial sums never exceed 2^53: binary64
computes it without rounding, in any order of summation, fused or not (only a Strassen-like product, which no BLAS
uses unasked, might leave that range). `N^T N` is then five int64 matrices, the coefficients of 2^0, 2^20, .. 2^80.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from flint import arb
from numpy.typing import NDArray

from . import _arithmetic as ball

DIGIT, LARGEST_ENTRY, LARGEST_TERMS = 20, 2**60, 8192
_MASK = 2**DIGIT - 1

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Rounded:
    """`A = 2^-shift N + E` with `||E||_F <= error` for every A in the balls; |N| < 2^60."""

    integers: Ints
    shift: int
    error: Any

    @property
    def floats(self) -> Floats:
        """`2^-shift N`, for proposals only."""
        return np.ldexp(self.integers.astype(np.float64), -self.shift)


def midpoints(entries: ball.Balls) -> Floats:
    """Floating-point numbers near the balls' midpoints."""
    return np.array([float(entry) for entry in entries.reshape(-1)]).reshape(entries.shape)


def rounded(entries: ball.Balls, near: Floats, shift: int) -> Rounded | None:
    """The balls as integers times 2^-shift; None where an entry is too large.

    Args:
        entries: a ball array.
        near: `midpoints(entries)`.
        shift: a power of two.
    """
    scaled = np.ldexp(near, shift)
    if not bool((np.abs(scaled) < LARGEST_ENTRY / 2).all()):  # false for NaN
        return None
    nearest = np.rint(scaled)
    # The difference is exact. What ldexp lost by underflow is far below 2^-500 an entry.
    squares = float(np.square(scaled - nearest).sum()) * (1 + 2.0**-20) + 2.0**-500
    # A ball equals a number only when it is certain to; "!=" would ask whether it certainly differs.
    pairs = zip(entries.flat, near.flat, strict=True)
    inexact = [abs(entry - arb(f)) for entry, f in pairs if not entry == f]  # noqa: SIM201
    apart = arb(0)
    for gap in inexact:
        apart = apart.max(gap)
    error = arb(squares).sqrt() * arb(2) ** (-shift) + apart.upper() * arb(entries.size).sqrt()
    return Rounded(nearest.astype(np.int64), shift, error.upper())


def gram(integers: Ints) -> list[Ints]:
    """`N^T N` as coefficients of 2^0, 2^20, .. 2^80, each below 2^55 in modulus.

    Raises:
        ValueError: more than 8192 rows.
    """
    if integers.shape[0] > LARGEST_TERMS:
        raise ValueError(f"{integers.shape[0]} terms are too many for exact sums")
    digits = [integers & _MASK, (integers >> DIGIT) & _MASK, integers >> 2 * DIGIT]
    low, middle, high = (digit.astype(np.float64) for digit in digits)
    return [
        _exact(low, low),
        _both(_exact(low, middle)),
        _both(_exact(low, high)) + _exact(middle, middle),
        _both(_exact(middle, high)),
        _exact(high, high),
    ]


def _exact(a: Floats, b: Floats) -> Ints:
    return (a.T @ b).astype(np.int64)


def _both(product: Ints) -> Ints:
    return product + product.T


def add_multiple_of_2_60(coefficients: list[Ints], value: Ints) -> None:
    """Add `value * 2^60`, in place; |value| < 2^75."""
    coefficients[3] += value & _MASK
    coefficients[4] += value >> DIGIT


def in_units_of_2_40(coefficients: list[Ints]) -> Ints | None:
    """Integers H with `0 <= value - 2^40 H < 2^40` entry by entry; None where one reaches 2^61.

    H is summed modulo 2^64, and is right since its modulus is known to be small: the same sum in floating point
    errs by less than 2^50.
    """
    carried = coefficients[1] + (coefficients[0] >> DIGIT)
    lowest = coefficients[2] + (carried >> DIGIT)
    parts = [lowest, coefficients[3], coefficients[4]]
    near = sum(np.ldexp(part.astype(np.float64), DIGIT * k) for k, part in enumerate(parts))
    if not bool((np.abs(near) < 2.0**61).all()):
        return None
    wrapped = [part.view(np.uint64) * np.uint64(2 ** (DIGIT * k)) for k, part in enumerate(parts)]
    total: Ints = (wrapped[0] + wrapped[1] + wrapped[2]).view(np.int64)
    return total


def sums_up(moduli: Ints) -> Floats:
    """Upper bounds of the sums of the rows of nonnegative integers below 2^62, at most 2^13 of them."""
    return np.asarray(moduli.astype(np.float64).sum(axis=1) * (1 + 2.0**-30))


def factor_in_integers(matrix: Floats, bits: int) -> Ints | None:
    """`2^bits L` rounded, L the Cholesky factor of a matrix; None where there is none or it is too large."""
    try:
        scaled = np.ldexp(np.linalg.cholesky(matrix), bits)
    except np.linalg.LinAlgError:
        return None
    return np.rint(scaled).astype(np.int64) if bool((np.abs(scaled) < LARGEST_ENTRY / 2).all()) else None


def square_of(lower: Ints) -> list[Ints]:
    """`L L^T`, as `gram` gives it."""
    return gram(np.ascontiguousarray(lower.T))
