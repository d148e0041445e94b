"""Whether G's forward derivative by the state is the one that its backward pass says."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad

from deqops._adjoint._base import Rows
from deqops._adjoint._linearised import Linearised
from deqops._adjoint._many_gradients import ManyGradients, is_many
from deqops._derivative import tangent_at
from deqops._errors import InputError
from deqops._tree import plain_row_norms


def check_agreement(operator: Rows, linear: Linearised) -> None:
    """Compares both in one direction, outside of all transforms but inside forward differentiation.

    They differ where G switches gradients off (which forward differentiation does not heed), and where a custom
    function's backward pass cannot be differentiated: torch then leaves terms out without a word.

    Args:
        operator: G on plain rows.
        linear: G linearised by its backward pass.

    Raises:
        InputError: they differ, or G has no forward derivative.
    """
    rows = linear.point.detach()
    numbers = torch.arange(1, rows.numel() + 1, dtype=torch.float64, device=rows.device)
    direction = torch.sin(numbers.square()).reshape(rows.shape).to(rows.dtype)  # any will do that no G expects
    expected = linear.product(direction[None])[0]
    difference = plain_row_norms(
        torch.where(linear.sound[:, None], _forward(operator, rows, direction) - expected, 0.0)
    )
    limit = torch.finfo(rows.dtype).eps ** 0.5 * plain_row_norms(direction)
    if not bool((difference <= limit * (1 + plain_row_norms(expected))).all()):
        raise InputError(
            "G: its forward and backward derivatives differ (by no_grad, or a custom function without a second "
            "derivative); use torch.func.jacrev"
        )


def _forward(operator: Rows, rows: Tensor, direction: Tensor) -> Tensor:
    """`J direction`; the level around may give G tangents of its own, which are subtracted."""
    tangents = []
    with torch.no_grad(), forward_ad._set_fwd_grad_enabled(True):
        for point in (forward_ad.make_dual(rows.clone(), direction), rows):  # type: ignore[no-untyped-call]
            tangent = tangent_at(operator, point, "torch.func.jacrev")
            tangents.append(torch.zeros_like(rows) if tangent is None else tangent)
    with forward_ad._set_fwd_grad_enabled(False):
        product = tangents[0] - tangents[1]
    return ManyGradients.of(product).plain[0] if is_many(product) else product  # the same for all tangents of G's own
