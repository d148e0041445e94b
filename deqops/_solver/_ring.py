"""The last points and residuals of each problem in a ring, and the combination of least residual."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deqops._tree import host, row_norms

PLAIN = 2.0**20
"""Residuals that start within this factor of 1 are not scaled."""


class Ring:
    """`columns + 1` slots for two vectors a problem. The newest holds g and r, the others differences of them.

    g is a damped image, r a residual, both of the same point. Each vector is written once, where the oldest was;
    the vectors before it become differences in place. Residuals are scaled to a length near 1 at the start, by powers
    of 2: their squares stay within the range, and no digit changes.
    """

    def __init__(self, images: Tensor, residuals: Tensor, gram: Tensor, scale: Tensor | None, floor: float) -> None:
        self.images = images  # (problems, slots, unknowns)
        self.residuals = residuals  # (problems, slots, unknowns), scaled
        self.gram = gram  # (problems, columns, columns), float64, newest first, right on and below the diagonal
        self.scale = scale  # (problems, 1); None for 1
        self.floor = floor  # of the part of a column that the newer ones do not span, relative to its length
        self.identity = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
        self.newest = images.shape[1] - 1  # slots are filled from the last to the first, then over again
        self.first = self.newest  # the first slot in use

    @staticmethod
    def begun(point: Tensor, image: Tensor, columns: int, floor: float) -> Ring:
        """A ring with its first point, (problems, unknowns)."""
        problems, unknowns = point.shape
        room = point.new_zeros(2, problems, columns + 1, unknowns)
        gram = torch.zeros(problems, columns, columns, dtype=torch.float64, device=point.device)
        ring = Ring(room[0], room[1], gram, _power_of_two(row_norms(image - point)), floor)
        ring._write(point, image)
        return ring

    def push(self, point: Tensor, image: Tensor) -> None:
        """Make the newest vectors differences to these, and put these where the oldest were."""
        before = self.newest
        self.newest = (before - 1) % self.images.shape[1]
        self.first = min(self.first, self.newest)
        self._write(point, image)
        images, residuals = self.images, self.residuals
        torch.sub(images[:, self.newest], images[:, before], out=images[:, before])
        torch.sub(residuals[:, before], residuals[:, self.newest], out=residuals[:, before])

    def newest_lengths(self) -> NDArray[np.float64]:
        """The lengths of the newest residuals, (problems,), on the host."""
        lengths = row_norms(self.residuals[:, self.newest])
        lengths = lengths if self.scale is None else lengths / self.scale[:, 0]
        return host(lengths)

    def drop(self, problems: Tensor) -> None:
        """Forget the differences of these problems, (dropped,) int64."""
        newest = self.residuals[problems, self.newest]
        self.residuals[problems] = 0.0
        self.residuals[problems, self.newest] = newest
        self.gram[problems] = 0.0

    def combined(self) -> Tensor:
        """`g - sum_i c_i dg_i`, c minimises `||r - sum c_i dr_i||`.

        The differences of images are kept as -dg, those of residuals as dr, up to one sign for both.
        """
        weights = torch.nn.functional.pad(self._weights(), (1, 0), value=1.0)  # newest first
        if self.newest > self.first:
            weights = weights.roll(self.newest, 1)
        return torch.bmm(weights[:, None].to(self.images.dtype), self.images[:, self.first :])[:, 0]

    def narrowed(self, rows: Tensor) -> Ring:
        """That of these problems alone."""
        scale = None if self.scale is None else self.scale[rows]
        ring = Ring(self.images[rows], self.residuals[rows], self.gram[rows], scale, self.floor)
        ring.newest, ring.first = self.newest, self.first
        return ring

    def _write(self, point: Tensor, image: Tensor) -> None:
        self.images[:, self.newest] = image
        residual = torch.sub(image, point, out=self.residuals[:, self.newest])
        if self.scale is not None:
            residual.mul_(self.scale)

    def _weights(self) -> Tensor:
        """c, (problems, columns in use), newest first; 0 from the first column on that the newer ones span."""
        row, goal = self._products()
        columns = row.shape[1]
        self.gram = self.gram.roll((1, 1), (1, 2))
        self.gram[:, :columns, 0] = row
        gram = self.gram[:, :columns, :columns]
        factor = torch.linalg.cholesky_ex(gram)[0]  # right up to the first column that is not positive
        lengths = gram.diagonal(dim1=1, dim2=2).sqrt()
        used = (factor.diagonal(dim1=1, dim2=2) > self.floor * lengths).cumprod(1) > 0
        factor = torch.where(used[:, :, None], factor, self.identity[:columns, :columns])
        return torch.cholesky_solve(torch.where(used, goal, 0.0)[:, :, None], factor)[:, :, 0]

    def _products(self) -> tuple[Tensor, Tensor]:
        """The inner products of dr and r with all dr, newest first, two of (problems, columns in use)."""
        new, old = self.newest, (self.newest + 1) % self.images.shape[1]
        used = self.residuals[:, self.first :]
        pair = self.residuals[:, new : old + 1] if new < old else self.residuals[:, :: new - old]
        products = torch.bmm(pair, used.mT).to(torch.float64)
        products = products.roll(-new, 2) if new > self.first else products
        first, second = products[:, :, 1:].unbind(1)
        return (second, first) if new < old else (first, second)


def _power_of_two(lengths: Tensor) -> Tensor | None:
    """By what residuals of these lengths come near 1, (problems, 1); None where all are near 1 already."""
    usual = (lengths > 1 / PLAIN) & (lengths < PLAIN)
    if bool(usual.all()):
        return None
    some = torch.where((lengths > 0) & lengths.isfinite(), lengths, 1.0)
    return torch.ldexp(torch.ones_like(some), 1 - torch.frexp(some).exponent)[:, None]
