"""Picard's iteration, damped (Krasnosel'skii-Mann)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from deqops._errors import InputError


@dataclass(frozen=True)
class Picard:
    """`z <- (1 - damping) z + damping G(z)`.

    Args:
        damping: the smoothing factor b, finite and not 0; b in (0, 1] averages.

    Converges for contractions G with `|1 - b| + |b| q < 1` (theorems T1 `picard`, T4 `damped`).
    """

    damping: float = 1.0

    def __post_init__(self) -> None:
        if self.damping == 0 or not math.isfinite(self.damping):
            raise InputError(f"damping: it must be finite and not 0, got {self.damping!r}")

    def init(self, z: Tensor) -> Any:
        """Picard's iteration remembers nothing."""
        return None

    def step(self, memory: Any, z: Tensor, image: Tensor) -> tuple[Tensor, Any]:
        """The damped image."""
        return (image if self.damping == 1.0 else z + self.damping * (image - z)), memory
