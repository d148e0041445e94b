"""The Jacobian rules of products, quotients and extremes, of constants and of two state-dependent operands.

`a b - a' b' = b (a - a') + a' (b - b')`: where both factors are bounded, a product has slopes in the other's range.
"""

from __future__ import annotations

import math

import torch

from deqops._errors import UnsupportedOperationError
from deqops.graph import Node

from . import _hull as hull
from . import _midrad as midrad
from ._elementary import reciprocal
from ._enclosures import as_exact, segments_of, spread_over
from ._expansion import product_cost
from ._jacobian import Builder, Combination, along, integer, integers, register_jacobian
from ._matrix import DenseMatrix
from ._midrad import MidRad
from ._sparse import SparseMatrix

Shape = tuple[int, ...]


@register_jacobian("mul")
def _product(builder: Builder, node: Node) -> Combination:
    a, b = node.operands
    if builder.depends(a) and builder.depends(b):
        return _sloped(builder, node, a, builder.range_of(node, b)).plus(
            _sloped(builder, node, b, builder.range_of(node, a))
        )
    variable, constant = (a, b) if builder.depends(a) else (b, a)
    factor = builder.constants.floating(constant)
    source = builder.broadcast(builder.combinations[variable], node.shape)
    return source.mapped(lambda m: m.times(factor), node.shape)


@register_jacobian("div")
def _quotient(builder: Builder, node: Node) -> Combination:
    """`a / b - a' / b' = (a - a') / b - a' (b - b') / (b b')`."""
    a, b = node.operands
    if not builder.depends(b):
        factor = midrad.div(MidRad.exact(torch.ones((), dtype=torch.float64)), builder.constants.floating(b))
        source = builder.broadcast(builder.combinations[a], node.shape)
        return source.mapped(lambda m: m.times(factor), node.shape)
    inverse = reciprocal(builder.range_of(node, b))
    if not inverse.is_finite():
        raise UnsupportedOperationError(node.source, "divides by what may be 0; give a smaller region")
    dividend = builder.range_of(node, a) if builder.depends(a) else builder.constants.floating(a)
    steep = midrad.neg(hull.mul(dividend, hull.square(inverse)))
    total = _sloped(builder, node, b, steep)
    return total.plus(_sloped(builder, node, a, inverse)) if builder.depends(a) else total


def _sloped(builder: Builder, node: Node, value: int, slopes: MidRad) -> Combination:
    return builder.sloped(node, value, slopes.lower(), slopes.upper(), "product")


@register_jacobian("maximum", "minimum")
def _extremum(builder: Builder, node: Node) -> Combination:
    """`max(a, b) - max(a', b') = t (a - a') + (1 - t) (b - b')` with t in [0, 1]."""
    a, b = node.operands
    if not (builder.depends(a) and builder.depends(b)):
        return builder.sloped(node, a if builder.depends(a) else b, 0.0, 1.0, node.op)
    raise UnsupportedOperationError(node.source, "of two state-dependent tensors has no Lipschitz rule")


@register_jacobian("softshrink")
def _soft_threshold(builder: Builder, node: Node) -> Combination:
    """Slope 0 within the threshold, 1 beyond it."""
    x, t = node.operands
    threshold = builder.constants.floating(t)
    if not bool((threshold.lower() >= 0).all()):
        raise UnsupportedOperationError(node.source, "jumps where its threshold may be negative")
    box = builder.box_of(x)
    if box is None:
        return builder.sloped(node, x, 0.0, 1.0, node.op)
    beyond = (box.lower() >= threshold.upper()) | (box.upper() <= -threshold.upper())
    within = (box.lower() >= -threshold.lower()) & (box.upper() <= threshold.lower())
    lower, upper = beyond.to(torch.float64), (~within).to(torch.float64)
    return builder.sloped(node, x, lower, torch.maximum(lower, upper), node.op)


@register_jacobian("amax", "amin")
def _largest(builder: Builder, node: Node) -> Combination:
    shape, dims = builder.graph.shape(node.operands[0]), integers(node, "dims")
    size = math.prod(shape[d] for d in dims)
    if not size or not math.prod(shape):
        raise UnsupportedOperationError(node.source, "is over no entries")
    order = (*(d for d in range(len(shape)) if d not in dims), *dims)
    sign = 1.0 if node.op == "amax" else -1.0
    result, factor = builder.largest(node, order, size, sign), MidRad.exact(torch.tensor(sign, dtype=torch.float64))
    return result.mapped(lambda m: m.scaled(factor).reshaped(node.shape), node.shape)


@register_jacobian("softmax")
def _softmax(builder: Builder, node: Node) -> Combination:
    order, back = _last(node)
    return builder.softmax(node, order).mapped(lambda m: m.permuted(back), node.shape)


@register_jacobian("sort")
def _sort(builder: Builder, node: Node) -> Combination:
    order, back = _last(node)
    return builder.sorted(node, order).mapped(lambda m: m.permuted(back), node.shape)


def _last(node: Node) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The order of dimensions in which the node's own comes last, and the way back."""
    rank, dim = len(node.shape), integer(node, "dim")
    if not math.prod(node.shape):
        raise UnsupportedOperationError(node.source, "is over no entries")
    order = (*(d for d in range(rank) if d != dim), dim)
    return order, tuple(order.index(d) for d in range(rank))


@register_jacobian("segment_attention")
def _segment_attention(builder: Builder, node: Node) -> Combination:
    """`sum p dv + sum [p (v - out)] ds`, each factor in its range (`_segment_attention.py`)."""
    scores, values, index_value = node.operands
    index, total = as_exact(node, builder.constants[index_value]), Combination(node.shape)
    segments, gathered = segments_of(node, index), SparseMatrix.from_index_add(index, node.shape[0])
    shape, rank = builder.graph.shape(values), len(builder.graph.shape(values))
    box = builder.box_of(scores) if builder.depends(scores) else builder.constants.floating(scores)
    own = builder.graph.shape(scores)
    weights = spread_over(segments.weights_everywhere(own) if box is None else segments.weights_over(box), rank)
    if builder.depends(values):
        wide = weights.apply_exact(lambda t: t.expand(shape))
        total = total.plus(along(builder.weighted(builder.combinations[values], wide, node.op), 0, gathered))
    if builder.depends(scores):
        known = builder.range_of(node, values) if builder.depends(values) else builder.constants.floating(values)
        slopes = segments.slopes(weights, known)
        column = _reshaped(builder.combinations[scores], (*own, *(1,) * (rank - len(own))))
        total = total.plus(along(builder.weighted(column, slopes, node.op), 0, gathered))
    return total


@register_jacobian("matmul")
def _matmul(builder: Builder, node: Node) -> Combination:
    """By one constant matrix along a dimension; by a batch of them, or by what varies itself, one for each entry."""
    a, b = node.operands
    if builder.depends(a) and builder.depends(b):
        right, left = builder.range_of(node, b), builder.range_of(node, a)
        total = _from_left(builder, builder.combinations[b], left).plus(
            _from_right(builder, builder.combinations[a], right)
        )
        return _reshaped(total, node.shape)
    variable, constant = (a, b) if builder.depends(a) else (b, a)
    factor, shape = builder.constants.floating(constant), builder.graph.shape(variable)
    axis = len(shape) - 1 if variable == a else max(len(shape) - 2, 0)
    rows = factor.mid.numel() // max(shape[axis], 1)
    source = builder.factor(variable, lambda m: product_cost(m, axis, rows))
    if factor.mid.ndim > 2:
        batched = _from_right(builder, source, factor) if variable == a else _from_left(builder, source, factor)
        return _reshaped(batched, node.shape)
    if variable == a:
        matrix = factor.apply_exact(lambda t: t.reshape(-1, 1).mT if t.ndim == 1 else t.mT)
    else:
        matrix = factor.apply_exact(lambda t: t.reshape(1, -1) if t.ndim == 1 else t)
    return _reshaped(along(source, axis, DenseMatrix(matrix)), node.shape)


def _from_left(builder: Builder, source: Combination, factor: MidRad) -> Combination:
    """`A x` for matrices that differ or vary, up to a reshape."""
    columns = source.shape if len(source.shape) > 1 else (*source.shape, 1)
    matrices = factor.apply_exact(lambda t: t.reshape(1, -1) if t.ndim == 1 else t)
    return _stacked(builder, _reshaped(source, columns), matrices)


def _from_right(builder: Builder, source: Combination, factor: MidRad) -> Combination:
    """`x B = (B^T x^T)^T`, up to a reshape."""
    rows = source.shape if len(source.shape) > 1 else (1, *source.shape)
    matrices = factor.apply_exact(lambda t: t.reshape(-1, 1) if t.ndim == 1 else t)
    batch = _broadcast(matrices.shape[:-2], rows[:-2])
    spread = _swapped(builder.broadcast(_reshaped(source, rows), (*batch, *rows[-2:])))
    return _swapped(_stacked(builder, spread, matrices.apply_exact(lambda t: t.mT)))


def _stacked(builder: Builder, source: Combination, matrices: MidRad) -> Combination:
    batch = _broadcast(matrices.shape[:-2], source.shape[:-2])
    spread = builder.broadcast(source, (*batch, *source.shape[-2:]))
    wide = matrices.apply_exact(lambda t: t.expand(*batch, *t.shape[-2:]))
    return spread.mapped(lambda m: m.stacked(wide), (*wide.shape[:-1], source.shape[-1]))


def _swapped(source: Combination) -> Combination:
    rank = len(source.shape)
    dims = (*range(rank - 2), rank - 1, rank - 2)
    return source.mapped(lambda m: m.permuted(dims), tuple(source.shape[d] for d in dims))


def _reshaped(source: Combination, shape: Shape) -> Combination:
    return source.mapped(lambda m: m.reshaped(shape), shape)


def _broadcast(a: Shape, b: Shape) -> Shape:
    return tuple(torch.broadcast_shapes(a, b))  # type: ignore[no-untyped-call]
