"""Weights near the limits of the theorems: the test kit's, which are exact, and others with any digits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from deqops.testing import WEIGHTS, Seeded

from ._drawing import Random, one_of
from ._exact import Floats


def weight(rng: Random, size: int) -> Floats:
    """A square matrix of some kind."""
    kind = _KINDS[int(rng.integers(len(_KINDS)))]
    return WEIGHTS[kind](Seeded(rng), size).numpy() if isinstance(kind, str) else kind(rng, size)


def _normalised(rng: Random, size: int) -> Floats:
    """A random matrix divided by its computed norm, and a few units in the last place."""
    matrix = rng.standard_normal((size, size))
    return matrix / float(np.linalg.norm(matrix, 2)) * (1 + float(rng.integers(-3, 4)) * 2.0**-53)


def _random(rng: Random, size: int) -> Floats:
    return rng.standard_normal((size, size)) * one_of(rng, [0.1, 0.3, 0.6, 1.0])


def _extreme(rng: Random, size: int) -> Floats:
    """Entries from 1e-40 to 1e2 (representable in float32 up to underflow)."""
    return rng.standard_normal((size, size)) * 10.0 ** rng.uniform(-40, 2, (size, size))


def _minors(rng: Random, size: int) -> Floats:
    """I - W a P-matrix or nearly so: monotone layers, some with a large norm."""
    lower = rng.standard_normal((size, size))
    skew = lower - lower.T
    least, turn = one_of(rng, [0.0, 1e-9, 0.1, 1.0]), one_of(rng, [1.0, 5.0])
    matrix: Floats = (1 - least) * np.eye(size) - 0.1 * lower @ lower.T + turn * skew
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


_KINDS: list[str | Callable[[Random, int], Floats]] = [
    "norm",
    "norm",
    "radius",
    "weighted",
    "row sums",
    "eighths",
    "permutation",
    _normalised,
    _random,
    _random,
    _extreme,
    "trap",
    _minors,
    "triangular",
    _pulling,
    _sheared,
]
