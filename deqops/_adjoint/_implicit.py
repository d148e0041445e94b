"""Implicit differentiation: gradients of the equilibrium itself, of any order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from deqops._adjoint._base import Rows
from deqops._errors import InputError
from deqops._loop import iterate
from deqops._solution import ConvergenceError, Result, Solution
from deqops._solver import Anderson, Solver
from deqops._tolerance import Tolerance


@dataclass(frozen=True)
class ImplicitAdjoint:
    """Gradients by the implicit function theorem: `dy*/dx = (I - J_y)^-1 J_x` at the computed equilibrium.

    The backward pass solves `u = g + J_y^T u` per problem with its own solver and tolerance, using
    vector-Jacobian products. It is itself differentiable: the solution of that linear equation is again an
    equilibrium, so second and higher derivatives come out right. (With `create_graph=True` gradients are computed
    for leaf tensors; asking for one of an intermediate input is then refused by autograd as unused.)

    Args:
        solver: of the adjoint equation.
        tolerance: of the adjoint equation's residual.
        max_evaluations: of vector-Jacobian products.

    A backward solve that fails raises `ConvergenceError`. Theorem: T14 `implicit_gradient`.
    """

    solver: Solver = field(default_factory=Anderson)
    tolerance: Tolerance = field(default_factory=Tolerance)
    max_evaluations: int = 200

    def __post_init__(self) -> None:
        if self.max_evaluations < 1:
            raise InputError(f"max_evaluations: at least 1 is needed, got {self.max_evaluations!r}")

    def attach(self, operator: Rows, point: Tensor) -> Tensor:
        """`G(point)` whose backward pass solves the adjoint equation."""
        image = operator(point.detach())
        if not image.requires_grad:
            return image
        result: Tensor = _Equilibrium.apply(image, operator, self, *_leaves(image))  # type: ignore[no-untyped-call]
        return result


class _Equilibrium(torch.autograd.Function):
    """The identity on G(z*) with the implicit gradient as its backward pass.

    Without create_graph, `(I - J^T)^-1 g` is handed to the graph of G(z*), which finishes as usual. With it, that
    graph will not do: it was built at a detached z*, and higher derivatives also depend on how z* moves. Then the
    gradients of the leaves are computed at the attached equilibrium instead.
    """

    @staticmethod
    def forward(ctx: Any, image: Tensor, operator: Rows, adjoint: ImplicitAdjoint, *leaves: Tensor) -> Tensor:
        output = image.clone()
        ctx.set_materialize_grads(False)  # nothing arrives through a closed gate, and nothing is solved then
        ctx.save_for_backward(output, *leaves)
        ctx.operator, ctx.adjoint = operator, adjoint
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        point, *leaves = ctx.saved_tensors
        if gradient is None:
            return (None, None, None, *(None for _ in leaves))
        solution = _adjoint_solution(ctx.operator, ctx.adjoint, point.detach(), gradient.detach())
        if not torch.is_grad_enabled():
            return (solution, None, None, *(None for _ in leaves))

        def equation(u: Tensor) -> Tensor:  # u = g + J(y*)^T u is an equilibrium of g, y* and the weights
            with torch.enable_grad():
                return gradient + _pulled(ctx.operator(point), point, u, create_graph=True)

        covector = ctx.adjoint.attach(equation, solution)
        return (None, None, None, *_partial_gradients(ctx.operator, point, leaves, covector))


def _partial_gradients(operator: Rows, point: Tensor, leaves: list[Tensor], covector: Tensor) -> list[Tensor | None]:
    """`J_x^T covector` for each leaf at a fixed point, as a differentiable function of point, leaves, covector."""
    gate = _Gate()
    held: Tensor = _Hold.apply(point, gate)  # type: ignore[no-untyped-call]
    gate.closed = True
    try:
        return list(
            torch.autograd.grad(operator(held), leaves, covector, create_graph=True, allow_unused=True)
        )
    finally:
        gate.closed = False


class _Gate:
    """Whether gradients stop at the held point."""

    closed = False


class _Hold(torch.autograd.Function):
    """The identity; gradients pass unless its gate is closed."""

    @staticmethod
    def forward(ctx: Any, point: Tensor, gate: _Gate) -> Tensor:
        ctx.gate = gate
        ctx.set_materialize_grads(False)
        return point.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None) -> tuple[Tensor | None, None]:  # type: ignore[override]
        return (None if ctx.gate.closed else gradient), None


def _leaves(image: Tensor) -> list[Tensor]:
    """The leaf tensors that an image was computed from."""
    found: list[Tensor] = []
    stack, seen = [image.grad_fn], set()
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if isinstance(variable, Tensor):
            found.append(variable)
        stack.extend(parent for parent, _ in node.next_functions)
    return found


def _pulled(image: Tensor, point: Tensor, covector: Tensor, *, create_graph: bool) -> Tensor:
    """`J^T covector`, 0 where the operator does not depend on the state."""
    if not image.requires_grad:
        return torch.zeros_like(point)
    (product,) = torch.autograd.grad(
        image, point, covector, retain_graph=True, create_graph=create_graph, allow_unused=True
    )
    return torch.zeros_like(point) if product is None else product


def _adjoint_solution(operator: Rows, adjoint: ImplicitAdjoint, point: Tensor, gradient: Tensor) -> Tensor:
    """u with `u = g + J^T u`, J at the point."""
    with torch.enable_grad():
        variable = point.requires_grad_(True)
        image = operator(variable)
    with torch.no_grad():
        rollout = iterate(
            lambda u: gradient + _pulled(image, variable, u, create_graph=False),
            gradient,
            solver=adjoint.solver,
            tolerance=adjoint.tolerance,
            max_evaluations=adjoint.max_evaluations,
        )
    if not bool((rollout.result == Result.CONVERGED).all()):
        solution = Solution(rollout.value, rollout.result, rollout.residual, rollout.evaluations)
        raise ConvergenceError(solution, "backward solve of ImplicitAdjoint")
    return rollout.value
