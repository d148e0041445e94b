"""A layer whose output is an equilibrium."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from deqops._adjoint import Adjoint
from deqops._batched import Roles, check_roles
from deqops._errors import InputError
from deqops._loop import Callback
from deqops._operators import Operator
from deqops._solution import Solution
from deqops._solve import MAX_EVALUATIONS, checked_settings, solve
from deqops._solver import Solver
from deqops._tolerance import Tolerance
from deqops._tree import check_batch_dims


class EquilibriumLayer(nn.Module):
    """`layer(*inputs)` is the solution y of `y = G(y, *inputs)`, differentiable in weights and inputs.

    The layer keeps nothing between calls: what it returns depends on weights and inputs alone.

    Args:
        G: operator `G(state, *inputs) -> state`; a module's weights become the layer's. Attribute `operator`.
        solver: None for `Anderson()`.
        adjoint: None for `ImplicitAdjoint()`.
        tolerance: None for `Tolerance(relative=1e-5)`; its certificate fills in `Solution.error_bound`.
        initial: `initial(*inputs)` gives the start y0; None for zeros like the first input.
        batch_dims: 1 where dimension 0 of the state counts independent problems, 0 where it is one problem.
        max_evaluations: of G, per problem.
        batched: what each input holds of each problem, as in `deqops.solve`; None where nothing is declared.

    Raises:
        InputError: a setting is out of range.
    """

    def __init__(
        self,
        G: Operator,
        solver: Solver | None = None,
        adjoint: Adjoint | None = None,
        tolerance: Tolerance | None = None,
        initial: Callable[..., Any] | None = None,
        batch_dims: int = 1,
        max_evaluations: int = MAX_EVALUATIONS,
        batched: Roles | None = None,
    ) -> None:
        super().__init__()
        if not callable(G):
            raise InputError(f"G: a callable G(state, *inputs) is needed, got {type(G).__name__}")
        if initial is not None and not callable(initial):
            raise InputError(f"initial: a callable of the inputs is needed, got {type(initial).__name__}")
        check_batch_dims(batch_dims)
        check_roles(batched)
        settings = checked_settings(solver, adjoint, tolerance, max_evaluations)
        self.operator = G
        self.solver, self.adjoint, self.tolerance = settings
        self.initial = initial
        self.batch_dims = batch_dims
        self.max_evaluations = max_evaluations
        self.batched = batched

    def initial_state(self, *inputs: Any) -> Any:
        """Where the solve starts for these inputs.

        Raises:
            InputError: there is no `initial`, and the first input is no floating tensor to start like.
        """
        if self.initial is not None:
            return self.initial(*inputs)
        first = next((leaf for leaf in pytree.tree_leaves(inputs[:1]) if isinstance(leaf, Tensor)), None)
        if first is None or not first.is_floating_point():
            raise InputError("initial: the first input is no floating tensor to start like; pass initial=")
        return torch.zeros_like(first)

    def solve(
        self,
        *inputs: Any,
        batch: Tensor | None = None,
        throw: bool = True,
        trace: bool = False,
        callback: Callback | None = None,
    ) -> Solution:
        """The whole `Solution`; options and errors as in `deqops.solve`."""
        return solve(
            self.operator,
            self.initial_state(*inputs),
            *inputs,
            solver=self.solver,
            adjoint=self.adjoint,
            tolerance=self.tolerance,
            max_evaluations=self.max_evaluations,
            batch_dims=self.batch_dims,
            batch=batch,
            batched=self.batched,
            throw=throw,
            trace=trace,
            callback=callback,
        )

    def forward(self, *inputs: Any, batch: Tensor | None = None) -> Any:
        """The equilibrium; with `batch`, the graph of each node, that of each graph by itself.

        Raises:
            ConvergenceError: a problem did not converge; `solve(..., throw=False)` shows what happened.
        """
        return self.solve(*inputs, batch=batch).value

    def extra_repr(self) -> str:
        """The settings."""
        return f"solver={self.solver}, adjoint={type(self.adjoint).__name__}, batch_dims={self.batch_dims}"


def operator_of(G: Any) -> Any:
    """The operator that an `EquilibriumLayer` solves; G itself where it is none, whatever its attributes are called."""
    return G.operator if isinstance(G, EquilibriumLayer) else G
