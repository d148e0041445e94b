"""Sparse matrices of enclosed entries: gathers, scatters, diagonals and their products, with verified norms."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from . import _midrad as midrad
from ._bound import Bound
from ._collatz import Moduli, magnitudes, moduli_norm_bound, sums_up
from ._midrad import MidRad
from ._norm import Order
from ._rounding import check_environment
from ._signed_norm import signed_norm_bound

_DENSE = 1024  # up to here a dense SVD proposes a singular vector


@dataclass(frozen=True, eq=False)
class SparseMatrix:
    """An (m, n) matrix as (row, column, enclosed value) triples; triples of one place are added."""

    rows: Tensor
    cols: Tensor
    values: MidRad
    shape: tuple[int, int]

    @staticmethod
    def from_index_select(index: Tensor, size: int) -> SparseMatrix:
        """`(A x)_e = x[index_e]`, (len(index), size)."""
        return _zero_one(torch.arange(len(index)), index, (len(index), size))

    @staticmethod
    def from_index_add(index: Tensor, size: int) -> SparseMatrix:
        """`(A x)_i = sum of x_e with index_e = i`, (size, len(index))."""
        return _zero_one(index, torch.arange(len(index)), (size, len(index)))

    @staticmethod
    def diagonal(values: MidRad) -> SparseMatrix:
        """The diagonal matrix of a vector."""
        place = torch.arange(len(values.mid))
        return SparseMatrix(place, place, values, (len(place), len(place)))

    @staticmethod
    def identity(size: int) -> SparseMatrix:
        """The identity matrix."""
        place = torch.arange(size)
        return _zero_one(place, place, (size, size))

    def compose(self, other: SparseMatrix) -> SparseMatrix:
        """`self @ other`: every pair of triples that meet in a middle index, added up."""
        order = torch.argsort(other.rows, stable=True)
        counts = torch.bincount(other.rows, minlength=other.shape[0])
        starts = counts.cumsum(0) - counts
        repeat = counts[self.cols]
        mine = torch.repeat_interleave(torch.arange(len(self.cols)), repeat)
        within = torch.arange(len(mine)) - torch.repeat_interleave(repeat.cumsum(0) - repeat, repeat)
        theirs = order[starts[self.cols[mine]] + within]
        left, right = _taken(self.values, mine), _taken(other.values, theirs)
        product = SparseMatrix(
            self.rows[mine], other.cols[theirs], midrad.mul(left, right), (self.shape[0], other.shape[1])
        )
        return product.coalesce() if len(mine) > max(len(self.rows), len(other.rows)) else product

    def coalesce(self) -> SparseMatrix:
        """The same matrix with one triple per place."""
        if self._is_ordered():
            return self
        place = self.rows * self.shape[1] + self.cols
        unique, inverse = torch.unique(place, return_inverse=True)
        if len(unique) == len(place):
            return self
        zero = MidRad.exact(torch.zeros(len(unique), dtype=torch.float64))
        values = midrad.index_add(zero, 0, inverse, self.values)
        rows = torch.div(unique, self.shape[1], rounding_mode="floor")
        return SparseMatrix(rows, unique - rows * self.shape[1], values, self.shape)

    def _is_ordered(self) -> bool:
        """Whether the places increase from triple to triple, row by row, so that none occurs twice."""
        rows, cols = self.rows, self.cols
        later = (rows[1:] > rows[:-1]) | ((rows[1:] == rows[:-1]) & (cols[1:] > cols[:-1]))
        return bool(later.all())

    def apply(self, x: MidRad) -> MidRad:
        """Enclosure of `A x`, x of shape (n, k)."""
        terms = midrad.mul(self.values.apply_exact(lambda t: t[:, None]), _taken(x, self.cols))
        zero = MidRad.exact(torch.zeros(self.shape[0], x.mid.shape[1], dtype=torch.float64))
        return midrad.index_add(zero, 0, self.rows, terms)

    def abs_apply(self, x: Tensor) -> Tensor:
        """Upper bound of `|A| x` for x >= 0, (n,) or (n, k)."""
        return sums_up(magnitudes(self.values), self.cols, self.rows, x, self.shape[0])

    def abs_apply_transposed(self, y: Tensor) -> Tensor:
        """Upper bound of `|A|^T y` for y >= 0, (m,) or (m, k)."""
        return sums_up(magnitudes(self.values), self.rows, self.cols, y, self.shape[1])

    def dense(self) -> MidRad:
        """The matrix with every entry written out."""
        single = self.coalesce()
        mid, rad = (torch.zeros(self.shape, dtype=torch.float64) for _ in "mr")
        mid[single.rows, single.cols] = single.values.mid
        rad[single.rows, single.cols] = single.values.rad
        return MidRad(mid, rad)

    def norm_bound(self, order: Order) -> Bound:
        """Proven upper bound of the norm from l_p to l_p.

        l1 and linf: the largest column or row sum of moduli. l2: `||A||_2 <= || |A| ||_2`, bounded by Collatz and
        Wielandt, exact up to rounding for entries of one sign; for entries of both signs also the factored shift
        of `[[0, A^T], [A, 0]]`, or the dense bound, where these are affordable.
        """
        check_environment()
        if not len(self.rows):
            return Bound(0.0, 0.0, "zero")
        if not (_is_finite(self.values.mid) and _is_finite(self.values.rad)):
            return Bound(math.inf, 0.0, "not finite")
        # Without cancellation the sums of moduli are the same, triples added or not.
        single = self.coalesce() if _has_both_signs(self.values.mid) else self
        moduli = Moduli.of(single.rows, single.cols, single.values, self.shape)
        if float(moduli.weights.max()) == 0:
            return Bound(0.0, 0.0, "zero")
        if order == "l2":
            return single._l2_norm_bound(moduli)
        upper = float((moduli.col_sums() if order == "l1" else moduli.row_sums()).max())
        return Bound(upper, single._sum_estimate(order), "column sums" if order == "l1" else "row sums")

    def _l2_norm_bound(self, moduli: Moduli) -> Bound:
        # Rows, or columns, of disjoint support are orthogonal whatever the signs.
        if not _has_both_signs(self.values.mid) or min(moduli.row_terms, moduli.col_terms) == 1:
            vector = (lambda: _singular_vector(self)) if max(self.shape) <= _DENSE else None
            return Bound(*moduli_norm_bound(moduli, vector), "Collatz-Wielandt")
        upper, _ = moduli_norm_bound(moduli)
        return signed_norm_bound(self.rows, self.cols, self.values, self.shape, upper)

    def _sum_estimate(self, order: Order) -> float:
        """The largest column or row sum of the midpoints' moduli."""
        place, size = (self.cols, self.shape[1]) if order == "l1" else (self.rows, self.shape[0])
        return float(torch.zeros(size, dtype=torch.float64).index_add_(0, place, self.values.mid.abs()).max())


def _zero_one(rows: Tensor, cols: Tensor, shape: tuple[int, int]) -> SparseMatrix:
    return SparseMatrix(rows, cols, MidRad.exact(torch.ones(len(rows), dtype=torch.float64)), shape)


def _taken(values: MidRad, index: Tensor) -> MidRad:
    return values.apply_exact(lambda t: t.index_select(0, index))


def _is_finite(values: Tensor) -> bool:
    """Whether all are numbers; one pass, no copy."""
    return all(math.isfinite(float(end)) for end in torch.aminmax(values))


def _has_both_signs(values: Tensor) -> bool:
    least, largest = torch.aminmax(values)
    return bool((least < 0) & (largest > 0))


def _singular_vector(A: SparseMatrix) -> Tensor:
    """About the first right singular vector of |A|, made positive: a proposal."""
    vector = torch.linalg.svd(A.dense().magnitude(), full_matrices=False)[2][0].abs()
    positive: Tensor = vector.clamp(min=1e-12 * float(vector.max()))
    return positive
