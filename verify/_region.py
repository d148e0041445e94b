"""Where a claim holds: everywhere, or in a ball."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from deqops._errors import InputError

from ._norm import Norm


@dataclass(frozen=True)
class Global:
    """All of X: every state of the stated shapes."""

    def describe(self) -> str:
        """The region in words."""
        return "everywhere"


@dataclass(frozen=True, eq=False)
class Ball:
    """The closed ball `{y : ||y - center|| <= radius}`, for each problem its own.

    Args:
        center: one tensor per leaf of the state, of the full state's shape; a single tensor for one leaf.
        radius: positive; the same for every problem.
        norm: None for the norm of the claim.
    """

    center: Tensor | tuple[Tensor, ...]
    radius: float
    norm: Norm | None = None

    def __post_init__(self) -> None:
        if not (self.radius > 0 and math.isfinite(self.radius)):
            raise InputError(f"region: the radius of a Ball must be positive and finite, got {self.radius!r}")
        if not isinstance(self.center, tuple):
            object.__setattr__(self, "center", (self.center,))

    @property
    def leaves(self) -> tuple[Tensor, ...]:
        """The centre's leaves."""
        return self.center if isinstance(self.center, tuple) else (self.center,)

    def describe(self) -> str:
        """The region in words."""
        return f"in a ball of radius {self.radius:.6g}"


Region = Global | Ball
