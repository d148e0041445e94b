"""The Jacobian expression written out as one matrix of intervals per problem, for problems of few unknowns."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from deqops._errors import UnsupportedOperationError

from . import _midrad as midrad
from ._jacobian import Combination, Elementwise, Jacobian, StateLeaf
from ._linear import Diagonal, Kron, LinearMap, Stage
from ._matrix import DenseMatrix, Matrix
from ._midrad import MidRad

LARGEST_ENTRIES = 2**24
"""Entries of one basis value's derivative up to which the matrix is formed."""


def dense_jacobian(jacobian: Jacobian, batch_dims: int) -> MidRad:
    """Every product M of the expression lies in this enclosure, entry by entry.

    Args:
        jacobian: the expression, its slopes valid on the region of interest.
        batch_dims: 1 where dimension 0 of each leaf counts problems that do not depend on each other.

    Returns:
        (problems, n, n): of G's n numbers of one problem (leaf after leaf) by the state's n numbers.

    Raises:
        UnsupportedOperationError: the matrix, or what leads to it, would be too large.
    """
    shapes = [basis.shape for basis in jacobian.bases if isinstance(basis, StateLeaf)]
    columns = sum(math.prod(shape[batch_dims:]) for shape in shapes)
    if any(columns * math.prod(basis.shape) > LARGEST_ENTRIES for basis in jacobian.bases):
        raise UnsupportedOperationError("operator", f"has too many unknowns ({columns}) for a dense Jacobian")
    derivatives: list[MidRad] = []
    for basis in jacobian.bases:
        if isinstance(basis, StateLeaf):
            start = sum(math.prod(shape[batch_dims:]) for shape in shapes[: basis.position])
            derivatives.append(_unit(basis.shape, batch_dims, start, columns))
        else:
            inner = _derivative(basis.source, derivatives, columns)
            derivatives.append(_times_slopes(basis, inner))
    rows = [_derivative(output, derivatives, columns) for output in jacobian.outputs]
    problems = shapes[0][0] if batch_dims else 1
    parts = [x.apply_exact(lambda t: t.reshape(columns, problems, -1)) for x in rows]
    whole = MidRad(torch.cat([p.mid for p in parts], dim=2), torch.cat([p.rad for p in parts], dim=2))
    return whole.apply_exact(lambda t: t.permute(1, 2, 0).contiguous())


def _unit(shape: tuple[int, ...], batch_dims: int, start: int, columns: int) -> MidRad:
    """The derivative of a leaf by all unknowns, (columns, *shape): the same unit vectors for every problem."""
    size = math.prod(shape[batch_dims:])
    block = torch.zeros(columns, size, dtype=torch.float64)
    block[start : start + size] = torch.eye(size, dtype=torch.float64)
    block = block.reshape(columns, *((1,) * batch_dims), *shape[batch_dims:])
    return MidRad.exact(block.expand(columns, *shape))


def _times_slopes(basis: Elementwise, inner: MidRad) -> MidRad:
    lower, upper = (torch.as_tensor(end, dtype=torch.float64) for end in (basis.lower, basis.upper))
    slopes = MidRad.from_bounds(lower, upper)
    product = midrad.mul(inner, slopes)
    return product.apply_exact(lambda t: t.reshape(len(inner.mid), *basis.shape))


def _derivative(combination: Combination, derivatives: list[MidRad], columns: int) -> MidRad:
    """(columns, *shape)."""
    zeros = torch.zeros(columns, *combination.shape, dtype=torch.float64)
    total = MidRad.exact(zeros)
    for number, maps in combination.terms.items():
        for one in maps:
            total = midrad.add(total, _applied(one, derivatives[number]))
    return total


def _applied(one: LinearMap, x: MidRad) -> MidRad:
    """The map applied to each x[k], (columns, *in_shape) to (columns, *out_shape)."""
    for stage in one.stages:
        x = _staged(stage, x)
    return x


def _staged(stage: Stage, x: MidRad) -> MidRad:
    if isinstance(stage, Diagonal):
        return midrad.mul(x, stage.values)
    if isinstance(stage, Kron):
        for axis, matrix in enumerate(stage.matrices):
            x = x if matrix is None else _along(matrix, x, axis + 1)
        x = x if stage.scale.is_exact() and bool(stage.scale.mid == 1) else midrad.mul(x, stage.scale)
        return x.apply_exact(lambda t: t.permute(0, *(axis + 1 for axis in stage.perm)))
    return x.apply_exact(lambda t: t.reshape(t.shape[0], *stage.out_shape))


def _along(matrix: Matrix, x: MidRad, axis: int) -> MidRad:
    moved = x.apply_exact(lambda t: t.movedim(axis, 0))
    rest = moved.mid.shape[1:]
    flat = moved.apply_exact(lambda t: t.reshape(t.shape[0], math.prod(rest)))
    image = _product(matrix, flat)
    return image.apply_exact(lambda t: t.reshape(t.shape[0], *rest).movedim(0, axis))


def _product(matrix: Matrix, x: MidRad) -> MidRad:
    """`A x` for x of shape (n, k)."""
    if isinstance(matrix, DenseMatrix):
        return midrad.matmul(matrix.values, x)
    taken = x.apply_exact(lambda t: t[matrix.cols])
    products = midrad.mul(matrix.values.apply_exact(lambda t: t[:, None]), taken)
    zero = MidRad.exact(torch.zeros(matrix.shape[0], x.mid.shape[1], dtype=torch.float64))
    return midrad.index_add(zero, 0, matrix.rows, products)


def flattened(leaves: list[MidRad], batch_dims: int) -> MidRad:
    """The leaves of a state as one vector per problem, (problems, n)."""
    count = leaves[0].mid.shape[0] if batch_dims else 1
    rows = [x.apply_exact(lambda t: t.reshape(count, -1)) for x in leaves]
    return MidRad(torch.cat([r.mid for r in rows], dim=1), torch.cat([r.rad for r in rows], dim=1))


def unflattened(flat: Tensor, like: list[Tensor]) -> list[Tensor]:
    """The leaves, shaped as `like`, of a (problems, n) matrix."""
    sizes = [leaf.numel() // len(flat) for leaf in like]
    parts = torch.split(flat, sizes, dim=1)
    return [part.reshape(leaf.shape) for part, leaf in zip(parts, like, strict=True)]
