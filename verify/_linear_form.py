"""How values follow the state over a ball or a box: linear forms with a remainder, and what they leave of intervals.

    v(y) = v(c) + rows (y - c) + offset + e,  |e| <= rest,  for every y of the region, c its centre.

Linear maps act on rows, offset and rest; beside an elementwise function a line is laid (`_pieces.py`), whose distance
from it joins the rest, so that the rest is of the second order in the region's size. What has no function of its own
(factors known by their ranges, normalisations) acts by its matrix of slopes, to the first order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from . import _midrad as midrad
from ._enclosures import Enclosed, as_midrad
from ._interval_jacobian import forward_columns, identity_columns
from ._jacobian import Builder, Combination, Elementwise, Function, Jacobian, Refine, StateLeaf
from ._midrad import MidRad
from ._normalisation import Near
from ._pieces import chord
from ._reach import Reach
from ._rounding import add_down, add_up, sub_down

LARGEST_ENTRIES = 2**22
"""Numbers in the rows of one value, over all problems, up to which forms are carried."""


@dataclass(frozen=True, eq=False)
class LinearForm:
    """The form of one value, and what it is around.

    Attributes:
        rows: (*shape, n), n unknowns of one problem.
        offset: (*shape).
        rest: (*shape), at least 0.
        center: enclosure of v(c).
        low: a lower bound of `v(y) - v(c)` over the region.
        high: an upper one.
    """

    rows: Tensor
    offset: Tensor
    rest: Tensor
    center: MidRad
    low: Tensor
    high: Tensor


class LinearForms:
    """Carries the forms along while the expression is built, and narrows the enclosures of arguments by them.

    Args:
        at_center: the enclosures of the graph's values at the region's centre.
        reach: how far states are from it.
        batch_dims: 1 where dimension 0 counts problems.
        ball: what the region is as a ball of the plain l2 norm; None where it is none.
    """

    def __init__(
        self, at_center: dict[int, Enclosed], reach: Reach, batch_dims: int, ball: Refine | None = None
    ) -> None:
        self._ball = ball
        self.reach, self.of_argument = reach, dict[int, LinearForm]()
        self._at_center, self._batch_dims = at_center, batch_dims
        self._columns: list[MidRad] = []  # of each basis value: rows, offset, rest

    def __call__(self, builder: Builder, value: int, combination: Combination, box: MidRad) -> MidRad:
        """The part of the box that the form leaves."""
        leaves = [basis for basis in builder.bases if isinstance(basis, StateLeaf)]
        unknowns = sum(math.prod(leaf.shape[self._batch_dims :]) for leaf in leaves)
        if _widest(builder, combination) * (unknowns + 2) > LARGEST_ENTRIES or not combination.terms:
            return box
        for number in range(len(self._columns), max(combination.terms) + 1):
            self._columns.append(self._of_basis(builder, number))
        form = self._form(forward_columns(combination, self._columns), as_midrad(self._at_center[value]))
        if form is None:
            return box
        self.of_argument[value] = form
        lower = torch.maximum(box.lower(), add_down(form.center.lower(), form.low))
        upper = torch.minimum(box.upper(), add_up(form.center.upper(), form.high))
        return MidRad.from_bounds(lower, torch.maximum(lower, upper))

    def near(self, builder: Builder, value: int, combination: Combination) -> Near | None:
        """As for any refinement; None where the region is no ball of the plain l2 norm."""
        return None if self._ball is None else self._ball.near(builder, value, combination)

    def _of_basis(self, builder: Builder, number: int) -> MidRad:
        basis = builder.bases[number]
        if isinstance(basis, StateLeaf):
            return _padded(identity_columns(_leaves(builder), self._batch_dims)[basis.position])
        if isinstance(basis, Elementwise) and basis.function is not None:
            form = self.of_argument.get(basis.function.argument)
            if form is not None:
                return _beside(basis.function, form)
        return basis.columns(forward_columns(basis.source, self._columns))

    def _form(self, columns: MidRad, center: MidRad) -> LinearForm | None:
        """None where it is not finite."""
        rows, rest = columns.mid[..., :-2], columns.apply_exact(lambda t: t[..., -1]).magnitude()
        rest = add_up(rest, add_up(columns.rad[..., -2], self.reach.largest(columns.rad[..., :-2])))
        spread, offset = add_up(self.reach.largest(rows), rest), columns.mid[..., -2]
        form = LinearForm(rows, offset, rest, center, sub_down(offset, spread), add_up(offset, spread))
        return form if bool((form.low.isfinite() & form.high.isfinite()).all()) else None


def _leaves(builder: Builder) -> Jacobian:
    return Jacobian(tuple(basis for basis in builder.bases if isinstance(basis, StateLeaf)), ())


def _padded(rows: MidRad) -> MidRad:
    return rows.apply_exact(lambda t: torch.cat([t, torch.zeros(*t.shape[:-1], 2, dtype=torch.float64)], dim=-1))


def _beside(function: Function, form: LinearForm) -> MidRad:
    """The columns of `s(v)` from the form of v: `s(v) - s(v(c)) = b (v - v(c)) + e`."""
    b, e = chord(function, form.center, form.low, form.high)
    none = torch.zeros_like(form.offset)
    mid = torch.cat([form.rows, form.offset[..., None], none[..., None]], dim=-1)
    rad = torch.cat([torch.zeros_like(form.rows), none[..., None], form.rest[..., None]], dim=-1)
    columns = midrad.mul(MidRad(mid, rad), MidRad.exact(b[..., None]))
    shift = torch.cat([torch.zeros_like(form.rows), e.mid[..., None], none[..., None]], dim=-1)
    spread = torch.cat([torch.zeros_like(form.rows), none[..., None], e.rad[..., None]], dim=-1)
    return midrad.add(columns, MidRad(shift, spread))


def _widest(builder: Builder, combination: Combination) -> int:
    sources = [basis.source for basis in builder.bases if not isinstance(basis, StateLeaf)]
    maps = [one for part in (*sources, combination) for several in part.terms.values() for one in several]
    return max((one.widest() for one in maps), default=0)
