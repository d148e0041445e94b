"""Damped blocks."""

from __future__ import annotations

from typing import Any

from torch import nn

from deqops._errors import InputError
from deqops._operators import Operator


class Damped(nn.Module):
    """`z -> (1 - b) z + b T(z, *inputs)`: the same equilibria as T, and the constant `1 - b + b q` where T has q <= 1.

    Args:
        operator: T, of tensors.
        damping: b, above 0 and at most 1.

    Raises:
        InputError: the damping is out of range.

    Theorem: T4 `damped`.
    """

    def __init__(self, operator: Operator, damping: float) -> None:
        super().__init__()
        if not callable(operator):
            raise InputError(f"operator: a callable T(state, *inputs) is needed, got {type(operator).__name__}")
        number = isinstance(damping, int | float) and not isinstance(damping, bool)
        if not (number and 0 < damping <= 1):
            raise InputError(f"damping: a number above 0 and at most 1 is needed, got {damping!r}")
        self.damped, self.damping = operator, float(damping)

    def forward(self, state: Any, *inputs: Any) -> Any:
        """The damped step."""
        return (1.0 - self.damping) * state + self.damping * self.damped(state, *inputs)

    def extra_repr(self) -> str:
        """The settings."""
        return f"damping={self.damping:g}"
