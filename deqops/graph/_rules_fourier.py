"""Discrete Fourier transforms: products with matrices of cosines and sines, which are enclosed, not rounded."""

from __future__ import annotations

import math
from typing import Any

import torch

from deqops._errors import UnsupportedOperationError
from deqops.graph._arguments import (
    Arguments,
    applied,
    combined,
    dim_of,
    in_dtype,
    knowns,
    literal,
    matmul_of,
    number,
    permuted,
    rank_of,
    reshaped,
    selected,
    shape_of,
    sizes_of,
    sliced,
)
from deqops.graph._items import Complex, Dynamic, Item, Known
from deqops.graph._lowering import Lowering, lowers

LARGEST = 2**22
"""Entries of a matrix of cosines, above which a transform is refused."""


# ------------------------------------------------------------------------------------------------- along one dim


def _waves(low: Lowering, size: int, turns: torch.Tensor, quarter: int, dtype: torch.dtype) -> Dynamic:
    """`cos(2 pi turns / size - quarter pi / 2)`, a matrix: cosines for quarter 0, sines for 1.

    Each is `cos(pi m)` of an exact fraction m, one of `size` many.
    """
    numerators = 4 * torch.arange(size, dtype=torch.float64) - quarter * size
    table = low.emit("cos_pi", [combined(low, "div", Known(numerators), literal(2 * size))], torch.cos)
    picked = selected(low, table, 0, Known((turns % size).reshape(-1)))
    waves: Dynamic = in_dtype(low, reshaped(low, picked, tuple(turns.shape), []), dtype)
    return waves


def _products(low: Lowering, rows: torch.Tensor, columns: int) -> torch.Tensor:
    """Each row's number times each column's."""
    if len(rows) * columns > LARGEST:
        raise UnsupportedOperationError(
            low.source, f"has a matrix of {len(rows) * columns} cosines; {LARGEST} are read"
        )
    return torch.outer(rows, torch.arange(columns))


def _along(low: Lowering, x: Dynamic, dim: int, matrix: Dynamic) -> Dynamic:
    """A matrix (old size, new size) applied along one dimension."""
    rank = rank_of(x)
    order = (*(d for d in range(rank) if d != dim), dim)
    product = matmul_of(low, x if dim == rank - 1 else permuted(low, x, order), matrix)
    back = tuple(order.index(d) for d in range(rank))
    result: Dynamic = product if dim == rank - 1 else permuted(low, product, back)
    return result


def _first(low: Lowering, x: Item, dim: int, size: int) -> Any:
    """The first entries along a dimension, `size` at most: what is missing counts as 0."""
    if isinstance(x, Complex):
        return Complex(*(_first(low, part, dim, size) for part in x.parts))
    return sliced(low, low.as_dynamic(x), dim, slice(0, size), [])


def _full(low: Lowering, x: Item, dim: int, size: int, sign: int, kept: int) -> Complex:
    """`sum_j x_j exp(sign 2 pi i j k / size)` for k below `kept`."""
    cut = _first(low, x, dim, size)
    real = cut.real if isinstance(cut, Complex) else cut
    real = low.as_dynamic(real)
    turns = sign * _products(low, torch.arange(real.shape[dim]), kept)
    cosines, sines = (_waves(low, size, turns, quarter, real.meta.dtype) for quarter in (0, 1))
    parts = [_along(low, real, dim, cosines), _along(low, real, dim, sines)]
    if isinstance(cut, Complex):
        imaginary = low.as_dynamic(cut.imaginary)
        parts[0] = combined(low, "sub", parts[0], _along(low, imaginary, dim, sines))
        parts[1] = combined(low, "add", parts[1], _along(low, imaginary, dim, cosines))
    return Complex(*parts)


def _half(low: Lowering, z: Item, dim: int, size: int) -> Dynamic:
    """`sum_k z_k exp(2 pi i j k / size)` over all k, where those above `size / 2` are the conjugates of the others.

    The imaginary parts at 0 and at `size / 2` do not count.
    """
    cut = _first(low, z, dim, size // 2 + 1)
    real = low.as_dynamic(cut.real if isinstance(cut, Complex) else cut)
    rows = torch.arange(real.shape[dim])
    twice = torch.where((rows == 0) | (2 * rows == size), 1.0, 2.0).to(real.meta.dtype)[:, None]
    turns = _products(low, rows, size)
    cosines, sines = (
        combined(low, "mul", _waves(low, size, turns, quarter, real.meta.dtype), Known(weights))
        for quarter, weights in ((0, twice), (1, torch.where(twice == 2.0, twice, 0.0)))
    )
    result = _along(low, real, dim, cosines)
    if not isinstance(cut, Complex):
        return result
    return combined(low, "sub", result, _along(low, low.as_dynamic(cut.imaginary), dim, sines))


# ----------------------------------------------------------------------------------------------------- several


def _refuse_values_of_inputs(low: Lowering, a: Arguments) -> None:
    """A size that was computed from what an input holds would have to be kept account of."""
    if any(item.inputs for item in knowns(*(value for name, value in a.items() if name != "self"))):
        raise UnsupportedOperationError(low.source, "takes a size from an input's values")


def _divisor(low: Lowering, sizes: list[int], mode: Any, inverse: bool) -> Any:
    """What a transform over these sizes is divided by; None for 1."""
    total, mode = math.prod(sizes), mode or "backward"
    if mode == "ortho":
        root = math.isqrt(total)
        return literal(root) if root * root == total else applied(low, "sqrt", literal(total))
    if mode not in ("backward", "forward"):
        raise UnsupportedOperationError(low.source, f"has norm {mode!r:.40}")
    return literal(total) if (mode == "backward") == inverse else None


def _scaled(low: Lowering, x: Any, divisor: Any) -> Any:
    if divisor is None:
        return x
    if isinstance(x, Complex):
        return Complex(*(_scaled(low, part, divisor) for part in x.parts))
    item = low.as_dynamic(x)
    return combined(low, "div", item, in_dtype(low, divisor, item.meta.dtype))


def _dims_and_sizes(a: Arguments, rank: int, single: bool, default: Any) -> tuple[list[int], list[int | None]]:
    """The dimensions to transform, and the sizes asked for, None for that which is there."""
    if single:
        size = number(a.get("n"))
        return [dim_of(a.get("dim", -1), rank)], [None if size is None else int(size)]
    given, sizes = a.get("dim", default), a.get("s")
    wanted = None if sizes is None else [None if size == -1 else size for size in sizes_of(sizes)]
    if given is None:
        dims = list(range(rank)) if wanted is None else list(range(rank - len(wanted), rank))
    else:
        dims = [dim_of(dim, rank) for dim in given]
    if (wanted is not None and len(wanted) != len(dims)) or len(set(dims)) != len(dims):
        raise ValueError("sizes and dimensions do not fit")
    return dims, wanted or [None] * len(dims)


def _transform(low: Lowering, a: Arguments) -> Any:
    _refuse_values_of_inputs(low, a)
    name = low.source.split(".")[1].removeprefix("fft_")
    single, inverse = not name.endswith(("2", "n")), name.startswith("i")
    halved = "rfft" in name
    x = a["self"]
    if halved and isinstance(x, Complex) != inverse and isinstance(x, Complex):
        raise UnsupportedOperationError(low.source, "takes real numbers")
    shape = tuple(x.meta.shape) if isinstance(x, Complex) else shape_of(x)
    dims, wanted = _dims_and_sizes(a, len(shape), single, [-2, -1] if name.endswith("2") else None)
    sizes = [shape[dim] if size is None else size for dim, size in zip(dims, wanted, strict=True)]
    if halved and inverse and wanted[-1] is None:
        sizes[-1] = 2 * (shape[dims[-1]] - 1)
    if min(sizes, default=0) < 1:
        raise ValueError("a transform of no entries")
    plain = [*zip(dims, sizes, strict=True)]
    if halved and not inverse:
        x = _full(low, x, dims[-1], sizes[-1], -1, sizes[-1] // 2 + 1)
    for dim, size in plain[: -1 if halved else None]:
        x = _full(low, x, dim, size, 1 if inverse else -1, size)
    if halved and inverse:
        x = _half(low, x, dims[-1], sizes[-1])
    return _scaled(low, x, _divisor(low, sizes, a.get("norm"), inverse))


_FULL = [f"fft_{kind}fft{many}" for kind in ("", "i") for many in ("", "2", "n")]
_HALVED = [f"fft_{kind}rfft{many}" for kind in ("", "i") for many in ("", "2", "n")]
lowers(*_FULL, *_HALVED)(_transform)
lowers(*_FULL, *_HALVED, of_complex=True)(_transform)


def _mode(low: Lowering, sizes: list[int], normalization: Any) -> Any:
    """What the transforms that `torch.export` decomposes into divide by: nothing, the root of the sizes, the sizes."""
    return _divisor(low, sizes, {0: "forward", 1: "ortho", 2: "backward"}[int(number(normalization))], inverse=True)


@lowers("_fft_r2c")
def _from_real(low: Lowering, a: Arguments) -> Any:
    x, shape = a["self"], shape_of(a["self"])
    dims = [dim_of(dim, len(shape)) for dim in a["dim"]]
    last = shape[dims[-1]]
    z: Any = _full(low, x, dims[-1], last, -1, last // 2 + 1 if a["onesided"] else last)
    for dim in dims[:-1]:
        z = _full(low, z, dim, shape[dim], -1, shape[dim])
    return _scaled(low, z, _mode(low, [shape[dim] for dim in dims], a["normalization"]))


@lowers("_fft_c2c", of_complex=True)
def _from_complex(low: Lowering, a: Arguments) -> Any:
    z, shape = a["self"], tuple(a["self"].meta.shape)
    dims = [dim_of(dim, len(shape)) for dim in a["dim"]]
    for dim in dims:
        z = _full(low, z, dim, shape[dim], -1 if a["forward"] else 1, shape[dim])
    return _scaled(low, z, _mode(low, [shape[dim] for dim in dims], a["normalization"]))


@lowers("_fft_c2r", of_complex=True)
def _to_real(low: Lowering, a: Arguments) -> Any:
    _refuse_values_of_inputs(low, a)
    z, shape = a["self"], list(a["self"].meta.shape)
    dims = [dim_of(dim, len(shape)) for dim in a["dim"]]
    shape[dims[-1]] = int(number(a["last_dim_size"]))
    for dim in dims[:-1]:
        z = _full(low, z, dim, shape[dim], 1, shape[dim])
    return _scaled(
        low, _half(low, z, dims[-1], shape[dims[-1]]), _mode(low, [shape[d] for d in dims], a["normalization"])
    )


@lowers("fft_fftshift", "fft_ifftshift")
def _shifted(low: Lowering, a: Arguments) -> Any:
    """The entries turned by half a dimension."""
    x = low.as_dynamic(a["self"])
    rank = len(x.shape)
    given = a.get("dim")
    for dim in [dim_of(d, rank) for d in (range(rank) if given is None else given)]:
        size = x.shape[dim]
        turn = size // 2 if low.source.startswith("aten.fft_fftshift") else -(size // 2)
        x = selected(low, x, dim, Known((torch.arange(size) - turn) % size))
    return x
