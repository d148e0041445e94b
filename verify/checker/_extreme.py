"""The largest or smallest of several values, and the weights that its derivative may have.

`max_j v_j` changes by `c^T (v - v')` with c >= 0 of sum 1, and `c_j = 0` where v_j is below another's least value. The
rows of such weights do not overlap, and have l2 norms of at most 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from flint import arb
from numpy.typing import NDArray

from deqops.graph import Node

from . import _arithmetic as ball
from ._interval import Interval, between

EXTREMES = frozenset(("amax", "amin"))


@dataclass(frozen=True, eq=False)
class Weights:
    """All choices of weights from rows of values, (groups, n): `kept` says which may differ from 0."""

    kept: NDArray[Any]

    @property
    def smooth(self) -> bool:
        """Whether each row has one value that counts."""
        return bool((self.kept.sum(axis=1) == 1).all())

    def magnitude(self, x: ball.Balls) -> ball.Balls:
        """Bounds of `C x` for x >= 0 of shape (groups, n): (groups,)."""
        rows = zip(x.reshape(self.kept.shape), self.kept, strict=True)
        return ball.balls((ball.largest(row[kept]) for row, kept in rows), (len(self.kept),))

    def magnitude_transposed(self, y: ball.Balls) -> ball.Balls:
        """Bounds of `C^T y` for y >= 0 of shape (groups,): (groups, n)."""
        return ball.each(lambda kept, entry: entry if kept else arb(0), self.kept, y.reshape(-1, 1))

    def columns(self, middle: ball.Balls, radius: ball.Balls) -> tuple[ball.Balls, ball.Balls]:
        """Middles and radii of C times matrices of intervals, (groups, n, columns)."""
        low, high = ball.array(middle - radius), ball.array(middle + radius)
        count = middle.shape[-1]
        ends = [np.empty((len(self.kept), count), dtype=object) for _ in range(2)]
        for group, kept in enumerate(self.kept):
            for end, values, pick in zip(ends, (low, high), (arb.min, arb.max), strict=True):
                for column in range(count):
                    end[group, column] = reduce(pick, values[group, kept, column])
        hull = between(*ends)
        return hull.middle, hull.radius


def weights_over(low: ball.Balls, high: ball.Balls) -> Weights:
    """The weights over a box with these ends, (groups, n)."""
    least = np.array([reduce(arb.max, row) for row in low], dtype=object).reshape(-1, 1)
    return Weights(ball.each(lambda top, bar: not bool(top < bar), high, least).astype(bool))


def weights_everywhere(shape: tuple[int, int]) -> Weights:
    """The weights over all real values."""
    return Weights(np.ones(shape, dtype=bool))


def extreme_range(node: Node, x: Interval) -> Interval:
    """The interval of an `amax` or `amin`."""
    pick: Any = arb.max if node.op == "amax" else arb.min
    dims: Any = node.attributes["dims"]
    ends = []
    for end in x.ends:
        for dim in dims:
            end = np.frompyfunc(pick, 2, 1).reduce(end, axis=dim, keepdims=True)
        ends.append(end.reshape(node.shape))
    return between(*ends)
