"""The function of a torchdeq layer as an operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from deqops._errors import InputError


class FromTorchDEQ(nn.Module):
    """`f` as `torchdeq.get_deq()` calls it, as an operator G(state, *inputs).

    A tensor is passed on as `f(z, *inputs)`; a tuple or list of tensors is spread, `f(*z, *inputs)`, and what comes
    back takes the state's kind. A module's weights stay its own, as attribute `f`.

    Args:
        f: callable or module.

    Raises:
        InputError: f is not callable.
    """

    def __init__(self, f: Callable[..., Any]) -> None:
        super().__init__()
        if not callable(f):
            raise InputError(f"f: the callable given to torchdeq's layer is needed, got {type(f).__name__}")
        self.f = f

    def forward(self, z: Any, *inputs: Any) -> Any:
        """The image of z, of z's kind."""
        if isinstance(z, Tensor):
            return self.f(z, *inputs)
        return type(z)(self.f(*z, *inputs))


def from_torchdeq(f: Callable[..., Any]) -> FromTorchDEQ:
    """The operator of a function written for torchdeq: `solve(from_torchdeq(f), z0)` for `get_deq()(f, z0)`.

    Raises:
        InputError: f is not callable.
    """
    return FromTorchDEQ(f)
