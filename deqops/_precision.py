"""In which precision an operator computes: autocast as a solve found it, and the coarsest unit of rounding at work."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

TF32 = 2.0**-10
"""The unit of rounding of TF32's factors."""
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "convolution")
"""The operations that float32 may leave for something coarser, as torch's settings allow."""


@dataclass(frozen=True)
class Autocast:
    """The state of `torch.autocast` for a device: what was evaluated under it is evaluated under it again."""

    device_type: str
    dtype: torch.dtype | None  # None where it is off

    @staticmethod
    def now(device: torch.device) -> Autocast:
        """As it is at this moment."""
        kind = device.type
        enabled = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
        return Autocast(kind, torch.get_autocast_dtype(kind) if enabled else None)

    @property
    def unit(self) -> float | None:
        """The unit of rounding of its dtype, None where it is off."""
        return None if self.dtype is None else torch.finfo(self.dtype).eps

    def kept(self, image_of: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """The same function of a state, under this autocast whenever it is called.

        A backward pass runs outside of autocast, or under it though the solve did not. Images in autocast's dtype
        are converted to that of the state.
        """
        if not torch.amp.is_autocast_available(self.device_type):
            return image_of

        def image(state: Any) -> Any:
            if self.dtype is None and not torch.is_autocast_enabled(self.device_type):
                return image_of(state)
            with torch.autocast(self.device_type, dtype=self.dtype, enabled=self.dtype is not None):
                return image_of(state) if self.dtype is None else self._restored(image_of(state), state)

        return image

    def _restored(self, image: Any, state: Any) -> Any:
        leaves, spec = pytree.tree_flatten(image)
        likes, structure = pytree.tree_flatten(state)
        if spec != structure:
            return image
        return pytree.tree_unflatten([self._as(leaf, like) for leaf, like in zip(leaves, likes, strict=True)], spec)

    def _as(self, leaf: Any, like: Tensor) -> Any:
        return leaf.to(like.dtype) if isinstance(leaf, Tensor) and leaf.dtype == self.dtype else leaf


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """A solver's own arithmetic is never autocast: its inner products in bfloat16 would spoil every step."""
    enabled = Autocast.now(device).dtype is not None
    return torch.autocast(device.type, enabled=False) if enabled else nullcontext()


def uncompiled() -> AbstractContextManager[Any]:
    """What torch.compile compiled runs as it was written: looked at, it would be given up for good."""
    if "torch._dynamo" not in sys.modules:  # nothing was compiled, and the import is long
        return nullcontext()
    stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return stance


class CoarsestUnit(TorchDispatchMode):
    """While it is entered, the coarsest unit of rounding of what is computed from a tensor.

    It sees the dtypes of results, whoever chose them: autocast inside of an operator, a cast to bfloat16, a leaf of
    float32 in a state of float64; and float32 products that torch's settings allow to be coarser. A kernel that rounds
    inside of itself is not seen.
    """

    supports_higher_order_operators = True  # torch.cond and the like: their results are seen, their bodies are not

    def __init__(self, root: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.unit = 0.0
        self._from_root = _storages(root)

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        if not self._from_root.keys().isdisjoint(_storages((args, kwargs))):
            self._from_root |= _storages(result)
            for leaf in pytree.tree_leaves(result):
                if isinstance(leaf, Tensor) and leaf.is_floating_point():
                    self.unit = max(self.unit, _unit(function, leaf))
        return result


def _storages(tree: Any) -> dict[int, StorageWeakRef]:
    """The storages of a tree's tensors; while a reference lives, no other storage has its number."""
    tensors = (leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor) and leaf.layout == torch.strided)
    references = (StorageWeakRef(tensor.untyped_storage()) for tensor in tensors)  # type: ignore[no-untyped-call]
    return {reference.cdata: reference for reference in references}


def _unit(function: Any, result: Tensor) -> float:
    unit = torch.finfo(result.dtype).eps
    name = getattr(function, "overloadpacket", function).__name__
    return max(unit, _relaxed(name, result)) if result.dtype == torch.float32 and name in PRODUCTS else unit


def _relaxed(name: str, result: Tensor) -> float:
    """What torch's settings allow for a float32 product."""
    convolution: Any = getattr(torch.backends.cudnn, "conv", None)
    if name == "convolution" and result.is_cuda and getattr(convolution, "fp32_precision", "tf32") == "tf32":
        return TF32
    chosen = torch.get_float32_matmul_precision()
    return {"highest": 0.0, "high": TF32}.get(chosen, torch.finfo(torch.bfloat16).eps)
