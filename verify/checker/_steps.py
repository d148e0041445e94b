"""Functions that jump and are flat in between: sign, floor, ceil and round."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flint import arb

from . import _arithmetic as ball


def _round(x: Any) -> Any:
    """The nearest integer of an exact number, the even one of two."""
    above = (x + arb(1) / 2).floor()
    if not above.is_exact():
        return above.union(above - 1)
    tied = bool(above - x == arb(1) / 2) and not (above / 2).is_integer()
    return above - 1 if tied else above


STEPS: dict[str, Callable[[Any], Any]] = {
    "sign": lambda x: x.sgn(),
    "floor": lambda x: x.floor(),
    "ceil": lambda x: x.ceil(),
    "round": _round,
}


def step(op: str, low: ball.Balls, high: ball.Balls) -> ball.Balls:
    """Entry by entry the ball around the values at two ends, between which the function rises."""
    rise = STEPS[op]
    return ball.each(lambda a, b: rise(a.lower()).union(rise(b.upper())), low, high)
