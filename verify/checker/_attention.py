"""Attention over segments: `out_i = sum of p_e v_e` over the entries e of segment i.

`p_e = exp(s_e - m_i) / (sum_k exp(s_k - m_i) + epsilon)`, m_i the largest s_k of the segment. From
`1 / p_e = sum_k exp(s_k - s_e) + epsilon exp(m_i - s_e)` and `exp(m_i - s_e) <= sum_k exp(s_k - s_e)`, p_e lies between
`1 / ((1 + epsilon) sum_k exp(s_k - s_e))` and the same without epsilon, and the segment's weights lack d of 1, with
`0 <= d <= epsilon`. Moving the scores moves out_i by

    sum_e [ p_e (v_e - out_i) - d out_i w_e ] ds_e,   w_e >= 0 the weights of the maximum, their sum 1,

and `p_e (v_e - out_i) = p_e (sum_k p_k (v_e - v_k) + d v_e)`. Over a convex set of scores and values a difference is an
average of such sums: each factor stays between the ends given here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from flint import arb

from deqops.graph import Node

from . import _arithmetic as ball
from ._interval import Interval, between, times
from ._matrix import Index, Matrix, scatter
from ._refusal import Rejected

ATTENTION = "segment_attention"


@dataclass(frozen=True, eq=False)
class Attention:
    """Which segment each entry of dimension 0 is in."""

    index: Index
    size: int
    epsilon: Any

    @property
    def gathering(self) -> Matrix:
        """The sum over each segment as a matrix."""
        return scatter(self.index, self.size)

    def everywhere(self, shape: tuple[int, ...]) -> Interval:
        """The weights for all real scores."""
        alone = np.bincount(self.index, minlength=self.size)[self.index] == 1
        low = ball.full(0, shape)
        low[alone] = 1 / (1 + self.epsilon)
        return between(low, ball.full(1, shape))

    def weights(self, scores: Interval) -> Interval:
        """The weights for scores in a box."""
        low, high = scores.ends
        shape = low.shape
        if not (ball.all_finite(low) and ball.all_finite(high)):
            return self.everywhere(shape)
        middle = self._folded(ball.array((low + high) / 2), lambda a, b: a.max(b))[self.index]
        small, large = (ball.each(lambda x, m: (x - m.mid()).exp(), end, middle) for end in (low, high))
        least, most = (self._sum(powers)[self.index] - powers for powers in (small, large))
        top = ball.each(lambda e, rest: (1 / (1 + rest.max(arb(0)) / e)).min(arb(1)), large, least)
        bottom = ball.each(
            lambda e, rest: (1 / ((1 + self.epsilon) * (1 + rest.max(arb(0)) / e))).max(arb(0)), small, most
        )
        whole = self.everywhere(shape).ends
        return between(
            ball.each(lambda a, b: a.lower().max(b), bottom, whole[0]),
            ball.each(lambda a, b: a.upper().min(b), top, whole[1]),
        )

    def result(self, weights: Interval, values: Interval) -> Interval:
        """The sums, for weights that broadcast to the values."""
        near, average = self._near(weights, values)
        lost = self._lost(values, near)
        spread = self._sum_of(times(weights, average))
        low, high = (ball.array(end + near) for end in spread.ends)
        bottom, top = values.ends
        least = ball.array(self._folded(bottom, lambda a, b: a.min(b)) - lost)
        most = ball.array(self._folded(top, lambda a, b: a.max(b)) + lost)
        low = ball.each(lambda a, b: a.max(b), ball.array(low - lost), least)
        high = ball.each(lambda a, b: a.min(b), ball.array(high + lost), most)
        empty = np.bincount(self.index, minlength=self.size) == 0
        low[empty], high[empty] = arb(0), arb(0)
        return between(low, high)

    def slopes(self, weights: Interval, values: Interval) -> Interval:
        """What multiplies the scores' differences, of the values' shape."""
        near, average = self._near(weights, values)
        lost = self._lost(values, near)[self.index]
        bottom, top = values.ends
        mean = self._sum_of(times(weights, average))
        low, high = mean.ends
        first, last = average.ends
        gap = between(ball.array(first - high[self.index] - lost), ball.array(last - low[self.index] + lost))
        low, high = times(weights, gap).ends
        reach = ball.each(
            lambda a, b, c, d: (b - c).max(d - a).upper(),
            bottom,
            top,
            self._folded(bottom, lambda a, b: a.min(b))[self.index],
            self._folded(top, lambda a, b: a.max(b))[self.index],
        )
        limit = ball.array(_variances(weights) * reach + lost)
        low = ball.each(lambda a, b: a.max(-b), low, limit)
        high = ball.each(lambda a, b: a.min(b), high, limit)
        return between(ball.array(low - lost), ball.array(high + lost))

    def at(self, scores: ball.Balls, values: ball.Balls) -> ball.Balls:
        """The values at a point, whose balls are narrow."""
        if not (ball.all_finite(scores) and ball.all_finite(values)):
            raise Rejected("attention: a score or a value is NaN, infinite or not enclosed")
        zero = ball.full(0, scores.shape)
        found = self.result(spread_over(self.weights(Interval(scores, zero)), values.ndim), between(values, values))
        return ball.hull(*found.ends)

    def _near(self, weights: Interval, values: Interval) -> tuple[ball.Balls, Interval]:
        """Numbers near the segments' averages, and the values less these."""
        p, v = (_floats(x.middle) for x in (weights, values))
        zero = np.zeros((self.size, *v.shape[1:]))
        weight, total = zero.copy(), zero
        np.add.at(weight, self.index, np.broadcast_to(p, v.shape))
        np.add.at(total, self.index, p * v)
        near = np.divide(total, weight, out=np.zeros_like(total), where=weight != 0)
        near = np.where(np.isfinite(near), near, 0.0)
        centre = ball.balls(near.reshape(-1).tolist(), near.shape)
        low, high = (ball.array(end - centre[self.index]) for end in values.ends)
        return centre, between(low, high)

    def _lost(self, values: Interval, near: ball.Balls) -> ball.Balls:
        """What d adds or takes away, at most."""
        size = ball.each(lambda a, b: abs(a).max(abs(b)), *values.ends)
        most = self._folded(size, lambda a, b: a.max(b))
        return ball.each(lambda a, b: (self.epsilon * a.max(abs(b))).upper(), most, near)

    def _sum_of(self, x: Interval) -> Interval:
        low, high = x.ends
        return between(self._sum(low), self._sum(high))

    def _sum(self, x: ball.Balls) -> ball.Balls:
        return self._folded(x, lambda a, b: a + b)

    def _folded(self, x: ball.Balls, two: Callable[[Any, Any], Any]) -> ball.Balls:
        """All entries of each segment folded into one; 0 for an empty one."""
        order = np.argsort(self.index, kind="stable")
        segments, starts = np.unique(self.index[order], return_index=True)
        result = ball.full(0, (self.size, *x.shape[1:]))
        if len(order):
            result[segments] = np.frompyfunc(two, 2, 1).reduceat(x[order], starts, axis=0)
        return result


def attention_of(node: Node, index: Any) -> Attention:
    """The segments of a node of attention.

    Raises:
        Rejected: an epsilon that is not in [0, 1), or an index that is no vector of segments.
    """
    epsilon = node.attributes.get("epsilon")
    if not isinstance(epsilon, float) or not 0 <= epsilon < 1:
        raise Rejected(f"{node.source}: epsilon {epsilon!r} is not in [0, 1)")
    size = node.shape[0]
    if index.dtype.kind not in "iu" or index.ndim != 1 or (index.size and not 0 <= index.min() <= index.max() < size):
        raise Rejected(f"{node.source}: its index is not a vector of segments")
    return Attention(index.astype(np.int64), size, arb(epsilon))


def attended(node: Node, scores: Interval | None, values: Interval, index: Any) -> Interval:
    """The interval of the node's results; scores None stands for any real numbers."""
    rule = attention_of(node, index)
    weights = rule.everywhere(values.middle.shape) if scores is None else rule.weights(scores)
    return rule.result(spread_over(weights, values.middle.ndim), values)


def spread_over(weights: Interval, rank: int) -> Interval:
    """Weights with further dimensions of size 1."""
    shape = weights.middle.shape
    wide = (*shape, *(1,) * (rank - len(shape)))
    return Interval(weights.middle.reshape(wide), weights.radius.reshape(wide))


def _variances(weights: Interval) -> ball.Balls:
    """The largest `p (1 - p)`."""

    def most(low: Any, high: Any) -> Any:
        nearest = low.max(arb(0.5)).min(high)
        return (nearest * (1 - nearest)).upper()

    return ball.each(most, *weights.ends)


def _floats(x: ball.Balls) -> np.ndarray[Any, Any]:
    return np.array([float(entry) for entry in x.reshape(-1)]).reshape(x.shape)
