"""Pooling: the largest entry or the mean of windows, dimension by dimension.

A window is a list of places. For maxima they are gathered by `index_select`, a short window repeating one of its own
places, which changes no maximum. For means a matrix of zeros and ones adds them up, and a division follows: the
numbers are integers, so nothing is rounded.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from deqops._errors import UnsupportedOperationError
from deqops.graph._arguments import (
    Arguments,
    added,
    combined,
    literal,
    number,
    per_dimension,
    permuted,
    rank_of,
    reduced,
    reshaped,
    selected,
    shape_of,
    sizes_of,
    transformed,
)
from deqops.graph._items import Dynamic, Known
from deqops.graph._lowering import Lowering, lowers

Windows = list[list[int]]


def _spatial(low: Lowering) -> int:
    """The number of spatial dimensions, from the exported name."""
    return int(low.source.split(".")[1].split("d_")[0].removesuffix("d")[-1])


def _outputs(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil: bool) -> int:
    """The number of windows: in ceil mode the last may reach over the end, but must begin before it."""
    span = size + 2 * padding - dilation * (kernel - 1) - 1
    count = (-(-span // stride) if ceil else span // stride) + 1
    if ceil and (count - 1) * stride >= size + padding:
        count -= 1
    return count


def _windows(low: Lowering, a: Arguments, sizes: tuple[int, ...]) -> list[tuple[Windows, list[int]]]:
    """For each spatial dimension the places within each window, and what `count_include_pad` counts."""
    dims = len(sizes)
    kernel = per_dimension(a["kernel_size"], dims, 1)
    stride = kernel if a.get("stride") in (None, []) else per_dimension(a["stride"], dims, 1)
    padding, dilation = per_dimension(a.get("padding"), dims, 0), per_dimension(a.get("dilation"), dims, 1)
    found = []
    for n, k, s, p, d in zip(sizes, kernel, stride, padding, dilation, strict=True):
        if min(k, s, d) < 1 or p < 0:
            raise UnsupportedOperationError(low.source, "has a window that makes no sense")
        starts = [o * s - p for o in range(_outputs(n, k, s, p, d, bool(a.get("ceil_mode", False))))]
        inside = [[t for t in range(start, start + d * k, d) if 0 <= t < n] for start in starts]
        found.append((inside, [min(start + k, n + p) - start for start in starts]))
    return found


def _adaptive(size: int, outputs: int) -> Windows:
    """From floor(o n / m) up to ceil((o + 1) n / m)."""
    return [list(range(o * size // outputs, -(-(o + 1) * size // outputs))) for o in range(outputs)]


def _batched(x: Dynamic, dims: int) -> tuple[int, ...]:
    """The sizes of the spatial dimensions, which are the last."""
    if rank_of(x) not in (dims + 1, dims + 2):
        raise ValueError(f"{rank_of(x)} dimensions")
    return shape_of(x)[-dims:]


# ------------------------------------------------------------------------------------------------------- maxima


def _largest(low: Lowering, x: Dynamic, windows: list[Windows]) -> Dynamic:
    """amax over the windows, all of them full after repetition."""
    first, item = rank_of(x) - len(windows), x
    for number_, places in enumerate(windows):
        width = max((len(window) for window in places), default=0)
        if not places or not all(places):
            raise UnsupportedOperationError(low.source, "has a window without entries")
        table = [window + window[-1:] * (width - len(window)) for window in places]
        item = selected(low, item, first + 2 * number_, Known(torch.tensor(table)))
    return reduced(low, "amax", item, tuple(first + 2 * k + 1 for k in range(len(windows))), keepdim=False)


def _with_places(low: Lowering, x: Dynamic, result: Dynamic) -> list[Dynamic]:
    """The maxima, and their places, which stay under the exported name."""
    places = low.emit(low.source, [x], lambda t: torch.empty(result.shape, dtype=torch.int64, device="meta"), output=1)
    return [result, places]


@lowers("max_pool1d", "max_pool2d", "max_pool3d")
def _max_pool(low: Lowering, a: Arguments) -> Any:
    x = low.as_dynamic(a["self"])
    return _largest(low, x, [inside for inside, _ in _windows(low, a, _batched(x, _spatial(low)))])


@lowers("max_pool1d_with_indices", "max_pool2d_with_indices", "max_pool3d_with_indices")
def _max_pool_with_places(low: Lowering, a: Arguments) -> Any:
    return _with_places(low, low.as_dynamic(a["self"]), _max_pool(low, a))


@lowers("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d")
def _adaptive_max_pool(low: Lowering, a: Arguments) -> Any:
    x, outputs = low.as_dynamic(a["self"]), sizes_of(a["output_size"])
    sizes = _batched(x, _spatial(low))
    windows = [_adaptive(n, m) for n, m in zip(sizes, per_dimension(outputs, len(sizes), 1), strict=True)]
    return _with_places(low, x, _largest(low, x, windows))


# -------------------------------------------------------------------------------------------------------- means


def _added_up(low: Lowering, x: Dynamic, windows: list[Windows]) -> Dynamic:
    first, item = rank_of(x) - len(windows), x
    for offset, places in enumerate(windows):
        ones = torch.zeros(x.shape[first + offset], len(places), dtype=torch.float64)
        for column, window in enumerate(places):
            ones[window, column] = 1.0
        item = transformed(low, item, first + offset, ones)
    return item


def _divided(low: Lowering, total: Dynamic, counts: list[list[int]]) -> Dynamic:
    """By the product of the counts along each dimension: one number where they are all the same."""
    sizes = torch.ones((), dtype=torch.float64)
    for count in counts:
        sizes = sizes[..., None] * torch.tensor(count, dtype=torch.float64)
    if sizes.numel() and bool((sizes == sizes.reshape(-1)[0]).all()):
        return combined(low, "div", total, literal(float(sizes.reshape(-1)[0])))
    return combined(low, "div", total, Known(_held(low, sizes, total)))


def _held(low: Lowering, values: Tensor, beside: Dynamic) -> Tensor:
    kept = values.to(beside.meta.dtype)
    if not torch.equal(kept.double(), values):
        raise UnsupportedOperationError(low.source, f"counts entries that {beside.meta.dtype} cannot count")
    return kept


@lowers("avg_pool1d", "avg_pool2d", "avg_pool3d")
def _avg_pool(low: Lowering, a: Arguments) -> Any:
    x = low.as_dynamic(a["self"])
    windows = _windows(low, a, _batched(x, _spatial(low)))
    total, divisor = _added_up(low, x, [inside for inside, _ in windows]), a.get("divisor_override")
    if divisor is not None:
        return combined(low, "div", total, literal(float(number(divisor))))
    padded = bool(a.get("count_include_pad", True))
    return _divided(low, total, [count if padded else [len(w) for w in inside] for inside, count in windows])


@lowers("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d")
def _adaptive_avg_pool(low: Lowering, a: Arguments) -> Any:
    x, dims = low.as_dynamic(a["self"]), _spatial(low)
    sizes, outputs = _batched(x, dims), per_dimension(sizes_of(a["output_size"]), dims, 1)
    if not math.prod(sizes):
        return NotImplemented
    if all(m == 1 for m in outputs):
        return reduced(low, "mean", x, tuple(range(rank_of(x) - dims, rank_of(x))), keepdim=True)
    windows = [_adaptive(n, m) for n, m in zip(sizes, outputs, strict=True)]
    return _divided(low, _added_up(low, x, windows), [[len(window) for window in places] for places in windows])


# ------------------------------------------------------------------------------------------------------ windows


@lowers("unfold")
def _unfold(low: Lowering, a: Arguments) -> Any:
    """Overlapping slices along one dimension; the place within a slice becomes the last dimension."""
    x = low.as_dynamic(a["self"])
    dim, size, step = (int(number(a[key])) for key in ("dimension", "size", "step"))
    dim = dim + rank_of(x) if dim < 0 else dim
    starts = torch.arange(0, x.shape[dim] - size + 1, step)
    taken = selected(low, x, dim, Known(starts[:, None] + torch.arange(size)))
    rank = rank_of(taken)
    return permuted(low, taken, (*(d for d in range(rank) if d != dim + 1), dim + 1))


@lowers("im2col")
def _im2col(low: Lowering, a: Arguments) -> Any:
    """(problems, channels kernel, windows): zeros around it, then the windows of both dimensions."""
    x = low.as_dynamic(a["self"])
    batched = rank_of(x) == 4
    item: Any = x if batched else reshaped(low, x, (1, *x.shape), [])
    kernel, stride = per_dimension(a["kernel_size"], 2, 1), per_dimension(a["stride"], 2, 1)
    padding, dilation = per_dimension(a["padding"], 2, 0), per_dimension(a["dilation"], 2, 1)
    for offset, dim in enumerate((2, 4)):
        k, s, p, d = kernel[offset], stride[offset], padding[offset], dilation[offset]
        shape = list(shape_of(item))
        shape[dim] = p
        if p:
            zeros = Known(torch.zeros(shape, dtype=x.meta.dtype))
            item = low.emit("cat", [zeros, item, zeros], lambda *ts, dim=dim: torch.cat(ts, dim), dim=dim)
        starts = torch.arange(0, shape_of(item)[dim] - d * (k - 1), s)
        item = selected(low, item, dim, Known(starts[:, None] + d * torch.arange(k)))
    n, channels, rows, k0, columns, k1 = shape_of(item)
    moved = permuted(low, item, (0, 1, 3, 5, 2, 4))
    shape_ = (n, channels * k0 * k1, rows * columns)
    return reshaped(low, moved, shape_ if batched else shape_[1:], [])


@lowers("col2im")
def _col2im(low: Lowering, a: Arguments) -> Any:
    """The transposed map: every window's entries added at their places; what falls on the padding is dropped."""
    x = low.as_dynamic(a["self"])
    item: Any = x if rank_of(x) == 3 else reshaped(low, x, (1, *x.shape), [])
    sizes = per_dimension(a["output_size"], 2, 1)
    kernel, stride = per_dimension(a["kernel_size"], 2, 1), per_dimension(a["stride"], 2, 1)
    padding, dilation = per_dimension(a["padding"], 2, 0), per_dimension(a["dilation"], 2, 1)
    along = [
        torch.arange(-p, n + p - d * (k - 1), s) + d * torch.arange(k)[:, None]  # (kernel, windows)
        for n, k, s, p, d in zip(sizes, kernel, stride, padding, dilation, strict=True)
    ]
    rows, columns = along[0][:, None, :, None], along[1][None, :, None, :]  # (kernel, kernel, windows, windows)
    inside = (rows >= 0) & (rows < sizes[0]) & (columns >= 0) & (columns < sizes[1])
    problems, channels = shape_of(item)[0], shape_of(item)[1] // math.prod(kernel)
    entries = reshaped(low, item, (problems, channels, inside.numel()), [])
    kept = selected(low, entries, 2, Known(inside.reshape(-1).nonzero()[:, 0]))
    base = Known(torch.zeros(problems, channels, math.prod(sizes), dtype=x.meta.dtype))
    total = added(low, base, 2, Known((rows * sizes[1] + columns)[inside]), kept)
    shape = (problems, channels, *sizes)
    return reshaped(low, total, shape if rank_of(x) == 3 else shape[1:], [])
