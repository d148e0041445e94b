"""G at an equilibrium as a linear map: `(I - J)^-1` and its transpose, differentiable themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd import forward_ad

from deqops._adjoint._many_gradients import ManyGradients, is_many
from deqops._adjoint._scaled import Scaled
from deqops._errors import InputError
from deqops._loop import iterate
from deqops._solution import ConvergenceError, Result, Solution
from deqops._solver import Solver
from deqops._tolerance import Tolerance
from deqops._transforms import placed

Gradients = tuple[Tensor | None, ...]


class Settings(Protocol):
    """Of the linear equations."""

    @property
    def solver(self) -> Solver:
        """Takes the steps."""

    @property
    def tolerance(self) -> Tolerance:
        """Of the residual."""

    @property
    def max_evaluations(self) -> int:
        """Of products."""


class Linearised:
    """J = dG/dz at plain rows z, by the graph of one application: G is not called again.

    `J^T u` is a backward pass through that graph; `J v` is the derivative of `u -> J^T u`, which is linear. A row
    whose image is not finite counts as J = 0 and right-hand side 0.

    Args:
        operator: G on (problems, unknowns), plain tensors.
        rows: z.
        settings: of the linear equations.
    """

    def __init__(self, operator: Callable[[Tensor], Tensor], rows: Tensor, settings: Settings) -> None:
        with torch.enable_grad(), forward_ad._set_fwd_grad_enabled(False):
            self.point = rows.detach().requires_grad_()
            self.image = operator(self.point)
        self.settings = settings
        self.sound = self.image.detach().isfinite().all(dim=1)
        self._transpose: tuple[Tensor, Tensor] | None = None  # (u, J^T u) with a graph, once it is needed

    def solved(self, right: Tensor, transposed: bool) -> Tensor:
        """x with `x = right + J x`, or with J^T; right is (.., *z's shape), plain, each leading index by itself.

        Raises:
            ConvergenceError: it was not solved.
        """
        if is_many(right):
            many = ManyGradients.of(right)
            return many.seen(self.solved(many.plain, transposed))
        problems, unknowns = self.point.shape
        flat = right.reshape(-1, problems, unknowns)
        flat = torch.where(self.sound[:, None], flat, 0.0)
        product = self.transposed_product if transposed else self.product
        scaled = Scaled.of(flat.reshape(-1, unknowns), self.settings.tolerance)
        with torch.no_grad(), forward_ad._set_fwd_grad_enabled(False):
            rollout = iterate(
                lambda x: scaled.rows + product(x.reshape(flat.shape)).reshape(x.shape),
                scaled.rows,
                solver=self.settings.solver,
                tolerance=self.settings.tolerance,
                max_evaluations=self.settings.max_evaluations,
            )
        if not bool((rollout.result == Result.CONVERGED).all()):
            solution = Solution(rollout.value, rollout.result, rollout.residual, rollout.evaluations)
            raise ConvergenceError(solution, f"{'backward' if transposed else 'forward'} solve of ImplicitAdjoint")
        return scaled.restored(rollout.value).reshape(right.shape)

    def multiplied(self, right: Tensor, transposed: bool) -> Tensor:
        """`J right`, or with J^T; right as in `solved`."""
        if is_many(right):
            many = ManyGradients.of(right)
            return many.seen(self.multiplied(many.plain, transposed))
        product = self.transposed_product if transposed else self.product
        with torch.no_grad(), forward_ad._set_fwd_grad_enabled(False):
            return product(right.reshape(-1, *self.point.shape)).reshape(right.shape)

    def transposed_product(self, u: Tensor) -> Tensor:
        """`J^T u` for each leading index."""
        return self._masked(_pulled(self.image, self.point, u))

    def product(self, v: Tensor) -> Tensor:
        """`J v` for each leading index."""
        if self._transpose is None:
            with torch.enable_grad(), forward_ad._set_fwd_grad_enabled(False):
                u = torch.zeros_like(self.image).requires_grad_()
                with _named_failure():
                    self._transpose = u, _pulled(self.image, self.point, u[None], create_graph=True)[0]
        u, pulled = self._transpose
        with _named_failure():
            return self._masked(_pulled(pulled, u, v))

    def _masked(self, product: Tensor) -> Tensor:
        return torch.where(self.sound[:, None], product, 0.0)


@contextmanager
def _named_failure() -> Iterator[None]:
    """Where torch has no derivative of a backward pass, the error says what that means here."""
    try:
        yield
    except RuntimeError as error:
        if type(error) not in (RuntimeError, NotImplementedError):  # out of memory, or a solve inside G
            raise
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"G: forward derivatives need its second one, which fails ({reason}); use torch.func.jacrev"
        ) from error


def _pulled(image: Tensor, point: Tensor, covectors: Tensor, *, create_graph: bool = False) -> Tensor:
    """The vector-Jacobian product of each covector, (count, problems, unknowns); 0 where nothing depends."""
    if not image.requires_grad:
        return torch.zeros_like(covectors)

    def product(covector: Tensor) -> Tensor:
        products: tuple[Tensor | None, ...] = torch.autograd.grad(
            image, point, covector, retain_graph=True, create_graph=create_graph, allow_unused=True
        )
        return torch.zeros_like(point) if products[0] is None else products[0]

    if len(covectors) == 1:
        return product(covectors[0])[None]
    try:
        together: Tensor = torch.func.vmap(product)(covectors)
    except RuntimeError:  # an operation of G that vmap does not know
        together = torch.stack([product(covector) for covector in covectors])
    return together


class Applied(torch.autograd.Function):
    """`(I - J)^-1 right` or `J right`, J at a constant point; linear: a derivative is the same map or its transpose.

    `point` says which of the mapped dimensions J has too; `right` may have further ones, in front.
    """

    @staticmethod
    def forward(right: Tensor, point: Tensor, linear: Linearised, inverse: bool, transposed: bool) -> Tensor:
        return (linear.solved if inverse else linear.multiplied)(right, transposed)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep the point and the map."""
        _, point, ctx.linear, ctx.inverse, ctx.transposed = inputs
        ctx.save_for_backward(point)
        ctx.save_for_forward(point)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Gradients:
        (point,) = ctx.saved_tensors
        return _applied(gradients[0], point, ctx.linear, ctx.inverse, not ctx.transposed), None, None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        (point,) = ctx.saved_tensors
        with forward_ad._set_fwd_grad_enabled(True):  # of the transforms around: autograd turns all off here
            return _applied(tangents[0], point, ctx.linear, ctx.inverse, ctx.transposed)

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[Any, ...],
        right: Tensor,
        point: Tensor,
        linear: Linearised,
        inverse: bool,
        transposed: bool,
    ) -> tuple[Tensor, int]:
        """A dimension that J has too goes to the front of J's, another one to the very front."""
        at, of_point = in_dims[:2]
        further = right.ndim - (at is not None) - point.ndim + (of_point is not None)
        place = 0 if of_point is None else further
        right = placed(right, at, place, info.batch_size)
        point = point if of_point is None else point.movedim(of_point, 0)
        return _applied(right, point, linear, inverse, transposed), place


def _applied(right: Tensor, point: Tensor, linear: Linearised, inverse: bool, transposed: bool) -> Tensor:
    result: Tensor = Applied.apply(right, point, linear, inverse, transposed)  # type: ignore[no-untyped-call]
    return result


class Step(torch.autograd.Function):
    """`base + (I - J)^-1 (image - base)`, to be differentiated; its value is base's.

    If the derivatives of `base` are the equilibrium's up to some order, then for `image = G(base)` those of the result
    are up to the next order: an error e of base is left as `(I - J)^-1 (J(base) - J) e`. In the derivative,
    `(I - J)^-1 (d image - J d base)`, J d base is computed as in d image: what both lose where they are small cancels.
    """

    @staticmethod
    def forward(image: Tensor, base: Tensor, point: Tensor, linear: Linearised) -> Tensor:
        return base.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep the point and the map."""
        _, _, point, ctx.linear = inputs
        ctx.save_for_backward(point)
        ctx.save_for_forward(point)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Gradients:
        (point,) = ctx.saved_tensors
        covector = _applied(gradients[0], point, ctx.linear, True, True)
        return covector, -_applied(covector, point, ctx.linear, False, True), None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        of_image, of_base = tangents[:2]
        (point,) = ctx.saved_tensors
        with forward_ad._set_fwd_grad_enabled(True):  # of the transforms around: autograd turns all off here
            return _applied(
                of_image - _applied(of_base, point, ctx.linear, False, False), point, ctx.linear, True, False
            )

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], image: Tensor, base: Tensor, point: Tensor, linear: Linearised
    ) -> tuple[Tensor, int]:
        """As `Applied.vmap`."""
        of_image, of_base, of_point = in_dims[:3]
        further = base.ndim - (of_base is not None) - point.ndim + (of_point is not None)
        place = 0 if of_point is None else further
        image, base = (placed(t, at, place, info.batch_size) for t, at in ((image, of_image), (base, of_base)))
        point = point if of_point is None else point.movedim(of_point, 0)
        return step(image, base, point, linear), place


def step(image: Tensor, base: Tensor, point: Tensor, linear: Linearised) -> Tensor:
    """`Step` as a function."""
    result: Tensor = Step.apply(image, base, point, linear)  # type: ignore[no-untyped-call]
    return result
