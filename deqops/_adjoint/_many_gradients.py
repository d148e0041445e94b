"""Backward passes for many gradients at once, as `torch.autograd.grad(.., is_grads_batched=True)` runs them.

Autograd maps over the gradients by a `vmap` of its own, older than torch.func's and unknown to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch._C import _functorch as functorch

from deqops._adjoint._base import Rows


def is_many(gradient: Tensor) -> bool:
    """Whether it stands for many gradients."""
    return functorch.is_legacy_batchedtensor(gradient)


@dataclass(frozen=True)
class ManyGradients:
    """One call's gradient, (problems, unknowns), as the plain rows of all.

    Attributes:
        level: which of autograd's `vmap`s.
        plain: (gradients, problems, unknowns).
    """

    level: int
    plain: Tensor

    @staticmethod
    def of(gradient: Tensor) -> ManyGradients:
        """What a backward pass was given."""
        level = torch._C._vmapmode_increment_nesting() - 1
        torch._C._vmapmode_decrement_nesting()
        return ManyGradients(level, torch._remove_batch_dim(gradient, level, 0, 0))

    @property
    def rows(self) -> Tensor:
        """(gradients * problems, unknowns)."""
        return self.plain.reshape(-1, self.plain.shape[-1])

    def seen(self, rows: Tensor) -> Tensor:
        """What one call sees of the rows."""
        return torch._add_batch_dim(rows.reshape(self.plain.shape), 0, self.level)

    def lifted(self, operator: Rows) -> Rows:
        """The operator of one call on the rows of all."""

        def on_all(rows: Tensor) -> Tensor:
            image = operator(self.seen(rows))
            plain: Tensor = torch._remove_batch_dim(image, self.level, len(self.plain), 0)
            return plain.reshape(rows.shape)

        return on_all
