"""The last points and residuals of each problem in a ring, and the combination of least residual."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deqops._tree import row_norms

NOTHING = 1e-300
"""Added to the matrix's diagonal: a difference of length 0 then has weight 0."""
PLAIN = 2.0**20
"""Residuals that start within this factor of 1 are not scaled."""


class Ring:
    """`columns + 1` slots for two vectors a problem. The newest holds g and r, the others differences of them.

    g is a damped image, r a residual, both of the same point. Each vector is written once, where the oldest was;
    the vectors before it become differences in place. The matrix of inner products changes by one row and column.
    Residuals are scaled to a length near 1 at the start, by powers of 2: their squares stay within the range, and no
    digit changes.
    """

    def __init__(self, images: Tensor, residuals: Tensor, gram: Tensor, scale: Tensor | None, ridge: float) -> None:
        self.images = images  # (problems, slots, unknowns)
        self.residuals = residuals  # (problems, slots, unknowns), scaled
        self.gram = gram  # (problems, slots, slots), float64; the identity where a slot holds no difference
        self.scale = scale  # (problems, 1); None for 1
        self.ridge = ridge  # what is added to the diagonal, relative to it
        slots = gram.shape[1]
        self.identity = torch.eye(slots, dtype=gram.dtype, device=gram.device)
        # The newest difference has its own square raised, and nothing to do with the residual in the slot before it.
        self.raised = 1.0 + ridge * self.identity - self.identity.roll(-1, 1)
        self.nothing = NOTHING * self.identity
        self.newest = slots - 1  # slots are filled from the last to the first, then over again
        self.first = self.newest  # the first slot in use
        self.wrapped = False  # every slot was written

    @staticmethod
    def begun(point: Tensor, image: Tensor, columns: int, ridge: float) -> Ring:
        """A ring with its first point, (problems, unknowns)."""
        problems, unknowns = point.shape
        room = point.new_zeros(2, problems, columns + 1, unknowns)
        identity = torch.eye(columns + 1, dtype=torch.float64, device=point.device)
        gram = identity.repeat(problems, 1, 1)
        ring = Ring(room[0], room[1], gram, _power_of_two(row_norms(image - point)), ridge)
        ring._write(point, image)
        return ring

    def push(self, point: Tensor, image: Tensor) -> None:
        """Make the newest vectors differences to these, and put these where the oldest were."""
        before = self.newest
        self.newest = (before - 1) % self.gram.shape[1]
        self.wrapped |= before == 0
        self.first = min(self.first, self.newest)
        self._write(point, image)
        images, residuals = self.images, self.residuals
        torch.sub(images[:, self.newest], images[:, before], out=images[:, before])
        torch.sub(residuals[:, before], residuals[:, self.newest], out=residuals[:, before])

    def newest_lengths(self) -> NDArray[np.float64]:
        """The lengths of the newest residuals, (problems,), on the host."""
        lengths = row_norms(self.residuals[:, self.newest])
        lengths = lengths if self.scale is None else lengths / self.scale[:, 0]
        array: NDArray[np.float64] = lengths.cpu().numpy().astype(np.float64)
        return array

    def drop(self, problems: Tensor) -> None:
        """Forget the differences of these problems, (dropped,) int64."""
        newest = self.residuals[problems, self.newest]
        self.residuals[problems] = 0.0
        self.residuals[problems, self.newest] = newest
        self.gram[problems] = self.identity

    def combined(self) -> Tensor:
        """`g - sum_i c_i dg_i`, c minimises `||r - sum c_i dr_i||^2 + ridge sum c_i^2 ||dr_i||^2`.

        The differences of images are kept as -dg, those of residuals as dr, up to one sign for both.
        """
        weights = self._weights()
        return torch.bmm(weights[:, None].to(self.images.dtype), self.images[:, self.first :])[:, 0]

    def narrowed(self, rows: Tensor) -> Ring:
        """That of these problems alone."""
        scale = None if self.scale is None else self.scale[rows]
        ring = Ring(self.images[rows], self.residuals[rows], self.gram[rows], scale, self.ridge)
        ring.newest, ring.first, ring.wrapped = self.newest, self.first, self.wrapped
        return ring

    def _write(self, point: Tensor, image: Tensor) -> None:
        self.images[:, self.newest] = image
        residual = torch.sub(image, point, out=self.residuals[:, self.newest])
        if self.scale is not None:
            residual.mul_(self.scale)

    def _weights(self) -> Tensor:
        """The weights of the slots in use, (problems, used); 1 for the newest. Picard's where rounding won."""
        old = (self.newest + 1) % self.gram.shape[1]  # the newest difference
        row, goal = self._products(old)
        gram, used, new = self.gram, slice(self.first, None), self.newest
        row = torch.addcmul(self.nothing[old, used], row, self.raised[old, used])
        gram[:, old, used] = row
        gram[:, used, old] = row
        if self.wrapped:  # what was the oldest difference is the residual now
            gram[:, new] = self.identity[new]
            gram[:, :, new] = self.identity[new]
        goal[:, new - self.first] = 1.0
        factor, failed = torch.linalg.cholesky_ex(gram[:, used, used])
        weights = torch.cholesky_solve(goal[:, :, None], factor)[:, :, 0]
        return torch.where(failed[:, None] == 0, weights, self.identity[new, used])

    def _products(self, old: int) -> tuple[Tensor, Tensor]:
        """The inner products of the newest difference and of the residual with all residuals, (problems, used)."""
        used = self.residuals[:, self.first :]
        new = self.newest
        pair = self.residuals[:, new : old + 1] if new < old else self.residuals[:, :: new - old]
        products = torch.bmm(pair, used.mT).to(torch.float64)
        first, second = products.unbind(1)
        return (second, first) if new < old else (first, second)


def _power_of_two(lengths: Tensor) -> Tensor | None:
    """By what residuals of these lengths come near 1, (problems, 1); None where all are near 1 already."""
    usual = (lengths > 1 / PLAIN) & (lengths < PLAIN)
    if bool(usual.all()):
        return None
    some = torch.where((lengths > 0) & lengths.isfinite(), lengths, 1.0)
    return torch.ldexp(torch.ones_like(some), 1 - torch.frexp(some).exponent)[:, None]
