"""Products of factors `I + w_j s_j^T`, each problem by itself, applied by three products of matrices."""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK = 16
"""Factors a block of memory has room for: memory grows with the factors, and appending copies none."""
SWEEPS = 2
"""Products with a matrix that turn a space to its largest eigenvectors: more make the kept part no better in use."""
JITTER = 30.0
"""Units of rounding of its trace that are added to a Gram matrix."""


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

    def reduce(self, kept: int) -> None:
        """Make the product the identity plus a matrix of rank `kept`, near the one nearest to the rest.

        With the columns s_j of S and w_j of W the product is `I + W T S^T`, T the inverse of the triangular matrix
        of `applied`. `S T^T = Q R` with `R^T R` the Gram matrix of the left side. Both sides are turned to the largest
        left singular vectors of `R W^T`: roughly, by subspace iteration on its Gram matrix, for LAPACK's would take
        longer than all steps between two reductions. A problem for which one of these is not finite gets the identity.
        """
        if kept == 0:
            self.changes, self.steps, self.products, self.count = [], [], self.products[:, :0, :0], 0
            return
        left, right = self._turns(kept)
        self.changes = _combined(self._used(self.changes), left)
        self.steps = _combined(self._used(self.steps), right)
        room = CHUNK * len(self.changes)
        self.products = left.new_zeros(len(left), room, room)  # what is left is a sum
        self.count = kept
        lost = (~(left.isfinite() & right.isfinite()).flatten(1).all(dim=1)).nonzero()[:, 0]
        if len(lost):
            self.drop(lost)

    def _turns(self, kept: int) -> tuple[Tensor, Tensor]:
        """What W and S are multiplied by from the right, (problems, count, kept) float64; NaN where it is lost."""
        matrix = self.products[:, : self.count, : self.count]
        one = torch.eye(self.count, dtype=matrix.dtype, device=matrix.device).expand_as(matrix)
        mixed = torch.linalg.solve_triangular(matrix, one, upper=False, unitriangular=True)  # T
        unit = torch.finfo(self.steps[0].dtype).eps
        factor = _root(mixed @ _gram(self._used(self.steps)) @ mixed.mT, unit)  # R, upper triangular
        largest = _largest(factor @ _gram(self._used(self.changes)) @ factor.mT, kept)
        return factor.mT @ largest, mixed.mT @ torch.linalg.solve_triangular(factor, largest, upper=True)

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


def _gram(blocks: list[Tensor]) -> Tensor:
    """The inner products of all vectors of the blocks with each other, (problems, vectors, vectors) float64."""
    rows = [torch.cat([torch.bmm(block, other.mT) for other in blocks], dim=2) for block in blocks]
    return torch.cat(rows, dim=1).to(torch.float64)


def _combined(blocks: list[Tensor], weights: Tensor) -> list[Tensor]:
    """Sums of the vectors, one for each column of the weights, in blocks of CHUNK; the last has room for more."""
    combined = []
    for start in range(0, weights.shape[2], CHUNK):
        part = weights[:, :, start : start + CHUNK].mT.to(blocks[0].dtype)
        target = blocks[0].new_zeros(len(weights), CHUNK, blocks[0].shape[2])
        sums, first = target[:, : part.shape[1]], 0
        for block in blocks:
            sums.baddbmm_(part[:, :, first : first + block.shape[1]], block)
            first += block.shape[1]
        combined.append(target)
    return combined


def _finite(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Which are finite, (problems, 1, 1), and 0 in place of the others: LAPACK raises for all of them then."""
    sound = matrices.isfinite().flatten(1).all(dim=1)[:, None, None]
    return sound, torch.where(sound, (matrices + matrices.mT) / 2, 0.0)


def _root(gram: Tensor, unit: float) -> Tensor:
    """R with `R^T R` a Gram matrix made a little larger, so that rounding does not spoil it; NaN where it is none."""
    sound, gram = _finite(gram)
    size = gram.diagonal(dim1=1, dim2=2).sum(dim=1)
    jitter = torch.where(size > 0, JITTER * unit * size, 1.0)
    factor, failed = torch.linalg.cholesky_ex(gram + torch.diag_embed(jitter[:, None].expand(gram.shape[:2])))
    return torch.where(sound & (failed == 0)[:, None, None], factor, torch.nan).mT


def _largest(matrices: Tensor, count: int) -> Tensor:
    """Orthonormal vectors near the largest eigenvectors of symmetric matrices; NaN where one is not finite."""
    sound, matrices = _finite(matrices)
    size = matrices.shape[1]
    vectors = torch.eye(size, dtype=matrices.dtype, device=matrices.device)[:, size - count :]  # the newest factors
    for _ in range(SWEEPS):
        vectors = torch.linalg.qr(matrices @ vectors)[0]
    return torch.where(sound, vectors, torch.nan)
