"""Operators traced once whose weights are inputs, so that one graph serves every call; and their rational twins."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from flint import fmpq, fmpq_mat
from torch import Tensor

from deqops.graph import OperatorGraph, trace

from ._drawing import Random
from ._exact import Floats, Rational, diagonal, identity, kronecker, rational_matrix, rationals
from ._layers import ACTIVATIONS, Activation, Layer
from ._weights import weight

_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "leaky_relu": lambda x: torch.nn.functional.leaky_relu(x, 0.125),
    "abs": torch.abs,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softplus": torch.nn.functional.softplus,
    "gelu": torch.nn.functional.gelu,
}


@dataclass(frozen=True, eq=False)
class Family:
    """A form of operator.

    Attributes:
        function: `function(activation) -> G(state, *inputs)`.
        draw: the inputs' values for n unknowns of one problem (nodes x channels for graphs).
        twin: the rational layer of these inputs.
        biases: positions of the inputs that only shift; every other one enters the bounds.
        shape: of one problem's state.
        batch_dims: 1 or 0.
    """

    function: Callable[[Callable[[Tensor], Tensor]], Callable[..., Tensor]]
    draw: Callable[[Random, int], tuple[Floats, ...]]
    twin: Callable[[Sequence[Tensor], Activation], Layer]
    biases: frozenset[int]
    shape: Callable[[int], tuple[int, ...]] = lambda n: (n,)
    batch_dims: int = 1


@dataclass(frozen=True, eq=False)
class Operator:
    """A traced operator with its inputs' values and its rational twin."""

    graph: OperatorGraph
    state: Tensor
    inputs: tuple[Tensor, ...]
    layer: Layer
    biases: frozenset[int]
    label: str
    twin: Callable[[Sequence[Tensor]], Layer] | None = None

    def with_other(self, positions: frozenset[int], rng: Random) -> Operator:
        """The same graph with other values of some inputs: dense numbers, integers in another order."""
        if self.twin is None:
            raise ValueError(f"{self.label}: its rational twin for other inputs is not known")
        inputs = tuple(_other(v, rng) if number in positions else v for number, v in enumerate(self.inputs))
        return replace(self, inputs=inputs, layer=self.twin(inputs))


def _other(value: Tensor, rng: Random) -> Tensor:
    if not value.is_floating_point():
        return value.flatten()[torch.from_numpy(rng.permutation(value.numel()))].reshape(value.shape)
    return torch.from_numpy(rng.standard_normal(tuple(value.shape))).to(value.dtype)


@lru_cache(maxsize=4096)  # all there are; each is small
def _traced(family: str, activation: str, size: int, problems: int, dtype: torch.dtype) -> OperatorGraph:
    form = FAMILIES[family]
    state = torch.zeros(_state_shape(form, size, problems), dtype=dtype)
    inputs = [torch.from_numpy(value) for value in form.draw(np.random.default_rng(0), size)]
    example = [value.to(dtype) if value.is_floating_point() else value for value in inputs]
    return trace(form.function(_FUNCTIONS[activation]), state, *example, batch_dims=form.batch_dims)


def _state_shape(form: Family, size: int, problems: int) -> tuple[int, ...]:
    return (problems, *form.shape(size)) if form.batch_dims else form.shape(size)


def draw_operator(rng: Random) -> Operator:
    """An operator of some form, size, dtype and weights."""
    family = str(rng.choice(list(FAMILIES)))
    form = FAMILIES[family]
    activation = str(rng.choice(list(ACTIVATIONS))) if family != "affine" else "relu"
    size, problems = int(rng.choice([1, 2, 2, 3, 4, 4])), int(rng.choice([1, 2]))
    dtype = torch.float32 if rng.random() < 0.2 else torch.float64
    graph = _traced(family, activation, size, problems, dtype)
    drawn = [torch.from_numpy(np.ascontiguousarray(value)) for value in form.draw(rng, size)]
    inputs = tuple(value.to(dtype) if value.is_floating_point() else value for value in drawn)
    state = torch.from_numpy(rng.standard_normal(_state_shape(form, size, problems))).to(dtype)
    label = f"{family} {activation} {size} {dtype}"

    def twin(values: Sequence[Tensor]) -> Layer:
        return form.twin(values, ACTIVATIONS[activation])

    return Operator(graph, state, inputs, twin(inputs), form.biases, label, twin)


def _bias(rng: Random, size: int) -> Floats:
    """Zero, positive, small dyadic or anything."""
    kind = rng.integers(4)
    if kind == 0:
        return np.zeros(size)
    if kind == 1:
        return rng.integers(1, 9, size) / 4.0
    return rng.integers(-8, 9, size) / 4.0 if kind == 2 else rng.standard_normal(size)


def _zeros(rows: int, cols: int | None = None) -> Any:
    return fmpq_mat(rows, rows if cols is None else cols)


def _none(size: int) -> tuple[Rational, ...]:
    return (fmpq(0),) * size


# -------------------------------------------------------------------------------------------------- families


def _plain(rng: Random, size: int) -> tuple[Floats, ...]:
    return weight(rng, size), _bias(rng, size)


def _affine(_: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda z, W, c: z @ W.T + c


def _affine_twin(inputs: Sequence[Tensor], _: Activation) -> Layer:
    return Layer(rational_matrix(inputs[0]), None, None, (), tuple(rationals(inputs[1])), None)


def _single(s: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda z, W, c: s(z @ W.T + c)


def _outer(factor: Rational, kept: Rational) -> Callable[[Sequence[Tensor], Activation], Layer]:
    """The twin of `kept z + factor s(W z + c)`."""

    def twin(inputs: Sequence[Tensor], activation: Activation) -> Layer:
        W, c = rational_matrix(inputs[0]), tuple(rationals(inputs[1]))
        eye = identity(W.nrows())
        return Layer(eye * kept, eye * factor, W, c, _none(W.nrows()), activation)

    return twin


def _residual(s: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda z, W, c: 0.5 * z + 0.5 * s(z @ W.T + c)


def _negated(s: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda z, W, c: -s(z @ W.T + c)


def _two_layers(s: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda z, W, c, V, d: s(z @ W.T + c) @ V.T + d


def _two_draw(rng: Random, size: int) -> tuple[Floats, ...]:
    return weight(rng, size), _bias(rng, size), weight(rng, size), _bias(rng, size)


def _two_twin(inputs: Sequence[Tensor], activation: Activation) -> Layer:
    W, V = rational_matrix(inputs[0]), rational_matrix(inputs[2])
    return Layer(_zeros(V.nrows()), V, W, tuple(rationals(inputs[1])), tuple(rationals(inputs[3])), activation)


def _gated(s: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda z, g, W, c: g * s(z @ W.T + c)


def _gated_draw(rng: Random, size: int) -> tuple[Floats, ...]:
    return rng.integers(-6, 7, size) / 4.0, weight(rng, size), _bias(rng, size)


def _gated_twin(inputs: Sequence[Tensor], activation: Activation) -> Layer:
    g, W = rationals(inputs[0]), rational_matrix(inputs[1])
    return Layer(_zeros(len(g)), diagonal(g), W, tuple(rationals(inputs[2])), _none(len(g)), activation)


def _graph(s: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda Z, A, W, B: s(A @ Z @ W + B)


def _nodes(size: int) -> tuple[int, ...]:
    """Nodes and channels: n <= 4 unknowns."""
    return (2, size // 2) if size > 1 and size % 2 == 0 else (size, 1)


def _graph_draw(rng: Random, size: int) -> tuple[Floats, ...]:
    nodes, channels = _nodes(size)
    return weight(rng, nodes), weight(rng, channels), _bias(rng, size).reshape(nodes, channels)


def _graph_twin(inputs: Sequence[Tensor], activation: Activation) -> Layer:
    product = kronecker(rational_matrix(inputs[0]), rational_matrix(inputs[1]).transpose())
    size = product.nrows()
    return Layer(_zeros(size), identity(size), product, tuple(rationals(inputs[2])), _none(size), activation)


def _edges(s: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    def function(Z: Tensor, source: Tensor, target: Tensor, strength: Tensor, W: Tensor, B: Tensor) -> Tensor:
        messages = strength[:, None] * Z.index_select(0, source)
        return s(torch.zeros_like(Z).index_add(0, target, messages) @ W + B)

    return function


def _edges_draw(rng: Random, size: int) -> tuple[Any, ...]:
    nodes, channels = _nodes(size)
    source, target = (rng.integers(0, nodes, 5) for _ in "st")
    strength = rng.integers(-4, 5, 5) / 8.0
    return source, target, strength, weight(rng, channels), _bias(rng, size).reshape(nodes, channels)


def _edges_twin(inputs: Sequence[Tensor], activation: Activation) -> Layer:
    nodes = inputs[4].shape[0]
    A = _zeros(nodes)
    for source, target, strength in zip(*(t.tolist() for t in inputs[:2]), rationals(inputs[2]), strict=True):
        A[target, source] = A[target, source] + strength
    product = kronecker(A, rational_matrix(inputs[3]).transpose())
    size = product.nrows()
    return Layer(_zeros(size), identity(size), product, tuple(rationals(inputs[4])), _none(size), activation)


def _convolution(s: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda z, K, c: s(torch.nn.functional.conv1d(z, K, padding=1) + c)


def _convolution_draw(rng: Random, size: int) -> tuple[Floats, ...]:
    channels, positions = _nodes(size)
    kernel = rng.integers(-8, 9, (channels, channels, 3)) / 16.0
    return kernel * rng.choice([0.5, 1.0, 2.0]), _bias(rng, size).reshape(channels, positions)


def _convolution_twin(inputs: Sequence[Tensor], activation: Activation) -> Layer:
    """`W[(o, p), (i, r)] = K[o, i, r - p + 1]`: zeros beyond the ends."""
    kernel, (channels, positions) = inputs[0], inputs[1].shape
    entries, size = rationals(kernel), channels * positions
    W = _zeros(size)
    for o, i, p, r in itertools.product(range(channels), range(channels), range(positions), range(positions)):
        if 0 <= r - p + 1 < 3:
            W[o * positions + p, i * positions + r] = entries[(o * channels + i) * 3 + r - p + 1]
    return Layer(_zeros(size), identity(size), W, tuple(rationals(inputs[1])), _none(size), activation)


_HALF = fmpq(1, 2)
FAMILIES: dict[str, Family] = {
    "affine": Family(_affine, _plain, _affine_twin, frozenset({1})),
    "single": Family(_single, _plain, _outer(fmpq(1), fmpq(0)), frozenset({1})),
    "residual": Family(_residual, _plain, _outer(_HALF, _HALF), frozenset({1})),
    "negated": Family(_negated, _plain, _outer(fmpq(-1), fmpq(0)), frozenset({1})),
    "two layers": Family(_two_layers, _two_draw, _two_twin, frozenset({1, 3})),
    "gated": Family(_gated, _gated_draw, _gated_twin, frozenset({2})),
    "graph": Family(_graph, _graph_draw, _graph_twin, frozenset({2}), _nodes, 0),
    "convolution": Family(_convolution, _convolution_draw, _convolution_twin, frozenset({1}), _nodes),
    "edges": Family(_edges, _edges_draw, _edges_twin, frozenset({4}), _nodes, 0),
}
