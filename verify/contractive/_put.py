"""A bound put on a weight, in the place of the bound that is there."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

from torch import nn
from torch.nn.utils import parametrize

from deqops._errors import InputError

from ._convolution import ConvolutionBounded
from ._graph import GraphBounded
from ._spectral import L2Bounded
from ._sup import SupBounded
from ._weight_map import WeightMap

BOUNDS = (L2Bounded, SupBounded, ConvolutionBounded, GraphBounded)


def put(layer: nn.Module, name: str, bound: WeightMap) -> None:
    """Parametrise a weight; the tensor that is stored, and that an optimiser knows, stays the same.

    Raises:
        InputError: the weight has a parametrisation other than one of these bounds.
    """
    check_free(layer, name)
    if parametrize.is_parametrized(layer, name):
        _maps(layer, name)[0] = bound
        return
    parametrize.register_parametrization(layer, name, bound)
    if name in layer.state_dict():  # a layer that saves its weight by itself, as torch_geometric's, cannot load it
        layer.register_state_dict_post_hook(partial(_without, name))  # type: ignore[no-untyped-call]


def check_free(layer: nn.Module, name: str) -> None:
    """Raises InputError where a weight has a parametrisation other than one of these bounds."""
    if parametrize.is_parametrized(layer, name):
        maps = _maps(layer, name)
        if len(maps) != 1 or not isinstance(maps[0], BOUNDS):
            raise InputError(f"layer: its {name} has another parametrisation; remove it first, or bound it by hand")


def _maps(layer: nn.Module, name: str) -> nn.ModuleList:
    return cast(nn.ModuleList, cast(nn.ModuleDict, layer.parametrizations)[name])


def _without(name: str, layer: nn.Module, saved: dict[str, Any], prefix: str, metadata: object) -> None:
    """Of a state dict: the stored weight is in it, what becomes of it is not."""
    saved.pop(prefix + name, None)
