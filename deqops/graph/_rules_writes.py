"""Writing into part of a tensor, and choices by a condition, in the small vocabulary."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from deqops.graph._arguments import (
    Arguments,
    added,
    dim_of,
    expanded,
    in_dtype,
    knowns,
    number,
    rank_of,
    reshaped,
    shape_of,
    sliced,
)
from deqops.graph._items import Dynamic, Known
from deqops.graph._lowering import Lowering, lowers
from deqops.graph._rules_scatter import index_written, replaced
from deqops.graph._rules_shape import in_dtype_of


def _joined(low: Lowering, x: Any, dim: int, start: int, stop: int, part: Any) -> Any:
    """`x` with the entries start..stop along `dim` replaced by `part`."""
    whole = low.as_dynamic(x)
    pieces = [sliced(low, whole, dim, slice(0, start), []), part]
    pieces.append(sliced(low, whole, dim, slice(stop, None), []))
    kept = [piece for piece in pieces if shape_of(piece)[dim]]
    return kept[0] if len(kept) == 1 else low.emit("cat", kept, lambda *xs: torch.cat(xs, dim), dim=dim)


@lowers("select_scatter")
def _select_scatter(low: Lowering, a: Arguments) -> Any:
    x, dim = a["self"], dim_of(a["dim"], rank_of(a["self"]))
    index = dim_of(a["index"], shape_of(x)[dim])
    if knowns(a["index"]):
        return NotImplemented
    source = in_dtype_of(low, a["src"], x)
    if source is NotImplemented:
        return source
    shape = list(shape_of(source))
    shape.insert(dim, 1)
    return _joined(low, x, dim, index, index + 1, reshaped(low, low.as_dynamic(source), shape, []))


@lowers("slice_scatter")
def _slice_scatter(low: Lowering, a: Arguments) -> Any:
    x, dim = a["self"], dim_of(a.get("dim", 0), rank_of(a["self"]))
    given = [a.get(key) for key in ("start", "end", "step")]
    if knowns(*given):
        return NotImplemented
    start, stop, step = slice(*given).indices(shape_of(x)[dim])
    source = in_dtype_of(low, a["src"], x)
    if source is NotImplemented:
        return source
    if step != 1:
        return replaced(low, low.as_dynamic(x), dim, torch.arange(start, stop, step), low.as_dynamic(source))
    return _joined(low, x, dim, start, max(start, stop), low.as_dynamic(source))


@lowers("index_put")
def _index_put(low: Lowering, a: Arguments) -> Any:
    """Accumulating along one dimension is an `index_add`."""
    given = [(dim, index) for dim, index in enumerate(a["indices"]) if index is not None]
    masked = len(given) == 1 and isinstance(given[0][1], Dynamic) and given[0][1].meta.dtype == torch.bool
    if masked and not a.get("accumulate", False):
        return _masked(low, low.as_dynamic(a["self"]), *given[0], low.as_dynamic(a["values"]))
    if not a.get("accumulate", False) or len(given) != 1:
        return index_written(low, a)
    dim, index = given[0]
    if not isinstance(index, Known) or index.value.dtype == torch.bool or index.value.ndim != 1:
        return index_written(low, a)
    size = shape_of(a["self"])[dim]
    rows = Known(torch.where(index.value < 0, index.value + size, index.value).long(), index.inputs)
    expected = (*shape_of(a["self"])[:dim], len(rows.value), *shape_of(a["self"])[dim + 1 :])
    if shape_of(a["values"]) != expected:
        return index_written(low, a)
    return added(low, a["self"], dim, rows, a["values"])


def _masked(low: Lowering, x: Dynamic, dim: int, mask: Dynamic, value: Dynamic) -> Any:
    """One number wherever a condition holds that is not known beforehand."""
    if value.meta.numel() != 1 or mask.shape != x.shape[dim : dim + rank_of(mask)]:
        return NotImplemented
    wide = reshaped(low, mask, (*mask.shape, *(1,) * (rank_of(x) - dim - rank_of(mask))), [])
    number_ = reshaped(low, in_dtype(low, value, x.meta.dtype), (), [])
    return low.emit("where", [wide, number_, x], torch.where)


@lowers("fill.Scalar")
def _fill(low: Lowering, a: Arguments) -> Any:
    value = number(a["value"])
    if not isinstance(a["self"], Dynamic) or not isinstance(value, bool | int | float):
        return NotImplemented
    inputs = a["self"].inputs | (a["value"].inputs if isinstance(a["value"], Known) else frozenset())
    return Known(torch.full(a["self"].shape, value, dtype=a["self"].meta.dtype), inputs)


@lowers("fill.Tensor")
def _fill_tensor(low: Lowering, a: Arguments) -> Any:
    """One number, in the dtype of what it fills, everywhere."""
    target, value = low.as_dynamic(a["self"]), low.as_dynamic(a["value"])
    if not value.meta.dtype.is_floating_point:
        return NotImplemented
    return expanded(low, in_dtype(low, value, target.meta.dtype), target.shape, [target])


@lowers("zero")
def _zero(low: Lowering, a: Arguments) -> Any:
    return _fill(low, {"self": a["self"], "value": 0})


@lowers("index_fill.int_Scalar")
def _index_fill(low: Lowering, a: Arguments) -> Any:
    x, index, value = a["self"], a["index"], number(a["value"])
    if not isinstance(x, Dynamic) or not isinstance(index, Known) or not isinstance(value, bool | int | float):
        return NotImplemented
    dim = dim_of(a["dim"], rank_of(x))
    mask = torch.zeros(x.shape, dtype=torch.bool).index_fill(dim, index.value.reshape(-1), True)
    filled = Known(torch.full((), value, dtype=x.meta.dtype))
    return low.emit("where", [Known(mask, index.inputs), filled, x], torch.where)


@lowers("tril", "triu")
def _triangle(low: Lowering, a: Arguments) -> Any:
    x, diagonal = a["self"], int(number(a.get("diagonal", 0)))
    cut = torch.tril if low.source == "aten.tril.default" else torch.triu
    mask: Tensor = cut(torch.ones(shape_of(x), dtype=torch.bool), diagonal)
    zero = Known(torch.zeros((), dtype=low.as_dynamic(x).meta.dtype))
    return low.emit("where", [Known(mask, frozenset().union(*_inputs(a))), x, zero], torch.where)


def _inputs(a: Arguments) -> list[frozenset[int]]:
    return [item.inputs for item in a.values() if isinstance(item, Known)]
