"""Pieces for hypothesis-driven tests of equilibrium models: operators that are known exactly, assertions.

Needs `pip install deqops[testing]`.
"""

from __future__ import annotations

from deqops._errors import DeqopsError

try:
    import hypothesis as _hypothesis  # noqa: F401
except ImportError as error:
    raise DeqopsError("deqops.testing needs hypothesis; pip install deqops[testing]") from error

from ._assertions import (
    assert_accepted,
    assert_batch_independent,
    assert_bounds_hold,
    assert_contractive,
    assert_converges,
    assert_gradients_match,
    assert_rejected,
    assert_unique_equilibrium,
)
from ._certificates import LIES, Certified, Lie, certificates, lies
from ._code import code_of
from ._lifecycle import Lifecycle
from ._modules import Averaging, Convolution, Layer, TwoLayers
from ._strategies import (
    KINDS,
    Known,
    ambiguous,
    contractions,
    expansions,
    matrices,
    numbers,
    operators,
    rates,
    rings,
    states,
    tensors,
)

__all__ = [
    "KINDS",
    "LIES",
    "Averaging",
    "Certified",
    "Convolution",
    "Known",
    "Layer",
    "Lie",
    "Lifecycle",
    "TwoLayers",
    "ambiguous",
    "assert_accepted",
    "assert_batch_independent",
    "assert_bounds_hold",
    "assert_contractive",
    "assert_converges",
    "assert_gradients_match",
    "assert_rejected",
    "assert_unique_equilibrium",
    "certificates",
    "code_of",
    "contractions",
    "expansions",
    "lies",
    "matrices",
    "numbers",
    "operators",
    "rates",
    "rings",
    "states",
    "tensors",
]
