"""What `solve` asks of an adjoint: to attach gradients to a computed equilibrium."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from torch import Tensor

Rows = Callable[[Tensor], Tensor]


@runtime_checkable
class Adjoint(Protocol):
    """Gradients through an equilibrium."""

    def attach(self, operator: Rows, point: Tensor) -> Tensor:
        """`G(point)` with the gradients of the equilibrium.

        Args:
            operator: G on (problems, unknowns), differentiable in what it closes over.
            point: the last iterate z, without gradients.
        """
