"""The norms of claims: l1, l2 and linf, diagonally weighted or not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from deqops._errors import InputError

from ._rounding import add_up, div_up, gamma, mul_down, mul_up, sqrt_down, sqrt_up, sum_up

Order = Literal["l1", "l2", "linf"]


@dataclass(frozen=True, eq=False)
class Norm:
    """`||P y||` in l1, l2 or linf over all leaves of one problem's state, `P = diag(weights)`.

    Args:
        order: "l1" (sum of absolute values), "l2" (Euclidean) or "linf" (largest absolute value).
        weights: one tensor per leaf of the state, each positive, finite, float64 and of the leaf's shape for
            one problem (without the batch dimension); None for weights 1.

    Raises:
        InputError: an unknown order, or a weight that is not positive and finite.
    """

    order: Order
    weights: tuple[Tensor, ...] | None = None

    def __post_init__(self) -> None:
        weights: object = self.weights
        if not isinstance(self.order, str) or self.order not in get_args(Order):
            raise InputError(f"norm: got {self.order!r}; choose one of 'l1', 'l2', 'linf'")
        if weights is not None and not (isinstance(weights, tuple) and all(isinstance(w, Tensor) for w in weights)):
            raise InputError(f"norm: weights are a tuple of tensors, one per leaf, got {type(weights).__name__}")
        for weight in self.weights or ():
            if weight.dtype != torch.float64 or not bool((weight > 0).all() & weight.isfinite().all()):
                raise InputError("norm: every weight must be a positive finite float64 number")

    def describe(self) -> str:
        """The norm in words: "l2", "weighted linf"."""
        return self.order if self.weights is None else f"weighted {self.order}"

    def weight(self, leaf: int) -> Tensor | None:
        """The weights of one leaf of the state, or None."""
        return None if self.weights is None else self.weights[leaf]

    def upper(self, leaves: list[Tensor], batch_dims: int) -> Tensor:
        """Upper bound of the norm of nonnegative magnitudes, per problem.

        Args:
            leaves: nonnegative tensors, (batch, ...) each where `batch_dims` is 1.
            batch_dims: 1 or 0.

        Returns:
            (problems,) float64; one entry where `batch_dims` is 0.
        """
        flat = []
        for number, leaf in enumerate(leaves):
            weight = self.weight(number)
            scaled = leaf if weight is None else mul_up(leaf, weight)
            flat.append(scaled.reshape(scaled.shape[0] if batch_dims else 1, -1))
        bound = self._upper_flat(torch.cat(flat, dim=1))
        return torch.where(bound.isnan(), math.inf, bound)  # magnitudes that overflowed on the way bound nothing

    def _upper_flat(self, rows: Tensor) -> Tensor:
        if rows.shape[1] == 0:
            return rows.new_zeros(rows.shape[0])
        largest = rows.amax(dim=1)
        if self.order == "linf":
            return largest
        if self.order == "l1":
            return sum_up(rows, dim=1)
        # Scaling by a power of two is exact and keeps squares from overflowing or underflowing.
        scale = _power_of_two(largest)
        total = sum_up(mul_up(rows / scale[:, None], rows / scale[:, None]), dim=1)
        bound = mul_up(sqrt_up(add_up(total, torch.full_like(total, 2.0**-500))), scale)
        return torch.where(largest == 0, torch.zeros_like(bound), bound)

    def lower(self, leaves: list[Tensor], batch_dims: int) -> Tensor:
        """Lower bound of the norm of vectors whose entries have at least these magnitudes, per problem.

        Args:
            leaves: nonnegative tensors, as in `upper`.
            batch_dims: 1 or 0.

        Returns:
            (problems,) float64.
        """
        flat = []
        for number, leaf in enumerate(leaves):
            weight = self.weight(number)
            scaled = leaf if weight is None else mul_down(leaf, weight).clamp(min=0)
            flat.append(scaled.reshape(scaled.shape[0] if batch_dims else 1, -1))
        return self._lower_flat(torch.cat(flat, dim=1))

    def _lower_flat(self, rows: Tensor) -> Tensor:
        if rows.shape[1] == 0:
            return rows.new_zeros(rows.shape[0])
        largest = rows.amax(dim=1)
        if self.order == "linf":
            return largest
        # A sum of k nonnegative terms in any order is at most (1 + gamma_k) times the exact one.
        shrink = torch.full_like(largest, 1.0 - 2.0 * gamma(rows.shape[1] + 4))
        if self.order == "l1":
            return mul_down(rows.sum(dim=1), shrink)
        scale = _power_of_two(largest)
        shares = rows / scale[:, None]
        shares = torch.where(shares > 2.0**-400, shares, torch.zeros_like(shares))  # no underflow below
        total = mul_down((shares * shares).sum(dim=1), shrink).clamp(min=0)
        return mul_down(sqrt_down(total).clamp(min=0), scale)

    def radii(self, shapes: list[tuple[int, ...]], radius: float) -> list[Tensor]:
        """Entrywise half-widths of the box around a ball of this norm: `|y_i - c_i| <= radius / w_i`.

        Args:
            shapes: the shape of each leaf for one problem.
            radius: of the ball, in this norm.
        """
        boxes = []
        for number, shape in enumerate(shapes):
            weight = self.weight(number)
            full = torch.full(shape, radius, dtype=torch.float64)
            boxes.append(full if weight is None else div_up(full, weight))
        return boxes

    def to_linf(self, value: Tensor) -> Tensor:
        """Bound of the unweighted linf norm of a vector whose norm is at most `value`."""
        return value if self.weights is None else mul_up(value, self._largest_inverse())

    def to_l2(self, value: Tensor, size: int) -> Tensor:
        """Bound of the unweighted l2 norm of a vector of `size` entries whose norm is at most `value`."""
        if self.order != "linf":
            return self.to_linf(value)
        if self.weights is None:
            return mul_up(value, sqrt_up(torch.tensor(float(size), dtype=torch.float64)))
        inverse = [div_up(torch.ones_like(w), w)[None] for w in self.weights]
        return mul_up(value, Norm("l2").upper(inverse, batch_dims=0))

    def _largest_inverse(self) -> Tensor:
        smallest = min(float(weight.min()) for weight in self.weights or () if weight.numel())
        return div_up(torch.ones((), dtype=torch.float64), torch.tensor(smallest, dtype=torch.float64))


def _power_of_two(largest: Tensor) -> Tensor:
    """A power of two near each entry (1 where it is zero or not finite)."""
    usable = (largest > 0) & largest.isfinite()
    _, exponent = torch.frexp(torch.where(usable, largest, torch.ones_like(largest)))
    bits = (exponent.clamp(-900, 900).to(torch.int64) + 1023) << 52  # exact, unlike torch.pow
    return bits.view(torch.float64)


def as_norm(norm: str | Norm) -> Norm:
    """A norm from its name, "l1", "l2" or "linf"."""
    if isinstance(norm, Norm):
        return norm
    if not isinstance(norm, str) or norm not in get_args(Order):
        raise InputError(f"norm: got {norm!r}; choose 'auto', 'l1', 'l2', 'linf' or a deqops.verify.Norm")
    return Norm(norm)  # type: ignore[arg-type]


def finite(value: float) -> bool:
    """Whether a bound is a number that may enter a verdict."""
    return not math.isnan(value) and not math.isinf(value)
