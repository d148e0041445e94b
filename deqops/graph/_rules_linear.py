"""Products and layer norm."""

from __future__ import annotations

from typing import Any

import torch

from deqops.graph._arguments import (
    Arguments,
    dim_of,
    in_dtype,
    matmul_of,
    permuted,
    rank_of,
    reduced,
    scaled,
    shape_of,
    sizes_of,
    swapped,
    unread,
)
from deqops.graph._items import Known
from deqops.graph._lowering import Lowering, lowers


@lowers("linear")
def _linear(low: Lowering, a: Arguments) -> Any:
    result = matmul_of(low, a["input"], swapped(low, a["weight"]))
    return result if a.get("bias") is None else low.emit("add", [result, a["bias"]], torch.add)


@lowers("matmul", "mm", "bmm", "mv", "dot", "vdot")
def _product(low: Lowering, a: Arguments) -> Any:
    return matmul_of(low, a["self"], next(a[k] for k in ("other", "mat2", "vec", "tensor") if k in a))


@lowers("addmm", "baddbmm", "addmv")
def _addmm(low: Lowering, a: Arguments) -> Any:
    first = next(a[k] for k in ("mat1", "batch1", "mat") if k in a)
    second = next(a[k] for k in ("mat2", "batch2", "vec") if k in a)
    product = scaled(low, matmul_of(low, first, second), a.get("alpha", 1))
    return low.emit("add", [scaled(low, a["self"], a.get("beta", 1)), product], torch.add)


@lowers("addbmm")
def _addbmm(low: Lowering, a: Arguments) -> Any:
    """beta x + alpha sum_b A_b B_b."""
    product = matmul_of(low, a["batch1"], a["batch2"])
    total = scaled(low, reduced(low, "sum", product, (0,), keepdim=False), a.get("alpha", 1))
    return low.emit("add", [scaled(low, a["self"], a.get("beta", 1)), total], torch.add)


_LONGEST_SUM = 4096


@lowers("cumsum")
def _cumsum(low: Lowering, a: Arguments) -> Any:
    """The product with a triangle of ones along the dimension; refused where that matrix would be too large."""
    rank, dtype = rank_of(a["self"]), a.get("dtype")
    if not rank:
        return NotImplemented
    dim = dim_of(a["dim"], rank)
    if isinstance(a["self"], Known) and not a["self"].value.is_floating_point():
        return _counted(a["self"], dim, dtype)
    item = in_dtype(low, a["self"], dtype)
    if not item.meta.dtype.is_floating_point:
        return NotImplemented
    size = shape_of(item)[dim]
    if size > _LONGEST_SUM:
        return NotImplemented
    order = (*(d for d in range(rank) if d != dim), dim)
    ones = Known(torch.ones(size, size, dtype=item.meta.dtype).triu())
    moved = permuted(low, item, order)
    return permuted(low, matmul_of(low, moved, ones), tuple(order.index(d) for d in range(rank)))


def _counted(item: Known, dim: int, dtype: torch.dtype | None) -> Any:
    """Sums of known integers in a floating dtype that holds them."""
    sums = item.value.cumsum(dim)
    if dtype is None or not dtype.is_floating_point or float(item.value.double().abs().sum()) >= 2**53:
        return NotImplemented  # beyond, int64 may wrap around and float64 round
    found = sums.to(dtype)
    return Known(found, item.inputs) if torch.equal(found.double(), sums.double()) else NotImplemented


@lowers("layer_norm")
def _layer_norm(low: Lowering, a: Arguments) -> Any:
    shape = tuple(sizes_of(a["normalized_shape"]))
    result: Any = low.emit(
        "layer_norm", [a["input"]], lambda x: x.clone(), normalized_shape=shape, eps=float(a.get("eps", 1e-5))
    )
    for name, op in (("weight", "mul"), ("bias", "add")):
        if a.get(name) is not None:
            result = low.emit(op, [result, a[name]], getattr(torch, op))
    return result


@lowers("native_layer_norm")
def _native_layer_norm(low: Lowering, a: Arguments) -> Any:
    """With the means and the reciprocal deviations, which stay under the exported name."""
    x, statistics = low.as_dynamic(a["input"]), len(sizes_of(a["normalized_shape"]))
    kept = (*x.shape[: rank_of(x) - statistics], *(1,) * statistics)
    return [_layer_norm(low, {**a, "input": x}), *unread(low, x, kept)]
