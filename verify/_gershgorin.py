"""Gershgorin's circles of a sparse symmetric matrix: `lambda_min >= min_i (h_ii - sum_j |h_ij| x_j / x_i)`, any x > 0.

The best x is the Perron vector of the comparison matrix, whose smallest eigenvalue it then reaches; a power iteration
proposes it. For matrices without positive entries beside the diagonal (graph Laplacians) this is exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ._collatz import ROUNDS, most_terms, sums_up
from ._rounding import div_up, sub_down

_FLOOR = 1e-100


@dataclass(frozen=True, eq=False)
class Circles:
    """The circles' centres, at least, and the moduli beside the diagonal, at most.

    Attributes:
        centers: (n,), lower bounds of the diagonal entries.
        rows: (triples,), of every entry beside the diagonal, those above it too.
        cols: (triples,).
        moduli: (triples,), upper bounds.
    """

    centers: Tensor
    rows: Tensor
    cols: Tensor
    moduli: Tensor

    @staticmethod
    def of(rows: Tensor, cols: Tensor, lower: Tensor, moduli: Tensor, size: int) -> Circles:
        """From the lower triangle, one triple per place."""
        beside = rows != cols
        centers = torch.zeros(size, dtype=torch.float64)
        centers[rows[~beside]] = lower[~beside]
        r, c, w = rows[beside], cols[beside], moduli[beside]
        return Circles(centers, torch.cat([r, c]), torch.cat([c, r]), torch.cat([w, w]))

    def radii(self, x: Tensor) -> Tensor:
        """Upper bounds of `sum_j |h_ij| x_j / x_i`, (n,)."""
        sums = sums_up(self.moduli, self.cols, self.rows, x, len(x), most_terms(self.rows))
        return torch.where(sums == 0, sums, div_up(sums, x))

    def plain(self) -> float:
        """The bound for x = 1."""
        return float(sub_down(self.centers, self.radii(torch.ones_like(self.centers))).min())

    def best(self) -> float:
        """The best bound of some rounds; minus infinity where no number was found."""
        x, best = torch.ones_like(self.centers), -math.inf
        for _ in range(ROUNDS):
            radii = self.radii(x)
            found = float(sub_down(self.centers, radii).min())
            best = found if found > best else best
            # One step of the power method for `c I - (comparison matrix)`, c the smallest that keeps it nonnegative.
            image = (self.centers.max() - self.centers + radii) * x
            top = float(image.max())
            if not 0 < top < math.inf:
                break
            x = (image / top + x / float(x.max())).clamp(min=_FLOOR)
        return best


def largest_row_sum(rows: Tensor, cols: Tensor, weights: Tensor, size: int) -> float:
    """Upper bound of the norm of a symmetric nonnegative matrix, given by its lower triangle: its largest row sum."""
    if not bool((weights != 0).any()):
        return 0.0
    beside = rows != cols
    r, c = torch.cat([rows, cols[beside]]), torch.cat([cols, rows[beside]])
    w = torch.cat([weights, weights[beside]])
    return float(sums_up(w, c, r, torch.ones(size, dtype=torch.float64), size).max())
