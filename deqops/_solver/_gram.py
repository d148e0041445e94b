"""Differences of the last points in a ring, and least squares by their inner products."""

from __future__ import annotations

import torch
from torch import Tensor

from deqops._tree import row_norms


class Columns:
    """The last differences of points and of residuals, and the inner products of the latter.

    Each vector is written once, where the oldest was; a problem that drops its memory has its columns marked.
    """

    def __init__(self, steps: Tensor, residuals: Tensor, gram: Tensor, valid: Tensor, newest: int) -> None:
        self.steps = steps  # (problems, columns, unknowns)
        self.residuals = residuals  # (problems, columns, unknowns), of length 1
        self.gram = gram  # (problems, columns, columns), float64
        self.valid = valid  # (problems, columns) bool
        self.newest = newest

    @staticmethod
    def empty(like: Tensor, limit: int) -> Columns:
        """Room for `limit` columns of vectors like this, (problems, unknowns)."""
        problems, unknowns = like.shape
        room = like.new_zeros(2, problems, limit, unknowns)
        gram = torch.zeros(problems, limit, limit, dtype=torch.float64, device=like.device)
        return Columns(room[0], room[1], gram, torch.zeros_like(gram[:, 0], dtype=torch.bool), -1)

    def push(self, step: Tensor, difference: Tensor, residual: Tensor, kept: Tensor) -> Tensor:
        """Put a difference where the oldest was, of length 1; the inner products of all columns with `residual`.

        Args:
            step: of the points, (problems, unknowns); scaled as the difference is.
            difference: of the residuals.
            residual: the residual, likewise of length 1 or 0.
            kept: the problems that keep their memory, (problems,) bool.
        """
        slot = self.newest = (self.newest + 1) % self.steps.shape[1]
        length = row_norms(difference)
        usable = (length > 0) & length.isfinite()
        scale = torch.where(usable, length, 1.0)[:, None]
        unit = self.residuals[:, slot] = difference / scale
        torch.div(step, scale, out=self.steps[:, slot])
        products = torch.bmm(torch.stack((unit, residual), dim=1), self.residuals.mT).to(torch.float64)
        self.gram[:, slot, :] = products[:, 0]
        self.gram[:, :, slot] = products[:, 0]
        self.valid[:, slot] = usable
        self.valid &= kept[:, None]
        return products[:, 1]

    def newest_first(self) -> list[int]:
        """The columns in the order of their age."""
        limit = self.steps.shape[1]
        return [(self.newest - age) % limit for age in range(limit)]

    def subtracted(self, vectors: Tensor, weights: Tensor) -> Tensor:
        """`vectors - sum_i weights_i steps_i`, (problems, unknowns)."""
        return vectors - torch.bmm(weights[:, None].to(self.steps.dtype), self.steps)[:, 0]

    def narrowed(self, rows: Tensor) -> Columns:
        """Those of these problems alone."""
        return Columns(self.steps[rows], self.residuals[rows], self.gram[rows], self.valid[rows], self.newest)


def least_squares_weights(columns: Columns, products: Tensor, floor: float) -> Tensor:
    """The weights, (problems, columns), that minimise `||target - sum_i weights_i residuals_i||`.

    By the triangular factor of the normal equations, newest column first. The first column whose orthogonal
    part is below `floor` of its length is left out, and so are the older ones.

    Args:
        columns: the columns.
        products: their inner products with the target, (problems, columns).
        floor: between 0 and 1.
    """
    order = columns.newest_first()
    valid = columns.valid[:, order]
    gram = torch.where(valid[:, :, None] & valid[:, None, :], columns.gram[:, order][:, :, order], 0.0)
    factor = torch.linalg.cholesky_ex(gram)[0]
    used = (factor.diagonal(dim1=1, dim2=2) > floor).to(torch.uint8).cumprod(dim=1) > 0
    identity = torch.eye(len(order), dtype=factor.dtype, device=factor.device)
    factor = torch.where(used[:, :, None] & used[:, None, :], factor.tril(), identity)
    goal = torch.where(used, products[:, order], 0.0)[:, :, None]
    weights = torch.where(used, torch.cholesky_solve(goal, factor)[:, :, 0], 0.0)
    return weights[:, sorted(range(len(order)), key=order.__getitem__)]
