"""Rigorous bounds and convergence certificates for equilibrium models.

`certify` proves, refutes or leaves open that an operator's iteration converges; a `Certificate` bounds errors
and is re-verified by `check`, which shares no bound-computing code with it.
"""

from __future__ import annotations

from deqops._errors import InputError, ModelFileError, UnsupportedOperationError

from ._block_tridiagonal import BlockTridiagonal
from ._bound import Bound
from ._certificate import Certificate, InputRecord, TwoPoints
from ._certify import certify
from ._certify_each import Certificates, certify_each
from ._claim import Claim, Contraction, Converges, UniqueEquilibrium, Verdict
from ._componentwise_bound import componentwise_error_bound
from ._conclusions import CONCLUSIONS, Conclusion
from ._convolution import convolution_norm_bound, transposed_convolution_norm_bound
from ._convolution_operand import Convolution
from ._definite import is_positive_definite, lowest_eigenvalue_bound
from ._gradient_error import GradientErrorBound, gradient_error_bound
from ._guarantees import Enclosure, ErrorBound, enclose
from ._input_box import InputBox
from ._kronecker import Kronecker
from ._lipschitz import lipschitz_bound
from ._low_rank import LowRankPlusDiagonal
from ._midrad import MidRad
from ._nonexpansive import NonexpansiveBound, nonexpansive_bound
from ._norm import Norm
from ._operand import Operand, as_operand
from ._operator_norm import QuadraticNorm, operator_norm_bound
from ._perturbed import RoundingBound, RoundingFloor, rounding_bound, rounding_floor
from ._product import Product
from ._projection import (
    KernelBounds,
    ProjectionBound,
    Quadrature,
    kernel_defect,
    nystrom_bound,
    projection_bound,
    quadrature,
)
from ._refutations import REFUTATIONS, Refutation
from ._region import Around, Ball, Box, Global, Region
from ._sensitivity import SensitivityBound, sensitivity_bound
from ._spectral import spectral_norm_bound
from ._theorems import THEOREMS, Hypothesis, Theorem
from .checker import CheckReport, check

__all__ = [
    "CONCLUSIONS",
    "REFUTATIONS",
    "THEOREMS",
    "Around",
    "Ball",
    "BlockTridiagonal",
    "Bound",
    "Box",
    "Certificate",
    "Certificates",
    "CheckReport",
    "Claim",
    "Conclusion",
    "Contraction",
    "Converges",
    "Convolution",
    "Enclosure",
    "ErrorBound",
    "Global",
    "GradientErrorBound",
    "Hypothesis",
    "InputBox",
    "InputError",
    "InputRecord",
    "KernelBounds",
    "Kronecker",
    "LowRankPlusDiagonal",
    "MidRad",
    "ModelFileError",
    "NonexpansiveBound",
    "Norm",
    "Operand",
    "Product",
    "ProjectionBound",
    "QuadraticNorm",
    "Quadrature",
    "Refutation",
    "Region",
    "RoundingBound",
    "RoundingFloor",
    "SensitivityBound",
    "Theorem",
    "TwoPoints",
    "UniqueEquilibrium",
    "UnsupportedOperationError",
    "Verdict",
    "as_operand",
    "certify",
    "certify_each",
    "check",
    "componentwise_error_bound",
    "convolution_norm_bound",
    "enclose",
    "gradient_error_bound",
    "is_positive_definite",
    "kernel_defect",
    "lipschitz_bound",
    "lowest_eigenvalue_bound",
    "nonexpansive_bound",
    "nystrom_bound",
    "operator_norm_bound",
    "projection_bound",
    "quadrature",
    "rounding_bound",
    "rounding_floor",
    "sensitivity_bound",
    "spectral_norm_bound",
    "transposed_convolution_norm_bound",
]
