"""Reshaping, permuting, slicing, joining, casting."""

from __future__ import annotations

import math
from typing import Any

import torch

from deqops._errors import UnsupportedOperationError
from deqops.graph._arguments import (
    Arguments,
    dim_of,
    expanded,
    in_dtype,
    indicator,
    knowns,
    number,
    permuted,
    rank_of,
    reduced,
    reshaped,
    selected,
    shape_of,
    sizes_of,
    sliced,
    swapped,
    transformed,
)
from deqops.graph._items import Complex, Dynamic, Known
from deqops.graph._lowering import Lowering, lowers


@lowers("view", "reshape", "_unsafe_view")
def _view(low: Lowering, a: Arguments) -> Any:
    sizes = a.get("size", a.get("shape"))
    return reshaped(low, a["self"], sizes_of(sizes), knowns(sizes))


@lowers("ravel")
def _ravel(low: Lowering, a: Arguments) -> Any:
    return reshaped(low, a["self"], (-1,), [])


@lowers("view_as", "reshape_as")
def _view_as(low: Lowering, a: Arguments) -> Any:
    return reshaped(low, a["self"], shape_of(a["other"]), [a["other"]])


@lowers("flatten.using_ints")
def _flatten(low: Lowering, a: Arguments) -> Any:
    start, end = int(a.get("start_dim", 0)), int(a.get("end_dim", -1))
    return reshaped(low, a["self"], a["self"].meta.flatten(start, end).shape, [])


@lowers("unflatten.int")
def _unflatten(low: Lowering, a: Arguments) -> Any:
    shape = a["self"].meta.unflatten(dim_of(a["dim"], rank_of(a["self"])), sizes_of(a["sizes"])).shape
    return reshaped(low, a["self"], shape, knowns(a["sizes"]))


@lowers("unsqueeze")
def _unsqueeze(low: Lowering, a: Arguments) -> Any:
    return reshaped(low, a["self"], a["self"].meta.unsqueeze(int(a["dim"])).shape, [])


@lowers("squeeze", "squeeze.dim", "squeeze.dims")
def _squeeze(low: Lowering, a: Arguments) -> Any:
    meta, dim = a["self"].meta, a.get("dim")
    squeezed = meta.squeeze() if dim is None else meta.squeeze(tuple(dim) if isinstance(dim, list) else int(dim))
    return reshaped(low, a["self"], squeezed.shape, [])


@lowers("permute")
def _permute(low: Lowering, a: Arguments) -> Any:
    rank = rank_of(a["self"])
    return permuted(low, a["self"], tuple(dim_of(d, rank) for d in a["dims"]))


@lowers("transpose.int", "swapaxes", "swapdims")
def _transpose(low: Lowering, a: Arguments) -> Any:
    rank = rank_of(a["self"])
    names = [k for k in ("dim0", "axis0") if k in a], [k for k in ("dim1", "axis1") if k in a]
    first, second = dim_of(a[names[0][0]], rank), dim_of(a[names[1][0]], rank)
    dims = list(range(rank))
    dims[first], dims[second] = dims[second], dims[first]
    return permuted(low, a["self"], tuple(dims))


@lowers("t", "mT", "mH", "matrix_H", "numpy_T", "adjoint")
def _t(low: Lowering, a: Arguments) -> Any:
    rank = rank_of(a["self"])
    if low.source == "aten.numpy_T.default":
        return permuted(low, a["self"], tuple(reversed(range(rank))))
    return a["self"] if rank < 2 else swapped(low, a["self"])


@lowers("movedim.int", "movedim.intlist", "moveaxis.int", "moveaxis.intlist")
def _movedim(low: Lowering, a: Arguments) -> Any:
    rank = rank_of(a["self"])
    order = torch.empty((1,) * 0 + tuple(range(rank)), device="meta")  # sizes number the dimensions
    source, target = a["source"], a["destination"]
    moved = order.movedim(
        tuple(source) if isinstance(source, list) else source,
        tuple(target) if isinstance(target, list) else target,
    )
    return permuted(low, a["self"], tuple(moved.shape))


@lowers("expand", "broadcast_to")
def _expand(low: Lowering, a: Arguments) -> Any:
    sizes = sizes_of(a["size"])
    shape = tuple(torch.empty(shape_of(a["self"]), device="meta").expand(sizes).shape)
    return expanded(low, a["self"], shape, knowns(a["size"]))


@lowers("broadcast_tensors")
def _broadcast_tensors(low: Lowering, a: Arguments) -> Any:
    parts = a["tensors"]
    broadcast: Any = torch.broadcast_shapes
    shape = tuple(broadcast(*map(shape_of, parts)))
    return [part if shape_of(part) == shape else expanded(low, part, shape, []) for part in parts]


@lowers("meshgrid", "meshgrid.indexing")
def _meshgrid(low: Lowering, a: Arguments) -> Any:
    """Each vector along a dimension of its own; "xy" swaps the first two."""
    parts, order = a["tensors"], list(range(len(a["tensors"])))
    if a.get("indexing") == "xy" and len(parts) > 1:
        order[:2] = [1, 0]
    sizes = [math.prod(shape_of(part)) for part in parts]
    shape = tuple(sizes[k] for k in order)
    grids = []
    for k, part in enumerate(parts):
        line = [sizes[k] if dim == order.index(k) else 1 for dim in range(len(parts))]
        grids.append(expanded(low, reshaped(low, part, line, []), shape, []))
    return grids


@lowers("expand_as")
def _expand_as(low: Lowering, a: Arguments) -> Any:
    return expanded(low, a["self"], shape_of(a["other"]), [a["other"]])


@lowers("select.int")
def _select(low: Lowering, a: Arguments) -> Any:
    item = a["self"]
    dim = dim_of(a["dim"], rank_of(item))
    index = dim_of(a["index"], item.shape[dim])
    return low.emit("select", [item], lambda x: x.select(dim, index), knowns(a["index"]), dim=dim, index=index)


@lowers("slice.Tensor")
def _slice(low: Lowering, a: Arguments) -> Any:
    dim = dim_of(a.get("dim", 0), rank_of(a["self"]))
    start, end, step = (None if a.get(k) is None else int(number(a[k])) for k in ("start", "end", "step"))
    uses = knowns(a.get("start"), a.get("end"), a.get("step"))
    return sliced(low, a["self"], dim, slice(start, end, step), uses)


@lowers("narrow")
def _narrow(low: Lowering, a: Arguments) -> Any:
    dim, start = dim_of(a["dim"], rank_of(a["self"])), int(number(a["start"]))
    length = int(number(a["length"]))
    return sliced(low, a["self"], dim, slice(start, start + length), knowns(a["start"], a["length"]))


@lowers("split.Tensor", "split.sizes", "split_with_sizes", "chunk", "tensor_split.sections")
def _split(low: Lowering, a: Arguments) -> Any:
    item = a["self"]
    dim = dim_of(a.get("dim", 0), rank_of(item))
    sizes = a.get("split_size", a.get("split_sizes", a.get("chunks", a.get("sections"))))
    plain = sizes_of(sizes) if isinstance(sizes, list) else int(number(sizes))
    cut: Any = {"aten.chunk.default": torch.chunk, "aten.tensor_split.sections": torch.tensor_split}.get(
        low.source, torch.split
    )
    parts, start = [], 0
    for piece in cut(item.meta, plain, dim=dim):
        stop = start + piece.shape[dim]
        parts.append(sliced(low, item, dim, slice(start, stop), knowns(sizes)))
        start = stop
    return parts


@lowers("unbind.int")
def _unbind(low: Lowering, a: Arguments) -> Any:
    item = a["self"]
    dim = dim_of(a.get("dim", 0), rank_of(item))
    return [
        low.emit("select", [item], lambda x, i=i: x.select(dim, i), dim=dim, index=i) for i in range(item.shape[dim])
    ]


@lowers("cat", "concat", "concatenate")
def _cat(low: Lowering, a: Arguments) -> Any:
    parts = [part for part in a["tensors"] if shape_of(part) != (0,)]
    dim = dim_of(a.get("dim", 0), rank_of(parts[0]))
    return low.emit("cat", parts, lambda *xs: torch.cat(xs, dim), dim=dim)


@lowers("stack")
def _stack(low: Lowering, a: Arguments) -> Any:
    rank = rank_of(a["tensors"][0]) + 1
    dim = dim_of(a.get("dim", 0), rank)
    parts = []
    for part in a["tensors"]:
        shape = list(shape_of(part))
        shape.insert(dim, 1)
        parts.append(reshaped(low, part, shape, []))
    return low.emit("cat", parts, lambda *xs: torch.cat(xs, dim), dim=dim)


@lowers(
    "clone", "contiguous", "detach", "alias", "lift_fresh", "lift_fresh_copy", "positive", "identity", "_conj",
    "view.dtype",
)  # fmt: skip
def _same(low: Lowering, a: Arguments) -> Any:
    return NotImplemented if low.source == "aten.view.dtype" else a["self"]


@lowers("hstack", "vstack", "dstack", "column_stack")
def _joined(low: Lowering, a: Arguments) -> Any:
    """`cat` along a dimension of its own, tensors of fewer dimensions filled up first."""
    fill: Any = {"hstack": torch.atleast_1d, "vstack": torch.atleast_2d, "dstack": torch.atleast_3d}
    name = low.source.split(".")[1]
    parts = []
    for part in a["tensors"]:
        x = low.as_dynamic(part)
        column = name == "column_stack" and rank_of(x) < 2
        shape = (-1, 1) if column else tuple(fill.get(name, torch.atleast_1d)(x.meta).shape)
        parts.append(x if shape == x.shape else reshaped(low, x, shape, []))
    dim = {"hstack": min(1, rank_of(parts[0]) - 1), "vstack": 0, "dstack": 2, "column_stack": 1}[name]
    return low.emit("cat", parts, lambda *xs: torch.cat(xs, dim), dim=dim)


@lowers("diagonal")
def _diagonal(low: Lowering, a: Arguments) -> Any:
    x = low.as_dynamic(a["self"])
    first, second = (dim_of(a.get(key, place), rank_of(x)) for place, key in enumerate(("dim1", "dim2")))
    return diagonal_of(low, x, first, second, int(number(a.get("offset", 0))))


def diagonal_of(low: Lowering, x: Dynamic, first: int, second: int, offset: int = 0) -> Any:
    """The two dimensions merged into one, from which the places i size + i + offset are selected: the last one."""
    rank = rank_of(x)
    rows, columns = x.shape[first], x.shape[second]
    others = tuple(d for d in range(rank) if d not in (first, second))
    moved = permuted(low, x, (*others, first, second))
    merged = reshaped(low, moved, (*(x.shape[d] for d in others), rows * columns), [])
    place = torch.arange(rows * columns).reshape(rows, columns).diagonal(offset)
    return selected(low, merged, rank - 2, Known(place.clone()))


@lowers("trace")
def _trace(low: Lowering, a: Arguments) -> Any:
    return reduced(low, "sum", _diagonal(low, {"self": a["self"]}), (0,), keepdim=False)


_LARGEST_PLACEMENT = 2**24  # entries of the matrix that puts a vector beside the diagonal


@lowers("diag_embed")
def _diag_embed(low: Lowering, a: Arguments) -> Any:
    """Each entry of the last dimension in its row, times a matrix that is 1 on the diagonal meant."""
    x = low.as_dynamic(a["self"])
    rank, size, offset = rank_of(x), x.shape[-1], int(number(a.get("offset", 0)))
    first, second = dim_of(a.get("dim1", -2), rank + 1), dim_of(a.get("dim2", -1), rank + 1)
    if offset and x.shape[-1] * (size + abs(offset)) ** 2 > _LARGEST_PLACEMENT:
        return NotImplemented
    if offset:
        size += abs(offset)
        places = torch.arange(size * size).reshape(size, size).diagonal(offset)
        matrix = torch.zeros(x.shape[-1], size * size)
        matrix[torch.arange(x.shape[-1]), places] = 1.0
        result = reshaped(low, transformed(low, x, rank - 1, matrix), (*x.shape[:-1], size, size), [])
    else:
        column = reshaped(low, x, (*x.shape, 1), [])
        result = low.emit("mul", [column, Known(torch.eye(size, dtype=x.meta.dtype))], torch.mul)
    if (first, second) == (rank - 1, rank):
        return result
    order = [-1] * (rank + 1)
    order[first], order[second] = rank - 1, rank
    rest = iter(range(rank - 1))
    return permuted(low, result, tuple(d if d >= 0 else next(rest) for d in order))


@lowers("alpha_dropout", "feature_alpha_dropout", "dropout", "feature_dropout")
def _dropout(low: Lowering, a: Arguments) -> Any:
    return a["input"] if a.get("train") is False or a.get("p") == 0.0 else NotImplemented


@lowers("to.dtype", "to.dtype_layout", "_to_copy", "type_as", "to.device", "to.other")
def _to(low: Lowering, a: Arguments) -> Any:
    other = a.get("other")
    dtype = a.get("dtype") if other is None else (other.value if isinstance(other, Known) else other.meta).dtype
    item = a["self"]
    if isinstance(item, Known) or dtype is None or not isinstance(item, Dynamic):
        return NotImplemented if isinstance(item, Known) else item
    if item.meta.dtype == dtype:
        return item
    if dtype.is_complex and item.meta.dtype.is_floating_point:
        part = in_dtype(low, item, torch.empty(0, dtype=dtype, device="meta").real.dtype)
        return Complex(part, Known(torch.zeros(part.shape, dtype=part.meta.dtype)))
    if dtype.is_floating_point and item.meta.dtype == torch.bool:
        return indicator(low, item, dtype)
    if dtype == torch.bool and item.meta.dtype.is_floating_point:
        return low.emit("ne", [item, Known(torch.zeros((), dtype=item.meta.dtype))], torch.ne)
    if not (dtype.is_floating_point and item.meta.dtype.is_floating_point):
        return NotImplemented
    return low.emit("cast", [item], lambda x: x.to(dtype), dtype=str(dtype).removeprefix("torch."))


@lowers("to.dtype", "to.dtype_layout", "_to_copy", "type_as", "to.device", "to.other", of_complex=True)
def _to_complex(low: Lowering, a: Arguments) -> Any:
    """Complex numbers in another complex dtype are themselves; real ones get the imaginary part 0."""
    if not isinstance(a["self"], Complex):
        return _to(low, a)
    other = a.get("other")
    real = isinstance(other, Known | Dynamic) or (
        other is None and getattr(a.get("dtype"), "is_complex", True) is False
    )
    if real:
        raise UnsupportedOperationError(low.source, "drops an imaginary part; take .real")
    return a["self"]


@lowers("copy")
def _copy(low: Lowering, a: Arguments) -> Any:
    source, target = a["src"], a["self"]
    result = expanded(low, source, shape_of(target), [target]) if shape_of(source) != shape_of(target) else source
    return in_dtype_of(low, result, target)


def in_dtype_of(low: Lowering, source: Any, target: Any) -> Any:
    """What is written into a tensor of another dtype; NotImplemented where the cast has no rule."""
    wanted = target.meta.dtype if isinstance(target, Dynamic) else target.value.dtype
    if isinstance(source, Known) and not wanted.is_complex:
        return Known(source.value.to(wanted), source.inputs)
    return _to(low, {"self": low.as_dynamic(source), "dtype": wanted})
