"""The one loop behind every solver: it counts, stops each problem by itself, freezes it and names failures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from deqops._solution import Result
from deqops._solver import Solver
from deqops._tolerance import Tolerance
from deqops._tree import row_norms

GROWTH = 1e6
"""DIVERGED: the residual exceeds this times the largest of ||z_0||, ||G(z_0)|| and the first residual."""
FLOOR = 100.0
"""A residual below this many units of rounding of the state counts as the dtype's floor."""
PATIENCE = 10
"""STAGNATED: at the floor, and no residual below 0.9 times the best one for so many evaluations."""

Rows = Callable[[Tensor], Tensor]
Proof = Callable[[Tensor], Tensor]
Callback = Callable[[int, Tensor], None]


@dataclass
class Rollout:
    """The state of a solve, one row per problem; `point` is z, `value` its image."""

    point: Tensor
    value: Tensor
    result: Tensor
    residual: Tensor
    evaluations: Tensor
    trace: list[Tensor]


def iterate(
    operator: Rows,
    start: Tensor,
    *,
    solver: Solver,
    tolerance: Tolerance,
    max_evaluations: int,
    proof: Proof | None = None,
    trace: bool = False,
    callback: Callback | None = None,
) -> Rollout:
    """Iterate `z -> solver(z, G(z))` until every problem has ended.

    Args:
        operator: G on (problems, unknowns).
        start: z_0, finite.
        solver: takes the steps.
        tolerance: of the residual.
        max_evaluations: of the operator, per problem.
        proof: proven distances of a value to the equilibria, (problems,), for `tolerance.error`.
        trace: keep every residual.
        callback: called with the number of evaluations so far and the residuals.
    """
    state = _begin(start)
    watch = _Watch(start, tolerance, proof)
    memory = solver.init(start)
    z = start
    for evaluation in range(1, max_evaluations + 1):
        image = operator(z)
        running = state.result == Result.RUNNING
        residual, status = watch.judge(z, image, running)
        _record(state, z, image, residual, status, running)
        if trace:
            state.trace.append(torch.where(running, residual, torch.nan))
        if callback is not None:
            callback(evaluation, state.residual)
        running = state.result == Result.RUNNING
        if not bool(running.any()):
            return state
        proposal, memory = solver.step(memory, z, image)
        # A step that overflowed would end in NONFINITE at the next evaluation; Picard's may still succeed.
        finite = proposal.isfinite().all(dim=1, keepdim=True)
        z = torch.where(running[:, None], torch.where(finite, proposal, image), z)
    state.result = torch.where(state.result == Result.RUNNING, int(Result.MAX_EVALUATIONS), state.result)
    return state


def _begin(start: Tensor) -> Rollout:
    problems = start.shape[0]
    wide = torch.promote_types(start.dtype, torch.float32)
    return Rollout(
        point=start,
        value=start,
        result=torch.full((problems,), int(Result.RUNNING), device=start.device),
        residual=torch.full((problems,), torch.inf, dtype=wide, device=start.device),
        evaluations=torch.zeros(problems, dtype=torch.int64, device=start.device),
        trace=[],
    )


def _record(state: Rollout, z: Tensor, image: Tensor, residual: Tensor, status: Tensor, running: Tensor) -> None:
    """Take over what the running problems computed; a non-finite image leaves its problem at z."""
    usable = running & (status != Result.NONFINITE)
    state.value = torch.where(usable[:, None], image, torch.where(running[:, None], z, state.value))
    state.point = torch.where(running[:, None], z, state.point)
    state.residual = torch.where(usable, residual, state.residual)
    state.evaluations = state.evaluations + running
    state.result = torch.where(running, status, state.result)


class _Watch:
    """Decides, per problem and evaluation, whether to go on."""

    def __init__(self, start: Tensor, tolerance: Tolerance, proof: Proof | None) -> None:
        self._tolerance, self._proof = tolerance, proof
        self._unit = torch.finfo(start.dtype).eps
        self._reference: Tensor | None = None
        self._best = torch.full((start.shape[0],), torch.inf, device=start.device)
        self._idle = torch.zeros(start.shape[0], dtype=torch.int64, device=start.device)
        self._proven_below = torch.full((start.shape[0],), torch.inf, device=start.device)

    def judge(self, z: Tensor, image: Tensor, running: Tensor) -> tuple[Tensor, Tensor]:
        """The residuals, and each problem's result so far (RUNNING to go on)."""
        residual, size, length = row_norms(image - z), row_norms(image), row_norms(z)
        finite = image.isfinite().all(dim=1) & residual.isfinite()
        if self._reference is None:
            self._reference = torch.maximum(torch.maximum(size, length), residual)
        done = finite & (residual <= self._tolerance.threshold(size))
        stuck = self._stagnated(residual, torch.maximum(size, length)) & ~done
        if self._tolerance.error is not None:
            done = self._proven(image, residual, done & running) & done
            stuck = self._at_floor_unproven(residual, size, length) & ~done
        grown = residual > GROWTH * self._reference
        status = torch.full_like(running, int(Result.RUNNING), dtype=torch.int64)
        for mask, result in ((grown, Result.DIVERGED), (stuck, Result.STAGNATED), (done, Result.CONVERGED)):
            status = torch.where(mask, int(result), status)
        return residual, torch.where(finite, status, int(Result.NONFINITE))

    def _stagnated(self, residual: Tensor, scale: Tensor) -> Tensor:
        better = residual < 0.9 * self._best
        self._idle = torch.where(better, 0, self._idle + 1)
        self._best = torch.where(better, residual.to(self._best.dtype), self._best)
        return (self._idle >= PATIENCE) & (self._best <= FLOOR * self._unit * scale)

    def _at_floor_unproven(self, residual: Tensor, size: Tensor, length: Tensor) -> Tensor:
        return (self._idle >= PATIENCE) & (residual <= FLOOR * self._unit * torch.maximum(size, length))

    def _proven(self, image: Tensor, residual: Tensor, candidates: Tensor) -> Tensor:
        """Whether the proven distance is small enough; computed again only after a tenfold smaller residual."""
        due = candidates & (residual <= self._proven_below)
        if self._proof is None or not bool(due.any()):
            return torch.zeros_like(candidates)
        bound = self._proof(image).to(residual.device)
        self._proven_below = torch.where(due, 0.1 * residual, self._proven_below).to(self._proven_below.dtype)
        return due & (bound <= float(self._tolerance.error or 0.0))
