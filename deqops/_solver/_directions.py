"""The last differences of each problem, those of residuals made orthogonal, and the point of least residual."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deqops._tree import host, row_norms

PLAIN = 2.0**20
"""Residuals that start within this factor of 1 are not scaled."""


BLOCK = 32
"""Slots made at the start; when all are in use they are made twice as many, up to those asked for."""


class Directions:
    """Differences q_i of residuals and p_i of images, the q_i of a problem orthogonal to each other.

    g is a damped image, r = g - z its residual. What is proposed is `g - sum_i c_i p_i`; c_i = <q_i, r>/<q_i, q_i>
    makes the residual least that is expected there. A new difference is made orthogonal to the others and takes the
    place of the oldest. Residuals are scaled to a length near 1 at the start, by powers of 2: their squares stay
    within the range, and no digit changes.
    """

    def __init__(self, rows: Tensor, scale: Tensor | None, floor: float) -> None:
        self.rows = rows  # (slots + 2, problems, 2 unknowns): (q, p), in the last two (r, g); q and r are scaled
        self.scale = scale  # (problems, 1); None for 1
        self.floor = floor  # a difference with a smaller part orthogonal to the columns, relative, is no new column
        self.count, problems = len(rows) - 2, rows.shape[1]
        self.inverse = rows.new_zeros(problems, self.count)  # 1/<q_i, q_i>; 0 for no column
        self.weights = torch.zeros_like(self.inverse)  # c, of the last point
        self.shares = torch.zeros_like(self.inverse)  # what of the square of the last difference lay in each column
        self.total = rows.new_zeros(problems)  # that square
        self.none = torch.zeros_like(self.total)
        self.slots = [self._slot(number) for number in range(self.count + 2)]
        self.along: list[Tensor] = [self.shares] * self.count  # where the difference of a slot lay in those then in use
        self.newest, self.last = -1, self.count  # the slots of the last difference, and of the last (r, g)
        self._look(0)

    @staticmethod
    def begun(point: Tensor, image: Tensor, slots: int, floor: float) -> Directions:
        """With a first point, (problems, unknowns), and no differences; `with_room` makes more slots than a block."""
        problems, unknowns = point.shape
        rows = point.new_zeros(min(slots, BLOCK) + 2, problems, 2 * unknowns)
        begun = Directions(rows, _power_of_two(row_norms(image - point)), floor)
        begun._write(begun.slots[begun.last], point, image)
        return begun

    @property
    def next(self) -> int:
        """The slot of the next difference."""
        return (self.newest + 1) % self.count

    @property
    def is_half(self) -> bool:
        """The next difference begins one of the two halves of the slots, and all slots are in use."""
        return self.used == self.count and self.next in (0, self.count // 2)

    def rebuild(self, problems: Tensor) -> None:
        """Span the differences of the half filled last alone, not what is left of older ones, (rebuilt,) int64.

        Call it where `is_half`. With the differences' coordinates C in the columns and `C diag(<q, q>) C' = L L'`,
        `L^-1 C` are the coordinates of orthonormal columns of the same span.
        """
        half = slice(0, self.next) if self.next else slice(self.count // 2, self.count)
        coordinates = self._coordinates(problems, half)
        absent = self.inverse[problems] == 0.0
        squares = torch.where(absent, 0.0, self.inverse[problems].double().reciprocal())
        gram = (coordinates * squares[:, None]) @ coordinates.mT + torch.diag_embed(absent[:, half].double())
        factor, failed = torch.linalg.cholesky_ex(gram)
        whole = (failed == 0)[:, None] & ~absent[:, half]
        basis = torch.linalg.solve_triangular(factor, coordinates, upper=False)
        basis = torch.where(whole[:, :, None], basis, 0.0)
        weights = (basis @ (squares * self.weights[problems])[:, :, None])[:, :, 0]
        every = len(problems) == self.rows.shape[1]
        rows = self.rows[:-2] if every else self.rows[:-2, problems]
        rows = torch.bmm(basis.to(rows.dtype), rows.transpose(0, 1)).transpose(0, 1)
        if every:
            self.rows[half] = rows
        else:
            self.rows[half, problems] = rows
        self.inverse[problems] = self.weights[problems] = 0.0
        self.inverse[problems, half] = whole.to(self.inverse.dtype)
        self.weights[problems, half] = weights.to(self.weights.dtype)

    def forget(self, problems: Tensor) -> None:
        """Drop the columns of these problems, (dropped,) int64."""
        self.rows[:-2, problems] = 0.0
        for kept in (self.inverse, self.weights, self.total):
            kept[problems] = 0.0

    def dependent(self) -> NDArray[np.bool_]:
        """The problems whose last difference was no new column, (problems,); not those where it was 0."""
        if self.newest < 0:
            return np.zeros(len(self.total), dtype=bool)
        absent: NDArray[np.bool_] = host(self.slots[self.newest].inverse) == 0.0
        if np.count_nonzero(absent):
            absent &= host(self.total) != 0.0
        return absent

    def leaning(self) -> NDArray[np.float64]:
        """How much of the last difference lay in columns older than the two before it: squared, relative."""
        age = (self.newest - np.arange(self.count)) % self.count
        total = host(self.total)
        old: NDArray[np.float64] = host(self.shares)[:, age[: self.used] > 2].sum(axis=1)
        return old / np.where(total > 0.0, total, 1.0)

    def proposal(self, point: Tensor, image: Tensor, begun: Tensor | None, exact: bool) -> Tensor:
        """Take in a point and its image, and propose the next one.

        `g - sum_i c_i p_i` is `(g' - sum_i c'_i p_i) + (1 - c_new) p_new`, a dash at what belongs to the point before;
        the bracket is the last proposal but for the column that is dropped.

        Args:
            point: (problems, unknowns).
            image: the damped image.
            begun: the problems whose columns were forgotten since, (problems, 1) bool; None for none.
            exact: compute the bracket from its terms, for a point that is not the last proposal.
        """
        number = self.next
        if number == self.used:
            self._look(number + 1)
        new, last = self.slots[number], self.slots[self.last]
        proposal = self._base(point, number, exact)
        if begun is not None:
            proposal = torch.where(begun, last.image, proposal)
        self.last = 2 * self.count + 1 - self.last
        now = self.slots[self.last]
        self._write(now, point, image)
        torch.sub(now.both, last.both, out=new.both)
        new.inverse.zero_()
        products = torch.bmm(new.residual, self.residuals)[:, 0]
        along = products * self.inverse_in_use
        self.weights_in_use.add_(along)
        self.along[number] = along
        self.shares, self.total, self.newest = along * products, products[:, number], number
        new.row.baddbmm_(along[:, None], self.columns, alpha=-1)
        square, moment = torch.bmm(new.residual, new.pairs[self.last - self.count])[:, 0].unbind(1)
        torch.where(square > self.floor**2 * self.total, square.reciprocal(), self.none, out=new.inverse)
        torch.mul(moment, new.inverse, out=new.weight)
        return proposal.addcmul_(new.image, 1.0 - new.factor)

    def with_room(self, slots: int) -> Directions:
        """That with more slots where all are in use for the first time and so many are allowed; else itself."""
        if not self.used == self.count < slots:
            return self
        count = min(2 * self.count, slots)
        rows = self.rows.new_zeros(count + 2, *self.rows.shape[1:])
        rows[: self.count], rows[count:] = self.rows[:-2], self.rows[-2:]
        wider = Directions(rows, self.scale, self.floor)
        for name in ("inverse", "weights"):
            getattr(wider, name)[:, : self.count] = getattr(self, name)
        wider.total, wider.shares = self.total, self.shares
        wider.along[: self.count] = self.along
        wider.newest, wider.last = self.newest, self.last + count - self.count
        wider._look(self.used)
        return wider

    def narrowed(self, problems: Tensor) -> Directions:
        """That of these problems alone."""
        kept = Directions(self.rows[:, problems], None if self.scale is None else self.scale[problems], self.floor)
        for name in ("inverse", "weights"):
            getattr(kept, name).copy_(getattr(self, name)[problems])
        kept.total, kept.shares = self.total[problems], self.shares[problems]
        kept.along = [along[problems] for along in self.along]
        kept.newest, kept.last = self.newest, self.last
        kept._look(self.used)
        return kept

    def _coordinates(self, problems: Tensor, half: slice) -> Tensor:
        """The differences of these slots in the columns, (problems, differences, slots) float64; 0 where none is."""
        coordinates = self.rows.new_zeros(len(problems), self.count, self.count, dtype=torch.float64)
        for number in range(self.count)[half]:
            along = self.along[number][problems]
            coordinates[:, number, : along.shape[1]] = along
            coordinates[:, number, number] = 1.0
        present = (self.inverse[problems] != 0.0)[:, :, None]
        return torch.where(present & present.mT, coordinates, 0.0)[:, half]

    def _look(self, used: int) -> None:
        """Views of the slots in use; those of a step are made once, for they cost as much as its small products."""
        unknowns = self.rows.shape[2] // 2
        self.used = used
        self.columns = self.rows[:used].transpose(0, 1)  # (problems, used, 2 unknowns)
        self.residuals = self.columns[:, :, :unknowns].mT  # (problems, unknowns, used)
        self.images = self.columns[:, :, unknowns:]  # (problems, used, unknowns)
        self.inverse_in_use, self.weights_in_use = self.inverse[:, :used], self.weights[:, :used]

    def _slot(self, number: int) -> _Slot:
        both, unknowns = self.rows[number], self.rows.shape[2] // 2
        halves = both[:, None], both[:, None, :unknowns], both[:, unknowns:]
        if number >= self.count:
            return _Slot(both, *halves, self.none, self.none, self.none, [])
        pairs = [self.rows[number :: last - number][:2] for last in (self.count, self.count + 1)]
        beside = [pair[:, :, :unknowns].permute(1, 2, 0) for pair in pairs]
        weight = self.weights[:, number]
        return _Slot(both, *halves, self.inverse[:, number], weight, weight[:, None], beside)

    def _base(self, point: Tensor, number: int, exact: bool) -> Tensor:
        """The image before, less all columns but the dropped one, times their weights."""
        dropped = self.slots[number]
        if exact or number in (0, self.count // 2):  # now and then, else rounding adds up
            dropped.weight.zero_()
            image = self.slots[self.last].image[:, None]
            return torch.baddbmm(image, self.weights_in_use[:, None], self.images, alpha=-1)[:, 0]
        return torch.addcmul(point, dropped.image, dropped.factor)

    def _write(self, slot: _Slot, point: Tensor, image: Tensor) -> None:
        residual = torch.sub(image, point, out=slot.residual[:, 0])
        if self.scale is not None:
            residual.mul_(self.scale)
        slot.image.copy_(image)


@dataclass(frozen=True, eq=False)
class _Slot:
    """Views of a slot."""

    both: Tensor  # (problems, 2 unknowns)
    row: Tensor  # (problems, 1, 2 unknowns)
    residual: Tensor  # (problems, 1, unknowns)
    image: Tensor  # (problems, unknowns)
    inverse: Tensor  # (problems,)
    weight: Tensor  # (problems,)
    factor: Tensor  # the same, (problems, 1)
    pairs: list[Tensor]  # its residual beside that of the point, for each of the two: (problems, unknowns, 2)


def _power_of_two(lengths: Tensor) -> Tensor | None:
    """By what residuals of these lengths come near 1, (problems, 1); None where all are near 1 already."""
    usual = (lengths > 1 / PLAIN) & (lengths < PLAIN)
    if bool(usual.all()):
        return None
    some = torch.where((lengths > 0) & lengths.isfinite(), lengths, 1.0)
    return torch.ldexp(torch.ones_like(some), 1 - torch.frexp(some).exponent)[:, None]
