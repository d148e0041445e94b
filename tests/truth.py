"""Layers `s(W z + U x)` and their equilibria with 40 decimal digits, for tests of what follows from a certificate."""

from __future__ import annotations

from typing import Any

import mpmath
from hypothesis import strategies as st
from torch import Tensor

import deqops.testing as kit
from deqops.testing import Layer

Vector = list[Any]
DIGITS = 40


def _softplus(v: Any) -> Any:
    return mpmath.log1p(mpmath.exp(-abs(v))) + max(v, mpmath.mpf(0))


def _sigmoid(v: Any) -> Any:
    return 1 / (1 + mpmath.exp(-v))


_ALPHA, _SCALE = mpmath.mpf("1.6732632423543772848170429916717"), mpmath.mpf("1.0507009873554804934193349852946")

EXACT = {
    "tanh": mpmath.tanh,
    "sigmoid": _sigmoid,
    "relu": lambda v: max(v, mpmath.mpf(0)),
    "softplus": _softplus,
    "silu": lambda v: v * _sigmoid(v),
    "gelu": lambda v: v * mpmath.erfc(-v / mpmath.sqrt(2)) / 2,
    "elu": lambda v: v if v > 0 else mpmath.expm1(v),
    "selu": lambda v: _SCALE * (v if v > 0 else _ALPHA * mpmath.expm1(v)),
    "leaky_relu": lambda v: v if v > 0 else mpmath.mpf(0.01) * v,
    "mish": lambda v: v * mpmath.tanh(_softplus(v)),
    "relu6": lambda v: min(max(v, mpmath.mpf(0)), mpmath.mpf(6)),
    "hardswish": lambda v: v * min(max(v + 3, mpmath.mpf(0)), mpmath.mpf(6)) / 6,
}


def exact(values: Tensor) -> Vector:
    return [mpmath.mpf(v) for v in values.reshape(-1).tolist()]


def times(matrix: Tensor, vector: Vector) -> Vector:
    return [mpmath.fdot([(mpmath.mpf(a), b) for a, b in zip(row, vector, strict=True)]) for row in matrix.tolist()]


def pre_activation(layer: Layer, y: Vector, x: Vector) -> Vector:
    """`W y + U x`."""
    if layer.inputs is None:
        raise ValueError("layer: its inputs have no matrix")
    W, U = layer.weight.detach(), layer.inputs.detach()
    return [a + b for a, b in zip(times(W, y), times(U, x), strict=True)]


def step(layer: Layer, y: Vector, x: Vector) -> Vector:
    return [EXACT[layer.activation](v) for v in pre_activation(layer, y, x)]


def equilibrium(layer: Layer, x: Vector) -> Vector:
    """By Picard's iteration, to 1e-30."""
    y = [mpmath.mpf(0)] * layer.weight.shape[0]
    for _ in range(4000):
        following = step(layer, y, x)
        moved = max(abs(a - b) for a, b in zip(y, following, strict=True))
        y = following
        if moved < mpmath.mpf(10) ** -32:
            return y
    raise AssertionError("no equilibrium found")


def norm_of(vector: Vector, order: str, weights: Tensor | None = None) -> Any:
    sizes = [abs(v) for v in vector]
    if weights is not None:
        sizes = [v * mpmath.mpf(w) for v, w in zip(sizes, weights.reshape(-1).tolist(), strict=True)]
    if order == "linf":
        return max(sizes)
    return mpmath.fsum(sizes) if order == "l1" else mpmath.sqrt(mpmath.fsum(v * v for v in sizes))


def difference(a: Vector, b: Vector) -> Vector:
    return [u - v for u, v in zip(a, b, strict=True)]


def layers(names: tuple[str, ...], scale: float = 0.3) -> st.SearchStrategy[Layer]:
    return kit.layers(names, scale=scale, most=3).map(lambda case: case[0])


def vectors(size: int) -> st.SearchStrategy[Tensor]:
    return kit.floats(1, size)
