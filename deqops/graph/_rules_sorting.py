"""Values in order along a dimension, and what is picked from them: the largest k, the k-th, the median.

Values are entries of `sort`. Their places stay under the exported name: they jump with the state, and are refused by
whoever asks for them.
"""

from __future__ import annotations

from typing import Any

import torch

from deqops._errors import UnsupportedOperationError
from deqops.graph._arguments import Arguments, dim_of, knowns, number, rank_of, reshaped, selected, sliced
from deqops.graph._items import Dynamic, Known
from deqops.graph._lowering import Lowering, lowers


def _sorted(low: Lowering, item: Any, given: Any) -> tuple[Any, int]:
    """In ascending order along a dimension, and that dimension; a single number is in order."""
    x = low.as_dynamic(item)
    if not x.meta.dtype.is_floating_point:
        raise UnsupportedOperationError(low.source, "sorts integers or conditions that depend on the state")
    if not rank_of(x):
        return x, 0
    dim = dim_of(given, rank_of(x))
    return low.emit("sort", [x], lambda t: torch.sort(t, dim=dim)[0], dim=dim), dim


def _reversed(low: Lowering, x: Any, dim: int) -> Any:
    if not rank_of(x):
        return x
    return selected(low, x, dim, Known(torch.arange(x.shape[dim] - 1, -1, -1)))


def _places(low: Lowering, item: Dynamic, result: Any) -> Any:
    """Indices in the result's shape, which jump with the state."""
    shape = result.shape
    return low.emit(low.source, [item], lambda t: t.new_zeros(shape, dtype=torch.int64), output=1)


@lowers("sort", "sort.stable")
def _sort(low: Lowering, a: Arguments) -> Any:
    values, dim = _sorted(low, a["self"], a.get("dim", -1))
    values = _reversed(low, values, dim) if a.get("descending") else values
    return [values, _places(low, low.as_dynamic(a["self"]), values)]


@lowers("msort")
def _msort(low: Lowering, a: Arguments) -> Any:
    return _sorted(low, a["self"], 0)[0]


@lowers("topk")
def _topk(low: Lowering, a: Arguments) -> Any:
    """Of the sorted values; torch leaves open in which order it gives them where that was not asked for."""
    k, is_sorted = int(number(a["k"])), a.get("sorted", True)
    values, dim = _sorted(low, a["self"], a.get("dim", -1))
    if not rank_of(values) or not (is_sorted or k == 1):
        return NotImplemented
    ordered = _reversed(low, values, dim) if a.get("largest", True) else values
    first = sliced(low, ordered, dim, slice(0, k, 1), knowns(a["k"]))
    return [first, _places(low, low.as_dynamic(a["self"]), first)]


def _picked(low: Lowering, a: Arguments, values: Any, dim: int, index: int) -> Any:
    """One of the sorted values, with its place."""
    uses = knowns(a.get("k"))
    one = low.emit("select", [values], lambda t: t.select(dim, index), uses, dim=dim, index=index)
    if a.get("keepdim"):
        shape = values.shape
        one = reshaped(low, one, (*shape[:dim], 1, *shape[dim + 1 :]), [])
    return [one, _places(low, low.as_dynamic(a["self"]), one)]


@lowers("kthvalue")
def _kthvalue(low: Lowering, a: Arguments) -> Any:
    values, dim = _sorted(low, a["self"], a.get("dim", -1))
    return _picked(low, a, values, dim, int(number(a["k"])) - 1) if rank_of(values) else NotImplemented


@lowers("median", "median.dim")
def _median(low: Lowering, a: Arguments) -> Any:
    """torch takes the lower one of the two in the middle."""
    x: Dynamic = low.as_dynamic(a["self"])
    if "dim" not in a:
        flat = reshaped(low, x, (x.meta.numel(),), [])
        values, dim = _sorted(low, flat, 0)
        middle = (x.meta.numel() - 1) // 2
        return low.emit("select", [values], lambda t: t.select(0, middle), dim=0, index=middle)
    values, dim = _sorted(low, x, a["dim"])
    return _picked(low, a, values, dim, (values.shape[dim] - 1) // 2) if rank_of(values) else NotImplemented
