"""Convolutions as linear maps between tensors, by data movement and matrix products alone.

A *plan* says, along one spatial dimension, which entry of the input each tap reads for each output: an integer
tensor (taps, outputs), -1 for a zero. Padding, stride and dilation are all in it, and so is the adjoint reading of a
transposed convolution. The convolution is then `y[o, p] = sum_{c, k} W[o, c, k] x[c, plan[k, p]]`, group by group:
one product of matrices with the gathered entries, whose rounding is bounded as any other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from deqops._errors import UnsupportedOperationError
from deqops.graph import Node

from . import _midrad as midrad
from ._convolution import Axis, padded_convolution_norm_bound, transposed_convolution_norm_bound
from ._matrix import spread
from ._midrad import MidRad
from ._norm import Order
from ._rounding import add_up, gamma, matmul_up, mul_up, sqrt_up

Shape = tuple[int, ...]
Plans = tuple[Tensor, ...]


@dataclass(frozen=True)
class Settings:
    """The attributes of a `conv` or, where `output_padding` is given, a `conv_transpose` of the graph."""

    stride: Shape
    padding: Shape
    dilation: Shape
    groups: int
    output_padding: Shape | None = None

    @staticmethod
    def of(node: Node) -> Settings:
        """The settings of a node.

        Raises:
            UnsupportedOperationError: an attribute is of the wrong kind.
        """
        names = ("stride", "padding", "dilation", *(("output_padding",) if node.op == "conv_transpose" else ()))
        found = [node.attributes[name] for name in names]
        groups = node.attributes["groups"]
        if not isinstance(groups, int) or not all(isinstance(value, tuple) for value in found):
            raise UnsupportedOperationError(node.source, "has attributes of the wrong kind")
        stride, padding, dilation, *extra = (value for value in found if isinstance(value, tuple))
        return Settings(stride, padding, dilation, groups, extra[0] if extra else None)

    @property
    def transposed(self) -> bool:
        """Whether this is the transposed convolution."""
        return self.output_padding is not None

    def plan(self, dim: int, size: int, taps: int) -> Tensor:
        """The plan along one spatial dimension of an input of this size."""
        step, pad, gap = self.stride[dim], self.padding[dim], self.dilation[dim]
        span = gap * (taps - 1) + 1
        if self.output_padding is None:
            outputs = (size + 2 * pad - span) // step + 1
            place = gap * torch.arange(taps)[:, None] + step * torch.arange(outputs) - pad
        else:
            outputs = (size - 1) * step - 2 * pad + span + self.output_padding[dim]
            reached = torch.arange(outputs) + pad - gap * torch.arange(taps)[:, None]
            place = torch.where(reached % step == 0, torch.div(reached, step, rounding_mode="floor"), -1)
        return torch.where((place >= 0) & (place < size), place, -1)


def grouped(weight: Tensor, settings: Settings) -> Tensor:
    """The kernel as (groups, out / groups, in / groups, taps...)."""
    split = weight.reshape(settings.groups, -1, *weight.shape[1:])
    return split.transpose(1, 2) if settings.transposed else split


def gathered(x: Tensor, plans: Plans, groups: int) -> Tensor:
    """What each output reads, (batch, groups, in / groups * taps, outputs)."""
    batch, dims = x.shape[0], len(plans)
    for dim, plan in enumerate(plans):
        axis = 2 + 2 * dim
        zero = x.new_zeros((*x.shape[:axis], 1, *x.shape[axis + 1 :]))
        index = torch.where(plan < 0, x.shape[axis], plan).reshape(-1)
        x = torch.cat([x, zero], axis).index_select(axis, index)
        x = x.reshape(*x.shape[:axis], *plan.shape, *x.shape[axis + 1 :])
    order = (0, 1, *range(2, 2 + 2 * dims, 2), *range(3, 3 + 2 * dims, 2))
    outputs = math.prod(plan.shape[1] for plan in plans)
    return x.permute(order).reshape(batch, groups, -1, outputs)


def scattered_up(y: Tensor, plans: Plans, channels: int, sizes: Sequence[int]) -> Tensor:
    """Upper bound of the adjoint of `gathered` for y >= 0: (batch, channels, sizes...)."""
    dims = len(plans)
    taps, outputs = [p.shape[0] for p in plans], [p.shape[1] for p in plans]
    x = y.reshape(y.shape[0], channels, *taps, *outputs)
    x = x.permute(0, 1, *(axis for dim in range(dims) for axis in (2 + dim, 2 + dims + dim)))
    for dim, plan in enumerate(plans):
        axis, index = 2 + dim, plan.reshape(-1)
        kept = (index >= 0).nonzero().reshape(-1)
        terms = x.flatten(axis, axis + 1).index_select(axis, kept)
        total = terms.new_zeros((*terms.shape[:axis], sizes[dim], *terms.shape[axis + 1 :]))
        total = total.index_add(axis, index[kept], terms)
        most = int(torch.bincount(index[kept]).max()) if len(kept) else 1
        x = total if most == 1 else mul_up(total, 1.0 + 2.0 * gamma(most))
    return x


def convolve(x: MidRad, weight: MidRad, settings: Settings) -> MidRad:
    """An enclosure of the (transposed) convolution; x is (batch, in, sizes...)."""
    sizes, taps = x.shape[2:], weight.shape[2:]
    plans = tuple(settings.plan(dim, size, count) for dim, (size, count) in enumerate(zip(sizes, taps, strict=True)))
    return planned(x, weight, settings, plans)


def planned(x: MidRad, weight: MidRad, settings: Settings, plans: Plans) -> MidRad:
    """As `convolve`, reading the entries that the plans say."""
    kernel = weight.apply_exact(lambda t: grouped(t, settings).flatten(2))
    read = x.apply_exact(lambda t: gathered(t, plans, settings.groups))
    product = midrad.matmul(kernel, read)
    outputs = tuple(plan.shape[1] for plan in plans)
    return product.apply_exact(lambda t: t.reshape(t.shape[0], t.shape[1] * t.shape[2], *outputs))


def counted(x: Tensor, weight: Tensor, settings: Settings) -> Tensor:
    """The (transposed) convolution of numbers >= 0 in their own arithmetic: 0 exactly where every product is 0."""
    sizes, taps = x.shape[2:], weight.shape[2:]
    plans = tuple(settings.plan(dim, size, count) for dim, (size, count) in enumerate(zip(sizes, taps, strict=True)))
    product = torch.matmul(grouped(weight, settings).flatten(2), gathered(x, plans, settings.groups))
    return product.reshape(x.shape[0], -1, *(plan.shape[1] for plan in plans))


@dataclass(frozen=True, eq=False)
class Convolution:
    """The stage `x -> conv(x[:, :, copies_1, ..., copies_d])` of a linear map.

    `copies` holds for each spatial dimension the entries that a padding before the convolution copies, -1 for a zero,
    or None where there is no such padding.
    """

    in_shape: Shape
    weight: MidRad
    settings: Settings
    copies: tuple[Tensor | None, ...]

    @cached_property
    def plans(self) -> Plans:
        """The plans for the unpadded input."""
        found = []
        for dim, (size, index) in enumerate(zip(self._padded_sizes, self.copies, strict=True)):
            plan = self.settings.plan(dim, size, self.weight.shape[2 + dim])
            found.append(plan if index is None else torch.where(plan < 0, -1, index[plan.clamp(min=0)]))
        return tuple(found)

    @property
    def out_shape(self) -> Shape:
        """The result's shape."""
        channels = self.weight.shape[1] * self.settings.groups if self.settings.transposed else self.weight.shape[0]
        return (self.in_shape[0], channels, *(plan.shape[1] for plan in self.plans))

    @property
    def _padded_sizes(self) -> Shape:
        both = zip(self.in_shape[2:], self.copies, strict=True)
        return tuple(size if index is None else len(index) for size, index in both)

    def apply(self, x: MidRad) -> MidRad:
        """Enclosure of `A x`, column by column: x of shape (*in_shape, columns)."""
        count = x.shape[-1]
        flat = x.apply_exact(lambda t: t.movedim(-1, 0).reshape(count * self.in_shape[0], *self.in_shape[1:]))
        result = planned(flat, self.weight, self.settings, self.plans)
        return result.apply_exact(lambda t: t.reshape(count, *self.out_shape).movedim(0, -1))

    def widest(self) -> int:
        """The most numbers at hand while the map is applied to one column: what all outputs read."""
        taps = math.prod(self.weight.shape[2:])
        read = self.in_shape[0] * self.in_shape[1] * taps * math.prod(self.out_shape[2:])
        return max(math.prod(self.in_shape), read, math.prod(self.out_shape))

    def multiplications(self) -> int:
        """How many apply the map to one column."""
        return self.in_shape[0] * self.weight.mid.numel() * math.prod(self.out_shape[2:])

    def abs_apply(self, x: Tensor) -> Tensor:
        """Upper bound of `|A| x` for x >= 0."""
        kernel = grouped(self.weight.magnitude(), self.settings).flatten(2)
        return matmul_up(kernel, gathered(x, self.plans, self.settings.groups)).reshape(x.shape[0], *self.out_shape[1:])

    def abs_apply_transposed(self, y: Tensor) -> Tensor:
        """Upper bound of `|A|^T y` for y >= 0."""
        kernel = grouped(self.weight.magnitude(), self.settings).flatten(2)
        flat = y.reshape(y.shape[0], self.settings.groups, kernel.shape[1], -1)
        return scattered_up(matmul_up(kernel.mT, flat), self.plans, self.in_shape[1], self.in_shape[2:])

    def norm_bound(self, order: Order, rows: Tensor | None, cols: Tensor | None) -> float:
        """Proven bound of the l_p norm, times the weights' spread."""
        cache = self.__dict__.setdefault("_bounds", {})
        if order not in cache:
            cache[order] = _NORMS[order](self)
        return float(mul_up(float(cache[order]), spread(rows, cols)))

    def l2_norm_bound(self) -> float:
        """`||A(mid)|| + ||A(rad)||`: a matrix' norm is at most that of one with larger moduli."""
        bound = self._exact_bound(self.weight.mid)
        if not bool((self.weight.rad != 0).any()):
            return bound
        if not self.weight.is_finite():
            return math.inf
        return float(add_up(bound, self._exact_bound(self.weight.rad)))

    def _exact_bound(self, weight: Tensor) -> float:
        if not bool(weight.isfinite().all()):
            return math.inf
        s = self.settings
        if s.output_padding is not None:
            return transposed_convolution_norm_bound(
                weight,
                self.in_shape[2:],
                padding=s.padding,
                output_padding=s.output_padding,
                stride=s.stride,
                dilation=s.dilation,
                groups=s.groups,
            )
        axes, copies = zip(*self._axes(), strict=True)
        bound = padded_convolution_norm_bound(weight, axes, s.stride, s.dilation, s.groups)
        return float(mul_up(bound, sqrt_up(float(math.prod(copies)))))

    def _axes(self) -> list[tuple[Axis, int]]:
        sizes = zip(self.in_shape[2:], self.copies, self.settings.padding, strict=True)
        return [read_axis(size, index, pad) for size, index, pad in sizes]


def read_axis(size: int, index: Tensor | None, pad: int) -> tuple[Axis, int]:
    """(how a torus sees the dimension, copies): the convolution reads `pad` zeros around x[index].

    Zeros around the entries in order are zero padding; entries in order around a circle are circular padding. Anything
    else is the convolution of a longer input after a 0/1 map, whose norm is the root of its largest column sum.
    """
    if index is None:
        return Axis("zeros", size, pad, pad), 1
    kept = (index >= 0).nonzero().reshape(-1)
    if len(kept) == size and torch.equal(index[kept], torch.arange(size)) and int(kept[-1] - kept[0]) == size - 1:
        return Axis("zeros", size, pad + int(kept[0]), pad + len(index) - 1 - int(kept[-1])), 1
    if pad == 0 and len(index) >= size and len(kept) == len(index):
        before = -int(index[0]) % size
        if torch.equal(index, (torch.arange(len(index)) - before) % size):
            return Axis("circular", size, before, len(index) - size - before), 1
    most = int(torch.bincount(index[kept]).max()) if len(kept) else 0
    return Axis("zeros", len(index), pad, pad), most


def _largest(bound: Callable[[Tensor], Tensor], shape: Shape) -> float:
    found = bound(torch.ones((1, *shape[1:]), dtype=torch.float64))
    largest = float(found.max()) if found.numel() else 0.0
    return math.inf if math.isnan(largest) else largest


_NORMS: dict[str, Callable[[Convolution], float]] = {
    "l1": lambda stage: _largest(stage.abs_apply_transposed, stage.out_shape),
    "l2": Convolution.l2_norm_bound,
    "linf": lambda stage: _largest(stage.abs_apply, stage.in_shape),
}
