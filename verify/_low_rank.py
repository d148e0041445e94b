"""Low rank plus diagonal: `U V^T + diag(d)`, never formed where it is large."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from deqops._errors import InputError

from . import _midrad as midrad
from ._bound import Bound
from ._low_rank_bound import low_rank_bound
from ._matrix import LARGEST_DENSE
from ._midrad import MidRad
from ._norm import Order
from ._norm_estimate import norm_estimate
from ._operand import Entries, Operand, enclosure
from ._product import Product
from ._rounding import add_up

_SMALL = 256  # rows up to which the matrix is written out at once


@dataclass(frozen=True, eq=False)
class LowRankPlusDiagonal(Operand):
    """`U V^T + diag(d)`, an operand for `spectral_norm_bound` and `operator_norm_bound`.

    Args:
        U: (n, k), a tensor of a real floating dtype, taken exactly, or a MidRad.
        V: (n, k), likewise.
        d: (n,), likewise.

    Raises:
        InputError: a shape that does not match, another dtype, NaN or infinity.
    """

    U: Tensor | MidRad
    V: Tensor | MidRad
    d: Tensor | MidRad

    _left: MidRad = field(init=False, repr=False)
    _right: MidRad = field(init=False, repr=False)
    _diagonal: MidRad = field(init=False, repr=False)

    def __post_init__(self) -> None:
        left, right, diagonal = enclosure(self.U, "U"), enclosure(self.V, "V"), enclosure(self.d, "d")
        shape = tuple(left.shape)
        if len(shape) != 2:
            raise InputError(f"U: a matrix (n, k) is needed, got shape {shape}")
        if tuple(right.shape) != shape:
            raise InputError(f"V: got shape {tuple(right.shape)}; U has {shape}, and V needs the same")
        if tuple(diagonal.shape) != shape[:1]:
            raise InputError(f"d: got shape {tuple(diagonal.shape)}; {shape[:1]} is needed for U of {shape}")
        for name, part in (("_left", left), ("_right", right), ("_diagonal", diagonal)):
            object.__setattr__(self, name, part)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self._left.shape[0], self._left.shape[0]

    def norm_bound(self, order: Order) -> Bound:
        """Proven upper bound of the norm from l_p to l_p.

        The least of: `max |d| + ||U V^T||`; for l2 and many rows the bound of `low_rank_bound`, which needs matrices of
        the size of the rank only; else the norm of the matrix written out, where it is not too large for that.
        """
        n, k = self._left.shape
        apart = self._bound_apart(order)
        small = n <= _SMALL or 4 * k >= n or order != "l2"
        known, method = math.inf, "secular equation"
        if not small:
            known = low_rank_bound(self._left, self._right, self._diagonal)
        if known == math.inf:
            known, method = self._bound_written_out(order), "written out"
        upper, method = (known, method) if known < apart else (apart, "max |d| + norm of the product")
        return Bound(upper, min(norm_estimate(self, order), upper), method)

    def _bound_apart(self, order: Order) -> float:
        d = self._diagonal.magnitude()
        largest = float(d.max()) if d.numel() else 0.0
        upper = float(add_up(largest, self._product().norm_bound(order).upper))
        return math.inf if math.isnan(upper) else upper

    def _product(self) -> Product:
        return Product(self._left, self._right.apply_exact(lambda t: t.T.contiguous()))

    def _bound_written_out(self, order: Order) -> float:
        values = self.entries()
        return math.inf if values is None else Entries(values).norm_bound(order).upper

    def apply(self, x: Tensor) -> Tensor:
        """About `U (V^T x) + d x`."""
        return self._left.mid @ (self._right.mid.T @ x) + self._diagonal.mid[:, None] * x

    def apply_transposed(self, y: Tensor) -> Tensor:
        """About `V (U^T y) + d y`."""
        return self._right.mid @ (self._left.mid.T @ y) + self._diagonal.mid[:, None] * y

    def entries(self) -> MidRad | None:
        """The matrix written out; None where it is too large."""
        n = self.shape[0]
        if n * n > LARGEST_DENSE:
            return None
        product = midrad.matmul(self._left, self._right.apply_exact(lambda t: t.T))
        return midrad.add(product, self._diagonal.apply_exact(torch.diag))

    def scaled(self, rows: MidRad, cols: MidRad) -> Operand | None:
        """`(R U) (C V)^T + diag(r d c)`."""
        left, right = (f.apply_exact(lambda t: t[:, None]) for f in (rows, cols))
        diagonal = midrad.mul(midrad.mul(self._diagonal, rows), cols)
        parts = midrad.mul(self._left, left), midrad.mul(self._right, right), diagonal
        return LowRankPlusDiagonal(*parts) if all(part.is_finite() for part in parts) else None
