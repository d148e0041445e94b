"""When a problem ends, and how: converged, diverged, not finite, stagnated.

The numbers that decide are one residual per problem. They go to the host once an evaluation; sizes, divergence and
rounding floors are computed only where a residual says that something may have ended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deqops._errors import InputError
from deqops._solution import RUNNING, Result
from deqops._tolerance import Tolerance
from deqops._tree import at_least_float32, host, known_row_norms, on_host, ordinary_range, plain_row_norms

GROWTH = 1e8
"""DIVERGED: the residual grows, above this times the larger of ||G(z_0)|| and ||G(z_0) - z_0||."""
FLOOR = 100.0
"""A residual below this many units of rounding of the state may be nothing but rounding."""
HIGHEST_FLOOR = 0.1
"""A residual above this part of the state's size is not taken for rounding, however coarse the unit."""
PATIENCE = 20
"""STAGNATED: down there, and for so many evaluations no residual was below STILL times the best one down there."""
STILL = 0.99
"""A residual above this times an earlier one has not improved."""
NEXT_PROOF = (1e-3, 0.9)
"""A proof is repeated once the residual has shrunk by the missing factor, kept within these limits."""
SLACK = 1.01
"""What a bound of sizes is widened by, for the rounding of norms."""

CONVERGED, DIVERGED, NONFINITE, STAGNATED = (
    int(result) for result in (Result.CONVERGED, Result.DIVERGED, Result.NONFINITE, Result.STAGNATED)
)

Proof = Callable[[Tensor], Tensor]
Numbers = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass
class Verdict:
    """What the watch says after an evaluation."""

    residual: Tensor  # (problems,): ||G(z) - z||
    lengths: Numbers  # the same on the host
    status: NDArray[np.int64] | None = None  # (problems,), RUNNING to go on; None where every problem goes on

    @cached_property
    def is_broken(self) -> bool:
        """Whether a problem is NONFINITE."""
        return self.status is not None and bool(np.count_nonzero(self.status == NONFINITE))


_OF_PROBLEMS = ("_limit", "_most", "_previous", "_best", "_idle", "_prove_below")
"""What a watch remembers from one evaluation to the next, a number for each problem."""


class _Extremes(NamedTuple):
    """Of what limits the residuals of all problems, the hardest."""

    size: float  # the largest
    near: float  # the largest part of a size
    most: float  # the least that is too much


class Watch:
    """Judges every problem of a solve, after each evaluation, by its own numbers only.

    Args:
        problems: how many.
        tolerance: when to stop.
        unit: the unit of rounding of the operator's results.
        proof: proven distances of a value, (problems,), for `tolerance.error`.
        puzzled: ask for a coarser unit at once.
    """

    def __init__(
        self, problems: int, tolerance: Tolerance, unit: float, proof: Proof | None, *, puzzled: bool = False
    ) -> None:
        self._tolerance, self._proof = tolerance, proof
        self._floor = np.full(problems, floor(unit))  # a part of a state's size
        self._near = self._nearness()
        self._least = tolerance.absolute
        self._limit = self._most = np.empty(0)  # a residual that grows above the first diverges
        self._is_begun = False  # there was an evaluation
        self._is_near_floor = False  # a residual was below the floor
        self._extremes: _Extremes | None = None  # None where they do not tell for all problems
        self._grown = 0.0  # by how much any size can have grown since
        # _mark: the smallest residual, of those after each PATIENCE evaluations
        self._previous, self._best, self._prove_below, self._mark = np.full((4, problems), np.inf)
        self._idle = np.zeros(problems, dtype=np.int64)
        self._buffer: Tensor | None = None
        self._stalled = np.full(problems, puzzled)
        self.is_puzzled = puzzled

    def reserve(self, like: Tensor) -> None:
        """Make room for differences before G is called, so that its own temporaries lie together, above it.

        Between them it keeps the C library from using their pages again: on states of megabytes half of a loop's time.
        """
        self._buffer = torch.zeros_like(like)

    def learn(self, unit: float) -> None:
        """Take the unit of rounding of what G computes with for that of the problems that raised the question.

        `is_puzzled` asks it: a residual has stopped improving, not yet at the floor that is known. The problems that
        did not ask go on with the floor they had, so that none depends on its companions.
        """
        self._floor = np.where(self._stalled, np.maximum(self._floor, floor(unit)), self._floor)
        self._near, self.is_puzzled, self._extremes = self._nearness(), False, None

    def _nearness(self) -> Numbers:
        nearness: Numbers = SLACK * np.maximum(self._tolerance.relative, self._floor)
        return nearness

    def notice(self, length: Numbers, ended: Mask) -> None:
        """Which running problems' residuals are where they were; called after every PATIENCE evaluations."""
        still = length >= STILL * self._mark
        if np.count_nonzero(still):
            self._stalled = still & (self._best == np.inf) & ~ended
            self.is_puzzled = bool(self._stalled.any())
        self._mark = np.fmin(self._mark, length)

    def judge(self, z: Tensor, image: Tensor, ended: Mask, last: Mask, *, chained: bool) -> Verdict:
        """The residuals `||G(z) - z||`, and each problem's result so far (RUNNING to go on).

        Args:
            z: the points, (problems, unknowns).
            image: G(z).
            ended: the problems whose answer is no longer wanted.
            last: for these no evaluation follows, so that a proof can wait no longer.
            chained: z is the image of the evaluation before, so that the residual bounds how its size changed.
        """
        difference = self._difference(z, image)
        residual = plain_row_norms(difference)
        near = on_host(residual)
        if self._extremes is not None and self._are_quiet(near, image, self._extremes, chained=chained):
            self._previous = near.numpy()
            return Verdict(residual, self._previous)
        length = near.numpy().astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # a state may run out of the range
            return self._closely(z, image, difference, residual, length, ended, last)

    def judge_again(self, first: Verdict, mended: Mask, z: Tensor, image: Tensor, last: Mask) -> Verdict:
        """The verdict on what was evaluated once more; the other problems keep the first, and count one evaluation."""
        before = {name: getattr(self, name) for name in _OF_PROBLEMS}
        second = self.judge(z, image, ~mended, last, chained=False)
        for name, kept in before.items():
            setattr(self, name, np.where(mended, getattr(self, name), kept))
        self._extremes = None
        statuses = [np.full(len(mended), RUNNING) if v.status is None else v.status for v in (second, first)]
        return Verdict(second.residual, second.lengths, np.where(mended, *statuses))

    def _closely(
        self,
        z: Tensor,
        image: Tensor,
        difference: Tensor,
        residual: Tensor,
        length: Numbers,
        ended: Mask,
        last: Mask,
    ) -> Verdict:
        """The verdict by sizes, floors and the growth; exact norms where squares would overflow or underflow."""
        size = known_row_norms(image)[1]
        if not self._is_begun:
            residual, length = self._exact(difference, residual, length, ended)
            self._begin(size, length, residual.dtype)
        status = None
        if self._is_near_floor or not self._is_quiet(size, length, ended):
            residual, length = self._exact(difference, residual, length, ended)
            status = self._status(z, image, size, length, ended, last)
        self._summarise(size, ended)
        self._previous = length
        return Verdict(residual, length, status)

    def narrow(self, kept: NDArray[np.int64]) -> None:
        """Forget all problems but these."""
        self._buffer = None
        for name in (*_OF_PROBLEMS, "_floor", "_near", "_mark", "_stalled"):
            setattr(self, name, getattr(self, name)[kept])
        self._extremes = None

    def _difference(self, z: Tensor, image: Tensor) -> Tensor:
        """`G(z) - z`, in memory that is used again: fresh pages cost more than the subtraction."""
        if z.requires_grad or image.requires_grad:
            return image - z
        if z.dtype not in (torch.float32, torch.float64):  # whose largest numbers differ by more than the dtype holds
            return at_least_float32(image) - at_least_float32(z)
        if self._buffer is None:
            self._buffer = torch.empty_like(z)
        return torch.sub(image, z, out=self._buffer)

    def _begin(self, size: Numbers, length: Numbers, dtype: torch.dtype) -> None:
        """What the first evaluation says of the others."""
        least, most = ordinary_range(dtype)
        self._is_begun, self._least = True, max(self._least, least)
        self._limit = GROWTH * np.fmax(size, length)
        self._most = np.fmin(self._limit, most)

    def _are_quiet(self, near: Tensor, image: Tensor, extremes: _Extremes, *, chained: bool) -> bool:
        """Whether `_is_quiet` holds by the least and the greatest residual; most evaluations need no more."""
        least, greatest = near.aminmax()  # NaN where any residual is, which is below nothing
        low, high = least.item(), greatest.item()
        if not high < extremes.most:
            return False
        if chained:  # a size grows by the residual at most
            size, grown = extremes.size, self._grown + high
        else:
            size, grown = on_host(plain_row_norms(image)).max().item(), 0.0
        if not low > self._least + SLACK * extremes.near * (size + grown):
            return False
        self._grown = grown
        return True

    def _is_quiet(self, size: Numbers, length: Numbers, ended: Mask) -> bool:
        """Whether no problem can have ended; false alarms cost time, nothing else."""
        quiet = (length > self._least + SLACK * self._near * size) & (length < self._most)
        count = len(quiet)  # counting takes a fifth of the time of `all`
        return bool(np.count_nonzero(quiet) == count or np.count_nonzero(quiet | ended) == count)

    def _summarise(self, size: Numbers, ended: Mask) -> None:
        """The extremes; none near a floor, or where a problem has ended: its residual says nothing."""
        self._grown, self._extremes = 0.0, None
        if not self._is_near_floor and not np.count_nonzero(ended):
            self._extremes = _Extremes(float(size.max()), float(self._near.max()), float(self._most.min()))

    @staticmethod
    def _exact(difference: Tensor, residual: Tensor, length: Numbers, ended: Mask) -> tuple[Tensor, Numbers]:
        """The residuals, anew where squares overflowed or underflowed."""
        least, most = ordinary_range(residual.dtype)
        if np.count_nonzero((length > least) & (length < most) | ended) == len(length):
            return residual, length
        return known_row_norms(difference)

    def _status(
        self,
        z: Tensor,
        image: Tensor,
        size: Numbers,
        length: Numbers,
        ended: Mask,
        last: Mask,
    ) -> NDArray[np.int64] | None:
        done = length <= self._tolerance.threshold(size)
        if self._tolerance.error is None and np.count_nonzero(done & np.isfinite(size) | ended) == len(done):
            return np.full(len(length), CONVERGED, dtype=np.int64)  # as most solves end
        broken = ~(np.isfinite(length) & np.isfinite(size))
        done &= ~broken
        diverged = (length > self._previous) & (length > self._limit)
        # What has converged need not be told from what is stuck, unless a proof is still to come.
        stuck = self._stagnated(z, size, length, ended if self._tolerance.error is not None else ended | done)
        if self._tolerance.error is not None:
            done = self._proven(image, length, done & ~ended, stuck | last)
        if not np.count_nonzero((diverged | stuck | done | broken) & ~ended):
            return None
        status = np.full(len(length), RUNNING, dtype=np.int64)
        for ends, result in ((diverged, DIVERGED), (stuck, STAGNATED), (done, CONVERGED), (broken, NONFINITE)):
            status[ends] = result
        return status

    def _stagnated(self, z: Tensor, size: Numbers, length: Numbers, ended: Mask) -> Mask:
        low = self._floor * size
        if not np.count_nonzero(((length <= low) | (self._best < np.inf)) & ~ended):
            return np.zeros(len(length), dtype=bool)
        low = self._floor * np.maximum(size, known_row_norms(z)[1])
        down = length <= low
        seen = self._best < np.inf
        better = (down & ~seen) | (seen & (length < STILL * self._best))
        self._idle = np.where(better, 0, self._idle + seen)
        self._best = np.where(better, np.fmin(length, self._mark), self._best)
        self._is_near_floor = True
        # A diverging state grows until its best residual is below the floor, so the current one counts too.
        return (self._idle >= PATIENCE) & (self._best <= low) & down

    def _proven(self, image: Tensor, length: Numbers, candidates: Mask, final: Mask) -> Mask:
        """Whether the proven distance is small enough; it is computed only where that may have changed."""
        due = candidates & ((length < self._prove_below) | final)
        error = self._tolerance.error
        if self._proof is None or error is None or not bool(due.any()):
            return np.zeros_like(candidates)
        bound = host(checked_distances(self._proof(image), len(length)))
        missing = np.nan_to_num(np.clip(error / bound, *NEXT_PROOF), nan=NEXT_PROOF[0])
        self._prove_below = np.where(due, missing * length, self._prove_below)
        proven: Mask = due & (bound <= error)  # NaN proves nothing
        return proven


def floor(unit: float) -> float:
    """The part of a state's size below which a residual may be nothing but rounding."""
    return min(FLOOR * unit, HIGHEST_FLOOR)


def checked_distances(distances: object, problems: int) -> Tensor:
    """A certificate's distances, one per problem."""
    if not isinstance(distances, Tensor) or distances.shape != (problems,):
        got = tuple(distances.shape) if isinstance(distances, Tensor) else type(distances).__name__
        raise InputError(f"certificate: its error bound has {got} as .l2, not a tensor of shape {(problems,)}")
    return distances
