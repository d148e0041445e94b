"""Sparse matrices of enclosed entries: gathers, scatters, diagonals and their products, with verified norms."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from . import _midrad as midrad
from ._bound import Bound
from ._midrad import MidRad
from ._norm import Order
from ._rounding import check_environment, div_up, gamma, mul_up, sqrt_up

_ROUNDS = 40
_FLOOR = 1e-100
_DENSE = 1024


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
        place = self.rows * self.shape[1] + self.cols
        unique, inverse = torch.unique(place, return_inverse=True)
        if len(unique) == len(place):
            return self
        zero = MidRad.exact(torch.zeros(len(unique), dtype=torch.float64))
        values = midrad.index_add(zero, 0, inverse, self.values)
        rows = torch.div(unique, self.shape[1], rounding_mode="floor")
        return SparseMatrix(rows, unique - rows * self.shape[1], values, self.shape)

    def apply(self, x: MidRad) -> MidRad:
        """Enclosure of `A x`, x of shape (n, k)."""
        terms = midrad.mul(self.values.apply_exact(lambda t: t[:, None]), _taken(x, self.cols))
        zero = MidRad.exact(torch.zeros(self.shape[0], x.mid.shape[1], dtype=torch.float64))
        return midrad.index_add(zero, 0, self.rows, terms)

    def abs_apply(self, x: Tensor) -> Tensor:
        """Upper bound of `|A| x` for x >= 0, (n,) or (n, k)."""
        return _gathered_sum(self.values.magnitude(), self.cols, self.rows, x, self.shape[0])

    def abs_apply_transposed(self, y: Tensor) -> Tensor:
        """Upper bound of `|A|^T y` for y >= 0, (m,) or (m, k)."""
        return _gathered_sum(self.values.magnitude(), self.rows, self.cols, y, self.shape[1])

    def dense(self) -> MidRad:
        """The matrix with every entry written out."""
        single = self.coalesce()
        mid, rad = (torch.zeros(self.shape, dtype=torch.float64) for _ in "mr")
        mid[single.rows, single.cols] = single.values.mid
        rad[single.rows, single.cols] = single.values.rad
        return MidRad(mid, rad)

    def norm_bound(self, order: Order) -> Bound:
        """Proven upper bound of the norm from l_p to l_p.

        l1 and linf: the largest column or row sum of moduli. l2: `||A||_2 <= || |A| ||_2`, and for any x > 0
        `|| |A| ||_2^2 <= max_i (|A|^T |A| x)_i / x_i` (Collatz-Wielandt); exact up to rounding for
        nonnegative matrices and a good x, which a power iteration proposes.
        """
        check_environment()
        single = self.coalesce()
        if not len(single.rows):
            return Bound(0.0, 0.0, "zero")
        if not single.values.is_finite():
            return Bound(math.inf, 0.0, "not finite")
        m, n = self.shape
        columns = single.abs_apply_transposed(torch.ones(m, dtype=torch.float64))
        rows = single.abs_apply(torch.ones(n, dtype=torch.float64))
        if order == "l1":
            return Bound(float(columns.max()), 0.0, "column sums")
        if order == "linf":
            return Bound(float(rows.max()), 0.0, "row sums")
        mixed = float(sqrt_up(mul_up(rows.max(), columns.max())))
        upper, estimate = _collatz_wielandt(single, torch.bincount(self.cols, minlength=n).double())
        return Bound(upper if upper < mixed else mixed, estimate, "Collatz-Wielandt")


def _zero_one(rows: Tensor, cols: Tensor, shape: tuple[int, int]) -> SparseMatrix:
    return SparseMatrix(rows, cols, MidRad.exact(torch.ones(len(rows), dtype=torch.float64)), shape)


def _taken(values: MidRad, index: Tensor) -> MidRad:
    return values.apply_exact(lambda t: t.index_select(0, index))


def _gathered_sum(weights: Tensor, source: Tensor, target: Tensor, x: Tensor, size: int) -> Tensor:
    """Upper bound of `sum over triples of weight * x[source]` at target."""
    factor = weights.reshape(-1, *(1,) * (x.ndim - 1))
    terms = mul_up(factor, x.index_select(0, source))
    total = torch.zeros(size, *x.shape[1:], dtype=torch.float64).index_add(0, target, terms)
    most = int(torch.bincount(target).max()) if target.numel() else 1
    return total if most == 1 else mul_up(total, 1.0 + 2.0 * gamma(most))


def _collatz_wielandt(A: SparseMatrix, degrees: Tensor) -> tuple[float, float]:
    """(proven bound, estimate) of `|| |A| ||_2`; `degrees` counts the triples of each column."""
    starts = [degrees.clamp(min=1.0).sqrt()]  # the Perron vector of a symmetrically normalised graph
    starts.append(_singular_vector(A) if max(A.shape) <= _DENSE else torch.ones(A.shape[1], dtype=torch.float64))
    best, estimate = float("inf"), 0.0
    for start in starts:
        x = start
        for round_ in range(_ROUNDS):
            image = A.abs_apply_transposed(A.abs_apply(x))
            ratio = float(div_up(image, x).max())
            improved = ratio < best * (1 - 1e-15)
            best = ratio if ratio < best else best
            estimate = max(estimate, float((image @ image).sqrt() / (x @ x).sqrt()) ** 0.5)
            # Rounding alone keeps the ratio from ever reaching the estimate.
            if (not improved and round_ > 2) or not ratio > estimate**2 * (1 + 1e-14):
                break
            # Averaging keeps every entry positive and makes bipartite graphs converge.
            x = ((image / float(image.max()) + x / float(x.max())) / 2).clamp(min=_FLOOR)
        if best <= estimate**2 * (1 + 1e-12):
            break
    return float(sqrt_up(best)), estimate


def _singular_vector(A: SparseMatrix) -> Tensor:
    """About the first right singular vector of |A|, made positive: a proposal."""
    vector = torch.linalg.svd(A.dense().magnitude(), full_matrices=False)[2][0].abs()
    positive: Tensor = vector.clamp(min=1e-12 * float(vector.max()))
    return positive
