"""Small operators whose constants and equilibria are known, printed as the code that makes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ._code import code_of

Activation = Callable[[Tensor], Tensor]
ACTIVATIONS: dict[str, Activation] = {
    "identity": lambda v: v,
    "relu": torch.relu,
    "leaky": lambda v: F.leaky_relu(v, 0.5),
    "hardtanh": F.hardtanh,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softplus": F.softplus,
    "silu": F.silu,
    "gelu": F.gelu,
    "elu": F.elu,
    "selu": F.selu,
    "leaky_relu": F.leaky_relu,
    "mish": F.mish,
    "relu6": F.relu6,
    "hardswish": F.hardswish,
}
"""Elementwise; the first four have dyadic values at dyadic points, "leaky" is LeakyReLU with slope 1/2."""


class Shown(nn.Module):
    """A module whose `repr` is the call that makes it."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__()
        self._arguments = arguments

    def __repr__(self) -> str:
        given = {name: value for name, value in self._arguments.items() if value is not None}
        inside = ", ".join(f"{name}={code_of(value)}" for name, value in given.items())
        return f"{type(self).__name__}({inside})"


class Layer(Shown):
    """`s(W z + U x + b)` on states (batch, n).

    Args:
        weight: W, (n, n).
        activation: a name in `ACTIVATIONS`, or a function, which `repr` cannot write.
        inputs: U, (n, m); None for x itself, which may then be left out.
        bias: b, (n,); None for none.
    """

    def __init__(
        self,
        weight: Tensor,
        activation: str | Activation = "identity",
        inputs: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> None:
        super().__init__(weight=weight, activation=activation, inputs=inputs, bias=bias)
        self.weight = nn.Parameter(weight.clone())
        self.inputs = None if inputs is None else nn.Parameter(inputs.clone())
        self.bias = None if bias is None else nn.Parameter(bias.clone())
        self.activation = activation

    def forward(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        """The new state."""
        before = F.linear(z, self.weight, self.bias)
        if x is not None:
            before = before + (x if self.inputs is None else F.linear(x, self.inputs))
        function = ACTIVATIONS[self.activation] if isinstance(self.activation, str) else self.activation
        return function(before)


class TwoLayers(Shown):
    """`relu(V relu(W z) + x)` on states (batch, n).

    Args:
        inner: W, (m, n).
        outer: V, (n, m).
    """

    def __init__(self, inner: Tensor, outer: Tensor) -> None:
        super().__init__(inner=inner, outer=outer)
        self.inner, self.outer = nn.Parameter(inner.clone()), nn.Parameter(outer.clone())

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """The new state."""
        return torch.relu(torch.relu(z @ self.inner.mT) @ self.outer.mT + x)


class Messages(Shown):
    """`s(A Z + X)` on the nodes of a graph, `A Z` the sum over each node's incoming edges of strength times source.

    Args:
        activation: a name in `ACTIVATIONS`.
    """

    def __init__(self, activation: str = "identity") -> None:
        super().__init__(activation=activation)
        self.activation = activation

    def forward(self, z: Tensor, x: Tensor, edges: Tensor, strengths: Tensor) -> Tensor:
        """The new state, (nodes, channels); edges (2, edges), strengths (edges,)."""
        messages = strengths[:, None] * z.index_select(0, edges[0])
        return ACTIVATIONS[self.activation](torch.zeros_like(z).index_add(0, edges[1], messages) + x)


class Convolution(Shown):
    """`K * z + x` on states (batch, channels, n) or (batch, channels, n, m), of which the sides stay.

    Args:
        kernel: (channels, channels, taps) or (channels, channels, taps, taps), odd numbers of taps.
        padding: "circular" or "zeros".
    """

    def __init__(self, kernel: Tensor, padding: str = "circular") -> None:
        super().__init__(kernel=kernel, padding=padding)
        out, into, *taps = kernel.shape
        make: Any = nn.Conv1d if len(taps) == 1 else nn.Conv2d
        sides = tuple(tap // 2 for tap in taps)
        self.convolution = make(
            into, out, tuple(taps), padding=sides, padding_mode=padding, bias=False, dtype=kernel.dtype
        )
        self.convolution.weight = nn.Parameter(kernel.clone())

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """The new state."""
        image: Tensor = self.convolution(z) + x
        return image
