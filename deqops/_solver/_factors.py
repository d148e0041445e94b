"""Products of factors `I + w_j s_j^T`, each problem by itself, applied by three products of matrices."""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK = 16
"""Factors a block of memory has room for: memory grows with the factors, and no factor is ever copied."""


class Factors:
    """`(I + w_k s_k^T) .. (I + w_1 s_1^T)`.

    Applied to v it is `v + sum_j a_j w_j` with `a_j = s_j^T v + sum_{i < j} (s_j^T w_i) a_i`: a triangular system of
    as many unknowns as factors, whose matrix grows by one row a factor.
    """

    def __init__(self, changes: list[Tensor], steps: list[Tensor], products: Tensor, count: int) -> None:
        self.changes = changes  # blocks of (problems, CHUNK, unknowns): w, the oldest first
        self.steps = steps  # likewise: s
        self.products = products  # (problems, count or more, count or more), float64: -s_j^T w_i below the diagonal
        self.count = count

    @staticmethod
    def none(problems: int, device: torch.device) -> Factors:
        """The empty product, the identity."""
        return Factors([], [], torch.zeros(problems, 0, 0, dtype=torch.float64, device=device), 0)

    def applied(self, vectors: Tensor) -> Tensor:
        """The product times v, (problems, unknowns); by sums within a problem only."""
        if not self.count:
            return vectors
        right = _inner(self._used(self.steps), vectors).to(torch.float64)
        matrix = self.products[:, : self.count, : self.count]
        weights = torch.linalg.solve_triangular(matrix, right[:, :, None], upper=False, unitriangular=True)
        result, start = vectors, 0
        for block in self._used(self.changes):
            part = weights[:, start : start + block.shape[1], 0].to(vectors.dtype)
            result = torch.baddbmm(result[:, None], part[:, None], block)[:, 0]
            start += block.shape[1]
        return result

    def append(self, change: Tensor, step: Tensor) -> None:
        """Multiply by `I + w s^T` from the left; both (problems, unknowns), 0 where a problem leaves it out."""
        row = _inner(self._used(self.changes), step) if self.count else None
        if self.count % CHUNK == 0:
            self._grow(change)
        if row is not None:
            self.products[:, self.count, : self.count] = row.neg_()
        slot = self.count % CHUNK
        self.changes[-1][:, slot], self.steps[-1][:, slot] = change, step
        self.count += 1

    def _grow(self, like: Tensor) -> None:
        """Make room for more factors of vectors like this."""
        room = like.new_empty(2, like.shape[0], CHUNK, like.shape[1])
        self.changes.append(room[0])
        self.steps.append(room[1])
        self.products = torch.nn.functional.pad(self.products, (0, CHUNK, 0, CHUNK))

    def drop(self, problems: Tensor) -> None:
        """Make the product of these problems, (dropped,) int64, the identity."""
        for blocks in (self._used(self.changes), self._used(self.steps)):
            for block in blocks:
                block[problems] = 0.0
        self.products[problems] = 0.0

    def narrowed(self, rows: Tensor) -> Factors:
        """Those of these problems alone."""
        changes, steps = ([block[rows] for block in blocks] for blocks in (self.changes, self.steps))
        return Factors(changes, steps, self.products[rows], self.count)

    def _used(self, blocks: list[Tensor]) -> list[Tensor]:
        last = (self.count - 1) % CHUNK + 1
        return [*blocks[:-1], blocks[-1][:, :last]]


def _inner(blocks: list[Tensor], vectors: Tensor) -> Tensor:
    """The inner products of all vectors of the blocks with one, (problems, vectors)."""
    parts = [torch.bmm(vectors[:, None], block.mT)[:, 0] for block in blocks]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
