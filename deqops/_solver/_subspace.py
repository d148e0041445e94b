"""Matrices that differ from the identity on a subspace of few directions, each problem by itself."""

from __future__ import annotations

import torch
from torch import Tensor

from deqops._tree import row_norms

CHUNK = 32
"""Directions a block of memory has room for: memory grows with the directions, and adding one copies none."""
NOTHING = 10.0
"""A remainder of fewer units of rounding of its vector is no direction."""
NEGLIGIBLE = 1e-13
"""A column whose part across the columns before is smaller, beside the length of all, spans nothing."""


class Subspace:
    """`P = I + U^T M U` for each problem, the rows of U orthonormal; a row may be 0, for no direction.

    A vector of the subspace is known by its coordinates, float64, one for each row of U: P of it costs products of
    the small M alone. M and coordinates have as many rows as there is room for, 0 beyond the rows of U: the bits of
    a problem's products then lean on nothing beside it.
    """

    def __init__(self, blocks: list[Tensor], matrix: Tensor, count: int) -> None:
        self.blocks = blocks  # of (problems, CHUNK, unknowns): U, `count` rows in all
        self.matrix = matrix  # (problems, room, room) float64: M, room for as many rows as the blocks have
        self.count = count

    @staticmethod
    def none(problems: int, device: torch.device) -> Subspace:
        """No directions: P is the identity."""
        return Subspace([], torch.zeros(problems, 0, 0, dtype=torch.float64, device=device), 0)

    def admit(self, vectors: Tensor) -> Tensor:
        """Make the subspace hold these vectors, (problems, unknowns); returns their coordinates, (problems, room).

        By Gram-Schmidt, twice, so that the rows of U are orthogonal up to rounding.
        """
        parts, rest = [], vectors
        if self.count:
            for _ in range(2):
                parts.append(self._along(rest))
                rest = self._sum(rest, parts[-1], -1.0)
        length = row_norms(rest)
        floor = NOTHING * torch.finfo(vectors.dtype).eps * row_norms(vectors) if parts else 0.0
        length = torch.where(length > floor, length, 0.0)
        scale = torch.where(length > 0, length, 1.0)[:, None]
        self._append(torch.where(length[:, None] > 0, rest / scale, 0.0))
        coordinates = self.matrix.new_zeros(self.matrix.shape[:2])
        for part in parts:
            coordinates[:, : self.count - 1] += part
        coordinates[:, self.count - 1] = length
        return coordinates

    def moved(self, vectors: Tensor, coordinates: Tensor) -> Tensor:
        """The vectors plus those of these coordinates, (problems, unknowns)."""
        return self._sum(vectors, coordinates.to(vectors.dtype), 1.0)

    def drop(self, problems: Tensor) -> None:
        """Make P the identity for these problems, (dropped,) int64."""
        self.matrix[problems] = 0.0

    def reduce(self, rank: int, held: Tensor) -> Tensor:
        """Keep the largest part of M, of that rank at least, on a subspace of `rank + held` directions.

        The new directions are orthonormal combinations Y of the old, M becomes `Y^T M Y`; 0 for rank 0. Y spans the
        held vectors and what is near the largest eigenvectors of `M M^T + M^T M`, by two steps of subspace iteration:
        eigenvectors themselves took longer than all steps between two reductions, and were no better in use. A
        problem where a number is not finite gets the identity, and nothing is held.

        Args:
            rank: at least 0; `rank + held` from 1 to `count`.
            held: coordinates of vectors, (problems, held, room).

        Returns:
            Their coordinates in the new directions.
        """
        turn = self._turn(rank, held)
        M = turn.mT.bmm(self.matrix).bmm(turn)
        sound = M.isfinite().flatten(1).all(dim=1)[:, None, None]
        self.blocks, self.count = _combined(self._used, turn), rank + held.shape[1]
        self.matrix = torch.where(sound & (rank > 0), M, 0.0)
        return torch.where(sound, held.bmm(turn), 0.0)

    def narrowed(self, rows: Tensor) -> Subspace:
        """That of these problems alone."""
        return Subspace([block[rows] for block in self.blocks], self.matrix[rows], self.count)

    def _turn(self, rank: int, held: Tensor) -> Tensor:
        """Y, (problems, room, new room): a column is 0 where it would span nothing new."""
        both = torch.cat([self.matrix, held], dim=1)
        sound = both.isfinite().flatten(1).all(dim=1)[:, None, None]
        M, vectors = (torch.where(sound, part, 0.0) for part in (self.matrix, held))
        square = M.bmm(M.mT) + M.mT.bmm(M)
        started = square.bmm(_waves(max(rank, 2), M))  # the bits of a single column's product lean on companions
        largest = square.bmm(torch.linalg.qr(started)[0])[:, :, :rank]
        lengths = vectors.norm(dim=2, keepdim=True)
        unit = vectors / torch.where(lengths > 0, lengths, 1.0)
        size = largest.norm(dim=(1, 2))[:, None, None]
        turn, triangle = torch.linalg.qr(torch.cat([unit.mT, largest / torch.where(size > 0, size, 1.0)], dim=2))
        new = triangle.diagonal(dim1=1, dim2=2).abs() > NEGLIGIBLE
        return torch.nn.functional.pad(torch.where(sound & new[:, None], turn, 0.0), (0, -turn.shape[2] % CHUNK))

    @property
    def _used(self) -> list[Tensor]:
        last = (self.count - 1) % CHUNK + 1
        return [*self.blocks[:-1], self.blocks[-1][:, :last]]

    def _along(self, vectors: Tensor) -> Tensor:
        """The inner products of all directions with a vector, (problems, count)."""
        parts = [torch.bmm(vectors[:, None], block.mT)[:, 0] for block in self._used]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def _sum(self, vectors: Tensor, weights: Tensor, sign: float) -> Tensor:
        """The vectors plus or minus the weighted sum of the directions, within a problem only."""
        result, start = vectors[:, None], 0
        for block in self._used:
            result = torch.baddbmm(result, weights[:, None, start : start + block.shape[1]], block, alpha=sign)
            start += block.shape[1]
        return result[:, 0]

    def _append(self, vectors: Tensor) -> None:
        if self.count == CHUNK * len(self.blocks):
            self.blocks.append(vectors.new_empty(vectors.shape[0], CHUNK, vectors.shape[1]))
            self.matrix = torch.nn.functional.pad(self.matrix, (0, CHUNK, 0, CHUNK))
        self.blocks[-1][:, self.count % CHUNK] = vectors
        self.count += 1


def _waves(count: int, like: Tensor) -> Tensor:
    """Orthogonal vectors that lie along no axis, (problems, room, count): to start an iteration with."""
    size = like.shape[1]
    grid = torch.arange(size, dtype=like.dtype, device=like.device)
    return torch.cos(torch.pi / size * torch.outer(grid + 0.5, grid[:count] + 1)).expand(len(like), -1, -1)


def _combined(blocks: list[Tensor], weights: Tensor) -> list[Tensor]:
    """Sums of the vectors, one for each column of the weights, in blocks of CHUNK."""
    weights = weights.to(blocks[0].dtype)
    combined = []
    for part in weights.split(CHUNK, dim=2):  # type: ignore[no-untyped-call]
        sums = blocks[0].new_zeros(len(part), CHUNK, blocks[0].shape[2])
        first = 0
        for block in blocks:
            sums.baddbmm_(part[:, first : first + block.shape[1]].mT, block)
            first += block.shape[1]
        combined.append(sums)
    return combined
