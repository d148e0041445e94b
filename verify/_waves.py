"""Enclosures of sin and cos: an exact reduction by multiples of pi/2, Taylor's polynomial, extremes by counting.

Nothing is assumed of the C library.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from . import _midrad as midrad
from ._midrad import MidRad
from ._rounding import add_up, mul_up

FARTHEST = 2.0**20
"""Beyond it the values are only known to be in [-1, 1]."""

# pi/2 = HALF_PI_HIGH + HALF_PI_MIDDLE + HALF_PI_LOW + e, |e| < 2^-122; the first two have at most 32 significant bits,
# so that their products with a whole number below 2^21 are exact.
HALF_PI_HIGH = float.fromhex("0x1.921fb544p+0")
HALF_PI_MIDDLE = float.fromhex("0x1.0b4611a6p-34")
HALF_PI_LOW = float.fromhex("0x1.3198a2e037073p-69")
INVERSE_PI = float.fromhex("0x1.45f306dc9c883p-2")  # within 2^-55 of 1/pi

_SINE = [(-1.0) ** n / math.factorial(2 * n + 1) for n in range(10)]
_COSINE = [(-1.0) ** n / math.factorial(2 * n) for n in range(11)]
_TAIL = 2.0**-65
"""Taylor's remainder for |r| <= 1: of sin after r^19 below 1/21! < 2^-65, of cos after r^20 below 1/22! < 2^-69."""


def sin(x: MidRad) -> MidRad:
    """The sine."""
    return _wave(x, 0)


def cos(x: MidRad) -> MidRad:
    """The cosine."""
    return _wave(x, 1)


def pi(like: Tensor) -> MidRad:
    """An enclosure of pi, as many times as there are entries."""
    return MidRad(torch.full_like(like, math.pi), torch.full_like(like, 2.0**-52))


def _wave(x: MidRad, quarters: int) -> MidRad:
    """`sin(x + quarters pi/2)`: the hull of the values at the ends, and of the extremes between them."""
    if x.is_exact():
        return _at(x.mid, quarters)
    ends = torch.stack([x.lower(), x.upper()])
    values = _at(ends, quarters)
    lower, upper = values.lower().amin(0), values.upper().amax(0)
    troughs, peaks = _extremes(ends, quarters)
    lower, upper = torch.where(troughs, -1.0, lower), torch.where(peaks, 1.0, upper)
    known = ends.isfinite().all(dim=0)
    lower, upper = torch.where(known, lower, -1.0), torch.where(known, upper, 1.0)
    nowhere = ~x.mid.isfinite() | x.rad.isnan()
    return MidRad.from_bounds(torch.where(nowhere, math.nan, lower), torch.where(nowhere, math.nan, upper))


def _extremes(ends: Tensor, quarters: int) -> tuple[Tensor, Tensor]:
    """Whether a minimum, and whether a maximum may lie between two ends.

    The extremes are where `x/pi + (quarters - 1)/2` is whole: maxima at even, minima at odd numbers.
    """
    inverse = MidRad(torch.full_like(ends, INVERSE_PI), torch.full_like(ends, 2.0**-55))
    turns = midrad.mul(MidRad.exact(ends), inverse)
    turns = midrad.add(turns, MidRad.exact(torch.full_like(ends, (quarters - 1) / 2)))
    first, last = turns.lower()[0].ceil(), turns.upper()[1].floor()
    # Whole numbers beyond 2^53 are all even: there, as wherever two may be met, both kinds are.
    both = ~(last - first < 1) | (last.abs() >= 2.0**52) | (first.abs() >= 2.0**52)
    one = first == last
    odd = first.remainder(2.0) == 1
    return both | (one & odd), both | (one & ~odd)


def _at(x: Tensor, quarters: int) -> MidRad:
    """`sin(x + quarters pi/2)` at points; NaN where x is not finite."""
    near = x.abs() <= FARTHEST
    inner = torch.where(near, x, 0.0)
    k = torch.round(inner / HALF_PI_HIGH)
    r, turned = _reduced(inner, k), (k + quarters).remainder(4.0)
    value = midrad.where(turned.remainder(2.0) == 0, _sine(r), _cosine(r))
    value = midrad.where(turned >= 2, midrad.neg(value), value)
    lower = torch.where(near, value.lower().clamp(min=-1.0), -1.0)
    upper = torch.where(near, value.upper().clamp(max=1.0), 1.0)
    lower, upper = (torch.where(x == 0, float(quarters), end) for end in (lower, upper))  # sin 0 = 0, cos 0 = 1
    nan = torch.full_like(x, math.nan)
    return MidRad.from_bounds(torch.where(x.isfinite(), lower, nan), torch.where(x.isfinite(), upper, nan))


def _reduced(x: Tensor, k: Tensor) -> MidRad:
    """`x - k pi/2`, for whole |k| <= 2^20: k times the two leading parts is exact, the rest is enclosed."""
    low = MidRad(torch.full_like(x, HALF_PI_LOW), torch.full_like(x, 2.0**-120))
    r = midrad.sub(MidRad.exact(x), MidRad.exact(k * HALF_PI_HIGH))
    r = midrad.sub(r, MidRad.exact(k * HALF_PI_MIDDLE))
    r = midrad.sub(r, midrad.mul(MidRad.exact(k), low))
    return midrad.where(k == 0, MidRad.exact(x), r)


def _sine(r: MidRad) -> MidRad:
    point = MidRad.exact(r.mid)
    return _closed(r, midrad.mul(point, _series(_SINE, midrad.mul(point, point))))


def _cosine(r: MidRad) -> MidRad:
    point = MidRad.exact(r.mid)
    return _closed(r, _series(_COSINE, midrad.mul(point, point)))


def _closed(r: MidRad, polynomial: MidRad) -> MidRad:
    """The function from its polynomial at the midpoint: the remainder, and the radius times its slope 1."""
    rad = add_up(add_up(polynomial.rad, r.rad), _TAIL)
    return MidRad(polynomial.mid, torch.where(r.mid.abs() <= 1.0, rad, math.inf))


def _series(coefficients: list[float], z: MidRad) -> MidRad:
    """Horner's rule; the coefficients are rounded once each."""
    total = _coefficient(coefficients[-1], z.mid)
    for value in reversed(coefficients[:-1]):
        total = midrad.add(midrad.mul(total, z), _coefficient(value, z.mid))
    return total


def _coefficient(value: float, like: Tensor) -> MidRad:
    mid = torch.full_like(like, value)
    return MidRad(mid, mul_up(mid.abs(), 0.0 if abs(value) == 1.0 else 2.0**-52))
