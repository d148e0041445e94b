"""Slopes of elementwise functions over all of R: verified bounds of every difference quotient."""

from __future__ import annotations

import math
from collections.abc import Mapping

from deqops._errors import InputError, UnsupportedOperationError

# Slopes over all of R, rounded outwards (extrema of the derivative at +-sqrt(2) for GELU, +-1.41850 for its tanh
# form, +-2.39936 for SiLU, 1.49057 and -2.25638 for Mish).
GLOBAL_SLOPES: dict[str, tuple[float, float]] = {
    "tanh": (0.0, 1.0),
    "relu": (0.0, 1.0),
    "relu6": (0.0, 1.0),
    "hardtanh": (0.0, 1.0),
    "clamp": (0.0, 1.0),
    "softsign": (0.0, 1.0),
    "softplus": (0.0, 1.0),
    "abs": (-1.0, 1.0),
    "sigmoid": (0.0, 0.25),
    "gelu": (-0.1289042, 1.1289042),
    "gelu tanh": (-0.1289931, 1.1289931),
    "silu": (-0.0998394, 1.0998394),
    "mish": (-0.1125262, 1.0884982),
    "erf": (0.0, 1.1283792),
    "atan": (0.0, 1.0),
    "hardswish": (-0.5, 1.5),
    "selu": (0.0, 1.7580994),
    "sin": (-1.0, 1.0),
    "cos": (-1.0, 1.0),
}


def global_slopes(operation: str, values: Mapping[str, object]) -> tuple[float, float] | None:
    """Verified bounds (lower, upper) of all difference quotients on R; None where there are none, or none is known.

    Raises:
        InputError: an attribute is no finite number.
        UnsupportedOperationError: softplus with a threshold at which torch's jumps.
    """
    if operation == "leaky_relu":
        slope = number_of(values, "negative_slope", 0.01)
        return min(1.0, slope), max(1.0, slope)
    if operation == "elu":
        alpha = number_of(values, "alpha", 1.0)
        return (0.0, max(1.0, alpha)) if alpha >= 0 else None
    if operation == "softplus":
        require_smooth(number_of(values, "beta", 1.0), number_of(values, "threshold", 20.0))
    if operation == "gelu" and values.get("approximate", "none") != "none":
        return GLOBAL_SLOPES["gelu tanh"]
    return GLOBAL_SLOPES.get(operation)


def number_of(values: Mapping[str, object], name: str, default: float) -> float:
    """A finite attribute."""
    value = values.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"attribute {name}: a finite number is needed, got {value!r}")
    return float(value)


def require_smooth(beta: float, threshold: float) -> None:
    """Refuse torch's softplus where it is further than 2.1e-9 from the smooth function, or none."""
    if not (0 < beta < math.inf and threshold >= 20):
        raise UnsupportedOperationError("softplus", f"with beta {beta}, threshold {threshold} has no rule")
