"""Activations that are written in others: each identity holds for every real number."""

from __future__ import annotations

from typing import Any

import torch

from deqops.graph._arguments import (
    Arguments,
    applied,
    combined,
    in_dtype,
    literal,
    number,
    rank_of,
    reshaped,
    shape_of,
)
from deqops.graph._items import Dynamic, Known
from deqops.graph._lowering import Lowering, lowers


@lowers("celu")
def _celu(low: Lowering, a: Arguments) -> Any:
    """alpha elu(x / alpha)."""
    alpha = float(number(a.get("alpha", 1.0)))
    if not alpha > 0:
        return NotImplemented
    inner = a["self"] if alpha == 1.0 else combined(low, "div", a["self"], literal(alpha))
    result = low.emit("elu", [inner], torch.nn.functional.elu, alpha=1.0)
    return result if alpha == 1.0 else combined(low, "mul", result, literal(alpha))


@lowers("log_sigmoid")
def _log_sigmoid(low: Lowering, a: Arguments) -> Any:
    """-softplus(-x)."""
    negative = applied(low, "neg", a["self"])
    smooth = low.emit("softplus", [negative], torch.nn.functional.softplus, beta=1.0, threshold=20.0)
    return applied(low, "neg", smooth)


@lowers("softshrink")
def _softshrink(low: Lowering, a: Arguments) -> Any:
    """x - clamp(x, -lambda, lambda)."""
    width = float(number(a.get("lambd", 0.5)))
    if not width >= 0:
        return NotImplemented
    middle = low.emit("clamp", [a["self"]], lambda x: x.clone(), minimum=-width, maximum=width)
    return combined(low, "sub", a["self"], middle)


@lowers("hardshrink")
def _hardshrink(low: Lowering, a: Arguments) -> Any:
    """x where |x| > lambda, else 0: it jumps."""
    condition = low.emit("gt", [applied(low, "abs", a["self"]), literal(float(number(a.get("lambd", 0.5))))], torch.gt)
    return low.emit("where", [condition, a["self"], literal(0.0)], torch.where)


@lowers("threshold")
def _threshold(low: Lowering, a: Arguments) -> Any:
    """x where x > t, else a value: max(x, t) where the value is t, else it jumps."""
    t, value = float(number(a["threshold"])), float(number(a["value"]))
    if t == value:
        return low.emit("clamp", [a["self"]], lambda x: x.clone(), minimum=t, maximum=None)
    condition = low.emit("gt", [a["self"], literal(t)], torch.gt)
    return low.emit("where", [condition, a["self"], literal(value)], torch.where)


@lowers("prelu")
def _prelu(low: Lowering, a: Arguments) -> Any:
    """w x + (1 - w) relu(x), the weight one number or one for each entry of dimension 1."""
    x, weight = low.as_dynamic(a["self"]), a["weight"]
    leaf = None if isinstance(weight, Known) else low.leaves.get(weight.number)
    if leaf is not None and leaf.kind == "parameter" and leaf.tensor.numel() == 1:
        slope = float(leaf.tensor)
        return low.emit("leaky_relu", [x], torch.nn.functional.leaky_relu, negative_slope=slope)
    rank, size = rank_of(x), shape_of(low.as_dynamic(weight))
    if size not in ((1,), ()):
        weight = reshaped(low, weight, (1,) * min(1, rank - 1) + (-1,) + (1,) * (rank - 2), [])
    rest = combined(low, "sub", literal(1.0), weight)
    return combined(low, "add", combined(low, "mul", x, weight), combined(low, "mul", applied(low, "relu", x), rest))


@lowers("rrelu")
def _rrelu(low: Lowering, a: Arguments) -> Any:
    """Outside training the mean slope, in torch's arithmetic."""
    if a.get("training", False):
        return NotImplemented
    slope = (float(number(a.get("lower", 0.125))) + float(number(a.get("upper", 1.0 / 3.0)))) / 2
    return low.emit("leaky_relu", [a["self"]], torch.nn.functional.leaky_relu, negative_slope=slope)


@lowers("erfc")
def _erfc(low: Lowering, a: Arguments) -> Any:
    """1 - erf(x)."""
    return combined(low, "sub", literal(1.0), applied(low, "erf", a["self"]))


@lowers("logaddexp")
def _logaddexp(low: Lowering, a: Arguments) -> Any:
    """log(e^a + e^b) = b + softplus(a - b)."""
    gap = combined(low, "sub", a["self"], a["other"])
    smooth = low.emit("softplus", [gap], torch.nn.functional.softplus, beta=1.0, threshold=20.0)
    return combined(low, "add", a["other"], smooth)


def _natural(low: Lowering, base: float, like: Any) -> Any:
    """The natural logarithm of a base, enclosed where it is needed."""
    return in_dtype(low, applied(low, "log", literal(base)), low.as_dynamic(like).meta.dtype)


@lowers("log2", "log10")
def _other_logarithm(low: Lowering, a: Arguments) -> Any:
    base = 2.0 if low.source == "aten.log2.default" else 10.0
    return combined(low, "div", applied(low, "log", a["self"]), _natural(low, base, a["self"]))


@lowers("exp2")
def _exp2(low: Lowering, a: Arguments) -> Any:
    return applied(low, "exp", combined(low, "mul", a["self"], _natural(low, 2.0, a["self"])))


@lowers("hypot")
def _hypotenuse(low: Lowering, a: Arguments) -> Any:
    """sqrt(x^2 + y^2)."""
    squares = [applied(low, "square", a[key]) for key in ("self", "other")]
    return applied(low, "sqrt", combined(low, "add", *squares))


@lowers("sinh", "cosh")
def _hyperbolic(low: Lowering, a: Arguments) -> Any:
    """(e^x -+ e^-x) / 2."""
    op = "sub" if low.source == "aten.sinh.default" else "add"
    both = combined(low, op, applied(low, "exp", a["self"]), applied(low, "exp", applied(low, "neg", a["self"])))
    return combined(low, "div", both, literal(2.0))


@lowers("asinh", "acosh")
def _inverse_hyperbolic(low: Lowering, a: Arguments) -> Any:
    """log(x + sqrt(x^2 +- 1))."""
    op = "add" if low.source == "aten.asinh.default" else "sub"
    root = applied(low, "sqrt", combined(low, op, applied(low, "square", a["self"]), literal(1.0)))
    return applied(low, "log", combined(low, "add", a["self"], root))


@lowers("atanh")
def _inverse_tangent(low: Lowering, a: Arguments) -> Any:
    """(log(1 + x) - log(1 - x)) / 2."""
    sides = applied(low, "log1p", a["self"]), applied(low, "log1p", applied(low, "neg", a["self"]))
    return combined(low, "div", combined(low, "sub", *sides), literal(2.0))


@lowers("asin")
def _arcsine(low: Lowering, a: Arguments) -> Any:
    """atan(x / sqrt(1 - x^2)), for abs(x) < 1."""
    root = applied(low, "sqrt", combined(low, "sub", literal(1.0), applied(low, "square", a["self"])))
    return applied(low, "atan", combined(low, "div", a["self"], root))


@lowers("acos")
def _arccosine(low: Lowering, a: Arguments) -> Any:
    """2 atan(sqrt((1 - x) / (1 + x))), for abs(x) < 1."""
    sides = (combined(low, op, literal(1.0), a["self"]) for op in ("sub", "add"))
    half = applied(low, "atan", applied(low, "sqrt", combined(low, "div", *sides)))
    return combined(low, "mul", half, literal(2.0))


@lowers("atan2")
def _argument(low: Lowering, a: Arguments) -> Any:
    return angle_of(low, a["other"], a["self"])


def angle_of(low: Lowering, x: Any, y: Any) -> Dynamic:
    """2 atan(y / (sqrt(x^2 + y^2) + x)): of points off the negative half of the first axis."""
    size = applied(low, "sqrt", combined(low, "add", applied(low, "square", x), applied(low, "square", y)))
    half = applied(low, "atan", combined(low, "div", y, combined(low, "add", size, x)))
    return combined(low, "mul", half, literal(2.0))


@lowers("tan")
def _tangent(low: Lowering, a: Arguments) -> Any:
    """sin(x) / cos(x)."""
    return combined(low, "div", applied(low, "sin", a["self"]), applied(low, "cos", a["self"]))


@lowers("nan_to_num")
def _finite(low: Lowering, a: Arguments) -> Any:
    """x itself, of numbers: times 1, through which no infinity passes, as it does among masked scores."""
    return combined(low, "mul", a["self"], literal(1.0))


@lowers("logit")
def _logit(low: Lowering, a: Arguments) -> Any:
    """log(x / (1 - x)), the argument kept eps away from the ends."""
    x = low.as_dynamic(a["self"])
    if a.get("eps") is not None:
        eps = float(number(a["eps"]))
        x = low.emit("clamp", [x], lambda t: t.clone(), minimum=eps, maximum=1.0 - eps)
    return applied(low, "log", combined(low, "div", x, combined(low, "sub", literal(1.0), x)))
