"""Forms of products and quotients of state-dependent values, of softmaxes, extremes and sorted values.

`a b - a' b' = b (a - a') + a' (b - b')` and `a / b - a' / b' = (a - a') / b - a' (b - b') / (b b')`: each factor is
multiplied by slopes in the other's interval.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from flint import arb

from deqops.graph import Node

from . import _arithmetic as ball
from ._affine import Source, refuse
from ._attention import Attention, attention_of, spread_over
from ._extreme import extreme_range, weights_everywhere, weights_over
from ._interval import Interval, negative, times
from ._permutations import Permutations, permutations_over, sorted_range
from ._ranges import inverse, product_range, softmax_range
from ._soft_threshold import require_thresholds, soft_threshold_range
from ._softmax import softmax_everywhere, softmax_over
from ._term import Form, zero_form
from ._values import dims_of, integer

if TYPE_CHECKING:
    from ._network import Walk


def product(walk: Walk, node: Node) -> Form:
    """A product of two state-dependent values, or a quotient by one."""
    first, second = node.operands
    b = walk.range_of(node, second)
    a = walk.range_of(node, first)
    walk.enclose(node, lambda: product_range(node, a, b))
    if node.op == "matmul":
        left = walk.network.from_left(a, walk.form(second), tuple(node.shape))
        return left.plus(walk.network.from_right(walk.form(first), b, tuple(node.shape)))
    if node.op == "div":
        b = inverse(node, b)
        a = negative(times(a, times(b, b)))
    return _sloped(walk, node, first, b).plus(_sloped(walk, node, second, a))


def _sloped(walk: Walk, node: Node, value: int, slopes: Interval) -> Form:
    """The value times slopes in an interval; nothing for a constant."""
    shape = tuple(node.shape)
    if not walk.depends(value):
        return zero_form(shape)
    form = walk.network.expanded(walk.form(value), shape)
    low, high = (np.broadcast_to(end, shape) for end in slopes.ends)
    size = ball.each(lambda a, b: abs(a).max(abs(b)).upper(), low, high)
    return walk.network.add(Source(shape, form, size, interval=(low, high), name="product"))


def softmax(walk: Walk, node: Node) -> Form:
    """A softmax: group by group along the node's dimension."""
    value, dim, shape = node.operands[0], integer(node, "dim"), tuple(node.shape)
    if 0 in shape:
        raise refuse(node, "is over no entries")
    order = (*(d for d in range(len(shape)) if d != dim), dim)
    rows = (math.prod(shape) // shape[dim], shape[dim])
    box = walk.narrowed(value)
    if box is None:
        derivative = softmax_everywhere(*rows)
    else:
        derivative = softmax_over(*(end.transpose(order).reshape(rows) for end in box.ends))
        walk.enclose(node, lambda: softmax_range(node, box))
    inner = walk.network.permuted(walk.form(value), order)
    slope = derivative.norms(inner.shape)
    result = walk.network.add(Source(inner.shape, inner, slope, name=node.op, derivative=derivative))
    return walk.network.permuted(result, tuple(order.index(d) for d in range(len(shape))))


def attention(walk: Walk, node: Node) -> Form:
    """Attention over segments: its values times weights, and its scores times what `_attention.py` gives."""
    scores, values, index = node.operands
    rule = attention_of(node, walk.integers(index))
    known = walk.range_of(node, values)
    box = walk.narrowed(scores) if walk.depends(scores) else walk.range_of(node, scores)
    shape, rank = known.middle.shape, known.middle.ndim
    own = rule.everywhere(walk.form(scores).shape) if box is None else rule.weights(box)
    weights = spread_over(own, rank)
    total = zero_form(tuple(node.shape))
    if walk.depends(values):
        total = total.plus(_gathered(walk, rule, _times(walk, walk.form(values), weights, shape)))
    if walk.depends(scores):
        column = walk.network.reshaped(walk.form(scores), weights.middle.shape)
        total = total.plus(_gathered(walk, rule, _times(walk, column, rule.slopes(weights, known), shape)))
    walk.enclose(node, lambda: rule.result(weights, known))
    return total


def _times(walk: Walk, form: Form, slopes: Interval, shape: tuple[int, ...]) -> Form:
    low, high = (np.broadcast_to(end, shape) for end in slopes.ends)
    size = ball.each(lambda a, b: abs(a).max(abs(b)).upper(), low, high)
    wide = walk.network.expanded(form, shape)
    return walk.network.add(Source(shape, wide, size, interval=(low, high), name="attention"))


def _gathered(walk: Walk, rule: Attention, form: Form) -> Form:
    return walk.network.along(form, 0, rule.gathering)


def largest(walk: Walk, node: Node) -> Form:
    """An `amax`, or an `amin`: the former of the negatives has the same weights."""
    value, dims = node.operands[0], dims_of(node)
    form = walk.form(value)
    size = math.prod(form.shape[d] for d in dims)
    if not math.prod(form.shape) or not size:
        raise refuse(node, "is over no entries")
    order = (*(d for d in range(len(form.shape)) if d not in dims), *dims)
    rows = (math.prod(form.shape) // size, size)
    box = walk.narrowed(value)
    if box is None:
        weights = weights_everywhere(rows)
    else:
        own = box if node.op == "amax" else negative(box)
        weights = weights_over(*(end.transpose(order).reshape(rows) for end in own.ends))
        walk.enclose(node, lambda: extreme_range(node, box))
    inner = walk.network.reshaped(walk.network.permuted(form, order), rows)
    result = walk.network.add(Source(rows[:1], inner, arb(1), name=node.op, derivative=weights))
    return walk.network.reshaped(result, tuple(node.shape))


def shrunk(walk: Walk, node: Node) -> Form:
    """A soft thresholding: slope 0 within the threshold, 1 beyond it."""
    value, threshold = node.operands
    if walk.depends(threshold):
        raise refuse(node, "has a threshold that depends on the state")
    shape = tuple(node.shape)
    form, t = walk.network.expanded(walk.form(value), shape), walk.network.constants.balls(threshold)
    require_thresholds(node, t)
    box = walk.narrowed(value)
    if box is None:
        return walk.network.add(Source(shape, form, arb(1), interval=(arb(0), arb(1)), name=node.op))
    low, high = (np.broadcast_to(end, shape) for end in box.ends)
    least = ball.each(lambda a, b, c: arb(int(bool(a >= c) or bool(b <= -c))), low, high, t)
    most = ball.each(lambda a, b, c: arb(int(not (bool(a >= -c) and bool(b <= c)))), low, high, t)
    most = ball.each(lambda a, b: a.max(b), least, most)
    walk.enclose(node, lambda: soft_threshold_range(node, box, t))
    return walk.network.add(Source(shape, form, most, interval=(least, most), name=node.op))


def sorted_values(walk: Walk, node: Node) -> Form:
    """A sort: group by group along the node's dimension."""
    value, dim, shape = node.operands[0], integer(node, "dim"), tuple(node.shape)
    if 0 in shape:
        raise refuse(node, "is over no entries")
    order = (*(d for d in range(len(shape)) if d != dim), dim)
    turned = tuple(shape[d] for d in order)
    rows = (math.prod(turned[:-1]), shape[dim])
    box = walk.narrowed(value)
    if box is None:
        matrices = Permutations(None)
    else:
        matrices = permutations_over(*(end.transpose(order).reshape(rows) for end in box.ends))
        walk.enclose(node, lambda: sorted_range(node, box, dim))
    inner = walk.network.reshaped(walk.network.permuted(walk.form(value), order), rows)
    result = walk.network.add(Source(rows, inner, arb(1), name=node.op, derivative=matrices))
    return walk.network.permuted(
        walk.network.reshaped(result, turned), tuple(order.index(d) for d in range(len(shape)))
    )
