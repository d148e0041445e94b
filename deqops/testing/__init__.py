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
from ._certificates import LIES, Certified, Lie, Tampered, certificates, lies, tampered
from ._choices import Choices, Drawn, Seeded, one_of
from ._code import code_of
from ._graphs import GRAPHS, Graph, graphs, rings
from ._known import Known
from ._lifecycle import Lifecycle
from ._modules import ACTIVATIONS, Convolution, Layer, Messages, TwoLayers
from ._strategies import CONTRACTING, KINDS, ambiguous, contractions, expansions, layers, operators, saturated
from ._tampering import TAMPERINGS, part, paths, signed, spoilt_bytes
from ._tensors import (
    balls,
    floats,
    inputs,
    matrices,
    norms,
    numbers,
    orthogonals,
    rates,
    regions,
    states,
    tensors,
    weights,
)
from ._weights import WEIGHTS, matrix_of_norm, reflection, signed_permutation, signs, with_singular_values

__all__ = [
    "ACTIVATIONS",
    "CONTRACTING",
    "GRAPHS",
    "KINDS",
    "LIES",
    "TAMPERINGS",
    "WEIGHTS",
    "Certified",
    "Choices",
    "Convolution",
    "Drawn",
    "Graph",
    "Known",
    "Layer",
    "Lie",
    "Lifecycle",
    "Messages",
    "Seeded",
    "Tampered",
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
    "balls",
    "certificates",
    "code_of",
    "contractions",
    "expansions",
    "floats",
    "graphs",
    "inputs",
    "layers",
    "lies",
    "matrices",
    "matrix_of_norm",
    "norms",
    "numbers",
    "one_of",
    "operators",
    "orthogonals",
    "part",
    "paths",
    "rates",
    "reflection",
    "regions",
    "rings",
    "saturated",
    "signed",
    "signed_permutation",
    "signs",
    "spoilt_bytes",
    "states",
    "tampered",
    "tensors",
    "weights",
    "with_singular_values",
]
