"""One call that parametrises a layer, or all layers of a module."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, TypeVar

from torch import nn
from torch.nn.utils import parametrize

from deqops._errors import InputError

from ._convolution import ConvolutionBounded
from ._spectral import L2Bounded
from ._sup import SupBounded
from ._weight_map import WeightMap

M = TypeVar("M", bound=nn.Module)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)


def bounded(
    layer: M,
    rate: float = 0.95,
    *,
    norm: str = "l2",
    size: int | Sequence[int] | None = None,
    gain: float = 1.0,
    name: str = "weight",
) -> M:
    """The same layer, its weight's norm proven to be at most `rate / gain` from now on, whatever an optimiser does.

    Args:
        layer: with a matrix, as `nn.Linear`, or a convolution in one or two dimensions; changed in place.
        rate: above 0; below 1 for a contraction.
        norm: "l2", or "linf" for the sup norm.
        size: the input's spatial size, for a convolution in l2.
        gain: the proven norm of what the weight is multiplied with, as of a graph's adjacency matrix.
        name: of the weight.

    Raises:
        InputError: an argument out of range, or a layer that does not fit.
    """
    if norm not in ("l2", "linf"):
        raise InputError(f"norm: got {norm!r}; choose l2 or linf")
    if getattr(layer, name, None) is None:
        raise InputError(f"layer: {type(layer).__name__} has no {name!r}; say name=")
    parametrization = SupBounded(rate, gain=gain) if norm == "linf" else _in_l2(layer, rate, size, gain)
    parametrize.register_parametrization(layer, name, parametrization)
    if name in layer.state_dict():  # a layer that saves its weight by itself, as torch_geometric's, cannot be loaded
        layer.register_state_dict_post_hook(partial(_without, name))  # type: ignore[no-untyped-call]
    return layer


def _without(name: str, layer: nn.Module, saved: dict[str, Any], prefix: str, metadata: object) -> None:
    """Of a state dict: the stored weight is in it, what becomes of it is not."""
    saved.pop(prefix + name, None)


def _in_l2(layer: nn.Module, rate: float, size: int | Sequence[int] | None, gain: float) -> WeightMap:
    if not isinstance(layer, CONVOLUTIONS):
        return L2Bounded(rate, gain)
    if size is None:
        raise InputError("size: the norm of a convolution depends on its input's spatial size; pass size=")
    if gain != 1.0:
        raise InputError("gain: a convolution takes none; divide the rate by it")
    geometry: dict[str, Any] = {
        key: getattr(layer, key) for key in ("padding_mode", "padding", "stride", "dilation", "groups")
    }
    return ConvolutionBounded(size, rate, **geometry)
