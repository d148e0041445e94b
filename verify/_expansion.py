"""How far products of matrices with sums are multiplied out: `A (B u + C v)` as `AB u + AC v`, or as `A w`, w the sum.

Multiplied out the bounds are tighter, for `||AB|| <= ||A|| ||B||`. But in a residual network each sum names all earlier
blocks, so that blocks would be multiplied by all earlier ones. Where that is more than `LARGEST_WORK` the expression is
built anew with every sum that a matrix multiplies as a value of its own (`Subtotal`): then a block costs what it costs
alone, and a gain is a recursion, `gain(z + F(z)) <= gain(z) (1 + gain F)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

from ._linear import LinearMap

LARGEST_WORK = 2.0**32
"""Multiplications in products and norms that exist only because sums are multiplied out: about a second."""
_MOST_TERMS = 8  # of a sum, where sums are gathered
_TERM = 2.0**14  # work of carrying a term on: a few microseconds

T = TypeVar("T")


class _TooFar(Exception):
    """More work than allowed."""


class Expansion:
    """Decides which sums become values of their own.

    Args:
        work: how much multiplying out may cost; None where it is not tried: sums are gathered.
    """

    def __init__(self, work: float | None = math.inf) -> None:
        self._left = work

    def gathers_factor(self, maps: Sequence[LinearMap], cost: Callable[[LinearMap], float]) -> bool:
        """Whether a sum of these maps is gathered before it is multiplied, at this cost of each."""
        if len(maps) < 2:
            return False
        total = sum(map(cost, maps))
        return total > 0 if self._left is None else self._spend(total)

    def gathers_sum(self, maps: Sequence[LinearMap]) -> bool:
        """Whether a sum of these maps is gathered because of their number alone."""
        return len(maps) > _MOST_TERMS if self._left is None else self._spend(_TERM * len(maps))

    def _spend(self, work: float) -> bool:
        if self._left is not None:
            self._left -= work
            if self._left < 0:
                raise _TooFar
        return False


def expanded(build: Callable[[Expansion], T]) -> T:
    """What is built with sums multiplied out, or where that takes too much work, with sums gathered."""
    try:
        return build(Expansion(LARGEST_WORK))
    except _TooFar:
        return build(Expansion(None))


def product_cost(one: LinearMap, axis: int, rows: int) -> float:
    """Of multiplying a map by a dense matrix with so many rows along a dimension of its result, and of the norm."""
    kron = one.last_kron()
    if kron is None:
        return 0.0
    matrix = kron.matrices[kron.perm[axis]]
    if matrix is None:
        return 0.0
    inner, columns = matrix.shape
    return float(rows * columns) * (inner + min(rows, columns))


def convolution_cost(one: LinearMap, channels: int) -> float:
    """Of the norm of a convolution that is followed by nothing it can be merged with: of each term anew."""
    own, spatial = one.out_shape[1], math.prod(one.out_shape[2:])
    return float(spatial) * own * channels * min(own, channels)
