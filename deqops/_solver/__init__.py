"""Solvers: frozen records that take one step; the loop is `deqops._loop`."""

from ._anderson import Anderson
from ._base import NarrowingSolver, PreparedSolver, Solver
from ._broyden import Broyden
from ._forward_backward import ForwardBackward
from ._newton_krylov import NewtonKrylov
from ._peaceman_rachford import PeacemanRachford
from ._picard import Picard
from ._scipy import SciPy
from ._torchdeq import TorchDEQ

__all__ = [
    "Anderson",
    "Broyden",
    "ForwardBackward",
    "NarrowingSolver",
    "NewtonKrylov",
    "PeacemanRachford",
    "Picard",
    "PreparedSolver",
    "SciPy",
    "Solver",
    "TorchDEQ",
]
