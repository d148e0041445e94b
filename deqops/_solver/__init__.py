"""Solvers: frozen records that take one step; the loop is `deqops._loop`."""

from ._anderson import Anderson
from ._base import NarrowingSolver, PreparedSolver, Solver
from ._broyden import Broyden
from ._newton_krylov import NewtonKrylov
from ._picard import Picard
from ._scipy import SciPy
from ._torchdeq import TorchDEQ

__all__ = [
    "Anderson",
    "Broyden",
    "NarrowingSolver",
    "NewtonKrylov",
    "Picard",
    "PreparedSolver",
    "SciPy",
    "Solver",
    "TorchDEQ",
]
