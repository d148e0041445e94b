"""Convolutions, transposed convolutions and paddings.

A padding is written in the operations that there are: `index_select` along each dimension for copying modes, `cat` with
literals for constants. So is a bias. `conv` itself pads with zeros only, as much before as after.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from deqops.graph._arguments import (
    Arguments,
    knowns,
    number,
    per_dimension,
    permuted,
    rank_of,
    reshaped,
    selected,
    shape_of,
    sizes_of,
    sliced,
)
from deqops.graph._items import Item, Known
from deqops.graph._lowering import Lowering, lowers

_DIMS = (1, 2)  # spatial dimensions for which there are rules


def _convolution(low: Lowering, a: Arguments, transposed: bool) -> Any:
    x, weight = a["input"], a["weight"]
    dims = rank_of(weight) - 2
    if dims not in _DIMS:
        return NotImplemented
    stride, dilation = per_dimension(a.get("stride"), dims, 1), per_dimension(a.get("dilation"), dims, 1)
    groups = int(number(a.get("groups", 1)))
    uses = knowns(*(a.get(name) for name in ("stride", "padding", "dilation", "output_padding", "groups")))
    batched = rank_of(x) == dims + 2
    item = x if batched else reshaped(low, x, (1, *shape_of(x)), [])
    given = a.get("padding")
    if isinstance(given, str):
        item, padding = _named_padding(low, item, given, shape_of(weight)[2:], dilation)
    else:
        padding = per_dimension(given, dims, 0)
    extra = per_dimension(a.get("output_padding"), dims, 0)

    def compute(t: Tensor, w: Tensor) -> Tensor:
        result: Tensor = torch.ops.aten.convolution.default(
            t, w, None, list(stride), list(padding), list(dilation), transposed, list(extra), groups
        )
        return result

    attributes: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    if transposed:
        attributes["output_padding"] = extra
    result: Any = low.emit("conv_transpose" if transposed else "conv", [item, weight], compute, uses, **attributes)
    if a.get("bias") is not None:
        bias = reshaped(low, a["bias"], (-1, *(1,) * dims), [])
        result = low.emit("add", [result, bias], torch.add)
    return result if batched else reshaped(low, result, shape_of(result)[1:], [])


def _named_padding(
    low: Lowering, x: Any, name: str, taps: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[Any, tuple[int, ...]]:
    """The padding "same" or "valid" as integers; where it is odd, the entry more after is a `cat`."""
    if name not in ("same", "valid"):
        raise ValueError(f"padding {name!r}")
    totals = [gap * (count - 1) if name == "same" else 0 for gap, count in zip(dilation, taps, strict=True)]
    if any(total % 2 for total in totals):
        for dim, total in enumerate(totals, start=2):
            x = _constant(low, x, dim, (total // 2, total - total // 2), 0.0, [])
        return x, (0,) * len(totals)
    return x, tuple(total // 2 for total in totals)


@lowers("conv1d", "conv2d", "conv1d.padding", "conv2d.padding")
def _conv(low: Lowering, a: Arguments) -> Any:
    return _convolution(low, a, transposed=False)


@lowers("conv3d", "conv3d.padding")
def _conv3d(low: Lowering, a: Arguments) -> Any:
    """A convolution over height and width, the planes that each tap of the depth sees stacked as channels."""
    weight = a["weight"]
    stride, dilation = per_dimension(a.get("stride"), 3, 1), per_dimension(a.get("dilation"), 3, 1)
    out, per_group, depth, *taps = shape_of(weight)
    item, batched = _with_problems(low, low.as_dynamic(a["input"]))
    given = a.get("padding")
    if isinstance(given, str):
        item, padding = _named_padding(low, item, given, shape_of(weight)[2:], dilation)
    else:
        padding = per_dimension(given, 3, 0)
    item = _constant(low, item, 2, (padding[0], padding[0]), 0.0, []) if padding[0] else item
    starts = torch.arange(0, shape_of(item)[2] - dilation[0] * (depth - 1), stride[0])
    stacked, planes = _stacked(low, item, starts[:, None] + dilation[0] * torch.arange(depth))
    flat = reshaped(low, weight, (out, per_group * depth, *taps), [])
    result = _convolution(low, _plane(a, stacked, flat, stride, padding, dilation), transposed=False)
    return _unstacked(low, result, planes, batched)


@lowers("conv_transpose3d.input")
def _conv_transpose3d(low: Lowering, a: Arguments) -> Any:
    """As `_conv3d`: output plane o sees input plane i by tap k where o = stride i + dilation k - padding."""
    weight = a["weight"]
    stride, dilation = per_dimension(a.get("stride"), 3, 1), per_dimension(a.get("dilation"), 3, 1)
    padding, extra = per_dimension(a.get("padding"), 3, 0), per_dimension(a.get("output_padding"), 3, 0)
    channels, per_group, depth, *taps = shape_of(weight)
    item, batched = _with_problems(low, low.as_dynamic(a["input"]))
    size, step = item.shape[2], stride[0]
    outputs = (size - 1) * step - 2 * padding[0] + dilation[0] * (depth - 1) + extra[0] + 1
    place = torch.arange(outputs)[:, None] + padding[0] - dilation[0] * torch.arange(depth)
    seen = (place >= 0) & (place <= (size - 1) * step) & (place % step == 0)
    beyond = _constant(low, item, 2, (0, 1), 0.0, [])  # one plane of zeros, for what no plane reaches
    stacked, planes = _stacked(low, beyond, torch.where(seen, place // step, size))
    moved = permuted(low, weight, (0, 2, 1, *range(3, 3 + len(taps))))
    flat = reshaped(low, moved, (channels * depth, per_group, *taps), [])
    arguments = _plane(a, stacked, flat, stride, padding, dilation) | {"output_padding": list(extra[1:])}
    return _unstacked(low, _convolution(low, arguments, transposed=True), planes, batched)


def _with_problems(low: Lowering, x: Any) -> tuple[Any, bool]:
    """A volume with a dimension that counts problems, and whether it had one."""
    batched = rank_of(x) == 5
    return (x if batched else reshaped(low, x, (1, *shape_of(x)), [])), batched


def _stacked(low: Lowering, item: Any, table: Tensor) -> tuple[Any, int]:
    """(problems planes, channels taps, height, width): for each new plane the planes that the table lists."""
    seen = selected(low, item, 2, Known(table))
    n, channels, planes, taps, *size = shape_of(seen)
    return reshaped(low, permuted(low, seen, (0, 2, 1, 3, 4, 5)), (n * planes, channels * taps, *size), []), planes


def _unstacked(low: Lowering, item: Any, planes: int, batched: bool) -> Any:
    whole = reshaped(low, item, (-1, planes, *shape_of(item)[1:]), [])
    moved = permuted(low, whole, (0, 2, 1, 3, 4))
    return moved if batched else reshaped(low, moved, shape_of(moved)[1:], [])


def _plane(
    a: Arguments, item: Any, weight: Any, stride: tuple[int, ...], padding: tuple[int, ...], dilation: tuple[int, ...]
) -> Arguments:
    """The arguments of the convolution over height and width."""
    inner = {"stride": list(stride[1:]), "padding": list(padding[1:]), "dilation": list(dilation[1:])}
    return {"input": item, "weight": weight, "bias": a.get("bias"), "groups": a.get("groups", 1), **inner}


@lowers("conv_transpose1d", "conv_transpose2d.input")
def _conv_transpose(low: Lowering, a: Arguments) -> Any:
    return _convolution(low, a, transposed=True)


@lowers("convolution")
def _either(low: Lowering, a: Arguments) -> Any:
    if rank_of(a["weight"]) == 5:
        return _conv_transpose3d(low, a) if a["transposed"] else _conv3d(low, a)
    return _convolution(low, a, transposed=bool(a["transposed"]))


# ------------------------------------------------------------------------------------------------------ padding


def _constant(low: Lowering, x: Any, dim: int, pad: tuple[int, int], value: float, uses: list[Item]) -> Any:
    """`x` with a number before and after along one dimension; negative counts cut entries off."""
    item = low.as_dynamic(x)
    if min(pad) < 0:
        item = sliced(low, item, dim, slice(max(-pad[0], 0), item.shape[dim] - max(-pad[1], 0)), uses)
    inputs = frozenset().union(*(u.inputs for u in uses))

    def filler(count: int) -> list[Item]:
        shape = (*item.shape[:dim], count, *item.shape[dim + 1 :])
        return [Known(torch.full(shape, value, dtype=item.meta.dtype), inputs)] if count > 0 else []

    parts: list[Item] = [*filler(pad[0]), item, *filler(pad[1])]
    return item if len(parts) == 1 else low.emit("cat", parts, lambda *xs: torch.cat(xs, dim), uses, dim=dim)


def _copying(mode: str, size: int, pad: tuple[int, int]) -> Tensor | None:
    """Which entry each entry of the padded dimension copies; None where torch has no such padding."""
    before, after = pad
    most = {"circular": size, "reflect": size - 1}.get(mode, max(before, after))
    if min(before, after) < 0 or max(before, after) > most or not size:
        return None
    place = torch.arange(-before, size + after)
    if mode == "circular":
        return place % size
    if mode == "replicate":
        return place.clamp(0, size - 1)
    return size - 1 - (size - 1 - place.abs()).abs()


def _padded(low: Lowering, a: Arguments, mode: str, value: Any) -> Any:
    """Paddings are listed from the last dimension on, (before, after) each."""
    item, flat, uses = a["self"], sizes_of(a.get("pad", a.get("padding"))), knowns(a.get("pad", a.get("padding")))
    rank = rank_of(item)
    if len(flat) % 2 or len(flat) > 2 * rank or mode not in ("constant", "circular", "reflect", "replicate"):
        return NotImplemented
    pads = list(zip(flat[::2], flat[1::2], strict=True))
    for dim, pad in zip(range(rank - 1, -1, -1), pads, strict=False):
        if pad == (0, 0):
            continue
        if mode == "constant":
            item = _constant(low, item, dim, pad, float(number(value)) if value is not None else 0.0, uses)
            continue
        index = _copying(mode, shape_of(item)[dim], pad)
        if index is None:
            return NotImplemented
        item = selected(low, item, dim, Known(index, frozenset().union(*(u.inputs for u in uses))))
    return item


@lowers("pad", "constant_pad_nd")
def _pad(low: Lowering, a: Arguments) -> Any:
    return _padded(low, a, str(a.get("mode", "constant")), a.get("value"))


@lowers("reflection_pad1d", "reflection_pad2d", "reflection_pad3d")
def _reflection(low: Lowering, a: Arguments) -> Any:
    return _padded(low, a, "reflect", None)


@lowers("replication_pad1d", "replication_pad2d", "replication_pad3d")
def _replication(low: Lowering, a: Arguments) -> Any:
    return _padded(low, a, "replicate", None)
