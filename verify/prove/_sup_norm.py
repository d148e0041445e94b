"""Weighted sup norms with whole-number weights, and the exact constants of layers between them.

Integers only, and the same inequalities as `sup_norm_ok` of `proofs/network/SupNorm.v`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from ._dyadic import Array
from ._network import Layer, Network

BITS = 24
"""Significant bits of weights that are chosen here; fewer make the kernel faster, more the constant smaller."""

SWEEPS, FLOOR, NEARLY = 300, 1e-6, 1 - 1e-6
"""Of the search for weights, which only proposes."""


@dataclass(frozen=True)
class SupNorm:
    """`max_i entries[i] / unit abs(x_i)`; `reciprocals[i] * entries[i] >= whole`."""

    unit: int
    entries: tuple[int, ...]
    reciprocals: tuple[int, ...]
    whole: int

    @classmethod
    def of(cls, weights: Sequence[Fraction]) -> SupNorm:
        """The norm with exactly these positive weights."""
        unit = max(w.denominator for w in weights)
        entries = [w.numerator * (unit // w.denominator) for w in weights]
        if len(set(entries)) == 1:
            return cls(unit, tuple(entries), (1,) * len(entries), entries[0])
        whole = 1 << (max(entries).bit_length() + BITS)
        return cls(unit, tuple(entries), tuple(-(-whole // m) for m in entries), whole)

    @property
    def weights(self) -> tuple[Fraction, ...]:
        """The weights."""
        return tuple(Fraction(m, self.unit) for m in self.entries)


@dataclass(frozen=True)
class SupNormProof:
    """What `sup_norm_ok` is asked: the norm, those between layers, and the constant of the whole network.

    `stored` is the constant of the stored matrices, where the true ones are only near them.
    """

    norm: SupNorm
    hidden: tuple[SupNorm, ...]
    rate: Fraction
    stored: Fraction = Fraction(0)

    @property
    def name(self) -> str:
        """The norm in words."""
        return "linf" if len(set(self.norm.entries)) == 1 else "weighted linf"


def constant(layer: Layer, inner: SupNorm, outer: SupNorm) -> Fraction:
    """The least constant of a layer from one norm to another that the checker accepts."""
    rows = row_sums(layer, inner)
    scale = layer.activation.slope * Fraction(inner.unit, inner.whole * outer.unit)
    worst = max(Fraction(m * total, 1 << e) for m, total, e in zip(outer.entries, rows, layer.exponents, strict=True))
    return scale * worst


def row_sums(layer: Layer, inner: SupNorm) -> list[int]:
    """`sum_j reciprocals_j abs(mantissa_ij)` for each row."""
    reciprocals: Array = np.array(inner.reciprocals, dtype=object)
    return [int(total) for total in np.abs(layer.mantissas) @ reciprocals]


def following(layer: Layer, inner: SupNorm) -> SupNorm:
    """A norm to which the layer has constant at most 1, and hardly less."""
    scale = layer.activation.slope * Fraction(inner.unit, inner.whole)
    sizes = [scale * Fraction(total, 1 << e) for total, e in zip(row_sums(layer, inner), layer.exponents, strict=True)]
    smallest = min((s for s in sizes if s), default=Fraction(1))
    weights = [1 / s if s else 1 / smallest for s in sizes]
    bits = BITS - _log2(min(weights))
    unit = 1 << max(bits, 0)
    return SupNorm.of([Fraction(int(w * unit), unit) for w in weights])


def _log2(number: Fraction) -> int:
    return number.numerator.bit_length() - number.denominator.bit_length() - 1


def proof_in(network: Network, norm: SupNorm, rate: Fraction | None) -> SupNormProof | None:
    """The proof in a norm: with this rate if it holds, else with the least that does; None where none is below 1."""
    hidden: list[SupNorm] = []
    inner = norm
    for layer in network.layers[:-1]:
        inner = following(layer, inner)
        hidden.append(inner)
    least = constant(network.layers[-1], inner, norm)
    grown = least * math.prod((1 + layer.slack for layer in network.layers), start=Fraction(1))
    proven = rate if rate is not None and grown <= rate < 1 else _rounded_up(grown)
    return SupNormProof(norm, tuple(hidden), proven, least) if proven < 1 else None


def _rounded_up(number: Fraction) -> Fraction:
    """The next multiple of 10^-9; of a finer one where that is no longer below 1."""
    for digits in (9, 12, 15):
        denominator = 10**digits
        rounded = Fraction(-(-number.numerator * denominator // number.denominator), denominator)
        if rounded < 1:
            return rounded
    return number


def chosen_norm(network: Network) -> SupNorm | None:
    """Weights in which the network contracts, from an eigenvector of the product of the layers' moduli.

    Proposed in floats; None where the product's spectral radius is not below 1.
    """
    moduli = np.eye(network.size)
    for layer in network.layers:
        moduli = float(layer.activation.slope) * np.abs(layer.floats()) @ moduli
    if not np.isfinite(moduli).all():
        return None
    vector = _eigenvector_estimate(moduli)
    if vector is None:
        return None
    weights = vector.max() / vector
    plain = float(moduli.sum(axis=1).max(initial=0.0))
    if plain < 1 and plain <= float((moduli @ vector / vector).max()) * (1 + 1e-9):
        weights = np.ones(network.size)
    return SupNorm.of([_short(float(w)) for w in weights])


def _short(number: float) -> Fraction:
    """A number of few bits nearby."""
    exact = Fraction(number)
    unit = Fraction(2) ** (BITS - _log2(exact))
    return Fraction(int(exact * unit)) / unit


def _eigenvector_estimate(moduli: NDArray[np.float64]) -> NDArray[Any] | None:
    """u > 0 with `N u < u`, near the one that makes the quotients smallest; None where none was found."""
    matrix = scipy.sparse.csr_array(moduli) if np.count_nonzero(moduli) < moduli.size / 4 else moduli
    vector: NDArray[Any] = np.ones(len(moduli))
    best: NDArray[Any] | None = None
    least = 1.0
    for _ in range(SWEEPS):
        image = np.asarray(matrix @ vector)
        quotients = image / vector
        if quotients.max() < least:
            best, least = vector, float(quotients.max())
        if quotients.max() - quotients.min() < 1e-9:
            break
        vector = image / image.max() if image.max() > 0 else np.ones_like(vector)
        vector = np.maximum((vector + 1e-3 * vector.mean()) / (1 + 1e-3), FLOOR)
    if best is not None:
        return best
    vector = np.linalg.solve(np.eye(len(moduli)) - moduli / NEARLY, np.ones(len(moduli)))
    return vector if bool(np.isfinite(vector).all() and (vector > 0).all()) else None
