"""Values in ascending order, and the matrices that the derivative may be.

`sort(v) - sort(v') = C (v - v')` with C doubly stochastic, a mean of permutation matrices over the segment from v' to
v. C may differ from 0 at (i, j) only where the interval of v_j and that of the i-th smallest value have a number in
common. The l1, l2 and linf norms of C are 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cmp_to_key
from itertools import pairwise
from typing import Any

import numpy as np
from flint import arb
from numpy.typing import NDArray

from deqops.graph import Node

from . import _arithmetic as ball
from ._interval import Interval, between
from ._refusal import Rejected

LARGEST = 2**20
"""Entries of all groups' matrices up to which each is looked at."""


@dataclass(frozen=True, eq=False)
class Permutations:
    """All such matrices of rows of values, (groups, n): `kept`, (groups, n, n), says where they may differ from 0.

    None where they may everywhere.
    """

    kept: NDArray[Any] | None

    @property
    def smooth(self) -> bool:
        """Whether each row of values has one order throughout."""
        return self.kept is not None and bool((self.kept.sum(axis=2) == 1).all())

    def magnitude(self, x: ball.Balls) -> ball.Balls:
        """Bounds of `C x` for x >= 0 of shape (groups, n)."""
        return _largest(self.kept, x)

    def magnitude_transposed(self, y: ball.Balls) -> ball.Balls:
        """Bounds of `C^T y` for y >= 0 of shape (groups, n)."""
        return _largest(None if self.kept is None else self.kept.swapaxes(1, 2), y)

    def columns(self, middle: ball.Balls, radius: ball.Balls) -> tuple[ball.Balls, ball.Balls]:
        """Middles and radii of C times matrices of intervals, (groups, n, columns)."""
        ends = []
        for values, pick in ((ball.array(middle - radius), arb.min), (ball.array(middle + radius), arb.max)):
            chosen: Any = np.frompyfunc(pick, 2, 1)
            if self.kept is None:
                ends.append(np.broadcast_to(chosen.reduce(values, axis=1, keepdims=True), values.shape))
                continue
            end = np.empty(values.shape, dtype=object)
            for group, place in np.ndindex(*values.shape[:2]):
                end[group, place] = chosen.reduce(values[group, self.kept[group, place]], axis=0)
            ends.append(end)
        hull = between(*ends)
        return hull.middle, hull.radius


def _largest(kept: NDArray[Any] | None, x: ball.Balls) -> ball.Balls:
    if kept is None:
        tops = ball.balls((ball.largest(row) for row in x), (len(x), 1))
        return np.broadcast_to(tops, x.shape)
    entries = (ball.largest(row[some]) for row, own in zip(x, kept, strict=True) for some in own)
    return ball.balls(entries, x.shape)


def permutations_over(low: ball.Balls, high: ball.Balls) -> Permutations:
    """The matrices over a box with these ends, (groups, n)."""
    if low.size * low.shape[1] > LARGEST:
        return Permutations(None)
    least, most = _sorted_ends(low), _sorted_ends(high)
    meets: Any = np.frompyfunc(lambda a, b, c, d: not bool(b < c) and not bool(a > d), 4, 1)
    return Permutations(meets(low[:, None], high[:, None], least[:, :, None], most[:, :, None]).astype(bool))


def sorted_range(node: Node, x: Interval, dim: int) -> Interval:
    """The interval of a `sort`: the i-th smallest grows with each value."""
    ends = []
    for end in x.ends:
        if not ball.all_finite(end):
            raise Rejected(f"{node.source}: sorts what is not known to be finite")
        moved = np.moveaxis(end, dim, -1)
        rows = _sorted_ends(moved.reshape(-1, moved.shape[-1]))
        ends.append(np.moveaxis(rows.reshape(moved.shape), -1, dim))
    return between(*ends)


def sorted_at(node: Node, x: ball.Balls, dim: int) -> ball.Balls:
    """The sorted values of enclosed ones; as they are where their order is certain."""
    if not ball.all_finite(x):
        raise Rejected(f"{node.source}: sorts what is not known to be finite")
    moved = np.moveaxis(x, dim, -1)
    result = np.empty(moved.shape, dtype=object)
    for place in np.ndindex(*moved.shape[:-1]):
        result[place] = _sorted_row(moved[place])
    return np.moveaxis(result, -1, dim)


def _sorted_row(row: NDArray[Any]) -> ball.Balls:
    low, high = (_ascending([getattr(entry, end)() for entry in row]) for end in ("lower", "upper"))
    own = sorted(row, key=cmp_to_key(_compared_by_middle))
    if all(bool(a < b) for a, b in pairwise(own)):
        return ball.balls(own, row.shape)
    return ball.balls((a.union(b) for a, b in zip(low, high, strict=True)), row.shape)


def _sorted_ends(rows: ball.Balls) -> ball.Balls:
    """Each row of exact numbers in ascending order."""
    return ball.balls((entry for row in rows for entry in _ascending(list(row))), rows.shape)


def _ascending(numbers: list[Any]) -> list[Any]:
    return sorted(numbers, key=cmp_to_key(_compared))


def _compared_by_middle(a: Any, b: Any) -> int:
    return _compared(a.mid(), b.mid())


def _compared(a: Any, b: Any) -> int:
    return -1 if a < b else int(a > b)
