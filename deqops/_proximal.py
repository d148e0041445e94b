"""Operators `G(z) = s(W z + c)` that say so, for the solvers that split them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from deqops._errors import InputError
from deqops._prox import prox


@dataclass(frozen=True, eq=False)
class ProximalForm:
    """`G(z) = s(W z + c)` along the last dimension of the state.

    Attributes:
        weight: W, (n, n), shared by all problems.
        offset: c, of the state's shape or broadcast to it.
        activation: s, elementwise with slopes in [0, 1], known to `deqops.prox`.
    """

    weight: Tensor
    offset: Tensor
    activation: nn.Module


@runtime_checkable
class ProximalOperator(Protocol):
    """An operator `G(z, *inputs)` that says how it is put together; a module of your own can.

    What it says is used for proposals alone: the residual, and the value that `solve` returns, are its own.
    """

    def proximal_form(self, *inputs: Any) -> ProximalForm:
        """W, c and s at these inputs."""


class ProximalLayer(nn.Module):
    """`G(z, x) = s(W z + U x + b)` along the last dimension; without U, `G(z) = s(W z + b)`.

    Args:
        W: (n, n). A parameter stays one, a tensor becomes a buffer, here and below; `torch.nn.utils.parametrize`
            keeps it monotone while it is trained.
        U: (n, k), or None for an operator without inputs.
        b: (n,), or None for 0.
        activation: s, None for ReLU; one that `deqops.prox` knows.

    Raises:
        InputError: a shape does not fit, or s is not known as a proximal map.

    Theorem: T5 `monotone`, form (c): one equilibrium for every x where the symmetric part of I - W is positive
    definite, whatever ||W|| is.
    """

    W: Tensor
    U: Tensor | None
    b: Tensor | None
    activation: nn.Module

    def __init__(
        self, W: Tensor, U: Tensor | None = None, b: Tensor | None = None, activation: nn.Module | None = None
    ) -> None:
        super().__init__()
        activation = nn.ReLU() if activation is None else activation
        _check_matrix("W", W, None)
        if W.shape[0] != W.shape[1]:
            raise InputError(f"W: a square matrix is needed, got shape {tuple(W.shape)}")
        if U is not None:
            _check_matrix("U", U, W.shape[0])
        if b is not None and (not isinstance(b, Tensor) or b.shape != W.shape[:1]):
            got = tuple(b.shape) if isinstance(b, Tensor) else type(b).__name__
            raise InputError(f"b: a tensor of shape {(W.shape[0],)} or None is needed, got {got}")
        prox(activation, torch.zeros(1), 1.0)  # raises where it is not known
        for name, given in (("W", W), ("U", U), ("b", b)):
            if isinstance(given, nn.Parameter):
                self.register_parameter(name, given)
            else:
                self.register_buffer(name, given)
        self.activation = activation

    def forward(self, z: Tensor, *inputs: Tensor) -> Tensor:
        """`s(W z + U x + b)`."""
        return self.at_inputs(*inputs)(z)

    def at_inputs(self, *inputs: Tensor) -> Callable[[Tensor], Tensor]:
        """`z -> s(W z + c)` with W and c computed once, here; gradients pass through them."""
        offset, weight = self._offset(*inputs), self.W
        if offset is None:
            return lambda z: self._activated(linear(z, weight))
        return lambda z: self._activated(linear(z, weight) + offset)

    def proximal_form(self, *inputs: Tensor) -> ProximalForm:
        """W, c = U x + b and s."""
        offset, weight = self._offset(*inputs), self.W
        return ProximalForm(weight, weight.new_zeros(weight.shape[0]) if offset is None else offset, self.activation)

    def _activated(self, v: Tensor) -> Tensor:
        image: Tensor = self.activation(v)
        return image

    def _offset(self, *inputs: Tensor) -> Tensor | None:
        wanted = 0 if self.U is None else 1
        if len(inputs) != wanted:
            raise InputError(f"inputs: {wanted} needed ({'U x' if wanted else 'there is no U'}), got {len(inputs)}")
        if self.U is None:
            return self.b
        return linear(inputs[0], self.U, self.b)


def _check_matrix(name: str, matrix: object, rows: int | None) -> None:
    floating = isinstance(matrix, Tensor) and matrix.ndim == 2 and matrix.is_floating_point()
    if not floating or (rows is not None and matrix.shape[0] != rows):  # type: ignore[attr-defined]
        got = f"{matrix.dtype} of shape {tuple(matrix.shape)}" if isinstance(matrix, Tensor) else type(matrix).__name__
        raise InputError(f"{name}: a floating matrix with {rows or 'as many'} rows is needed, got {got}")
