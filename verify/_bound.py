"""A proven bound, with the estimate beside it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Bound:
    """An upper bound that is proven, and how it came about.

    Attributes:
        upper: the proven bound; `float(bound)` is this.
        lower_estimate: an estimate from below, in floats: singular values, Lanczos' or Hager's method, or sampled
            Jacobian-vector products. It shows how far above the truth `upper` can be at most. It may be wrong by
            rounding, enters no verdict, and is 0 where none could be made.
        method: how the bound was found.
        contributions: (part, gain) pairs where the bound is composed of parts.
    """

    upper: float
    lower_estimate: float
    method: str
    contributions: tuple[tuple[str, float], ...] = ()

    def __float__(self) -> float:
        return self.upper
