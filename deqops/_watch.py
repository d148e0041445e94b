"""When a problem ends, and how: converged, diverged, not finite, stagnated."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from deqops._errors import InputError
from deqops._solution import RUNNING, Result
from deqops._tolerance import Tolerance
from deqops._tree import row_norms

GROWTH = 1e8
"""DIVERGED: the residual grows, above this times the largest of ||z_0||, ||G(z_0)|| and their distance."""
FLOOR = 100.0
"""A residual below this many units of rounding of the state may be nothing but rounding."""
PATIENCE = 20
"""STAGNATED: down there, and for so many evaluations no residual was below 0.99 times the best one before."""
NEXT_PROOF = (1e-3, 0.9)
"""A proof is repeated once the residual has shrunk by the missing factor, kept within these limits."""

Proof = Callable[[Tensor], Tensor]


class Watch:
    """Judges every problem of a solve, after each evaluation, by its own numbers only.

    Args:
        start: z_0, (problems, unknowns).
        tolerance: when to stop.
        unit: the unit of rounding of the operator's results.
        proof: proven distances of a value, (problems,), for `tolerance.error`.
    """

    def __init__(self, start: Tensor, tolerance: Tolerance, unit: float, proof: Proof | None) -> None:
        self._tolerance, self._unit, self._proof = tolerance, unit, proof
        infinite = torch.full_like(row_norms(start), torch.inf)
        self._reference: Tensor | None = None
        self._previous = infinite
        self._best = infinite
        self._idle = torch.zeros(start.shape[0], dtype=torch.int64, device=start.device)
        self._prove_below = infinite

    def judge(self, z: Tensor, image: Tensor, running: Tensor, *, last: bool) -> tuple[Tensor, Tensor]:
        """The residuals `||G(z) - z||`, and each problem's result so far (RUNNING to go on).

        Args:
            z: the points, (problems, unknowns).
            image: G(z).
            running: the problems whose answer is wanted, (problems,) bool.
            last: no evaluation follows, so that a proof can wait no longer.
        """
        residual, size = row_norms(image - z), row_norms(image)
        scale = torch.maximum(size, row_norms(z))
        finite = image.isfinite().all(dim=1) & residual.isfinite()
        diverged = self._diverged(residual, scale)
        stuck = self._stagnated(residual, scale)
        done = finite & (residual <= self._tolerance.threshold(size))
        if self._tolerance.error is not None:
            done = self._proven(image, residual, done & running, stuck | last)
        status = torch.full_like(running, RUNNING, dtype=torch.int64)
        for mask, result in (
            (diverged, Result.DIVERGED),
            (stuck, Result.STAGNATED),
            (done, Result.CONVERGED),
        ):
            status = torch.where(mask, int(result), status)
        return residual, torch.where(finite, status, int(Result.NONFINITE))

    def _diverged(self, residual: Tensor, scale: Tensor) -> Tensor:
        if self._reference is None:
            self._reference = torch.maximum(scale, residual)
        grows = residual > self._previous
        self._previous = residual
        return grows & (residual > GROWTH * self._reference)

    def _stagnated(self, residual: Tensor, scale: Tensor) -> Tensor:
        better = residual < 0.99 * self._best
        self._idle = torch.where(better, 0, self._idle + 1)
        self._best = torch.where(better, residual, self._best)
        floor = FLOOR * self._unit * scale
        # A diverging state grows until its best residual is below the floor, so the current one counts too.
        return (self._idle >= PATIENCE) & (self._best <= floor) & (residual <= floor)

    def _proven(self, image: Tensor, residual: Tensor, candidates: Tensor, final: Tensor) -> Tensor:
        """Whether the proven distance is small enough; it is computed only where that may have changed."""
        due = candidates & ((residual < self._prove_below) | final)
        error = self._tolerance.error
        if self._proof is None or error is None or not bool(due.any()):
            return torch.zeros_like(candidates)
        bound = checked_distances(self._proof(image), residual)
        missing = (error / bound).nan_to_num(0.0).clamp(*NEXT_PROOF)
        self._prove_below = torch.where(due, missing * residual, self._prove_below).to(residual.dtype)
        return due & (bound <= error)  # NaN proves nothing


def checked_distances(distances: object, residual: Tensor) -> Tensor:
    """A certificate's distances on the residual's device, one per problem."""
    if not isinstance(distances, Tensor) or distances.shape != residual.shape:
        got = tuple(distances.shape) if isinstance(distances, Tensor) else type(distances).__name__
        expected = tuple(residual.shape)
        raise InputError(f"certificate: its error bound has {got} as .l2, not a tensor of shape {expected}")
    return distances.to(residual.device)
