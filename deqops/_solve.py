"""`solve`: the equilibrium of an operator."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from deqops._adjoint import Adjoint, ImplicitAdjoint
from deqops._batched import Roles, checked_roles, narrowed
from deqops._between_graphs import between_graphs
from deqops._equation import Given
from deqops._errors import InputError
from deqops._graph_layout import Layout, layout_of
from deqops._in_place import Unwritten
from deqops._loop import Callback, Rollout, Rows, iterate
from deqops._numbers import is_count
from deqops._operators import Operator, bound
from deqops._precision import Autocast, without_autocast
from deqops._solution import ConvergenceError, Result, Solution
from deqops._solve_inside import check_inside, solve_inside
from deqops._solver import Anderson, Solver
from deqops._tolerance import Tolerance
from deqops._transforms import is_transformed
from deqops._watch import Proof, checked_distances

MAX_EVALUATIONS = 200
DEFAULTS = (Anderson(), ImplicitAdjoint(), Tolerance())
KINDS = (
    ("solver", ("init", "step"), "Anderson()"),
    ("adjoint", ("attach", "attach"), "ImplicitAdjoint()"),
    ("tolerance", ("certificate", "threshold"), "Tolerance()"),
)
"""What settings must have. `isinstance` of a protocol takes tens of microseconds, which short solves feel."""


@between_graphs
def solve(
    G: Operator,
    y0: Any,
    *inputs: Any,
    solver: Solver | None = None,
    adjoint: Adjoint | None = None,
    tolerance: Tolerance | None = None,
    max_evaluations: int = MAX_EVALUATIONS,
    batch_dims: int = 1,
    batch: Tensor | None = None,
    batched: Roles | None = None,
    throw: bool = True,
    trace: bool = False,
    callback: Callback | None = None,
) -> Solution:
    """Solve `y = G(y, *inputs)` for the equilibrium y of each problem.

    Under `torch.autocast` G is evaluated under it, in the backward pass too, which runs outside; an image in
    autocast's dtype is converted to the state's.

    Args:
        G: operator; maps a state to one of the same structure, shapes and dtypes.
        y0: where to start: a tensor or a tree of tensors, finite; no gradient passes to it. With
            `batch_dims=1` dimension 0 of every leaf counts independent problems: each stops by itself, is
            then frozen, and does not depend on the others' values.
        inputs: passed on to G.
        solver: None for `Anderson()`.
        adjoint: None for `ImplicitAdjoint()`; used where gradients are enabled and something needs them.
        tolerance: None for `Tolerance(relative=1e-5)`.
        max_evaluations: of G, per problem.
        batch_dims: 1, or 0 where the whole state is one problem.
        batch: for mini-batches of graphs, the graph of each node, (nodes,) int64, in any order and without gaps
            (PyG's `data.batch`): dimension 0 of every leaf counts nodes, and each graph is one problem. G must
            not pass anything from one graph to another.
        batched: what the inputs hold of each problem, one of "problem", "node", "edge", "edge_index", "batch" or
            None (all problems share it) per input; None where nothing is declared. A tensor that carries the
            batch must then be an input: what G holds itself is shared.
        throw: raise where a problem did not converge; False to inspect `Solution.result`.
        trace: keep the residual of each evaluation.
        callback: called after each evaluation with the number of evaluations so far and the residuals.

    Returns:
        Solution: `value` is G(z) of the last iterate z, `residual` belongs to z.

    Raises:
        ConvergenceError: a problem did not converge (unless `throw=False`); it carries the solution.
        InputError: an argument does not fit, or G changes the state's structure.
    """
    if not callable(G) or isinstance(G, type):
        got = f"the class {G.__name__}; make one" if isinstance(G, type) else type(G).__name__
        raise InputError(f"G: a callable G(state, *inputs) is needed, got {got}")
    if callback is not None and not callable(callback):
        raise InputError(f"callback: a callable (evaluations, residuals) is needed, got {type(callback).__name__}")
    if _is_traced():
        raise InputError(
            "solve: a trace or an export would keep the evaluations of one input; export the operator (deqops.export)"
        )
    solver, adjoint, tolerance = checked_settings(solver, adjoint, tolerance, max_evaluations)
    inside = is_transformed()
    if inside:
        check_inside(tolerance, batch, batched, inputs)
    layout = layout_of(y0, batch, batch_dims)
    if batch is not None and tolerance.certificate is not None:
        raise InputError("batch: a certificate's bounds are not those of single graphs; leave one of them out")
    batched = checked_roles(batched, inputs, layout)
    device = (y0 if isinstance(y0, Tensor) else pytree.tree_leaves(y0)[0]).device
    autocast = Autocast.now(device)
    operator = _operator_on_rows(bound(G, *inputs), layout, autocast)
    if inside:
        with without_autocast(device):
            return solve_inside(
                operator,
                layout.rows(y0),
                layout,
                adjoint,
                solver=solver,
                tolerance=tolerance,
                max_evaluations=max_evaluations,
                unit=layout.unit,
                coarser=autocast.unit,
                trace=trace,
                callback=callback,
                throw=throw,
            )
    rows = _NarrowableRows(G, inputs, batched, layout, autocast)
    with torch.no_grad(), without_autocast(device):
        rollout = iterate(
            Unwritten(operator),
            _finite_start(y0, layout),
            solver=solver,
            tolerance=tolerance,
            max_evaluations=max_evaluations,
            proof=_proof(G, inputs, layout, tolerance),
            representable=None if layout.is_uniform else rows.representable,
            unit=layout.unit,
            coarser=autocast.unit,
            given=Given(G, inputs, layout) if batch is None else None,  # its terms lie node by node, not graph by graph
            narrow=None if batched is None else rows.narrow,
            trace=trace,
            callback=callback,
        )
    if autocast.dtype is not None and torch.is_grad_enabled():
        torch.clear_autocast_cache()  # it may hold weights that were cast without gradients
    solution = _solution(layout, rollout, _with_gradients(operator, rollout, adjoint), trace)
    solution = _with_error_bound(solution, G, inputs, layout, tolerance)
    if throw and not solution.converged:
        raise ConvergenceError(solution)
    return solution


def _is_traced() -> bool:
    """Whether operations are written down to be done again: torch.export, torch.jit.trace, torch.func.linearize."""
    modes = (torch._C._TorchDispatchModeKey.PROXY, torch._C._TorchDispatchModeKey.FAKE)
    return torch._C._is_tracing() or any(torch._C._get_dispatch_mode(mode) is not None for mode in modes)


def checked_settings(
    solver: Solver | None, adjoint: Adjoint | None, tolerance: Tolerance | None, max_evaluations: object
) -> tuple[Solver, Adjoint, Tolerance]:
    """The settings with their defaults filled in.

    Raises:
        InputError: a setting of the wrong kind, a class instead of an instance included.
    """
    chosen = (
        DEFAULTS[0] if solver is None else solver,
        DEFAULTS[1] if adjoint is None else adjoint,
        DEFAULTS[2] if tolerance is None else tolerance,
    )
    for (name, (first, second), example), given in zip(KINDS, chosen, strict=True):
        if isinstance(given, type) or not (hasattr(given, first) and hasattr(given, second)):
            raise InputError(f"{name}: an object like {example} is needed, got {given!r}")
    if not is_count(max_evaluations, 1):
        raise InputError(f"max_evaluations: a whole number of at least 1 is needed, got {max_evaluations!r}")
    return chosen


class _NarrowableRows:
    """G for some of the problems alone, where the inputs say which problem they belong to."""

    def __init__(
        self, G: Operator, inputs: tuple[Any, ...], batched: Roles | None, layout: Layout, autocast: Autocast
    ) -> None:
        self.G, self.inputs, self.batched, self.autocast = G, inputs, batched, autocast
        self.whole = self.layout = layout

    def narrow(self, numbers: Tensor) -> Rows:
        """G on the rows of these problems, counted as at the start."""
        if self.batched is None:
            raise InputError("batched: no input says which problems it belongs to; declare them")
        inputs = narrowed(self.inputs, self.batched, numbers, self.whole)
        self.layout = self.whole.narrowed(numbers)
        return Unwritten(_operator_on_rows(bound(self.G, *inputs), self.layout, self.autocast))

    def representable(self, rows: Tensor) -> Tensor:
        """Rows rounded to what the leaves' dtypes can hold."""
        return self.layout.representable(rows)


def _finite_start(y0: Any, layout: Layout) -> Tensor:
    """y0 as (problems, unknowns), without gradients."""
    start = layout.rows(y0).detach()
    start = start.clone() if start.data_ptr() == pytree.tree_leaves(y0)[0].data_ptr() else start  # y0 is the caller's
    # A finite sum has finite terms, and costs a tenth.
    if not math.isfinite(start.sum()) and not bool(start.isfinite().all()):
        raise InputError("y0: it holds NaN or infinity; start from finite values")
    return start


def _operator_on_rows(image_of: Callable[[Any], Any], layout: Layout, autocast: Autocast) -> Rows:
    """G, bound to its inputs, on (problems, unknowns), always under this autocast."""
    evaluated, evaluate = False, autocast.kept(image_of)

    def operator(rows: Tensor) -> Tensor:
        nonlocal evaluated
        try:
            image = evaluate(layout.state(rows))
        except (RuntimeError, IndexError) as error:  # torch raises the second for an index out of range
            if evaluated or type(error) not in (RuntimeError, IndexError):  # a later fault, out of memory, one's own
                raise
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"G: it fails on y0 and the inputs: {reason}; check shapes and dtypes") from error
        layout.check_image(image)
        evaluated = True
        return layout.rows(image)

    return operator


def _proof(G: Operator, inputs: tuple[Any, ...], layout: Layout, tolerance: Tolerance) -> Proof | None:
    certificate = tolerance.certificate
    if certificate is None or tolerance.error is None:
        return None

    def distances(rows: Tensor) -> Any:
        return certificate.error_bound(G, layout.state(rows), *inputs).l2

    return distances


def _with_gradients(operator: Rows, rollout: Rollout, adjoint: Adjoint) -> Tensor:
    """The value, with gradients where they are enabled and something needs them."""
    if not torch.is_grad_enabled():
        return rollout.value
    attached = adjoint.attach(operator, rollout.point)
    if not attached.requires_grad:
        return rollout.value
    broken = (rollout.result == Result.NONFINITE)[:, None]
    return torch.where(broken, rollout.value, attached) if bool(broken.any()) else attached


def _solution(layout: Layout, rollout: Rollout, value: Tensor, trace: bool) -> Solution:
    return Solution(
        value=layout.state(value),
        result=rollout.result,
        residual=rollout.residual,
        evaluations=rollout.evaluations,
        trace=torch.stack(rollout.trace) if trace else None,
    )


def _with_error_bound(
    solution: Solution,
    G: Operator,
    inputs: tuple[Any, ...],
    layout: Layout,
    tolerance: Tolerance,
) -> Solution:
    """The solution with proven distances of the very value it holds; they overrule an earlier proof."""
    certificate, error = tolerance.certificate, tolerance.error
    if certificate is None:
        return solution
    with torch.no_grad(), without_autocast(solution.residual.device):
        bound = certificate.error_bound(G, layout.state(layout.rows(solution.value).detach()), *inputs)
    distances = checked_distances(bound.l2, layout.problems).to(solution.residual.device)
    result = solution.result
    if error is not None:
        unproven = (result == Result.CONVERGED) & ~(distances <= error)
        result = torch.where(unproven, int(Result.STAGNATED), result)
    return replace(solution, error_bound=bound, result=result)
