"""Arithmetic on sizes: a tiny interpreter over Python numbers for the size computations of an export."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence

from deqops._errors import ModelFileError, UnsupportedOperationError

Number = bool | int | float

_LIMIT = 2**63


def _power(base: Number, exponent: Number) -> Number:
    if abs(exponent) > 64:
        raise ModelFileError(f"model file: size exponent {exponent} is too large")
    return base**exponent


_FUNCTIONS: Mapping[str, Callable[..., Number]] = {
    "sym.add": operator.add,
    "sym.sub": operator.sub,
    "sym.mul": operator.mul,
    "sym.floordiv": operator.floordiv,
    "sym.mod": operator.mod,
    "sym.truediv": operator.truediv,
    "sym.neg": operator.neg,
    "sym.pos": operator.pos,
    "sym.abs": abs,
    "sym.pow": _power,
    "sym.eq": operator.eq,
    "sym.ne": operator.ne,
    "sym.lt": operator.lt,
    "sym.le": operator.le,
    "sym.gt": operator.gt,
    "sym.ge": operator.ge,
    "sym.and_": operator.and_,
    "sym.or_": operator.or_,
    "sym.not_": operator.not_,
    "sym.max": max,
    "sym.min": min,
    "sym.float": float,
    "sym.trunc": math.trunc,
    "sym.floor": math.floor,
    "sym.ceil": math.ceil,
}

_EXPORTED = {
    "_operator": ("", _FUNCTIONS),
    "math": ("", {"sym.trunc": None, "sym.floor": None, "sym.ceil": None}),
    "torch": ("sym_", {"sym.max": None, "sym.min": None, "sym.float": None}),
}


def scalar_name(target: str) -> str | None:
    """Our name of an exported scalar operation ("_operator.add" -> "sym.add"), or None if it is not one."""
    module, _, name = target.rpartition(".")
    prefix, functions = _EXPORTED.get(module, ("", {}))
    if not name.startswith(prefix):
        return None
    ours = "sym." + name.removeprefix(prefix)
    return ours if ours in functions else None


def evaluate(name: str, arguments: Sequence[object]) -> Number:
    """The result of a scalar operation; everything stays within 64 bits."""
    if not all(isinstance(argument, (bool, int, float)) for argument in arguments):
        raise UnsupportedOperationError(name, "its arguments are not plain numbers")
    try:
        result = _FUNCTIONS[name](*arguments)
    except (ArithmeticError, TypeError, ValueError) as error:
        raise ModelFileError(f"model file: the size computation {name}{tuple(arguments)} fails: {error}") from error
    if not isinstance(result, (bool, int, float)) or not abs(result) < _LIMIT:
        raise ModelFileError(f"model file: the size computation {name} leaves the range of 64-bit integers")
    return result
