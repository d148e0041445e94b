"""Affine dependence of a value on earlier values, its constant part left out.

A `Term` is a linear map from one *source* (a leaf of the state, or the result of a nonlinear function): one
matrix along each dimension of the source, then a permutation of dimensions. Matrices on different dimensions
commute, those that meet on one dimension are multiplied: a gather, a scaling by edge weights and a scatter
become one sparse matrix. A `Form` is a sum of terms over several sources.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from flint import arb

from . import _arithmetic as ball
from ._matrix import Matrix, identity, multiple, product, sum_of

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Term:
    """`x -> scale * ((M_1 (x) ... (x) M_d) x)`, dimensions then in the order `axes`.

    `source_shape` is x's shape with ones appended; None among `matrices` is the identity; a dimension that
    `axes` does not list has size 1 by then.
    """

    source_shape: Shape
    matrices: tuple[Matrix | None, ...]
    axes: tuple[int, ...]
    scale: Any

    @property
    def sizes(self) -> Shape:
        """The sizes after the matrices, before the permutation."""
        both = zip(self.source_shape, self.matrices, strict=True)
        return tuple(size if matrix is None else matrix.shape[0] for size, matrix in both)

    @property
    def shape(self) -> Shape:
        """The result's shape."""
        return tuple(self.sizes[axis] for axis in self.axes)

    def along(self, dim: int, matrix: Matrix) -> Term | None:
        """This map, then a matrix along one dimension; None where the product is too large to form."""
        axis = self.axes[dim]
        inner = self.matrices[axis]
        merged = matrix if inner is None else product(matrix, inner)
        return None if merged is None else self._with(axis, merged)

    def permuted(self, dims: tuple[int, ...]) -> Term:
        """This map, then a permutation of dimensions."""
        return replace(self, axes=tuple(self.axes[d] for d in dims))

    def multiplied(self, factor: Any) -> Term:
        """This map times a scalar."""
        return replace(self, scale=self.scale * factor)

    def squeezed(self, shape: Shape) -> Term:
        """This map, then a reshape that only adds or drops dimensions of size 1."""
        kept = [axis for axis, size in zip(self.axes, self.shape, strict=True) if size != 1]
        fresh = range(len(self.source_shape), len(self.source_shape) + sum(size == 1 for size in shape))
        kept_, fresh_ = iter(kept), iter(fresh)
        axes = tuple(next(fresh_) if size == 1 else next(kept_) for size in shape)
        ones = (1,) * len(fresh)
        return Term(self.source_shape + ones, self.matrices + (None,) * len(fresh), axes, self.scale)

    def plus(self, other: Term) -> Term | None:
        """The sum, where it is one term again: at most one dimension carries different matrices."""
        if self.source_shape != other.source_shape or self.axes != other.axes:
            return None
        pairs = zip(self.matrices, other.matrices, strict=True)
        differing = [axis for axis, (a, b) in enumerate(pairs) if a is not b]
        if not differing:
            return replace(self, scale=self.scale + other.scale)
        if len(differing) > 1:
            return None
        axis = differing[0]
        return replace(self, scale=arb(1))._with(axis, sum_of(self._folded(axis), other._folded(axis)))

    def is_identity(self) -> bool:
        """Whether the map leaves its source as it is."""
        plain = all(matrix is None for matrix in self.matrices) and bool(self.scale == 1)
        return plain and self.axes == tuple(range(len(self.source_shape)))

    def last_matrix(self, ndim: int) -> Matrix | None:
        """The one matrix along the last of the source's `ndim` dimensions, where that is all the map does."""
        others = any(matrix is not None for matrix in self.matrices[:-1])
        if others or not ndim or self.axes != tuple(range(ndim)) or len(self.source_shape) != ndim:
            return None
        return self._folded(ndim - 1)

    def magnitude(self, x: ball.Balls) -> ball.Balls:
        """`|A| x` for x >= 0 of the source's shape."""
        x = x.reshape(self.source_shape)
        for axis, matrix in enumerate(self.matrices):
            x = x if matrix is None else _apply(matrix, x, axis)
        dropped = tuple(axis for axis in range(x.ndim) if axis not in self.axes)
        return ball.times(x.transpose(self.axes + dropped).reshape(self.shape), abs(self.scale))

    def magnitude_transposed(self, y: ball.Balls) -> ball.Balls:
        """`|A|^T y` for y >= 0 of the result's shape, in `source_shape`."""
        dropped = tuple(axis for axis in range(len(self.source_shape)) if axis not in self.axes)
        order = self.axes + dropped
        y = y.reshape(self.shape + (1,) * len(dropped)).transpose(np.argsort(order))
        for axis, matrix in enumerate(self.matrices):
            y = y if matrix is None else _apply(matrix.transposed(), y, axis)
        return ball.times(y, abs(self.scale))

    def columns(self, x: ball.Balls) -> ball.Balls:
        """`A x`, column by column: x of shape (*source, columns)."""
        count = x.shape[-1]
        x = x.reshape((*self.source_shape, count))
        for axis, matrix in enumerate(self.matrices):
            if matrix is not None:
                x = _columns_along(matrix, x, axis)
        dropped = tuple(axis for axis in range(x.ndim - 1) if axis not in self.axes)
        return ball.times(x.transpose((*self.axes, *dropped, x.ndim - 1)).reshape((*self.shape, count)), self.scale)

    def magnitude_term(self) -> Term:
        """|A|, entry by entry."""
        matrices = tuple(None if matrix is None else matrix.magnitude() for matrix in self.matrices)
        return Term(self.source_shape, matrices, self.axes, abs(self.scale))

    def widest(self) -> int:
        """The most numbers at hand while the map is applied to one column."""
        size = most = math.prod(self.source_shape)
        for matrix in self.matrices:
            if matrix is not None:
                others = size // max(matrix.shape[1], 1)
                most = max(most, others * max(len(matrix.values) if not matrix.full else 0, matrix.shape[0]))
                size = others * matrix.shape[0]
        return most

    def _with(self, axis: int, matrix: Matrix) -> Term:
        return replace(self, matrices=(*self.matrices[:axis], matrix, *self.matrices[axis + 1 :]))

    def _folded(self, axis: int) -> Matrix:
        matrix = self.matrices[axis]
        return multiple(identity(self.source_shape[axis]) if matrix is None else matrix, self.scale)


def _apply(matrix: Matrix, x: ball.Balls, axis: int) -> ball.Balls:
    moved = np.moveaxis(x, axis, 0)
    flat = matrix.magnitude_times(moved.reshape(moved.shape[0], math.prod(moved.shape[1:])))
    return np.moveaxis(flat.reshape((flat.shape[0], *moved.shape[1:])), 0, axis)


def _columns_along(matrix: Matrix, x: ball.Balls, axis: int) -> ball.Balls:
    moved = np.moveaxis(x, axis, 0)
    flat = matrix.times(moved.reshape(moved.shape[0], math.prod(moved.shape[1:])))
    return np.moveaxis(flat.reshape((flat.shape[0], *moved.shape[1:])), 0, axis)


@dataclass(frozen=True, eq=False)
class Form:
    """`sum_k A_k u_k` over sources numbered k, of the given shape."""

    shape: Shape
    terms: Mapping[int, tuple[Term, ...]]

    def map(self, change: Callable[[Term], Term | None], shape: Shape) -> Form | None:
        """Every term followed by the same linear map, or None where one of them cannot be."""
        terms: dict[int, tuple[Term, ...]] = {}
        for source, several in self.terms.items():
            changed = [new for new in map(change, several) if new is not None]
            if len(changed) != len(several):
                return None
            terms[source] = tuple(changed)
        return Form(shape, terms)

    def plus(self, other: Form) -> Form:
        """The sum; terms of one source are merged where they can be."""
        terms = {source: list(several) for source, several in self.terms.items()}
        for source, several in other.terms.items():
            for new in several:
                _merge(terms.setdefault(source, []), new)
        return Form(self.shape, {source: tuple(several) for source, several in terms.items()})

    def only(self) -> tuple[int, Term] | None:
        """The one term, where there is exactly one."""
        pairs = [(source, term) for source, several in self.terms.items() for term in several]
        return pairs[0] if len(pairs) == 1 else None


def _merge(terms: list[Term], new: Term) -> None:
    for number, old in enumerate(terms):
        merged = old.plus(new)
        if merged is not None:
            terms[number] = merged
            return
    terms.append(new)


def identity_form(source: int, shape: Shape) -> Form:
    """The source itself."""
    return Form(shape, {source: (Term(shape, (None,) * len(shape), tuple(range(len(shape))), arb(1)),)})


def zero_form(shape: Shape) -> Form:
    """No dependence at all."""
    return Form(shape, {})
