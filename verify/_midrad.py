"""Midpoint-radius numbers: tensors of intervals `[mid - rad, mid + rad]`, entry by entry.

Each function returns an enclosure of the exact result for every choice of operands in theirs. Overflow, NaN and
division by an interval that contains 0 give an infinite or NaN radius, never a wrong finite one; an exactly
infinite value (radius 0) is kept, so that masked divisions by a zero degree work as they do in the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from deqops._errors import InputError

from ._rounding import (
    TINY,
    U,
    add_down,
    add_up,
    div_up,
    gamma,
    matmul_up,
    mul_up,
    plus_up,
    product_error_up,
    sub_down,
    sub_up,
    sum_up,
    times_up,
    two_sum,
)


@dataclass(frozen=True, eq=False)
class MidRad:
    """Every x with `|x - mid| <= rad`, entrywise; both float64 of one shape, rad >= 0."""

    mid: Tensor
    rad: Tensor

    def __post_init__(self) -> None:
        if self.mid.requires_grad or self.rad.requires_grad:  # bounds have no derivatives
            object.__setattr__(self, "mid", self.mid.detach())
            object.__setattr__(self, "rad", self.rad.detach())

    @staticmethod
    def exact(values: Tensor) -> MidRad:
        """Numbers that are known exactly."""
        return MidRad(values, torch.zeros_like(values))

    @staticmethod
    def from_bounds(lower: Tensor, upper: Tensor) -> MidRad:
        """The intervals [lower, upper]; a half-open one becomes the whole line."""
        point = lower == upper
        mid = torch.where(point, lower, lower / 2 + upper / 2)
        rad = torch.maximum(sub_up(upper, mid), sub_up(mid, lower))
        open_ = (lower.isinf() | upper.isinf()) & ~point & ~lower.isnan() & ~upper.isnan()
        mid, rad = torch.where(open_, 0.0, mid), torch.where(open_, math.inf, rad)
        rad = torch.where(lower > upper, math.nan, rad)  # no such interval: poisoned, not believed
        return MidRad(mid, torch.where(point, torch.zeros_like(rad), rad))

    @property
    def shape(self) -> torch.Size:
        """The tensor's shape."""
        return self.mid.shape

    def lower(self) -> Tensor:
        """The lower end."""
        return torch.where(self.rad == 0, self.mid, sub_down(self.mid, self.rad))

    def upper(self) -> Tensor:
        """The upper end."""
        return torch.where(self.rad == 0, self.mid, add_up(self.mid, self.rad))

    def magnitude(self) -> Tensor:
        """Upper bound of |x|."""
        size = self.mid.abs()
        return size if self.is_exact() else torch.where(self.rad == 0, size, plus_up(size, self.rad))

    def mignitude(self) -> Tensor:
        """Lower bound of |x|, at least 0."""
        return torch.where(self.rad == 0, self.mid.abs(), sub_down(self.mid.abs(), self.rad).clamp(min=0))

    def is_exact(self) -> bool:
        """Whether every radius is 0."""
        return not int(torch.count_nonzero(self.rad))  # NaN counts

    def is_finite(self) -> bool:
        """Whether every midpoint and radius is a number."""
        return all(math.isfinite(end) for part in (self.mid, self.rad) if part.numel() for end in _ends(part))

    def apply_exact(self, movement: Callable[[Tensor], Tensor]) -> MidRad:
        """The same movement of entries applied to midpoints and radii."""
        return MidRad(movement(self.mid), movement(self.rad))


def _is_finite(x: Tensor) -> bool:
    """Whether x is known to hold numbers alone, by their sum; a sum that overflows tells nothing."""
    return math.isfinite(x.sum())


def _ends(x: Tensor) -> tuple[float, float]:
    """The least and the largest entry in one pass, NaN where an entry is."""
    least, largest = torch.aminmax(x)
    return float(least), float(largest)


def _is_power_of_two(x: Tensor) -> Tensor:
    mantissa, _ = torch.frexp(x)
    return mantissa.abs() == 0.5


def _product_error(a: Tensor, b: Tensor, product: Tensor) -> Tensor:
    """Bound of |fl(ab) - ab|: 0 where a factor is 0 or a power of two and nothing underflows."""
    size = product.abs()
    scaling = (_is_power_of_two(a) | _is_power_of_two(b)) & (size >= 2.0**-1021)
    exact = scaling | (a == 0) | (b == 0)
    error = plus_up(size * U, TINY)  # half of TINY for the product, half for this one
    return torch.where(exact & product.isfinite(), torch.zeros_like(error), error)


def add(a: MidRad, b: MidRad) -> MidRad:
    """a + b."""
    mid, error = two_sum(a.mid, b.mid)
    error.abs_()
    if not _is_finite(error):
        infinite = mid.isinf() & (a.mid.isinf() | b.mid.isinf())
        error = torch.where(infinite, 0.0, torch.where(error.isnan(), math.inf, error))
    exact = a.is_exact(), b.is_exact()
    spread = a.rad if exact[1] else b.rad if exact[0] else plus_up(a.rad, b.rad)
    return MidRad(mid, plus_up(error, spread) if not all(exact) else error)


def neg(a: MidRad) -> MidRad:
    """-a."""
    return MidRad(-a.mid, a.rad)


def sub(a: MidRad, b: MidRad) -> MidRad:
    """a - b."""
    return add(a, neg(b))


def mul(a: MidRad, b: MidRad) -> MidRad:
    """a * b."""
    mid = a.mid * b.mid
    rad = _product_error(a.mid, b.mid, mid)
    if not b.is_exact():
        rad = plus_up(rad, times_up(a.mid.abs(), b.rad))
    if not a.is_exact():
        rad = plus_up(rad, times_up(a.rad, plus_up(b.mid.abs(), b.rad)))
    return MidRad(mid, rad)


def div(a: MidRad, b: MidRad) -> MidRad:
    """a / b: `|x/y - q| <= (|a - q b| + ra + |q| rb) / min |y|`."""
    q = a.mid / b.mid
    least = b.mignitude()
    scaling = _is_power_of_two(b.mid) & ((q.abs() >= 2.0**-1021) | (a.mid == 0)) & q.isfinite()
    local = times_up(plus_up(q.abs() * U, TINY), b.mid.abs())
    local = torch.where(scaling | ((a.mid == 0) & (least > 0)), torch.zeros_like(local), local)
    rad = div_up(plus_up(local, plus_up(a.rad, times_up(q.abs(), b.rad))), least)
    return _without_zero_divisor(q, rad, least)


def _without_zero_divisor(mid: Tensor, rad: Tensor, least: Tensor) -> MidRad:
    open_ = ~(least > 0)
    return MidRad(torch.where(open_, torch.zeros_like(mid), mid), torch.where(open_, math.inf, rad))


def absolute(a: MidRad) -> MidRad:
    """|a|."""
    apart = a.rad <= a.mid.abs()
    crossing = MidRad.from_bounds(torch.zeros_like(a.mid), a.magnitude())
    return MidRad(torch.where(apart, a.mid.abs(), crossing.mid), torch.where(apart, a.rad, crossing.rad))


def matmul(a: MidRad, b: MidRad) -> MidRad:
    """a @ b with torch.matmul's shapes: radius `|A| rB + rA (|B| + rB) + gamma |A||B|`."""
    mid = a.mid @ b.mid
    left, right = a.mid.abs(), b.mid.abs()
    rad = product_error_up(left, right)
    if not b.is_exact():
        rad = plus_up(rad, matmul_up(left, b.rad))
    if not a.is_exact():
        rad = plus_up(rad, matmul_up(a.rad, plus_up(right, b.rad)))
    return _open_if_overflown(mid, rad)


def _open_if_overflown(mid: Tensor, rad: Tensor) -> MidRad:
    """The whole line where the midpoint is no number, whatever the radius."""
    if _is_finite(mid):
        return MidRad(mid, rad)
    return MidRad(mid, torch.where(mid.isfinite(), rad, math.inf))


def sum_(x: MidRad, dims: Any, keepdim: bool) -> MidRad:
    """The sum over dimensions."""
    axes = tuple(dims)
    if not axes:
        return x
    mid = x.mid.sum(dim=axes, keepdim=keepdim)
    terms = max(x.mid.numel() // max(mid.numel(), 1), 1)
    rounding = mul_up(sum_up(x.mid.abs(), axes, keepdim=keepdim), gamma(terms))
    return _open_if_overflown(mid, plus_up(sum_up(x.rad, axes, keepdim=keepdim), rounding))


def mean(x: MidRad, dims: Any, keepdim: bool) -> MidRad:
    """The mean over dimensions."""
    total = sum_(x, dims, keepdim)
    count = max(x.mid.numel() // max(total.mid.numel(), 1), 1)
    return div(total, MidRad.exact(torch.full_like(total.mid, float(count))))


def maximum(a: MidRad, b: MidRad) -> MidRad:
    """The larger of two."""
    lower = torch.maximum(a.lower(), b.lower())
    return MidRad.from_bounds(lower, torch.maximum(a.upper(), b.upper()))


def minimum(a: MidRad, b: MidRad) -> MidRad:
    """The smaller of two."""
    return neg(maximum(neg(a), neg(b)))


def where(condition: Tensor, a: MidRad, b: MidRad) -> MidRad:
    """a where the condition holds, b elsewhere."""
    return MidRad(torch.where(condition, a.mid, b.mid), torch.where(condition, a.rad, b.rad))


def index_add(base: MidRad, dim: int, index: Tensor, source: MidRad) -> MidRad:
    """base plus the sum of source's slices at index, in any order of summation."""
    mid = base.mid.index_add(dim, index, source.mid)
    additions = int(torch.bincount(index).max()) if index.numel() else 0
    if not bool((base.mid != 0).any()):
        additions = max(additions - 1, 0)  # the first term replaces an exact zero
    grown = 1.0 + 2.0 * gamma(additions + 2)
    moduli = mul_up(base.mid.abs().index_add(dim, index, source.mid.abs()), grown)
    spread = base.rad.index_add(dim, index, source.rad)
    spread = torch.where(spread == 0, spread, mul_up(spread, grown))
    if not additions:
        return MidRad(mid, spread)
    return _open_if_overflown(mid, plus_up(spread, mul_up(moduli, gamma(additions))))


_COMPARISONS = {
    "eq": torch.eq,
    "ne": torch.ne,
    "lt": torch.lt,
    "le": torch.le,
    "gt": torch.gt,
    "ge": torch.ge,
}


def compare(operation: str, a: MidRad, b: MidRad) -> tuple[Tensor, Tensor]:
    """(decided, truth): where the enclosures decide the comparison, and what it is there."""
    if operation not in _COMPARISONS:
        raise InputError(f"compare: got {operation!r}; choose one of {', '.join(_COMPARISONS)}")
    exact = (a.rad == 0) & (b.rad == 0) & ~a.mid.isnan() & ~b.mid.isnan()
    apart = (a.lower() > b.upper()) | (a.upper() < b.lower())
    return exact | apart, _COMPARISONS[operation](a.mid, b.mid)


def intersect(a: MidRad, lower: Tensor, upper: Tensor) -> MidRad:
    """The part of a within [lower, upper], where both are known to contain the value."""
    low = torch.maximum(a.lower(), lower)
    return MidRad.from_bounds(low, torch.maximum(low, torch.minimum(a.upper(), upper)))


def shifted_bounds(a: MidRad, radius: Tensor) -> tuple[Tensor, Tensor]:
    """`(lower - radius, upper + radius)`."""
    return add_down(a.lower(), -radius), add_up(a.upper(), radius)
