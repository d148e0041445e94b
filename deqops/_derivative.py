"""Products with an operator's derivative by the state at a point: forward, or from the graph of an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd import forward_ad

from deqops._errors import InputError
from deqops._transforms import dual_level, is_transformed
from deqops._tree import plain_row_norms

Rows = Callable[[Tensor], Tensor]
Product = Callable[[Tensor], Tensor | None]
"""v to J v, (problems, unknowns) both; None where a backward pass of G has no derivative."""


@dataclass(frozen=True, eq=False)
class Recorded:
    """An evaluation with its graph.

    Attributes:
        z: the point, (problems, unknowns), as the solve has it.
        leaf: the same numbers, which the graph begins with.
        image: G of them, with the graph.
    """

    z: Tensor
    leaf: Tensor
    image: Tensor


def recorded(operator: Rows, z: Tensor) -> tuple[Tensor, Recorded | None]:
    """G(z), and its graph; None where G refuses to be recorded, or where nothing records."""
    if is_transformed():
        return operator(z), None
    try:
        with _recording():
            leaf = z.detach().requires_grad_()
            image = operator(leaf.clone())  # G may write into its argument
    except (RuntimeError, InputError) as error:
        if type(error) not in (RuntimeError, InputError):  # out of memory, or G's own
            raise
        return operator(z), None
    return image.detach(), Recorded(z, leaf, image) if image.requires_grad else None


@contextmanager
def _recording() -> Iterator[None]:
    """Record a graph of one's own: a caller's hooks on what graphs keep (checkpoints, offloading) are not for it."""
    own = torch.autograd.graph.saved_tensors_hooks(Tensor.detach, _same)  # a result kept as it is would keep itself
    with torch.enable_grad(), forward_ad._set_fwd_grad_enabled(False), own:
        yield


def _same(kept: Tensor) -> Tensor:
    return kept


def forward_product(operator: Rows, z: Tensor, direction: Tensor) -> Tensor:
    """`J(z) direction` by forward differentiation of one more evaluation.

    Args:
        operator: G.
        z: (problems, unknowns). G gets a copy, for it may write into its argument.
        direction: (problems, unknowns), rounded to z's dtype.

    Raises:
        InputError: G has an operation without a forward derivative, or one is being computed already.
    """
    with dual_level():
        dual = forward_ad.make_dual(z.clone(), direction.to(z.dtype, copy=True))  # type: ignore[no-untyped-call]
        try:
            image = operator(dual)
        except NotImplementedError as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"G: it has no forward derivative ({reason}); use Broyden() or Anderson()") from error
        tangent = forward_ad.unpack_dual(image).tangent  # type: ignore[no-untyped-call]
    return torch.zeros_like(z) if tangent is None else tangent


def backward_product(evaluation: Recorded) -> Product | None:
    """`v -> J(z) v` from the graph, for as much as one evaluation each; None where G has no backward pass.

    `J^T u` is a backward pass, linear in u, and `J v` the derivative of `<J^T u, v>` by u: another one.
    """
    leaf, image = evaluation.leaf, evaluation.image
    try:
        with _recording():
            u = torch.zeros_like(image).requires_grad_()
            (pulled,) = torch.autograd.grad(image, leaf, u, create_graph=True, allow_unused=True)
    except RuntimeError:
        return None
    if pulled is None or not pulled.requires_grad:
        return None

    def product(v: Tensor) -> Tensor | None:
        try:
            (moved,) = torch.autograd.grad(pulled, u, v.to(pulled.dtype), retain_graph=True, allow_unused=True)
        except RuntimeError:
            return None
        return torch.zeros_like(pulled) if moved is None else moved

    return product


def difference(operator: Rows, evaluation: Recorded, direction: Tensor) -> Tensor:
    """`(G(z + h v) - G(z)) / h`, about `J v`, by one more evaluation; h is half of the digits of z or G(z)."""
    z, image = evaluation.z, evaluation.image.detach()
    size, length = torch.maximum(plain_row_norms(z), plain_row_norms(image)), plain_row_norms(direction)
    step = torch.finfo(z.dtype).eps ** 0.5 * torch.where(size > 0, size, 1.0) / torch.where(length > 0, length, 1.0)
    moved = z + (step[:, None] * direction).to(z.dtype)
    with torch.no_grad():
        quotient: Tensor = (operator(moved) - image) / step[:, None]
    return quotient


def agree(one: Tensor, other: Tensor, direction: Tensor, accuracy: float | None = None) -> bool:
    """Whether two ways to compute J v say the same, up to half of the digits or this relative accuracy.

    They do not where G switches gradients off, which forward differentiation does not heed, and where a custom
    function's backward pass cannot be differentiated: torch then leaves terms out without a word.
    """
    part = torch.finfo(other.dtype).eps ** 0.5 if accuracy is None else accuracy
    limit = part * (plain_row_norms(direction) + plain_row_norms(one))
    return not bool((plain_row_norms(one - other) > limit).any())
