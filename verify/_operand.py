"""What a norm can be asked of: the interface, matrices written out, sparse ones, and the registry of other types."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor

from deqops._errors import InputError

from . import _midrad as midrad
from ._bound import Bound
from ._matrix import LARGEST_DENSE, DenseMatrix
from ._midrad import MidRad
from ._norm import Order
from ._norm_estimate import norm_estimate
from ._rounding import exact_float64
from ._sparse import SparseMatrix
from ._spectral import inf_norm_bound, one_norm_bound, spectral_norm_bound

_SPARSE = (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc)


class Operand(ABC):
    """An (m, n) real matrix, or an enclosure of many, known by its parts; a subclass may be anyone's.

    A bound holds for every matrix that the parts enclose. `apply` and `apply_transposed` serve estimates only.
    """

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""

    @abstractmethod
    def norm_bound(self, order: Order) -> Bound:
        """Proven upper bound of the norm from l_p to l_p."""

    @abstractmethod
    def apply(self, x: Tensor) -> Tensor:
        """About `A x` in float64, x of shape (n, k)."""

    @abstractmethod
    def apply_transposed(self, y: Tensor) -> Tensor:
        """About `A^T y` in float64, y of shape (m, k)."""

    @abstractmethod
    def entries(self) -> MidRad | None:
        """Enclosure of the matrix written out; None where it is too large for that."""

    def scaled(self, rows: MidRad, cols: MidRad) -> Operand | None:
        """`diag(rows) A diag(cols)`; None where that is neither known by its parts nor small enough to write out."""
        values = self.entries()
        return None if values is None else scaled_entries(values, rows, cols)


@dataclass(frozen=True, eq=False)
class Entries(Operand):
    """A matrix written out."""

    values: MidRad

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, cols = self.values.shape
        return rows, cols

    def norm_bound(self, order: Order) -> Bound:
        """Proven upper bound; infinite where an entry has no finite enclosure."""
        if not self.values.is_finite():
            return Bound(math.inf, 0.0, "not finite")
        if order == "l2":
            return spectral_norm_bound(self.values)
        upper = one_norm_bound(self.values) if order == "l1" else inf_norm_bound(self.values)
        sums = self.values.mid.abs().sum(dim=0 if order == "l1" else 1)
        estimate = float(sums.max()) if sums.numel() else 0.0
        return Bound(upper, min(estimate, upper), "column sums" if order == "l1" else "row sums")

    def apply(self, x: Tensor) -> Tensor:
        """About `A x`."""
        return self.values.mid @ x

    def apply_transposed(self, y: Tensor) -> Tensor:
        """About `A^T y`."""
        return self.values.mid.T @ y

    def entries(self) -> MidRad | None:
        """The entries, however many: they are there."""
        return self.values


@dataclass(frozen=True, eq=False)
class SparseEntries(Operand):
    """A sparse matrix; triples of one place are added up, and the sum's rounding enclosed."""

    matrix: SparseMatrix

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.matrix.shape

    def norm_bound(self, order: Order) -> Bound:
        """Proven upper bound, `SparseMatrix.norm_bound`, with an estimate where that makes none."""
        bound = self.matrix.norm_bound(order)
        if bound.lower_estimate or not len(self.matrix.rows):
            return bound
        return replace(bound, lower_estimate=min(norm_estimate(self, order), bound.upper))

    def apply(self, x: Tensor) -> Tensor:
        """About `A x`."""
        terms = self.matrix.values.mid[:, None] * x.index_select(0, self.matrix.cols)
        return torch.zeros(self.shape[0], x.shape[1], dtype=torch.float64).index_add(0, self.matrix.rows, terms)

    def apply_transposed(self, y: Tensor) -> Tensor:
        """About `A^T y`."""
        terms = self.matrix.values.mid[:, None] * y.index_select(0, self.matrix.rows)
        return torch.zeros(self.shape[1], y.shape[1], dtype=torch.float64).index_add(0, self.matrix.cols, terms)

    def entries(self) -> MidRad | None:
        """The matrix with its zeros."""
        return self.matrix.dense() if math.prod(self.shape) <= LARGEST_DENSE else None

    def scaled(self, rows: MidRad, cols: MidRad) -> Operand | None:
        """Each triple times its row's and its column's factor."""
        A = self.matrix
        row, col = MidRad(rows.mid[A.rows], rows.rad[A.rows]), MidRad(cols.mid[A.cols], cols.rad[A.cols])
        values = midrad.mul(midrad.mul(A.values, row), col)
        return SparseEntries(SparseMatrix(A.rows, A.cols, values, A.shape))


def scaled_entries(values: MidRad, rows: MidRad, cols: MidRad) -> Entries:
    """`diag(rows) A diag(cols)` written out."""
    left, right = rows.apply_exact(lambda t: t[:, None]), cols.apply_exact(lambda t: t[None, :])
    return Entries(midrad.mul(midrad.mul(values, left), right))


@singledispatch
def as_operand(A: Any, name: str = "A") -> Operand:
    """The operand that a value stands for; `as_operand.register(type)` adds a type of one's own.

    Args:
        A: a tensor (m, n) of a real floating dtype, dense or sparse, taken exactly; a vector counts as one column; a
            `MidRad`; an `Operand`; or an instance of a registered type.
        name: of the argument, for errors.

    Raises:
        InputError: of another type, another shape, or with an entry that is not finite.
    """
    known = "a tensor, a MidRad, a Product, a Kronecker, a LowRankPlusDiagonal, a Convolution or another Operand"
    raise InputError(f"{name}: no norm is known of {type(A).__qualname__}; pass {known}")


@as_operand.register
def _(A: Operand, name: str = "A") -> Operand:
    return A


@as_operand.register
def _(A: DenseMatrix, name: str = "A") -> Operand:
    return Entries(A.values)


@as_operand.register
def _(A: SparseMatrix, name: str = "A") -> Operand:
    return SparseEntries(A)


@as_operand.register
def _(A: Tensor, name: str = "A") -> Operand:
    if A.layout is torch.strided:
        return Entries(enclosure(A, name).apply_exact(lambda t: _as_columns(t, name)))
    if A.layout not in _SPARSE:
        raise InputError(f"{name}: got a tensor of layout {A.layout}; pass a dense, COO, CSR or CSC one")
    if A.ndim != 2 or A.dense_dim():
        raise InputError(f"{name}: a sparse tensor needs two sparse dimensions and no dense one, got {tuple(A.shape)}")
    triples = A if A.layout is torch.sparse_coo else A.to_sparse(layout=torch.sparse_coo)
    rows, cols = triples._indices().cpu()  # of a tensor that may hold a place twice
    return SparseEntries(SparseMatrix(rows, cols, enclosure(triples._values(), name), (A.shape[0], A.shape[1])))


@as_operand.register
def _(A: MidRad, name: str = "A") -> Operand:
    return Entries(enclosure(A, name).apply_exact(lambda t: _as_columns(t, name)))


def enclosure(A: Tensor | MidRad, name: str) -> MidRad:
    """A tensor taken exactly, or an enclosure, finite; any shape.

    Raises:
        InputError: anything else, by name.
    """
    if isinstance(A, Tensor) and A.layout is torch.strided:
        return _finite(MidRad.exact(_exact(A, name)), name)
    if not isinstance(A, MidRad):
        raise InputError(f"{name}: a dense tensor or a MidRad is needed, got {type(A).__qualname__}")
    if A.mid.dtype != torch.float64 or A.rad.dtype != torch.float64 or A.mid.shape != A.rad.shape:
        raise InputError(f"{name}: midpoints and radii must be float64 and of one shape")
    if bool((A.rad < 0).any()):
        raise InputError(f"{name}: a radius is negative; radii are at least 0")
    return _finite(A, name)


def _exact(A: Tensor, name: str) -> Tensor:
    try:
        return exact_float64(A)
    except InputError:
        raise InputError(f"{name}: dtype {A.dtype} is no real floating dtype; use float32 or float64") from None


def _as_columns(A: Tensor, name: str) -> Tensor:
    if A.ndim not in (1, 2):
        raise InputError(f"{name}: a matrix is needed, got shape {tuple(A.shape)}")
    return A[:, None] if A.ndim == 1 else A


def _finite(A: MidRad, name: str) -> MidRad:
    open_ = ~(A.mid.isfinite() & A.rad.isfinite())
    if bool(open_.any()):
        raise InputError(f"{name}: entry {open_.nonzero()[0].tolist()} is not finite; remove NaN and infinity")
    return A
