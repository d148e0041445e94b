"""Layer norm and RMS norm over groups of n entries: values, ranges and derivatives over boxes and everywhere.

`h = s (x - m)` with `s = (v + eps)^(-1/2)`, `v = mean((x - m)^2)`; m is the group's mean, or 0 for an RMS norm. With
`C = I - 1 1^T / n`, or I, the derivative is

    J = s (C - h h^T / n).

h is in the range of C and `|h|^2 = n v / (v + eps) < n`, so `0 <= C - h h^T / n <= I` and `||J||_2 <= s`; entrywise
`|J| <= s (|C| + |h| |h|^T / n)`. For C's rank z, n - 1 or n, `|h_i| <= sqrt(z)`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from deqops._errors import UnsupportedOperationError
from deqops.graph import Node

from . import _midrad as midrad
from ._elementary import square
from ._midrad import MidRad
from ._rounding import (
    add_down,
    add_up,
    div_down,
    div_up,
    gamma,
    mul_down,
    mul_up,
    next_down,
    row_lengths_up,
    sqrt_down,
    sqrt_up,
    sub_down,
    sum_up,
)

NORMALISATIONS = ("layer_norm", "rms_norm")
LARGEST_BLOCKS = 2**18
"""Entries of all groups' |J| up to which they are written out; the checker's limit too."""

_HALVINGS = 60


@dataclass(frozen=True, eq=False)
class Near:
    """Where a value is: within an l2 distance of an enclosed centre."""

    center: MidRad
    distance: float


@dataclass(frozen=True, eq=False)
class Slopes:
    """Every `J = s (C - h h^T / n)` with s and h in their ranges, group by group.

    Attributes:
        scale: of s, (groups, 1), at least 0.
        direction: of h, (groups, n).
        centred: whether C is `I - 1 1^T / n`.
        value: of the normalised entries, (groups, n).
        turned: bound of the l2 distance of h from the middle of its range, (groups, 1); None for what the range says.
    """

    scale: MidRad
    direction: MidRad
    centred: bool
    value: MidRad
    turned: Tensor | None = None

    @property
    def middle(self) -> Slopes:
        """Those with s and h in the middle of their ranges."""
        return Slopes(MidRad.exact(self.scale.mid), MidRad.exact(self.direction.mid), self.centred, self.value)

    @property
    def deviation(self) -> Tensor:
        """Bound of `||J - J_mid||_2` for each group, (groups, 1).

        It is `(s - s_mid) (C - h h^T / n)`, whose bracket is between 0 and I, and `s_mid / n` times
        `h h^T - m m^T = (h - m) h^T + m (h - m)^T`, of norm at most `||h - m|| (sqrt(n) + ||m||)`.
        """
        n = float(self.direction.mid.shape[1])
        turn = row_lengths_up(self.direction.rad)
        turn = turn if self.turned is None else torch.minimum(turn, self.turned)
        sizes = add_up(row_lengths_up(self.direction.mid), sqrt_up(n))
        return add_up(self.scale.rad, mul_up(self.scale.mid.abs(), div_up(mul_up(turn, sizes), n)))

    @property
    def gain(self) -> Tensor:
        """Bound of ||J||_2 for each group, (groups, 1)."""
        return self.scale.upper()

    def magnitude_times(self, x: Tensor) -> Tensor:
        """Upper bound of `|J| x` for x >= 0, (groups, n); J is symmetric, so of `|J|^T x` too."""
        if self._blocks is not None:
            return mul_up(sum_up(mul_up(self._blocks, x[:, None, :]), dim=2), self.gain)
        n, h = x.shape[1], self.direction.magnitude()
        shared = mul_up(h, sum_up(mul_up(h, x), dim=1, keepdim=True))
        if self.centred:
            shared = add_up(shared, sum_up(x, dim=1, keepdim=True))
        return mul_up(add_up(mul_up(x, self._own), div_up(shared, float(n))), self.gain)

    def columns(self, x: MidRad) -> MidRad:
        """Enclosure of `J x`, column by column: x of shape (groups, n, columns)."""
        n = float(x.mid.shape[1])
        h = self.direction.apply_exact(lambda t: t[..., None])
        along = midrad.matmul(self.direction.apply_exact(lambda t: t[:, None, :]), x)
        removed = midrad.div(midrad.mul(h, along), _number(n))
        rest = midrad.sub(_centred(x) if self.centred else x, removed)
        return midrad.mul(rest, self.scale.apply_exact(lambda t: t[..., None]))

    @property
    def _own(self) -> float:
        """Bound of the diagonal of `C - h h^T / n`, which is at most C's."""
        n = self.direction.mid.shape[1]
        return float(div_up(float(n - 1), float(n))) if self.centred else 1.0

    @cached_property
    def _blocks(self) -> Tensor | None:
        """Bounds of `|C - h h^T / n|`, (groups, n, n); None where they are too many to write out.

        Off the diagonal none exceeds 1/2, as in every matrix between 0 and I.
        """
        groups, n = self.direction.mid.shape
        if groups * n * n > LARGEST_BLOCKS:
            return None
        rows, columns = (self.direction.apply_exact(lambda t, at=at: t.unsqueeze(at)) for at in (2, 1))  # type: ignore[misc]
        products, own = midrad.mul(rows, columns), square(self.direction)
        eye = torch.eye(n, dtype=torch.bool).expand(groups, n, n)
        products = midrad.where(eye, own.apply_exact(lambda t: t[:, None, :].expand(groups, n, n)), products)
        entries = torch.eye(n, dtype=torch.float64) * n - (1.0 if self.centred else 0.0)
        found = midrad.div(midrad.sub(MidRad.exact(entries.expand(groups, n, n)), products), _number(float(n)))
        return torch.minimum(found.magnitude(), torch.where(eye, _number(self._own).mid, 0.5))


@dataclass(frozen=True)
class Normalisation:
    """The operation `layer_norm` (centred) or `rms_norm` over groups of `size` entries."""

    size: int
    eps: float
    centred: bool

    @staticmethod
    def of(node: Node) -> Normalisation:
        """The operation of a node.

        Raises:
            UnsupportedOperationError: eps is not positive and finite, or a group has no entries.
        """
        eps, shape = node.attributes["eps"], node.attributes["normalized_shape"]
        if not isinstance(eps, float) or not 0 < eps < math.inf or not isinstance(shape, tuple):
            raise UnsupportedOperationError(node.source, f"needs eps > 0, it has {eps!r}")
        if not shape or math.prod(shape) == 0:
            raise UnsupportedOperationError(node.source, "has no entries to normalise")
        return Normalisation(math.prod(shape), eps, node.op == "layer_norm")

    @property
    def limit(self) -> float:
        """Bound of |h_i|, whatever x."""
        return float(sqrt_up(float(self._rank)))

    def grouped(self, x: MidRad) -> MidRad:
        """The entries as (groups, n)."""
        return x.apply_exact(lambda t: t.reshape(-1, self.size))

    def everywhere(self, groups: int) -> Slopes:
        """The ranges over all real x."""
        limit = torch.full((groups, self.size), self.limit, dtype=torch.float64)
        widest = torch.full((groups, 1), self._largest_scale, dtype=torch.float64)
        return self._slopes(MidRad.from_bounds(torch.zeros_like(widest), widest), MidRad.from_bounds(-limit, limit))

    def over(self, x: MidRad, near: Near | None = None) -> Slopes:
        """The ranges over a box, (groups, n), or its part in a ball; infinite and NaN beside what is no number."""
        whole = self.everywhere(x.mid.shape[0])
        if not bool(x.mid.isfinite().all()):
            nothing = MidRad(torch.zeros_like(whole.scale.mid), torch.full_like(whole.scale.mid, math.inf))
            return Slopes(nothing, whole.direction, self.centred, MidRad(x.mid, torch.full_like(x.mid, math.nan)))
        closed = x.rad.isfinite().all(dim=1, keepdim=True)
        box = MidRad(x.mid, torch.where(closed, x.rad, 0.0))
        around = _shifted(box) if self.centred else box
        scale = self._scale(around)
        value = midrad.mul(scale, _centred(around) if self.centred else around)
        value = midrad.intersect(value, whole.value.lower(), whole.value.upper())
        scale, value = _known(closed, scale, whole.scale), _known(closed, value, whole.value)
        return self._slopes(scale, value) if near is None else self._in_ball(scale, value, near)

    def _in_ball(self, scale: MidRad, value: MidRad, near: Near) -> Slopes:
        """The part of the ranges that the centre's own and the distance leave.

        `||C x||` is within the distance of the centre's, and h within sup s times the distance.
        """
        center = self.grouped(near.center)
        at_center, spread = self.over(center).value, self._scale_in_ball(center, near.distance)
        scale = midrad.intersect(scale, spread.lower(), spread.upper())
        way = mul_up(scale.upper(), near.distance)
        value = midrad.intersect(value, sub_down(at_center.lower(), way), add_up(at_center.upper(), way))
        found = self._slopes(scale, value)
        apart = midrad.sub(at_center, MidRad.exact(found.direction.mid)).magnitude()
        return replace(found, turned=add_up(way, row_lengths_up(apart)))

    def _scale_in_ball(self, center: MidRad, distance: float) -> MidRad:
        """s within an l2 distance of the centre, (groups, 1)."""
        around = _shifted(center) if self.centred else center
        d, n = _centred(around) if self.centred else around, float(self.size)
        most = add_up(row_lengths_up(d.magnitude()), distance)
        least = sub_down(_length_down(d.mignitude()), distance).clamp(min=0)
        high = div_up(1.0, sqrt_down(add_down(div_down(mul_down(least, least), n).clamp(min=0), self.eps)))
        low = div_down(1.0, sqrt_up(add_up(div_up(mul_up(most, most), n), self.eps)))
        low, high = torch.where(low.isfinite(), low, 0.0), torch.where(high.isfinite(), high, self._largest_scale)
        return MidRad.from_bounds(low.clamp(min=0), high.clamp(max=self._largest_scale))

    def _slopes(self, scale: MidRad, value: MidRad) -> Slopes:
        """With s and h in these ranges; where C has rank 1, `J = eps s^3 C` exactly, and 0 where it has rank 0."""
        if self._rank > 1:
            return Slopes(scale, value, self.centred, value)
        none = MidRad.exact(torch.zeros_like(value.mid))
        if self._rank == 0:
            return Slopes(MidRad.exact(torch.zeros_like(scale.mid)), none, self.centred, none)
        least, most = scale.lower().clamp(min=0), scale.upper()
        low = mul_down(self.eps, mul_down(least, mul_down(least, least).clamp(min=0)).clamp(min=0)).clamp(min=0)
        high = mul_up(self.eps, mul_up(most, mul_up(most, most)))
        return Slopes(MidRad.from_bounds(low, high), none, self.centred, value)

    @property
    def _rank(self) -> int:
        return self.size - int(self.centred)

    @property
    def _largest_scale(self) -> float:
        return float(div_up(1.0, sqrt_down(self.eps)))

    def _scale(self, x: MidRad) -> MidRad:
        """s over a box, (groups, 1), from the least and the largest v.

        v is least where `mean((x - c)^2)` is over x in the box and c: v is its minimum over c.
        """
        n, c = float(self.size), _balance(x) if self.centred else torch.zeros_like(x.mid[:, :1])
        below, above = (sub_down(x.lower(), c).clamp(min=0), sub_down(c, x.upper()).clamp(min=0))
        distance = torch.maximum(below, above)
        least = (distance * distance).sum(dim=1, keepdim=True)
        least = torch.where(least.isfinite(), least, 0.0) * (1.0 - 4.0 * gamma(self.size + 4))
        least = sub_down(next_down(least), self.size * 2.0**-1070)  # for what underflowed
        if self.centred:
            least = sub_down(least, _error_of_balance(x, c))
        least = div_down(least.clamp(min=0), n).clamp(min=0)
        most = div_up(sum_up(mul_up(x.magnitude(), x.magnitude()), dim=1, keepdim=True), n)
        low = div_down(1.0, sqrt_up(add_up(most, self.eps)))
        high = div_up(1.0, sqrt_down(add_down(least, self.eps)))
        return MidRad.from_bounds(low.clamp(min=0), high.clamp(max=self._largest_scale))


def _known(closed: Tensor, found: MidRad, otherwise: MidRad) -> MidRad:
    """What was found where it is a bounded interval, the range over everything elsewhere."""
    return midrad.where(closed & found.mid.isfinite() & found.rad.isfinite(), found, otherwise)


def _length_down(x: Tensor) -> Tensor:
    """Lower bound of the l2 norm along dimension 1 of numbers >= 0, which is kept."""
    total = midrad.sum_(MidRad.exact(mul_down(x, x).clamp(min=0)), (1,), True).lower().clamp(min=0)
    return sqrt_down(torch.where(total.isfinite(), total, 0.0)).clamp(min=0)


def _number(value: float) -> MidRad:
    return MidRad.exact(torch.tensor(value, dtype=torch.float64))


def _shifted(x: MidRad) -> MidRad:
    """x without about its mean: what is computed from here on is relative to the spread of x, not to its size."""
    return midrad.sub(x, MidRad.exact(x.mid.mean(dim=1, keepdim=True)))


def _centred(x: MidRad) -> MidRad:
    """`C x` along dimension 1: the radius is `|C| rad = (1 - 2/n) rad + mean(rad)`."""
    n = x.mid.shape[1]
    if n == 1:
        return MidRad.exact(torch.zeros_like(x.mid))
    mid = MidRad.exact(x.mid)
    middle = midrad.sub(mid, midrad.mean(mid, (1,), True))
    kept = mul_up(x.rad, float(div_up(n - 2.0, float(n))))
    return MidRad(middle.mid, add_up(middle.rad, add_up(kept, div_up(sum_up(x.rad, dim=1, keepdim=True), float(n)))))


def _balance(x: MidRad) -> Tensor:
    """About the c that minimises `sum over i of dist(c, [a_i, b_i])^2`, (groups, 1): a proposal, by halving."""
    a, b = x.lower(), x.upper()
    low, high = a.amin(dim=1, keepdim=True), b.amax(dim=1, keepdim=True)
    for _ in range(_HALVINGS):
        c = low / 2 + high / 2
        right = ((c - b).clamp(min=0) - (a - c).clamp(min=0)).sum(dim=1, keepdim=True) > 0
        low, high = torch.where(right, low, c), torch.where(right, c, high)
    c = low / 2 + high / 2
    active = (a > c) | (b < c)
    pulled = torch.where(active, torch.where(a > c, a, b), 0.0).sum(dim=1, keepdim=True)
    count = active.sum(dim=1, keepdim=True)
    return torch.where(count > 0, pulled / count.clamp(min=1), c)


def _error_of_balance(x: MidRad, c: Tensor) -> Tensor:
    """Bound of `f(c) - min f` for `f(c) = sum dist(c, [a_i, b_i])^2`, which is convex: `|f'(c)|` times the way.

    The minimum is taken between the least a_i and the largest b_i.
    """
    a, b, at = x.lower(), x.upper(), MidRad.exact(c)
    above, below = midrad.sub(at, MidRad.exact(b)), midrad.sub(MidRad.exact(a), at)
    parts = [MidRad.from_bounds(end.lower().clamp(min=0), end.upper().clamp(min=0)) for end in (above, below)]
    half = midrad.sum_(midrad.sub(*parts), (1,), True).magnitude()
    reach = torch.maximum(above.magnitude(), below.magnitude()).amax(dim=1, keepdim=True)
    return mul_up(mul_up(half, 2.0), reach)
