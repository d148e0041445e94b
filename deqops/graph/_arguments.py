"""Arguments of exported operations, and the nodes that several lowering rules make."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from deqops._errors import UnsupportedOperationError
from deqops.graph._lowering import Dynamic, Item, Known, Lowering, scalar_tensor

Arguments = dict[str, Any]


def number(value: Any) -> Any:
    """A plain number from an argument that may be a known size."""
    return value.value if isinstance(value, Known) else value


def dim_of(value: Any, ndim: int) -> int:
    dim = int(number(value))
    return dim + ndim if dim < 0 else dim


def sizes_of(values: Any) -> list[int]:
    return [int(number(v)) for v in values]


def knowns(*values: Any) -> list[Item]:
    found: list[Item] = []
    for value in values:
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, Known):
                found.append(item)
    return found


def rank_of(item: Item) -> int:
    return len(item.shape) if isinstance(item, Dynamic) else item.value.ndim


def shape_of(item: Item) -> tuple[int, ...]:
    return item.shape if isinstance(item, Dynamic) else tuple(item.value.shape)


def scaled(low: Lowering, item: Any, factor: Any) -> Any:
    value = number(factor)
    if value == 1:
        return item
    return low.emit("mul", [item, scalar_item(value, item)], torch.mul)


def scalar_item(value: Any, beside: Any) -> Known:
    """A Python number as an operand beside a tensor: a float literal next to floating tensors."""
    plain = number(value)
    dtype = beside.meta.dtype if isinstance(beside, Dynamic) else None
    if dtype is not None and dtype.is_floating_point and isinstance(plain, int) and not isinstance(plain, bool):
        plain = float(plain)
    return Known(scalar_tensor(plain), value.inputs if isinstance(value, Known) else frozenset())


def indicator(low: Lowering, condition: Any, dtype: torch.dtype) -> Any:
    """1 where a condition holds, else 0."""
    one, zero = (Known(torch.full((), value, dtype=dtype)) for value in (1.0, 0.0))
    return low.emit("where", [condition, one, zero], torch.where)


def operand_item(value: Any, beside: Any) -> Any:
    if isinstance(value, Dynamic) or (isinstance(value, Known) and isinstance(value.value, Tensor)):
        return value
    return scalar_item(value, beside)


def matmul_of(low: Lowering, a: Any, b: Any) -> Dynamic:
    return low.emit("matmul", [a, b], torch.matmul)


def swapped(low: Lowering, item: Any) -> Dynamic:
    rank = rank_of(item)
    dims = (*range(rank - 2), rank - 1, rank - 2)
    return low.emit("permute", [item], lambda x: x.permute(dims), dims=dims)


def reshaped(low: Lowering, item: Any, shape: Any, uses: list[Item]) -> Any:
    if isinstance(item, Known):
        return Known(item.value.reshape(shape), item.inputs.union(*(u.inputs for u in uses)))
    full = tuple(item.meta.reshape(shape).shape)
    return low.emit("reshape", [item], lambda x: x.reshape(full), uses, shape=full)


def permuted(low: Lowering, item: Any, dims: tuple[int, ...]) -> Any:
    return low.emit("permute", [item], lambda x: x.permute(dims), dims=dims)


def expanded(low: Lowering, item: Any, shape: tuple[int, ...], uses: list[Item]) -> Any:
    if isinstance(item, Known):
        return Known(item.value.expand(shape), item.inputs.union(*(u.inputs for u in uses)))
    return replace(low.emit("expand", [item], lambda x: x.expand(shape), uses, shape=shape), before=item)


def sliced(low: Lowering, item: Dynamic, dim: int, part: slice, uses: list[Item]) -> Any:
    start, stop, step = part.indices(item.shape[dim])
    stop = max(start, stop)
    if (start, stop, step) == (0, item.shape[dim], 1):
        return item
    where = (slice(None),) * dim + (slice(start, stop, step),)
    return low.emit("slice", [item], lambda x: x[where], uses, dim=dim, start=start, stop=stop, step=step)


def selected(low: Lowering, item: Any, dim: int, index: Known) -> Any:
    flat = index.value.reshape(-1).to(torch.int64)
    size = shape_of(item)[dim]
    if flat.numel() and (int(flat.min()) < -size or int(flat.max()) >= size):
        raise UnsupportedOperationError(low.source, f"has an index outside 0..{size - 1}")
    flat = torch.where(flat < 0, flat + size, flat)
    rows = Known(flat, index.inputs)
    picked = low.emit("index_select", [item, rows], lambda x, i: x.index_select(dim, i), dim=dim)
    if index.value.ndim == 1:
        return picked
    shape = (*shape_of(item)[:dim], *index.value.shape, *shape_of(item)[dim + 1 :])
    return reshaped(low, picked, shape, [index])


def added(low: Lowering, base: Any, dim: int, index: Known, source: Any) -> Any:
    size = shape_of(base)[dim]
    if index.value.numel() and (int(index.value.min()) < 0 or int(index.value.max()) >= size):
        raise UnsupportedOperationError(low.source, f"has an index outside 0..{size - 1}")
    return low.emit("index_add", [base, index, source], lambda b, i, s: b.index_add(dim, i, s.to(b.dtype)), dim=dim)
