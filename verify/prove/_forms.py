"""Linear forms with exact coefficients, of which most are 0."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import flint
import numpy as np
from numpy.typing import NDArray

from deqops._errors import InputError

from ._dyadic import Array, Dyadic

Index = NDArray[np.int64]

LARGEST = 4_000_000
"""Coefficients of the forms of one value."""


@dataclass(frozen=True, eq=False)
class Forms:
    """`count` linear forms in `width` variables: coefficient `mantissas[t] / 2**exponent` at `(rows[t], columns[t])`.

    Attributes:
        slack: the true coefficients are within `slack` of these, relative to each; 0 where they are exact.
    """

    count: int
    width: int
    rows: Index
    columns: Index
    mantissas: Array
    exponent: int
    slack: Fraction = Fraction(0)

    @classmethod
    def identity(cls, size: int) -> Forms:
        """Each variable itself."""
        places = np.arange(size)
        return cls(size, size, places, places, np.full(size, 1, dtype=object), 0)

    def is_identity(self) -> bool:
        """Whether form i is variable i."""
        if self.count != self.width or len(self.rows) != self.count or self.slack:
            return False
        ones = all(m == 1 << self.exponent for m in self.mantissas)
        return ones and bool((self.rows == self.columns).all()) and len(set(self.rows.tolist())) == self.count

    def chosen(self, sources: Index) -> Forms:
        """Forms at these places, in this order; a place may come often or never."""
        order, starts, counts = self._by_row()
        repeats = counts[sources]
        rows = np.repeat(np.arange(len(sources)), repeats)
        first = np.repeat(starts[sources] - (np.cumsum(repeats) - repeats), repeats)
        _require_small(len(rows))
        picked = order[first + np.arange(len(rows))]
        return replace(
            self, count=len(sources), rows=rows, columns=self.columns[picked], mantissas=self.mantissas[picked]
        )

    def scaled(self, factors: Dyadic, slack: Fraction = Fraction(0)) -> Forms:
        """Each form times its number."""
        numbers = factors.mantissas.reshape(-1)[self.rows]
        return replace(
            self,
            mantissas=np.asarray(self.mantissas * numbers, dtype=object),
            exponent=self.exponent + factors.exponent,
            slack=_both(self.slack, slack),
        )._summed()

    def combined(self, outer: Forms) -> Forms:
        """The forms `outer`, whose variables are these forms."""
        if outer.width * outer.count + self.count * self.width <= 2 * LARGEST and _dense(self, outer):
            return self._dense_product(outer)
        order, starts, counts = self._by_row()
        repeats = counts[outer.columns]
        _require_small(int(repeats.sum()))
        rows = np.repeat(outer.rows, repeats)
        first = np.repeat(starts[outer.columns] - (np.cumsum(repeats) - repeats), repeats)
        picked = order[first + np.arange(len(rows))]
        mantissas = np.repeat(outer.mantissas, repeats) * self.mantissas[picked]
        exponent = self.exponent + outer.exponent
        slack = _both(self.slack, outer.slack)
        return Forms(outer.count, self.width, rows, self.columns[picked], mantissas, exponent, slack)._summed()

    def __add__(self, other: Forms) -> Forms:
        exponent = max(self.exponent, other.exponent)
        mantissas = [np.asarray(one.mantissas << (exponent - one.exponent), dtype=object) for one in (self, other)]
        return Forms(
            self.count,
            self.width,
            np.concatenate([self.rows, other.rows]),
            np.concatenate([self.columns, other.columns]),
            np.concatenate(mantissas),
            exponent,
            max(self.slack, other.slack),
        )._summed()

    def __neg__(self) -> Forms:
        return replace(self, mantissas=np.asarray(-self.mantissas, dtype=object))

    def moved(self, change: Callable[[Any], Any], shape: tuple[int, ...]) -> Forms:
        """Forms in another order, repeated or dropped: `change` acts on arrays of the forms' shape."""
        places = np.arange(self.count).reshape(shape)
        return self.chosen(np.ascontiguousarray(change(places)).reshape(-1))

    def _by_row(self) -> tuple[Index, Index, Index]:
        order = np.argsort(self.rows, kind="stable")
        counts = np.bincount(self.rows, minlength=self.count)
        return order, np.cumsum(counts) - counts, counts

    def _summed(self) -> Forms:
        """Coefficients of one place added, zeros dropped."""
        keys = self.rows * self.width + self.columns
        distinct, places = np.unique(keys, return_inverse=True)
        if len(distinct) == len(keys):
            return self._without_zeros()
        if self.slack and _signs_differ(places, self.mantissas):
            raise InputError("operator: coefficients that are known within rounding only cancel, so nothing is read")
        totals = np.zeros(len(distinct), dtype=object)
        np.add.at(totals, places, self.mantissas)
        return replace(
            self, rows=distinct // self.width, columns=distinct % self.width, mantissas=totals
        )._without_zeros()

    def _without_zeros(self) -> Forms:
        kept = self.mantissas != 0
        if bool(np.all(kept)):
            return self
        kept = kept.astype(bool)
        return replace(self, rows=self.rows[kept], columns=self.columns[kept], mantissas=self.mantissas[kept])

    def dense(self) -> Array:
        """The mantissas as a matrix (count, width)."""
        matrix = np.zeros((self.count, self.width), dtype=object)
        matrix[self.rows, self.columns] = self.mantissas
        return matrix

    def _dense_product(self, outer: Forms) -> Forms:
        product = flint.fmpz_mat(outer.dense().tolist()) * flint.fmpz_mat(self.dense().tolist())
        matrix = np.array([[int(entry) for entry in row] for row in product.tolist()], dtype=object)
        matrix = matrix.reshape(outer.count, self.width)
        rows, columns = np.nonzero(matrix)
        exponent, slack = self.exponent + outer.exponent, _both(self.slack, outer.slack)
        if slack:
            raise InputError("operator: products of matrices that are known within rounding only are not read")
        return Forms(outer.count, self.width, rows, columns, matrix[rows, columns], exponent)


def from_matrix(matrix: Dyadic) -> Forms:
    """The rows of a matrix as forms."""
    rows, columns = np.nonzero(matrix.mantissas)
    count, width = matrix.mantissas.shape
    return Forms(count, width, rows, columns, matrix.mantissas[rows, columns], matrix.exponent)


def sums(places: Index, count: int) -> Forms:
    """Forms that add up the variables: variable t goes to form `places[t]`."""
    columns = np.arange(len(places))
    return Forms(count, len(places), places, columns, np.full(len(places), 1, dtype=object), 0)


def _dense(inner: Forms, outer: Forms) -> bool:
    """Whether a dense product is the cheaper one."""
    return not (inner.slack or outer.slack) and len(outer.rows) * len(inner.rows) > inner.count * 4_000_000


def _both(one: Fraction, other: Fraction) -> Fraction:
    return (1 + one) * (1 + other) - 1


def _signs_differ(places: Index, mantissas: Array) -> bool:
    positive = np.zeros(int(places.max()) + 1, dtype=bool)
    negative = positive.copy()
    positive[places[(mantissas > 0).astype(bool)]] = True
    negative[places[(mantissas < 0).astype(bool)]] = True
    return bool((positive & negative).any())


def _require_small(count: int) -> None:
    if count > LARGEST:
        raise InputError(f"operator: a matrix with {count} coefficients is over the {LARGEST} that are read")
