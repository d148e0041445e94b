"""Parts before and behind the point, and quotients with remainders, from `floor` and `ceil`: they jump."""

from __future__ import annotations

from typing import Any

from deqops.graph._arguments import Arguments, applied, combined, operand_item
from deqops.graph._items import Dynamic
from deqops.graph._lowering import Lowering, lowers


def _truncated(low: Lowering, x: Any) -> Dynamic:
    """floor(max(x, 0)) + ceil(min(x, 0))."""
    above = applied(low, "floor", applied(low, "relu", x))
    below = applied(low, "floor", applied(low, "relu", applied(low, "neg", x)))
    return combined(low, "sub", above, below)


def _quotient(low: Lowering, a: Arguments) -> Dynamic | None:
    """self / other where that is no quotient of integers."""
    quotient = combined(low, "div", a["self"], operand_item(a["other"], a["self"]))
    floating = (low.as_dynamic(item).meta.dtype.is_floating_point for item in (a["self"], a["other"]))
    return quotient if any(floating) else None


@lowers("trunc")
def _trunc(low: Lowering, a: Arguments) -> Any:
    return _truncated(low, a["self"])


@lowers("frac")
def _frac(low: Lowering, a: Arguments) -> Any:
    """x - trunc(x)."""
    return combined(low, "sub", a["self"], _truncated(low, a["self"]))


@lowers("floor_divide", "floor_divide.Scalar")
def _floor_divide(low: Lowering, a: Arguments) -> Any:
    quotient = _quotient(low, a)
    return NotImplemented if quotient is None else applied(low, "floor", quotient)


@lowers("div.Tensor_mode", "div.Scalar_mode")
def _divide(low: Lowering, a: Arguments) -> Any:
    quotient, mode = _quotient(low, a), a.get("rounding_mode")
    if quotient is None or mode not in (None, "floor", "trunc"):
        return NotImplemented
    return quotient if mode is None else _rounded(low, quotient, mode)


def _rounded(low: Lowering, quotient: Dynamic, mode: str) -> Dynamic:
    return applied(low, "floor", quotient) if mode == "floor" else _truncated(low, quotient)


@lowers("remainder.Tensor", "remainder.Scalar", "fmod.Tensor", "fmod.Scalar")
def _remainder(low: Lowering, a: Arguments) -> Any:
    """x - y floor(x / y), of the sign of y; with trunc instead of floor, of the sign of x, it is `fmod`."""
    quotient = _quotient(low, a)
    if quotient is None:
        return NotImplemented
    whole = _rounded(low, quotient, "floor" if low.source.startswith("aten.remainder") else "trunc")
    multiple = combined(low, "mul", operand_item(a["other"], a["self"]), whole)
    return combined(low, "sub", a["self"], multiple)
