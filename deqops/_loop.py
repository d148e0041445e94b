"""The one loop behind every solver: it counts, stops each problem by itself, freezes it, names failures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from deqops._equation import Equation
from deqops._solution import RUNNING, Result
from deqops._solver import PreparedSolver, Solver
from deqops._tolerance import Tolerance
from deqops._watch import Proof, Watch

Rows = Callable[[Tensor], Tensor]
Callback = Callable[[int, Tensor], None]


@dataclass
class Rollout:
    """The state of a solve, one row per problem; `point` is z, `value` its image G(z)."""

    point: Tensor  # (problems, unknowns)
    value: Tensor  # (problems, unknowns)
    result: Tensor  # (problems,) int64, RUNNING until a problem has ended
    residual: Tensor  # (problems,)
    evaluations: Tensor  # (problems,) int64
    trace: list[Tensor]

    @property
    def running(self) -> Tensor:
        """Which problems go on; (problems,) bool."""
        return self.result == RUNNING


def iterate(
    operator: Rows,
    start: Tensor,
    *,
    solver: Solver,
    tolerance: Tolerance,
    max_evaluations: int,
    proof: Proof | None = None,
    representable: Rows | None = None,
    unit: float | None = None,
    structure: object = None,
    trace: bool = False,
    callback: Callback | None = None,
) -> Rollout:
    """Iterate `z -> solver(z, G(z))` until every problem has ended.

    A problem that has ended keeps its row: it is still passed to G, with the same numbers, and what comes
    back is ignored.

    Args:
        operator: G on (problems, unknowns).
        start: z_0, finite.
        solver: takes the steps.
        tolerance: of the residual.
        max_evaluations: of the operator, per problem.
        proof: proven distances of a value to the equilibria, (problems,), for `tolerance.error`.
        representable: rounds a point to what the state can hold; None where every number will do.
        unit: the unit of rounding of G's results; None for the dtype's.
        structure: the operator as the caller gave it, for solvers that use its structure.
        trace: keep every residual.
        callback: called with the number of evaluations so far and the residuals.
    """
    state = _begin(start)
    equation = Equation(operator, structure)
    solver = solver.prepared(equation) if isinstance(solver, PreparedSolver) else solver
    watch = Watch(start, tolerance, unit or torch.finfo(start.dtype).eps, proof)
    memory, z = solver.init(start), start
    try:
        for evaluation in range(1, max_evaluations + 1):
            image = operator(z)
            running = state.running
            residual, status = watch.judge(z, image, running, last=evaluation == max_evaluations)
            _record(state, z, image, residual, status)
            if trace:
                state.trace.append(torch.where(running, residual, torch.nan))
            if callback is not None:
                callback(evaluation, state.residual)
            if not bool(state.running.any()):
                return state
            proposal, memory = solver.step(memory, z, image)
            z = _next_point(z, image, proposal if representable is None else representable(proposal), state)
    finally:
        if hasattr(solver, "close"):  # solvers that hold threads
            solver.close(memory)
    state.result = torch.where(state.running, int(Result.MAX_EVALUATIONS), state.result)
    return state


def _begin(start: Tensor) -> Rollout:
    problems = start.shape[0]
    wide = torch.promote_types(start.dtype, torch.float32)
    return Rollout(
        point=start,
        value=start,
        result=torch.full((problems,), RUNNING, device=start.device),
        residual=torch.full((problems,), torch.inf, dtype=wide, device=start.device),
        evaluations=torch.zeros(problems, dtype=torch.int64, device=start.device),
        trace=[],
    )


def _next_point(z: Tensor, image: Tensor, proposal: Tensor, state: Rollout) -> Tensor:
    """The proposals of the running problems; a step that overflowed gives way to the finite image."""
    finite = proposal.isfinite().all(dim=1, keepdim=True)
    return torch.where(state.running[:, None], torch.where(finite, proposal, image), z)


def _record(state: Rollout, z: Tensor, image: Tensor, residual: Tensor, status: Tensor) -> None:
    """Take over what the running problems computed; where the image is not finite, z itself is the value."""
    running = state.running
    usable = running & (status != Result.NONFINITE)
    state.value = torch.where(usable[:, None], image, torch.where(running[:, None], z, state.value))
    state.point = torch.where(running[:, None], z, state.point)
    state.residual = torch.where(usable, residual, torch.where(running, torch.inf, state.residual))
    state.evaluations = state.evaluations + running
    state.result = torch.where(running, status, state.result)
