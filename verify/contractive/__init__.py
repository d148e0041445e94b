"""What to do where a model is not contractive: parametrise its weights, penalise their norms, or repair it.

Parametrisations for `torch.nn.utils.parametrize` keep weights where convergence is proven.
"""

from __future__ import annotations

from ._bounded import bounded
from ._compose import Chain, Injected, Sum
from ._convolution import ConvolutionBounded
from ._damped import Damped
from ._graph import GraphBounded
from ._monotone import MonotoneWeight
from ._penalty import jacobian_penalty_estimate, norm_penalty_estimate
from ._repair import Change, Repair, repair
from ._spectral import L2Bounded
from ._sup import SupBounded
from ._weight_map import WeightMap

__all__ = [
    "Chain",
    "Change",
    "ConvolutionBounded",
    "Damped",
    "GraphBounded",
    "Injected",
    "L2Bounded",
    "MonotoneWeight",
    "Repair",
    "Sum",
    "SupBounded",
    "WeightMap",
    "bounded",
    "jacobian_penalty_estimate",
    "norm_penalty_estimate",
    "repair",
]
