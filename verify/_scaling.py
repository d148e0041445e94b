"""Enclosures scaled by powers of two: exact, but for what underflows, which the radii take in."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from . import _midrad as midrad
from ._midrad import MidRad
from ._rounding import Number, mul_down, mul_up


def exponent_of(largest: float) -> int:
    """The e with `largest 2^-e` in [1/2, 1); 0 for 0, infinity and NaN."""
    return math.frexp(largest)[1] if 0 < largest < math.inf else 0


def times_power_of_two(x: MidRad, exponent: int) -> MidRad:
    """`x 2^exponent`, in two steps since 2^1024 is no float."""
    if exponent == 0:
        return x
    half = exponent // 2
    return midrad.mul(midrad.mul(x, _power(half)), _power(exponent - half))


def power_of_two_up(value: Number, exponent: int) -> Tensor:
    """Upper bound of `value 2^exponent`."""
    half = exponent // 2
    return _times(_times(value, half, mul_up), exponent - half, mul_up)


def power_of_two_down(value: Number, exponent: int) -> Tensor:
    """Lower bound of `value 2^exponent`."""
    half = exponent // 2
    return _times(_times(value, half, mul_down), exponent - half, mul_down)


def _times(value: Number, exponent: int, rounded: Callable[[Number, Number], Tensor]) -> Tensor:
    """`value 2^exponent`, exact unless it underflows or overflows."""
    factor = math.ldexp(1.0, exponent)
    product = torch.as_tensor(value, dtype=torch.float64) * factor
    exact = (product.abs() >= 2.0**-1021) & product.isfinite()
    return torch.where(exact, product, rounded(value, factor))


def ldexp(value: float, exponent: int) -> float:
    """`value 2^exponent` to nearest, infinite where it overflows: for estimates."""
    try:
        return math.ldexp(value, exponent)
    except OverflowError:
        return math.inf


def _power(exponent: int) -> MidRad:
    return MidRad.exact(torch.tensor(math.ldexp(1.0, exponent), dtype=torch.float64))
