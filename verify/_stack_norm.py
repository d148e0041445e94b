"""Norms of stacks of matrices of intervals, one for each problem."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from . import _midrad as midrad
from ._midrad import MidRad
from ._norm import Norm
from ._rounding import mul_up, sqrt_up, sum_up
from ._spectral import spectral_norm_bound


def flat_weights(norm: Norm) -> Tensor | None:
    """The weights of all leaves in one row, or None."""
    return None if norm.weights is None else torch.cat([weight.reshape(-1) for weight in norm.weights])


def operator_norm_bound(A: MidRad, order: str, weights: Tensor | None) -> float:
    """Proven bound of `||D A D^-1||`, D = diag(weights), over all matrices of the stack (problems, n, n)."""
    if weights is not None:
        A = midrad.mul(A, midrad.div(MidRad.exact(weights[:, None]), MidRad.exact(weights[None, :])))
    if not A.is_finite():
        return math.inf
    rows, columns = (sum_up(A.magnitude(), dim=dim) for dim in (2, 1))
    if order == "linf":
        return _largest(rows)
    if order == "l1":
        return _largest(columns)
    return _largest_spectral(A, sqrt_up(mul_up(rows.amax(dim=1), columns.amax(dim=1))))


def _largest_spectral(A: MidRad, mixed: Tensor) -> float:
    """The largest l2 norm: matrices whose `sqrt(l1 linf)` cannot exceed what was found are not looked at."""
    found = 0.0
    for problem in mixed.argsort(descending=True).tolist():
        if found >= float(mixed[problem]):
            break
        bound = float(spectral_norm_bound(MidRad(A.mid[problem], A.rad[problem])))
        found = max(found, min(bound, float(mixed[problem])))
    return found


def _largest(bounds: Tensor) -> float:
    return float(bounds.max()) if bounds.numel() else 0.0


def identity_like(A: MidRad) -> MidRad:
    """The identity for each matrix of the stack."""
    return MidRad.exact(torch.eye(A.mid.shape[-1], dtype=torch.float64).expand(A.mid.shape))
