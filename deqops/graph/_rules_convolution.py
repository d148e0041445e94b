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
    rank_of,
    reshaped,
    selected,
    shape_of,
    sizes_of,
    sliced,
)
from deqops.graph._lowering import Item, Known, Lowering, lowers

_DIMS = (1, 2)  # spatial dimensions for which there are rules


def _tuple(values: Any, dims: int, default: int) -> tuple[int, ...]:
    """One integer for each dimension, from an exported list of one or of all."""
    if values is None:
        return (default,) * dims
    sizes = sizes_of(values)
    return tuple(sizes * dims if len(sizes) == 1 else sizes)


def _convolution(low: Lowering, a: Arguments, transposed: bool) -> Any:
    x, weight = a["input"], a["weight"]
    dims = rank_of(weight) - 2
    if dims not in _DIMS:
        return NotImplemented
    stride, dilation = _tuple(a.get("stride"), dims, 1), _tuple(a.get("dilation"), dims, 1)
    groups = int(number(a.get("groups", 1)))
    uses = knowns(*(a.get(name) for name in ("stride", "padding", "dilation", "output_padding", "groups")))
    batched = rank_of(x) == dims + 2
    item = x if batched else reshaped(low, x, (1, *shape_of(x)), [])
    given = a.get("padding")
    if isinstance(given, str):
        item, padding = _named_padding(low, item, given, shape_of(weight)[2:], dilation)
    else:
        padding = _tuple(given, dims, 0)
    extra = _tuple(a.get("output_padding"), dims, 0)

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


@lowers("conv_transpose1d", "conv_transpose2d.input")
def _conv_transpose(low: Lowering, a: Arguments) -> Any:
    return _convolution(low, a, transposed=True)


@lowers("convolution")
def _either(low: Lowering, a: Arguments) -> Any:
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


@lowers("reflection_pad1d", "reflection_pad2d")
def _reflection(low: Lowering, a: Arguments) -> Any:
    return _padded(low, a, "reflect", None)


@lowers("replication_pad1d", "replication_pad2d")
def _replication(low: Lowering, a: Arguments) -> Any:
    return _padded(low, a, "replicate", None)
