"""Numbers as callers give them."""

from __future__ import annotations

import contextlib
import math
from numbers import Integral, Real
from typing import Any

from torch import Tensor

LARGEST_COUNT = 2**62
"""What counts beyond it mean: without limit. Sums of two still fit into 64 bits."""


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
    """Whether it is a whole number of at least so many, Python's or NumPy's; no bool."""
    return not isinstance(value, bool) and isinstance(value, Integral) and int(value) >= least


def is_number(value: object) -> bool:
    """Whether it is a real number, Python's or NumPy's; no bool, no tensor."""
    return isinstance(value, Real) and not isinstance(value, bool)


def keep_plain(record: object, *names: str) -> None:
    """Make these settings of a frozen record Python's own numbers; what is no number that they hold stays."""
    for name in names:
        value = getattr(record, name)
        if is_number(value):
            with contextlib.suppress(OverflowError):
                object.__setattr__(record, name, int(value) if isinstance(value, Integral) else float(value))
