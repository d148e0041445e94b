"""Right-hand sides of linear equations as rows of a size near 1, where nothing underflows or overflows on the way."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deqops._tolerance import Tolerance
from deqops._tree import at_least_float32


@dataclass(frozen=True, eq=False)
class Scaled:
    """Rows divided by powers of 2, which changes no digit that counts; a row that is not finite is left out as 0.

    Its solution is NaN, for `(I - J)^-1` of an infinite row has no value; the other rows have theirs.
    """

    rows: Tensor  # (problems, unknowns)
    scale: Tensor  # (problems, 1)
    finite: Tensor  # (problems, 1) bool

    @staticmethod
    def of(right: Tensor, tolerance: Tolerance) -> Scaled:
        """Those of right-hand sides, (problems, unknowns); unscaled where an absolute residual is asked for."""
        finite = right.isfinite().all(dim=1, keepdim=True)
        scale = torch.ones_like(right[:, :1]) if tolerance.absolute else scale_of(right)
        return Scaled((right / scale).masked_fill_(~finite, 0.0), scale, finite)

    def restored(self, solution: Tensor) -> Tensor:
        """The solution for the right-hand sides as they were; written over that for the scaled ones."""
        return solution.mul_(self.scale).masked_fill_(~self.finite, torch.nan)


def scale_of(rows: Tensor) -> Tensor:
    """The largest power of 2 that is not above a row's largest entry, (problems, 1); 1 for 0, infinity and NaN."""
    size = at_least_float32(rows.abs().amax(dim=1, keepdim=True))
    usual = torch.where(size.isfinite() & (size > 0), size, 1.0)
    return torch.ldexp(torch.ones_like(usual), torch.frexp(usual).exponent - 1).to(rows.dtype)
