"""Kronecker products and their proven norms; the product is never formed for a norm."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from deqops._errors import InputError

from . import _midrad as midrad
from ._bound import Bound
from ._matrix import LARGEST_DENSE
from ._midrad import MidRad
from ._norm import Order
from ._operand import Operand, as_operand
from ._product import bounds_product


@dataclass(frozen=True, eq=False, init=False)
class Kronecker(Operand):
    """`A_1 (x) A_2 (x) ...`, an operand for `spectral_norm_bound` and `operator_norm_bound`.

    `||A (x) B|| = ||A|| ||B||` in l1, l2 and linf.

    Args:
        factors: what `as_operand` knows; at least one.

    Raises:
        InputError: a factor of an unknown type, by its number.
    """

    factors: tuple[Operand, ...]

    def __init__(self, *factors: Any) -> None:
        if not factors:
            raise InputError("factors: none given; a Kronecker product needs at least one matrix")
        parts = tuple(as_operand(factor, f"factor {number}") for number, factor in enumerate(factors, 1))
        object.__setattr__(self, "factors", parts)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return math.prod(f.shape[0] for f in self.factors), math.prod(f.shape[1] for f in self.factors)

    def norm_bound(self, order: Order) -> Bound:
        """Proven upper bound of the norm from l_p to l_p; the contributions are the factors' norms."""
        parts = [factor.norm_bound(order) for factor in self.factors]
        upper = bounds_product([part.upper for part in parts])
        estimate = math.prod(part.lower_estimate for part in parts)
        gains = tuple((f"factor {number}", part.upper) for number, part in enumerate(parts, 1))
        return Bound(upper, min(estimate, upper) if estimate < math.inf else 0.0, "product of norms", gains)

    def apply(self, x: Tensor) -> Tensor:
        """About `(A_1 (x) A_2 ...) x`, each factor along its own dimension."""
        return self._along_dimensions(x, transposed=False)

    def apply_transposed(self, y: Tensor) -> Tensor:
        """About `(A_1 (x) A_2 ...)^T y`."""
        return self._along_dimensions(y, transposed=True)

    def _along_dimensions(self, x: Tensor, transposed: bool) -> Tensor:
        columns = x.shape[1]
        block = x.reshape(*(f.shape[0 if transposed else 1] for f in self.factors), columns)
        for dim, factor in enumerate(self.factors):
            front = block.movedim(dim, 0)
            flat = front.reshape(front.shape[0], math.prod(front.shape[1:]))
            moved = (factor.apply_transposed if transposed else factor.apply)(flat)
            block = moved.reshape(moved.shape[0], *front.shape[1:]).movedim(0, dim)
        return block.reshape(math.prod(block.shape[:-1]), columns)

    def entries(self) -> MidRad | None:
        """The product written out; None where it is too large."""
        if math.prod(self.shape) > LARGEST_DENSE:
            return None
        total = MidRad.exact(torch.ones(1, 1, dtype=torch.float64))
        for factor in self.factors:
            values = factor.entries()
            if values is None:
                return None
            blocks = midrad.mul(_spread(total, (1, 3)), _spread(values, (0, 2)))
            shape = total.shape[0] * values.shape[0], total.shape[1] * values.shape[1]
            total = MidRad(blocks.mid.reshape(shape), blocks.rad.reshape(shape))
        return total


def _spread(A: MidRad, dims: tuple[int, int]) -> MidRad:
    return A.apply_exact(lambda t: t.unsqueeze(dims[0]).unsqueeze(dims[1]))
