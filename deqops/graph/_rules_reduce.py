"""Sums, means and extremes over dimensions."""

from __future__ import annotations

from typing import Any

import torch

from deqops.graph._arguments import Arguments, dim_of, in_dtype, rank_of
from deqops.graph._lowering import Lowering, lowers


def _reduced(low: Lowering, a: Arguments, op: str) -> Any:
    dtype = a.get("dtype")
    item = a["self"] if dtype is None else in_dtype(low, a["self"], dtype)
    rank, given = rank_of(item), a.get("dim")
    listed = range(rank) if given is None or given == [] else given if isinstance(given, list) else [given]
    dims, keepdim = tuple(sorted(dim_of(d, rank) for d in listed)), bool(a.get("keepdim", False))
    function: Any = {"sum": torch.sum, "mean": torch.mean, "amax": torch.amax, "amin": torch.amin}[op]
    further = {} if dtype is None else {"dtype": dtype}
    return low.emit(op, [item], lambda x: function(x, dim=dims, keepdim=keepdim, **further), dims=dims, keepdim=keepdim)


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
