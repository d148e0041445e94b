"""Random parts of matrices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import deqops.testing as kit

from ._exact import Floats

Random = np.random.Generator


def one_of(rng: Random, values: Sequence[float]) -> float:
    """One of some numbers."""
    return float(values[int(rng.integers(len(values)))])


def signs(rng: Random, *shape: int) -> Floats:
    """Ones of either sign."""
    ones: Floats = rng.integers(0, 2, shape).astype(np.float64)
    return 2 * ones - 1


def signed_permutation(rng: Random, size: int) -> Floats:
    """A permutation matrix with signs: norm 1 exactly."""
    matrix: Floats = kit.signed_permutation(kit.Seeded(rng), size).numpy()
    return matrix


def reflection(rng: Random, size: int) -> Floats:
    """`I - 2 v v^T / n` for a vector v of signs: orthogonal and dyadic where n is a power of two."""
    matrix: Floats = kit.reflection(kit.signs(kit.Seeded(rng), size)).numpy()
    return matrix


def nearly_orthogonal(rng: Random, size: int) -> Floats:
    """Orthogonal up to rounding."""
    return np.linalg.qr(rng.standard_normal((size, size)))[0]
