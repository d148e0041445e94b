"""Convolution layers as operands: their linear part on inputs of one size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from deqops._errors import InputError

from ._bound import Bound
from ._conv_map import Convolution as Stage
from ._conv_map import Settings, gathered, grouped
from ._matrix import LARGEST_DENSE
from ._midrad import MidRad
from ._norm import Order
from ._norm_estimate import norm_estimate
from ._operand import Entries, Operand, enclosure

_SMALL = 2**20  # entries of a matrix that is written out for its norm

Layer = nn.Conv1d | nn.Conv2d | nn.ConvTranspose1d | nn.ConvTranspose2d


@dataclass(frozen=True, eq=False)
class Convolution(Operand):
    """The linear part of a convolution layer on one sample, an operand for `operator_norm_bound` and the others.

    Args:
        layer: `nn.Conv1d`, `nn.Conv2d`, `nn.ConvTranspose1d` or `nn.ConvTranspose2d`, with any padding, stride,
            dilation and groups; the bias does not matter. Its weights are read when the operand is made, exactly.
        size: the input's spatial size, (N,) or (N1, N2).

    Raises:
        InputError: another layer, another number of sizes, or a size that the layer cannot take.
    """

    layer: nn.Module
    size: Sequence[int]
    _stage: Stage = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.layer, Layer):
            raise InputError(f"layer: got {type(self.layer).__name__}; pass a convolution in one or two dimensions")
        size, dims = tuple(self.size), self.layer.weight.ndim - 2
        if len(size) != dims or not all(isinstance(side, int) and side > 0 for side in size):
            raise InputError(f"size: got {self.size!r}; {dims} positive integers are needed")
        object.__setattr__(self, "_stage", _stage_of(self.layer, size))
        if min(self._stage.out_shape) < 1:
            raise InputError(f"size: {size} is smaller than the kernel reaches; use a larger one")

    @property
    def shape(self) -> tuple[int, int]:
        """Entries of the result and of the input."""
        return math.prod(self._stage.out_shape), math.prod(self._stage.in_shape)

    def norm_bound(self, order: Order) -> Bound:
        """Proven upper bound: `convolution_norm_bound` for l2, the largest sum of moduli for l1 and linf.

        Where the matrix is small its own norm, if that is less: a padding that copies entries lets weights cancel.
        """
        upper, method = self._stage.norm_bound(order, None, None), "torus" if order == "l2" else "sums of moduli"
        values = self.entries() if math.prod(self.shape) <= _SMALL else None
        if values is not None:
            written = Entries(values).norm_bound(order).upper
            upper, method = (written, "written out") if written < upper else (upper, method)
        return Bound(upper, min(norm_estimate(self, order), upper), method)

    def apply(self, x: Tensor) -> Tensor:
        """About the convolution of each column."""
        settings, columns = self._stage.settings, x.shape[1]
        kernel = grouped(self._stage.weight.mid, settings).flatten(2)
        images = x.T.reshape(columns, *self._stage.in_shape[1:])
        return torch.matmul(kernel, gathered(images, self._stage.plans, settings.groups)).reshape(columns, -1).T

    def apply_transposed(self, y: Tensor) -> Tensor:
        """About the adjoint of each column, by differentiating the product backward."""
        with torch.enable_grad():
            x = torch.zeros(self.shape[1], y.shape[1], dtype=torch.float64, requires_grad=True)
            (pulled,) = torch.autograd.grad(self.apply(x), x, y)
        return pulled

    def entries(self) -> MidRad | None:
        """The matrix written out; None where it is too large."""
        rows, cols = self.shape
        if cols * max(rows, self._stage.widest()) > LARGEST_DENSE:
            return None
        unit = torch.eye(cols, dtype=torch.float64).reshape(*self._stage.in_shape, cols)
        return self._stage.apply(MidRad.exact(unit)).apply_exact(lambda t: t.reshape(rows, cols))


def _stage_of(layer: Layer, size: tuple[int, ...]) -> Stage:
    weight = enclosure(layer.weight, "layer.weight")
    none = (0,) * len(size)
    copies: tuple[Tensor | None, ...] = (None,) * len(size)
    if isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d):
        padding = cast(tuple[int, ...], layer.padding)  # torch has names for plain convolutions only
        settings = Settings(layer.stride, padding, layer.dilation, layer.groups, layer.output_padding)
    else:
        settings = Settings(layer.stride, none, layer.dilation, layer.groups)
        copies = tuple(_read(layer, dim, side) for dim, side in enumerate(size))
    return Stage((1, layer.in_channels, *size), weight, settings, copies)


def _read(layer: nn.Conv1d | nn.Conv2d, dim: int, side: int) -> Tensor:
    """Which entry of the input each entry of the padded input is, along one dimension; -1 for a zero."""
    span = layer.dilation[dim] * (layer.kernel_size[dim] - 1)
    named = {"same": (span // 2, span - span // 2), "valid": (0, 0)}
    padding = layer.padding
    pads = named[padding] if isinstance(padding, str) else (padding[dim], padding[dim])
    places = torch.arange(side, dtype=torch.float64)[None, None]
    try:
        if layer.padding_mode == "zeros":
            padded = nn.functional.pad(places, pads, value=-1.0)
        else:
            padded = nn.functional.pad(places, pads, mode=layer.padding_mode)
    except RuntimeError as error:
        raise InputError(f"size: {side} is too small for {layer.padding_mode} padding by {pads}: {error}") from None
    return padded[0, 0].long()
