"""Euclidean constants of layers: `abs(M x)^2 <= (t + g) abs(x)^2` from an F for which `M^T M + F^T F - t I` is small.

F is proposed in floats, an approximate Cholesky factor; the inequalities are those of `euclidean_ok` in
`proofs/network/Euclid.v`, in whole numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import flint
import numpy as np

from ._dyadic import Array
from ._network import Layer, Network

ROOMS = (2e-13, 1e-11, 1e-9, 1e-7)
"""By how much, relatively, t exceeds the estimated square of the norm; more where there is no Cholesky factor."""
DIGITS = 10**15
PLACES = 50
"""The least exponent of F: its rounding makes the gap."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """What is computed with for one layer: its constant is at most `rate`."""

    scale: int
    level: int
    gap: int
    factor: Array
    rate: Fraction


@dataclass(frozen=True, eq=False)
class EuclideanProof:
    """What `euclidean_ok` is asked: a spectrum for each layer, and the constant of the whole network."""

    spectra: tuple[Spectrum, ...]
    rate: Fraction
    name: str = "l2"


def euclidean_proof(network: Network, rate: Fraction | None) -> EuclideanProof | None:
    """The proof with this rate if it holds, else with the product of the layers' constants; None where that is 1."""
    if not network.exact:
        return None
    spectra = tuple(spectrum(layer) for layer in network.layers)
    known = tuple(one for one in spectra if one is not None)
    least = math.prod((one.rate for one in known), start=Fraction(1))
    if len(known) < len(spectra) or least >= 1:
        return None
    return EuclideanProof(known, rate if rate is not None and least <= rate < 1 else least)


def spectrum(layer: Layer) -> Spectrum | None:
    """The numbers for a layer; None where the floats that propose them overflow."""
    values, scale = layer.floats(), max(PLACES, *layer.exponents)
    norm = float(np.linalg.norm(values, 2))
    if not math.isfinite(norm):
        return None
    for room in ROOMS:
        top = norm * norm * (1 + room) + 1e-30
        try:
            factor = np.linalg.cholesky(top * np.eye(values.shape[1]) - values.T @ values).T
        except np.linalg.LinAlgError:
            continue
        whole = np.array([[_scaled(float(x), scale) for x in row] for row in factor], dtype=object)
        return _completed(layer, common_rows(layer, scale), whole, _scaled(top, 2 * scale), scale)
    return None


def _completed(layer: Layer, matrix: Array, factor: Array, level: int, scale: int) -> Spectrum:
    gap = gap_of(matrix, factor, level)
    # rate >= slope sqrt(level + gap) / 2^scale
    slope = layer.activation.slope
    square = (level + gap) * (slope.numerator * DIGITS) ** 2
    least = math.isqrt(square) + 1
    rate = Fraction(-(-least // (slope.denominator << scale)), DIGITS)
    return Spectrum(scale, level, gap, factor, rate)


def gap_of(matrix: Array, factor: Array, level: int) -> int:
    """The largest absolute row or column sum of `M^T M + F^T F - t I`."""
    stacked = flint.fmpz_mat([[int(a) for a in row] for row in (*matrix.tolist(), *factor.tolist())])
    gram = stacked.transpose() * stacked
    rows = [[int(a) for a in row] for row in gram.tolist()]
    return max(sum(abs(a - level) if i == j else abs(a) for j, a in enumerate(row)) for i, row in enumerate(rows))


def common_rows(layer: Layer, scale: int) -> Array:
    """The mantissas for one exponent."""
    rows = [[int(m) << (scale - e) for m in row] for row, e in zip(layer.mantissas, layer.exponents, strict=True)]
    return np.array(rows, dtype=object).reshape(layer.mantissas.shape)


def _scaled(number: float, places: int) -> int:
    numerator, denominator = number.as_integer_ratio()
    return (numerator << places) // denominator
