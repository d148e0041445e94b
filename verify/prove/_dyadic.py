"""Exact numbers `mantissa / 2**exponent`: every finite float is one, and so are their sums and products."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flint
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Dyadic:
    """An array of exact numbers with one exponent.

    Args:
        mantissas: Python integers, an array of objects.
        exponent: e >= 0 of `mantissas / 2**e`.
    """

    mantissas: Array
    exponent: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The array's shape."""
        return tuple(self.mantissas.shape)

    @classmethod
    def of(cls, tensor: Tensor) -> Dyadic:
        """A tensor's values, exactly.

        Raises:
            ValueError: a value is not finite.
        """
        if not tensor.is_floating_point():
            return cls(np.asarray(tensor.detach().cpu().numpy(), dtype=object), 0)
        values = tensor.detach().cpu().to(torch.float64).numpy()
        if not np.isfinite(values).all():
            raise ValueError("a value is NaN or infinite")
        fractions, powers = np.frexp(values)
        whole = (fractions * 2.0**53).astype(np.int64)
        powers = np.where(whole == 0, 0, powers.astype(np.int64) - 53)
        spare = _trailing_zeros(whole)
        odd, powers = whole >> spare, powers + spare
        exponent = max(0, -int(powers.min(initial=0)))
        return cls(_objects(odd) << _objects(powers + exponent), exponent)

    @classmethod
    def zeros(cls, shape: tuple[int, ...]) -> Dyadic:
        """All zero."""
        return cls(_objects(np.zeros(shape, dtype=np.int64)), 0)

    @classmethod
    def identity(cls, size: int) -> Dyadic:
        """The identity matrix."""
        return cls(_objects(np.eye(size, dtype=np.int64)), 0)

    def rearranged(self, change: Callable[[Array], Array]) -> Dyadic:
        """The entries in another order or shape."""
        return Dyadic(_objects(change(self.mantissas)), self.exponent)

    def at(self, exponent: int) -> Array:
        """The mantissas for a larger exponent."""
        return self.mantissas if exponent == self.exponent else _objects(self.mantissas << (exponent - self.exponent))

    def __add__(self, other: Dyadic) -> Dyadic:
        exponent = max(self.exponent, other.exponent)
        return Dyadic(_objects(self.at(exponent) + other.at(exponent)), exponent)

    def __neg__(self) -> Dyadic:
        return Dyadic(_objects(-self.mantissas), self.exponent)

    def __sub__(self, other: Dyadic) -> Dyadic:
        return self + -other

    def __mul__(self, other: Dyadic) -> Dyadic:
        return Dyadic(_objects(self.mantissas * other.mantissas), self.exponent + other.exponent)

    def __abs__(self) -> Dyadic:
        return Dyadic(_objects(np.abs(self.mantissas)), self.exponent)

    def __matmul__(self, other: Dyadic) -> Dyadic:
        return Dyadic(_product(self.mantissas, other.mantissas), self.exponent + other.exponent)

    def reciprocal(self) -> Dyadic | None:
        """One over it where every entry is a power of two, else None."""
        magnitudes = np.abs(self.mantissas)
        if not all(m > 0 and m & (m - 1) == 0 for m in magnitudes.flat):
            return None
        powers = [self.exponent - (int(m).bit_length() - 1) for m in magnitudes.flat]
        exponent = max(0, *(-p for p in powers))
        signed = [(1 if m > 0 else -1) << (p + exponent) for m, p in zip(self.mantissas.flat, powers, strict=True)]
        return Dyadic(_objects(signed).reshape(self.shape), exponent)

    def is_zero(self) -> bool:
        """Whether every entry is 0."""
        return not any(self.mantissas.flat)

    def floats(self) -> NDArray[np.float64]:
        """The nearest floats, for numbers that only propose."""
        scale = 1 << self.exponent
        return np.array([m / scale for m in self.mantissas.flat], dtype=np.float64).reshape(self.shape)


def _objects(values: Any) -> Array:
    """An array of Python integers, whatever numpy made of its parts."""
    return np.asarray(values, dtype=object)


def _trailing_zeros(whole: NDArray[np.int64]) -> NDArray[np.int64]:
    low = whole & -whole
    return np.where(whole == 0, 0, np.frexp(low.astype(np.float64))[1].astype(np.int64) - 1)


def _product(a: Array, b: Array) -> Array:
    """`a @ b` by numpy's rules, with a fast path for a matrix and for rows that pick single entries."""
    if b.ndim != 2 or a.ndim < 2:
        return _objects(np.matmul(a, b))
    rows = a.reshape(-1, a.shape[-1])
    return _rows_product(rows, b).reshape(*a.shape[:-1], b.shape[1])


def _rows_product(rows: Array, b: Array) -> Array:
    present = rows != 0
    if rows.size and bool((present.sum(axis=1) <= 1).all()):
        places = present.argmax(axis=1)
        return _objects(rows[np.arange(len(rows)), places][:, None] * b[places])
    if rows.shape[0] * b.size <= 100_000:
        return _objects(rows @ b)
    product = flint.fmpz_mat(rows.tolist()) * flint.fmpz_mat(b.tolist())
    return _objects([[int(entry) for entry in row] for row in product.tolist()])
