"""Convolutions of ball arrays, and as structured linear maps.

Along each spatial dimension a *table* says which entry tap k of output p reads: `table[k, p]`, or -1 for a zero. With
`conv` output p reads entry `stride p + dilation k - padding`; a transposed convolution has input i reach output
`stride i + dilation k - padding`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from flint import arb
from numpy.typing import NDArray

from deqops.graph import Node

from . import _arithmetic as ball
from ._interval import Interval
from ._refusal import Rejected
from ._torus import Dimension, torus_norm

Index = NDArray[np.int64]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Attributes:
    """Those of a node, one number for each spatial dimension; `extra` is None for what is not transposed."""

    stride: Shape
    padding: Shape
    dilation: Shape
    groups: int
    extra: Shape | None

    def table(self, dim: int, size: int, taps: int) -> Index:
        """The table of one dimension for an input of this size."""
        step, pad, gap = self.stride[dim], self.padding[dim], self.dilation[dim]
        tap, span = np.arange(taps)[:, None], gap * (taps - 1) + 1
        if self.extra is None:
            read = step * np.arange((size + 2 * pad - span) // step + 1) + gap * tap - pad
            return np.where((read >= 0) & (read < size), read, -1)
        outputs = step * (size - 1) + span - 2 * pad + self.extra[dim]
        table = np.full((taps, max(outputs, 0)), -1)
        for entry in range(size):
            reached = step * entry + gap * np.arange(taps) - pad
            kept = (reached >= 0) & (reached < outputs)
            table[np.flatnonzero(kept), reached[kept]] = entry
        return table


def attributes_of(node: Node) -> Attributes:
    """The attributes of a `conv` or `conv_transpose` node.

    Raises:
        Rejected: they are not tuples of sensible integers.
    """
    names = ["stride", "padding", "dilation"] + (["output_padding"] if node.op == "conv_transpose" else [])
    dims, groups = len(node.shape) - 2, node.attributes["groups"]
    values: list[Any] = [node.attributes[name] for name in names]
    for name, value in zip(names, values, strict=True):
        least = 1 if name in ("stride", "dilation") else 0
        if not isinstance(value, tuple) or len(value) != dims or min(value, default=0) < least:
            raise Rejected(f"{node.source}: attribute {name} is not a tuple of {dims} integers from {least} on")
    if dims not in (1, 2) or not isinstance(groups, int) or groups < 1:
        raise Rejected(f"{node.source}: the checker knows convolutions in one and two dimensions")
    return Attributes(values[0], values[1], values[2], groups, values[3] if len(values) > 3 else None)


def convolved(node: Node, x: ball.Balls, kernel: ball.Balls) -> ball.Balls:
    """The node's result; x is (batch, in, sizes...)."""
    attributes = attributes_of(node)
    return Convolution(kernel, attributes, x.shape, (None,) * (x.ndim - 2)).times(x, kernel)


@dataclass(frozen=True, eq=False)
class Convolution:
    """`x -> conv(x[:, :, copies_1, ..., copies_d])`; `copies` as -1 for a zero, None for every entry in order."""

    kernel: ball.Balls
    attributes: Attributes
    in_shape: Shape
    copies: tuple[Index | None, ...]

    @cached_property
    def tables(self) -> list[Index]:
        """The tables over the entries before they are copied."""
        found = []
        for dim, index in enumerate(self.copies):
            size = self.in_shape[2 + dim] if index is None else len(index)
            table = self.attributes.table(dim, size, self.kernel.shape[2 + dim])
            found.append(table if index is None else np.append(index, -1)[table])
        return found

    @property
    def out_shape(self) -> Shape:
        """The result's shape."""
        wide = self.kernel.shape[1] * self.attributes.groups
        channels = self.kernel.shape[0] if self.attributes.extra is None else wide
        return (self.in_shape[0], channels, *(table.shape[1] for table in self.tables))

    @cached_property
    def norm(self) -> ball.Ball:
        """A bound of the l2 norm.

        Raises:
            Rejected: too much work.
        """
        a = self.attributes
        if a.extra is not None:  # the adjoint reads the outputs as a convolution reads its input
            sizes = self.out_shape[2:]
            dims = [Dimension(n, "zeros", p, p) for n, p in zip(sizes, a.padding, strict=True)]
            return torus_norm(self.kernel, dims, a.stride, a.dilation, a.groups)
        found = [_dimension(n, c, p) for n, c, p in zip(self.in_shape[2:], self.copies, a.padding, strict=True)]
        bound = torus_norm(self.kernel, [dim for dim, _ in found], a.stride, a.dilation, a.groups)
        return (bound * arb(math.prod(most for _, most in found)).sqrt()).upper()

    def columns(self, x: ball.Balls, kernel: ball.Balls) -> ball.Balls:
        """`A x` with this kernel, column by column: x of shape (*in, columns)."""
        count = x.shape[-1]
        flat = np.moveaxis(x, -1, 0).reshape(count * self.in_shape[0], *self.in_shape[1:])
        return np.moveaxis(self.times(flat, kernel).reshape(count, *self.out_shape), 0, -1)

    def interval_columns(self, x: Interval) -> Interval:
        """`A x` for matrices of intervals."""
        return Interval(self.columns(x.middle, self.kernel), self.columns(x.radius, ball.absolute(self.kernel)))

    def widest(self) -> int:
        """The most numbers at hand while the map is applied to one column."""
        read = math.prod(self.in_shape[:2]) * math.prod(self.kernel.shape[2:]) * math.prod(self.out_shape[2:])
        return max(read, math.prod(self.in_shape), math.prod(self.out_shape))

    def magnitude(self, x: ball.Balls) -> ball.Balls:
        """`|A| x` for x >= 0."""
        return self.times(x.reshape(self.in_shape), ball.absolute(self.kernel))

    def magnitude_transposed(self, y: ball.Balls) -> ball.Balls:
        """`|A|^T y` for y >= 0."""
        matrices = self._matrices(ball.absolute(self.kernel))
        batch, groups, outputs = self.in_shape[0], len(matrices), math.prod(self.out_shape[2:])
        flat, result = y.reshape(batch, groups, -1, outputs), ball.full(0, self.in_shape)
        width, places = self.in_shape[1] // groups, self._places()
        for b, g in np.ndindex(batch, groups):
            spread = ball.matrix_product(ball.array(matrices[g].T), flat[b, g]).reshape(width, *places[0].shape)
            inside = places[-1]
            for channel in range(width):
                target = result[b, g * width + channel]
                np.add.at(target, tuple(place[inside] for place in places[:-1]), spread[channel][inside])
        return result

    def times(self, x: ball.Balls, kernel: ball.Balls) -> ball.Balls:
        """`A x` with this kernel."""
        matrices = self._matrices(kernel)
        batch, groups, places = x.shape[0], len(matrices), self._places()
        width, outputs = x.shape[1] // groups, math.prod(self.out_shape[2:])
        result = np.empty((batch, groups, matrices[0].shape[0], outputs), dtype=object)
        outside = np.broadcast_to(~places[-1], (width, *places[-1].shape))
        for b, g in np.ndindex(batch, groups):
            own = x[b, g * width : (g + 1) * width]
            read = np.stack([channel[tuple(places[:-1])] for channel in own])
            read[outside] = arb(0)
            result[b, g] = ball.matrix_product(matrices[g], read.reshape(-1, outputs))
        return result.reshape(batch, *self.out_shape[1:])

    def _matrices(self, kernel: ball.Balls) -> list[ball.Balls]:
        """For each group (out, in * taps)."""
        split = kernel.reshape(self.attributes.groups, -1, *kernel.shape[1:])
        if self.attributes.extra is not None:
            split = np.swapaxes(split, 1, 2)
        return [part.reshape(part.shape[0], -1) for part in split]

    def _places(self) -> list[NDArray[Any]]:
        """For each dimension the entry read, and whether there is one: arrays (taps..., outputs...)."""
        dims, found = len(self.tables), []
        inside: Any = True
        for dim, table in enumerate(self.tables):
            shape = [1] * (2 * dims)
            shape[dim], shape[dims + dim] = table.shape
            grid = table.reshape(shape)
            found.append(grid)
            inside = inside & (grid >= 0)
        return [np.broadcast_to(grid, inside.shape) for grid in found] + [inside]


def _dimension(size: int, index: Index | None, pad: int) -> tuple[Dimension, int]:
    """(the padded dimension, how often its map repeats an entry)."""
    if index is None:
        return Dimension(size, "zeros", pad, pad), 1
    kept = np.flatnonzero(index >= 0)
    first = int(kept[0]) if len(kept) else 0
    if len(kept) == size and np.array_equal(index[first : first + size], np.arange(size)):
        return Dimension(size, "zeros", pad + first, pad + len(index) - first - size), 1
    if pad == 0 and len(kept) == len(index) >= size:
        before = -int(index[0]) % size
        if np.array_equal(index, (np.arange(len(index)) - before) % size):
            return Dimension(size, "circular", before, len(index) - size - before), 1
    most = int(np.bincount(index[kept]).max()) if len(kept) else 0
    return Dimension(len(index), "zeros", pad, pad), most
