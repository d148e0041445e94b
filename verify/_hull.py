"""The narrowest intervals that hold all products and quotients of numbers of two intervals.

`_midrad.mul` and `_midrad.div` stay around the product of the midpoints, as matrices need it; where both factors are
wide, that is wider: the products of [1, 5] with itself fill [1, 25], not [-7, 25].
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from . import _midrad as midrad
from ._midrad import MidRad
from ._rounding import div_down, div_up, mul_down, mul_up

_Bound = Callable[[Tensor, Tensor], Tensor]


def mul(a: MidRad, b: MidRad) -> MidRad:
    """All products."""
    if a.is_exact() or b.is_exact():
        return midrad.mul(a, b)
    return _known(_corners(a, b, mul_down, mul_up), midrad.mul(a, b))


def div(a: MidRad, b: MidRad) -> MidRad:
    """All quotients; the whole line where the divisor may be 0."""
    centred = midrad.div(a, b)
    if b.is_exact():
        return centred
    found = _known(_corners(a, b, div_down, div_up), centred)
    return midrad.where(b.mignitude() > 0, found, centred)


def square(x: MidRad) -> MidRad:
    """All products of two numbers of the interval, each with any other."""
    return mul(x, x)


def _corners(a: MidRad, b: MidRad, down: _Bound, up: _Bound) -> MidRad:
    pairs = [(x, y) for x in (a.lower(), a.upper()) for y in (b.lower(), b.upper())]
    least = torch.stack([down(x, y) for x, y in pairs]).amin(dim=0)
    return MidRad.from_bounds(least, torch.stack([up(x, y) for x, y in pairs]).amax(dim=0))


def _known(narrow: MidRad, wide: MidRad) -> MidRad:
    """The narrow intervals where they are numbers."""
    return midrad.where(narrow.mid.isfinite() & narrow.rad.isfinite(), narrow, wide)
