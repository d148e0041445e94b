"""What the loop asks of a solver: a start, and the next point from a point and its image."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from deqops._equation import Equation
from deqops._errors import InputError


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


def refuse_gradients(z: Tensor, image: Tensor) -> None:
    """Raise InputError where a step that writes into its memory would have to be differentiated."""
    if torch.is_grad_enabled() and (z.requires_grad or image.requires_grad):
        raise InputError("image: a step is not differentiated; take it under torch.no_grad(), or use solve's adjoint")
