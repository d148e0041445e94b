"""Implicit derivatives inside torch.func's transforms, backward and forward ones in any nesting."""

from __future__ import annotations

import torch
from torch import Tensor

from deqops._adjoint._agreement import check_agreement
from deqops._adjoint._base import Rows
from deqops._adjoint._linearised import Linearised, Settings, step
from deqops._adjoint._ordered import ordered
from deqops._transforms import Lift, outside


def attached_inside(operator: Rows, point: Tensor, settings: Settings, derivatives: int) -> Tensor:
    """`G(point)` whose derivatives are the equilibrium's, up to order `derivatives`.

    With y_0 = G(point), a constant, the steps `y_k = y_(k-1) + (I - J)^-1 (G(y_(k-1)) - y_(k-1))` gain an order of
    derivatives each; J is that at `point`, all values are y_0's. As J is constant the linear map has no derivatives but
    itself, in backward and in forward mode; it is solved for beneath the transforms, with plain tensors.

    Raises:
        InputError: nothing records derivatives, as inside torch.inference_mode; or G's forward and backward
            derivatives differ.
    """
    image = operator(point)
    with outside() as levels:
        orders = min(levels.orders(image, derivatives), derivatives)
        if not orders:
            return image
        lift = Lift.of(levels, point, image)
        value = lift.wrapped(lift.plain(image).detach())
        constant = lift.wrapped(lift.plain(point).detach())
        linear = Linearised(lift.lifted(operator, recorded=True), lift.rows(constant), settings)
        if levels.dual and torch._C._is_fwd_grad_enabled():
            check_agreement(lift.lifted(operator), linear)
    result = step(image, value, constant, linear)
    for _ in range(orders - 1):
        result = step(operator(result), result, constant, linear)
    return ordered(result, result, orders)
