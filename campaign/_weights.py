"""Weights near the limits of the theorems: norm, spectral radius or row sums 1 exactly, or off by a known step."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ._drawing import Random, one_of, reflection, signed_permutation
from ._exact import Floats


def weight(rng: Random, size: int) -> Floats:
    """A square matrix of some kind."""
    return _KINDS[int(rng.integers(len(_KINDS)))](rng, size)


def _step(rng: Random) -> float:
    """0, or a power of two of either sign, small enough that products with 3-bit numbers stay exact."""
    return float(rng.integers(-1, 2)) * math.ldexp(1.0, -int(rng.integers(1, 37)))


def _rotation(rng: Random, size: int) -> Floats:
    """Orthogonal and dyadic."""
    return signed_permutation(rng, size) if size & (size - 1) else reflection(rng, size)


def _known_norm(rng: Random, size: int) -> Floats:
    """l2 norm exactly 1, or off by a step."""
    values = rng.integers(-6, 7, size) / 8.0
    values[0] = 1 + _step(rng)
    matrix: Floats = _rotation(rng, size) @ np.diag(values) @ _rotation(rng, size)
    return matrix


def _known_radius(rng: Random, size: int) -> Floats:
    """Spectral radius exactly 1, or off by a step, and a norm well above it."""
    triangle = np.triu(rng.integers(-8, 9, (size, size)) / 4.0, 1) + np.diag(rng.integers(-7, 8, size) / 8.0)
    triangle[0, 0] = one_of(rng, [-1, 1]) * (1 + _step(rng) / 2**10)
    rotation = _rotation(rng, size)
    matrix: Floats = rotation @ triangle @ rotation.T
    return matrix


def _weighted(rng: Random, size: int) -> Floats:
    """A contraction, or nearly, in a diagonally weighted norm only."""
    scale: Floats = np.exp2(rng.integers(-4, 5, size).astype(np.float64))
    return _known_norm(rng, size) * scale[:, None] / scale[None, :]


def _row_sums(rng: Random, size: int) -> Floats:
    """linf (or l1) norm exactly 1, or off by a step."""
    whole = rng.integers(-8, 9, (size, size))
    whole[0] = 0
    whole[0, int(rng.integers(size))] = 16
    matrix: Floats = whole / (16.0 * max(1, size // 2))
    matrix[0] *= max(1, size // 2) * (1 + _step(rng))
    return matrix if rng.random() < 0.5 else np.ascontiguousarray(matrix.T)


def _dyadic(rng: Random, size: int) -> Floats:
    return rng.integers(-12, 13, (size, size)) / 8.0


def _permutation(rng: Random, size: int) -> Floats:
    return signed_permutation(rng, size) * (1 + _step(rng))


def _normalised(rng: Random, size: int) -> Floats:
    """A random matrix divided by its computed norm, and a few units in the last place."""
    matrix = rng.standard_normal((size, size))
    return matrix / float(np.linalg.norm(matrix, 2)) * (1 + float(rng.integers(-3, 4)) * 2.0**-53)


def _random(rng: Random, size: int) -> Floats:
    return rng.standard_normal((size, size)) * one_of(rng, [0.1, 0.3, 0.6, 1.0])


def _extreme(rng: Random, size: int) -> Floats:
    """Entries from 1e-40 to 1e2 (representable in float32 up to underflow)."""
    return rng.standard_normal((size, size)) * 10.0 ** rng.uniform(-40, 2, (size, size))


def _trap(rng: Random, size: int) -> Floats:
    """Two equilibria behind relu, although a non-diagonal P has ||P W P^-1|| < 1."""
    matrix = np.zeros((size, size))
    corner = np.array([[1.5, -2.0], [1.0, -1.2]])[: min(size, 2), : min(size, 2)]
    matrix[: min(size, 2), : min(size, 2)] = corner * one_of(rng, [1.0, 0.9, 0.5])
    return matrix


def _minors(rng: Random, size: int) -> Floats:
    """I - W a P-matrix or nearly so: monotone layers, some with a large norm."""
    lower = rng.standard_normal((size, size))
    skew = lower - lower.T
    least, turn = one_of(rng, [0.0, 1e-9, 0.1, 1.0]), one_of(rng, [1.0, 5.0])
    matrix: Floats = (1 - least) * np.eye(size) - 0.1 * lower @ lower.T + turn * skew
    return matrix


def _triangular(rng: Random, size: int) -> Floats:
    """Strictly triangular in some order of the unknowns: causal, whatever its norm."""
    order = rng.permutation(size)
    matrix: Floats = np.tril(rng.integers(-24, 25, (size, size)) / 8.0, -1)[order][:, order]
    return matrix


def _pulling(rng: Random, size: int) -> Floats:
    """Expanding, with a negative symmetric part: damping makes it converge."""
    noise = rng.standard_normal((size, size))
    matrix: Floats = -one_of(rng, [1.0, 3.0, 8.0]) * np.eye(size) + 0.3 * (noise - noise.T) + 0.05 * noise
    return matrix


def _sheared(rng: Random, size: int) -> Floats:
    """A spectral radius below 1 and norms above it in every diagonal scaling."""
    basis = np.linalg.qr(rng.standard_normal((size, size)))[0]
    inner = one_of(rng, [0.3, 0.7, 0.95]) * np.eye(size) + np.diag(np.full(size - 1, one_of(rng, [0.5, 1.5])), 1)
    matrix: Floats = basis @ inner @ basis.T
    return matrix


_KINDS: list[Callable[[Random, int], Floats]] = [
    _known_norm,
    _known_norm,
    _known_radius,
    _weighted,
    _row_sums,
    _dyadic,
    _permutation,
    _normalised,
    _random,
    _random,
    _extreme,
    _trap,
    _minors,
    _triangular,
    _pulling,
    _sheared,
]
