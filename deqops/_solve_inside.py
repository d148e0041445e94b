"""`solve` inside torch.func's transforms: the loop runs outside of them, on all mapped problems together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from deqops._adjoint import Adjoint, Unrolled
from deqops._batched import Roles
from deqops._errors import InputError
from deqops._graph_layout import Layout
from deqops._loop import Rollout, Rows, iterate
from deqops._solution import ConvergenceError, Result, Solution
from deqops._tolerance import Tolerance
from deqops._transforms import Levels, Lift, outside, without_derivatives


def check_inside(tolerance: Tolerance, batch: Tensor | None, batched: Roles | None, inputs: tuple[Any, ...]) -> None:
    """What must have numbers of its own has them: a certificate's bounds, and which graph is whose.

    Raises:
        InputError: it has not, inside a transform.
    """
    if tolerance.certificate is not None:
        raise InputError("certificate: it proves nothing inside torch.func's transforms; leave it out there")
    if batch is not None and _is_mapped(batch):
        raise InputError("batch: inside torch.func's vmap all calls must share it; solve mini-batches one by one")
    for number, role in enumerate(batched or ()):
        if role == "edge_index" and any(_is_mapped(leaf) for leaf in pytree.tree_leaves(inputs[number : number + 1])):
            raise InputError("batched: inside torch.func's vmap all calls must share the 'edge_index'; declare nothing")


def _is_mapped(tensor: object) -> bool:
    """Whether a `vmap` gives each call its own."""
    if not isinstance(tensor, Tensor):
        return False
    with outside() as levels:
        return any(label > 0 for label in levels.beneath(tensor)[1])


def solve_inside(
    operator: Rows, start: Tensor, layout: Layout, adjoint: Adjoint, *, trace: bool, throw: bool, **options: Any
) -> Solution:
    """The solution as one call sees it; each problem of each call of a `vmap` has stopped by itself.

    Args:
        operator: G on (problems, unknowns), to be called inside.
        start: y0 as rows.
        layout: of the state.
        adjoint: attaches derivatives.
        trace: keep the residual of each evaluation.
        throw: raise where a problem of any call did not converge.
        options: of `iterate`.

    Raises:
        ConvergenceError: its solution counts the problems of all calls, one call after the other.
    """
    with outside() as levels:
        with without_derivatives():
            with levels.inside():
                image = operator(start)
            lift = Lift.of(levels, start, image)
            rollout = _rollout(operator, start, layout, lift, trace=trace, **options)
        if throw and not bool((rollout.result == Result.CONVERGED).all()):
            raise ConvergenceError(_solution(rollout, trace, lambda rows: rows, rollout.value))
        point, value, broken = _as_seen(rollout, lift)
    attached = _attached(operator, point, value, adjoint, levels)
    value = attached if broken is None else torch.where(broken, value, attached)
    return _solution(rollout, trace, lift.of_problems, layout.state(value))


def _rollout(operator: Rows, start: Tensor, layout: Layout, lift: Lift, *, trace: bool, **options: Any) -> Rollout:
    rows = lift.rows(start).detach()
    if not bool(rows.isfinite().all()):
        raise InputError("y0: it holds NaN or infinity; start from finite values")
    return iterate(
        lift.lifted(operator),
        rows,
        representable=lift.lifted(layout.representable),
        trace=trace,
        **options,
    )


def _as_seen(rollout: Rollout, lift: Lift) -> tuple[Tensor, Tensor, Tensor | None]:
    """The points, the values and which problems broke down (None where none did), inside."""
    broken = (rollout.result == Result.NONFINITE)[:, None]
    seen = lift.of_problems(broken) if bool(broken.any()) else None
    return lift.of_problems(rollout.point), lift.of_problems(rollout.value), seen


def _attached(operator: Rows, point: Tensor, value: Tensor, adjoint: Adjoint, levels: Levels) -> Tensor:
    """The value with the adjoint's derivatives, where something may ask for one."""
    if not (torch.is_grad_enabled() or any(level.forward for level in levels.levels) or levels.dual):
        return value
    if isinstance(adjoint, Unrolled):
        image = operator(point)
        with outside() as levels:
            if not levels.orders(image, 1):
                return value
        raise InputError(
            "adjoint: torch.func cannot see through Unrolled's checkpoints; "
            f"Phantom({adjoint.steps}, 1.0) has the same derivatives without them"
        )
    return adjoint.attach(operator, point)


def _solution(rollout: Rollout, trace: bool, seen: Callable[[Tensor], Tensor], value: Any) -> Solution:
    return Solution(
        value=value,
        result=seen(rollout.result),
        residual=seen(rollout.residual),
        evaluations=seen(rollout.evaluations),
        trace=torch.stack([seen(row) for row in rollout.trace]) if trace else None,
    )
