"""How far the states of a region are from its centre, as far as linear forms ask: `max |a . (y - c)|`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ._midrad import MidRad
from ._norm import Norm, Order
from ._problem import Problem
from ._region import Ball, Box
from ._rounding import exact_float64, mul_up, sqrt_up, sum_up


@dataclass(frozen=True, eq=False)
class Reach:
    """`y - c = half * t` entry by entry, t in the unit ball of a norm without weights.

    Attributes:
        boxes: the box around the region, leaf by leaf: c and the half-widths, at least 0.
        half: the half-widths, (problems, n); (1, n) where they are the same for all problems.
        order: of the norm.
    """

    boxes: tuple[MidRad, ...]
    half: Tensor
    order: Order

    @staticmethod
    def of(region: Ball | Box, norm: Norm, problem: Problem) -> Reach:
        """That of a region; `norm` is that of a ball."""
        if isinstance(region, Box):
            boxes = tuple(MidRad.from_bounds(low, high) for low, high in zip(*region.ends, strict=True))
            order: Order = "linf"
        else:
            centers = [exact_float64(leaf) for leaf in region.leaves]
            radii = norm.radii(problem.problem_shapes, region.radius)
            boxes = tuple(MidRad(c, r.expand(c.shape).clone()) for c, r in zip(centers, radii, strict=True))
            order = norm.order
        problems = boxes[0].shape[0] if problem.batch_dims else 1
        half = torch.cat([box.rad.reshape(problems, -1) for box in boxes], dim=1)
        return Reach(boxes, half[:1] if bool((half == half[:1]).all()) else half, order)

    def largest(self, rows: Tensor) -> Tensor:
        """Upper bound of `|a . (y - c)|` for each row a along the last dimension, whichever problem a row is about.

        Inside of a graph any dimension may count problems, and several may, so that the widest problem stands for all.
        """
        scaled = mul_up(rows.abs(), self.half.amax(dim=0))
        if self.order == "linf":
            return sum_up(scaled, dim=-1)
        if self.order == "l1":
            return scaled.amax(dim=-1)
        return sqrt_up(sum_up(mul_up(scaled, scaled), dim=-1))  # mul_up is above 0 where it underflows
