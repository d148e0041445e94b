"""A layer whose output is an equilibrium."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from deqops._adjoint import Adjoint, ImplicitAdjoint
from deqops._errors import InputError
from deqops._loop import Callback
from deqops._operators import Operator
from deqops._solution import Solution
from deqops._solve import MAX_EVALUATIONS, solve
from deqops._solver import Anderson, Solver
from deqops._tolerance import Tolerance


class EquilibriumLayer(nn.Module):
    """`layer(*inputs)` is the solution y of `y = G(y, *inputs)`, differentiable in weights and inputs.

    Args:
        G: operator; a module's parameters become the layer's.
        solver: None for `Anderson()`.
        adjoint: None for `ImplicitAdjoint()`.
        tolerance: None for `Tolerance(relative=1e-5)`.
        initial: `initial(*inputs)` gives the start y0; None for zeros like the first input.
        batch_dims: as in `solve`.
        max_evaluations: as in `solve`.

    The layer keeps nothing between calls: what it returns depends on weights and inputs alone.
    """

    def __init__(
        self,
        G: Operator,  # noqa: N803
        solver: Solver | None = None,
        adjoint: Adjoint | None = None,
        tolerance: Tolerance | None = None,
        initial: Callable[..., Any] | None = None,
        batch_dims: int = 1,
        max_evaluations: int = MAX_EVALUATIONS,
    ) -> None:
        super().__init__()
        if not callable(G):
            raise InputError(f"G: a callable G(state, *inputs) is needed, got {type(G).__name__}")
        if batch_dims not in (0, 1):
            raise InputError(f"batch_dims: got {batch_dims!r}; use 1 for a batch of problems, 0 for one problem")
        self.operator = G
        self.solver: Solver = solver or Anderson()
        self.adjoint: Adjoint = adjoint or ImplicitAdjoint()
        self.tolerance = tolerance or Tolerance()
        self.initial = initial
        self.batch_dims = batch_dims
        self.max_evaluations = max_evaluations

    def initial_state(self, *inputs: Any) -> Any:
        """Where the solve starts for these inputs."""
        if self.initial is not None:
            return self.initial(*inputs)
        first = next((leaf for leaf in pytree.tree_leaves(inputs[:1]) if isinstance(leaf, Tensor)), None)
        if first is None or not first.is_floating_point():
            raise InputError("initial: the first input is no floating tensor to start like; pass initial=...")
        return torch.zeros_like(first)

    def solve(
        self, *inputs: Any, throw: bool = True, trace: bool = False, callback: Callback | None = None
    ) -> Solution:
        """The whole `Solution`; see `deqops.solve`."""
        return solve(
            self.operator,
            self.initial_state(*inputs),
            *inputs,
            solver=self.solver,
            adjoint=self.adjoint,
            tolerance=self.tolerance,
            max_evaluations=self.max_evaluations,
            batch_dims=self.batch_dims,
            throw=throw,
            trace=trace,
            callback=callback,
        )

    def forward(self, *inputs: Any) -> Any:
        """The equilibrium; raises `ConvergenceError` where a problem did not converge."""
        return self.solve(*inputs).value

    def extra_repr(self) -> str:
        """The settings."""
        return f"solver={self.solver}, adjoint={type(self.adjoint).__name__}, batch_dims={self.batch_dims}"
