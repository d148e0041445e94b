"""Matrices of balls in coordinate form: the linear maps that act along one dimension of a tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from flint import arb
from numpy.typing import NDArray

from . import _arithmetic as ball

Index = NDArray[np.int64]
LARGEST_PRODUCT = 2**24  # terms; a product that needs more stays a product of two maps


@dataclass(frozen=True, eq=False)
class Matrix:
    """`values[k]` at (`rows[k]`, `cols[k]`), sorted by row then column, no position twice; zero elsewhere."""

    rows: Index
    cols: Index
    values: ball.Balls
    shape: tuple[int, int]

    @property
    def full(self) -> bool:
        """Whether a good part of the entries is stored."""
        return 4 * len(self.values) >= self.shape[0] * self.shape[1]

    def dense(self) -> ball.Balls:
        """The entries as a two-dimensional array."""
        entries = ball.full(0, self.shape)
        entries[self.rows, self.cols] = self.values
        return entries

    def transposed(self) -> Matrix:
        """The transpose."""
        return collected(self.cols, self.rows, self.values, (self.shape[1], self.shape[0]))

    def scaled(self, rows: ball.Balls | None, cols: ball.Balls | None) -> Matrix:
        """`diag(rows) A diag(cols)`; None for ones."""
        values = self.values if rows is None else ball.times(self.values, rows[self.rows])
        values = values if cols is None else ball.times(values, cols[self.cols])
        return Matrix(self.rows, self.cols, values, self.shape)

    def magnitude(self) -> Matrix:
        """|A|, entry by entry."""
        return Matrix(self.rows, self.cols, ball.absolute(self.values), self.shape)

    def magnitude_times(self, x: ball.Balls) -> ball.Balls:
        """`|A| x` for x of shape (n, k)."""
        return self.magnitude().times(x)

    def times(self, x: ball.Balls) -> ball.Balls:
        """`A x` for x of shape (n, k)."""
        result, weights = ball.full(0, (self.shape[0], x.shape[1])), self.values
        if not len(weights) or not x.shape[1]:
            return result
        if self.full:
            return ball.matrix_product(self.dense(), x)
        starts = np.flatnonzero(np.r_[True, self.rows[1:] != self.rows[:-1]])
        for start in range(0, x.shape[1], 16):  # a few columns at a time: the products need memory
            block = weights[:, None] * x[self.cols, start : start + 16]
            result[self.rows[starts], start : start + 16] = np.add.reduceat(block, starts, axis=0)
        return result


def collected(rows: Index, cols: Index, values: ball.Balls, shape: tuple[int, int]) -> Matrix:
    """A matrix from entries in any order; entries at one position are added."""
    if not len(values):
        return Matrix(rows, cols, values, shape)
    keys = rows * shape[1] + cols
    order = np.argsort(keys, kind="stable")
    keys, rows, cols, values = keys[order], rows[order], cols[order], values[order]
    starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
    return Matrix(rows[starts], cols[starts], np.add.reduceat(values, starts), shape)


def from_dense(entries: ball.Balls) -> Matrix:
    """A matrix from a two-dimensional array; exact zeros are left out."""
    nonzero = np.frompyfunc(lambda x: not x.is_zero(), 1, 1)(entries).astype(bool)
    rows, cols = np.nonzero(nonzero)
    return Matrix(rows, cols, entries[rows, cols], (entries.shape[0], entries.shape[1]))


def diagonal(values: ball.Balls) -> Matrix:
    """diag(values)."""
    n = len(values)
    return Matrix(np.arange(n), np.arange(n), values, (n, n))


def identity(n: int) -> Matrix:
    """The identity."""
    return diagonal(ball.full(1, (n,)))


def gather(index: NDArray[Any], size: int) -> Matrix:
    """`(A x)_k = x_index[k]` for x of the given size."""
    m = len(index)
    return Matrix(np.arange(m), index.astype(np.int64), ball.full(1, (m,)), (m, size))


def scatter(index: NDArray[Any], size: int) -> Matrix:
    """`(A x)_i` is the sum of `x_k` over all k with `index[k] == i`."""
    return gather(index, size).transposed()


def product(outer: Matrix, inner: Matrix) -> Matrix | None:
    """`outer @ inner`, or None where it would take too many terms."""
    if outer.full and inner.full and outer.shape[0] * outer.shape[1] <= LARGEST_PRODUCT:
        return from_dense(ball.matrix_product(outer.dense(), inner.dense()))
    begin = np.searchsorted(inner.rows, outer.cols, side="left")
    counts = np.searchsorted(inner.rows, outer.cols, side="right") - begin
    terms = int(counts.sum())
    if terms > LARGEST_PRODUCT:
        return None
    # term t multiplies the outer entry `left[t]` by the inner entry `right[t]` of the row it points to
    left = np.repeat(np.arange(len(outer.values)), counts)
    right = np.arange(terms) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(begin, counts)
    values = ball.array(outer.values[left] * inner.values[right])
    return collected(outer.rows[left], inner.cols[right], values, (outer.shape[0], inner.shape[1]))


def sum_of(a: Matrix, b: Matrix) -> Matrix:
    """`a + b`."""
    rows, cols = np.concatenate([a.rows, b.rows]), np.concatenate([a.cols, b.cols])
    return collected(rows, cols, np.concatenate([a.values, b.values]), a.shape)


def multiple(a: Matrix, factor: Any) -> Matrix:
    """`factor * a`."""
    return Matrix(a.rows, a.cols, ball.times(a.values, arb(factor)), a.shape)
