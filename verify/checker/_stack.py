"""A matrix of intervals for each batch entry, acting on the last dimension but one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from flint import arb

from . import _arithmetic as ball
from ._interval import Interval, matmul
from ._matrix_norm import factored_bound


@dataclass(frozen=True, eq=False)
class Stack:
    """`x -> A_b x_b` for x of shape (*batch, n, m) and matrices (*batch, p, n)."""

    matrices: Interval
    width: int

    @property
    def in_shape(self) -> tuple[int, ...]:
        """The shape of x."""
        shape = self.matrices.middle.shape
        return (*shape[:-2], shape[-1], self.width)

    @property
    def out_shape(self) -> tuple[int, ...]:
        """The result's shape."""
        return (*self.matrices.middle.shape[:-1], self.width)

    @cached_property
    def norm(self) -> ball.Ball:
        """A bound of the l2 norm: the largest of the matrices' norms."""
        shape, top = self.matrices.middle.shape, arb(0)
        middles, radii = (part.reshape(-1, *shape[-2:]) for part in (self.matrices.middle, self.matrices.radius))
        for middle, radius in zip(middles, radii, strict=True):
            if not simple_bound(ball.plus(ball.absolute(middle), radius)) <= top:
                top = top.max(self._norm(middle, radius))
        return top.upper()

    def _norm(self, middle: ball.Balls, radius: ball.Balls) -> ball.Ball:
        split = factored_bound(middle) + simple_bound(radius)
        return split.min(simple_bound(ball.plus(ball.absolute(middle), radius)))

    def interval_columns(self, x: Interval) -> Interval:
        """`A x`, column by column: x of shape (*in_shape, columns)."""
        flat = [part.reshape(*self.in_shape[:-1], -1) for part in (x.middle, x.radius)]
        result = matmul(self.matrices, Interval(*flat))
        return Interval(*(part.reshape(*self.out_shape, -1) for part in (result.middle, result.radius)))

    def widest(self) -> int:
        """The most numbers at hand while the map is applied to one column."""
        return max(math.prod(self.in_shape), math.prod(self.out_shape), self.matrices.middle.size)

    def magnitude(self, x: ball.Balls) -> ball.Balls:
        """`|A| x` for x >= 0."""
        return ball.matmul(self._magnitudes, x.reshape(self.in_shape))

    def magnitude_transposed(self, y: ball.Balls) -> ball.Balls:
        """`|A|^T y` for y >= 0."""
        return ball.matmul(np.swapaxes(self._magnitudes, -1, -2), y.reshape(self.out_shape))

    @cached_property
    def _magnitudes(self) -> ball.Balls:
        return ball.plus(ball.absolute(self.matrices.middle), self.matrices.radius)


def simple_bound(magnitude: ball.Balls) -> ball.Ball:
    """min(Frobenius, sqrt(l1 linf)) of a nonnegative matrix."""
    rows, columns = (ball.largest(ball.array(magnitude.sum(axis=axis))) for axis in (1, 0))
    return ball.root_up(rows * columns).min(ball.root_up(ball.total(ball.times(magnitude, magnitude))))
