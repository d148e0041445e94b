"""A matrix for each batch entry, acting on the last dimension but one: products with matrices that differ or vary."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from . import _midrad as midrad
from ._matrix import DenseMatrix, norm_bound, spread
from ._midrad import MidRad
from ._norm import Norm, Order
from ._rounding import add_up, div_up, matmul_up, mul_up, sqrt_up, sum_up

Shape = tuple[int, ...]

FEW = 3
"""Matrices of a stack that are looked at one by one at once."""
SQUARINGS = 4


@dataclass(frozen=True, eq=False)
class Stack:
    """`x -> A_b x_b` for x of shape (*batch, n, m) and enclosed matrices (*batch, p, n).

    Attributes:
        values: the matrices.
        width: m.
    """

    values: MidRad
    width: int

    @property
    def in_shape(self) -> Shape:
        """The shape of x."""
        return (*self.values.shape[:-2], self.values.shape[-1], self.width)

    @property
    def out_shape(self) -> Shape:
        """The shape of the result."""
        return (*self.values.shape[:-1], self.width)

    @cached_property
    def magnitude(self) -> Tensor:
        """Upper bounds of the entries' absolute values."""
        return self.values.magnitude()

    def apply(self, x: MidRad) -> MidRad:
        """Enclosure of the products, column by column: x of shape (*in_shape, columns)."""
        flat = x.apply_exact(lambda t: t.flatten(-2))
        return midrad.matmul(self.values, flat).apply_exact(lambda t: t.reshape(*self.out_shape, -1))

    def widest(self) -> int:
        """The most numbers at hand while the map is applied to one column."""
        return max(math.prod(self.in_shape), math.prod(self.out_shape), self.values.mid.numel())

    def multiplications(self) -> int:
        """How many apply the map to one column."""
        return self.values.mid.numel() * self.width

    def abs_apply(self, x: Tensor) -> Tensor:
        """Upper bound of `|A| x` for x >= 0."""
        return matmul_up(self.magnitude, x)

    def abs_apply_transposed(self, y: Tensor) -> Tensor:
        """Upper bound of `|A|^T y` for y >= 0."""
        return matmul_up(self.magnitude.mT, y)

    def norm_bound(self, order: Order, rows: Tensor | None, cols: Tensor | None) -> float:
        """The largest norm of a matrix, times the spread of weights along the last dimension that do not cancel."""
        same = rows is not None and cols is not None and torch.equal(rows, cols)
        return float(mul_up(self._largest(order), 1.0 if same else spread(rows, cols)))

    def _largest(self, order: Order) -> float:
        """Where a simple bound does not exceed what was found before, no closer one is needed."""
        if not self.values.mid.numel():
            return 0.0
        matrices = self.values.apply_exact(lambda t: t.reshape(-1, *t.shape[-2:]))
        simple, most = _simple_bounds(matrices.magnitude(), order), 0.0
        closer = simple
        if order == "l2" and len(simple) > FEW:
            closer = torch.minimum(simple, _closer_bounds(matrices, simple))
        for number in closer.argsort(descending=True).tolist():
            if float(closer[number]) <= most:
                break
            bound = float(simple[number])
            if order == "l2" and bound < math.inf:
                one = DenseMatrix(matrices.apply_exact(lambda t, number=number: t[number]))  # type: ignore[misc]
                bound = min(bound, norm_bound(one, order))
            most = max(most, bound)
        return most


def _closer_bounds(matrices: MidRad, simple: Tensor) -> Tensor:
    """What `norm_bound` gives at most: `||A||_2 <= ||(A^T A)^16||_F^(1/32)`, and a simple bound of the radii.

    It is n^(1/64) above the norm at most, 4 % for n = 8, so that few of many matrices have to be looked at closely.
    Each is scaled first to a norm of at most about 1. Infinite where unknown.
    """
    ordinary = (simple > 1e-100) & (simple < 1e100)
    factors = torch.where(ordinary, simple.reciprocal(), 1.0)
    A = midrad.mul(MidRad.exact(matrices.mid), MidRad.exact(factors[:, None, None]))
    T = A.apply_exact(lambda t: t.mT)
    power = midrad.matmul(T, A) if A.shape[-2] >= A.shape[-1] else midrad.matmul(A, T)
    for _ in range(SQUARINGS):
        power = midrad.matmul(power, power)
    bound = Norm("l2").upper([power.magnitude().flatten(1)], batch_dims=1)
    for _ in range(SQUARINGS + 1):
        bound = sqrt_up(bound)
    bound = add_up(div_up(bound, factors), _simple_bounds(matrices.rad, "l2"))
    return torch.where(bound.isnan(), math.inf, bound)


def _simple_bounds(magnitude: Tensor, order: Order) -> Tensor:
    """Bounds of each norm by row and column sums, infinite where one is no number."""
    rows, columns = (sum_up(magnitude, dim=dim).amax(dim=1) for dim in (2, 1))
    if order == "l2":
        flat = [magnitude.reshape(len(magnitude), -1)]
        found = torch.minimum(sqrt_up(mul_up(rows, columns)), Norm("l2").upper(flat, batch_dims=1))
    else:
        found = columns if order == "l1" else rows
    return torch.where(found.isnan(), math.inf, found)
