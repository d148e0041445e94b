"""Matrices that act along one dimension of a tensor: dense or sparse, with enclosed entries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from . import _midrad as midrad
from ._midrad import MidRad
from ._norm import Norm, Order
from ._rounding import matmul_up, mul_up, sqrt_up
from ._sparse import SparseMatrix
from ._spectral import inf_norm_bound, one_norm_bound, spectral_norm_bound

LARGEST_DENSE = 2**24  # entries; a product that would be larger stays a product


@dataclass(frozen=True, eq=False)
class DenseMatrix:
    """A matrix of enclosed entries, (m, n)."""

    values: MidRad

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, cols = self.values.shape
        return rows, cols

    @cached_property
    def magnitude(self) -> Tensor:
        """Upper bounds of the entries' absolute values."""
        return self.values.magnitude()

    def apply(self, x: MidRad) -> MidRad:
        """Enclosure of `A x`, x of shape (n, k)."""
        return midrad.matmul(self.values, x)

    def abs_apply(self, x: Tensor) -> Tensor:
        """Upper bound of `|A| x` for x >= 0, (n, k)."""
        return matmul_up(self.magnitude, x)

    def abs_apply_transposed(self, y: Tensor) -> Tensor:
        """Upper bound of `|A|^T y` for y >= 0, (m, k)."""
        return matmul_up(self.magnitude.T, y)

    def dense(self) -> MidRad:
        """The entries."""
        return self.values

    def norm_bound(self, order: Order) -> float:
        """Proven upper bound of the operator norm from l_p to l_p."""
        return self._norm_bounds(order)

    def _norm_bounds(self, order: Order) -> float:
        cache = self.__dict__.setdefault("_bounds", {})
        if order not in cache:
            cache[order] = float(_DENSE_NORMS[order](self.values))
        return float(cache[order])


_DENSE_NORMS: dict[str, Callable[[MidRad], Any]] = {
    "l1": one_norm_bound,
    "l2": spectral_norm_bound,
    "linf": inf_norm_bound,
}

Matrix = DenseMatrix | SparseMatrix


def norm_bound(matrix: Matrix, order: Order) -> float:
    """Proven upper bound of the matrix' norm from l_p to l_p."""
    return float(matrix.norm_bound(order))


def scaled(matrix: Matrix, rows: Tensor | None, cols: Tensor | None) -> Matrix:
    """`diag(rows) A diag(cols)^-1` for positive rows and columns, enclosed."""
    if rows is None and cols is None:
        return matrix
    m, n = matrix.shape
    row = torch.ones(m, dtype=torch.float64) if rows is None else rows
    col = torch.ones(n, dtype=torch.float64) if cols is None else cols
    if isinstance(matrix, DenseMatrix):
        factors = midrad.div(MidRad.exact(row[:, None]), MidRad.exact(col[None, :]))
        return DenseMatrix(midrad.mul(matrix.values, factors))
    factors = midrad.div(MidRad.exact(row[matrix.rows]), MidRad.exact(col[matrix.cols]))
    return SparseMatrix(matrix.rows, matrix.cols, midrad.mul(matrix.values, factors), matrix.shape)


def compose(outer: Matrix, inner: Matrix) -> Matrix | None:
    """`outer @ inner`, or None where the product would be too large to form."""
    if isinstance(outer, SparseMatrix) and isinstance(inner, SparseMatrix):
        return outer.compose(inner)
    if max(_entries(outer), _entries(inner), outer.shape[0] * inner.shape[1]) > LARGEST_DENSE:
        return None
    return DenseMatrix(midrad.matmul(outer.dense(), inner.dense()))


def added(first: Matrix, second: Matrix) -> Matrix | None:
    """`first + second`, or None where the sum would be too large to form."""
    if isinstance(first, SparseMatrix) and isinstance(second, SparseMatrix):
        values = MidRad(
            torch.cat([first.values.mid, second.values.mid]), torch.cat([first.values.rad, second.values.rad])
        )
        rows, cols = torch.cat([first.rows, second.rows]), torch.cat([first.cols, second.cols])
        return SparseMatrix(rows, cols, values, first.shape).coalesce()
    if _entries(first) > LARGEST_DENSE or _entries(second) > LARGEST_DENSE:
        return None
    return DenseMatrix(midrad.add(first.dense(), second.dense()))


def multiplied(matrix: Matrix, factor: MidRad) -> Matrix:
    """`factor * A` for an enclosed scalar."""
    if isinstance(matrix, DenseMatrix):
        return DenseMatrix(midrad.mul(matrix.values, factor))
    return SparseMatrix(matrix.rows, matrix.cols, midrad.mul(matrix.values, factor), matrix.shape)


def row_l2_norms(matrix: Matrix) -> Tensor:
    """Upper bound of each row's Euclidean norm, (m,)."""
    if isinstance(matrix, DenseMatrix):
        return Norm("l2").upper([matrix.magnitude], batch_dims=1)
    single = matrix.coalesce()
    squares = MidRad.exact(mul_up(single.values.magnitude(), single.values.magnitude()))
    ones = torch.ones(matrix.shape[1], 1, dtype=torch.float64)
    total = SparseMatrix(single.rows, single.cols, squares, matrix.shape).abs_apply(ones)
    return sqrt_up(total.reshape(-1))


def _entries(matrix: Matrix) -> int:
    return matrix.shape[0] * matrix.shape[1]
