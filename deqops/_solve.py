"""`solve`: the equilibrium of an operator."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from deqops._adjoint import Adjoint, ImplicitAdjoint
from deqops._errors import InputError
from deqops._loop import Callback, Rollout, iterate
from deqops._operators import Operator
from deqops._solution import ConvergenceError, Result, Solution
from deqops._solver import Anderson, Solver
from deqops._tolerance import Tolerance
from deqops._tree import StateLayout

MAX_EVALUATIONS = 200


def solve(
    G: Operator,
    y0: Any,
    *inputs: Any,
    solver: Solver | None = None,
    adjoint: Adjoint | None = None,
    tolerance: Tolerance | None = None,
    max_evaluations: int = MAX_EVALUATIONS,
    batch_dims: int = 1,
    throw: bool = True,
    trace: bool = False,
    callback: Callback | None = None,
) -> Solution:
    """Solve `y = G(y, *inputs)` for the equilibrium y of each problem.

    Args:
        G: operator; maps a state to one of the same structure, shapes and dtypes.
        y0: where to start: a tensor or a tree of tensors, finite. With `batch_dims=1` dimension 0 of every leaf
            counts independent problems: each stops by itself and is then frozen.
        inputs: passed on to G.
        solver: None for `Anderson()`.
        adjoint: None for `ImplicitAdjoint()`; used where gradients are enabled and something needs them.
        tolerance: None for `Tolerance(relative=1e-5)`.
        max_evaluations: of G, per problem.
        batch_dims: 1, or 0 where the whole state is one problem.
        throw: raise where a problem did not converge; False to inspect `Solution.result`.
        trace: keep the residual of each evaluation.
        callback: called after each evaluation with (evaluations so far, residuals).

    Returns:
        Solution: `value` is G(z) of the last iterate z, `residual` belongs to z.

    Raises:
        ConvergenceError: a problem did not converge (unless `throw=False`); it carries the solution.
        InputError: an argument does not fit, or G changes the state's structure.
    """
    if isinstance(max_evaluations, bool) or not isinstance(max_evaluations, int) or max_evaluations < 1:
        raise InputError(f"max_evaluations: a whole number of at least 1 is needed, got {max_evaluations!r}")
    if not callable(G):
        raise InputError(f"G: a callable G(state, *inputs) is needed, got {type(G).__name__}")
    layout = StateLayout.of(y0, batch_dims)
    start = layout.rows(y0).detach()
    if not bool(start.isfinite().all()):
        raise InputError("y0: it holds NaN or infinity; start from finite values")
    tolerance = tolerance or Tolerance()

    def operator(rows: Tensor) -> Tensor:
        image = G(layout.state(rows), *inputs)
        layout.check_image(image)
        return layout.rows(image)

    def proof(rows: Tensor) -> Tensor:
        bound = tolerance.certificate.error_bound(G, layout.state(rows), *inputs)  # type: ignore[union-attr]
        distances: Tensor = bound.l2
        return distances

    with torch.no_grad():
        rollout = iterate(
            operator,
            start,
            solver=solver or Anderson(),
            tolerance=tolerance,
            max_evaluations=max_evaluations,
            proof=proof if tolerance.certificate is not None else None,
            trace=trace,
            callback=callback,
        )
    value = _with_gradients(operator, rollout, adjoint or ImplicitAdjoint())
    solution = _solution(layout, rollout, value, trace)
    if tolerance.certificate is not None:
        with torch.no_grad():
            detached = pytree.tree_map(lambda leaf: leaf.detach(), solution.value)
            bound = tolerance.certificate.error_bound(G, detached, *inputs)
        solution = Solution(**{**vars(solution), "error_bound": bound})
    if throw and not solution.converged:
        raise ConvergenceError(solution)
    return solution


def _with_gradients(operator: Any, rollout: Rollout, adjoint: Adjoint) -> Tensor:
    """The value, with gradients where they are enabled and something needs them."""
    if not torch.is_grad_enabled():
        return rollout.value
    attached = adjoint.attach(operator, rollout.point)
    if not attached.requires_grad:
        return rollout.value
    broken = (rollout.result == Result.NONFINITE)[:, None]
    return torch.where(broken, rollout.value, attached) if bool(broken.any()) else attached


def _solution(layout: StateLayout, rollout: Rollout, value: Tensor, trace: bool) -> Solution:
    return Solution(
        value=layout.state(value),
        result=rollout.result,
        residual=rollout.residual,
        evaluations=rollout.evaluations,
        trace=torch.stack(rollout.trace) if trace else None,
    )
