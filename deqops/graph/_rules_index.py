"""Selecting and adding along one dimension by an index that is known."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from deqops.graph._arguments import Arguments, added, dim_of, rank_of, reshaped, scaled, selected, shape_of, sizes_of
from deqops.graph._items import Known
from deqops.graph._lowering import Lowering, lowers
from deqops.graph._rules_scatter import indexed, replaced, scatter_added


@lowers("index_select")
def _index_select(low: Lowering, a: Arguments) -> Any:
    if not isinstance(a["index"], Known):
        return NotImplemented
    return selected(low, a["self"], dim_of(a["dim"], rank_of(a["self"])), a["index"])


@lowers("embedding")
def _embedding(low: Lowering, a: Arguments) -> Any:
    return selected(low, a["weight"], 0, a["indices"]) if isinstance(a["indices"], Known) else NotImplemented


@lowers("index.Tensor")
def _index(low: Lowering, a: Arguments) -> Any:
    given = [(dim, index) for dim, index in enumerate(a["indices"]) if index is not None]
    if len(given) != 1 or not isinstance(given[0][1], Known):
        return indexed(low, a["self"], list(a["indices"]))
    dim, index = given[0]
    if index.value.dtype == torch.bool:
        if index.value.ndim != 1:
            return indexed(low, a["self"], list(a["indices"]))
        index = Known(index.value.nonzero().reshape(-1), index.inputs)
    return selected(low, a["self"], dim, index)


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
    dim = dim_of(a["dim"], index.value.ndim)
    base, source = shape_of(a["self"]), shape_of(a["src"])
    others = [k for k in range(len(base)) if k != dim]
    rows = _row_index(index.value, dim) if index.value.ndim else None
    aligned = tuple(index.value.shape) == source and all(base[k] == source[k] for k in others)
    if rows is None or not aligned:
        return scatter_added(low, a)
    return added(low, a["self"], dim, Known(rows, index.inputs), a["src"])


@lowers("index_add")
def _index_add(low: Lowering, a: Arguments) -> Any:
    if not isinstance(a["index"], Known):
        return NotImplemented
    dim = dim_of(a["dim"], rank_of(a["self"]))
    return added(low, a["self"], dim, a["index"], scaled(low, a["source"], a.get("alpha", 1)))


@lowers("repeat")
def _repeat(low: Lowering, a: Arguments) -> Any:
    repeats, item = sizes_of(a["repeats"]), a["self"]
    shape = (1,) * (len(repeats) - rank_of(item)) + shape_of(item)
    item = reshaped(low, item, shape, []) if shape != shape_of(item) else item
    for dim, count in enumerate(repeats):
        if count != 1:
            item = selected(low, item, dim, Known(torch.arange(shape[dim]).repeat(count)))
    return item


@lowers("tile")
def _tile(low: Lowering, a: Arguments) -> Any:
    """As repeat, dimensions that no count is given for staying as they are."""
    counts = sizes_of(a["dims"])
    return _repeat(low, {"self": a["self"], "repeats": [1] * (rank_of(a["self"]) - len(counts)) + counts})


@lowers("index_copy")
def _index_copy(low: Lowering, a: Arguments) -> Any:
    """Different entries along one dimension replaced by the source's."""
    x, index = low.as_dynamic(a["self"]), a["index"]
    if not isinstance(index, Known) or not rank_of(x) or index.value.unique().numel() != index.value.numel():
        return NotImplemented
    flat, dim = index.value.reshape(-1).long(), dim_of(a["dim"], rank_of(x))
    if flat.numel() and (int(flat.min()) < 0 or int(flat.max()) >= x.shape[dim]):
        return NotImplemented
    return replaced(low, x, dim, flat, low.as_dynamic(a["source"]), index.inputs)


@lowers("roll")
def _roll(low: Lowering, a: Arguments) -> Any:
    """A selection of the shifted positions; without dims the flattened tensor is rolled."""
    item, shifts = a["self"], sizes_of(a["shifts"])
    dims = [dim_of(d, rank_of(item)) for d in a.get("dims") or []]
    if not dims:
        flat = reshaped(low, item, (-1,), [])
        return reshaped(low, _rolled(low, flat, 0, shifts[0]), shape_of(item), [])
    for dim, shift in zip(dims, shifts, strict=True):
        item = _rolled(low, item, dim, shift)
    return item


def _rolled(low: Lowering, item: Any, dim: int, shift: int) -> Any:
    return selected(low, item, dim, Known(torch.arange(shape_of(item)[dim]).roll(shift)))


@lowers("flip")
def _flip(low: Lowering, a: Arguments) -> Any:
    item = a["self"]
    for d in a["dims"]:
        dim = dim_of(d, rank_of(item))
        item = selected(low, item, dim, Known(torch.arange(shape_of(item)[dim]).flip(0)))
    return item
