"""Matrices that differ from the identity on a subspace of few directions, each problem by itself."""

from __future__ import annotations

import torch
from torch import Tensor

from deqops._tree import row_norms

CHUNK = 32
"""Directions a block of memory has room for: memory grows with the directions, and adding one copies none."""
NOTHING = 10.0
"""A remainder of fewer units of rounding of its vector is no direction."""
AGAIN = 0.7
"""A vector of which a smaller part is left across the directions is taken through once more."""
NEGLIGIBLE = 500.0
"""A column of which fewer units of rounding, beside the length of all, lie across the columns before spans nothing."""


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
        self.spare: list[Tensor] = []  # blocks to use again: fresh pages cost more than the sums that fill them

    @staticmethod
    def none(problems: int, device: torch.device) -> Subspace:
        """No directions: P is the identity."""
        return Subspace([], torch.zeros(problems, 0, 0, dtype=torch.float64, device=device), 0)

    def admit(self, vectors: Tensor) -> Tensor:
        """Make the subspace hold these vectors, (problems, unknowns); returns their coordinates, (problems, room).

        By Gram-Schmidt, and again where less than AGAIN of a vector is left, so that the rows of U are orthogonal up
        to rounding.
        """
        size = length = row_norms(vectors)
        coordinates = self.matrix.new_zeros(len(vectors), CHUNK * ((self.count + CHUNK) // CHUNK))
        rest = vectors
        if self.count:
            along = self._along(vectors)
            rest = self._sum(vectors, along, -1.0)
            length = row_norms(rest)
            little = length < AGAIN * size
            if bool(little.any()):
                again = torch.where(little[:, None], self._along(rest), 0.0)
                rest = torch.where(little[:, None], self._sum(rest, again, -1.0), rest)
                length = torch.where(little, row_norms(rest), length)
                coordinates[:, : self.count] = again
            coordinates[:, : self.count] += along
            length = torch.where(length > NOTHING * torch.finfo(vectors.dtype).eps * size, length, 0.0)
        coordinates[:, self.count] = length
        self._append(rest, length)
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
            held: coordinates of vectors, (problems, held, room), at least one.

        Returns:
            Their coordinates in the new directions.
        """
        turn = self._turn(rank, held)
        count = rank + held.shape[1]
        blocks = self._combined(turn[:, :, :count])
        self.blocks, self.spare = blocks, [*self.spare, *self.blocks]
        turn = turn.to(self.matrix.dtype)
        M = turn.mT.bmm(self.matrix).bmm(turn)
        sound = M.isfinite().flatten(1).all(dim=1)[:, None, None]
        self.count, self.matrix = count, torch.where(sound & (rank > 0), M, 0.0)
        return torch.where(sound, held.bmm(turn), 0.0)

    def narrowed(self, rows: Tensor) -> Subspace:
        """That of these problems alone."""
        return Subspace([block[rows] for block in self.blocks], self.matrix[rows], self.count)

    def _turn(self, rank: int, held: Tensor) -> Tensor:
        """Y, (problems, room, new room): a column is 0 where it would span nothing new."""
        dtype = self.blocks[0].dtype  # Y proposes; M and coordinates stay in float64
        lengths = row_norms(held.flatten(0, 1)).view(*held.shape[:2], 1)
        size = row_norms(self.matrix.flatten(1))[:, None, None]
        sound = size.isfinite() & lengths.isfinite().all(dim=1, keepdim=True)
        unit, M = (torch.where(sound, _over(*part), 0.0).to(dtype) for part in ((held, lengths), (self.matrix, size)))
        square = M.bmm(M.mT) + M.mT.bmm(M)
        started = square.bmm(_waves(max(rank, 2), M))  # the bits of a single column's product lean on companions
        largest = square.bmm(torch.linalg.qr(started)[0])[:, :, :rank]
        largest = _over(largest, largest.norm(dim=(1, 2))[:, None, None])
        turn, triangle = torch.linalg.qr(torch.cat([unit.mT, largest], dim=2))
        new = triangle.diagonal(dim1=1, dim2=2).abs() > NEGLIGIBLE * torch.finfo(dtype).eps
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

    def _combined(self, weights: Tensor) -> list[Tensor]:
        """Sums of the directions, one for each column of the weights, in blocks of their own."""
        combined = []
        for part in weights.split(CHUNK, dim=2):  # type: ignore[no-untyped-call]
            block, (first, *others) = self._block(), self._used
            sums, start = block[:, : part.shape[2]], first.shape[1]
            torch.bmm(part[:, :start].mT, first, out=sums)
            for used in others:
                sums.baddbmm_(part[:, start : start + used.shape[1]].mT, used)
                start += used.shape[1]
            combined.append(block)
        return combined

    def _block(self) -> Tensor:
        """A block to write into."""
        return self.spare.pop() if self.spare else torch.empty_like(self.blocks[0])

    def _append(self, vectors: Tensor, lengths: Tensor) -> None:
        """Add these vectors over their lengths; no direction where the length is 0 or not a number."""
        if self.count == CHUNK * len(self.blocks):
            self.blocks.append(
                self._block() if self.blocks else vectors.new_empty(len(vectors), CHUNK, vectors.shape[1])
            )
            self.matrix = torch.nn.functional.pad(self.matrix, (0, CHUNK, 0, CHUNK))
        slot, some = self.blocks[-1][:, self.count % CHUNK], lengths > 0
        if bool(some.all()):
            torch.div(vectors, lengths[:, None], out=slot)
        else:
            slot.copy_(torch.where(some[:, None], _over(vectors, lengths[:, None]), 0.0))
        self.count += 1


def _over(vectors: Tensor, lengths: Tensor) -> Tensor:
    """The vectors over their lengths; what has no length stays."""
    return vectors / torch.where(lengths > 0, lengths, 1.0)


def _waves(count: int, like: Tensor) -> Tensor:
    """Orthogonal vectors that lie along no axis, (problems, room, count): to start an iteration with."""
    size = like.shape[1]
    grid = torch.arange(size, dtype=like.dtype, device=like.device)
    return torch.cos(torch.pi / size * torch.outer(grid + 0.5, grid[:count] + 1)).expand(len(like), -1, -1)
