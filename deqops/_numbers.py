"""Numbers as callers give them."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

from torch import Tensor


def as_number(value: object) -> float:
    """A real number, or a tensor that holds one, as the nearest float.

    NaN for all else: bools, words, integers beyond floats.
    """
    held = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
    if isinstance(held, bool) or not isinstance(held, Real):
        return math.nan
    try:
        return float(held)
    except OverflowError:
        return math.nan


def number_above(value: object) -> float:
    """`as_number`, the least float at or above where no float is that number."""
    number = as_number(value)
    return math.nextafter(number, math.inf) if math.isfinite(number) and _held(value) > number else number


def number_below(value: object) -> float:
    """`as_number`, the largest float at or below where no float is that number."""
    number = as_number(value)
    return math.nextafter(number, -math.inf) if math.isfinite(number) and _held(value) < number else number


def exact_number(value: object) -> float:
    """`as_number` where a float is exactly that number, else NaN."""
    number = as_number(value)
    return number if math.isfinite(number) and _held(value) == number else math.nan


def _held(value: object) -> Any:
    """The number itself: whole numbers and fractions are compared with floats exactly."""
    return value.item() if isinstance(value, Tensor) else value


def is_count(value: object, least: int = 0) -> bool:
    """Whether it is a whole number of at least so many; no bool."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
