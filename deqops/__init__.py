"""Equilibrium layers that you can prove converge.

A model is an operator equation `y = f + scale * T(y)`; its prediction is the solution, found by iteration.
`EquilibriumLayer` and `solve` compute and differentiate it; `deqops.verify` proves that the iteration
converges.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from deqops._adjoint import Adjoint, ImplicitAdjoint, JacobianFree, Phantom, Unrolled
from deqops._errors import DeqopsError, InputError, ModelFileError, UnsupportedOperationError
from deqops._from_torchdeq import from_torchdeq
from deqops._layer import EquilibriumLayer
from deqops._operators import OperatorEquation, PreparableOperator
from deqops._prox import prox
from deqops._proximal import ProximalForm, ProximalLayer, ProximalOperator
from deqops._solution import ConvergenceError, Result, Solution
from deqops._solve import solve
from deqops._solver import (
    Anderson,
    Broyden,
    ForwardBackward,
    NewtonKrylov,
    PeacemanRachford,
    Picard,
    SciPy,
    Solver,
    TorchDEQ,
)
from deqops._tolerance import ErrorCertificate, Tolerance

if TYPE_CHECKING:
    from deqops.graph import export, load

__version__ = "0.1.0"

__all__ = [
    "Adjoint",
    "Anderson",
    "Broyden",
    "ConvergenceError",
    "DeqopsError",
    "EquilibriumLayer",
    "ErrorCertificate",
    "ForwardBackward",
    "ImplicitAdjoint",
    "InputError",
    "JacobianFree",
    "ModelFileError",
    "NewtonKrylov",
    "OperatorEquation",
    "PeacemanRachford",
    "Phantom",
    "Picard",
    "PreparableOperator",
    "ProximalForm",
    "ProximalLayer",
    "ProximalOperator",
    "Result",
    "SciPy",
    "Solution",
    "Solver",
    "Tolerance",
    "TorchDEQ",
    "Unrolled",
    "UnsupportedOperationError",
    "export",
    "from_torchdeq",
    "load",
    "prox",
    "solve",
]

logging.getLogger("deqops").addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    """`export` and `load`, imported when first used."""
    if name in ("export", "load"):
        from deqops import graph

        return getattr(graph, name)
    raise AttributeError(f"module 'deqops' has no attribute {name!r}")
