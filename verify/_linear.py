"""Linear maps between tensors, as the Jacobian's building blocks.

A `LinearMap` is a chain of stages. The main stage, `Kron`, applies one matrix along each dimension of a
tensor and permutes the dimensions: `x -> scale * permute((M_1 (x) ... (x) M_d) x)`. Matrices that meet on
the same dimension are multiplied, so a gather, an edge scaling and a scatter become one sparse matrix, and
the l2 norm of a stage is the product of its matrices' norms exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from . import _midrad as midrad
from ._conv_map import Convolution, Settings
from ._matrix import Matrix, added, compose, copied_entries, multiplied, norm_bound, scaled, spread
from ._midrad import MidRad
from ._norm import Order
from ._rounding import mul_up
from ._sparse import SparseMatrix
from ._stack import Stack

Shape = tuple[int, ...]
ONE = MidRad.exact(torch.ones((), dtype=torch.float64))


@dataclass(frozen=True, eq=False)
class Kron:
    """`x -> scale * permute((M_1 (x) ... (x) M_d) x, perm)`; None stands for the identity matrix."""

    in_shape: Shape
    matrices: tuple[Matrix | None, ...]
    perm: tuple[int, ...]
    scale: MidRad = ONE

    @staticmethod
    def identity(shape: Shape) -> Kron:
        """The identity of tensors of this shape."""
        return Kron(shape, (None,) * len(shape), tuple(range(len(shape))))

    @property
    def mid_shape(self) -> Shape:
        """The shape before the permutation."""
        return tuple(
            size if matrix is None else matrix.shape[0]
            for size, matrix in zip(self.in_shape, self.matrices, strict=True)
        )

    @property
    def out_shape(self) -> Shape:
        """The result's shape."""
        return tuple(self.mid_shape[axis] for axis in self.perm)

    def without_copies(self) -> tuple[Kron, tuple[Tensor | None, ...]]:
        """This map without the 0/1 matrices that copy entries along the result's dimensions 2 and on, and these."""
        found, matrices = [], self.matrices
        for axis in self.perm[2:]:
            found.append(copied_entries(matrices[axis]))
            if found[-1] is not None:
                matrices = _put(matrices, axis, None)
        return replace(self, matrices=matrices), tuple(found)

    def is_scaling(self) -> bool:
        """Whether the map is a multiple of the identity."""
        return all(m is None for m in self.matrices) and self.perm == tuple(range(len(self.perm)))

    def apply(self, x: MidRad) -> MidRad:
        """Enclosure of `A x`, column by column: x of shape (*in_shape, columns)."""
        for axis, matrix in enumerate(self.matrices):
            if matrix is not None:
                x = _columns_along(x, axis, matrix.apply)
        scaled = x if self.scale is ONE else midrad.mul(x, self.scale)
        return scaled.apply_exact(lambda t: t.permute(*self.perm, len(self.perm)))

    def widest(self) -> int:
        """The most numbers at hand while the map is applied to one column."""
        size = most = math.prod(self.in_shape)
        for matrix in self.matrices:
            if matrix is not None:
                rows, cols = matrix.shape
                terms = len(matrix.rows) if isinstance(matrix, SparseMatrix) else rows
                most = max(most, size // max(cols, 1) * max(rows, terms))
                size = size // max(cols, 1) * rows
        return most

    def multiplications(self) -> int:
        """How many apply the map to one column, those of its scale left out."""
        size, count = math.prod(self.in_shape), 0
        for matrix in self.matrices:
            if matrix is not None:
                rows, cols = matrix.shape
                others = size // max(cols, 1)
                count += others * (len(matrix.rows) if isinstance(matrix, SparseMatrix) else rows * cols)
                size = others * rows
        return count

    def abs_apply(self, x: Tensor) -> Tensor:
        """Upper bound of `|A| x` for x >= 0."""
        for axis, matrix in enumerate(self.matrices):
            if matrix is not None:
                x = _along(x, axis, matrix.abs_apply)
        return _times(x, self.scale).permute(self.perm)

    def abs_apply_transposed(self, y: Tensor) -> Tensor:
        """Upper bound of `|A|^T y` for y >= 0."""
        inverse = sorted(range(len(self.perm)), key=self.perm.__getitem__)
        y = y.permute(inverse)
        for axis, matrix in enumerate(self.matrices):
            if matrix is not None:
                y = _along(y, axis, matrix.abs_apply_transposed)
        return _times(y, self.scale)

    def norm_bound(self, order: Order, rows: Tensor | None, cols: Tensor | None) -> float:
        """Proven bound of the norm of `D_out A D_in^-1`, D weighting the last dimension of either side."""
        last_in, last_out = len(self.in_shape) - 1, self.perm[-1] if self.perm else -1
        bound = float(self.scale.magnitude())
        for axis, matrix in enumerate(self.matrices):
            row = rows if axis == last_out else None
            col = cols if axis == last_in else None
            if row is None and col is None:
                factor = 1.0 if matrix is None else norm_bound(matrix, order)
            elif matrix is None and row is not None and col is not None and torch.equal(row, col):
                factor = 1.0
            else:
                target = SparseMatrix.identity(self.in_shape[axis]) if matrix is None else matrix
                factor = norm_bound(scaled(target, row, col), order)
            bound = float(mul_up(bound, factor))
        return bound


@dataclass(frozen=True, eq=False)
class Reshape:
    """The same entries in the same order under another shape: an isometry of every l_p norm."""

    in_shape: Shape
    out_shape: Shape

    def apply(self, x: MidRad) -> MidRad:
        """The columns, reshaped."""
        return x.apply_exact(lambda t: t.reshape(*self.out_shape, t.shape[-1]))

    def widest(self) -> int:
        """The number of entries."""
        return math.prod(self.in_shape)

    def multiplications(self) -> int:
        """None."""
        return 0

    def abs_apply(self, x: Tensor) -> Tensor:
        """The reshaped x."""
        return x.reshape(self.out_shape)

    def abs_apply_transposed(self, y: Tensor) -> Tensor:
        """The y reshaped back."""
        return y.reshape(self.in_shape)

    def norm_bound(self, order: Order, rows: Tensor | None, cols: Tensor | None) -> float:
        """1, times the weights' spread where they do not cancel."""
        return spread(rows, cols)


@dataclass(frozen=True, eq=False)
class Diagonal:
    """`x -> values * x`, entrywise; values have the tensor's shape."""

    values: MidRad

    @property
    def in_shape(self) -> Shape:
        """The shape of either side."""
        return tuple(self.values.shape)

    out_shape = in_shape

    def apply(self, x: MidRad) -> MidRad:
        """Enclosure of the product with each column."""
        return midrad.mul(x, self.values.apply_exact(lambda t: t[..., None]))

    def widest(self) -> int:
        """The number of entries."""
        return math.prod(self.in_shape)

    def multiplications(self) -> int:
        """One for each entry."""
        return math.prod(self.in_shape)

    def abs_apply(self, x: Tensor) -> Tensor:
        """Upper bound of `|values| x`."""
        return mul_up(x, self.values.magnitude())

    abs_apply_transposed = abs_apply

    def norm_bound(self, order: Order, rows: Tensor | None, cols: Tensor | None) -> float:
        """The largest magnitude, times the weights' spread where they do not cancel."""
        if not self.values.mid.numel():
            return 0.0
        same = rows is not None and cols is not None and torch.equal(rows, cols)
        factor = 1.0 if same else spread(rows, cols)
        return float(mul_up(float(self.values.magnitude().max()), factor))


Stage = Kron | Reshape | Diagonal | Convolution | Stack


@dataclass(frozen=True, eq=False)
class LinearMap:
    """Stages applied one after the other; sums of such chains are `Combination`'s business."""

    in_shape: Shape
    stages: tuple[Stage, ...] = ()

    @property
    def out_shape(self) -> Shape:
        """The result's shape."""
        return self.stages[-1].out_shape if self.stages else self.in_shape

    def along(self, axis: int, matrix: Matrix) -> LinearMap:
        """This map, then a matrix along one dimension of its result."""
        kron = self.last_kron()
        if kron is not None:
            label = kron.perm[axis]
            inner = kron.matrices[label]
            product = matrix if inner is None else compose(matrix, inner)
            if product is not None:
                return self._replace_last(replace(kron, matrices=_put(kron.matrices, label, product)))
        fresh = Kron.identity(self.out_shape)
        return self._append(replace(fresh, matrices=_put(fresh.matrices, axis, matrix)))

    def scaled(self, factor: MidRad) -> LinearMap:
        """This map times an enclosed scalar."""
        kron = self.last_kron()
        if kron is not None:
            return self._replace_last(replace(kron, scale=midrad.mul(kron.scale, factor)))
        return self._append(replace(Kron.identity(self.out_shape), scale=factor))

    def permuted(self, dims: tuple[int, ...]) -> LinearMap:
        """This map, then a permutation of dimensions."""
        kron = self.last_kron()
        if kron is not None:
            return self._replace_last(replace(kron, perm=tuple(kron.perm[d] for d in dims)))
        return self._append(replace(Kron.identity(self.out_shape), perm=dims))

    def reshaped(self, shape: Shape) -> LinearMap:
        """This map, then another shape for the same entries."""
        if shape == self.out_shape:
            return self
        if self.stages and isinstance(self.stages[-1], Reshape):
            before = LinearMap(self.in_shape, self.stages[:-1])
            return before.reshaped(shape)
        return self._append(Reshape(self.out_shape, shape))

    def times(self, values: MidRad) -> LinearMap:
        """This map, then an entrywise product with a constant that broadcasts to its result's shape."""
        ndim = len(self.out_shape)
        shape = (1,) * (ndim - values.mid.ndim) + tuple(values.shape)
        varying = [axis for axis in range(ndim) if shape[axis] != 1]
        if not varying:
            return self.scaled(values.apply_exact(lambda t: t.reshape(())))
        if len(varying) == 1:
            return self.along(varying[0], SparseMatrix.diagonal(values.apply_exact(lambda t: t.reshape(-1))))
        return self._append(Diagonal(values.apply_exact(lambda t: t.expand(self.out_shape))))

    def stacked(self, matrices: MidRad) -> LinearMap:
        """This map, then a matrix for each batch entry: (*batch, p, n) for a result of shape (*batch, n, m)."""
        return self._append(Stack(matrices, self.out_shape[-1]))

    def convolved(self, weight: MidRad, settings: Settings) -> LinearMap:
        """This map, then a convolution; entries that were copied along its dimensions are taken for its padding."""
        kron, before = self.last_kron(), self
        copies: tuple[Tensor | None, ...] = (None,) * (len(self.out_shape) - 2)
        if kron is not None and self.stages and not settings.transposed:
            rest, copies = kron.without_copies()
            before = LinearMap(self.in_shape, self.stages[:-1])
            if not rest.is_scaling() or rest.scale is not ONE:
                before = before._append(rest)
        return before._append(Convolution(before.out_shape, weight, settings, copies))

    def apply(self, x: MidRad) -> MidRad:
        """Enclosure of `A_k ... A_1 x`, column by column: x of shape (*in_shape, columns)."""
        for stage in self.stages:
            x = stage.apply(x)
        return x

    def widest(self) -> int:
        """The most numbers at hand while the map is applied to one column."""
        return max((stage.widest() for stage in self.stages), default=math.prod(self.in_shape))

    def multiplications(self) -> int:
        """How many apply the map to one column."""
        return sum(stage.multiplications() for stage in self.stages)

    def abs_apply(self, x: Tensor) -> Tensor:
        """Upper bound of `|A_k| ... |A_1| x` for x >= 0."""
        for stage in self.stages:
            x = stage.abs_apply(x)
        return x

    def abs_apply_transposed(self, y: Tensor) -> Tensor:
        """Upper bound of `|A_1|^T ... |A_k|^T y` for y >= 0."""
        for stage in reversed(self.stages):
            y = stage.abs_apply_transposed(y)
        return y

    def norm_bound(self, order: Order, rows: Tensor | None = None, cols: Tensor | None = None) -> float:
        """Proven bound of the l_p norm of `D_out A D_in^-1`: the product over the stages.

        `rows` and `cols` weight the last dimension of the result and of the argument; None for ones.
        """
        if not self.stages:
            return Kron.identity(self.in_shape).norm_bound(order, rows, cols)
        bound, last = 1.0, len(self.stages) - 1
        for number, stage in enumerate(self.stages):
            row, col = rows if number == last else None, cols if number == 0 else None
            bound = float(mul_up(bound, stage.norm_bound(order, row, col)))
        return bound

    def as_scaling(self) -> MidRad | None:
        """The factor, where the map is a multiple of the identity."""
        kron = self._single_kron()
        return kron.scale if kron is not None and kron.is_scaling() else None

    def last_axis_matrix(self) -> Matrix | None:
        """The one matrix along the last dimension, where that is all the map does."""
        if len(self.stages) != 1 or not isinstance(self.stages[0], Kron):
            return None
        kron = self.stages[0]
        others = any(matrix is not None for matrix in kron.matrices[:-1])
        if others or not kron.perm or kron.perm != tuple(range(len(kron.perm))):
            return None
        matrix = SparseMatrix.identity(kron.in_shape[-1]) if kron.matrices[-1] is None else kron.matrices[-1]
        return matrix if kron.scale is ONE else multiplied(matrix, kron.scale)

    def plus(self, other: LinearMap) -> LinearMap | None:
        """The sum where it is again one map: multiples of one, or matrices on one dimension after the same stages."""
        mine, theirs = self.last_kron(), other.last_kron()
        if mine is None or theirs is None or mine.perm != theirs.perm or mine.in_shape != theirs.in_shape:
            return None
        before, others = self.stages[:-1], other.stages[:-1]
        if len(before) != len(others) or any(a is not b for a, b in zip(before, others, strict=True)):
            return None
        differing = [i for i, (a, b) in enumerate(zip(mine.matrices, theirs.matrices, strict=True)) if a is not b]
        if not differing:
            return LinearMap(self.in_shape, (*before, replace(mine, scale=midrad.add(mine.scale, theirs.scale))))
        if len(differing) > 1:
            return None
        axis = differing[0]
        total = added(_folded(mine, axis), _folded(theirs, axis))
        if total is None:
            return None
        return LinearMap(self.in_shape, (*before, replace(mine, matrices=_put(mine.matrices, axis, total), scale=ONE)))

    def _single_kron(self) -> Kron | None:
        if not self.stages:
            return Kron.identity(self.in_shape)
        return self.stages[0] if len(self.stages) == 1 and isinstance(self.stages[0], Kron) else None

    def last_kron(self) -> Kron | None:
        """The main stage that the map ends with; None where it ends with another."""
        if not self.stages:
            return Kron.identity(self.in_shape)
        return self.stages[-1] if isinstance(self.stages[-1], Kron) else None

    def _replace_last(self, stage: Stage) -> LinearMap:
        return LinearMap(self.in_shape, (*self.stages[:-1], stage))

    def _append(self, stage: Stage) -> LinearMap:
        return LinearMap(self.in_shape, (*self.stages, stage))


def _folded(kron: Kron, axis: int) -> Matrix:
    matrix = kron.matrices[axis]
    chosen = SparseMatrix.identity(kron.in_shape[axis]) if matrix is None else matrix
    return chosen if kron.scale is ONE else multiplied(chosen, kron.scale)


def _put(matrices: tuple[Matrix | None, ...], axis: int, matrix: Matrix | None) -> tuple[Matrix | None, ...]:
    return (*matrices[:axis], matrix, *matrices[axis + 1 :])


def _along(x: Tensor, axis: int, apply: Callable[[Tensor], Tensor]) -> Tensor:
    moved = x.movedim(axis, 0)
    result = apply(moved.reshape(moved.shape[0], math.prod(moved.shape[1:])))
    return result.reshape(result.shape[0], *moved.shape[1:]).movedim(0, axis)


def _columns_along(x: MidRad, axis: int, apply: Callable[[MidRad], MidRad]) -> MidRad:
    shape = x.mid.movedim(axis, 0).shape
    flat = x.apply_exact(lambda t: t.movedim(axis, 0).reshape(shape[0], math.prod(shape[1:])))
    return apply(flat).apply_exact(lambda t: t.reshape(t.shape[0], *shape[1:]).movedim(0, axis))


def _times(x: Tensor, scale: MidRad) -> Tensor:
    return x if scale is ONE else mul_up(x, scale.magnitude())
