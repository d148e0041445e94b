"""States as one row of numbers per problem, leaf after leaf."""

from __future__ import annotations

import torch
from torch import Tensor

from ._midrad import MidRad


def flattened(leaves: list[MidRad], batch_dims: int) -> MidRad:
    """The leaves of a state as one vector per problem, (problems, n)."""
    count = leaves[0].mid.shape[0] if batch_dims else 1
    rows = [x.apply_exact(lambda t: t.reshape(count, -1)) for x in leaves]
    return MidRad(torch.cat([r.mid for r in rows], dim=1), torch.cat([r.rad for r in rows], dim=1))


def unflattened(flat: Tensor, like: list[Tensor]) -> list[Tensor]:
    """The leaves, shaped as `like`, of a (problems, n) matrix."""
    sizes = [leaf.numel() // len(flat) for leaf in like]
    parts = torch.split(flat, sizes, dim=1)
    return [part.reshape(leaf.shape) for part, leaf in zip(parts, like, strict=True)]
