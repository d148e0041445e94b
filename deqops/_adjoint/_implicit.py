"""Implicit differentiation: gradients of the equilibrium itself."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from deqops._adjoint._base import Rows
from deqops._adjoint._dependence import needs_gradients_beyond
from deqops._adjoint._many_gradients import ManyGradients, is_many
from deqops._adjoint._ordered import ordered
from deqops._adjoint._scaled import Scaled, scale_of
from deqops._adjoint._transformed import attached_inside
from deqops._errors import InputError
from deqops._loop import iterate
from deqops._numbers import is_count
from deqops._precision import without_autocast
from deqops._solution import ConvergenceError, Result, Solution
from deqops._solver import Anderson, ForwardBackward, PeacemanRachford, Solver
from deqops._tolerance import Tolerance
from deqops._transforms import Lift, is_transformed, outside, without_derivatives

ROUNDING = 64.0
"""Terms that cancel to this many units of their rounding are taken for the 0 they are in exact numbers."""
COARSEST = 2.0**-8
"""A larger part of the terms is taken for more than rounding in any dtype: as a rule they cancel to the last bit."""

Gradients = tuple[Tensor | None, ...]


@dataclass(frozen=True)
class ImplicitAdjoint:
    """Gradients by the implicit function theorem: `dy*/dx = (I - J)^-1 dG/dx`, J = dG/dy at the equilibrium.

    The backward pass solves `u = g + J^T u`, each problem by itself, with vector-Jacobian products. With
    `create_graph=True` that solution is an equilibrium with gradients of its own, and J and dG/dx follow the
    equilibrium as it moves: second derivatives are exact, those of intermediate tensors included.

    The gradient of a problem whose incoming one is infinite or NaN is NaN, which a GradScaler takes for what it is: it
    skips that step. Each problem's equation is solved at a size near 1, unless the tolerance is an absolute one.

    Inside transforms of torch.func, and in forward mode (`dz = J dz + dG`, solved likewise), derivatives in any nesting
    of modes are exact up to order `derivatives`.

    Args:
        solver: of the adjoint equation.
        tolerance: of the adjoint equation's residual; without a certificate.
        max_evaluations: of vector-Jacobian products.
        derivatives: the highest order to provide; one more is refused with an error. Each order costs one
            application of G with its graph; 1 saves memory where only gradients are needed.

    Raises:
        InputError: a setting is out of range.
        ConvergenceError: (by the backward pass, or in forward mode) the equation was not solved.

    Theorem: T14 `implicit_gradient`.
    """

    solver: Solver = field(default_factory=Anderson)
    tolerance: Tolerance = field(default_factory=Tolerance)
    max_evaluations: int = 200
    derivatives: int = 2

    def __post_init__(self) -> None:
        for name in ("max_evaluations", "derivatives"):
            value = getattr(self, name)
            if not is_count(value, 1):
                raise InputError(f"{name}: a whole number of at least 1 is needed, got {value!r}")
        solver: object = self.solver
        if isinstance(solver, type) or not (hasattr(solver, "init") and hasattr(solver, "step")):
            raise InputError(f"solver: an object like Anderson() is needed, got {solver!r}")
        if isinstance(self.solver, ForwardBackward | PeacemanRachford):
            name = type(self.solver).__name__
            raise InputError(f"solver: {name} solves z = s(Wz + c), an adjoint equation is none; use NewtonKrylov()")
        tolerance: object = self.tolerance
        if not isinstance(tolerance, Tolerance):
            raise InputError(f"tolerance: an object like Tolerance() is needed, got {tolerance!r}")
        if tolerance.certificate is not None:
            raise InputError("tolerance: an adjoint equation has no certificate; leave it out of its tolerance")

    def attach(self, operator: Rows, point: Tensor) -> Tensor:
        """`G(point)` whose derivatives are the equilibrium's, up to order `derivatives`."""
        if is_transformed():
            return attached_inside(operator, point.detach(), self, self.derivatives)
        start: Tensor = _Start.apply(point.detach().requires_grad_())  # type: ignore[no-untyped-call]
        image = operator(start)
        if not needs_gradients_beyond(image, start):
            return image.detach()
        result: Tensor = _FirstOrder.apply(image, start, self)  # type: ignore[no-untyped-call]
        for order in range(2, self.derivatives + 1):
            link = _Link()
            anchor: Tensor = _Anchor.apply(result, link)  # type: ignore[no-untyped-call]
            adjoint = replace(self, derivatives=order)
            image = operator(anchor)
            result = _HigherOrder.apply(image, anchor, link, adjoint)  # type: ignore[no-untyped-call]
        return result


class _Start(torch.autograd.Function):
    """The identity on z, where gradients end: the graph behind it is for products with J^T alone."""

    @staticmethod
    def forward(ctx: Any, point: Tensor) -> Tensor:
        return point.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> None:
        """No gradient."""


class _FirstOrder(torch.autograd.Function):
    """The identity on G(z) with `(I - J^T)^-1` as its backward pass, J from the graph of this very image.

    So weights that are exchanged or changed later do not count (those changed in place make torch raise). z does not
    move, so that a derivative of this backward pass would miss how it does.
    """

    @staticmethod
    def forward(ctx: Any, image: Tensor, start: Tensor, adjoint: ImplicitAdjoint) -> Tensor:
        output = image.clone()
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(image, start)
        ctx.adjoint = adjoint
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Gradients:
        (gradient,) = gradients
        if gradient is None:
            return None, None, None
        image, start = ctx.saved_tensors
        covector = _adjoint_solution(image, start, gradient, ctx.adjoint)
        if torch.is_grad_enabled():
            covector = ordered(covector, image + gradient, 0)
        return covector, None, None


class _HigherOrder(torch.autograd.Function):
    """The equilibrium as a function of G's image at an anchor that moves as the equilibrium does.

    `image` is G(w), w the anchor, whose derivatives are right up to one order less. With u the solution of
    `u = g + J(w)^T u` the gradient for G's other arguments is `dG/dx(w)^T u`, which the graph of `image`
    computes from u. The same graph sends J^T u on to w; by the implicit function theorem nothing belongs
    there, so -J^T u is sent along and the two cancel.
    """

    @staticmethod
    def forward(ctx: Any, image: Tensor, anchor: Tensor, link: _Link, adjoint: ImplicitAdjoint) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(image, anchor)
        ctx.link, ctx.adjoint = link, adjoint
        return anchor.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Gradients:
        (gradient,) = gradients
        if gradient is None:
            return None, None, None, None
        image, anchor = ctx.saved_tensors
        covector = _adjoint_solution(image, anchor, gradient, ctx.adjoint)
        keep = torch.is_grad_enabled()
        if keep:
            covector = _differentiable(covector, image, anchor, gradient, ctx.adjoint)
        back = _pulled(image, anchor, covector, create_graph=keep)
        ctx.link.cancelled = back
        return covector, -back, None, None


def _differentiable(
    covector: Tensor, image: Tensor, anchor: Tensor, gradient: Tensor, adjoint: ImplicitAdjoint
) -> Tensor:
    """The solution of `u = g + J^T u` with derivatives of one order less; scaled as for the solve."""
    lower = replace(adjoint, derivatives=adjoint.derivatives - 1)
    scale = 1.0 if is_transformed() else scale_of(covector)
    right = gradient / scale
    solution = lower.attach(lambda u: right + _pulled(image, anchor, u, create_graph=True), covector / scale)
    return solution * scale


class _Link:
    """Tells an anchor what the terms were that cancel in its gradient; for one backward pass."""

    cancelled: Tensor | None = None

    def take(self) -> Tensor | None:
        cancelled, self.cancelled = self.cancelled, None
        return cancelled


class _Anchor(torch.autograd.Function):
    """The identity; a gradient of nothing but cancelled terms ends here, which saves a solve of its own.

    Problem by problem: what cancels in one says nothing of another.
    """

    @staticmethod
    def forward(ctx: Any, point: Tensor, link: _Link) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.link = link
        return point.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Gradients:
        (gradient,) = gradients
        cancelled = ctx.link.take()
        if gradient is None:
            return None, None
        if cancelled is not None:
            gradient = _without_rounding(gradient, cancelled)
        return (None if _largest(gradient) == 0.0 else gradient), None


def _without_rounding(gradient: Tensor, cancelled: Tensor) -> Tensor:
    """0 for each problem whose gradient is rounding beside what cancelled in it, or where that is no number."""
    if is_many(gradient):
        many = ManyGradients.of(gradient)
        return many.seen(_without_rounding(many.plain, ManyGradients.of(cancelled).plain))
    sizes, terms = (rows.detach().abs().amax(dim=-1, keepdim=True) for rows in (gradient, cancelled))
    rounding = min(ROUNDING * torch.finfo(gradient.dtype).eps, COARSEST) * terms
    return torch.where((sizes <= rounding) | ~terms.isfinite(), 0.0, gradient)


def _pulled(image: Tensor, point: Tensor, covector: Tensor, *, create_graph: bool) -> Tensor:
    """`J^T covector`, 0 where the operator does not depend on the state."""
    if not image.requires_grad:
        return torch.zeros_like(point)
    (product,) = torch.autograd.grad(
        image, point, covector, retain_graph=True, create_graph=create_graph, allow_unused=True
    )
    return torch.zeros_like(point) if product is None else product


def _largest(tensor: Tensor) -> float:
    """The largest magnitude; in all calls where a `vmap` maps over the backward pass."""
    if is_many(tensor):
        tensor = ManyGradients.of(tensor).plain
    if not is_transformed():
        return float(tensor.detach().abs().max())
    with outside() as levels:
        return float(levels.beneath(tensor)[0].detach().abs().max())


def _adjoint_solution(image: Tensor, point: Tensor, gradient: Tensor, adjoint: ImplicitAdjoint) -> Tensor:
    """u with `u = g + J^T u`, J the derivative of the image by the point; without gradients.

    J counts as 0 for a problem whose image is not finite, so that it does not stop the others.
    """

    sound = image.detach().isfinite().all(dim=-1, keepdim=True)

    def product(u: Tensor) -> Tensor:
        return torch.where(sound, _pulled(image, point, u, create_graph=False), 0.0)

    if is_many(gradient):
        if torch.is_grad_enabled():
            raise InputError("create_graph: not together with is_grads_batched; use torch.func.jacrev, or hessian")
        many = ManyGradients.of(gradient)
        return many.seen(_solved(many.lifted(product), many.rows, adjoint))
    if not is_transformed():
        with torch.no_grad():
            return _solved(product, gradient.detach(), adjoint)
    with outside() as levels, without_derivatives():
        lift = Lift.of(levels, gradient)
        return lift.of_problems(_solved(lift.lifted(product), lift.rows(gradient).detach(), adjoint))


def _solved(product: Rows, right: Tensor, adjoint: ImplicitAdjoint) -> Tensor:
    """The solution of `u = right + product(u)`; NaN for a problem whose right-hand side is not finite.

    Raises:
        ConvergenceError: it was not found.
    """
    scaled = Scaled.of(right, adjoint.tolerance)
    with without_autocast(right.device):
        rollout = iterate(
            lambda u: scaled.rows + product(u),
            scaled.rows,
            solver=adjoint.solver,
            tolerance=adjoint.tolerance,
            max_evaluations=adjoint.max_evaluations,
        )
    if not bool((rollout.result == Result.CONVERGED).all()):
        solution = Solution(rollout.value, rollout.result, rollout.residual, rollout.evaluations)
        raise ConvergenceError(solution, "backward solve of ImplicitAdjoint")
    return scaled.restored(rollout.value)
