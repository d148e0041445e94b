"""A bound put on a weight, in the place of the bound that is there."""

from __future__ import annotations

from typing import cast

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
    if not parametrize.is_parametrized(layer, name):
        parametrize.register_parametrization(layer, name, bound)
        return
    maps = cast(nn.ModuleList, cast(nn.ModuleDict, layer.parametrizations)[name])
    if len(maps) != 1 or not isinstance(maps[0], BOUNDS):
        raise InputError(f"layer: its {name} has another parametrisation; remove it first, or bound it by hand")
    maps[0] = bound
