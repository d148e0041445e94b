"""Enclosures of the arctangent: a proposal, and how far it is off by the sine and the cosine of it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from . import _midrad as midrad
from ._midrad import MidRad
from ._rounding import div_up, mul_up, next_down
from ._turning import range_over
from ._waves import cos, sin

HALF_PI_UP = 1.5707963267948968  # the float above pi/2
_FAR = 2.0**60


def atan(x: MidRad) -> MidRad:
    """The arctangent, which rises."""
    return range_over(x, lambda t: _at(t.mid))


def _at(x: Tensor) -> MidRad:
    """`atan a - y = atan((a cos y - sin y) / (cos y + a sin y))` for a, y >= 0, and `|atan d| <= |d|`.

    Near 0, `a - a^3/3 <= atan a <= a` is sharper.
    """
    a = x.abs().clamp(max=_FAR)
    y = torch.atan(a)  # a proposal
    s, c, exact = sin(MidRad.exact(y)), cos(MidRad.exact(y)), MidRad.exact(a)
    gap = midrad.sub(midrad.mul(exact, c), s).magnitude()
    whole = midrad.add(c, midrad.mul(exact, s)).lower()
    near = MidRad(y, torch.where((whole > 0) & (y >= 0) & (y < HALF_PI_UP), div_up(gap, whole), math.inf))
    cubed = mul_up(mul_up(mul_up(a, a), a), 1.0 / 3.0 + 2.0**-53)
    lower = torch.maximum(near.lower(), next_down(a - cubed)).clamp(min=0.0)
    upper = torch.where(x.abs() >= _FAR, HALF_PI_UP, torch.minimum(near.upper(), a)).clamp(max=HALF_PI_UP)
    lower = torch.minimum(lower, upper)
    low, high = torch.where(x < 0, -upper, lower), torch.where(x < 0, -lower, upper)
    return MidRad.from_bounds(torch.where(x.isnan(), x, low), torch.where(x.isnan(), x, high))
