"""What the loop asks of a solver: a start, and the next point from a point and its image."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from deqops._equation import Equation


@runtime_checkable
class Solver(Protocol):
    """A frozen record of settings. The loop owns counting, stopping, masks and failures."""

    def init(self, z: Tensor) -> Any:
        """Memory for a solve that starts at z, (problems, unknowns)."""

    def step(self, memory: Any, z: Tensor, image: Tensor) -> tuple[Tensor, Any]:
        """The next point of each problem from z and G(z), and the new memory.

        Row i of the result may depend on the rows i of z and of its images alone; its dtype is z's. It need
        not be finite: where it is not, the loop takes the image.
        """


@runtime_checkable
class PreparedSolver(Protocol):
    """A solver that needs more of the equation than images: derivatives, or its structure."""

    def prepared(self, equation: Equation) -> Solver:
        """The solver of this very equation, for one solve.

        Raises:
            InputError: the equation has not what the solver needs.
        """


@runtime_checkable
class NarrowingSolver(Protocol):
    """A solver that can go on with some of its problems alone."""

    def init(self, z: Tensor) -> Any:
        """As `Solver.init`."""

    def step(self, memory: Any, z: Tensor, image: Tensor) -> tuple[Tensor, Any]:
        """As `Solver.step`."""

    def narrowed(self, memory: Any, rows: Tensor) -> Any:
        """The memory of these rows alone, (kept,) int64."""
