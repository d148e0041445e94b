"""The largest ball around a point on which a theorem holds, within a bounded number of attempts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from deqops._errors import UnsupportedOperationError

from ._norm import Norm
from ._region import Ball
from ._theorems import Finding
from ._watch import Watch

ATTEMPTS = 10
"""Balls that are tried for one theorem in one norm, at most."""

_NEAR = 1.1  # radii this close count as one
_KEPT = 0.1  # of the room that 1 - q has at the centre: the rest is given away for a larger ball
_READABLE = 4.0  # a constant above this says little about where it is 1
_WIDEST = 2.0**10  # of the scale: a larger ball is not looked for
_OUTWARDS = 4.0


@dataclass(frozen=True)
class Trial:
    """A local theorem in one norm.

    Attributes:
        attempt: the finding for a ball.
        constant: which of its numbers has to be below 1 and grows with the ball.
        moved: how far the theorem's map moves the centre, in the ball's norm; the least radius is `moved / (1 - q)`.
    """

    attempt: Callable[[Ball], Finding]
    constant: str
    moved: Callable[[Finding], float]

    def q(self, found: Finding) -> float:
        """The constant, infinite where there is none."""
        value = found.evidence.numbers[self.constant]
        return math.inf if math.isnan(value) else value

    def least(self, center: tuple[Tensor, ...], radius: float) -> Finding:
        """The finding on a small ball, or on one with room for how far the centre moves."""
        found = self.attempt(Ball(center, radius))
        q = self.q(found)
        wanted = 2 * self.moved(found) / (1 - q) if q < 1 else math.inf
        if found.holds or not radius < wanted < math.inf:
            return found
        return self.attempt(Ball(center, wanted))


def largest_ball(trial: Trial, least: Finding, scale: float, watch: Watch, beyond: float = 0.0) -> Finding:
    """The finding with about the largest radius for which the theorem holds, `least` where no larger one was found.

    Slopes only widen with the radius, so the constant q only grows. The radius looked for is the one where 1 - q has
    shrunk to a tenth of what it is on the least ball (a few percent more of radius would cost the error bounds all),
    by bisection and interpolation.

    Args:
        trial: the theorem.
        least: a finding that holds, in a ball.
        scale: of the point's entries; the radius that is tried first.
        watch: asked before each attempt.
        beyond: a smaller radius is of no use: it is tried first, and where it fails the search is over.
    """
    center, low = _ball(least)
    best, high, q_low, q_high = least, math.inf, trial.q(least), math.inf
    target = 1 - _KEPT * (1 - q_low)
    radius = beyond or scale
    for number in range(ATTEMPTS):
        if watch.spent or not low < radius <= _WIDEST * scale:
            break
        found = _tried(trial, Ball(center, radius), watch)
        q = math.inf if found is None else trial.q(found)
        if found is not None and found.holds and q <= target:
            best, low, q_low = found, radius, q
        else:
            high, q_high = radius, q
        if high <= max(_NEAR * low, beyond):
            break
        radius = _between((low, q_low), (high, q_high), target, bisect=number % 2 == 1)
    return best


def _tried(trial: Trial, ball: Ball, watch: Watch) -> Finding | None:
    """The finding; None where an operation has no bound on so large a ball, as a root that it takes below 0."""
    try:
        found = trial.attempt(ball)
    except UnsupportedOperationError as error:
        watch.tell(f"{ball.describe()}: {error}")
        return None
    watch.tell(found.describe())
    return found


def _between(low: tuple[float, float], high: tuple[float, float], target: float, *, bisect: bool) -> float:
    """The next radius: farther out, where q is interpolated to the target, or half way in the logarithm."""
    if math.isinf(high[0]):
        return _OUTWARDS * low[0]
    middle = math.sqrt(low[0]) * math.sqrt(high[0])
    if bisect or not low[1] < high[1] <= _READABLE:
        return middle
    share = 0.98 * (target - low[1]) / (high[1] - low[1])
    met = low[0] + share * (high[0] - low[0])
    return min(max(met, low[0] * _NEAR), high[0] / _NEAR)


def inner_radius(norm: Norm, radius: float, size: int) -> float:
    """About the radius of the largest l2 ball inside a ball of a norm: what balls of several norms are compared by."""
    largest = 1.0 if norm.weights is None else max(float(w.max()) for w in norm.weights if w.numel())
    return radius / largest / (math.sqrt(size) if norm.order == "l1" else 1.0)


def _ball(found: Finding) -> tuple[tuple[Tensor, ...], float]:
    region = found.region
    if not isinstance(region, Ball):
        raise TypeError(f"a finding {found.region.describe()}, where a ball was tried")
    return region.leaves, region.radius
