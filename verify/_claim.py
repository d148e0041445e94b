"""What a certificate claims, and what may be said of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ._norm import Norm
from ._region import Region


class Verdict(Enum):
    """What is proven of a claim."""

    CERTIFIED = "certified"
    """The claim is proven for the exact-real function of the exported graph."""
    REFUTED = "refuted"
    """The claim is proven false; the certificate carries the witness."""
    UNKNOWN = "unknown"
    """Neither; `Certificate.reason` says why, `explain()` what is missing."""


@dataclass(frozen=True)
class Contraction:
    """`||G(y) - G(z)|| <= q ||y - z||` for some q < 1 and all y, z in the region."""

    norm: Norm
    region: Region

    def describe(self) -> str:
        """The claim in words."""
        return f"G is a contraction in the {self.norm.describe()} norm {self.region.describe()}"


@dataclass(frozen=True)
class UniqueEquilibrium:
    """There is exactly one y* = G(y*) in the region."""

    region: Region

    def describe(self) -> str:
        """The claim in words."""
        return f"G has exactly one equilibrium {self.region.describe()}"


@dataclass(frozen=True)
class Converges:
    """`y <- (1 - damping) y + damping G(y)` converges, from every start in the region, to its one equilibrium."""

    region: Region
    damping: float = 1.0

    def describe(self) -> str:
        """The claim in words."""
        steps = "Picard's iteration" if self.damping == 1 else f"Picard's iteration damped by {self.damping:g}"
        return f"{steps} converges to the one equilibrium {self.region.describe()} from every start there"


Claim = Contraction | UniqueEquilibrium | Converges
