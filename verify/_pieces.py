"""An elementwise function over an interval, piece by piece: lines beside it and beside its derivative.

On each of `PIECES` pieces of the interval `slope_range` bounds all slopes. From these bounds alone follow enclosures of
`s(c + d) - s(c) - b d` and of `s'(c + d) - b d` over all d of the interval, exact up to the pieces' width. Where s has
a kink the slopes of both its sides are among a piece's slopes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ._jacobian import Function
from ._midrad import MidRad
from ._rounding import add_down, add_up, gamma, mul_down, mul_up, sub_down, sub_up, sum_up
from ._slopes import slope_range

PIECES = 128
_INWARDS = 0.02
_THIRDS = 32  # steps of a search for the steepness of a line; each leaves two thirds


@dataclass(frozen=True, eq=False)
class Pieces:
    """Knots `d_0 <= .. <= d_K`, (K + 1, *shape), and bounds of the slopes between neighbours, (K, *shape)."""

    knots: Tensor
    lower: Tensor
    upper: Tensor

    @property
    def widths(self) -> Tensor:
        """About `d_(k+1) - d_k`."""
        return self.knots[1:] - self.knots[:-1]


def pieces(function: Function, center: MidRad, low: Tensor, high: Tensor) -> Pieces:
    """The slopes of s at `center + d`, for every d from `low` to `high`, entry by entry."""
    share = torch.linspace(0.0, 1.0, PIECES + 1, dtype=torch.float64).reshape(-1, *(1,) * low.ndim)
    knots = torch.maximum(low, torch.minimum(low + (high - low) * share, high)).cummax(dim=0).values
    knots[0], knots[-1] = low, high
    at = MidRad.from_bounds(add_down(center.lower(), knots[:-1]), add_up(center.upper(), knots[1:]))
    lower, upper = (torch.as_tensor(end).expand(at.shape) for end in _slopes(function, at))
    return Pieces(knots, lower, upper)


def _slopes(function: Function, at: MidRad) -> tuple[Tensor | float, Tensor | float]:
    return slope_range(function.operation, function.attributes, at)


# ------------------------------------------------------------------------------------------- beside the function


def chord(function: Function, center: MidRad, low: Tensor, high: Tensor) -> tuple[Tensor, MidRad]:
    """(b, e) with `s(c + d) - s(c) - b d` in e for every d from `low` to `high` and every c in `center`.

    Slopes times widths are summed from d = 0 to either side; b is about the mean slope.
    """
    zero = torch.zeros_like(low)
    left = pieces(function, center, torch.minimum(low, zero), zero)
    right = pieces(function, center, zero, torch.maximum(high, zero))
    b = _mean_slope(left, right)
    up = _sums(sub_down(right.lower, b), sub_up(right.upper, b), right.knots)
    down = _sums(sub_down(b, left.upper).flip(0), sub_up(b, left.lower).flip(0), left.knots.flip(0).neg())
    return b, MidRad.from_bounds(torch.minimum(up[0], down[0]), torch.maximum(up[1], down[1]))


def _mean_slope(left: Pieces, right: Pieces) -> Tensor:
    widths = torch.cat([left.widths, right.widths])
    slopes = torch.cat([left.lower / 2 + left.upper / 2, right.lower / 2 + right.upper / 2])
    total = widths.sum(dim=0)
    return torch.where(total > 0, (slopes * widths).sum(dim=0) / total, slopes[0])


def _sums(lower: Tensor, upper: Tensor, knots: Tensor) -> tuple[Tensor, Tensor]:
    """Bounds of the sum of slopes times widths up to any point, the slopes from `lower` to `upper` on each piece."""
    narrow, wide = sub_down(knots[1:], knots[:-1]).clamp(min=0), sub_up(knots[1:], knots[:-1])
    rise = mul_up(upper, torch.where(upper > 0, wide, narrow))
    fall = mul_down(lower, torch.where(lower < 0, wide, narrow))
    lowest = _before(fall) + torch.minimum(fall, torch.zeros_like(fall))
    highest = _before(rise) + torch.maximum(rise, torch.zeros_like(rise))
    error = [mul_up(sum_up(part.abs(), dim=0), 2 * gamma(PIECES + 2)) for part in (fall, rise)]
    return (
        sub_down(lowest.amin(dim=0).clamp(max=0), error[0]),
        add_up(highest.amax(dim=0).clamp(min=0), error[1]),
    )


def _before(x: Tensor) -> Tensor:
    """Sums of all pieces before each."""
    return torch.cat([torch.zeros_like(x[:1]), x[:-1].cumsum(dim=0)])


# ----------------------------------------------------------------------------------------- beside the derivative


def line(own: Pieces, touching: Tensor, above: Tensor) -> tuple[Tensor, MidRad]:
    """(b, e) with `s'(c + d) - b d` in e for every d of the interval and every c of its centre.

    Args:
        own: the pieces of s over the interval.
        touching: the d at which the line is wanted as near as may be to all slopes from one side.
        above: that side, entry by entry.
    """
    b = _steepness(own, touching, above)
    products = [(mul_down(b, knot), mul_up(b, knot)) for knot in (own.knots[:-1], own.knots[1:])]
    least, most = torch.minimum(products[0][0], products[1][0]), torch.maximum(products[0][1], products[1][1])
    return b, MidRad.from_bounds(sub_down(own.lower, most).amin(dim=0), sub_up(own.upper, least).amax(dim=0))


def _steepness(own: Pieces, touching: Tensor, above: Tensor) -> Tensor:
    """The b for which the lowest line `a + b d` above all slopes (below: the highest) is nearest at `touching`.

    A little further in, that is: at an end of the interval any steep line would do.
    """
    sign = torch.where(above, 1.0, -1.0).to(torch.float64)
    top = torch.where(above, own.upper, -own.lower)
    spread = top.amax(dim=0) - top.amin(dim=0)
    width = (own.knots[-1] - own.knots[0]).clamp(min=1e-300)
    end = torch.where(spread > 0, 2 * PIECES * spread / width, torch.zeros_like(spread))
    touching = touching + _INWARDS * (own.knots[0] / 2 + own.knots[-1] / 2 - touching)
    left, right = -end, end
    for _ in range(_THIRDS):
        third = (right - left) / 3
        lower = _height(own, top, left + third, touching) < _height(own, top, right - third, touching)
        left, right = torch.where(lower, left, left + third), torch.where(lower, right - third, right)
    b = sign * (left + right) / 2
    return torch.where(b.isfinite(), b, torch.zeros_like(b))


def _height(own: Pieces, top: Tensor, b: Tensor, touching: Tensor) -> Tensor:
    """At `touching`, of the lowest line of steepness b that is above `top`: convex in b."""
    least = torch.minimum(b * own.knots[:-1], b * own.knots[1:])
    return (top - least).amax(dim=0) + b * touching


def slopes_at(function: Function, center: MidRad, d: Tensor) -> Tensor:
    """About the derivative at `center + d`."""
    lower, upper = _slopes(function, MidRad.exact(center.mid + d))
    return (torch.as_tensor(lower) / 2 + torch.as_tensor(upper) / 2).expand(d.shape)
