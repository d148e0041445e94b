"""How exported operations are written in the small vocabulary of `_ir.py`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from deqops._errors import UnsupportedOperationError
from deqops.graph._lowering import Dynamic, Item, Known, Lowering, lowers, scalar_tensor

Arguments = dict[str, Any]


def _number(value: Any) -> Any:
    """A plain number from an argument that may be a known size."""
    return value.value if isinstance(value, Known) else value


def _dim(value: Any, ndim: int) -> int:
    dim = int(_number(value))
    return dim + ndim if dim < 0 else dim


def _sizes(values: Any) -> list[int]:
    return [int(_number(v)) for v in values]


def _knowns(*values: Any) -> list[Item]:
    found: list[Item] = []
    for value in values:
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, Known):
                found.append(item)
    return found


def _rank(item: Item) -> int:
    return len(item.shape) if isinstance(item, Dynamic) else item.value.ndim


def _shape(item: Item) -> tuple[int, ...]:
    return item.shape if isinstance(item, Dynamic) else tuple(item.value.shape)


# ------------------------------------------------------------------------------------------------- elementwise

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
    if float(a.get("scale", 1.0)) != 1.0 or float(a.get("input_scale", 1.0)) != 1.0:
        return NotImplemented
    return low.emit("elu", [a["self"]], torch.nn.functional.elu, alpha=float(a.get("alpha", 1.0)))


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


@lowers("clamp", "clip")
def _clamp(low: Lowering, a: Arguments) -> Any:
    ends = [None if a.get(k) is None else float(_number(a[k])) for k in ("min", "max")]
    return low.emit("clamp", [a["self"]], lambda x: x.clone(), minimum=ends[0], maximum=ends[1])


@lowers("clamp_min")
def _clamp_min(low: Lowering, a: Arguments) -> Any:
    return low.emit("clamp", [a["self"]], lambda x: x.clone(), minimum=float(_number(a["min"])), maximum=None)


@lowers("clamp_max")
def _clamp_max(low: Lowering, a: Arguments) -> Any:
    return low.emit("clamp", [a["self"]], lambda x: x.clone(), minimum=None, maximum=float(_number(a["max"])))


@lowers("pow.Tensor_Scalar")
def _pow(low: Lowering, a: Arguments) -> Any:
    exponent = _number(a["exponent"])
    if not isinstance(exponent, int | float) or isinstance(exponent, bool):
        return NotImplemented
    return low.emit("pow_scalar", [a["self"]], lambda x: torch.pow(x, exponent), exponent=float(exponent))


# -------------------------------------------------------------------------------------------------- arithmetic


def _scaled(low: Lowering, item: Any, factor: Any) -> Any:
    value = _number(factor)
    if value == 1:
        return item
    return low.emit("mul", [item, scalar_item(value, item)], torch.mul)


def scalar_item(value: Any, beside: Any) -> Known:
    """A Python number as an operand beside a tensor: a float literal next to floating tensors."""
    number = _number(value)
    dtype = beside.meta.dtype if isinstance(beside, Dynamic) else None
    if dtype is not None and dtype.is_floating_point and isinstance(number, int) and not isinstance(number, bool):
        number = float(number)
    return Known(scalar_tensor(number), value.inputs if isinstance(value, Known) else frozenset())


def _operand(value: Any, beside: Any) -> Any:
    if isinstance(value, Dynamic) or (isinstance(value, Known) and isinstance(value.value, Tensor)):
        return value
    return scalar_item(value, beside)


def _promoted(function: Any) -> Any:
    """Shape and dtype of an arithmetic result; 0-dimensional float64 literals do not promote."""
    return lambda x, y: function(x, y)


@lowers("add.Tensor", "add.Scalar")
def _add(low: Lowering, a: Arguments) -> Any:
    other = _scaled(low, _operand(a["other"], a["self"]), a.get("alpha", 1))
    return low.emit("add", [_operand(a["self"], other), other], _promoted(torch.add))


@lowers("sub.Tensor", "sub.Scalar", "subtract.Tensor", "subtract.Scalar")
def _sub(low: Lowering, a: Arguments) -> Any:
    other = _scaled(low, _operand(a["other"], a["self"]), a.get("alpha", 1))
    return low.emit("sub", [_operand(a["self"], other), other], _promoted(torch.sub))


@lowers("rsub.Tensor", "rsub.Scalar")
def _rsub(low: Lowering, a: Arguments) -> Any:
    subtrahend = _scaled(low, a["self"], a.get("alpha", 1))
    return low.emit("sub", [_operand(a["other"], a["self"]), subtrahend], _promoted(torch.sub))


@lowers("mul.Tensor", "mul.Scalar", "multiply.Tensor", "multiply.Scalar")
def _mul(low: Lowering, a: Arguments) -> Any:
    return low.emit("mul", [a["self"], _operand(a["other"], a["self"])], _promoted(torch.mul))


@lowers("div.Tensor", "div.Scalar", "true_divide.Tensor", "true_divide.Scalar", "divide.Tensor", "divide.Scalar")
def _div(low: Lowering, a: Arguments) -> Any:
    return low.emit("div", [a["self"], _operand(a["other"], a["self"])], _promoted(torch.div))


@lowers("maximum", "max.other")
def _maximum(low: Lowering, a: Arguments) -> Any:
    return low.emit("maximum", [a["self"], a["other"]], torch.maximum)


@lowers("minimum", "min.other")
def _minimum(low: Lowering, a: Arguments) -> Any:
    return low.emit("minimum", [a["self"], a["other"]], torch.minimum)


def _comparison(name: str) -> None:
    @lowers(f"{name}.Tensor", f"{name}.Scalar")
    def rule(low: Lowering, a: Arguments) -> Any:
        return low.emit(name, [a["self"], _operand(a["other"], a["self"])], getattr(torch, name))


for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    _comparison(_name)


def _logical(name: str) -> None:
    @lowers(name)
    def rule(low: Lowering, a: Arguments) -> Any:
        return low.emit(name, [a[key] for key in ("self", "other") if key in a], getattr(torch, name))


for _name in ("logical_not", "logical_and", "logical_or", "isinf", "isnan"):
    _logical(_name)


@lowers("where.self", "where.ScalarOther", "where.ScalarSelf", "where.Scalar")
def _where(low: Lowering, a: Arguments) -> Any:
    tensors = [v for v in (a["self"], a["other"]) if isinstance(v, Dynamic)]
    beside = tensors[0] if tensors else None
    parts = [a["condition"], _operand(a["self"], beside), _operand(a["other"], beside)]
    return low.emit("where", parts, torch.where)


@lowers("masked_fill.Scalar", "masked_fill.Tensor")
def _masked_fill(low: Lowering, a: Arguments) -> Any:
    value = _operand(a["value"], a["self"])
    return low.emit("where", [a["mask"], value, a["self"]], lambda m, v, x: torch.where(m, v.to(x.dtype), x))


# ---------------------------------------------------------------------------------------------- linear algebra


def _matmul(low: Lowering, a: Any, b: Any) -> Dynamic:
    return low.emit("matmul", [a, b], torch.matmul)


def _swapped(low: Lowering, item: Any) -> Dynamic:
    rank = _rank(item)
    dims = (*range(rank - 2), rank - 1, rank - 2)
    return low.emit("permute", [item], lambda x: x.permute(dims), dims=dims)


@lowers("linear")
def _linear(low: Lowering, a: Arguments) -> Any:
    result = _matmul(low, a["input"], _swapped(low, a["weight"]))
    return result if a.get("bias") is None else low.emit("add", [result, a["bias"]], torch.add)


@lowers("matmul", "mm", "bmm", "mv", "dot")
def _product(low: Lowering, a: Arguments) -> Any:
    return _matmul(low, a["self"], next(a[k] for k in ("other", "mat2", "vec", "tensor") if k in a))


@lowers("addmm", "baddbmm", "addmv")
def _addmm(low: Lowering, a: Arguments) -> Any:
    first = next(a[k] for k in ("mat1", "batch1", "mat") if k in a)
    second = next(a[k] for k in ("mat2", "batch2", "vec") if k in a)
    product = _scaled(low, _matmul(low, first, second), a.get("alpha", 1))
    return low.emit("add", [_scaled(low, a["self"], a.get("beta", 1)), product], torch.add)


@lowers("layer_norm")
def _layer_norm(low: Lowering, a: Arguments) -> Any:
    shape = tuple(_sizes(a["normalized_shape"]))
    result: Any = low.emit(
        "layer_norm", [a["input"]], lambda x: x.clone(), normalized_shape=shape, eps=float(a.get("eps", 1e-5))
    )
    for name, op in (("weight", "mul"), ("bias", "add")):
        if a.get(name) is not None:
            result = low.emit(op, [result, a[name]], getattr(torch, op))
    return result


@lowers("softmax.int")
def _softmax(low: Lowering, a: Arguments) -> Any:
    if a.get("dtype") is not None:
        return NotImplemented
    return low.emit("softmax", [a["self"]], lambda x: x.clone(), dim=_dim(a["dim"], _rank(a["self"])))


# ------------------------------------------------------------------------------------------------------- shapes


def _reshaped(low: Lowering, item: Any, shape: Any, uses: list[Item]) -> Any:
    if isinstance(item, Known):
        return Known(item.value.reshape(shape), item.inputs.union(*(u.inputs for u in uses)))
    full = tuple(item.meta.reshape(shape).shape)
    return low.emit("reshape", [item], lambda x: x.reshape(full), uses, shape=full)


@lowers("view", "reshape", "_unsafe_view")
def _view(low: Lowering, a: Arguments) -> Any:
    sizes = a.get("size", a.get("shape"))
    return _reshaped(low, a["self"], _sizes(sizes), _knowns(sizes))


@lowers("view_as", "reshape_as")
def _view_as(low: Lowering, a: Arguments) -> Any:
    return _reshaped(low, a["self"], _shape(a["other"]), [a["other"]])


@lowers("flatten.using_ints")
def _flatten(low: Lowering, a: Arguments) -> Any:
    start, end = int(a.get("start_dim", 0)), int(a.get("end_dim", -1))
    return _reshaped(low, a["self"], a["self"].meta.flatten(start, end).shape, [])


@lowers("unflatten.int")
def _unflatten(low: Lowering, a: Arguments) -> Any:
    shape = a["self"].meta.unflatten(_dim(a["dim"], _rank(a["self"])), _sizes(a["sizes"])).shape
    return _reshaped(low, a["self"], shape, _knowns(a["sizes"]))


@lowers("unsqueeze")
def _unsqueeze(low: Lowering, a: Arguments) -> Any:
    return _reshaped(low, a["self"], a["self"].meta.unsqueeze(int(a["dim"])).shape, [])


@lowers("squeeze", "squeeze.dim", "squeeze.dims")
def _squeeze(low: Lowering, a: Arguments) -> Any:
    meta, dim = a["self"].meta, a.get("dim")
    squeezed = meta.squeeze() if dim is None else meta.squeeze(tuple(dim) if isinstance(dim, list) else int(dim))
    return _reshaped(low, a["self"], squeezed.shape, [])


def _permuted(low: Lowering, item: Any, dims: tuple[int, ...]) -> Any:
    return low.emit("permute", [item], lambda x: x.permute(dims), dims=dims)


@lowers("permute")
def _permute(low: Lowering, a: Arguments) -> Any:
    rank = _rank(a["self"])
    return _permuted(low, a["self"], tuple(_dim(d, rank) for d in a["dims"]))


@lowers("transpose.int", "swapaxes", "swapdims")
def _transpose(low: Lowering, a: Arguments) -> Any:
    rank = _rank(a["self"])
    names = [k for k in ("dim0", "axis0") if k in a], [k for k in ("dim1", "axis1") if k in a]
    first, second = _dim(a[names[0][0]], rank), _dim(a[names[1][0]], rank)
    dims = list(range(rank))
    dims[first], dims[second] = dims[second], dims[first]
    return _permuted(low, a["self"], tuple(dims))


@lowers("t", "mT", "numpy_T", "adjoint")
def _t(low: Lowering, a: Arguments) -> Any:
    rank = _rank(a["self"])
    if low.source == "aten.numpy_T.default":
        return _permuted(low, a["self"], tuple(reversed(range(rank))))
    return a["self"] if rank < 2 else _swapped(low, a["self"])


@lowers("movedim.int", "movedim.intlist")
def _movedim(low: Lowering, a: Arguments) -> Any:
    rank = _rank(a["self"])
    order = torch.empty((1,) * 0 + tuple(range(rank)), device="meta")  # sizes number the dimensions
    source, target = a["source"], a["destination"]
    moved = order.movedim(
        tuple(source) if isinstance(source, list) else source,
        tuple(target) if isinstance(target, list) else target,
    )
    return _permuted(low, a["self"], tuple(moved.shape))


def _expanded(low: Lowering, item: Any, shape: tuple[int, ...], uses: list[Item]) -> Any:
    if isinstance(item, Known):
        return Known(item.value.expand(shape), item.inputs.union(*(u.inputs for u in uses)))
    return low.emit("expand", [item], lambda x: x.expand(shape), uses, shape=shape)


@lowers("expand", "broadcast_to")
def _expand(low: Lowering, a: Arguments) -> Any:
    sizes = _sizes(a["size"])
    shape = tuple(torch.empty(_shape(a["self"]), device="meta").expand(sizes).shape)
    return _expanded(low, a["self"], shape, _knowns(a["size"]))


@lowers("expand_as")
def _expand_as(low: Lowering, a: Arguments) -> Any:
    return _expanded(low, a["self"], _shape(a["other"]), [a["other"]])


@lowers("select.int")
def _select(low: Lowering, a: Arguments) -> Any:
    item = a["self"]
    dim = _dim(a["dim"], _rank(item))
    index = _dim(a["index"], item.shape[dim])
    return low.emit("select", [item], lambda x: x.select(dim, index), _knowns(a["index"]), dim=dim, index=index)


def _sliced(low: Lowering, item: Dynamic, dim: int, part: slice, uses: list[Item]) -> Any:
    start, stop, step = part.indices(item.shape[dim])
    stop = max(start, stop)
    if (start, stop, step) == (0, item.shape[dim], 1):
        return item
    where = (slice(None),) * dim + (slice(start, stop, step),)
    return low.emit("slice", [item], lambda x: x[where], uses, dim=dim, start=start, stop=stop, step=step)


@lowers("slice.Tensor")
def _slice(low: Lowering, a: Arguments) -> Any:
    dim = _dim(a.get("dim", 0), _rank(a["self"]))
    start, end, step = (None if a.get(k) is None else int(_number(a[k])) for k in ("start", "end", "step"))
    uses = _knowns(a.get("start"), a.get("end"), a.get("step"))
    return _sliced(low, a["self"], dim, slice(start, end, step), uses)


@lowers("narrow")
def _narrow(low: Lowering, a: Arguments) -> Any:
    dim, start = _dim(a["dim"], _rank(a["self"])), int(_number(a["start"]))
    length = int(_number(a["length"]))
    return _sliced(low, a["self"], dim, slice(start, start + length), _knowns(a["start"], a["length"]))


@lowers("split.Tensor", "split.sizes", "split_with_sizes", "chunk", "tensor_split.sections")
def _split(low: Lowering, a: Arguments) -> Any:
    item = a["self"]
    dim = _dim(a.get("dim", 0), _rank(item))
    sizes = a.get("split_size", a.get("split_sizes", a.get("chunks", a.get("sections"))))
    plain = _sizes(sizes) if isinstance(sizes, list) else int(_number(sizes))
    cut: Any = {"aten.chunk.default": torch.chunk, "aten.tensor_split.sections": torch.tensor_split}.get(
        low.source, torch.split
    )
    parts, start = [], 0
    for piece in cut(item.meta, plain, dim=dim):
        stop = start + piece.shape[dim]
        parts.append(_sliced(low, item, dim, slice(start, stop), _knowns(sizes)))
        start = stop
    return parts


@lowers("unbind.int")
def _unbind(low: Lowering, a: Arguments) -> Any:
    item = a["self"]
    dim = _dim(a.get("dim", 0), _rank(item))
    return [
        low.emit("select", [item], lambda x, i=i: x.select(dim, i), dim=dim, index=i) for i in range(item.shape[dim])
    ]


@lowers("cat", "concat", "concatenate")
def _cat(low: Lowering, a: Arguments) -> Any:
    parts = [part for part in a["tensors"] if _shape(part) != (0,)]
    dim = _dim(a.get("dim", 0), _rank(parts[0]))
    return low.emit("cat", parts, lambda *xs: torch.cat(xs, dim), dim=dim)


@lowers("stack")
def _stack(low: Lowering, a: Arguments) -> Any:
    rank = _rank(a["tensors"][0]) + 1
    dim = _dim(a.get("dim", 0), rank)
    parts = []
    for part in a["tensors"]:
        shape = list(_shape(part))
        shape.insert(dim, 1)
        parts.append(_reshaped(low, part, shape, []))
    return low.emit("cat", parts, lambda *xs: torch.cat(xs, dim), dim=dim)


@lowers(
    "clone", "contiguous", "detach", "alias", "lift_fresh", "lift_fresh_copy", "positive", "identity", "_conj",
    "view.dtype",
)  # fmt: skip
def _same(low: Lowering, a: Arguments) -> Any:
    return NotImplemented if low.source == "aten.view.dtype" else a["self"]


@lowers("dropout", "feature_dropout")
def _dropout(low: Lowering, a: Arguments) -> Any:
    return a["input"] if a.get("train") is False or a.get("p") == 0.0 else NotImplemented


@lowers("to.dtype", "to.dtype_layout", "_to_copy", "type_as", "to.device", "to.other")
def _to(low: Lowering, a: Arguments) -> Any:
    other = a.get("other")
    dtype = a.get("dtype") if other is None else (other.meta.dtype if isinstance(other, Dynamic) else other.value.dtype)
    item = a["self"]
    if isinstance(item, Known) or dtype is None or not isinstance(item, Dynamic):
        return NotImplemented if isinstance(item, Known) else item
    if item.meta.dtype == dtype:
        return item
    if not (dtype.is_floating_point and item.meta.dtype.is_floating_point):
        return NotImplemented
    return low.emit("cast", [item], lambda x: x.to(dtype), dtype=str(dtype).removeprefix("torch."))


@lowers("copy")
def _copy(low: Lowering, a: Arguments) -> Any:
    source, target = a["src"], a["self"]
    result = _expanded(low, source, _shape(target), [target]) if _shape(source) != _shape(target) else source
    wanted = target.meta.dtype if isinstance(target, Dynamic) else target.value.dtype
    return _to(low, {"self": low.as_dynamic(result), "dtype": wanted})


# ----------------------------------------------------------------------------------------------------- indexing


def _selected(low: Lowering, item: Any, dim: int, index: Known) -> Any:
    flat = index.value.reshape(-1).to(torch.int64)
    size = _shape(item)[dim]
    if flat.numel() and (int(flat.min()) < -size or int(flat.max()) >= size):
        raise UnsupportedOperationError(low.source, f"has an index outside 0..{size - 1}")
    flat = torch.where(flat < 0, flat + size, flat)
    rows = Known(flat, index.inputs)
    picked = low.emit("index_select", [item, rows], lambda x, i: x.index_select(dim, i), dim=dim)
    if index.value.ndim == 1:
        return picked
    shape = (*_shape(item)[:dim], *index.value.shape, *_shape(item)[dim + 1 :])
    return _reshaped(low, picked, shape, [index])


@lowers("index_select")
def _index_select(low: Lowering, a: Arguments) -> Any:
    if not isinstance(a["index"], Known):
        return NotImplemented
    return _selected(low, a["self"], _dim(a["dim"], _rank(a["self"])), a["index"])


@lowers("embedding")
def _embedding(low: Lowering, a: Arguments) -> Any:
    return _selected(low, a["weight"], 0, a["indices"]) if isinstance(a["indices"], Known) else NotImplemented


@lowers("index.Tensor")
def _index(low: Lowering, a: Arguments) -> Any:
    given = [(dim, index) for dim, index in enumerate(a["indices"]) if index is not None]
    if len(given) != 1 or not isinstance(given[0][1], Known):
        return NotImplemented
    dim, index = given[0]
    if index.value.dtype == torch.bool:
        if index.value.ndim != 1:
            return NotImplemented
        index = Known(index.value.nonzero().reshape(-1), index.inputs)
    return _selected(low, a["self"], dim, index)


def _row_index(index: Tensor, dim: int) -> Tensor | None:
    """The index along one dimension where it is the same along all others; None where it is not."""
    moved = index.movedim(dim, 0).reshape(index.shape[dim], -1)
    if moved.shape[1] == 0:
        return None
    first = moved[:, 0]
    return first.clone() if bool((moved == first[:, None]).all()) else None


@lowers("scatter_add")
def _scatter_add(low: Lowering, a: Arguments) -> Any:
    index = a["index"]
    if not isinstance(index, Known):
        return NotImplemented
    dim = _dim(a["dim"], index.value.ndim)
    base, source = _shape(a["self"]), _shape(a["src"])
    others = [k for k in range(len(base)) if k != dim]
    rows = _row_index(index.value, dim) if index.value.ndim else None
    aligned = tuple(index.value.shape) == source and all(base[k] == source[k] for k in others)
    if rows is None or not aligned:
        return NotImplemented
    return _added(low, a["self"], dim, Known(rows, index.inputs), a["src"])


def _added(low: Lowering, base: Any, dim: int, index: Known, source: Any) -> Any:
    return low.emit("index_add", [base, index, source], lambda b, i, s: b.index_add(dim, i, s.to(b.dtype)), dim=dim)


@lowers("index_add")
def _index_add(low: Lowering, a: Arguments) -> Any:
    if not isinstance(a["index"], Known):
        return NotImplemented
    dim = _dim(a["dim"], _rank(a["self"]))
    return _added(low, a["self"], dim, a["index"], _scaled(low, a["source"], a.get("alpha", 1)))


@lowers("repeat")
def _repeat(low: Lowering, a: Arguments) -> Any:
    repeats, item = _sizes(a["repeats"]), a["self"]
    shape = (1,) * (len(repeats) - _rank(item)) + _shape(item)
    item = _reshaped(low, item, shape, []) if shape != _shape(item) else item
    for dim, count in enumerate(repeats):
        if count != 1:
            item = _selected(low, item, dim, Known(torch.arange(shape[dim]).repeat(count)))
    return item


@lowers("flip")
def _flip(low: Lowering, a: Arguments) -> Any:
    item = a["self"]
    for d in a["dims"]:
        dim = _dim(d, _rank(item))
        item = _selected(low, item, dim, Known(torch.arange(_shape(item)[dim]).flip(0)))
    return item


# --------------------------------------------------------------------------------------------------- reductions


def _reduced(low: Lowering, a: Arguments, op: str) -> Any:
    item = a["self"]
    rank, given = _rank(item), a.get("dim")
    if a.get("dtype") is not None:
        return NotImplemented
    listed = range(rank) if given is None or given == [] else given if isinstance(given, list) else [given]
    dims, keepdim = tuple(sorted(_dim(d, rank) for d in listed)), bool(a.get("keepdim", False))
    function: Any = {"sum": torch.sum, "mean": torch.mean, "amax": torch.amax, "amin": torch.amin}[op]
    return low.emit(op, [item], lambda x: function(x, dim=dims, keepdim=keepdim), dims=dims, keepdim=keepdim)


@lowers("sum", "sum.dim_IntList")
def _sum(low: Lowering, a: Arguments) -> Any:
    return _reduced(low, a, "sum")


@lowers("mean", "mean.dim")
def _mean(low: Lowering, a: Arguments) -> Any:
    return _reduced(low, a, "mean")


@lowers("amax")
def _amax(low: Lowering, a: Arguments) -> Any:
    return _reduced(low, a, "amax")


@lowers("amin")
def _amin(low: Lowering, a: Arguments) -> Any:
    return _reduced(low, a, "amin")
