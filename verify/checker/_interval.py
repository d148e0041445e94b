"""Intervals of numbers, entry by entry, as middles and radii: the radius of an `arb` has 30 bits only."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from flint import arb

from . import _arithmetic as ball
from ._masks import masked


@dataclass(frozen=True, eq=False)
class Interval:
    """`|v - middle| <= radius` entry by entry."""

    middle: ball.Balls
    radius: ball.Balls

    @property
    def ends(self) -> tuple[ball.Balls, ball.Balls]:
        """The lower and the upper ends, outwards: numbers, however wide the middle is."""
        return outwards(ball.array(self.middle - self.radius), ball.array(self.middle + self.radius))


def between(low: ball.Balls, high: ball.Balls) -> Interval:
    """The interval with the given ends."""
    low, high = outwards(low, high)
    return Interval(ball.array((low + high) / 2), ball.array((high - low) / 2))


def outwards(low: ball.Balls, high: ball.Balls) -> tuple[ball.Balls, ball.Balls]:
    """The least of the lower ends and the largest of the upper ones, entry by entry; what is not finite stays so."""
    least = ball.each(lambda x: x.lower() if x.is_finite() else x, low)
    return least, ball.each(lambda x: x.upper() if x.is_finite() else x, high)


def intersected(interval: Interval, centre: ball.Balls, deviation: Any) -> Interval:
    """The part of an interval within `deviation` of `centre`; what is exactly minus infinity stays so."""
    low, high = interval.ends
    low = ball.each(lambda a, b: a.max(b), low, ball.array(centre - deviation))
    high = ball.each(lambda a, b: a.min(b), high, ball.array(centre + deviation))
    gone = masked(centre)
    if not gone.any():
        return between(low, np.broadcast_to(high, low.shape))
    low, high = (ball.each(lambda lost, end: arb(0) if lost else end, gone, end) for end in (low, high))
    found = between(low, high)
    return Interval(ball.each(lambda lost, end: arb.neg_inf() if lost else end, gone, found.middle), found.radius)


def times(a: Interval, b: Interval) -> Interval:
    """The products, entry by entry, with numpy's broadcasting."""
    corners = [ball.times(x, y) for x in a.ends for y in b.ends]
    low = ball.each(lambda *t: reduce(arb.min, t), *corners)
    return between(low, ball.each(lambda *t: reduce(arb.max, t), *corners))


def matmul(a: Interval, b: Interval) -> Interval:
    """The products of matrices: `|A| r_B + r_A (|B| + r_B)` about the middles' product."""
    size = ball.array(ball.absolute(b.middle) + b.radius)
    radius = ball.plus(ball.matmul(ball.absolute(a.middle), b.radius), ball.matmul(a.radius, size))
    return Interval(ball.matmul(a.middle, b.middle), radius)


def negative(x: Interval) -> Interval:
    """The negatives."""
    return Interval(ball.array(-x.middle), x.radius)


def moved(x: Interval, change: Any) -> Interval:
    """The same movement of entries in middles and radii."""
    return Interval(change(x.middle), change(x.radius))


def exactly(x: ball.Balls) -> Interval:
    """Known numbers."""
    return Interval(x, ball.full(0, x.shape))
