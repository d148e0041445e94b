"""Attention over the segments of an index: ranges of its weights, its values, and the slopes of its scores.

`out_i = sum over e with index_e = i of p_e v_e`, `p_e = exp(s_e - m_i) / (sum of exp(s - m_i) + epsilon)`, m_i the
segment's largest score. With delta the share of epsilon in the denominator, `0 <= delta <= epsilon`, the weights of a
segment add up to `1 - delta`, and

    d out_i = sum p_e dv_e + sum [p_e (v_e - out_i) - delta out_i w_e] ds_e,    w >= 0 of sum 1,

w the weights that the derivative of the maximum may have. `p_e (v_e - out_i)` is small where the values of a segment
are near each other, and of modulus at most `p_e (1 - p_e)` times their spread, besides delta. Differences over a convex
set are averages of derivatives, so that each bracket, and each p_e, stays in its range.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from . import _midrad as midrad
from ._elementary import exp
from ._midrad import MidRad
from ._rounding import add_down, add_up, div_down, div_up, mul_up, sub_down, sub_up
from ._softmax import largest_variance


@dataclass(frozen=True, eq=False)
class Segments:
    """Which of `size` segments each entry along dimension 0 belongs to, and the epsilon of the weights."""

    index: Tensor
    size: int
    epsilon: float

    def total(self, x: MidRad) -> MidRad:
        """The sum over each segment."""
        zero = MidRad.exact(torch.zeros(self.size, *x.shape[1:], dtype=torch.float64))
        return midrad.index_add(zero, 0, self.index, x)

    def largest(self, x: Tensor) -> Tensor:
        """The largest entry of each segment; minus infinity for an empty one."""
        start = torch.full((self.size, *x.shape[1:]), -math.inf, dtype=torch.float64)
        place = self.index.reshape(-1, *(1,) * (x.ndim - 1)).expand(x.shape)
        return start.scatter_reduce(0, place, x, "amax")

    def weights_everywhere(self, shape: tuple[int, ...]) -> MidRad:
        """The ranges of the weights for all real scores of a shape."""
        alone = (torch.bincount(self.index, minlength=self.size) == 1)[self.index].reshape(-1, *(1,) * (len(shape) - 1))
        least = torch.where(alone, div_down(1.0, add_up(1.0, self.epsilon)), 0.0).expand(shape)
        return MidRad.from_bounds(least.contiguous(), torch.ones(shape, dtype=torch.float64))

    def weights_over(self, scores: MidRad) -> MidRad:
        """The ranges of the weights over a box of scores: p_e is largest where s_e is and the others are least."""
        if not scores.is_finite():
            return self.weights_everywhere(tuple(scores.shape))
        shift = MidRad.exact(self.largest(scores.mid)[self.index])
        low, high = (midrad.sub(MidRad.exact(end), shift) for end in (scores.lower(), scores.upper()))
        small, large = exp(low).lower().clamp(min=0), exp(high).upper()
        least, most = (self.total(MidRad.exact(part)) for part in (small, large))
        least_others = sub_down(least.lower()[self.index], small).clamp(min=0)
        most_others = sub_up(most.upper()[self.index], large)
        upper = div_up(1.0, add_down(1.0, div_down(least_others, large)))
        lower = div_down(1.0, mul_up(add_up(1.0, self.epsilon), add_up(1.0, div_up(most_others, small))))
        upper = torch.where(upper.isfinite(), upper, 1.0).clamp(0.0, 1.0)
        lower = torch.where(lower.isfinite(), lower, 0.0).clamp(0.0, 1.0)
        return midrad.intersect(self.weights_everywhere(tuple(scores.shape)), torch.minimum(lower, upper), upper)

    def value(self, weights: MidRad, values: MidRad) -> MidRad:
        """The range of `out`, (size, ...), for weights of the values' rank."""
        center, near = self._centred(weights, values)
        most = self._magnitude(values)
        found = midrad.add(self.total(midrad.mul(weights, near)), MidRad.exact(center))
        lost = torch.maximum(mul_up(self.epsilon, center.abs()), mul_up(self.epsilon, most))
        lower = sub_down(-self.largest(-values.lower()), lost)
        upper = add_up(self.largest(values.upper()), lost)
        empty = lower > upper
        found = MidRad(found.mid, add_up(found.rad, lost))
        inside = midrad.intersect(found, torch.where(empty, -math.inf, lower), torch.where(empty, math.inf, upper))
        return MidRad(inside.mid.masked_fill(empty, 0.0), inside.rad.masked_fill(empty, 0.0))

    def slopes(self, weights: MidRad, values: MidRad) -> MidRad:
        """The range of what multiplies `ds_e` in each component of `d out`, of the values' shape."""
        center, near = self._centred(weights, values)
        mean = self.total(midrad.mul(weights, near)).apply_exact(lambda t: t[self.index])
        lost = mul_up(self.epsilon, torch.maximum(center.abs(), self._magnitude(values)))[self.index]
        gap = midrad.sub(near, mean)
        steep = midrad.mul(weights, MidRad(gap.mid, add_up(gap.rad, lost)))
        limit = add_up(mul_up(largest_variance(weights), self._spread(values)), lost)
        inside = midrad.intersect(steep, -limit, limit)
        return MidRad(inside.mid, add_up(inside.rad, lost))

    def _centred(self, weights: MidRad, values: MidRad) -> tuple[Tensor, MidRad]:
        """About the segments' averages, any numbers, and the values less these."""
        weight = weights.mid.expand(values.shape)
        zero = torch.zeros(self.size, *values.shape[1:], dtype=torch.float64)
        average = zero.index_add(0, self.index, weight * values.mid) / zero.index_add(0, self.index, weight)
        center = average.nan_to_num(0.0, 0.0, 0.0)
        return center, midrad.sub(values, MidRad.exact(center[self.index]))

    def _magnitude(self, values: MidRad) -> Tensor:
        """Bounds of |out|, at least those of |v| in each segment; 0 for an empty one."""
        return self.largest(values.magnitude()).clamp(min=0)

    def _spread(self, values: MidRad) -> Tensor:
        """Bounds of `|v_e - v_k|`, k in the segment of e."""
        low, high = values.lower(), values.upper()
        above = sub_up(self.largest(high)[self.index], low)
        below = sub_up(high, -self.largest(-low)[self.index])
        return torch.maximum(above, below)
