"""Norms, deviations, extremes and logarithms of sums over dimensions."""

from __future__ import annotations

import math
from typing import Any

import torch

from deqops.graph._arguments import (
    Arguments,
    applied,
    combined,
    dim_of,
    dims_given,
    in_dtype,
    literal,
    number,
    permuted,
    rank_of,
    reduced,
    reshaped,
    shape_of,
    sliced,
    transformed,
)
from deqops.graph._items import Dynamic
from deqops.graph._lowering import Lowering, lowers

_LONGEST_PRODUCT = 64
_LONGEST_SUM = 1024

# --------------------------------------------------------------------------------------------------------- norms


def _norm(low: Lowering, x: Any, order: Any, dims: tuple[int, ...], keepdim: bool) -> Any:
    """The p-norm for p >= 1 (and the least modulus for -infinity)."""
    p = 2.0 if order is None else float(number(order))
    if p == 2:
        return applied(low, "sqrt", reduced(low, "sum", applied(low, "square", x), dims, keepdim))
    if not (p >= 1 or p == -math.inf) or not all(shape_of(x)[d] for d in dims):
        return NotImplemented
    if 1 < p < math.inf:
        powers = low.emit("pow_scalar", [applied(low, "abs", x)], lambda t: torch.pow(t, p), exponent=p)
        total = reduced(low, "sum", powers, dims, keepdim)
        return low.emit("pow_scalar", [total], lambda t: torch.pow(t, 1 / p), exponent=1 / p)
    op = {1.0: "sum", math.inf: "amax", -math.inf: "amin"}[p]
    return reduced(low, op, applied(low, "abs", x), dims, keepdim)


@lowers("linalg_vector_norm", "norm.ScalarOpt_dim", "norm.Scalar")
def _vector_norm(low: Lowering, a: Arguments) -> Any:
    x = in_dtype(low, a["self"], a.get("dtype"))
    order = a.get("ord", 2) if low.source == "aten.linalg_vector_norm.default" else a.get("p", 2)
    return _norm(low, x, order, dims_given(a.get("dim"), rank_of(x)), bool(a.get("keepdim", False)))


@lowers("linalg_norm")
def _linalg_norm(low: Lowering, a: Arguments) -> Any:
    """Of vectors, or with an order of matrices; with none over all that there is."""
    x = in_dtype(low, a["self"], a.get("dtype"))
    dims, order, keepdim = dims_given(a.get("dim"), rank_of(x)), a.get("ord"), bool(a.get("keepdim", False))
    if order is None or len(dims) == 1:
        return _norm(low, x, order, dims, keepdim)
    given = a.get("dim")
    return _of_matrices(low, x, order, given if isinstance(given, list) else list(dims), keepdim)


@lowers("linalg_matrix_norm", "linalg_matrix_norm.str_ord")
def _matrix_norm(low: Lowering, a: Arguments) -> Any:
    x, keepdim = in_dtype(low, a["self"], a.get("dtype")), bool(a.get("keepdim", False))
    dims, order = a.get("dim", [-2, -1]), a.get("ord", "fro")
    if isinstance(order, str):
        return _norm(low, x, None, dims_given(dims, rank_of(x)), keepdim) if order == "fro" else NotImplemented
    return _of_matrices(low, x, order, dims, keepdim)


def _of_matrices(low: Lowering, x: Any, order: Any, given: list[Any], keepdim: bool) -> Any:
    """The largest sum of moduli of a column (1) or a row (infinity), the largest singular value (2)."""
    p, rank, shape = float(number(order)), rank_of(x), shape_of(x)
    if len(given) != 2 or p not in (1.0, 2.0, math.inf):
        return NotImplemented
    rows, columns = (dim_of(d, rank) for d in given)
    if not shape[rows] or not shape[columns]:
        return NotImplemented
    kept = tuple(1 if d in (rows, columns) else size for d, size in enumerate(shape))
    if p == 2:
        others = tuple(d for d in range(rank) if d not in (rows, columns))
        result = low.emit(
            "spectral_norm",
            [permuted(low, x, (*others, rows, columns))],
            lambda t: torch.linalg.matrix_norm(t, 2),
        )
        return reshaped(low, result, kept, []) if keepdim else result
    first, second = (rows, columns) if p == 1 else (columns, rows)
    sums = reduced(low, "sum", applied(low, "abs", x), (first,), keepdim=True)
    largest = reduced(low, "amax", sums, (second,), keepdim=True)
    shape_of_others = tuple(size for d, size in enumerate(shape) if d not in (rows, columns))
    return largest if keepdim else reshaped(low, largest, shape_of_others, [])


def _norm_of_slices(low: Lowering, v: Any, dim: int) -> Any:
    """The norm of each slice that a number of dimension `dim` names; -1 means everything, not the last dimension."""
    dims = tuple(d for d in range(rank_of(v)) if d != dim)
    return _norm(low, v, 2, dims, keepdim=dim != -1) if dims else applied(low, "abs", v)


@lowers("norm_except_dim")
def _norm_except_dim(low: Lowering, a: Arguments) -> Any:
    if number(a.get("pow", 2)) != 2:
        return NotImplemented
    return _norm_of_slices(low, a["v"], int(number(a.get("dim", 0))))


@lowers("_weight_norm", "_weight_norm_interface")
def _weight_norm(low: Lowering, a: Arguments) -> Any:
    """v (g / ||v||), the norm over all dimensions but one; the second form gives the norms as well."""
    v, g = low.as_dynamic(a["v"]), low.as_dynamic(a["g"])
    norms = _norm_of_slices(low, v, int(number(a.get("dim", 0))))
    weight = combined(low, "mul", v, combined(low, "div", g, norms))
    if low.source == "aten._weight_norm.default":
        return weight
    return [weight, reshaped(low, norms, shape_of(g), [])]


@lowers("cosine_similarity")
def _cosine_similarity(low: Lowering, a: Arguments) -> Any:
    """sum(x y) / (max(||x||, eps) max(||y||, eps))."""
    x, y = low.as_dynamic(a["x1"]), low.as_dynamic(a["x2"])
    product = combined(low, "mul", x, y)
    rank, eps = rank_of(product), float(a.get("eps", 1e-8))
    dim = dim_of(a.get("dim", 1), rank)
    if rank_of(x) != rank or rank_of(y) != rank:
        x, y = (reshaped(low, t, (1,) * (rank - rank_of(t)) + shape_of(t), []) for t in (x, y))
    if shape_of(x)[dim] != shape_of(y)[dim]:
        return NotImplemented  # torch expands before it takes the norm
    total = reduced(low, "sum", product, (dim,), keepdim=False)
    for t in (x, y):
        size = _norm(low, t, 2, (dim,), keepdim=False)
        clamped = low.emit("clamp", [size], lambda s: s.clone(), minimum=eps, maximum=None)
        total = combined(low, "div", total, clamped)
    return total


@lowers("cdist")
def _cdist(low: Lowering, a: Arguments) -> Any:
    """The norm of each row of one matrix minus each row of the other."""
    x, y = low.as_dynamic(a["x1"]), low.as_dynamic(a["x2"])
    first = reshaped(low, x, (*x.shape[:-1], 1, x.shape[-1]), [])
    second = reshaped(low, y, (*y.shape[:-2], 1, *y.shape[-2:]), [])
    gap = combined(low, "sub", first, second)
    return _norm(low, gap, a.get("p", 2.0), (rank_of(gap) - 1,), keepdim=False)


# ---------------------------------------------------------------------------------------------------- deviations


def _variance(low: Lowering, a: Arguments) -> tuple[Any, Any]:
    """(variance, mean): sum((x - mean)^2) / (n - correction)."""
    x = low.as_dynamic(a["self"])
    dims, keepdim = dims_given(a.get("dim"), rank_of(x)), bool(a.get("keepdim", False))
    correction = a.get("correction")
    if "unbiased" in a:
        correction = 1 if a["unbiased"] else 0
    degrees = math.prod(shape_of(x)[d] for d in dims) - float(1 if correction is None else number(correction))
    if not degrees > 0:
        return NotImplemented, None
    mean = reduced(low, "mean", x, dims, keepdim=True)
    squares = applied(low, "square", combined(low, "sub", x, mean))
    variance = combined(low, "div", reduced(low, "sum", squares, dims, keepdim), literal(degrees))
    return variance, mean if keepdim else reshaped(low, mean, shape_of(variance), [])


@lowers("var", "var.dim", "var.correction", "std", "std.dim", "std.correction")
def _deviation(low: Lowering, a: Arguments) -> Any:
    variance, _ = _variance(low, a)
    rooted = low.source.startswith("aten.std") and variance is not NotImplemented
    return applied(low, "sqrt", variance) if rooted else variance


@lowers("var_mean", "var_mean.dim", "var_mean.correction", "std_mean", "std_mean.dim", "std_mean.correction")
def _deviation_and_mean(low: Lowering, a: Arguments) -> Any:
    variance, mean = _variance(low, a)
    if variance is NotImplemented:
        return variance
    return [applied(low, "sqrt", variance) if low.source.startswith("aten.std") else variance, mean]


# ------------------------------------------------------------------------------------------------------ extremes


@lowers("max", "min")
def _extreme_of_all(low: Lowering, a: Arguments) -> Any:
    x = low.as_dynamic(a["self"])
    op = "amax" if low.source.startswith("aten.max") else "amin"
    return reduced(low, op, x, tuple(range(rank_of(x))), keepdim=False)


@lowers("max.dim", "min.dim")
def _extreme(low: Lowering, a: Arguments) -> Any:
    """Values, and places that stay under the exported name."""
    x, keepdim = low.as_dynamic(a["self"]), bool(a.get("keepdim", False))
    dim, largest = dim_of(a["dim"], rank_of(x)), low.source.startswith("aten.max")
    find: Any = torch.max if largest else torch.min
    places = low.emit(low.source, [x], lambda t: find(t, dim=dim, keepdim=keepdim)[1], output=1)
    return [reduced(low, "amax" if largest else "amin", x, (dim,), keepdim), places]


@lowers("cummax", "cummin")
def _running_extreme(low: Lowering, a: Arguments) -> Any:
    """The extreme of each beginning, where there are few; places stay under the exported name."""
    x = low.as_dynamic(a["self"])
    dim = dim_of(a["dim"], rank_of(x))
    if not rank_of(x) or not 0 < x.shape[dim] <= _LONGEST_PRODUCT:
        return NotImplemented
    op = "amax" if low.source.startswith("aten.cummax") else "amin"
    beginnings = [sliced(low, x, dim, slice(0, stop), []) for stop in range(1, x.shape[dim] + 1)]
    parts = [reduced(low, op, part, (dim,), keepdim=True) for part in beginnings]
    places = low.emit(low.source, [x], lambda t: torch.zeros_like(t, dtype=torch.int64), output=1)
    return [low.emit("cat", parts, lambda *ts: torch.cat(ts, dim), dim=dim), places]


@lowers("aminmax")
def _both_extremes(low: Lowering, a: Arguments) -> Any:
    x, keepdim = low.as_dynamic(a["self"]), bool(a.get("keepdim", False))
    dims = dims_given(a.get("dim"), rank_of(x))
    return [reduced(low, op, x, dims, keepdim) for op in ("amin", "amax")]


# ---------------------------------------------------------------------------------------- logarithms and products


def _log_of_sum(low: Lowering, x: Dynamic, dims: tuple[int, ...], keepdim: bool) -> Any:
    return applied(low, "log", reduced(low, "sum", applied(low, "exp", x), dims, keepdim))


@lowers("logsumexp")
def _logsumexp(low: Lowering, a: Arguments) -> Any:
    """log(sum(exp(x))): torch subtracts the largest entry first, which is the same real number."""
    x = low.as_dynamic(a["self"])
    return _log_of_sum(low, x, dims_given(a["dim"], rank_of(x)), bool(a.get("keepdim", False)))


@lowers("logcumsumexp")
def _running_log_of_sum(low: Lowering, a: Arguments) -> Any:
    """log(cumsum(exp(x)))."""
    x = low.as_dynamic(a["self"])
    dim = dim_of(a["dim"], rank_of(x))
    if not rank_of(x) or x.shape[dim] > _LONGEST_SUM:
        return NotImplemented
    ones = torch.ones(x.shape[dim], x.shape[dim]).triu()
    return applied(low, "log", transformed(low, applied(low, "exp", x), dim, ones))


@lowers("log_softmax.int", "_log_softmax")
def _log_softmax(low: Lowering, a: Arguments) -> Any:
    """x - log(sum(exp(x)))."""
    x = in_dtype(low, a["self"], a.get("dtype"))
    if a.get("half_to_float"):
        return NotImplemented
    return combined(low, "sub", x, _log_of_sum(low, x, (dim_of(a["dim"], rank_of(x)),), keepdim=True))


def _factors(low: Lowering, x: Dynamic, dim: int) -> list[Any]:
    return [low.emit("select", [x], lambda t, i=i: t.select(dim, i), dim=dim, index=i) for i in range(x.shape[dim])]


@lowers("prod", "prod.dim_int")
def _prod(low: Lowering, a: Arguments) -> Any:
    """A chain of products, where it is short."""
    x = low.as_dynamic(a["self"])
    if a.get("dim") is None:
        x = reshaped(low, x, (-1,), [])
    dim = dim_of(a.get("dim", 0), rank_of(x))
    if a.get("dtype") is not None or not 0 < x.shape[dim] <= _LONGEST_PRODUCT:
        return NotImplemented
    total, *rest = _factors(low, x, dim)
    for factor in rest:
        total = combined(low, "mul", total, factor)
    if not a.get("keepdim", False):
        return total
    return reshaped(low, total, (*x.shape[:dim], 1, *x.shape[dim + 1 :]), [])


@lowers("cumprod")
def _cumprod(low: Lowering, a: Arguments) -> Any:
    x = low.as_dynamic(a["self"])
    dim = dim_of(a["dim"], rank_of(x))
    if a.get("dtype") is not None or not 0 < x.shape[dim] <= _LONGEST_PRODUCT:
        return NotImplemented
    parts: list[Any] = []
    for factor in _factors(low, x, dim):
        parts.append(combined(low, "mul", parts[-1], factor) if parts else factor)
    shape = (*x.shape[:dim], 1, *x.shape[dim + 1 :])
    kept = [reshaped(low, part, shape, []) for part in parts]
    return low.emit("cat", kept, lambda *ts: torch.cat(ts, dim), dim=dim)
