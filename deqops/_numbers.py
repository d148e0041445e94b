"""Numbers as callers give them."""

from __future__ import annotations

import math
from numbers import Real

from torch import Tensor


def as_number(value: object) -> float:
    """A real number, or a tensor that holds one, as a float; NaN for all else: bools, words, integers beyond floats."""
    held = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
    if isinstance(held, bool) or not isinstance(held, Real):
        return math.nan
    try:
        return float(held)
    except OverflowError:
        return math.nan


def is_count(value: object, least: int = 0) -> bool:
    """Whether it is a whole number of at least so many; no bool."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
