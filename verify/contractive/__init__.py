"""Weights that cannot leave the set where convergence is proven: parametrisations for `torch.nn.utils.parametrize`."""

from __future__ import annotations

from ._bounded import bounded
from ._convolution import ConvolutionBounded
from ._damped import Damped
from ._monotone import MonotoneWeight
from ._spectral import L2Bounded
from ._sup import SupBounded
from ._weight_map import WeightMap

__all__ = ["ConvolutionBounded", "Damped", "L2Bounded", "MonotoneWeight", "SupBounded", "WeightMap", "bounded"]
