"""A proven bound, with the estimate beside it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Bound:
    """An upper bound that is proven, and how it came about.

    Attributes:
        upper: the proven bound; `float(bound)` is this.
        lower_estimate: an estimate from below, which may be wrong and enters no verdict; 0 if none was made.
        method: how the bound was found.
        contributions: (part, gain) pairs where the bound is composed of parts.
    """

    upper: float
    lower_estimate: float
    method: str
    contributions: tuple[tuple[str, float], ...] = ()

    def __float__(self) -> float:
        return self.upper
