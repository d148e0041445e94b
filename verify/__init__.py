"""Rigorous bounds and convergence certificates for equilibrium models.

`certify` proves, refutes or leaves open that an operator's iteration converges; a `Certificate` bounds errors
and is re-verified by `check`, which shares no bound-computing code with it.
"""

from __future__ import annotations

from deqops._errors import InputError, ModelFileError, UnsupportedOperationError

from ._bound import Bound
from ._certificate import Certificate, InputRecord, TwoPoints
from ._certify import certify
from ._claim import Claim, Contraction, Converges, UniqueEquilibrium, Verdict
from ._guarantees import Enclosure, ErrorBound, enclose
from ._lipschitz import lipschitz_bound
from ._norm import Norm
from ._region import Ball, Global, Region
from ._spectral import spectral_norm_bound
from ._theorems import THEOREMS, Hypothesis, Theorem
from .checker import CheckReport, check

__all__ = [
    "THEOREMS",
    "Ball",
    "Bound",
    "Certificate",
    "CheckReport",
    "Claim",
    "Contraction",
    "Converges",
    "Enclosure",
    "ErrorBound",
    "Global",
    "Hypothesis",
    "InputError",
    "InputRecord",
    "ModelFileError",
    "Norm",
    "Region",
    "Theorem",
    "TwoPoints",
    "UniqueEquilibrium",
    "UnsupportedOperationError",
    "Verdict",
    "certify",
    "check",
    "enclose",
    "lipschitz_bound",
    "spectral_norm_bound",
]
