"""A value that is differentiated as another computation's result."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def carried(value: Tensor, path: Tensor) -> Tensor:
    """`value`, bit for bit, with the derivatives of `path`, of every order."""
    if not path.requires_grad:
        return value.detach()
    result: Tensor = _Carried.apply(path, value.detach())  # type: ignore[no-untyped-call]
    return result


class _Carried(torch.autograd.Function):
    """The identity's derivative on `path`; no arithmetic, so that an infinite path spoils no value."""

    @staticmethod
    def forward(path: Tensor, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        """Nothing is kept; apart from `forward`, as torch.func wants it."""

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, None]:
        return gradients[0], None
