"""Bounds of a Jacobian expression's l2 norm in rational arithmetic, exactly 1 where that is decided in integers.

A bound that is rounded upwards never says that an isometry is nonexpansive. Here products and sums along the
composition are exact, and a stored matrix whose rounded bound is just above a number t of few digits is compared with t
in integers: by its row and column sums, `||W||_2^2 <= ||W||_1 ||W||_inf`, or by the definiteness of
`t^2 D^2 - W^T E^2 W`, which decides `||E W D^-1||_2 <= t`.
"""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from torch import Tensor

from deqops._errors import UnsupportedOperationError

from ._gains import carried
from ._jacobian import Combination, Jacobian, StateLeaf
from ._linear import Kron, LinearMap, Stage
from ._matrix import Matrix, norm_bound, scaled
from ._norm import Norm
from ._sparse import SparseMatrix

LARGEST_ELIMINATED = 64  # columns of a matrix whose definiteness is decided in integers
_LARGEST_SUMMED = 2**22  # entries of a matrix whose sums are formed exactly
_STEP = 2**20  # t is a multiple of its inverse
_HUGE = 2**900
_NEAR = 1e-6  # relatively: a rounded bound this far above t is compared with t


def is_nonexpansive(jacobian: Jacobian, norm: Norm, batch_dims: int) -> tuple[bool, float]:
    """Whether `||M||_2 <= 1` is shown for all slopes M, exactly, and the bound that was found, as a float.

    Args:
        jacobian: whose slopes hold on the set in question.
        norm: l2; its weights may vary along the last dimension of each leaf.
        batch_dims: of the state.

    Raises:
        UnsupportedOperationError: the weights vary along another dimension, or a part of G has no finite bound.
    """
    weights = None if norm.weights is None else [_last_axis(weight) for weight in norm.weights]
    walk = _Composition(jacobian, weights)
    rows = [walk.gain(out, None if weights is None else weights[k]) for k, out in enumerate(jacobian.outputs)]
    columns = [sum(column, Fraction(0)) for column in zip(*rows, strict=True)]
    square = max((sum(row, Fraction(0)) for row in rows), default=Fraction(0)) * max(columns, default=Fraction(0))
    return square <= 1, _root(square)


def _root(square: Fraction) -> float:
    """At least the square root; 1 where the square is."""
    if square == 1:
        return 1.0
    root = math.nextafter(math.sqrt(square), math.inf) if square < _HUGE else math.inf
    return min(root, 1.0) if square < 1 else root


def _last_axis(weight: Tensor) -> Tensor:
    rows = weight.reshape(-1, weight.shape[-1]) if weight.ndim else weight.reshape(1, 1)
    if not bool((rows == rows[0]).all()):
        raise UnsupportedOperationError("norm", "has weights that vary along more than the last dimension of a leaf")
    return rows[0]


class _Composition:
    """Gains of the basis values from each leaf of the state; weights are carried as in `_gains.py`."""

    def __init__(self, jacobian: Jacobian, weights: list[Tensor] | None) -> None:
        self._bases, self._weights = jacobian.bases, weights
        self._leaves = [basis for basis in jacobian.bases if isinstance(basis, StateLeaf)]
        self._gains: list[list[Fraction]] = []
        for number, basis in enumerate(jacobian.bases):
            if isinstance(basis, StateLeaf):
                self._gains.append([Fraction(int(leaf is basis)) for leaf in self._leaves])
                continue
            slope = torch.as_tensor(basis.gain, dtype=torch.float64)
            top = _fraction(float(slope.max()) if slope.numel() else 0.0)
            self._gains.append([top * gain for gain in self.gain(basis.source, self._weight(number))])

    def gain(self, combination: Combination, row: Tensor | None) -> list[Fraction]:
        """Bounds of `||sum A_k M_k||` from each leaf of the state."""
        total = [Fraction(0)] * len(self._leaves)
        for k, maps in combination.terms.items():
            size = sum((map_bound(one, row, self._weight(k)) for one in maps), Fraction(0))
            total = [a + size * b for a, b in zip(total, self._gains[k], strict=True)]
        return total

    def _weight(self, number: int) -> Tensor | None:
        basis = self._bases[number]
        if self._weights is None:
            return None
        if isinstance(basis, StateLeaf):
            return self._weights[basis.position]
        return carried(basis, self._weights[0]) if basis.shape == self._leaves[0].shape else None


def map_bound(map_: LinearMap, row: Tensor | None, col: Tensor | None) -> Fraction:
    """Upper bound of `||D_row A D_col^-1||_2`, the weights along the last dimension of either side."""
    stages: tuple[Stage, ...] = map_.stages or (Kron.identity(map_.in_shape),)
    bound, last = Fraction(1), len(stages) - 1
    for number, stage in enumerate(stages):
        bound *= _stage_bound(stage, row if number == last else None, col if number == 0 else None)
    return bound


def _stage_bound(stage: Stage, row: Tensor | None, col: Tensor | None) -> Fraction:
    if isinstance(stage, Kron):
        return _kron_bound(stage, row, col)
    return _fraction(stage.norm_bound("l2", row, col))  # of a reshape and a diagonal without weights: exact


def _kron_bound(kron: Kron, rows: Tensor | None, cols: Tensor | None) -> Fraction:
    last_in, last_out = len(kron.in_shape) - 1, kron.perm[-1] if kron.perm else -1
    bound = _fraction(float(kron.scale.magnitude()))
    for axis, matrix in enumerate(kron.matrices):
        row, col = rows if axis == last_out else None, cols if axis == last_in else None
        cancelling = row is None if col is None else row is not None and torch.equal(row, col)
        if matrix is None and cancelling:
            continue
        target = SparseMatrix.identity(kron.in_shape[axis]) if matrix is None else matrix
        bound *= matrix_bound(target, row, col)
    return bound


def matrix_bound(matrix: Matrix, row: Tensor | None = None, col: Tensor | None = None) -> Fraction:
    """Upper bound of `||D_row A D_col^-1||_2`: a number of few digits where integers decide that it is one."""
    rounded = _fraction(norm_bound(scaled(matrix, row, col), "l2"))
    near = Fraction(round(rounded * _STEP), _STEP)
    if not near < rounded <= near * (1 + Fraction(_NEAR)):
        return rounded
    entries = _exact_entries(matrix)
    if entries is None:
        return rounded
    decided = row is None and col is None and _sums_at_most(entries, matrix.shape, near)
    return near if decided or _gram_at_most(entries, matrix.shape, near, row, col) else rounded


Entries = list[tuple[int, int, float]]


def _exact_entries(matrix: Matrix) -> Entries | None:
    """The entries other than 0, where they are stored and not computed; None where rounding enters them."""
    if isinstance(matrix, SparseMatrix):
        single = matrix.coalesce()
        rows, cols, values = single.rows, single.cols, single.values
    else:
        if matrix.values.mid.numel() > _LARGEST_SUMMED:
            return None
        rows, cols = matrix.values.mid.nonzero(as_tuple=True)
        values = matrix.values.apply_exact(lambda t: t[rows, cols]) if matrix.values.is_exact() else matrix.values
    if not values.is_exact() or not values.is_finite():
        return None
    return list(zip(rows.tolist(), cols.tolist(), values.mid.tolist(), strict=True))


def _sums_at_most(entries: Entries, shape: tuple[int, int], t: Fraction) -> bool:
    """Whether all row and column sums of moduli are at most t; the sign of `math.fsum` is that of the exact sum."""
    sums: list[list[list[float]]] = [[[-float(t)] for _ in range(size)] for size in shape]
    for i, j, value in entries:
        sums[0][i].append(abs(value))
        sums[1][j].append(abs(value))
    return all(math.fsum(terms) <= 0 for side in sums for terms in side)


def _gram_at_most(
    entries: Entries, shape: tuple[int, int], t: Fraction, row: Tensor | None, col: Tensor | None
) -> bool:
    """Whether `t^2 D_col^2 - A^T D_row^2 A` is positive semidefinite, in integers."""
    m, n = shape
    if row is None and col is None and m < n:
        return _gram_at_most([(j, i, value) for i, j, value in entries], (n, m), t, None, None)
    if n > LARGEST_ELIMINATED:
        return False
    left, right = (
        [Fraction(1)] * size if weight is None else [Fraction(v) for v in weight.tolist()]
        for weight, size in ((row, m), (col, n))
    )
    lines: list[list[tuple[int, Fraction]]] = [[] for _ in range(m)]
    for i, j, value in entries:
        lines[i].append((j, Fraction(value) * left[i]))
    gram = [[(t * right[i]) ** 2 if i == j else Fraction(0) for j in range(n)] for i in range(n)]
    for line in lines:
        for i, a in line:
            for j, b in line:
                gram[i][j] -= a * b
    common = max(v.denominator for line_ in gram for v in line_)  # all of them are powers of 2
    return is_positive_semidefinite([[int(v * common) for v in line_] for line_ in gram])


def is_positive_semidefinite(matrix: list[list[int]]) -> bool:
    """Whether a symmetric matrix of integers is, exactly: Bareiss' elimination.

    Each pivot has the sign of a Schur complement's diagonal entry: none may be negative, and where one is 0 its whole
    row must be.
    """
    a, size, before = [list(row) for row in matrix], len(matrix), 1
    for k in range(size):
        pivot = a[k][k]
        if pivot < 0 or (pivot == 0 and any(a[k][j] != 0 for j in range(k + 1, size))):
            return False
        if pivot == 0:
            continue
        for i in range(k + 1, size):
            for j in range(i, size):
                a[i][j] = a[j][i] = (a[i][j] * pivot - a[i][k] * a[k][j]) // before
        before = pivot
    return True


def _fraction(value: float) -> Fraction:
    if not math.isfinite(value):
        raise UnsupportedOperationError("operator", "has a part without a finite gain")
    return Fraction(value)
