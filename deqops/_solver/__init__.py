"""Solvers: frozen records that take one step; the loop is `deqops._loop`."""

from ._anderson import Anderson
from ._base import PreparedSolver, Solver
from ._broyden import Broyden
from ._picard import Picard
from ._scipy import SciPy
from ._torchdeq import TorchDEQ

__all__ = ["Anderson", "Broyden", "Picard", "PreparedSolver", "SciPy", "Solver", "TorchDEQ"]
