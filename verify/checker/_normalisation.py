"""Layer norm and RMS norm: values, ranges over boxes, and their derivatives.

For a group x of n entries let `d = x - mean(x)` (layer norm) or `d = x` (RMS norm), `v = sum d_i^2 / n` and
`r = 1 / sqrt(v + eps)`. The result is `u = r d`, and

    du/dx = r (C - u u^T / n),    C = I - 1 1^T / n    or    C = I.

`|u|^2 = n v / (v + eps) < n`. On the range of C, of dimension k = n - 1 or n, the matrix in brackets has the
eigenvalues 1 and `1 - |u|^2 / n = eps r^2`: it is between 0 and I, the l2 norm of du/dx is r (k > 1), and its entries
are at most 1/2 in modulus off the diagonal. For k = 1 it is `eps r^2 C`. Each `|u_i| <= sqrt(k)`.

Over a segment the difference of two results is the average of du/dx times the difference of the arguments. That
average lies in every convex set that contains du/dx over a box around the segment; only such sets are used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
from flint import arb

from deqops.graph import Node

from . import _arithmetic as ball
from ._refusal import Rejected

NORMALISATIONS = frozenset(("layer_norm", "rms_norm"))
LARGEST_BLOCKS = 2**18  # entries of |du/dx| of all groups that are written out


@dataclass(frozen=True, eq=False)
class Near:
    """An argument within an l2 distance of what it is at the centre of a ball."""

    centre: ball.Balls
    distance: Any


@dataclass(frozen=True, eq=False)
class Normalisation:
    """The operation of one node."""

    size: int
    eps: Any
    centred: bool

    @property
    def rank(self) -> int:
        """The dimension of C's range."""
        return self.size - 1 if self.centred else self.size

    @property
    def limit(self) -> Any:
        """No entry of the result is larger."""
        return arb(self.rank).sqrt().upper()

    def grouped(self, x: ball.Balls) -> ball.Balls:
        """x as (groups, n)."""
        return x.reshape(-1, self.size)

    def at(self, x: ball.Balls) -> ball.Balls:
        """The result at x, of x's shape."""
        groups = self.grouped(x)
        d = ball.array(groups - _mean(groups)) if self.centred else groups
        v = _mean(ball.times(d, d))
        return ball.times(d, ball.each(lambda t: 1 / (t + self.eps).sqrt(), v)).reshape(x.shape)

    def everywhere(self, groups: int) -> Derivative:
        """The derivatives at all real x."""
        limit = ball.full(self.limit, (groups, self.size))
        root = ball.full((1 / self.eps.sqrt()).upper(), (groups, 1))
        return self._derivative(ball.full(0, (groups, 1)), root, ball.array(-limit), limit)

    def over(self, low: ball.Balls, high: ball.Balls, near: Near | None = None) -> Derivative:
        """The derivatives over a box with these ends, or over the part of it that is near a point."""
        low, high = self.grouped(low), self.grouped(high)
        if not (ball.all_finite(low) and ball.all_finite(high)):
            raise Rejected("a normalisation's argument is not bounded")
        low, high = ball.each(lambda t: t.lower(), low), ball.each(lambda t: t.upper(), high)
        small, large = self._scales(low, high)
        middle, radius = ball.array((low + high) / 2), ball.array((high - low) / 2)
        if self.centred:
            middle, radius = ball.array(middle - _mean(middle)), centred_radius(radius)
        ends = [ball.times(end, r) for end in (middle - radius, middle + radius) for r in (small, large)]
        bottom = ball.each(lambda *t: reduce(arb.min, t).max(-self.limit), *ends)
        top = ball.each(lambda *t: reduce(arb.max, t).min(self.limit), *ends)
        if near is None:
            return self._derivative(small, large, bottom, top)
        return self._near(small, large, bottom, top, near)

    def _near(self, small: ball.Balls, large: ball.Balls, low: ball.Balls, high: ball.Balls, near: Near) -> Derivative:
        """What is left within a distance: |d| moves by it at most, and u by the largest r times it."""
        point, distance = self.grouped(near.centre), near.distance
        d = ball.array(point - _mean(point)) if self.centred else point
        squares = [ball.total(ball.times(row, row)) for row in d]
        far = [ball.root_up(square) + distance for square in squares]
        near_by = [(square.lower().max(arb(0)).sqrt() - distance).lower().max(arb(0)) for square in squares]
        least, most = (
            np.array([[1 / (t**2 / self.size + self.eps).sqrt()] for t in end], dtype=object) for end in (far, near_by)
        )
        small, large = ball.each(arb.max, small, least), ball.each(arb.min, large, most)
        way, u = ball.times(large, distance), self.at(point)
        low, high = ball.each(arb.max, low, ball.array(u - way)), ball.each(arb.min, high, ball.array(u + way))
        found = self._derivative(small, large, low, high)
        apart = _lengths(ball.array(u - found.middle_direction))
        return replace(found, turned=ball.plus(way, apart))

    def _scales(self, low: ball.Balls, high: ball.Balls) -> list[ball.Balls]:
        """The least and the largest r of each group, (groups, 1)."""
        spreads = [self._spread(a, b) for a, b in zip(low, high, strict=True)]
        ends = [[most for _, most in spreads], [least for least, _ in spreads]]
        return [np.array([[1 / (v + self.eps).sqrt()] for v in end], dtype=object) for end in ends]

    def _spread(self, low: ball.Balls, high: ball.Balls) -> tuple[Any, Any]:
        """Bounds of v over one group's box."""
        n = len(low)
        c = ball.total(ball.plus(low, high)) / (2 * n) if self.centred else arb(0)
        far = ball.each(lambda a, b: abs(a - c).max(abs(b - c)) ** 2, low, high)
        centre = _balance(low, high) if self.centred else arb(0)
        below = ball.each(lambda a: (a - centre).max(arb(0)), low)
        above = ball.each(lambda b: (centre - b).max(arb(0)), high)
        near = ball.total(ball.times(below, below)) + ball.total(ball.times(above, above))
        if self.centred:
            # v is the least mean((x - t)^2) over t. So it is at least the least f(t) / n, f(t) being the sum of the
            # squared distances of t to the intervals: convex, with this slope at t = centre, least between the ends.
            slope = 2 * (ball.total(above) - ball.total(below))
            reach = reduce(arb.max, [abs(t - centre) for t in (*low, *high)])
            near = near - abs(slope) * reach
        return (near.lower().max(arb(0)) / n).lower(), (ball.total(far) / n).upper()

    def _derivative(self, small: ball.Balls, large: ball.Balls, low: ball.Balls, high: ball.Balls) -> Derivative:
        if self.rank > 1:
            return Derivative(small, large, low, high, low, high, self.centred)
        none = ball.full(0, low.shape)
        if self.rank == 0:
            nothing = ball.full(0, small.shape)
            return Derivative(nothing, nothing, none, none, none, none, True)
        least, most = (ball.each(lambda r: self.eps * r**3, end) for end in (small, large))
        return Derivative(least, most, none, none, low, high, self.centred)


@dataclass(frozen=True, eq=False)
class Derivative:
    """All matrices `r (C - u u^T / n)` with r and u in intervals, group by group; the results' own range.

    `small` and `large` are r's ends, (groups, 1); `low` and `high` those of u, `bottom` and `top` those of the results,
    (groups, n). `turned` bounds the l2 distance of u from the middle of its intervals, (groups, 1), where more is known
    of it than they say.
    """

    small: ball.Balls
    large: ball.Balls
    low: ball.Balls
    high: ball.Balls
    bottom: ball.Balls
    top: ball.Balls
    centred: bool
    turned: ball.Balls | None = None
    smooth = True

    @property
    def middle_direction(self) -> ball.Balls:
        """The middle of u's intervals."""
        return _middle_radius(self.low, self.high)[0]

    def deviations(self, shape: tuple[int, ...]) -> ball.Balls:
        """Bounds of the l2 distance of the groups' matrices from that of the middles, at each entry.

        `r K - r' K' = (r - r') K + r' (K - K')` for K = C - u u^T / n, which is between 0 and I, and `|K - K'|` is at
        most `|u - u'| (|u| + |u'|) / n`, |u| at most sqrt n.
        """
        n = arb(self.low.shape[1])
        middle, half = _middle_radius(self.low, self.high)
        turn = _lengths(half) if self.turned is None else ball.each(arb.min, _lengths(half), self.turned)
        scale, spread = _middle_radius(self.small, self.large)
        sizes = ball.array(_lengths(middle) + n.sqrt())
        each = ball.array(spread + ball.absolute(scale) * turn * sizes / n)
        return np.broadcast_to(ball.each(lambda t: t.upper(), each), self.low.shape).reshape(shape)

    def norms(self, shape: tuple[int, ...]) -> ball.Balls:
        """Bounds of the groups' l2 norms, at each entry."""
        return np.broadcast_to(ball.each(lambda r: r.upper(), self.large), self.low.shape).reshape(shape)

    def magnitude(self, x: ball.Balls) -> ball.Balls:
        """Bounds of `|M| x`, and of its transpose, for x >= 0 of any shape."""
        groups = x.reshape(self.low.shape)
        n = self.low.shape[1]
        own = 1 - arb(int(self.centred)) / n
        if groups.size * n <= LARGEST_BLOCKS:
            rows = [self._block(k, own).dot(groups[k]) for k in range(len(groups))]
            return ball.times(np.array(rows, dtype=object), self.large).reshape(x.shape)
        u = ball.each(lambda a, b: abs(a).max(abs(b)), self.low, self.high)
        shared = ball.times(u, ball.times(u, groups).sum(axis=1, keepdims=True))
        if self.centred:
            shared = ball.plus(shared, groups.sum(axis=1, keepdims=True))
        return ball.times(ball.plus(ball.times(groups, own), ball.array(shared / n)), self.large).reshape(x.shape)

    magnitude_transposed = magnitude

    def columns(self, middle: ball.Balls, radius: ball.Balls) -> tuple[ball.Balls, ball.Balls]:
        """Middles and radii of M times matrices of intervals, (*shape, columns)."""
        shape, n = middle.shape, self.low.shape[1]
        m, r = (part.reshape((*self.low.shape, shape[-1])) for part in (middle, radius))
        u, width = (part[..., None] for part in _middle_radius(self.low, self.high))
        along = ball.array(ball.times(u, m).sum(axis=1, keepdims=True))
        loose = _loose(u, width, m, r).sum(axis=1, keepdims=True)
        off, off_radius = ball.array(ball.times(u, along) / n), ball.array(_loose(u, width, along, loose) / n)
        if self.centred:
            m, r = ball.array(m - _mean(m)), centred_radius(r)
        m, r = ball.array(m - off), ball.plus(r, off_radius)
        scale, spread = (part[..., None] for part in _middle_radius(self.small, self.large))
        return ball.times(m, scale).reshape(shape), _loose(scale, spread, m, r).reshape(shape)

    def _block(self, group: int, own: Any) -> ball.Balls:
        """Bounds of `|C - u u^T / n|`, (n, n)."""
        low, high = self.low[group], self.high[group]
        n, shift = len(low), arb(int(self.centred))
        corners = [np.multiply.outer(a, b) for a in (low, high) for b in (low, high)]
        block = ball.each(
            lambda *t: (abs(reduce(arb.min, t) + shift).max(abs(reduce(arb.max, t) + shift)) / n).min(arb(0.5)),
            *corners,
        )
        for k in range(n):
            apart = low[k] > 0 or high[k] < 0
            least = abs(low[k]).min(abs(high[k])) if apart else arb(0)
            block[k, k] = (own - least**2 / n).max(arb(0)).upper()  # the entry is between 0 and this
        return block


def normalisation_of(node: Node) -> Normalisation | None:
    """The node's normalisation; None where it is another operation.

    Raises:
        Rejected: eps is not positive, or there is nothing to normalise.
    """
    if node.op not in NORMALISATIONS:
        return None
    eps: Any = node.attributes["eps"]
    sizes: Any = node.attributes["normalized_shape"]
    if not isinstance(eps, float) or not 0 < eps < math.inf:
        raise Rejected(f"{node.source}: needs eps > 0")
    if not sizes or 0 in node.shape or tuple(node.shape[-len(sizes) :]) != tuple(sizes):
        raise Rejected(f"{node.source}: has nothing to normalise")
    return Normalisation(math.prod(sizes), arb(eps), node.op == "layer_norm")


def centred_radius(radius: ball.Balls) -> ball.Balls:
    """`|C|` times radii, along dimension 1."""
    n = radius.shape[1]
    if n == 1:
        return ball.full(0, radius.shape)
    return ball.array(radius * (arb(n - 2) / n) + _mean(radius))


def _mean(x: ball.Balls) -> ball.Balls:
    return ball.array(x.sum(axis=1, keepdims=True) / arb(x.shape[1]))


def _lengths(x: ball.Balls) -> ball.Balls:
    """The Euclidean norm of each group, (groups, 1), from above."""
    return np.array([[ball.root_up(ball.total(ball.times(row, row)))] for row in x], dtype=object).reshape(len(x), 1)


def _middle_radius(low: ball.Balls, high: ball.Balls) -> tuple[ball.Balls, ball.Balls]:
    return ball.array((low + high) / 2), ball.array((high - low) / 2)


def _loose(a: ball.Balls, a_radius: ball.Balls, b: ball.Balls, b_radius: ball.Balls) -> ball.Balls:
    """The radius of a product: `|a| rb + ra (|b| + rb)`."""
    return ball.array(ball.absolute(a) * b_radius + a_radius * (ball.absolute(b) + b_radius))


def _balance(low: ball.Balls, high: ball.Balls) -> Any:
    """A number near the t that minimises the squared distances to the intervals: a proposal, found in floats."""
    a, b = (np.array([float(t) for t in ends]) for ends in (low, high))
    start, stop = a.min(), b.max()
    for _ in range(64):
        t = (start + stop) / 2
        pull = np.maximum(t - b, 0).sum() - np.maximum(a - t, 0).sum()
        start, stop = (start, t) if pull > 0 else (t, stop)
    pulling = [low[k] if a[k] > t else high[k] for k in range(len(a)) if a[k] > t or b[k] < t]
    return (sum(pulling, arb(0)) / len(pulling)).mid() if pulling else arb(float(t))
