"""Products of matrices and their proven norms, without the product of the norms where more is known."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from deqops._errors import InputError

from . import _midrad as midrad
from ._bound import Bound
from ._matrix import LARGEST_DENSE
from ._midrad import MidRad
from ._norm import Norm, Order
from ._norm_estimate import norm_estimate
from ._operand import Entries, Operand, as_operand
from ._rounding import add_up, mul_up, sum_up
from ._spectral import spectral_norm_bound

_LARGEST_WORK = 2**36  # multiplications of one product that is still formed
_L2 = Norm("l2")


@dataclass(frozen=True, eq=False, init=False)
class Product(Operand):
    """`A_1 A_2 ... A_k`, an operand for `spectral_norm_bound` and `operator_norm_bound`.

    The bound is the smaller of the product of the factors' norms and the norm of the product, whose rounding is
    enclosed. For l2 a left part A with more rows than columns is never multiplied out: with any Q and R,
    `||A B|| <= ||Q|| ||R B|| + ||(A - Q R) B||`, and a QR factorisation makes `||Q||` about 1 and the rest tiny.

    Args:
        factors: what `as_operand` knows, of matching shapes; at least one.

    Raises:
        InputError: a factor of an unknown type or of a shape that does not match, by its number.
    """

    factors: tuple[Operand, ...]

    def __init__(self, *factors: Any) -> None:
        parts = tuple(as_operand(factor, f"factor {number}") for number, factor in enumerate(factors, 1))
        if not parts:
            raise InputError("factors: none given; a Product needs at least one matrix")
        for number, (left, right) in enumerate(itertools.pairwise(parts), 2):
            if left.shape[1] != right.shape[0]:
                raise InputError(f"factor {number}: got shape {right.shape}; {left.shape[1]} rows are needed")
        object.__setattr__(self, "factors", parts)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.factors[0].shape[0], self.factors[-1].shape[1]

    def norm_bound(self, order: Order) -> Bound:
        """Proven upper bound of the norm from l_p to l_p; the contributions are the factors' norms."""
        parts = [factor.norm_bound(order) for factor in self.factors]
        if len(parts) == 1:
            return parts[0]
        apart = bounds_product([part.upper for part in parts])
        together = self._bound_together(order, parts)
        upper, method = (together, "norm of the product") if together < apart else (apart, "product of norms")
        gains = tuple((f"factor {number}", part.upper) for number, part in enumerate(parts, 1))
        return Bound(upper, min(norm_estimate(self, order), upper), method, gains)

    def _bound_together(self, order: Order, parts: Sequence[Bound]) -> float:
        if order == "l2":
            written = [factor.entries() for factor in self.factors]
            known = [values for values in written if values is not None]
            return product_bound(known, [part.upper for part in parts]) if len(known) == len(written) else math.inf
        values = self.entries()
        return math.inf if values is None else Entries(values).norm_bound(order).upper

    def apply(self, x: Tensor) -> Tensor:
        """About `A_1 ... A_k x`."""
        for factor in reversed(self.factors):
            x = factor.apply(x)
        return x

    def apply_transposed(self, y: Tensor) -> Tensor:
        """About `A_k^T ... A_1^T y`."""
        for factor in self.factors:
            y = factor.apply_transposed(y)
        return y

    def entries(self) -> MidRad | None:
        """The product written out, left to right; None where a part is too large."""
        total = self.factors[0].entries()
        for factor in self.factors[1:]:
            right = None if total is None else factor.entries()
            if total is None or right is None or not _is_affordable(total, right):
                return None
            total = midrad.matmul(total, right)
        return total

    def scaled(self, rows: MidRad, cols: MidRad) -> Operand | None:
        """The first factor's rows and the last one's columns scaled."""
        ones = [MidRad.exact(torch.ones(f.shape[side], dtype=torch.float64)) for f, side in self._inner_sides()]
        if len(self.factors) == 1:
            return self.factors[0].scaled(rows, cols)
        first = self.factors[0].scaled(rows, ones[0])
        last = self.factors[-1].scaled(ones[1], cols)
        return None if first is None or last is None else Product(first, *self.factors[1:-1], last)

    def _inner_sides(self) -> tuple[tuple[Operand, int], tuple[Operand, int]]:
        return (self.factors[0], 1), (self.factors[-1], 0)


def bounds_product(bounds: Sequence[float]) -> float:
    """Upper bound of a product of bounds; 0 as soon as one is 0, infinite where no number is found."""
    if 0.0 in bounds:
        return 0.0
    total = 1.0
    for bound in bounds:
        total = float(mul_up(total, bound))
    return total if total < math.inf else math.inf


def product_bound(factors: Sequence[MidRad], norms: Sequence[float]) -> float:
    """Proven bound of `||A_1 ... A_k||_2` from the factors written out; infinite where a part would be too large.

    Args:
        factors: of matching shapes.
        norms: proven bounds of their norms.
    """
    if not all(factor.mid.numel() for factor in factors):
        return 0.0
    left, kept, spilled = factors[0], 1.0, 0.0
    for number, right in enumerate(factors[1:], 1):
        if left.shape[0] > left.shape[1] and left.is_finite():
            left, gain, rest = _without_tall_factor(left)
            lost = bounds_product([kept, _rest_bound(rest, right, norms[number]), *norms[number + 1 :]])
            kept, spilled = bounds_product([kept, gain]), float(add_up(spilled, lost))
        if not _is_affordable(left, right):
            return math.inf
        left = midrad.matmul(left, right)
    if not left.is_finite():
        return math.inf
    total = float(add_up(bounds_product([kept, spectral_norm_bound(left).upper]), spilled))
    return math.inf if math.isnan(total) else total


def _without_tall_factor(A: MidRad) -> tuple[MidRad, float, MidRad]:
    """R, a bound of `||Q||_2` and an enclosure of `A - Q R`, for some Q and R; a proposal may be any."""
    Q, R = torch.linalg.qr(A.mid)
    if not bool(Q.isfinite().all() & R.isfinite().all()):
        Q, R = A.mid, torch.eye(A.shape[1], dtype=torch.float64)
    rest = midrad.sub(A, midrad.matmul(MidRad.exact(Q), MidRad.exact(R)))
    return MidRad.exact(R), spectral_norm_bound(Q).upper, rest


def _rest_bound(E: MidRad, B: MidRad, norm: float) -> float:
    """`||E B||_2 <= sum_j ||E e_j|| ||e_j^T B||`, large rows of B meeting their own columns only, or ||E||_F ||B||."""
    modulus = E.magnitude()
    columns, rows = _L2.upper([modulus.T.contiguous()], 1), _L2.upper([B.magnitude()], 1)
    products = torch.where((columns == 0) | (rows == 0), 0.0, mul_up(columns, rows))
    together = bounds_product([float(_L2.upper([modulus], 0)), norm])
    by_columns = float(sum_up(products))
    return by_columns if by_columns < together else together


def _is_affordable(left: MidRad, right: MidRad) -> bool:
    (m, k), n = left.shape, right.shape[1]
    return m * n <= LARGEST_DENSE and m * k * n <= _LARGEST_WORK
