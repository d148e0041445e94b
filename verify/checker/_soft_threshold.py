"""Soft thresholding, `sign(x) max(|x| - t, 0) = max(x - t, 0) - max(-x - t, 0)` for t >= 0."""

from __future__ import annotations

from flint import arb

from deqops.graph import Node

from . import _arithmetic as ball
from ._interval import Interval, between
from ._refusal import Rejected


def soft_threshold(node: Node, x: ball.Balls, thresholds: ball.Balls) -> ball.Balls:
    """The values of enclosed ones."""
    require_thresholds(node, thresholds)
    return ball.each(lambda a, b: (a - b).max(arb(0)) - (-a - b).max(arb(0)), x, thresholds)


def soft_threshold_range(node: Node, x: Interval, thresholds: ball.Balls) -> Interval:
    """The interval of its values, which grow with x."""
    low, high = (soft_threshold(node, end, thresholds) for end in x.ends)
    return between(low, high)


def require_thresholds(node: Node, thresholds: ball.Balls) -> None:
    """Refuse a threshold that may be negative: the function jumps there."""
    if not bool(ball.each(lambda t: bool(t >= 0), thresholds).all()):
        raise Rejected(f"{node.source}: a threshold may be negative")
