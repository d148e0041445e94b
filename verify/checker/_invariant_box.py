"""Whether G maps a box into itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from flint import arb

from . import _arithmetic as ball
from ._boxes import image
from ._document import Box
from ._gains import forward
from ._interval import Interval, between
from ._local import ends_of, moved
from ._network import Walk
from ._refusal import Rejected
from ._subject import Subject
from ._values import Values


def require_kept(subject: Subject, constants: Values, region: Box, walk: Walk, claimed: float) -> str:
    """G(y) leaves the box nowhere, by at most `claimed` <= 0.

    Args:
        subject: the operator.
        constants: its state-independent values.
        region: the box, of the state's shapes.
        walk: with slopes that hold on it.
        claimed: the certificate's bound of how far G(y) is outside, entry by entry.

    Raises:
        Rejected: that is not shown.
    """
    if not claimed <= 0:
        raise Rejected(f"evidence: G may leave the box by {claimed!r}; it is not mapped into itself")
    box = [between(*ends) for ends in ends_of(region)]
    images = [_around_middle(subject, constants, walk, box), _direct(subject, constants, box)]
    worst = arb(-1)
    for number, (low, high) in enumerate(ends_of(region)):
        parts = [found[number] for found in images]
        outside = [_outside(part, low, high) for part in parts if part is not None]
        entries = [min_of(several) for several in zip(*(part.reshape(-1) for part in outside), strict=True)]
        for entry in entries:
            if not bool(entry <= arb(claimed)):
                raise Rejected(f"evidence: G(y) is only known to be within {float(entry)!r} of the box, not inside")
        worst = max([worst, *entries], key=float)
    return f"G maps the box into itself, its values are inside by at least {float(-worst)!r}"


def _outside(part: Interval, low: ball.Balls, high: ball.Balls) -> ball.Balls:
    """Upper bounds of how far the values are below the lower or above the upper end."""
    first, last = (np.broadcast_to(end, low.shape) for end in part.ends)
    return ball.each(_larger, ball.array(low - first), ball.array(last - high))


def _larger(a: Any, b: Any) -> Any:
    """The larger of two numbers' upper ends; no number where one is none."""
    return a.upper().max(b.upper()) if a.is_finite() and b.is_finite() else arb.nan()


def min_of(bounds: tuple[Any, ...]) -> Any:
    """The smallest of some upper bounds that are numbers; no number where there is none."""
    finite = [bound for bound in bounds if bound.is_finite()]
    return min(finite, key=float) if finite else arb.nan()


def _around_middle(subject: Subject, constants: Values, walk: Walk, box: list[Interval]) -> list[Interval | None]:
    """`G(c) +- |M| w` for all slopes M, c the middle and w the half-widths."""
    spread = forward(walk.network.sources, walk.outputs, [part.radius for part in box])
    images = moved(subject, constants, [part.middle for part in box])
    return [Interval(g, w) for g, w in zip(images, spread, strict=True)]


def _direct(subject: Subject, constants: Values, box: list[Interval]) -> list[Interval | None]:
    """The interval image, where every operation has one."""
    try:
        return image(subject.graph, constants, [*box])
    except Rejected:
        return [None] * len(box)
