"""The one loop behind every solver: it counts, stops each problem by itself, freezes it, names failures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deqops._equation import Equation, Given
from deqops._numbers import LARGEST_COUNT
from deqops._precision import CoarsestUnit, uncompiled
from deqops._solution import RUNNING, Result
from deqops._solver import NarrowingSolver, PreparedSolver, Solver
from deqops._tolerance import Tolerance
from deqops._tree import host
from deqops._watch import PATIENCE, Proof, Watch

MAX_EVALUATIONS, NONFINITE = int(Result.MAX_EVALUATIONS), int(Result.NONFINITE)  # an enum's attributes are slow

Rows = Callable[[Tensor], Tensor]
Callback = Callable[[int, Tensor], None]
Narrow = Callable[[Tensor], Rows]
"""G for some of the problems alone, by their numbers, (kept,) int64."""


@dataclass
class Rollout:
    """The outcome of a solve, one row per problem; `point` is z, `value` its image G(z)."""

    point: Tensor  # (problems, unknowns)
    value: Tensor  # (problems, unknowns)
    result: Tensor  # (problems,) int64
    residual: Tensor  # (problems,)
    evaluations: Tensor  # (problems,) int64
    trace: list[Tensor]


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
    coarser: float | None = None,
    given: Given | None = None,
    narrow: Narrow | None = None,
    trace: bool = False,
    callback: Callback | None = None,
) -> Rollout:
    """Iterate `z -> solver(z, G(z))` until every problem has ended.

    A problem that has ended keeps its row: it is still passed to G, with the same numbers, and what comes
    back is ignored. With `narrow` it is dropped once half of the rows have ended.

    Args:
        operator: G on (problems, unknowns).
        start: z_0, finite.
        solver: takes the steps.
        tolerance: of the residual.
        max_evaluations: of the operator, per problem.
        proof: proven distances of a value to the equilibria, (problems,), for `tolerance.error`.
        representable: rounds a point to what the state can hold; None where every number will do.
        unit: the unit of rounding of G's results; None for the dtype's.
        coarser: a unit that G may compute with: look at once, not when a residual stops improving, and take it for
            G's where nothing can be seen; None where no other is known.
        given: the operator as the caller gave it, for solvers that use its structure.
        narrow: gives G for some of the problems alone; None where that is not known.
        trace: keep every residual.
        callback: called with the number of evaluations so far and the residuals.
    """
    equation = Equation(operator, given, goal=tolerance.threshold if tolerance.error is None else None)
    # By attributes: `isinstance` of a protocol takes tens of microseconds, which short solves feel.
    solver = cast(PreparedSolver, solver).prepared(equation) if hasattr(solver, "prepared") else solver
    narrowing = cast(NarrowingSolver, solver) if hasattr(solver, "narrowed") and proof is None else None
    watch = Watch(start.shape[0], tolerance, unit or torch.finfo(start.dtype).eps, proof, puzzled=coarser is not None)
    equation.progress = run = _Run(operator, start, max_evaluations, watch, equation, coarser or 0.0)
    watch.reserve(start)
    memory = solver.init(start)
    try:
        while True:
            run.evaluate(trace or callback is not None)
            if callback is not None:
                callback(run.rounds, run.seen[-1].clone() if trace else run.seen.pop())
            if run.finished:
                return run.rollout(run.seen if trace else [])
            if narrow is not None and narrowing is not None and run.is_sparse:
                memory = run.narrow(narrow, narrowing, memory)
            proposal, memory = solver.step(memory, run.z, run.image)
            run.advance(proposal if representable is None else representable(proposal))
    finally:
        equation.progress = None  # else each holds the other, until a collection
        close = getattr(solver, "close", None)
        if close is not None:
            close(memory)


class _Run:
    """A solve under way. Rows that were dropped are missing from z and image, not from what is returned."""

    def __init__(
        self, operator: Rows, start: Tensor, most: int, watch: Watch, equation: Equation, coarser: float
    ) -> None:
        problems = start.shape[0]
        self.operator, self.watch, self.equation, self.most = operator, watch, equation, min(int(most), LARGEST_COUNT)
        self.coarser = coarser  # a unit of rounding that may be G's, 0 where none is known
        self.z = self.image = start
        self.previous: Tensor | None = None  # the image before z
        self.chained = False  # z is that image, where a row is running
        self.rounds = self.mended = 0
        self.seen: list[Tensor] = []
        self.numbers = np.arange(problems)  # which problem a row is
        self.ended = np.zeros(problems, dtype=bool)  # of the rows
        self.finished = False  # all have ended
        self.none = np.zeros(problems, dtype=bool)
        self.extra = np.zeros(problems, dtype=np.int64)  # evaluations besides the rounds, of the rows
        self.lengths = np.zeros(problems)  # the residuals of the rows
        self.replaced: NDArray[np.bool_] | None = None  # the rows whose proposal overflowed; None for none
        self.frozen: Tensor | None = None  # the ended rows on the device, (rows, 1)
        self.result = np.zeros(problems, dtype=np.int64)  # RUNNING
        self.evaluations = np.zeros(problems, dtype=np.int64)
        self.unit: float | None = None  # the coarsest unit of rounding in G, once it was asked for
        self.point: Tensor | None = None  # of all problems, once rows were dropped; before, an ended row is still in z
        self.value: Tensor | None = None
        self.residual = np.zeros(problems)

    @property
    def is_sparse(self) -> bool:
        """At least half of the rows have ended."""
        return bool(2 * np.count_nonzero(self.ended) >= len(self.ended))

    @property
    def spent(self) -> NDArray[np.int64]:
        """Evaluations of the rows so far."""
        inner = self.equation.extra
        return self.rounds + self.extra + (0 if inner is None else inner.cpu().numpy())

    @property
    def left(self) -> Tensor:
        """The evaluations that the rows may still spend; 0 where a problem has ended."""
        return torch.from_numpy(np.where(self.ended, 0, self.most - self.spent)).to(self.z.device)

    def evaluate(self, observed: bool) -> None:
        """Apply G, judge, and take over what has ended."""
        image = self._observed_image() if self.watch.is_puzzled else self.operator(self.z)
        self.image = image.detach() if image.requires_grad else image  # a graph of G's own holds that of z, and so on
        self.rounds += 1
        last = self._last()
        verdict = self.watch.judge(self.z, self.image, self.ended, last, chained=self.chained)
        status = verdict.status
        self.replaced = mended = None if status is None or not verdict.is_broken else self._mend(status, ~last)
        if mended is not None:
            last = self._last()
            verdict = self.watch.judge_again(verdict, mended, self.z, self.image, last)
            status = verdict.status
        self.lengths = verdict.lengths
        if last is not self.none:
            status = np.full(len(last), RUNNING, dtype=np.int64) if status is None else status
            status = np.where(last & (status == RUNNING), MAX_EVALUATIONS, status)
        if observed:
            self._observe(verdict.residual)
        if status is not None:
            self._take(status, verdict.is_broken)
        if self.rounds % PATIENCE == 0:
            self.watch.notice(verdict.lengths, self.ended)

    def _observed_image(self) -> Tensor:
        """G(z), and the watch learns in which precision G computes; it is looked at once."""
        image = None
        if self.unit is None:
            self.unit, image = self._looked_at()
        self.watch.learn(self.unit)
        return self.operator(self.z) if image is None else image

    def _looked_at(self) -> tuple[float, Tensor | None]:
        """The coarsest unit in G and the image; what is known without looking where nothing can be seen."""
        if torch.compiler.is_compiling() or torch._C._functorch.maybe_current_level() is not None:
            return self.coarser, None
        try:
            with uncompiled(), CoarsestUnit(self.z) as seen:
                image = self.operator(self.z)
        except Exception:  # what refuses to be looked at is evaluated as ever; a fault of G's own comes again
            return self.coarser, None
        return seen.unit, image

    def advance(self, proposal: Tensor) -> None:
        """The proposals of the running problems."""
        self.previous, self.chained = self.image, proposal is self.image
        self.z = proposal if self.frozen is None else torch.where(self.frozen, self.z, proposal)

    def narrow(self, narrow: Narrow, solver: NarrowingSolver, memory: Any) -> Any:
        """Go on with the running rows alone; returns their memory."""
        self.point = self.z if self.point is None else self.point
        kept = np.flatnonzero(~self.ended)
        rows = torch.from_numpy(kept).to(self.z.device)
        self.numbers, self.ended, self.extra = self.numbers[kept], self.ended[kept], self.extra[kept]
        self.lengths = self.lengths[kept]
        self.replaced = None if self.replaced is None else self.replaced[kept]
        self.none = np.zeros_like(self.ended)
        self.operator = self.equation.image = narrow(torch.from_numpy(self.numbers).to(self.z.device))
        if self.equation.extra is not None:
            self.equation.extra = self.equation.extra[rows]
        self.z, self.image, self.frozen = self.z[rows], self.image[rows], None
        self.watch.narrow(kept)
        return None if memory is None else solver.narrowed(memory, rows)  # None before a solver's first step

    def _last(self) -> NDArray[np.bool_]:
        """The rows that may not be evaluated again; `none` itself where all may."""
        if self.equation.extra is None and self.rounds + self.mended < self.most:
            return self.none
        last: NDArray[np.bool_] = self.spent >= self.most
        return last if np.count_nonzero(last) else self.none

    def rollout(self, trace: list[Tensor]) -> Rollout:
        if self.value is None:
            raise RuntimeError("a rollout is asked for before a problem has ended")
        point = self.z if self.point is None else self.point
        result, evaluations = (torch.from_numpy(a).to(point.device) for a in (self.result, self.evaluations))
        wide = torch.promote_types(point.dtype, torch.float32)
        residual = torch.from_numpy(self.residual).to(device=point.device, dtype=wide)
        return Rollout(point, self.value, result, residual, evaluations, trace)

    def _mend(self, status: NDArray[np.int64], may: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
        """Where a step overflowed, the image before takes its place, for one more evaluation; which rows, or None."""
        broken = np.flatnonzero((status == NONFINITE) & ~self.ended)
        if self.previous is None or not len(broken):
            return None
        rows = torch.from_numpy(broken).to(self.z.device)
        spoilt = ~host(self.z[rows].isfinite().all(dim=1)).astype(bool)
        if not bool(spoilt.any()):
            return None
        rows = rows[torch.from_numpy(spoilt).to(rows.device)]
        self.z = self.z.index_copy(0, rows, self.previous[rows])
        again = broken[spoilt & may[broken]]
        if len(again):
            chosen = torch.from_numpy(again).to(rows.device)
            self.image = self.image.index_copy(0, chosen, self.operator(self.z)[chosen])
            self.extra[again] += 1
            self.mended += 1
        mended = np.zeros_like(self.ended)
        mended[broken[spoilt]] = True
        return mended

    def _observe(self, residual: Tensor) -> None:
        """The residuals of all problems; NaN where a problem ended before."""
        full = residual.new_full((len(self.result),), torch.nan)
        going = np.flatnonzero(~self.ended)
        rows = torch.from_numpy(going).to(residual.device)
        full[torch.from_numpy(self.numbers[going]).to(residual.device)] = residual[rows]
        self.seen.append(full)

    def _take(self, status: NDArray[np.int64], is_broken: bool) -> None:
        """Keep what the problems that end now computed; where the image is not finite, z itself is the value."""
        new = (status != RUNNING) & ~self.ended
        if not np.count_nonzero(new):
            return
        value, residual = self.image, self.lengths
        if is_broken:
            broken = status == NONFINITE
            value = torch.where(torch.from_numpy(broken).to(self.z.device)[:, None], self.z, self.image)
            residual = np.where(broken, np.inf, residual)
        found = (self.result, status), (self.evaluations, self.spent), (self.residual, residual)
        if self.point is None:
            for kept, numbers in found:
                np.copyto(kept, numbers, where=new)
            self._keep(new, value)
        else:
            for kept, numbers in found:
                kept[self.numbers[new]] = numbers[new]
            self._store(np.flatnonzero(new), self.numbers[new], value)
        self.ended |= new
        self.finished = bool(np.count_nonzero(self.ended) == len(self.ended))
        self.frozen = torch.from_numpy(self.ended).to(self.z.device)[:, None]

    def _keep(self, new: NDArray[np.bool_], value: Tensor) -> None:
        """Keep these rows while no row was dropped; what the others hold is written over when they end."""
        if self.value is None:
            self.value = value if np.count_nonzero(new) == len(new) else value.clone()  # G may write into what it gave
        else:
            self.value = torch.where(torch.from_numpy(new).to(value.device)[:, None], value, self.value)

    def _store(self, rows: NDArray[np.int64], numbers: NDArray[np.int64], value: Tensor) -> None:
        if self.point is None or self.value is None:
            raise RuntimeError("rows were dropped before one has ended")
        source, target = (torch.from_numpy(a).to(value.device) for a in (rows, numbers))
        self.point = self.point.index_copy(0, target, self.z[source])
        self.value = self.value.index_copy(0, target, value[source])
