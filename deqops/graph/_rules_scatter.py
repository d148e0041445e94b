"""Gathering and scattering by an index of several dimensions that is known.

The dimensions that an index chooses among are folded into one by a reshape; what is left is a selection or an
`index_add` along that one. Dimensions along which the index is the same everywhere are left alone, so that problems
of a batch stay apart. Overwriting selects from the old entries and the new ones; the largest of a segment is the
largest of its members, a short segment repeating one of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from deqops._errors import UnsupportedOperationError
from deqops.graph._arguments import (
    Arguments,
    added,
    combined,
    dim_of,
    expanded,
    filling,
    number,
    permuted,
    rank_of,
    reduced,
    reshaped,
    selected,
    shape_of,
    sliced,
)
from deqops.graph._items import Known
from deqops.graph._lowering import Lowering, lowers

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Places:
    """Positions within dimensions `first..last` of a tensor, folded into one; `shape` is the index' own there."""

    first: int
    last: int
    flat: Tensor
    shape: Shape
    inputs: frozenset[int]

    def fold(self, low: Lowering, item: Any, inner: Shape | None = None) -> Any:
        """The item with these dimensions in one."""
        shape = shape_of(item)
        size = math.prod(shape[self.first : self.last + 1]) if inner is None else math.prod(inner)
        folded = (*shape[: self.first], size, *shape[self.last + 1 :])
        return item if folded == shape else reshaped(low, item, folded, [])

    def unfold(self, low: Lowering, item: Any, inner: Shape) -> Any:
        """The folded dimension as dimensions of these sizes."""
        shape = shape_of(item)
        whole = (*shape[: self.first], *inner, *shape[self.first + 1 :])
        return item if whole == shape else reshaped(low, item, whole, [])

    @property
    def known(self) -> Known:
        """The positions as an index."""
        return Known(self.flat, self.inputs)


def _along(index: Known, dim: int, shape: Shape) -> Places | None:
    """Of an index that replaces the coordinate `dim`; None for one without entries, or out of range."""
    value = index.value.to(torch.int64)
    if value.ndim != len(shape) or not value.numel() or not shape:
        return None
    if (
        int(value.min()) < 0
        or int(value.max()) >= shape[dim]
        or any(value.shape[k] > shape[k] for k in range(len(shape)) if k != dim)
    ):
        return None
    chosen = [
        k
        for k in range(len(shape))
        if k == dim or value.shape[k] != shape[k] or bool((value != value.narrow(k, 0, 1)).any())
    ]
    first, last = min(chosen), max(chosen)
    value = value[(0,) * first].reshape(*value.shape[first:])
    value = value[(..., *(0,) * (len(shape) - 1 - last))]
    flat = torch.zeros(value.shape, dtype=torch.int64)
    for offset, size in enumerate(shape[first : last + 1]):
        place = torch.arange(value.shape[offset]).reshape(-1, *(1,) * (value.ndim - 1 - offset))
        flat = flat * size + (value if first + offset == dim else place)
    return Places(first, last, flat.reshape(-1), tuple(value.shape), index.inputs)


def _indexed(low: Lowering, indices: list[Any], shape: Shape) -> tuple[tuple[int, ...], Places] | None:
    """The dimensions that a list of index tensors replaces, and the places within them, folded."""
    found: list[tuple[int, Tensor]] = []
    inputs: frozenset[int] = frozenset()
    dim = 0
    for index in indices:
        if index is None:
            dim += 1
            continue
        if not isinstance(index, Known):
            return None
        inputs |= index.inputs
        parts = index.value.nonzero(as_tuple=True) if index.value.dtype == torch.bool else (index.value,)
        found += [(dim + offset, part.to(torch.int64)) for offset, part in enumerate(parts)]
        dim += len(parts)
    if not found:
        return None
    dims = tuple(d for d, _ in found)
    flat = torch.zeros((), dtype=torch.int64)
    for d, value in found:
        size = shape[d]
        if value.numel() and (int(value.min()) < -size or int(value.max()) >= size):
            raise UnsupportedOperationError(low.source, f"has an index outside 0..{size - 1}")
        flat = flat * size + torch.where(value < 0, value + size, value)
    return dims, Places(dims[0], dims[0] + len(dims) - 1, flat.reshape(-1), tuple(flat.shape), inputs)


def _side_by_side(dims: tuple[int, ...]) -> bool:
    return dims == tuple(range(dims[0], dims[0] + len(dims)))


# ----------------------------------------------------------------------------------------------------- gathering


def indexed(low: Lowering, item: Any, indices: list[Any]) -> Any:
    """`item[indices]` with several known indices; NotImplemented for others."""
    x = low.as_dynamic(item)
    found = _indexed(low, indices, x.shape)
    if found is None:
        return NotImplemented
    dims, places = found
    if not _side_by_side(dims):  # torch puts the dimensions of the index first
        x = permuted(low, x, (*dims, *(d for d in range(rank_of(x)) if d not in dims)))
        places = Places(0, len(dims) - 1, places.flat, places.shape, places.inputs)
    picked = selected(low, places.fold(low, x), places.first, places.known)
    return places.unfold(low, picked, places.shape)


@lowers("gather")
def _gather(low: Lowering, a: Arguments) -> Any:
    x, index = low.as_dynamic(a["self"]), a["index"]
    places = _along(index, dim_of(a["dim"], rank_of(x)), x.shape) if isinstance(index, Known) else None
    if places is None:
        return NotImplemented
    return places.unfold(low, selected(low, places.fold(low, x), places.first, places.known), places.shape)


@lowers("take_along_dim")
def _take_along_dim(low: Lowering, a: Arguments) -> Any:
    """A gather with the index broadcast along the other dimensions; without one from the flattened tensor."""
    x, index = low.as_dynamic(a["self"]), a["indices"]
    if not isinstance(index, Known):
        return NotImplemented
    if a.get("dim") is None:
        flat = Known(index.value.reshape(-1), index.inputs)
        return _gather(low, {"self": reshaped(low, x, (-1,), []), "dim": 0, "index": flat})
    dim = dim_of(a["dim"], rank_of(x))
    both = index.value.narrow(dim, 0, 1).expand_as(x.meta.narrow(dim, 0, 1)) if x.shape[dim] else index.value
    lead, rest = both.shape[:dim], both.shape[dim + 1 :]
    chosen = index.value.expand(*lead, index.value.shape[dim], *rest)
    return _gather(low, {"self": x, "dim": dim, "index": Known(chosen, index.inputs)})


@lowers("repeat_interleave.self_int", "repeat_interleave.self_Tensor")
def _repeat_interleave(low: Lowering, a: Arguments) -> Any:
    """Each entry several times in a row; without a dimension of the flattened tensor."""
    x, repeats = low.as_dynamic(a["self"]), a["repeats"]
    if isinstance(repeats, Known) and isinstance(repeats.value, Tensor):
        counts = repeats.value
    elif isinstance(number(repeats), int):
        counts = torch.tensor(number(repeats))
    else:
        return NotImplemented
    if a.get("dim") is None:
        x = reshaped(low, x, (-1,), [])
    dim = dim_of(a["dim"], rank_of(x)) if a.get("dim") is not None else 0
    inputs = repeats.inputs if isinstance(repeats, Known) else frozenset()
    places = torch.arange(x.shape[dim]).repeat_interleave(
        counts.expand(x.shape[dim]) if counts.numel() == 1 else counts
    )
    return selected(low, x, dim, Known(places, inputs))


# ---------------------------------------------------------------------------------------------------- scattering


def _source(low: Lowering, a: Arguments, index: Known) -> Any:
    """The part of the source that the index speaks of."""
    source = low.as_dynamic(a["src"])
    for dim, size in enumerate(index.value.shape):
        source = sliced(low, source, dim, slice(0, size), [])
    return source


def _scattered(low: Lowering, a: Arguments) -> tuple[Any, Places, Any] | None:
    """(base, places, source), the first and the last folded."""
    base, index = low.as_dynamic(a["self"]), a["index"]
    places = _along(index, dim_of(a["dim"], rank_of(base)), base.shape) if isinstance(index, Known) else None
    if places is None:
        return None
    return places.fold(low, base), places, places.fold(low, _source(low, a, index))


def scatter_added(low: Lowering, a: Arguments) -> Any:
    """base plus the source's entries at their places."""
    found = _scattered(low, a)
    if found is None:
        return NotImplemented
    base, places, source = found
    total = added(low, base, places.first, places.known, source)
    return places.unfold(low, total, shape_of(low.as_dynamic(a["self"]))[places.first : places.last + 1])


def _overwritten(low: Lowering, base: Any, places: Places, source: Any) -> Any:
    """base with the entries at the places replaced; NotImplemented where a place is named twice."""
    if places.flat.numel() and int(torch.bincount(places.flat).max()) > 1:
        return NotImplemented
    return replaced(low, base, places.first, places.flat, source, places.inputs)


def replaced(
    low: Lowering, base: Any, dim: int, flat: Tensor, source: Any, inputs: frozenset[int] = frozenset()
) -> Any:
    """base with the entries at different places along one dimension replaced by the source's."""
    size = shape_of(base)[dim]
    both = low.emit("cat", [base, source], lambda *ts: torch.cat(ts, dim), dim=dim)
    which = torch.arange(size)
    which[flat] = size + torch.arange(len(flat))
    return selected(low, both, dim, Known(which, inputs))


@lowers("scatter.src")
def _scatter(low: Lowering, a: Arguments) -> Any:
    found = _scattered(low, a)
    if found is None:
        return NotImplemented
    base, places, source = found
    result = _overwritten(low, base, places, source)
    if result is NotImplemented:
        return result
    return places.unfold(low, result, shape_of(low.as_dynamic(a["self"]))[places.first : places.last + 1])


@lowers("scatter.value")
def _scatter_value(low: Lowering, a: Arguments) -> Any:
    x, index = low.as_dynamic(a["self"]), a["index"]
    if not isinstance(index, Known):
        return NotImplemented
    mask = torch.zeros(x.shape, dtype=torch.bool).scatter(dim_of(a["dim"], rank_of(x)), index.value, value=True)
    return low.emit("where", [Known(mask, index.inputs), filling(low, a["value"], x), x], torch.where)


def index_written(low: Lowering, a: Arguments) -> Any:
    """`item[indices] = values`, or `+= values` where accumulating, with known indices side by side."""
    x, values = low.as_dynamic(a["self"]), low.as_dynamic(a["values"])
    found = _indexed(low, list(a["indices"]), x.shape)
    if found is None or not _side_by_side(found[0]):
        return NotImplemented
    places = found[1]
    whole = (*x.shape[: places.first], *places.shape, *x.shape[places.last + 1 :])
    if shape_of(values) != whole:
        values = expanded(low, values, whole, [])
    source = reshaped(low, values, (*x.shape[: places.first], len(places.flat), *x.shape[places.last + 1 :]), [])
    base = places.fold(low, x)
    if a.get("accumulate", False):
        result = added(low, base, places.first, places.known, source)
    else:
        result = _overwritten(low, base, places, source)
    return result if result is NotImplemented else places.unfold(low, result, x.shape[places.first : places.last + 1])


# ------------------------------------------------------------------------------------------------------ segments


@lowers("scatter_reduce.two")
def _scatter_reduce(low: Lowering, a: Arguments) -> Any:
    """The sum, mean, largest or least of each segment, with the old entry or without; empty segments keep it."""
    found = _scattered(low, a)
    kind = str(a["reduce"])
    if found is None or kind not in ("sum", "mean", "amax", "amin"):
        return NotImplemented
    base, places, source = found
    if kind == "mean" and not low.as_dynamic(base).meta.dtype.is_floating_point:
        raise UnsupportedOperationError(low.source, "rounds means of integers")
    own = bool(a.get("include_self", True)) and not _is_neutral(a["self"], kind)
    if kind in ("amax", "amin"):
        result = _extreme(low, base, places, source, kind, own)
    else:
        result = _total(low, base, places, source, own, mean=kind == "mean")
    return places.unfold(low, result, shape_of(low.as_dynamic(a["self"]))[places.first : places.last + 1])


def _is_neutral(base: Any, kind: str) -> bool:
    """Whether the old entries are infinities that no maximum or minimum sees."""
    infinity = {"amax": -math.inf, "amin": math.inf}.get(kind)
    known = isinstance(base, Known) and isinstance(base.value, Tensor) and infinity is not None
    return known and bool((base.value == infinity).all())


def _total(low: Lowering, base: Any, places: Places, source: Any, own: bool, *, mean: bool) -> Any:
    dim, shape = places.first, shape_of(base)
    degree = torch.bincount(places.flat, minlength=shape[dim])
    line = (1,) * dim + (-1,) + (1,) * (len(shape) - dim - 1)
    if not own:
        zero = Known(torch.zeros((), dtype=low.as_dynamic(base).meta.dtype))
        base = low.emit("where", [Known((degree > 0).reshape(line), places.inputs), zero, base], torch.where)
    total = added(low, base, dim, places.known, source)
    if not mean:
        return total
    counts = (degree + 1 if own else degree.clamp(min=1)).to(total.meta.dtype).reshape(line)
    return combined(low, "div", total, Known(counts, places.inputs))


def _extreme(low: Lowering, base: Any, places: Places, source: Any, kind: str, own: bool) -> Any:
    """Each segment's members, the shorter ones repeated up to the longest, then the extreme over them."""
    dim, size, count = places.first, shape_of(base)[places.first], len(places.flat)
    members = _members(places.flat, size, own)
    if bool((members >= count).any()):
        source = low.emit("cat", [source, base], lambda *ts: torch.cat(ts, dim), dim=dim)
    if members.shape[1] == 1:
        return selected(low, source, dim, Known(members[:, 0].clone(), places.inputs))
    return reduced(low, kind, selected(low, source, dim, Known(members, places.inputs)), (dim + 1,), keepdim=False)


def _members(flat: Tensor, size: int, own: bool) -> Tensor:
    """(segments, longest): numbers of entries, `len(flat) + s` for the old entry of segment s."""
    count = len(flat)
    degree = torch.bincount(flat, minlength=size)
    alone = torch.arange(size) if own else (degree == 0).nonzero().reshape(-1)
    segment = torch.cat([flat, alone])
    entry = torch.cat([torch.arange(count), count + alone])
    order = segment.argsort(stable=True)
    lengths = torch.bincount(segment, minlength=size)
    start = lengths.cumsum(0) - lengths
    rank = torch.arange(len(segment)) - start[segment[order]]
    table = entry[order][start].reshape(-1, 1).repeat(1, int(lengths.max()))
    table[segment[order], rank] = entry[order]
    return table
