"""Softmax: values, ranges over boxes, and its derivatives `diag(p) - p p^T`.

The derivative D is symmetric and between 0 and diag(p). Its row sums of moduli are `2 p_i (1 - p_i)`, so that its l2
norm is at most the largest of these, and at most the largest p_i. Each row of D sums to 0. Averages over a segment lie
in the same convex sets.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from flint import arb

from . import _arithmetic as ball
from ._masks import masked
from ._refusal import Rejected


@dataclass(frozen=True, eq=False)
class Softmax:
    """All matrices `diag(p) - p p^T`, p between `low` and `high`, (groups, n), and of sum 1."""

    low: ball.Balls
    high: ball.Balls
    smooth = True

    def norms(self, shape: tuple[int, ...]) -> ball.Balls:
        """Bounds of the groups' l2 norms, at each entry."""
        rows = ball.each(lambda v, p: (2 * v).min(p), self._variances(), self.high)
        most = np.array([[ball.largest(row).min(arb(0.5)).upper()] for row in rows], dtype=object)
        return np.broadcast_to(most.reshape(len(rows), 1), self.low.shape).reshape(shape)

    def magnitude(self, x: ball.Balls) -> ball.Balls:
        """Bounds of `|M| x`, and of its transpose, for x >= 0 of any shape.

        Off the diagonal a row gives `p_i sum_{j != i} p_j x_j`, at most `p_i (1 - p_i) max x`.
        """
        groups, variances = x.reshape(self.low.shape), self._variances()
        weighted = ball.array(ball.times(self.high, groups).sum(axis=1, keepdims=True))
        tops = np.array([[ball.largest(row)] for row in groups], dtype=object).reshape(len(groups), 1)
        most = ball.each(lambda p, v, s, t: (p * s).min(v * t), self.high, variances, weighted, tops)
        return ball.plus(ball.times(variances, groups), most).reshape(x.shape)

    magnitude_transposed = magnitude

    def columns(self, middle: ball.Balls, radius: ball.Balls) -> tuple[ball.Balls, ball.Balls]:
        """Middles and radii of M times matrices of intervals, (*shape, columns), as `p (x - p^T x)`."""
        shape, n = middle.shape, self.low.shape[1]
        m, r = (part.reshape((*self.low.shape, shape[-1])) for part in (middle, radius))
        m = ball.array(m - m.sum(axis=1, keepdims=True) / arb(n))  # M does not see what is common to a column
        p, width = (ball.array(part)[..., None] for part in ((self.low + self.high) / 2, (self.high - self.low) / 2))
        common = ball.array(ball.times(p, m).sum(axis=1, keepdims=True))
        loose = ball.array((p * r + width * (ball.absolute(m) + r)).sum(axis=1, keepdims=True))
        m, r = ball.array(m - common), ball.array(r + loose)
        return ball.times(p, m).reshape(shape), ball.array(p * r + width * (ball.absolute(m) + r)).reshape(shape)

    def deviations(self, shape: tuple[int, ...]) -> ball.Balls:
        """Bounds of the l2 distance of the groups' matrices from that of the middles, at each entry.

        `diag(p - m) - ((p - m) p^T + m (p - m)^T)`.
        """
        middle, half = ball.array((self.low + self.high) / 2), ball.array((self.high - self.low) / 2)
        rows = [
            ball.largest(h) + _length(h) * (_length(m) + _length(top))
            for h, m, top in zip(half, middle, self.high, strict=True)
        ]
        each = np.array([[row.upper()] for row in rows], dtype=object).reshape(len(rows), 1)
        return np.broadcast_to(each, self.low.shape).reshape(shape)

    def _variances(self) -> ball.Balls:
        """Bounds of `p (1 - p)`."""

        def most(low: Any, high: Any) -> Any:
            nearest = low.max(arb(0.5)).min(high)
            return (nearest * (1 - nearest)).upper()

        return ball.each(most, self.low, self.high)


def _length(x: ball.Balls) -> Any:
    return ball.root_up(ball.total(ball.times(x, x)))


def softmax_everywhere(groups: int, size: int) -> Softmax:
    """The derivatives at all real arguments."""
    return Softmax(ball.full(int(size == 1), (groups, size)), ball.full(1, (groups, size)))


def softmax_over(low: ball.Balls, high: ball.Balls) -> Softmax:
    """The derivatives over a box with these ends, (groups, n): p_i grows with x_i and falls with the others.

    An entry at minus infinity has p_i = 0.

    Raises:
        Rejected: all entries of a group are there.
    """
    small, large = (ball.full(0, low.shape) for _ in range(2))
    for group, (a, b) in enumerate(zip(low, high, strict=True)):
        kept = _kept(b)
        shift = reduce(arb.max, b[kept]).mid()
        least, most = ([(end - shift).exp() for end in ends[kept]] for ends in (a, b))
        for k, place in enumerate(kept):
            others = [sum(part[:k] + part[k + 1 :], arb(0)) for part in (least, most)]
            small[group, place] = (1 / (1 + others[1] / least[k])).lower().max(arb(0))
            large[group, place] = (1 / (1 + others[0] / most[k])).upper().min(arb(1))
    return Softmax(small, large)


def softmax_at(x: ball.Balls, dim: int) -> ball.Balls:
    """The values along one dimension.

    Raises:
        Rejected: all entries of a group are at minus infinity.
    """
    moved = np.moveaxis(x, dim, -1)
    rows = moved.reshape(-1, moved.shape[-1])
    result = ball.full(0, rows.shape)
    for number, row in enumerate(rows):
        kept = _kept(row)
        shift = reduce(arb.max, row[kept]).mid()
        powers = [(entry - shift).exp() for entry in row[kept]]
        for k, place in enumerate(kept):
            result[number, place] = 1 / (1 + sum(powers[:k] + powers[k + 1 :], arb(0)) / powers[k])
    return np.moveaxis(result.reshape(moved.shape), -1, dim)


def _kept(row: ball.Balls) -> Any:
    kept = np.flatnonzero(~masked(row))
    if not len(kept):
        raise Rejected("a softmax has nothing but minus infinity along its dimension")
    return kept
