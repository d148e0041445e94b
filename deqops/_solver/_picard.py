"""Picard's iteration, damped (Krasnosel'skii-Mann)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deqops._errors import InputError
from deqops._numbers import as_number, is_number, keep_plain

MOST = torch.finfo(torch.float32).max
"""The largest damping: that of the narrowest dtype in which a step is computed."""


def check_damping(damping: object) -> None:
    """Raises InputError unless the damping is above 0, for no other can help any operator, and within float32."""
    if not (is_number(damping) and 0 < as_number(damping) <= MOST):
        raise InputError(f"damping: a finite number above 0 is needed, got {damping!r} (at most {MOST:.3g})")


@dataclass(frozen=True)
class Picard:
    """`z <- (1 - b) z + b G(z)`, b the damping.

    Converges to the one equilibrium from every start where G has a constant q < 1 in some norm and
    `abs(1 - b) + b q < 1`.

    Args:
        damping: b, the paper's smoothing factor; below 1 it averages, 1 is Picard's iteration.

    Raises:
        InputError: the damping is not above 0.

    Theorems: T1 `picard`, T4 `damped`, T5 `monotone`.
    """

    damping: float = 1.0

    def __post_init__(self) -> None:
        keep_plain(self, "damping")
        check_damping(self.damping)

    def init(self, z: Tensor) -> None:
        """Picard's iteration remembers nothing."""

    def step(self, memory: None, z: Tensor, image: Tensor) -> tuple[Tensor, None]:
        """The damped image."""
        return (image if self.damping == 1.0 else torch.lerp(z, image, self.damping)), None

    def narrowed(self, memory: None, rows: Tensor) -> None:
        """Nothing to narrow."""
