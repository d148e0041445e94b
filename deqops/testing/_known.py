"""An operator and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from deqops.verify import Region
from deqops.verify._region import Ball, Global

from ._code import code_of


@dataclass(frozen=True, eq=False)
class Known:
    """An operator and what is known of it.

    Attributes:
        operator: `G(state, *inputs)`.
        equilibrium: y with `y = G(y, *inputs)` exactly; the only one in the region, where `theorem` is not empty.
        inputs: of the operator.
        norm: of the constant, "l2" or "linf".
        constant: the Lipschitz constant in that norm, in the region; for "layers" a bound of it.
        theorem: by which it has one equilibrium: "picard", "monotone", "causal" or "local_picard"; "" where none does.
        batch_dims: 1, or 0 where the state is one problem.
        margin: m with `I - sym(W) >= m I`, for "monotone" layers `s(W z + x)`.
        others: further equilibria, exactly.
        region: of what is said.
    """

    operator: nn.Module
    equilibrium: Tensor
    inputs: tuple[Any, ...]
    norm: str
    constant: Fraction
    theorem: str
    batch_dims: int = 1
    margin: Fraction | None = None
    others: tuple[Tensor, ...] = ()
    region: Region = field(default_factory=Global)

    @property
    def start(self) -> Tensor:
        """Zeros like the state."""
        return torch.zeros_like(self.equilibrium)

    def __repr__(self) -> str:
        parts = [f"operator={self.operator!r}", f"equilibrium={code_of(self.equilibrium)}"]
        parts += [f"inputs={code_of(self.inputs)}", f"norm={self.norm!r}", f"constant={self.constant!r}"]
        parts += [f"theorem={self.theorem!r}", f"batch_dims={self.batch_dims}"]
        parts += [] if self.margin is None else [f"margin={self.margin!r}"]
        parts += [f"others={code_of(self.others)}"] if self.others else []
        if isinstance(self.region, Ball):
            parts.append(f"region=Ball({code_of(self.region.leaves[0])}, {self.region.radius!r})")
        return f"Known({', '.join(parts)})"
