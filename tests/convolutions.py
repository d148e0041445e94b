"""Convolutions as exact matrices, and all that torch accepts, small."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import torch
from exact import seeded
from hypothesis import strategies as st
from torch import Tensor

MODES = ("circular", "zeros", "reflect", "replicate")


def integer_kernel(*shape: int, seed: int = 0, most: int = 5) -> Tensor:
    return torch.randint(-most, most + 1, shape, generator=seeded(seed)).double()


def operator_matrix(kernel: Tensor, size: tuple[int, ...], groups: int = 1, **settings: Any) -> Tensor:
    """The convolution torch's own layer computes, applied to every unit vector: (outputs, inputs).

    Exact for integer kernels, and where each output reads each input through one tap at most.
    """
    layer_type = torch.nn.Conv1d if len(size) == 1 else torch.nn.Conv2d
    channels = kernel.shape[1] * groups
    layer = layer_type(channels, kernel.shape[0], tuple(kernel.shape[2:]), groups=groups, bias=False, **settings)
    layer.double().weight.data.copy_(kernel)
    inputs = channels * math.prod(size)
    with torch.no_grad():
        return layer(torch.eye(inputs, dtype=torch.float64).reshape(inputs, channels, *size)).reshape(inputs, -1).T


def squared_norm_from_below(matrix: Tensor) -> Fraction:
    """`|A v|^2 / |v|^2`, exactly, for an integer matrix A and the first singular vector v rounded to integers."""
    vector = torch.linalg.svd(matrix, full_matrices=False)[2][0]
    rounded = (vector * 2**27).round().long()
    image = matrix.long() @ rounded
    return Fraction(sum(y * y for y in image.tolist()), sum(x * x for x in rounded.tolist()))


@st.composite
def cases(draw: st.DrawFn) -> tuple[Tensor, tuple[int, ...], dict[str, Any]]:
    """Any convolution that torch accepts, small."""
    dims, mode = draw(st.sampled_from([1, 2])), draw(st.sampled_from(MODES))
    largest = 9 if dims == 1 else 4
    size = tuple(draw(st.lists(st.integers(1, largest), min_size=dims, max_size=dims)))
    taps, strides, gaps, pads = [], [], [], []
    for side in size:
        most = {"circular": side, "reflect": side - 1}.get(mode, 4)
        pads.append(draw(st.integers(0, min(most, 4))))
        taps.append(draw(st.integers(1, min(side + 2 * pads[-1], 5))))
        gap = (side + 2 * pads[-1] - 1) // max(taps[-1] - 1, 1)
        gaps.append(draw(st.integers(1, max(min(gap, 3), 1))))
        strides.append(draw(st.integers(1, 4)))
    groups = draw(st.integers(1, 2))
    shape = (groups * draw(st.integers(1, 2)), draw(st.integers(1, 2)), *taps)
    names = {"padding": pads, "stride": strides, "dilation": gaps}
    settings = {name: tuple(value) for name, value in names.items()} | {"padding_mode": mode, "groups": groups}
    return integer_kernel(*shape, seed=draw(st.integers(0, 10**6))), size, settings
