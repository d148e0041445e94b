"""The largest ball of a list on which a theorem holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ._region import Ball

if TYPE_CHECKING:
    from ._theorems import Finding


def largest_ball(least: Finding, radii: Sequence[float], attempt: Callable[[Ball], Finding]) -> Finding:
    """The finding with the largest radius that holds, by bisection: slopes only widen with the radius.

    Args:
        least: a finding that holds, in a ball.
        radii: candidates, the largest first; those below the ball of `least` are left out.
        attempt: the finding for a ball.
    """
    region = least.region
    if not isinstance(region, Ball):
        return least
    candidates = [radius for radius in radii if radius > region.radius]
    best, first, last = least, 0, len(candidates)  # those from `last` on hold or are worse than `best`
    while first < last:
        middle = (first + last) // 2
        found = attempt(Ball(region.center, candidates[middle]))
        if found.holds:
            best, last = found, middle
        else:
            first = middle + 1
    return best
