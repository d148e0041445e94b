"""Elementwise functions, arithmetic, comparisons and choices."""

from __future__ import annotations

from typing import Any

import torch

from deqops._errors import UnsupportedOperationError
from deqops.graph._arguments import (
    Arguments,
    applied,
    combined,
    filling,
    in_dtype,
    indicator,
    knowns,
    literal,
    number,
    operand_item,
    scaled,
    shape_of,
)
from deqops.graph._integers import limits
from deqops.graph._items import Dynamic, Known
from deqops.graph._lowering import Lowering, lowers

_UNARY = [
    "tanh",
    "sigmoid",
    "relu",
    "relu6",
    "silu",
    "abs",
    "neg",
    "exp",
    "expm1",
    "log",
    "log1p",
    "sqrt",
    "rsqrt",
    "reciprocal",
    "erf",
    "atan",
    "sin",
    "cos",
    "square",
    "sign",
    "floor",
    "ceil",
    "round",
    "hardswish",
    "mish",
    "selu",
]


def _unary(name: str) -> None:
    function = getattr(torch, name, None) or getattr(torch.nn.functional, name)

    @lowers(name)
    def rule(low: Lowering, a: Arguments) -> Any:
        if name == "selu" and a.get("self") is None:
            return NotImplemented
        return low.emit(name, [a["self"]], function)


for _name in _UNARY:
    _unary(_name)


@lowers("leaky_relu")
def _leaky_relu(low: Lowering, a: Arguments) -> Any:
    slope = float(a.get("negative_slope", 0.01))
    return low.emit("leaky_relu", [a["self"]], torch.nn.functional.leaky_relu, negative_slope=slope)


@lowers("elu")
def _elu(low: Lowering, a: Arguments) -> Any:
    """scale (x for x > 0, alpha (e^x - 1) below)."""
    scale = float(a.get("scale", 1.0))
    if float(a.get("input_scale", 1.0)) != 1.0:
        return NotImplemented
    result = low.emit("elu", [a["self"]], torch.nn.functional.elu, alpha=float(a.get("alpha", 1.0)))
    return result if scale == 1.0 else combined(low, "mul", result, literal(scale))


@lowers("gelu")
def _gelu(low: Lowering, a: Arguments) -> Any:
    return low.emit("gelu", [a["self"]], torch.nn.functional.gelu, approximate=str(a.get("approximate", "none")))


@lowers("softplus")
def _softplus(low: Lowering, a: Arguments) -> Any:
    beta, threshold = float(a.get("beta", 1.0)), float(a.get("threshold", 20.0))
    return low.emit("softplus", [a["self"]], torch.nn.functional.softplus, beta=beta, threshold=threshold)


@lowers("hardtanh")
def _hardtanh(low: Lowering, a: Arguments) -> Any:
    low_end, high_end = float(a.get("min_val", -1.0)), float(a.get("max_val", 1.0))
    return low.emit("hardtanh", [a["self"]], torch.nn.functional.hardtanh, minimum=low_end, maximum=high_end)


@lowers("linspace")
def _linspace(low: Lowering, a: Arguments) -> Any:
    """start + k (end - start) / (steps - 1), enclosed where it is needed."""
    dtype, steps = a.get("dtype") or torch.get_default_dtype(), int(number(a["steps"]))
    start, end = (literal(number(a[key])) for key in ("start", "end"))
    if not dtype.is_floating_point:
        return NotImplemented
    used = frozenset[int]().union(*(item.inputs for item in knowns(*(a[key] for key in ("start", "end", "steps")))))
    places = Known(torch.arange(steps, dtype=torch.float64), used)
    share = low.emit("div", [places, literal(max(steps - 1, 1))], torch.div)
    path = low.emit("mul", [share, low.emit("sub", [end, start], torch.sub)], torch.mul)
    return in_dtype(low, low.emit("add", [path, start], torch.add), dtype)


@lowers("clamp", "clip")
def _clamp(low: Lowering, a: Arguments) -> Any:
    return _clamped(low, a["self"], a.get("min"), a.get("max"))


def _clamped(low: Lowering, item: Any, *given: Any) -> Any:
    ends = [None if end is None else number(end) for end in given]
    first, second = (None if end is None else float(end) for end in ends)
    clamped = low.emit("clamp", [item], lambda x: torch.clamp(x, *ends), minimum=first, maximum=second)
    held = limits(clamped.meta.dtype)
    if held is not None and not all(end is None or held[0] <= end <= held[1] for end in ends):
        raise UnsupportedOperationError(low.source, f"has a bound that {clamped.meta.dtype} does not hold")
    return clamped


@lowers("clamp.Tensor", "clamp_min.Tensor", "clamp_max.Tensor")
def _clamp_tensor(low: Lowering, a: Arguments) -> Any:
    """The lower bound first, as torch does."""
    item = a["self"]
    for key, larger in (("min", True), ("max", False)):
        if a.get(key) is not None:
            item = _extremum(low, item, a[key], larger=larger)
    return item


@lowers("clamp_min")
def _clamp_min(low: Lowering, a: Arguments) -> Any:
    return _clamped(low, a["self"], a["min"], None)


@lowers("clamp_max")
def _clamp_max(low: Lowering, a: Arguments) -> Any:
    return _clamped(low, a["self"], None, a["max"])


@lowers("pow.Tensor_Scalar")
def _pow(low: Lowering, a: Arguments) -> Any:
    exponent = number(a["exponent"])
    if not isinstance(exponent, int | float) or isinstance(exponent, bool):
        return NotImplemented
    return low.emit("pow_scalar", [a["self"]], lambda x: torch.pow(x, exponent), exponent=float(exponent))


_OF_CONDITIONS = {"add": "logical_or", "mul": "logical_and"}


def _arithmetic(low: Lowering, op: str, first: Any, second: Any) -> Any:
    """A node of two operands; plain numbers become literals, a condition beside a float the numbers 0 and 1.

    The sum of two conditions is their "or" in torch, and their product the "and".
    """
    a, b = operand_item(first, second), operand_item(second, first)
    if op in _OF_CONDITIONS and all(low.as_dynamic(item).meta.dtype == torch.bool for item in (a, b)):
        return low.emit(_OF_CONDITIONS[op], [a, b], getattr(torch, _OF_CONDITIONS[op]))
    pair = [_as_number(low, a, b), _as_number(low, b, a)]
    # What was expanded to the shape of the operand beside it is taken as it was before: bounds are sharper with that.
    for place in (1, 0):
        item, beside = pair[place], pair[1 - place]
        if isinstance(item, Dynamic) and item.before is not None and shape_of(beside) == item.shape:
            pair[place] = item.before
            return low.emit(op, pair, getattr(torch, op), uses=[item])
    return low.emit(op, pair, getattr(torch, op))


def _as_number(low: Lowering, item: Any, beside: Any) -> Any:
    if not (isinstance(item, Dynamic) and item.meta.dtype == torch.bool and isinstance(beside, Dynamic)):
        return item
    dtype = beside.meta.dtype
    return indicator(low, item, dtype) if dtype.is_floating_point else item


@lowers("add.Tensor", "add.Scalar")
def _add(low: Lowering, a: Arguments) -> Any:
    return _arithmetic(low, "add", a["self"], scaled(low, operand_item(a["other"], a["self"]), a.get("alpha", 1)))


@lowers("sub.Tensor", "sub.Scalar", "subtract.Tensor", "subtract.Scalar")
def _sub(low: Lowering, a: Arguments) -> Any:
    return _arithmetic(low, "sub", a["self"], scaled(low, operand_item(a["other"], a["self"]), a.get("alpha", 1)))


@lowers("rsub.Tensor", "rsub.Scalar")
def _rsub(low: Lowering, a: Arguments) -> Any:
    return _arithmetic(low, "sub", a["other"], scaled(low, a["self"], a.get("alpha", 1)))


@lowers("mul.Tensor", "mul.Scalar", "multiply.Tensor", "multiply.Scalar")
def _mul(low: Lowering, a: Arguments) -> Any:
    return _swish(low, a["self"], a["other"]) or _arithmetic(low, "mul", a["self"], a["other"])


def _swish(low: Lowering, x: Any, y: Any) -> Any:
    """`x sigmoid(x)`, in either order, is `silu`, whose slopes are bounded everywhere."""
    for item, gate in ((x, y), (y, x)):
        node = low.maker(gate)
        if node is not None and node.op == "sigmoid" and low.depends(item) and node.operands[0] == item.number:
            return low.emit("silu", [item], torch.nn.functional.silu)
    return None


@lowers("div.Tensor", "div.Scalar", "true_divide.Tensor", "true_divide.Scalar", "divide.Tensor", "divide.Scalar")
def _div(low: Lowering, a: Arguments) -> Any:
    if low.depends(a["self"]) and _is_one_plus_modulus(low, a["other"], a["self"].number):
        return low.emit("softsign", [a["self"]], torch.nn.functional.softsign)
    return _arithmetic(low, "div", a["self"], a["other"])


def _is_one_plus_modulus(low: Lowering, item: Any, of: int) -> bool:
    """Whether an item is `1 + |x|`: softsign is exported as the quotient by it."""
    node = low.maker(item)
    if node is None or node.op != "add":
        return False
    for modulus, one in (node.operands, node.operands[::-1]):
        inner, leaf = low.node_of(modulus), low.leaves.get(one)
        if inner is None or inner.op != "abs" or inner.operands[0] != of or leaf is None or leaf.kind != "literal":
            continue
        if leaf.tensor.ndim == 0 and float(leaf.tensor) == 1.0:
            return True
    return False


@lowers("pow.Tensor_Tensor", "pow.Scalar")
def _pow_tensor(low: Lowering, a: Arguments) -> Any:
    """A power with one exponent that is known; else e^(y log x), for x > 0."""
    base, exponent = number(a["self"]), low.as_dynamic(a["exponent"])
    plain = isinstance(base, int | float) and base > 0
    one = _one_number(low, exponent)
    if one is not None and low.depends(a["self"]):
        return low.emit("pow_scalar", [a["self"]], lambda x: torch.pow(x, one), exponent=one)
    if not exponent.meta.dtype.is_floating_point or not (plain or low.depends(a["self"]) or low.depends(exponent)):
        return _arithmetic(low, "pow", a["self"], exponent)
    logarithm = applied(low, "log", literal(base) if plain else a["self"])
    logarithm = in_dtype(low, logarithm, exponent.meta.dtype) if plain else logarithm
    return applied(low, "exp", combined(low, "mul", logarithm, exponent))


def _one_number(low: Lowering, item: Dynamic) -> float | None:
    """The number that a literal or a parameter of one entry holds, cast or not."""
    value, node = item.number, low.maker(item)
    while node is not None and node.op == "cast":
        value, node = node.operands[0], low.node_of(node.operands[0])
    leaf = low.leaves.get(value)
    if leaf is None or leaf.inputs or leaf.kind not in ("literal", "parameter") or leaf.tensor.shape not in ((), (1,)):
        return None
    found = leaf.tensor.item()
    return float(found) if isinstance(found, int | float) and abs(found) < 2**53 else None


@lowers("maximum", "max.other", "fmax")
def _maximum(low: Lowering, a: Arguments) -> Any:
    return _extremum(low, a["self"], a["other"], larger=True)


@lowers("minimum", "min.other", "fmin")
def _minimum(low: Lowering, a: Arguments) -> Any:
    return _extremum(low, a["self"], a["other"], larger=False)


def _extremum(low: Lowering, a: Any, b: Any, *, larger: bool) -> Any:
    """`max(a, b) = b + relu(a - b)` and `min(a, b) = a - relu(a - b)` where both depend on the state."""
    if not (low.depends(a) and low.depends(b)):
        return low.emit("maximum" if larger else "minimum", [a, b], torch.maximum if larger else torch.minimum)
    excess = low.emit("relu", [_arithmetic(low, "sub", a, b)], torch.relu)
    return _arithmetic(low, "add", b, excess) if larger else _arithmetic(low, "sub", a, excess)


def _comparison(name: str) -> None:
    @lowers(f"{name}.Tensor", f"{name}.Scalar")
    def rule(low: Lowering, a: Arguments) -> Any:
        return low.emit(name, [a["self"], operand_item(a["other"], a["self"])], getattr(torch, name))


for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    _comparison(_name)


def _logical(name: str) -> None:
    @lowers(name)
    def rule(low: Lowering, a: Arguments) -> Any:
        return low.emit(name, [a[key] for key in ("self", "other") if key in a], getattr(torch, name))


for _name in ("logical_not", "logical_and", "logical_or", "isinf", "isnan"):
    _logical(_name)


@lowers("isfinite")
def _isfinite(low: Lowering, a: Arguments) -> Any:
    """Neither infinite nor NaN."""
    wrong = [low.emit(name, [a["self"]], getattr(torch, name)) for name in ("isinf", "isnan")]
    return low.emit("logical_not", [low.emit("logical_or", wrong, torch.logical_or)], torch.logical_not)


def _bitwise(name: str, *exported: str) -> None:
    """Of conditions; integers are known, and never come here."""

    @lowers(*exported)
    def rule(low: Lowering, a: Arguments) -> Any:
        operands = [low.as_dynamic(a[key]) for key in ("self", "other") if key in a]
        if any(operand.meta.dtype != torch.bool for operand in operands):
            return NotImplemented
        return low.emit(name, operands, getattr(torch, name))


_bitwise("logical_not", "bitwise_not")
_bitwise("logical_and", "bitwise_and.Tensor", "__and__.Tensor")
_bitwise("logical_or", "bitwise_or.Tensor", "__or__.Tensor")


@lowers("logical_xor", "bitwise_xor.Tensor", "__xor__.Tensor")
def _xor(low: Lowering, a: Arguments) -> Any:
    """One of two conditions, not both."""
    pair = [low.as_dynamic(a[key]) for key in ("self", "other")]
    if any(operand.meta.dtype != torch.bool for operand in pair):
        return NotImplemented
    both = low.emit("logical_and", pair, torch.logical_and)
    one = low.emit("logical_or", pair, torch.logical_or)
    return low.emit("logical_and", [one, low.emit("logical_not", [both], torch.logical_not)], torch.logical_and)


@lowers("where.self", "where.ScalarOther", "where.ScalarSelf", "where.Scalar")
def _where(low: Lowering, a: Arguments) -> Any:
    tensors = [v for v in (a["self"], a["other"]) if isinstance(v, Dynamic)]
    beside = tensors[0] if tensors else None
    parts = [a["condition"], operand_item(a["self"], beside), operand_item(a["other"], beside)]
    return low.emit("where", parts, torch.where)


@lowers("masked_fill.Scalar", "masked_fill.Tensor")
def _masked_fill(low: Lowering, a: Arguments) -> Any:
    value = filling(low, a["value"], a["self"])
    return low.emit("where", [a["mask"], value, a["self"]], lambda m, v, x: torch.where(m, v.to(x.dtype), x))
