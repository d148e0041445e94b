"""Up- and down-sampling: which entries are copied, and weights between neighbours as exact fractions.

torch computes an interpolation's weights in floating point. The function meant is the one with the weights of its
formula, for a scale factor exactly as it is given; they are ratios of integers, which are applied as a matrix of
integers and a division. Which entry `nearest` copies is a jump, and is taken from torch itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from deqops._errors import UnsupportedOperationError
from deqops.graph._arguments import (
    Arguments,
    combined,
    literal,
    number,
    permuted,
    rank_of,
    reshaped,
    selected,
    shape_of,
    sizes_of,
    transformed,
)
from deqops.graph._items import Dynamic, Known
from deqops.graph._lowering import Lowering, lowers

_LARGEST = 2**16
_EXACT = 2**53


def _planned(low: Lowering, a: Arguments) -> tuple[Dynamic, list[tuple[int, int, float | None]]]:
    """The tensor, and for each spatial dimension its size, the new size and the scale factor, if one is given."""
    x = low.as_dynamic(a.get("input", a.get("self")))
    sizes, vector = shape_of(x)[2:], low.source.endswith(".vec")
    given: list[Any] = [None] * len(sizes)
    if not vector:
        names = ("scales",) if len(sizes) == 1 else ("scales_d", "scales_h", "scales_w")[-len(sizes) :]
        given = [a.get(name) for name in names]
    elif a.get("scale_factors") is not None:
        given = list(a["scale_factors"])
    factors = [None if f is None else float(number(f)) for f in given]
    if a.get("output_size") is not None:
        outputs = sizes_of(a["output_size"])
        factors = [None] * len(sizes) if vector else factors
    else:
        outputs = [math.floor(float(n) * f) if f else 0 for n, f in zip(sizes, factors, strict=True)]
    plan = list(zip(sizes, outputs, factors, strict=True))
    if not all(0 < n <= _LARGEST and 0 < m <= _LARGEST for n, m, _ in plan):
        raise UnsupportedOperationError(low.source, f"has sizes outside 1..{_LARGEST}")
    return x, plan


# ------------------------------------------------------------------------------------------------------- copies


def _copied(low: Lowering, a: Arguments, name: str) -> Any:
    item: Any
    item, plan = _planned(low, a)
    function = getattr(torch.ops.aten, f"{name}{len(plan)}d").default
    for dim, places in enumerate(_places(low, function, item, plan), start=2):
        item = selected(low, item, dim, Known(places))
    return item


def _places(low: Lowering, function: Callable[..., Tensor], item: Dynamic, plan: list[Any]) -> list[Tensor]:
    """Which entries torch's operation copies, for each dimension.

    Its kernels do not agree on that: which one runs hangs on the rank, the channels, the dtype and the order in memory,
    and the last of these is not part of a graph.
    """
    sizes = [size for size, _, _ in plan]
    first, *others = [_decoded(low, function, grid, plan) for grid in _grids(item, sizes)]
    if not all(torch.equal(one, two) for other in others for one, two in zip(first, other, strict=True)):
        raise UnsupportedOperationError(low.source, "copies entries that depend on the order of the tensor in memory")
    return first


def _grids(item: Dynamic, sizes: list[int]) -> list[Tensor]:
    """Tensors like the item that hold the place of each entry, in the orders in memory that torch knows."""
    count = math.prod(sizes)
    own = item.meta.dtype
    exact = own.is_floating_point and count <= 2 / torch.finfo(own).eps
    place = torch.arange(count, dtype=own if exact else torch.float64).reshape(1, 1, *sizes)
    full = place.expand(1, item.shape[1], *sizes).contiguous()
    formats = {2: [torch.channels_last], 3: [torch.channels_last_3d]}.get(len(sizes), [])
    return [full, *(full.contiguous(memory_format=one) for one in formats)]


def _decoded(low: Lowering, function: Callable[..., Tensor], grid: Tensor, plan: list[Any]) -> list[Tensor]:
    """The place along each dimension that an operation copies from."""
    rest = function(grid, [outputs for _, outputs, _ in plan], *(factor for _, _, factor in plan)).to(torch.int64)
    found: list[Tensor] = []
    for dim in range(len(plan) + 1, 1, -1):
        size = plan[dim - 2][0]
        places = rest % size
        line = places.movedim(dim, -1).reshape(-1, places.shape[dim])
        if not bool((line == line[:1]).all()):
            raise UnsupportedOperationError(low.source, "copies entries that are no grid")
        found.insert(0, line[0].clone())
        rest = rest // size
    return found


_SIZES = {1: "1d", 2: "2d", 3: "3d"}


@lowers(*(f"upsample_nearest{n}.{kind}" for n in _SIZES.values() for kind in ("default", "vec")))
def _nearest(low: Lowering, a: Arguments) -> Any:
    return _copied(low, a, "upsample_nearest")


@lowers(*(f"_upsample_nearest_exact{n}.{kind}" for n in _SIZES.values() for kind in ("default", "vec")))
def _nearest_exact(low: Lowering, a: Arguments) -> Any:
    return _copied(low, a, "_upsample_nearest_exact")


# ------------------------------------------------------------------------------------------------------ weights

Weights = dict[int, Fraction]


def _source(place: int, size: int, outputs: int, factor: float | None, corners: bool) -> Fraction:
    """Where an output lies among the inputs."""
    if corners:
        return Fraction(place * (size - 1), outputs - 1) if outputs > 1 else Fraction(0)
    ratio = 1 / Fraction(factor) if factor else Fraction(size, outputs)
    return (place + Fraction(1, 2)) * ratio - Fraction(1, 2)


def _linear(source: Fraction, size: int) -> Weights:
    source = min(max(source, Fraction(0)), Fraction(size - 1))
    low, share = int(source), source - int(source)
    return _gathered([(low, 1 - share), (low + 1, share)], size)


_A = Fraction(-3, 4)


def _cubic(source: Fraction, size: int) -> Weights:
    """Keys' convolution with a = -3/4 over the four neighbours, those outside replaced by the border."""
    low = math.floor(source)

    def near(t: Fraction) -> Fraction:
        return ((_A + 2) * t - (_A + 3)) * t * t + 1

    def far(t: Fraction) -> Fraction:
        return ((_A * t - 5 * _A) * t + 8 * _A) * t - 4 * _A

    t = source - low
    return _gathered([(low - 1, far(t + 1)), (low, near(t)), (low + 1, near(1 - t)), (low + 2, far(2 - t))], size)


def _gathered(terms: list[tuple[int, Fraction]], size: int) -> Weights:
    total: Weights = {}
    for place, weight in terms:
        inside = min(max(place, 0), size - 1)
        total[inside] = total.get(inside, Fraction(0)) + weight
    return total


def _weighted(low: Lowering, a: Arguments, rule: Callable[[Fraction, int], Weights]) -> Any:
    """Where the size stays as it is, linear weights copy, whatever the scale factor."""
    item: Any
    item, plan = _planned(low, a)
    corners = bool(a.get("align_corners", False))
    for dim, (size, outputs, factor) in enumerate(plan, start=2):
        if size == outputs and (rule is _linear or corners or factor in (None, 1.0)):
            continue
        rows = [rule(_source(o, size, outputs, factor, corners), size) for o in range(outputs)]
        item = _mixed(low, item, dim, rows)
    return item


def _mixed(low: Lowering, item: Any, dim: int, rows: list[Weights]) -> Any:
    """Weighted sums along one dimension: integers over their least common denominator."""
    common = math.lcm(*(weight.denominator for row in rows for weight in row.values()))
    matrix = torch.zeros(shape_of(item)[dim], len(rows), dtype=torch.float64)
    for column, row in enumerate(rows):
        for place, weight in row.items():
            numerator = weight * common
            if abs(numerator) > _EXACT or common > _EXACT:
                raise UnsupportedOperationError(low.source, "has weights that are no ratios of integers below 2^53")
            matrix[place, column] = float(numerator)
    total = transformed(low, item, dim, matrix)
    return total if common == 1 else combined(low, "div", total, literal(float(common)))


@lowers(*(f"upsample_{name}.{k}" for name in ("linear1d", "bilinear2d", "trilinear3d") for k in ("default", "vec")))
def _upsample_linear(low: Lowering, a: Arguments) -> Any:
    return _weighted(low, a, _linear)


@lowers("upsample_bicubic2d", "upsample_bicubic2d.vec")
def _upsample_cubic(low: Lowering, a: Arguments) -> Any:
    return _weighted(low, a, _cubic)


# ----------------------------------------------------------------------------------------- channels into space


@lowers("pixel_shuffle")
def _pixel_shuffle(low: Lowering, a: Arguments) -> Any:
    """(.., c r^2, h, w) to (.., c, h r, w r)."""
    x, r = low.as_dynamic(a["self"]), int(number(a["upscale_factor"]))
    *lead, channels, height, width = x.shape
    k = len(lead)
    parts = reshaped(low, x, (*lead, channels // r**2, r, r, height, width), [])
    moved = permuted(low, parts, (*range(k + 1), k + 3, k + 1, k + 4, k + 2))
    return reshaped(low, moved, (*lead, channels // r**2, height * r, width * r), [])


@lowers("pixel_unshuffle")
def _pixel_unshuffle(low: Lowering, a: Arguments) -> Any:
    """(.., c, h r, w r) to (.., c r^2, h, w)."""
    x, r = low.as_dynamic(a["self"]), int(number(a["downscale_factor"]))
    *lead, channels, height, width = x.shape
    k = len(lead)
    parts = reshaped(low, x, (*lead, channels, height // r, r, width // r, r), [])
    moved = permuted(low, parts, (*range(k + 1), k + 2, k + 4, k + 1, k + 3))
    return reshaped(low, moved, (*lead, channels * r**2, height // r, width // r), [])


@lowers("channel_shuffle")
def _channel_shuffle(low: Lowering, a: Arguments) -> Any:
    """(n, g c, ..) read as (n, c, g, ..)."""
    x, groups = low.as_dynamic(a["self"]), int(number(a["groups"]))
    n, channels, *rest = x.shape
    parts = reshaped(low, x, (n, groups, channels // groups, *rest), [])
    moved = permuted(low, parts, (0, 2, 1, *range(3, rank_of(parts))))
    return reshaped(low, moved, x.shape, [])
