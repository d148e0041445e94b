"""A transformer on fields, iterated: patch states that solve `Z = f(X) + T(Z)`, T one block of attention.

The field at one time is cut into patches; f encodes them, the equilibrium Z (or a number of Picard steps) lets them
exchange what they know, and a linear read-out gives the change of each patch until the later time.

Zappala, Levine, He, Rizvi, Levy, van Dijk: Operator Learning Meets Numerical Analysis, arXiv:2310.01618, sections 4
and 5 (transformers with Picard iteration on PDE data) and appendix A.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor, nn

from deqops import Anderson, EquilibriumLayer, ImplicitAdjoint, OperatorEquation, Tolerance

MAX_EVALUATIONS = 60


class FieldTransformer(nn.Module):
    """The later field `X + R Z`, Z the equilibrium of `G(Z, X) = f(X) + T(Z)` on patches.

    With b = smoothing, `steps` chooses

    - 0: the equilibrium of one block T, found by Anderson's method, trained by implicit differentiation;
    - n > 0, one block: n steps `Z <- (1 - b) Z + b G(Z)` from `Z = f(X)` (Picard's iteration);
    - n > 0, `tied=False`: the same with n blocks of their own, a plain transformer of equal cost.

    Args:
        side: of the field, side x side numbers.
        patch: side of a patch; divides side.
        width: of a patch's state.
        heads: of attention; divides width.
        steps: as above.
        smoothing: b of the iteration, 0 < b <= 1.
        tied: as above.
    """

    def __init__(
        self,
        side: int = 32,
        patch: int = 8,
        width: int = 32,
        heads: int = 4,
        *,
        steps: int = 0,
        smoothing: float = 1.0,
        tied: bool = True,
    ) -> None:
        super().__init__()
        self.side, self.patch, self.width, self.steps, self.smoothing = side, patch, width, steps, smoothing
        tokens = (side // patch) ** 2
        self.blocks = nn.ModuleList(AttentionBlock(width, heads) for _ in range(1 if tied else steps))
        self.readout = nn.Linear(width, patch**2)
        tolerance, solver = Tolerance(relative=1e-3), Anderson(memory=5)
        self.layer = EquilibriumLayer(
            OperatorEquation(self.blocks[0], f=PatchEncoder(patch, tokens, width)),
            solver=solver,
            adjoint=ImplicitAdjoint(solver, tolerance, max_evaluations=MAX_EVALUATIONS, derivatives=1),
            tolerance=tolerance,
            initial=self._zeros,
            max_evaluations=MAX_EVALUATIONS,
        )

    @property
    def operator(self) -> OperatorEquation:
        """G(state, field): what is solved, exported and certified; the first block's where they are not tied."""
        operator = self.layer.operator
        assert isinstance(operator, OperatorEquation)
        return operator

    def forward(self, field: Tensor) -> Tensor:
        """The later field (batch, side, side)."""
        return self.read(field, self.state(field))

    def state(self, field: Tensor) -> Tensor:
        """Z: (batch, tokens, width), the equilibrium or what the steps give."""
        if self.steps == 0:
            solved: Tensor = self.layer(field)
            return solved
        return next(islice(self.iterates(field), self.steps, None))

    def iterates(self, field: Tensor) -> Iterator[Tensor]:
        """The states from `Z = f(X)` on, without end; block n in step n, the last one again beyond."""
        encoded: Tensor = self.operator.f(field)  # type: ignore[operator, misc]
        state, count = encoded, 0
        while True:
            yield state
            block = self.blocks[min(count, len(self.blocks) - 1)]
            state = torch.lerp(state, encoded + block(state, field), self.smoothing)
            count += 1

    def read(self, field: Tensor, state: Tensor) -> Tensor:
        """The field that a state predicts."""
        return field + joined(self.readout(state), self.side, self.patch)

    def _zeros(self, field: Tensor) -> Tensor:
        return field.new_zeros(len(field), (self.side // self.patch) ** 2, self.width)


class PatchEncoder(nn.Module):
    """f: a linear map of each patch, plus a vector for its place."""

    def __init__(self, patch: int, tokens: int, width: int) -> None:
        super().__init__()
        self.patch = patch
        self.inward = nn.Linear(patch**2, width)
        self.place = nn.Parameter(0.1 * torch.randn(tokens, width))

    def forward(self, field: Tensor) -> Tensor:
        """(batch, tokens, width) of fields (batch, side, side)."""
        encoded: Tensor = self.inward(cut(field, self.patch)) + self.place
        return encoded


class AttentionBlock(nn.Module):
    """T: `LN2(h + network(h))`, `h = LN1(Z + attention(Z))`; behind a layer norm its values are bounded.

    Dot-product attention has no Lipschitz constant everywhere; around an equilibrium it has.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.inward, self.outward = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.network = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        nn.init.constant_(self.second.weight, 0.3)  # a start that converges

    def forward(self, state: Tensor, field: Tensor) -> Tensor:
        """T(Z): (batch, tokens, width). An operator's T receives all of its inputs; this one leaves the field."""
        batch, tokens, width = state.shape
        parts = self.inward(state).view(batch, tokens, 3, self.heads, width // self.heads)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4).unbind(0)
        weights = torch.softmax(queries @ keys.transpose(2, 3) / math.sqrt(width // self.heads), dim=-1)
        mixed = self.outward((weights @ values).transpose(1, 2).reshape(state.shape))
        inner = self.first(state + mixed)
        result: Tensor = self.second(inner + self.network(inner))
        return result


def cut(field: Tensor, patch: int) -> Tensor:
    """Patches row by row: (batch, tokens, patch * patch) of (batch, side, side)."""
    batch, side, _ = field.shape
    parts = field.view(batch, side // patch, patch, side // patch, patch)
    return parts.transpose(2, 3).reshape(batch, -1, patch**2)


def joined(patches: Tensor, side: int, patch: int) -> Tensor:
    """The inverse of `cut`."""
    count = side // patch
    parts = patches.view(len(patches), count, count, patch, patch)
    return parts.transpose(2, 3).reshape(-1, side, side)
