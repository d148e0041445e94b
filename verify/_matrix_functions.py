"""Enclosures of the exponential and of the largest singular value of constant matrices."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from . import _midrad as midrad
from ._midrad import MidRad
from ._rounding import div_down, mul_down, sqrt_down, sqrt_up, sub_down, sum_of_squares_up
from ._spectral import inf_norm_bound, spectral_norm_bound

TERMS = 16
"""Of the exponential's series, for arguments of norm 1/2 at most."""
REMAINDER = 2.0 * 0.5 ** (TERMS + 1) / math.factorial(TERMS + 1) * (1 + 1e-9)
"""Bound of what is left of it: a term is at most 1/36 of the one before."""
MOST_SQUARINGS = 60


def enclosed_exponential(matrices: MidRad) -> MidRad | None:
    """`exp(A)` for every A in the enclosure, (*batch, n, n); None where one is not finite or of norm 2^59 and more.

    `exp(A) = exp(A / 2^s)^(2^s)` with `||A / 2^s||_inf <= 1/2`: the remainder of the series is a matrix of linf norm
    REMAINDER at most, and so are its entries.
    """
    found = [_exponential(one) for one in _separate(matrices)]
    known = [one for one in found if one is not None]
    return None if len(known) < len(found) else _together(known, matrices, matrices.shape[-2:])


def enclosed_spectral_norm(matrices: MidRad) -> MidRad:
    """`||A||_2` for every A in the enclosure, (*batch, m, n), as (*batch).

    From above by the bound that certificates rest on, from below by `||A v|| / ||v||` for a v that LAPACK proposes.
    """
    return _together([_spectral_norm(one) for one in _separate(matrices)], matrices, ())


def _separate(matrices: MidRad) -> list[MidRad]:
    flat = matrices.apply_exact(lambda t: t.reshape(-1, *matrices.shape[-2:]))
    return [MidRad(mid, rad) for mid, rad in zip(flat.mid, flat.rad, strict=True)]


def _together(parts: list[MidRad], matrices: MidRad, size: tuple[int, ...]) -> MidRad:
    """One result of this size for each matrix of the batch."""
    none = torch.zeros(0, *size, dtype=torch.float64)
    mid, rad = (torch.stack([getattr(part, name) for part in parts]) if parts else none for name in ("mid", "rad"))
    shape = (*matrices.shape[:-2], *size)
    return MidRad(mid.reshape(shape), rad.reshape(shape))


def _exponential(A: MidRad) -> MidRad | None:
    norm = inf_norm_bound(A) if A.is_finite() else math.inf
    squarings = max(0, math.frexp(norm)[1] + 1) if math.isfinite(norm) else MOST_SQUARINGS + 1
    if squarings > MOST_SQUARINGS:
        return None
    eye = MidRad.exact(torch.eye(A.mid.shape[0], dtype=torch.float64))
    small = midrad.mul(A, _number(0.5**squarings))
    result = eye
    for k in range(TERMS, 0, -1):
        result = midrad.add(eye, midrad.div(midrad.matmul(small, result), _number(float(k))))
    result = midrad.add(result, MidRad(torch.zeros_like(eye.mid), torch.full_like(eye.mid, REMAINDER)))
    for _ in range(squarings):
        result = midrad.matmul(result, result)
    return result if result.is_finite() else None


def _number(value: float) -> MidRad:
    return MidRad.exact(torch.tensor(value, dtype=torch.float64))


def _spectral_norm(A: MidRad) -> MidRad:
    if not A.is_finite():
        return MidRad(*[torch.full((), math.nan, dtype=torch.float64)] * 2)
    scale = 2.0 ** min(max(math.frexp(float(A.magnitude().max()))[1], -1000), 1000)  # squares stay within the range
    near = midrad.mul(A, _number(1 / scale))
    upper = torch.tensor(spectral_norm_bound(near).upper, dtype=torch.float64)
    lower = torch.minimum(_gain_of_one_vector(near), upper)
    return midrad.mul(MidRad.from_bounds(lower, upper), _number(scale))


def _gain_of_one_vector(A: MidRad) -> Tensor:
    """A lower bound of `||A v|| / ||v||`, at most `||A||_2`; 0 where LAPACK proposes no v."""
    v = torch.linalg.svd(A.mid, full_matrices=False)[2][0]
    length = sqrt_up(sum_of_squares_up(v))
    if not bool(length.isfinite() & (length > 0)):
        return torch.zeros((), dtype=torch.float64)
    image = midrad.matmul(A, MidRad.exact(v[:, None]))
    least = sub_down(image.mid.abs(), image.rad).clamp(min=0.0)
    squares = mul_down(least, least).clamp(min=0.0)
    # Each of n - 1 additions is off by a relative 2^-53 at most, as none of the terms is negative.
    total = mul_down(squares.sum(), 1 - squares.numel() * 2.0**-52)
    return div_down(sqrt_down(total.clamp(min=0.0)), length)
