"""A Jacobian expression as one sparse matrix of intervals, for states whose entries meet few others, as on a graph.

The identity is pushed forward through the basis values as in `_interval_jacobian.py`, its zeros left out: of a graph's
nodes only neighbours meet, and what is written out are the edges' blocks.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from deqops._errors import UnsupportedOperationError

from . import _midrad as midrad
from ._jacobian import Combination, Elementwise, Jacobian, StateLeaf
from ._linear import Diagonal, Kron, LinearMap, Reshape, Stage
from ._matrix import Matrix
from ._midrad import MidRad
from ._sparse import SparseMatrix
from ._stack import Stack

LARGEST_TERMS = 2**25  # products of two entries, in any step on the way


def sparse_jacobian(jacobian: Jacobian) -> SparseMatrix:
    """Enclosure of M for every choice of slopes, (n, n), of the one problem whose state is one leaf.

    Raises:
        UnsupportedOperationError: several leaves, a stage or a function that is not written out sparsely, or too many
            terms on the way.
    """
    values: list[SparseMatrix] = []
    for basis in jacobian.bases:
        if isinstance(basis, StateLeaf):
            if basis.position:
                raise UnsupportedOperationError("operator", "has a state of several leaves")
            values.append(SparseMatrix.identity(math.prod(basis.shape)))
        elif isinstance(basis, Elementwise):
            values.append(_sloped(_pushed(basis.source, values), basis))
        else:
            raise UnsupportedOperationError("operator", f"has a {basis.name}, whose derivative is not written sparsely")
    return _pushed(jacobian.outputs[0], values).coalesce()


def _pushed(combination: Combination, values: list[SparseMatrix]) -> SparseMatrix:
    """The rows of a combination from those of the basis values."""
    parts = [_through(one, values[k]) for k, maps in combination.terms.items() for one in maps]
    columns = values[0].shape[1]
    if not parts:
        none = torch.zeros(0, dtype=torch.int64)
        zero = MidRad.exact(torch.zeros(0, dtype=torch.float64))
        return SparseMatrix(none, none, zero, (math.prod(combination.shape), columns))
    if len(parts) == 1:
        return parts[0]
    rows, cols = (torch.cat([getattr(part, name) for part in parts]) for name in ("rows", "cols"))
    mid, rad = (torch.cat([getattr(part.values, name) for part in parts]) for name in ("mid", "rad"))
    return SparseMatrix(rows, cols, MidRad(mid, rad), parts[0].shape).coalesce()


def _sloped(x: SparseMatrix, basis: Elementwise) -> SparseMatrix:
    lower, upper = (torch.as_tensor(end, dtype=torch.float64).expand(basis.shape) for end in (basis.lower, basis.upper))
    return _rows_times(x, MidRad.from_bounds(lower.reshape(-1), upper.reshape(-1)))


def _rows_times(x: SparseMatrix, factors: MidRad) -> SparseMatrix:
    own = factors.apply_exact(lambda t: t[x.rows])
    return SparseMatrix(x.rows, x.cols, midrad.mul(own, x.values), x.shape)


def _through(one: LinearMap, x: SparseMatrix) -> SparseMatrix:
    for stage in one.stages:
        x = _stage(stage, x)
    return x


def _stage(stage: Stage, x: SparseMatrix) -> SparseMatrix:
    if isinstance(stage, Reshape):
        return x
    if isinstance(stage, Diagonal):
        return _rows_times(x, stage.values.apply_exact(lambda t: t.reshape(-1)))
    if isinstance(stage, Kron):
        return _kron(stage, x)
    if isinstance(stage, Stack):
        return _composed(_stacked(stage), x)
    raise UnsupportedOperationError("operator", "has a convolution, which is not written out sparsely")


def _kron(stage: Kron, x: SparseMatrix) -> SparseMatrix:
    sizes = list(stage.in_shape)
    for axis, matrix in enumerate(stage.matrices):
        if matrix is not None:
            before, after = math.prod(sizes[:axis]), math.prod(sizes[axis + 1 :])
            sizes[axis] = matrix.shape[0]
            x = _composed(_repeated(matrix, before, after), x)
    values = x.values if stage.scale.is_exact() and float(stage.scale.mid) == 1 else midrad.mul(x.values, stage.scale)
    place = torch.empty(math.prod(sizes), dtype=torch.int64)
    place[torch.arange(len(place)).reshape(sizes).permute(stage.perm).reshape(-1)] = torch.arange(len(place))
    return SparseMatrix(place[x.rows], x.cols, values, x.shape)


def _repeated(matrix: Matrix, before: int, after: int) -> SparseMatrix:
    """`I (x) A (x) I`, identities of these sizes."""
    if isinstance(matrix, SparseMatrix):
        rows, cols, values = matrix.rows, matrix.cols, matrix.values
    else:
        rows, cols = (place.reshape(-1) for place in torch.meshgrid(*map(torch.arange, matrix.shape), indexing="ij"))
        values = matrix.dense().apply_exact(lambda t: t.reshape(-1))
    _refuse_many(before * len(rows) * after)
    count = (before, len(rows), after)
    flat = (_spread(rows, matrix.shape[0], before, after), _spread(cols, matrix.shape[1], before, after))
    wide = values.apply_exact(lambda t: t[:, None].expand(count).reshape(-1))
    return SparseMatrix(*flat, wide, (before * matrix.shape[0] * after, before * matrix.shape[1] * after))


def _spread(place: Tensor, size: int, before: int, after: int) -> Tensor:
    first = torch.arange(before)[:, None, None] * size
    return ((first + place[:, None]) * after + torch.arange(after)).reshape(-1)


def _stacked(stage: Stack) -> SparseMatrix:
    """One matrix for each batch entry, each column of its argument alike."""
    *batch, p, n = stage.values.shape
    count, columns = math.prod(batch), stage.width
    _refuse_many(count * p * n * columns)
    b, i, j, c = torch.meshgrid(*(torch.arange(size) for size in (count, p, n, columns)), indexing="ij")
    rows, cols = ((b * p + i) * columns + c).reshape(-1), ((b * n + j) * columns + c).reshape(-1)
    values = stage.values.apply_exact(lambda t: t.reshape(count, p, n, 1).expand(count, p, n, columns).reshape(-1))
    return SparseMatrix(rows, cols, values, (count * p * columns, count * n * columns))


def _composed(outer: SparseMatrix, inner: SparseMatrix) -> SparseMatrix:
    _refuse_many(int(torch.bincount(inner.rows, minlength=inner.shape[0])[outer.cols].sum()))
    return outer.compose(inner).coalesce()


def _refuse_many(terms: int) -> None:
    if terms > LARGEST_TERMS:
        raise UnsupportedOperationError("operator", f"has a Jacobian with {terms} terms on the way: too many")
