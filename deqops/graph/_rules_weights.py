"""Euclidean norms, and the weights that torch's own normalisations of weights make of them."""

from __future__ import annotations

from typing import Any

import torch

from deqops.graph._arguments import Arguments, dim_of, number, rank_of, reshaped
from deqops.graph._lowering import Lowering, lowers


def _euclidean(low: Lowering, item: Any, dims: tuple[int, ...], keepdim: bool) -> Any:
    """sqrt(sum of squares) over dimensions."""
    squares = low.emit("square", [item], torch.square)
    total = low.emit(
        "sum", [squares], lambda x: torch.sum(x, dim=dims, keepdim=keepdim) if dims else x, dims=dims, keepdim=keepdim
    )
    return low.emit("sqrt", [total], torch.sqrt)


@lowers("linalg_vector_norm", "norm.Scalar", "norm.ScalarOpt_dim")
def _vector_norm(low: Lowering, a: Arguments) -> Any:
    item, order, given = a["self"], a.get("ord", a.get("p", 2)), a.get("dim")
    if a.get("dtype") is not None or number(2 if order is None else order) != 2:
        return NotImplemented
    rank = rank_of(item)
    listed = range(rank) if given is None or given == [] else given if isinstance(given, list) else [given]
    dims = tuple(sorted(dim_of(d, rank) for d in listed))
    return _euclidean(low, item, dims, bool(a.get("keepdim", False)))


def _norm_of_slices(low: Lowering, item: Any, dim: int) -> Any:
    """The norm of each slice that a number of dimension `dim` names; of everything for -1, without dimensions."""
    rank = rank_of(item)
    if dim == -1:
        return _euclidean(low, item, tuple(range(rank)), False)
    return _euclidean(low, item, tuple(d for d in range(rank) if d != dim), True)


@lowers("norm_except_dim")
def _norm_except_dim(low: Lowering, a: Arguments) -> Any:
    if number(a.get("pow", 2)) != 2:
        return NotImplemented
    return _norm_of_slices(low, a["v"], int(number(a.get("dim", 0))))


@lowers("_weight_norm", "_weight_norm_interface")
def _weight_norm(low: Lowering, a: Arguments) -> Any:
    """v (g / norm(v)), the norms slice by slice; the second form gives these as well."""
    v, g = a["v"], a["g"]
    norms = _norm_of_slices(low, v, int(number(a.get("dim", 0))))
    weight = low.emit("mul", [v, low.emit("div", [g, norms], torch.div)], torch.mul)
    if low.source == "aten._weight_norm.default":
        return weight
    return [weight, reshaped(low, norms, tuple(low.as_dynamic(g).meta.shape), [])]
