"""A value with derivatives up to some order; one more is refused."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from deqops._errors import DeqopsError


class Ordered(torch.autograd.Function):
    """The identity on `tensor`; all of its derivatives depend on `reference`, so that none goes by uncounted."""

    @staticmethod
    def forward(tensor: Tensor, reference: Tensor, order: int) -> Tensor:
        return tensor.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep the reference and the order."""
        _, reference, ctx.order = inputs
        ctx.save_for_backward(reference)
        ctx.save_for_forward(reference)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        (reference,) = ctx.saved_tensors
        counted = _lower(ctx, torch.zeros_like(reference), reference)  # the only way where `tensor` is a constant
        return _lower(ctx, gradients[0], reference), counted, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        with forward_ad._set_fwd_grad_enabled(True):  # of the transforms around: autograd turns all off here
            reference = forward_ad.unpack_dual(ctx.saved_tensors[0]).primal  # type: ignore[no-untyped-call]
            return _lower(ctx, tangents[0], reference)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], tensor: Tensor, reference: Tensor, order: int
    ) -> tuple[Tensor, int | None]:
        """The identity on each; the reference may be mapped where the tensor is not."""
        return ordered(tensor, reference, order), in_dims[0]


def _lower(ctx: Any, derivative: Tensor, reference: Tensor) -> Tensor:
    if ctx.order < 1:
        raise DeqopsError(
            "ImplicitAdjoint: a derivative of higher order than it provides was asked for; raise derivatives="
        )
    return ordered(derivative, reference, ctx.order - 1)


def ordered(tensor: Tensor, reference: Tensor, order: int) -> Tensor:
    """`tensor`, with `order` derivatives by whatever `reference` depends on."""
    result: Tensor = Ordered.apply(tensor, reference, order)  # type: ignore[no-untyped-call]
    return result
