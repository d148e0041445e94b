"""Products with an operator's derivative by the state at a point: forward, or from the graph of an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import torch
from torch import Tensor
from torch.autograd import forward_ad

from deqops._errors import InputError
from deqops._transforms import dual_level, is_transformed
from deqops._tree import plain_row_norms

Rows = Callable[[Tensor], Tensor]
Product = Callable[[Tensor], Tensor | None]
"""v to J v, (problems, unknowns) both; None where a backward pass of G has no derivative."""


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
        tangent = tangent_at(operator, dual, "Broyden() or Anderson()")
    return torch.zeros_like(z) if tangent is None else tangent


def tangent_at(operator: Rows, point: Tensor, instead: str) -> Tensor | None:
    """The tangent of G at a point that may have one, within a level of forward differentiation; None for 0.

    Raises:
        InputError: G has an operation without a forward derivative; it says what to use instead.
    """
    try:
        image = operator(point)
    except NotImplementedError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"G: it has no forward derivative ({reason}); use {instead}") from error
    tangent: Tensor | None = forward_ad.unpack_dual(image).tangent  # type: ignore[no-untyped-call]
    return tangent


def backward_product(operator: Rows, z: Tensor) -> Product | None:
    """`v -> J(z) v` from the graph of one more evaluation, for about as much as that each; None where there is none.

    `J^T u` is a backward pass, linear in u, and `J v` the derivative of `<J^T u, v>` by u: another one.
    """
    if is_transformed():
        return None
    try:
        with _recording():
            leaf = z.detach().requires_grad_()
            image = operator(leaf.clone())  # G may write into its argument
            u = torch.zeros_like(image).requires_grad_()
            (pulled,) = torch.autograd.grad(image, leaf, u, create_graph=True, allow_unused=True)
    except (RuntimeError, InputError) as error:
        if type(error) not in (RuntimeError, NotImplementedError, InputError):  # out of memory, or G's own
            raise
        return None
    if pulled is None or not pulled.requires_grad:
        return None
    with suppress(RuntimeError):  # of some views
        (image if image._base is None else image._base).detach_()  # G may keep it: the graph is not for it

    def product(v: Tensor) -> Tensor | None:
        try:
            (moved,) = torch.autograd.grad(pulled, u, v.to(pulled.dtype), retain_graph=True, allow_unused=True)
        except RuntimeError:
            return None
        return torch.zeros_like(pulled) if moved is None else moved

    return product


def difference(operator: Rows, z: Tensor, direction: Tensor) -> Tensor:
    """`(G(z + h v) - G(z)) / h`, about `J v`, by two more evaluations; h is half of the digits of z or G(z)."""
    with torch.no_grad():
        image = operator(z.clone()).clone()  # G may write into what it gets, and into what it gave
        size, length = torch.maximum(plain_row_norms(z), plain_row_norms(image)), plain_row_norms(direction)
        step = torch.finfo(z.dtype).eps ** 0.5 * torch.where(size > 0, size, 1.0) / torch.where(length > 0, length, 1.0)
        moved = z + (step[:, None] * direction).to(z.dtype)
        quotient: Tensor = (operator(moved) - image) / step[:, None]
    return quotient


def agree(one: Tensor, other: Tensor, direction: Tensor, accuracy: float | None = None) -> bool:
    """Whether two ways to compute J v say the same, up to half of the digits or this relative accuracy.

    Problems where the first is not finite do not count, and all being 0 says nothing. They do not agree where G
    switches gradients off, which forward differentiation does not heed, and where a custom function's backward pass
    cannot be differentiated: torch then leaves terms out without a word.
    """
    part = torch.finfo(other.dtype).eps ** 0.5 if accuracy is None else accuracy
    size = plain_row_norms(one)
    same = plain_row_norms(one - other) <= part * (plain_row_norms(direction) + size)  # false for NaN
    return bool((same | ~size.isfinite()).all() and (size.isfinite() & (size > 0)).any())
