"""Where equilibria and cycles are looked for; nothing here is believed before T6 encloses it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ._evidence import Evidence
from ._interval_jacobian import LARGEST_ENTRIES
from ._located import Iteration, Orbit, distinct, enclosed, inside, is_proper, polished
from ._newton_steps import Copies, Model, proposed_orbit
from ._norm import Norm
from ._problem import Problem
from ._region import Ball, Box, Region
from ._watch import Watch

LARGEST = 256
"""Unknowns of one problem up to which equilibria are looked for."""

_TAIL = 300  # steps of the iteration before a cycle is looked for
_PAUSE = 10  # steps between two looks at whether it stands still
_SETTLED = 1e-12  # relatively: a step this short goes nowhere
_PERIODS = (2, 3, 4)
_FEW = 32  # unknowns of one problem up to which more starts are tried
_SCALES = (1.0, 1.0, 4.0, 16.0)
_SHARES = (1.0, 0.5, 1.0, 0.25, *(1.0, 0.5, 0.25) * 3)  # of a ball's radius
_MOST_PROBLEMS = 16  # of a batch are looked at
_TOGETHER = 2**24  # entries of the Jacobians at several starts that are held at once
_RETURNING = 0.5  # of a step: how near a cycle's tail comes back
_NEAR = 1e-6  # relatively, about the rounding of float32: computed points this close count as one


@dataclass(frozen=True, eq=False)
class Located:
    """A certified equilibrium: an orbit of period 1 of G, and whose."""

    problem: Problem
    orbit: Orbit


class Search:
    """Looks for equilibria of G and cycles of `F(y) = (1 - b) y + b G(y)` from a few starts.

    Args:
        problem: whose G.
        inputs: of the operator, for the model's own arithmetic.
        damping: b.
        norm: of the region.
        region: where the claim is made; only what lies in it is a witness.
        watch: asked before each proposal is looked at.
    """

    def __init__(
        self,
        problem: Problem,
        inputs: tuple[object, ...],
        damping: float,
        norm: Norm,
        region: Region,
        watch: Watch | None = None,
    ) -> None:
        self._problem, self._norm, self._region = problem, norm, region
        self._plain, self._damped = Iteration(problem), Iteration(problem, damping)
        self._model, self._damped_model = Model(problem, inputs, 1.0), Model(problem, inputs, damping)
        self._watch = watch or Watch()
        self._known: list[Orbit] = []
        self._tried: list[tuple[int, Tensor]] = []  # points where T6 found nothing, and whose problem's
        self._tails: list[list[Tensor]] | None = None

    # ------------------------------------------------------------------------------------------- witnesses

    def two_equilibria(self) -> Evidence | None:
        """Two certified equilibria of one problem in the region, their balls disjoint."""
        for orbit in self._orbits():
            for other in self._known:
                if other is not orbit and distinct(orbit, other, self._problem.batch_dims):
                    numbers = {"first_radius": other.radius, "second_radius": orbit.radius}
                    tensors = {"first": other.points[0], "second": orbit.points[0]}
                    return Evidence("two_equilibria", numbers, {"problem": orbit.problem}, tensors)
        return None

    def equilibria(self) -> list[Located]:
        """The certified equilibria known so far, those of the region only."""
        return [Located(self._problem, orbit) for orbit in self._known]

    def cycle(self) -> Evidence | None:
        """A certified cycle of the iteration with a point in the region."""
        for tail in self._iterated():
            if self._watch.spent:
                return None
            for period in self._periods(tail):
                points, settled = proposed_orbit(self._damped_model, tail[:period])
                moving = [n for n in self._numbers() if bool(settled[n]) and _moves(points, n)]
                for number, proposal in self._polished(self._damped, list(points), moving):
                    orbit = self._proper(proposal, number)
                    if orbit is not None:
                        return _cycle_evidence(orbit)
        return None

    def _polished(
        self, iteration: Iteration, points: list[Tensor], numbers: list[int]
    ) -> Iterator[tuple[int, list[Tensor]]]:
        if numbers:
            better = polished(iteration, points)
            yield from ((number, better) for number in numbers)

    def _proper(self, proposal: list[Tensor], number: int) -> Orbit | None:
        orbit = enclosed(self._damped, proposal, number)
        if orbit is None or not is_proper(orbit, self._problem.batch_dims):
            return None
        for which in range(len(orbit.points)):
            if self._inside(orbit, which):
                turned = (*orbit.points[which:], *orbit.points[:which])
                return Orbit(turned, orbit.radius, orbit.problem)
        return None

    def _inside(self, orbit: Orbit, which: int) -> bool:
        return inside(self._region, self._norm, orbit, which, self._problem.batch_dims)

    # ------------------------------------------------------------------------------------------- equilibria

    def _orbits(self) -> Iterator[Orbit]:
        """Certified equilibria in the region, each new one as it is found."""
        for starts in self._starts():
            for point, settled in self._proposed(starts):
                if self._watch.spent:
                    return
                fresh = [n for n in self._numbers() if bool(settled[n]) and self._is_new(point, n)]
                for number, proposal in self._polished(self._plain, [point], fresh):
                    orbit = enclosed(self._plain, proposal, number) if self._is_new(proposal[0], number) else None
                    if orbit is not None and self._inside(orbit, 0):
                        self._known.append(orbit)
                        yield orbit
                    else:
                        self._tried += [(number, point[number]), (number, proposal[0][number])]

    def _proposed(self, starts: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Where Newton's method ends up from each start, (problems, n), and which problems settled there."""
        problems, unknowns = self._plain.problems, self._problem.size
        together = max(_TOGETHER // max(problems * unknowns**2, 1), 1)
        for first in range(0, len(starts), together):
            part = starts[first : first + together]
            points, settled = proposed_orbit(Copies(self._model, len(part)), [torch.cat(part)])
            yield from zip(points[0].chunk(len(part)), settled.chunk(len(part)), strict=True)

    def _is_new(self, point: Tensor, number: int) -> bool:
        """Whether no known equilibrium of this problem, and no point tried in vain, is near."""
        known = [(orbit.problem, self._plain.flat(list(orbit.points[0]))[orbit.problem]) for orbit in self._known]
        for problem, old in (*known, *self._tried):
            if problem == number and bool((point[number] - old).abs().max() <= _NEAR * _scale(old)):
                return False
        return bool(point[number].isfinite().all())

    def _numbers(self) -> range:
        return range(min(self._plain.problems, _MOST_PROBLEMS))

    # ----------------------------------------------------------------------------------------------- starts

    def _starts(self) -> Iterator[list[Tensor]]:
        """Fixed points to start Newton's method from, then where the iteration ends up from them."""
        yield list(self._seeds())
        yield [tail[0] for tail in self._iterated()]

    def _seeds(self) -> Iterator[Tensor]:
        example = self._plain.flat(self._problem.example)
        few = example.shape[1] > _FEW
        if isinstance(self._region, Box):
            yield from self._seeds_in(self._region, 4 if few else len(_SHARES))
            return
        if isinstance(self._region, Ball):
            centre = self._plain.flat(list(self._region.leaves))
            widths = [self._region.radius * share for share in _SHARES[: 4 if few else None]]
        else:
            yield example
            centre, widths = torch.zeros_like(example), [*_SCALES] * (1 if few else 3)
        yield centre
        generator = torch.Generator().manual_seed(0)
        for width in widths:
            yield centre + width * torch.randn(example.shape, generator=generator, dtype=torch.float64)

    def _seeds_in(self, box: Box, count: int) -> Iterator[Tensor]:
        """The middle of a box, then points all over it."""
        middle, *ends = (self._plain.flat(list(leaves)) for leaves in (box.middle, *box.ends))
        yield middle
        generator = torch.Generator().manual_seed(0)
        for _ in range(count):
            share = torch.rand(middle.shape, generator=generator, dtype=torch.float64)
            yield ends[0] + share * (ends[1] - ends[0])

    def _iterated(self) -> list[list[Tensor]]:
        """The last points of the iteration from each seed, and from near each known equilibrium."""
        if self._tails is None:
            self._tails = self._iterated_from([*self._seeds(), *self._beside_equilibria()])
        return self._tails

    def _beside_equilibria(self) -> Iterator[Tensor]:
        """Known equilibria moved a little along the direction that grows fastest, both ways."""
        for orbit in self._known[:4]:
            point = self._plain.flat(list(orbit.points[0]))
            matrix = self._damped.jacobian(point, orbit.radius).mid[orbit.problem]
            if not bool(matrix.isfinite().all()):
                continue
            values, vectors = torch.linalg.eig(matrix)
            direction = vectors[:, int(values.abs().argmax())].real
            for sign in (1.0, -1.0):
                yield point + sign * 1e-2 * _scale(point) * direction / direction.abs().max().clamp(min=1e-300)

    def _iterated_from(self, seeds: list[Tensor]) -> list[list[Tensor]]:
        """Some successive points after `_TAIL` steps in the model's arithmetic, or where it stands still; per seed.

        A seed from which every problem overflows is left out.
        """
        together, most = Copies(self._damped_model, len(seeds)), max(_PERIODS) + 1
        stack, shape = torch.cat(seeds), (len(seeds), *seeds[0].shape)
        settled = torch.zeros(len(seeds), dtype=torch.bool)
        ends, tail = torch.stack(seeds), []
        with torch.no_grad():
            for step in range(_TAIL + most):
                if step >= _TAIL:
                    tail.append(stack.reshape(shape))
                before, stack = stack, together(stack)
                if step % _PAUSE == 0:
                    now = _stands_still(before.reshape(shape), stack.reshape(shape)) & ~settled
                    ends, settled = torch.where(now[:, None, None], stack.reshape(shape), ends), settled | now
                    if bool((settled | ~_alive(stack.reshape(shape))).all()):
                        break
        moving = _alive(stack.reshape(shape)) & ~settled
        return [
            [ends[k]] * most if settled[k] else [points[k] for points in tail]
            for k in range(len(seeds))
            if settled[k] or (moving[k] and len(tail) == most)
        ]

    def _periods(self, tail: list[Tensor]) -> list[int]:
        """The periods worth trying, by how well the tail returns; none where it has settled."""
        size = self._plain.problems * (max(_PERIODS) * tail[0].shape[1]) ** 2
        step = (tail[1] - tail[0]).abs().amax(dim=1)
        moving = step > _NEAR * _scale(tail[0])
        if size > LARGEST_ENTRIES or not bool(moving.any()):
            return []
        returns = {p: float(((tail[p] - tail[0]).abs().amax(dim=1) / step)[moving].min()) for p in _PERIODS}
        return [p for p in sorted(_PERIODS, key=lambda p: returns[p]) if returns[p] < _RETURNING][:1]


def _stands_still(before: Tensor, after: Tensor) -> Tensor:
    """Which states a step hardly moved, (copies, problems, n) to (copies,)."""
    scale = after.abs().nan_to_num(0.0, 0.0, 0.0).amax(dim=(1, 2)).clamp(min=1.0)
    return (after - before).abs().amax(dim=(1, 2)) <= _SETTLED * scale


def _alive(stack: Tensor) -> Tensor:
    """Which states have a problem that is finite, (copies, problems, n) to (copies,)."""
    return stack.isfinite().all(dim=2).any(dim=1)


def _moves(points: Tensor, number: int) -> bool:
    """Whether a proposed cycle is more than an equilibrium; points (p, problems, n)."""
    first, second = points[0, number], points[1, number]
    return bool(points[:, number].isfinite().all()) and bool((first - second).abs().max() > _NEAR * _scale(first))


def _scale(point: Tensor) -> float:
    largest = float(point.abs().nan_to_num(0.0, 0.0, 0.0).max()) if point.numel() else 0.0
    return max(1.0, largest)


def _cycle_evidence(orbit: Orbit) -> Evidence:
    stacked = tuple(torch.stack(leaves) for leaves in zip(*orbit.points, strict=True))
    return Evidence("cycle", {"radius": orbit.radius}, {"problem": orbit.problem}, {"points": stacked})
