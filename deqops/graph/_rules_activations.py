"""Activations that are written in others: each identity holds for every real number."""

from __future__ import annotations

from typing import Any

import torch

from deqops.graph._arguments import Arguments, applied, combined, literal, number, rank_of, reshaped, shape_of
from deqops.graph._lowering import Known, Lowering, lowers


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
