"""Softmax over groups of n entries: its values over boxes and everywhere, and ranges of its derivatives.

`p_i = exp(x_i) / sum_j exp(x_j)` has the derivative `J = diag(p) - p p^T`, symmetric and positive semidefinite, with
`J 1 = 0`. Its row sums of moduli are `2 p_i (1 - p_i) <= 1/2`, and `J <= diag(p)`, so that

    ||J||_2 <= min(max_i p_i, max_i 2 p_i (1 - p_i)).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from . import _midrad as midrad
from ._elementary import exp
from ._midrad import MidRad
from ._rounding import add_down, add_up, div_down, div_up, mul_up, row_lengths_up, sub_down, sub_up, sum_up


@dataclass(frozen=True, eq=False)
class SoftmaxSlopes:
    """Every `J = diag(p) - p p^T` with p in its range and in the simplex, group by group.

    An average of such matrices is in each of the convex sets that are given here.

    Attributes:
        value: the range of p, (groups, n).
    """

    value: MidRad

    @property
    def middle(self) -> SoftmaxSlopes:
        """That with p in the middle of its range."""
        return SoftmaxSlopes(MidRad.exact(self.value.mid))

    @property
    def deviation(self) -> Tensor:
        """Bound of `||J - J_mid||_2` for each group, (groups, 1).

        It is `diag(p - m)` and `p p^T - m m^T = (p - m) p^T + m (p - m)^T`.
        """
        apart, sizes = self.value.rad, add_up(row_lengths_up(self.value.mid), row_lengths_up(self.value.upper()))
        return add_up(apart.amax(dim=1, keepdim=True), mul_up(row_lengths_up(apart), sizes))

    @property
    def gain(self) -> Tensor:
        """Bound of ||J||_2 for each group, (groups, 1)."""
        rows = mul_up(largest_variance(self.value), 2.0)
        return torch.minimum(self.value.upper(), rows).amax(dim=1, keepdim=True).clamp(max=0.5)

    def magnitude_times(self, x: Tensor) -> Tensor:
        """Upper bound of `|J| x` for x >= 0, (groups, n); J is symmetric, so of `|J|^T x` too.

        `sum over j != i of p_j x_j` is at most the weighted sum with the largest p, and `(1 - p_i) max x`.
        """
        variance, high = largest_variance(self.value), self.value.upper()
        weighted = mul_up(high, sum_up(mul_up(high, x), dim=1, keepdim=True))
        most = mul_up(variance, x.amax(dim=1, keepdim=True))
        return add_up(mul_up(variance, x), torch.minimum(weighted, most))

    def columns(self, x: MidRad) -> MidRad:
        """Enclosure of `J x = p (x - p^T x)`, column by column: x of shape (groups, n, columns).

        `J 1 = 0`: what is taken from each column beforehand does not change the result.
        """
        near = midrad.sub(x, MidRad.exact(x.mid.mean(dim=1, keepdim=True)))
        average = midrad.matmul(self.value.apply_exact(lambda t: t[:, None, :]), near)
        return midrad.mul(self.value.apply_exact(lambda t: t[..., None]), midrad.sub(near, average))


def softmax_slopes(groups: int, size: int) -> SoftmaxSlopes:
    """The ranges over all real x."""
    whole = torch.full((groups, size), 0.5, dtype=torch.float64)
    if size == 1:
        return SoftmaxSlopes(MidRad.exact(2 * whole))
    return SoftmaxSlopes(MidRad(whole, whole.clone()))


def softmax_over(x: MidRad) -> SoftmaxSlopes:
    """The ranges over a box, (groups, n): p_i is largest where x_i is and the others are least.

    An entry that is minus infinity gives 0 and counts for nothing. Beside plus infinity or NaN, and where
    every entry is minus infinity, there is no softmax: the range is not finite.
    """
    masked = (x.mid == -math.inf) & x.rad.isfinite()
    undefined = ((x.mid == math.inf) | x.mid.isnan() | x.rad.isnan()).any(dim=1, keepdim=True)
    undefined = undefined | masked.all(dim=1, keepdim=True)
    known = (masked | (x.mid.isfinite() & x.rad.isfinite())).all(dim=1, keepdim=True)
    shift = _shift(x, masked | ~known)
    x = MidRad(torch.where(known & ~masked, x.mid, shift), torch.where(known & ~masked, x.rad, 0.0))
    low, high = (midrad.sub(MidRad.exact(end), MidRad.exact(shift)) for end in (x.lower(), x.upper()))
    small, large = (_without(exp(end), masked) for end in (low, high))
    least = sub_down(_sum_down(small.lower().clamp(min=0)), small.upper()).clamp(min=0)
    most = sub_up(sum_up(large.upper(), dim=1, keepdim=True), large.lower().clamp(min=0))
    upper = div_up(1.0, add_down(1.0, div_down(least, large.upper())))
    lower = div_down(1.0, add_up(1.0, div_up(most, small.lower().clamp(min=0))))
    upper = torch.where(known & upper.isfinite(), upper, 1.0).clamp(0.0, 1.0)
    lower = torch.where(known & lower.isfinite(), lower, 0.0).clamp(0.0, 1.0)
    upper, lower = upper.masked_fill(masked, 0.0), lower.masked_fill(masked, 0.0)
    if x.shape[1] == 1:
        lower, upper = torch.ones_like(lower), torch.ones_like(upper)
    found = MidRad.from_bounds(torch.minimum(lower, upper), upper)
    return SoftmaxSlopes(MidRad(found.mid, torch.where(undefined, math.inf, found.rad)))


def _without(x: MidRad, masked: Tensor) -> MidRad:
    """Exactly 0 where masked."""
    return MidRad(x.mid.masked_fill(masked, 0.0), x.rad.masked_fill(masked, 0.0))


def _shift(x: MidRad, left_out: Tensor) -> Tensor:
    """About the largest entry of each group: exponentials stay near 1."""
    found = x.mid.masked_fill(left_out, -math.inf).amax(dim=1, keepdim=True)
    return torch.where(found.isfinite(), found, 0.0)


def _sum_down(x: Tensor) -> Tensor:
    """Lower bound of the sum along dimension 1 of numbers >= 0, (groups, 1); 0 where it is not finite."""
    total = midrad.sum_(MidRad.exact(x), (1,), True).lower()
    return torch.where(total.isfinite(), total, 0.0).clamp(min=0)


def largest_variance(p: MidRad) -> Tensor:
    """Upper bound of `p (1 - p)` over the range, for each entry."""
    low, high = p.lower().clamp(0.0, 1.0), p.upper().clamp(0.0, 1.0)
    nearest = torch.minimum(torch.maximum(low, torch.full_like(low, 0.5)), high)
    return mul_up(nearest, sub_up(1.0, nearest))
