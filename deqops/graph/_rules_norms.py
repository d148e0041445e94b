"""Normalisations in eval mode, and a few activations, as arithmetic of the small vocabulary."""

from __future__ import annotations

from typing import Any

import torch

from deqops.graph._arguments import Arguments, dim_of, permuted, rank_of, reshaped, shape_of, sizes_of, sliced, unread
from deqops.graph._items import Known
from deqops.graph._lowering import Lowering, lowers, scalar_tensor


def _arithmetic(low: Lowering, op: str, a: Any, b: Any) -> Any:
    return low.emit(op, [a, b], getattr(torch, op))


def _literal(value: float) -> Known:
    return Known(scalar_tensor(float(value)))


def _per_channel(low: Lowering, item: Any, rank: int) -> Any:
    """A vector over dimension 1 of a tensor of this rank."""
    shape = [1] * rank
    shape[min(1, rank - 1)] = shape_of(item)[0]
    return reshaped(low, item, shape, [])


@lowers("batch_norm")
def _batch_norm(low: Lowering, a: Arguments) -> Any:
    """(x - mean) rsqrt(var + eps) weight + bias, the statistics being those of the model, or x's own."""
    x, mean, variance = a["input"], a.get("running_mean"), a.get("running_var")
    if rank_of(x) < 2:
        return NotImplemented
    if a.get("training") is True and mean is None and variance is None:
        return _own_statistics(low, a)
    if a.get("training") is not False or mean is None or variance is None:
        return NotImplemented
    shifted = _arithmetic(low, "add", variance, _literal(a["eps"]))
    scale = low.emit("rsqrt", [shifted], torch.rsqrt)
    if a.get("weight") is not None:
        scale = _arithmetic(low, "mul", scale, a["weight"])
    centred = _arithmetic(low, "sub", x, _per_channel(low, mean, rank_of(x)))
    result = _arithmetic(low, "mul", centred, _per_channel(low, scale, rank_of(x)))
    if a.get("bias") is None:
        return result
    return _arithmetic(low, "add", result, _per_channel(low, a["bias"], rank_of(x)))


def _own_statistics(low: Lowering, a: Arguments) -> Any:
    """A layer norm of each channel over all else, as weights are standardised with; then weight and bias."""
    x = low.as_dynamic(a["input"])
    rank, channels = len(x.shape), x.shape[1]
    if not x.meta.numel():
        return NotImplemented
    order = (1, 0, *range(2, rank))
    moved = permuted(low, x, order)
    size = x.meta.numel() // channels
    rows = reshaped(low, moved, [channels, size], [])
    normed = low.emit("layer_norm", [rows], lambda t: t.clone(), normalized_shape=(size,), eps=float(a["eps"]))
    result = permuted(low, reshaped(low, normed, shape_of(moved), []), order)
    return _per_channel_affine(low, result, a)


def _per_channel_affine(low: Lowering, item: Any, a: Arguments) -> Any:
    """Times the weight of its channel, plus the bias, where there are any."""
    for name, op in (("weight", "mul"), ("bias", "add")):
        if a.get(name) is not None:
            item = _arithmetic(low, op, item, _per_channel(low, a[name], rank_of(item)))
    return item


@lowers("group_norm")
def _group_norm(low: Lowering, a: Arguments) -> Any:
    """A layer norm over each group of channels, then weight and bias per channel."""
    x, groups = a["input"], int(a["num_groups"])
    shape = shape_of(x)
    size = x.meta[0].numel() // groups
    grouped = reshaped(low, x, [shape[0], groups, size], [])
    eps = float(a.get("eps", 1e-5))
    normed = low.emit("layer_norm", [grouped], lambda t: t.clone(), normalized_shape=(size,), eps=eps)
    return _per_channel_affine(low, reshaped(low, normed, shape, []), a)


@lowers("native_group_norm")
def _native_group_norm(low: Lowering, a: Arguments) -> Any:
    """With the means and the reciprocal deviations, which stay under the exported name."""
    x = low.as_dynamic(a["input"])
    kept = (x.shape[0], int(a["group"]))
    return [_group_norm(low, {**a, "input": x, "num_groups": a["group"]}), *unread(low, x, kept)]


@lowers("instance_norm")
def _instance_norm(low: Lowering, a: Arguments) -> Any:
    """A layer norm over each channel of each problem; with the model's statistics a batch norm."""
    x = low.as_dynamic(a["input"])
    if not a["use_input_stats"]:
        return _batch_norm(low, {**a, "training": False})
    if rank_of(x) < 3 or a.get("running_mean") is not None:
        return NotImplemented
    return _group_norm(low, {**a, "input": x, "num_groups": x.shape[1]})


@lowers("rms_norm")
def _rms_norm(low: Lowering, a: Arguments) -> Any:
    """x rsqrt(mean(x^2) + eps) weight over the last dimensions; without an eps it is that of the dtype."""
    x, eps = a["input"], a.get("eps")
    if eps is None:
        if x.meta.dtype not in (torch.float32, torch.float64):
            return NotImplemented  # kernels differ in which dtype they take it from
        eps = torch.finfo(x.meta.dtype).eps
    shape = tuple(sizes_of(a["normalized_shape"]))
    result: Any = low.emit("rms_norm", [x], lambda t: t.clone(), normalized_shape=shape, eps=float(eps))
    return result if a.get("weight") is None else _arithmetic(low, "mul", result, a["weight"])


@lowers("hardsigmoid")
def _hardsigmoid(low: Lowering, a: Arguments) -> Any:
    """relu6(x + 3) / 6."""
    shifted = low.emit("relu6", [_arithmetic(low, "add", a["self"], _literal(3.0))], torch.nn.functional.relu6)
    return _arithmetic(low, "div", shifted, _literal(6.0))


@lowers("glu")
def _glu(low: Lowering, a: Arguments) -> Any:
    """The first half times the sigmoid of the second."""
    x, dim = a["self"], dim_of(a.get("dim", -1), rank_of(a["self"]))
    half = shape_of(x)[dim] // 2
    gate = low.emit("sigmoid", [sliced(low, x, dim, slice(half, 2 * half), [])], torch.sigmoid)
    return _arithmetic(low, "mul", sliced(low, x, dim, slice(0, half), []), gate)


@lowers("lerp.Scalar", "lerp.Tensor")
def _lerp(low: Lowering, a: Arguments) -> Any:
    """a + weight (b - a)."""
    weight = a["weight"]
    factor = _literal(weight) if isinstance(weight, int | float) else weight
    gap = _arithmetic(low, "sub", a["end"], a["self"])
    return _arithmetic(low, "add", a["self"], _arithmetic(low, "mul", gap, factor))


@lowers("addcmul")
def _addcmul(low: Lowering, a: Arguments) -> Any:
    """x + value a b."""
    product = _arithmetic(low, "mul", a["tensor1"], a["tensor2"])
    value = float(a.get("value", 1))
    scaled = product if value == 1.0 else _arithmetic(low, "mul", product, _literal(value))
    return _arithmetic(low, "add", a["self"], scaled)


@lowers("addcdiv")
def _addcdiv(low: Lowering, a: Arguments) -> Any:
    """x + value a / b."""
    quotient = _arithmetic(low, "div", a["tensor1"], a["tensor2"])
    value = float(a.get("value", 1))
    scaled = quotient if value == 1.0 else _arithmetic(low, "mul", quotient, _literal(value))
    return _arithmetic(low, "add", a["self"], scaled)
