"""Small operators whose constants and equilibria are known, printed as the code that makes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ._code import code_of

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda v: v,
    "relu": torch.relu,
    "leaky_relu": lambda v: nn.functional.leaky_relu(v, 0.5),
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}
"""Elementwise, with slopes between 0 and 1."""


class Shown(nn.Module):
    """A module whose `repr` is the call that makes it."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__()
        self._arguments = arguments

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={code_of(value)}" for name, value in self._arguments.items())
        return f"{type(self).__name__}({inside})"


class Layer(Shown):
    """`s(W z + x)` on states (batch, n).

    Args:
        weight: W, (n, n).
        activation: a name in `ACTIVATIONS`.
    """

    def __init__(self, weight: Tensor, activation: str = "identity") -> None:
        super().__init__(weight=weight, activation=activation)
        self.weight = nn.Parameter(weight.clone())
        self.activation = activation

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """The new state."""
        image: Tensor = ACTIVATIONS[self.activation](z @ self.weight.mT + x)
        return image


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


class Averaging(Shown):
    """`rate D^-1 A Z + X` on the nodes of a graph of which every node has the same number of neighbours.

    Args:
        rate: of the contraction, in l2, and in linf.
    """

    def __init__(self, rate: float) -> None:
        super().__init__(rate=rate)
        self.rate = nn.Parameter(torch.tensor(rate, dtype=torch.float64))

    def forward(self, z: Tensor, x: Tensor, edges: Tensor) -> Tensor:
        """The new state, (nodes, channels); edges (2, edges), each direction once."""
        degree = edges.shape[1] // z.shape[0]
        return self.rate * torch.zeros_like(z).index_add(0, edges[1], z[edges[0]]) / degree + x


class Convolution(Shown):
    """`K * z + x`, circular, on states (batch, 1, n).

    Args:
        kernel: (1, 1, taps), an odd number of them.
    """

    def __init__(self, kernel: Tensor) -> None:
        super().__init__(kernel=kernel)
        taps = kernel.shape[-1]
        self.convolution = nn.Conv1d(
            1, 1, taps, padding=taps // 2, padding_mode="circular", bias=False, dtype=kernel.dtype
        )
        self.convolution.weight = nn.Parameter(kernel.clone())

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """The new state."""
        image: Tensor = self.convolution(z) + x
        return image
