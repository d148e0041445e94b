"""Verified lower bounds of a symmetric matrix' smallest eigenvalue."""

from __future__ import annotations

import math

import torch

from deqops._errors import InputError

from ._midrad import MidRad
from ._rounding import U, add_up, check_environment, sum_up
from ._spectral import cholesky_deficit


def lowest_eigenvalue_bound(H: MidRad) -> float:
    """A number that the smallest eigenvalue of every symmetric matrix in the enclosure reaches.

    With an estimate `e` of it and `t` slightly above `-e`, a Cholesky factor of `mid + t I`, whoever made it, shows
    `mid + t I >= -c I` for a c bounded rigorously from its residual; hence `lambda_min >= -t - c - ||rad||_inf`.

    Args:
        H: (n, n), read below and on the diagonal.

    Returns:
        The bound; minus infinity where none was found, or where H is not finite.

    Raises:
        InputError: H is not a square matrix.

    Method: Rump, *Verification of positive definiteness*, BIT 46 (2006), the factor's residual bounded a posteriori.
    """
    check_environment()
    if H.mid.ndim != 2 or H.mid.shape[0] != H.mid.shape[1] or not H.mid.shape[0]:
        raise InputError(f"H: a square matrix is needed, got shape {tuple(H.mid.shape)}")
    if not bool((H.mid.isfinite() & H.rad.isfinite()).all()):
        return -math.inf
    mid, rad = (part.tril() + part.tril(-1).T for part in (H.mid, H.rad))
    scale = float(sum_up(mid.abs(), dim=1).max())
    spread = float(sum_up(rad, dim=1).max())
    estimate = float(torch.linalg.eigvalsh(mid)[0])
    if not math.isfinite(estimate) or not math.isfinite(scale):
        return -math.inf
    margin = 4.0 * mid.shape[0] * U * scale
    while margin <= 4.0 * scale:  # a poor estimate costs tightness, in steps, not the bound
        shift = margin - estimate
        deficit = cholesky_deficit(-mid, shift)
        if deficit is not None:
            return -float(add_up(add_up(shift, deficit), spread))
        margin = max(8.0 * margin, 2.0**-1000)
        if scale == 0:
            break
    return -float(add_up(scale, spread))  # Gershgorin
