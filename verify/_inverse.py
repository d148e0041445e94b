"""Enclosures of inverses of constant matrices, with an approximate inverse as a proposal."""

from __future__ import annotations

import torch
from torch import Tensor

from . import _midrad as midrad
from ._midrad import MidRad
from ._rounding import div_up, sub_down
from ._spectral import inf_norm_bound
from ._verified_solve import approximate_inverse


def enclosed_inverse(matrices: MidRad) -> MidRad | None:
    """The inverse of every matrix in the enclosure, (*batch, n, n); None where one is not shown to be nonsingular.

    With X near the inverse and `E = I - X A`, `||E||_inf <= q < 1` proves A nonsingular, and `A^-1 = (I - E)^-1 X`
    gives `A^-1 - X = (I - E)^-1 E X`: each entry of a column differs by at most that column's `||E X||_inf / (1 - q)`.
    """
    shape = matrices.shape
    flat = matrices.apply_exact(lambda t: t.reshape(-1, *shape[-2:]))
    found = [_one(MidRad(mid, rad)) for mid, rad in zip(flat.mid, flat.rad, strict=True)]
    known = [one for one in found if one is not None]
    if len(known) < len(found):
        return None
    parts = [torch.stack([getattr(one, name) for one in known]) if known else flat.mid for name in ("mid", "rad")]
    return MidRad(*(part.reshape(shape) for part in parts))


def _one(matrix: MidRad) -> MidRad | None:
    proposal = approximate_inverse(matrix.mid) if matrix.is_finite() else None
    if proposal is None:
        return None
    X = MidRad.exact(proposal)
    E = midrad.sub(MidRad.exact(torch.eye(len(proposal), dtype=torch.float64)), midrad.matmul(X, matrix))
    q = float(inf_norm_bound(E))
    if not q < 1:
        return None
    off: Tensor = midrad.matmul(E, X).magnitude().amax(dim=0, keepdim=True)
    radius = div_up(off, sub_down(1.0, q)).expand_as(proposal)
    return MidRad(proposal, radius.clone()) if bool(radius.isfinite().all()) else None
