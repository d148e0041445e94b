"""Banded, block-tridiagonal and sparse matrices against exact integers, by the methods that large ones take."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from deqops.verify import _signed_norm
from deqops.verify._banded import Band, BandFactor
from deqops.verify._block_tridiagonal import BlockTridiagonal
from deqops.verify._definite import is_positive_definite, lowest_eigenvalue_bound
from deqops.verify._midrad import MidRad
from deqops.verify._sparse import SparseMatrix

from ._drawing import Random, one_of, signs
from ._exact import Floats, integers, is_semidefinite, rational, shifted
from ._matrices import is_norm_bound, overshoot
from ._section import Section, Tally

LARGEST = 12


def case(seed: int, number: int) -> Tally:
    """One symmetric matrix and one with signs."""
    rng = np.random.default_rng([seed, 5, number])
    kind = list(KINDS)[number % len(KINDS)]
    tally = Tally()
    tally.count(kind)
    KINDS[kind](tally, rng)
    return tally


def _values(rng: Random, *shape: int) -> Floats:
    """Numbers of one size, or integers, or of many sizes, or subnormal."""
    kind, drawn = int(rng.integers(5)), rng.standard_normal(shape)
    if kind == 0:
        drawn = rng.integers(-2, 3, shape).astype(np.float64)
    if kind == 1:
        drawn = drawn * 10.0 ** rng.uniform(-30, 30, shape)
    if kind == 2:
        drawn = drawn * 10.0 ** one_of(rng, [-300.0, -60.0, 60.0, 300.0])
    if kind == 3:
        drawn = np.ldexp(rng.integers(-1000, 1001, shape).astype(np.float64), -int(rng.integers(1040, 1075)))
    return np.ascontiguousarray(drawn)


def _mirrored(lower: Floats) -> Floats:
    """Symmetric, from its lower triangle."""
    whole: Floats = np.tril(lower) + np.tril(lower, -1).T
    return whole


def _triples(matrix: Floats) -> SparseMatrix:
    place = torch.from_numpy(matrix).nonzero()
    rows, cols = place[:, 0], place[:, 1]
    values = MidRad.exact(torch.from_numpy(matrix)[rows, cols])
    return SparseMatrix(rows, cols, values, (matrix.shape[0], matrix.shape[1]))


def _is_below(whole: Floats, bound: float) -> bool:
    """Whether `H - bound I` is semidefinite, exactly."""
    if math.isinf(bound):
        return bound < 0
    exact, exponent = integers(whole)
    return is_semidefinite(shifted(-rational(bound), -exact, exponent))


def _judge(tally: Tally, whole: Floats, H: BlockTridiagonal | SparseMatrix, name: str) -> None:
    """The bound, how far below the truth it is, and whether the matrix is called definite only where it is."""
    bound = lowest_eigenvalue_bound(H)
    tally.count(f"{name} eigenvalue bounds")
    if not _is_below(whole, bound):
        tally.violations.append(f"lowest_eigenvalue_bound {bound.hex()} exceeds one of {_shown(whole)} ({name})")
    largest = float(np.abs(whole).max())
    if 1e-200 < largest < 1e200:
        tally.peak(f"{name} distance by the largest entry", float(np.linalg.eigvalsh(whole)[0] - bound) / largest)
    if is_positive_definite(H):
        tally.count("called positive definite")
        exact, _ = integers(whole)
        if not is_semidefinite(exact, definite=True):
            tally.violations.append(f"is_positive_definite of {_shown(whole)} ({name})")


def _shown(matrix: Floats) -> str:
    return str([[value.hex() for value in row] for row in matrix.tolist()])


def _near_the_edge(rng: Random, whole: Floats) -> Floats:
    """The matrix, or shifted so that it is nearly singular, half the time."""
    if rng.random() < 0.5 or not 1e-100 < float(np.abs(whole).max()) < 1e100:
        return whole
    shift = np.linalg.eigvalsh(whole)[0] * (1 + one_of(rng, [0.0, 1e-14, 1e-12, -1e-10, 1e-3]))
    moved: Floats = whole - shift * np.eye(len(whole))
    return moved


# ----------------------------------------------------------------------------------------------------- kinds


def _banded(tally: Tally, rng: Random) -> None:
    """A band, its rows in any order."""
    size = int(rng.integers(1, LARGEST + 1))
    width = int(rng.integers(0, size))
    whole = _near_the_edge(rng, _mirrored(np.triu(_values(rng, size, size), -width)))
    order = rng.permutation(size)
    whole = np.ascontiguousarray(whole[order][:, order])
    _judge(tally, whole, _triples(whole), "sparse")


def _block_tridiagonal(tally: Tally, rng: Random) -> None:
    """Blocks of any sizes."""
    sizes = [int(n) for n in rng.integers(1, 5, int(rng.integers(1, 5)))]
    own = [_mirrored(_values(rng, n, n)) for n in sizes]
    below = [_values(rng, m, n) for n, m in pairwise(sizes)]
    H = BlockTridiagonal(_exact(own), _exact(below))
    whole = H.dense().mid.numpy()
    _judge(tally, whole, H, "block-tridiagonal")


def _exact(blocks: list[Floats]) -> tuple[MidRad, ...]:
    return tuple(MidRad.exact(torch.from_numpy(block)) for block in blocks)


def _wrong_factor(tally: Tally, rng: Random) -> None:
    """A factor that LAPACK did not make, or that was changed: its residual still bounds."""
    size = int(rng.integers(1, LARGEST + 1))
    width = int(rng.integers(0, size))
    lower = np.tril(np.triu(rng.standard_normal((size, size)), -width))
    factor = _diagonals(lower, width) * (1 + 0.1 * torch.from_numpy(signs(rng, size, width + 1)))
    product = lower @ lower.T + rng.standard_normal() * np.eye(size)
    whole = _mirrored(np.tril(np.triu(product, -width)))
    found = BandFactor(Band(_diagonals(whole, width), 1.0, 1.0).band, float(rng.standard_normal()), factor)
    if not _is_below(whole, -float(np.nextafter(found.shift + found.deficit(), math.inf))):
        tally.violations.append(f"the residual of a factor of {_shown(whole)} is too small")
    tally.count("residuals of wrong factors")


def _diagonals(matrix: Floats, width: int) -> Tensor:
    band = np.zeros((len(matrix), width + 1))
    for d in range(width + 1):
        band[: len(matrix) - d, d] = np.diagonal(matrix, -d)
    return torch.from_numpy(band)


def _signed(tally: Tally, rng: Random) -> None:
    """A sparse matrix with signs, its norm by a factor of `[[0, A^T], [A, 0]]`."""
    rows, cols = (int(n) for n in rng.integers(1, 9, 2))
    matrix = _values(rng, rows, cols) * (rng.random((rows, cols)) < 0.5)
    A = _triples(matrix)
    tally.count("l2 bounds of signed matrices")
    if not len(A.rows):
        return
    bound = _signed_norm.banded_norm_bound(A.rows, A.cols, A.values, A.shape)
    upper = min(bound.upper, float(A.norm_bound("l2")))
    exact, exponent = integers(matrix)
    if not is_norm_bound(exact, exponent, upper):
        tally.violations.append(f"an l2 bound {upper.hex()} is below the norm of {_shown(matrix)}")
    elif math.isfinite(bound.upper) and bound.upper > 2.0**-1000:
        tally.peak("overshoot of the l2 bound", overshoot(exact, exponent, bound.upper))


KINDS: dict[str, Callable[[Tally, Random], None]] = {
    "banded": _banded,
    "block-tridiagonal": _block_tridiagonal,
    "wrong factors": _wrong_factor,
    "signed": _signed,
}

STRUCTURED = Section(
    "structured", "banded, block-tridiagonal and signed sparse matrices in integers", 20_000, 100, case
)
