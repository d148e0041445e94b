"""Ranges of functions that turn at a few known points: the hull of values at both ends and at the turns between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ._midrad import MidRad


@dataclass(frozen=True)
class Turn:
    """Where a function has an extreme: between `at`'s two numbers, with a value between `value`'s two."""

    at: tuple[float, float]
    value: tuple[float, float]


@dataclass(frozen=True)
class Shape:
    """The turns of a function and of its derivative; between neighbouring ones each is monotone."""

    function: tuple[Turn, ...]
    derivative: tuple[Turn, ...]


def range_over(x: MidRad, point: Callable[[MidRad], MidRad], turns: tuple[Turn, ...] = ()) -> MidRad:
    """The range of a function over intervals.

    Args:
        x: the intervals.
        point: encloses the function at points, entry by entry.
        turns: all of them; the function is monotone between neighbouring ones.
    """
    if x.is_exact():
        return point(x)
    low, high = x.lower(), x.upper()
    ends = point(MidRad.exact(torch.stack([low, high])))
    least, most = ends.lower().amin(dim=0), ends.upper().amax(dim=0)
    for turn in turns:
        met = (low <= turn.at[1]) & (high >= turn.at[0])
        least = torch.where(met, least.clamp(max=turn.value[0]), least)
        most = torch.where(met, most.clamp(min=turn.value[1]), most)
    return MidRad.from_bounds(least, most)


# Each derivative d below falls, rises and falls: d' is a positive function times 2 - x tanh(x/2) (SiLU), 2 - x^2
# (GELU), 1 + s - x u' tanh u, s = 3 a x^2 / (1 + 3 a x^2) in [0, 1) (its tanh form, u = sqrt(2/pi) (x + a x^3)), and
# 2 + x (1 - sigmoid x - 2 sigmoid x tanh softplus x) (Mish). So d, which comes from 0 and goes to 1, has one root
# between its extremes, where the function turns. The numbers are neighbours of the extremes in binary64.
SHAPES: dict[str, Shape] = {
    "silu": Shape(
        (Turn((-1.278464542761074, -1.2784645427610737), (-0.2784645427610738, -0.27846454276107374)),),
        (
            Turn((-2.399357280515468, -2.3993572805154675), (-0.09983932012886693, -0.09983932012886691)),
            Turn((2.3993572805154675, 2.399357280515468), (1.0998393201288668, 1.099839320128867)),
        ),
    ),
    "gelu": Shape(
        (Turn((-0.7517915246935645, -0.7517915246935644), (-0.16997120747990369, -0.16997120747990366)),),
        (
            Turn((-1.4142135623730951, -1.414213562373095), (-0.1289041451851548, -0.12890414518515478)),
            Turn((1.414213562373095, 1.4142135623730951), (1.1289041451851547, 1.128904145185155)),
        ),
    ),
    "gelu tanh": Shape(
        (Turn((-0.7524614220710163, -0.7524614220710162), (-0.17004075057125406, -0.17004075057125403)),),
        (
            Turn((-1.4185040087908285, -1.4185040087908283), (-0.12899306865877178, -0.12899306865877175)),
            Turn((1.4185040087908283, 1.4185040087908285), (1.1289930686587717, 1.128993068658772)),
        ),
    ),
    "mish": Shape(
        (Turn((-1.1924312145154954, -1.1924312145154952), (-0.30884341301725043, -0.3088434130172504)),),
        (
            Turn((-2.2563763963607935, -2.256376396360793), (-0.11252612238946257, -0.11252612238946255)),
            Turn((1.4905711794854284, 1.4905711794854286), (1.0884981612517277, 1.088498161251728)),
        ),
    ),
    "hardswish": Shape((Turn((-1.5, -1.5), (-0.375, -0.375)),), ()),
}
