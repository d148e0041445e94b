"""How far pre-activations move over a ball, from the matrix of intervals of all slope products up to them.

`v - v(c) = M (y - c)` with M a product of the layers before v, so that `|v_i - v_i(c)| <= ||row_i of M P^-1||_dual r`
over the ball `||P (y - c)|| <= r`, dual the norm dual to the ball's. Narrower than interval arithmetic, which forgets
signs, from the second layer on.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ._enclosures import Enclosed, as_midrad
from ._interval_jacobian import forward_columns, identity_columns
from ._jacobian import Builder, Combination, Jacobian, StateLeaf
from ._midrad import MidRad
from ._norm import Norm
from ._rounding import add_up, div_up, mul_up, sqrt_up, sub_down, sum_up

LARGEST_ENTRIES = 2**22
"""Numbers in one such matrix, over all problems, up to which pre-activations are looked at this way."""


class RowRefinement:
    """Narrows the enclosure of a pre-activation.

    Args:
        at_center: the enclosures of the graph's values at the ball's centre.
        radius: of the ball.
        norm: of the ball.
        batch_dims: 1 where dimension 0 counts problems.
    """

    def __init__(self, at_center: dict[int, Enclosed], radius: float, norm: Norm, batch_dims: int) -> None:
        self._at_center, self._radius, self._norm, self._batch_dims = at_center, radius, norm, batch_dims
        self._columns: list[MidRad] = []

    def __call__(self, builder: Builder, value: int, combination: Combination, box: MidRad) -> MidRad:
        """The part of the box that the rows leave."""
        leaves = [basis for basis in builder.bases if isinstance(basis, StateLeaf)]
        unknowns = sum(math.prod(leaf.shape[self._batch_dims :]) for leaf in leaves)
        if _widest(builder, combination) * unknowns > LARGEST_ENTRIES:
            return box
        self._complete(builder, max(combination.terms, default=-1))
        rows = forward_columns(combination, self._columns) if combination.terms else None
        if rows is None or not rows.is_finite():
            return box
        deviation = mul_up(self._dual(rows.magnitude(), leaves), self._radius)
        center = as_midrad(self._at_center[value])
        lower = torch.maximum(box.lower(), sub_down(center.lower(), deviation))
        upper = torch.minimum(box.upper(), add_up(center.upper(), deviation))
        return MidRad.from_bounds(lower, torch.maximum(lower, upper))

    def _complete(self, builder: Builder, last: int) -> None:
        """The columns of all basis values up to one."""
        if not self._columns:
            units = identity_columns(Jacobian(tuple(builder.bases), ()), self._batch_dims)
            self._columns = [units[b.position] for b in builder.bases if isinstance(b, StateLeaf)]
        for number in range(len(self._columns), last + 1):
            basis = builder.bases[number]
            if isinstance(basis, StateLeaf):
                raise ValueError("leaves of the state come first")
            source = basis.source
            zero = MidRad.exact(torch.zeros(*source.shape, self._columns[0].shape[-1], dtype=torch.float64))
            pushed = forward_columns(source, self._columns) if source.terms else zero
            self._columns.append(basis.columns(pushed))

    def _dual(self, rows: Tensor, leaves: list[StateLeaf]) -> Tensor:
        """Upper bound of the dual norm along the last dimension."""
        if self._norm.weights is not None:
            flat = torch.cat([self._norm.weights[leaf.position].reshape(-1) for leaf in leaves])
            rows = div_up(rows, flat)
        if self._norm.order == "linf":
            return sum_up(rows, dim=-1)
        if self._norm.order == "l1":
            return rows.amax(dim=-1)
        return sqrt_up(sum_up(mul_up(rows, rows), dim=-1))  # mul_up is above 0 where it underflows


def _widest(builder: Builder, combination: Combination) -> int:
    sources = [basis.source for basis in builder.bases if not isinstance(basis, StateLeaf)]
    maps = [one for part in (*sources, combination) for several in part.terms.values() for one in several]
    return max((one.widest() for one in maps), default=0)
