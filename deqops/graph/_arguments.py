"""Arguments of exported operations, and the nodes that several lowering rules make."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from deqops._errors import UnsupportedOperationError
from deqops.graph._items import Dynamic, Item, Known, Real
from deqops.graph._lowering import Lowering, scalar_tensor

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


def rank_of(item: Real) -> int:
    return len(item.shape) if isinstance(item, Dynamic) else item.value.ndim


def shape_of(item: Real) -> tuple[int, ...]:
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
        plain = float(plain) if float(plain) == plain else plain  # what no float is stays an integer, which is refused
    return Known(scalar_tensor(plain), value.inputs if isinstance(value, Known) else frozenset())


def literal(value: float) -> Known:
    """A number of the graph."""
    return Known(scalar_tensor(float(value)))


def combined(low: Lowering, op: str, a: Any, b: Any) -> Dynamic:
    """A node of two operands: add, sub, mul, div."""
    return low.emit(op, [a, b], getattr(torch, op))


def applied(low: Lowering, op: str, item: Any) -> Dynamic:
    """A node of one operand and no attributes."""
    return low.emit(op, [item], getattr(torch, op, None) or getattr(torch.nn.functional, op))


def indicator(low: Lowering, condition: Any, dtype: torch.dtype) -> Any:
    """1 where a condition holds, else 0."""
    one, zero = (Known(torch.full((), value, dtype=dtype)) for value in (1.0, 0.0))
    return low.emit("where", [condition, one, zero], torch.where)


def operand_item(value: Any, beside: Any) -> Any:
    if isinstance(value, Dynamic) or (isinstance(value, Known) and isinstance(value.value, Tensor)):
        return value
    return scalar_item(value, beside)


def filling(low: Lowering, value: Any, target: Any) -> Any:
    """A number that entries of a tensor are replaced with: torch truncates it where the tensor has integers."""
    dtype = low.as_dynamic(target).meta.dtype
    item = operand_item(value, target)
    if dtype.is_floating_point or isinstance(item, Dynamic) or item.value.dtype == dtype:
        return item
    return Known(torch.zeros((), dtype=dtype).masked_fill(torch.tensor(True), item.value.item()), item.inputs)


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


def unread(low: Lowering, item: Dynamic, shape: tuple[int, ...]) -> list[Dynamic]:
    """Two more results of an operation, under its exported name: whoever asks for them is refused."""
    return [low.emit(low.source, [item], lambda t: t.new_zeros(shape), output=place) for place in (1, 2)]


def in_dtype(low: Lowering, item: Any, dtype: torch.dtype | None) -> Any:
    """A floating item in another floating dtype; None leaves it as it is."""
    x = low.as_dynamic(item)
    if dtype is None or dtype == x.meta.dtype:
        return x
    if not (dtype.is_floating_point and x.meta.dtype.is_floating_point):
        raise UnsupportedOperationError(low.source, f"computes in {dtype}")
    return low.emit("cast", [x], lambda t: t.to(dtype), dtype=str(dtype).removeprefix("torch."))


def per_dimension(values: Any, dims: int, default: int) -> tuple[int, ...]:
    """One integer for each dimension, from an exported list of one or of all."""
    if values is None or values == []:
        return (default,) * dims
    sizes = sizes_of(values if isinstance(values, list) else [values])
    if len(sizes) not in (1, dims):
        raise ValueError(f"{len(sizes)} numbers for {dims} dimensions")
    return tuple(sizes * dims if len(sizes) == 1 else sizes)


def reduced(low: Lowering, op: str, item: Any, dims: tuple[int, ...], keepdim: bool) -> Dynamic:
    """`sum`, `mean`, `amax` or `amin` over dimensions."""
    function: Any = getattr(torch, op)
    return low.emit(op, [item], lambda x: function(x, dim=dims, keepdim=keepdim), dims=dims, keepdim=keepdim)


def dims_given(given: Any, rank: int) -> tuple[int, ...]:
    """Nonnegative dimensions in order; None or an empty list mean all."""
    listed = range(rank) if given is None or given == [] else given if isinstance(given, list) else [given]
    return tuple(sorted(dim_of(d, rank) for d in listed))


def transformed(low: Lowering, item: Any, dim: int, matrix: Tensor) -> Any:
    """A constant matrix (old size, new size) of integers applied along one dimension.

    Integers that the dtype does not hold are multiplied in float64: exact numbers, whatever the dtype.
    """
    x = low.as_dynamic(item)
    dtype, rank = x.meta.dtype, rank_of(x)
    wide = not torch.equal(matrix.to(dtype).double(), matrix.double())
    x = in_dtype(low, x, torch.float64) if wide else x
    order = (*(d for d in range(rank) if d != dim), dim)
    moved = x if dim == rank - 1 else permuted(low, x, order)
    product: Any = matmul_of(low, moved, Known(matrix.to(x.meta.dtype)))
    result = product if dim == rank - 1 else permuted(low, product, tuple(order.index(d) for d in range(rank)))
    return in_dtype(low, result, dtype)


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
