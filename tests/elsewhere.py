"""A second device without hardware: tensors that say "meta", compute on the CPU, and refuse to meet its tensors.

As on a real accelerator, what a factory makes without `device=` lies on the CPU, and an operation on tensors of both
devices is an error; a CPU tensor without dimensions is a number. Other than there, indexing by CPU tensors is an error.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = torch.device("meta")


class Elsewhere(Tensor):
    """A tensor of the device; `inner` holds its numbers."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Elsewhere:
        wrapped: Elsewhere = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, inner.shape, strides=inner.stride(), dtype=inner.dtype, device=DEVICE
        )
        wrapped.inner = inner
        return wrapped

    @classmethod
    def __torch_dispatch__(
        cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return run(function, args, kwargs or {})


class Device(TorchDispatchMode):
    """While it is entered, `device=DEVICE` makes tensors of the device."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return run(function, args, kwargs or {})


def run(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if function.overloadpacket is torch.ops.aten._efficientzerotensor:  # its shortcuts lie above this level
        function = torch.ops.aten.zeros.default
    leaves = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    elsewhere = any(isinstance(leaf, Elsewhere) for leaf in leaves)
    moves = function.overloadpacket in (torch.ops.aten._to_copy, torch.ops.aten.copy_)
    strays = [leaf for leaf in leaves if not isinstance(leaf, Elsewhere) and leaf.ndim]
    if elsewhere and strays and not moves:
        raise RuntimeError(
            f"{function}: tensors on two devices, of shapes {[tuple(s.shape) for s in strays]} on the CPU"
        )
    wanted = kwargs.get("device")
    there = torch.device(wanted) == DEVICE if wanted is not None else elsewhere
    if wanted is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    plain_args, plain_kwargs = pytree.tree_map_only(Elsewhere, lambda t: t.inner, (args, kwargs))
    result = function(*plain_args, **plain_kwargs)
    if "out" in kwargs or function._schema.name.endswith("_"):  # written into what came in
        return kwargs.get("out", args[0] if args else None)
    return pytree.tree_map_only(Tensor, Elsewhere, result) if there else result


def sent(tensor: Tensor) -> Tensor:
    """The tensor on the device, a leaf that requires gradients where it does."""
    return Elsewhere(tensor.detach().clone()).requires_grad_(tensor.requires_grad)


def fetched(tensor: Tensor) -> Tensor:
    """Its numbers on the CPU."""
    assert isinstance(tensor, Elsewhere)
    return tensor.detach().inner
