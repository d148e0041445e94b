"""Unrolled gradients: those of the last applications of G, with one application's graph in memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from deqops._adjoint._base import Rows
from deqops._adjoint._carried import carried
from deqops._adjoint._phantom import check_steps
from deqops._errors import DeqopsError

REPEATABLE = (64.0, 0.02)
"""Images that differ by more units of rounding, or parts of their largest entry, are two operators' images."""


@dataclass(frozen=True)
class Unrolled:
    """Differentiate `steps` applications `h <- G(h)` from h = z, the found point, z held fixed.

    At an equilibrium that is `sum_{j < steps} J^j dG/dx`, the first terms of Neumann's series for
    `(I - J)^-1 dG/dx`. It is biased: where `||J|| <= q < 1` by at most `q^steps ||dG/dx|| / (1 - q)`; a z that is not
    quite the equilibrium adds T14's other terms. The value stays G(z). Derivatives of every order are those of
    the applications, not of the equilibrium.

    Kept are the points h alone; the backward pass applies G once more at each and holds one application's graph
    at a time. An operator that does not repeat its image there is refused. `torch.func` cannot see through
    checkpoints; `Phantom(steps, 1.0)` has the same gradients without them.

    Args:
        steps: how many, at least 1.

    Raises:
        InputError: a setting is out of range.
        DeqopsError: (by the backward pass) G has changed since, as by an optimizer's step in between.

    Source: Griewank and Walther, *Evaluating Derivatives*, SIAM 2008, chapter 12 (checkpoints). Theorem: T14
    `implicit_gradient`.
    """

    steps: int = 10

    def __post_init__(self) -> None:
        check_steps(self.steps)

    def attach(self, operator: Rows, point: Tensor) -> Tensor:
        """`G(point)` with the derivatives of the applications."""
        h = value = _checkpointed(operator, point.detach())
        for _ in range(self.steps - 1):
            h = _checkpointed(operator, h)
        return carried(value, h)


def _checkpointed(operator: Rows, point: Tensor) -> Tensor:
    """`G(point)`, computed again by the backward pass and compared with what it was."""
    first: list[Tensor] = []

    def compared(point: Tensor) -> Tensor:
        image = operator(point)
        if first:
            _check_repeated(image.detach(), first[0])
        else:
            first.append(image.detach())
        return image

    # an early stop would skip the comparison; the argument is this call's, the context manager all threads'
    image: Tensor = checkpoint(compared, point, use_reentrant=False, early_stop=False)
    return image


def _check_repeated(image: Tensor, before: Tensor) -> None:
    """Raises DeqopsError where the images differ by more than kernels of varying order may."""
    near = min(REPEATABLE[0] * torch.finfo(before.dtype).eps, REPEATABLE[1])
    largest = float(torch.where(before.isfinite(), before, 0.0).abs().max())  # a problem may have broken down
    if not torch.allclose(image, before, rtol=near, atol=near * largest, equal_nan=True):
        raise DeqopsError(
            "Unrolled: in the backward pass G gave another image than before; change weights and inputs after it"
        )
