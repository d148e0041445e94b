"""Solvers: frozen records that take one step; the loop is `deqops._loop`."""

from ._anderson import Anderson
from ._base import NarrowingSolver, PreparedSolver, Solver
from ._broyden import Broyden
from ._picard import Picard

__all__ = ["Anderson", "Broyden", "NarrowingSolver", "Picard", "PreparedSolver", "Solver"]
