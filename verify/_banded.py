"""Sparse symmetric matrices reordered to a band: the smallest eigenvalue by banded Cholesky factors.

LAPACK's factor L of a shift is a proposal. Its residual is formed block by block, the blocks as wide as the band, in
products of known error; nothing is assumed of LAPACK or of the order, which reverse Cuthill-McKee proposes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ._rounding import TINY, U, add_up, gamma, mul_up
from ._shifted import Factor, lowest_bound

WORK = 2**32  # of `band_work`: some seconds
_NARROW = 8  # a band is at least this wide in the count of work, and its blocks in the residual
_VECTORS = 8192  # times the size: what solving and orthogonalising vectors costs
_ENTRIES = 2**24  # of a band
_ORDERED = 2**20  # entries that are reordered; beyond, only the given order is tried
_CHUNK = 2**16  # entries of the blocks that are multiplied together


@dataclass(frozen=True, eq=False)
class Band:
    """A symmetric matrix by its lower band, `band[j, d] = H[j + d, j]`, (n, b + 1), entries of moderate size."""

    band: Tensor
    scale: float
    start: float

    @property
    def size(self) -> int:
        """Rows."""
        return len(self.band)

    @property
    def unit(self) -> float:
        """About the relative error of a factor."""
        return U * (self.band.shape[1] + 2)

    def factor(self, shift: float) -> Factor | None:
        """LAPACK's banded Cholesky factor, by its own return code."""
        from scipy.linalg.lapack import dpbtrf

        shifted = self.band.clone()
        shifted[:, 0] += shift
        factor, info = dpbtrf(shifted.numpy().T, lower=1)
        return BandFactor(self.band, shift, torch.from_numpy(factor.T)) if info == 0 else None


@dataclass(frozen=True, eq=False)
class BandFactor:
    """L with `L L^T` about `H + shift I`, stored as H is."""

    band: Tensor
    shift: float
    lower: Tensor

    def solve(self, x: Tensor) -> Tensor:
        """About `(H + shift I)^-1 x`."""
        from scipy.linalg.lapack import dpbtrs

        solution, _ = dpbtrs(self.lower.numpy().T, x[:, None].numpy(), lower=1)
        return torch.from_numpy(solution).reshape(-1)

    def deficit(self) -> float:
        """`||L L^T - (H + shift I)||` from above: the largest row sum."""
        diagonal = self.band[:, 0] + self.shift
        moved = self.band.clone()
        moved[:, 0] = diagonal
        residual, moduli, width = _residual_sums(self.lower, moved)
        # A row has 3 blocks of entries, and each entry of L L^T is a sum of 2 blocks of products. The subtraction
        # errs by u relatively, the sum H + shift I by u of its diagonal.
        grown = 1.0 + 2.0 * gamma(4 * width + 16)
        rounding = add_up(mul_up(mul_up(moduli, grown), gamma(2 * width + 4)), 16.0 * width * width * TINY)
        own = mul_up(diagonal.abs().max(), U)
        return float(add_up(add_up(mul_up(residual, grown), rounding), own))


def _residual_sums(lower: Tensor, band: Tensor) -> tuple[float, float, int]:
    """The largest row sums of `|fl(L L^T - A)|` and `|L| |L|^T`, as computed, and the blocks' width."""
    width = max(lower.shape[1] - 1, _NARROW)
    L, A = _padded(lower, width), _padded(band, width)
    count = len(L) // width
    residual, moduli = (torch.zeros(count + 1, width, dtype=torch.float64) for _ in "rm")
    above = torch.zeros(1, width, width, dtype=torch.float64)
    step = max(_CHUNK // width**2, 1)
    for first in range(0, count, step):
        last = min(first + step, count)
        D, S = _blocks(L, width, first, last)
        own, below = _blocks(A, width, first, last)
        left = torch.cat([above, S[:-1]])  # beside each diagonal block
        R = (torch.bmm(D, D.mT).baddbmm_(left, left.mT).sub_(own)).tril_().abs_()
        B = torch.bmm(S, D.mT).sub_(below).triu_().abs_()
        residual[first:last] += R.sum(dim=2) + R.tril(-1).sum(dim=1) + B.sum(dim=1)
        residual[first + 1 : last + 1] += B.sum(dim=2)
        D, S, above = D.abs(), S.abs(), S[-1:].clone()
        columns = (D.sum(dim=1) + S.sum(dim=1))[:, :, None]
        moduli[first:last] += torch.bmm(D, columns)[:, :, 0]
        moduli[first + 1 : last + 1] += torch.bmm(S, columns)[:, :, 0]
    return float(residual.max()), float(moduli.max()), width


def _padded(band: Tensor, width: int) -> Tensor:
    """A band in whole blocks of `width` columns, with diagonals up to the width."""
    rows = -(-len(band) // width) * width
    padded = torch.zeros(rows, width + 1, dtype=torch.float64)
    padded[: len(band), : band.shape[1]] = band
    return padded


def _blocks(band: Tensor, width: int, first: int, last: int) -> tuple[Tensor, Tensor]:
    """The lower triangles of the diagonal blocks, and the upper triangles that the blocks below them are.

    Entry (i, j) of diagonal block k is at `(k w + j)(w + 1) + i - j`, of the block below it w places further on.
    """
    strides, start = (width * (width + 1), 1, width), first * width * (width + 1)
    own = torch.as_strided(band, (last - first, width, width), strides, start)
    below = torch.as_strided(band, (last - first, width, width), strides, start + width)
    return own.tril(), below.triu()


def banded_lowest_bound(rows: Tensor, cols: Tensor, mid: Tensor, order: Tensor) -> tuple[float, float]:
    """A lower bound of the smallest eigenvalue, minus infinity where none was found, and an estimate of it.

    Args:
        rows: (triples,), of the lower triangle, one triple per place.
        cols: (triples,).
        mid: (triples,), finite, the largest modulus about 1.
        order: (n,), the new place of each row, as `narrow_order` finds it.
    """
    return lowest_bound(_band(order[rows], order[cols], mid, len(order)))


def narrow_order(rows: Tensor, cols: Tensor, size: int, place: Tensor | None = None) -> Tensor | None:
    """The new place of each row, reverse Cuthill-McKee's or the one given, whichever makes the narrower band.

    Args:
        rows: (triples,), of the lower triangle.
        cols: (triples,).
        size: of the matrix.
        place: (n,), a permutation; the identity by default.

    Returns:
        None where `band_work` is above `WORK`, 2^32, or the band has above 2^24 entries.
    """
    given = torch.arange(size) if place is None else place
    best, width = given, bandwidth(given[rows], given[cols])
    busiest = int(torch.bincount(torch.cat([rows, cols]), minlength=size).max()) // 2  # no order is narrower
    if width > 1 and len(rows) <= _ORDERED and band_work(size, busiest - 1) <= WORK:
        other = _cuthill_mckee(rows, cols, size)
        narrower = bandwidth(other[rows], other[cols])
        best, width = (other, narrower) if narrower < width else (best, width)
    affordable = band_work(size, width) <= WORK and size * (width + 1) <= _ENTRIES
    return best if affordable else None


def bandwidth(rows: Tensor, cols: Tensor) -> int:
    """The largest distance from the diagonal."""
    return int((rows - cols).abs().max()) if rows.numel() else 0


def band_work(size: int, width: int) -> int:
    """About the cost, in multiplications of a factor: the size times the squared bandwidth, and 8192 more."""
    return size * (max(width + 1, _NARROW) ** 2 + _VECTORS)


def _cuthill_mckee(rows: Tensor, cols: Tensor, size: int) -> Tensor:
    """The new place of each row in reverse Cuthill-McKee order."""
    import numpy as np
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import reverse_cuthill_mckee

    ends = (torch.cat([rows, cols]).numpy(), torch.cat([cols, rows]).numpy())
    pattern = coo_matrix((np.ones(len(ends[0])), ends), shape=(size, size)).tocsr()
    order = torch.from_numpy(reverse_cuthill_mckee(pattern, symmetric_mode=True).astype(np.int64))
    return torch.empty_like(order).index_copy_(0, order, torch.arange(size))


def _band(rows: Tensor, cols: Tensor, mid: Tensor, size: int) -> Band:
    first, distance = torch.minimum(rows, cols), (rows - cols).abs()
    band = torch.zeros(size, bandwidth(rows, cols) + 1, dtype=torch.float64)
    band[first, distance] = mid
    beside, moduli = torch.zeros(size, dtype=torch.float64), mid.abs() * (distance != 0)
    beside.index_add_(0, rows, moduli).index_add_(0, cols, moduli)
    diagonal = band[:, 0]
    return Band(band, float((diagonal.abs() + beside).max()), float((beside - diagonal).max()))
