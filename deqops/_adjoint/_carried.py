"""A value that is differentiated as another computation's result."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from deqops._transforms import is_transformed, placed


def carried(value: Tensor, path: Tensor) -> Tensor:
    """`value`, bit for bit, with the derivatives of `path`, of every order."""
    if not (path.requires_grad or is_transformed()):
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

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        """The path's; a clone, for autograd takes no input for an output."""
        with forward_ad._set_fwd_grad_enabled(True):  # of the transforms around: autograd turns all off here
            tangent: Tensor = tangents[0].clone()
        return tangent

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], path: Tensor, value: Tensor) -> tuple[Tensor, int]:
        """The same for all calls."""
        path, value = (placed(t, at, 0, info.batch_size) for t, at in zip((path, value), in_dims, strict=True))
        return carried(value, path), 0
