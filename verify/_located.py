"""Equilibria and cycles of the damped iteration: located by Newton's method, then enclosed by T6.

The map is `F(y) = (1 - b) y + b G(y)`. A cycle of period p is a zero of `Phi(y_0, .., y_{p-1})_i = y_{i+1} - F(y_i)`,
indices modulo p; p = 1 is an equilibrium. Everything is done for all problems of a batch at once, one (n, n) Jacobian
each; what is proven is proven for one problem.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from . import _midrad as midrad
from ._flat import flattened, unflattened
from ._interval_jacobian import interval_jacobian
from ._jacobian import Jacobian
from ._local import local_jacobian
from ._membership import holds_boxes
from ._midrad import MidRad
from ._newton_steps import cyclic, newton_step
from ._norm import Norm
from ._problem import Problem
from ._region import Ball, Region
from ._rounding import add_up, exact_float64
from ._verified_solve import approximate_inverse, contraction_defect_bound, has_one_zero, newton_bound

LINF = Norm("linf")
POLISHING_STEPS = 4
_GROWTHS = (4.0, 1e2, 1e4)  # radii tried, in units of the Newton step's bound
_ROOM = 1 - 2.0**-12  # the checker's own bounds may be a little larger


@dataclass(frozen=True, eq=False)
class Orbit:
    """Exactly one cycle of period p with y_i in the linf ball of `radius` around `points[i]`, for one problem.

    Attributes:
        points: p states, each a tuple of float64 leaves of the full state's shape.
        radius: of each ball, linf.
        problem: the number of the problem it is about; the other problems' numbers mean nothing.
    """

    points: tuple[tuple[Tensor, ...], ...]
    radius: float
    problem: int


class Iteration:
    """`F(y) = (1 - b) y + b G(y)` on states as (problems, n) matrices.

    Args:
        problem: whose G.
        damping: b, not 0.
    """

    def __init__(self, problem: Problem, damping: float = 1.0) -> None:
        self.problem = problem
        self._b = MidRad.exact(torch.tensor(damping, dtype=torch.float64))
        self._kept = midrad.sub(MidRad.exact(torch.ones((), dtype=torch.float64)), self._b)
        self._like = [torch.zeros(leaf.shape, dtype=torch.float64) for leaf in problem.example]

    @property
    def problems(self) -> int:
        """How many problems one state holds."""
        return self._like[0].shape[0] if self.problem.batch_dims else 1

    def leaves(self, flat: Tensor) -> list[Tensor]:
        """The state's leaves, float64, of a (problems, n) matrix."""
        return unflattened(flat, self._like)

    def flat(self, leaves: list[Tensor]) -> Tensor:
        """The (problems, n) matrix of a state."""
        return flattened([MidRad.exact(exact_float64(leaf)) for leaf in leaves], self.problem.batch_dims).mid

    def image(self, flat: Tensor) -> MidRad:
        """Enclosure of F at a point, (problems, n)."""
        image = flattened(self.problem.image(self.leaves(flat)), self.problem.batch_dims)
        return midrad.add(midrad.mul(self._kept, MidRad.exact(flat)), midrad.mul(self._b, image))

    def expression(self, flat: Tensor, radius: float) -> Jacobian:
        """G's Jacobian expression with slopes that hold in linf balls around a point."""
        return local_jacobian(self.problem, Ball(tuple(self.leaves(flat)), radius, LINF), LINF)

    def jacobian(self, flat: Tensor, radius: float) -> MidRad:
        """Every slope matrix of F on linf balls around a point, (problems, n, n)."""
        slopes = interval_jacobian(self.expression(flat, radius), self.problem.batch_dims)
        eye = MidRad.exact(torch.eye(flat.shape[1], dtype=torch.float64))
        return midrad.add(midrad.mul(self._kept, eye), midrad.mul(self._b, slopes))


def polished(iteration: Iteration, points: list[Tensor]) -> list[Tensor]:
    """A few steps of Newton's method with the residual from enclosures: proposals good to binary64."""
    y = torch.stack(points)  # (p, problems, n)
    for _ in range(POLISHING_STEPS):
        safe = torch.where(y.isfinite().all(dim=2).all(dim=0)[None, :, None], y, 0.0)
        gaps = torch.stack([iteration.image(point).mid for point in safe]) - safe.roll(-1, dims=0)
        matrices = torch.stack([iteration.jacobian(point, _tiny(point)).mid for point in safe])
        step = newton_step(matrices, gaps)
        y = safe + step.nan_to_num(0.0, 0.0, 0.0)
        if not bool((step.abs() > 1e-15 * safe.abs().clamp(min=1.0)).any()):
            break
    return list(y)


def enclosed(iteration: Iteration, points: list[Tensor], number: int) -> Orbit | None:
    """T6 at proposed points for one problem: a radius with exactly one cycle in the balls, or None.

    Args:
        iteration: F.
        points: p states, each (problems, n).
        number: of the problem.
    """
    if not all(bool(point[number].isfinite().all()) for point in points):
        return None
    points = [torch.where(point.isfinite(), point, 0.0) for point in points]
    start = _cyclic_enclosure([_one(iteration.jacobian(point, _tiny(point)), number) for point in points])
    inverse = approximate_inverse(start.mid) if start.is_finite() else None
    if inverse is None:
        return None
    residual = newton_bound(inverse, _equation(iteration, points, number))
    for radius in _radii(residual, points, number):
        slopes = [_one(iteration.jacobian(point, radius), number) for point in points]
        defect = contraction_defect_bound(inverse, _cyclic_enclosure(slopes))
        if has_one_zero(residual, defect, radius * _ROOM) and defect < _ROOM:
            return Orbit(tuple(tuple(iteration.leaves(point)) for point in points), radius, number)
    return None


def _radii(residual: float, points: list[Tensor], number: int) -> Iterator[float]:
    scale = max(1.0, max(float(point[number].abs().max()) for point in points))
    for growth in _GROWTHS:
        radius = growth * max(residual, 1e-15 * scale)
        if radius < 1e3 * scale:
            yield radius


def _tiny(point: Tensor) -> float:
    return 1e-14 * max(1.0, float(point.abs().max()))


def _one(matrices: MidRad, number: int) -> MidRad:
    return matrices.apply_exact(lambda t: t[number])


def _cyclic_enclosure(slopes: list[MidRad]) -> MidRad:
    """DPhi in enclosures; a sum of I and -J in one block only for p = 1."""
    p, n = len(slopes), slopes[0].mid.shape[0]
    if p == 1:
        return midrad.sub(MidRad.exact(torch.eye(n, dtype=torch.float64)), slopes[0])
    rad = torch.zeros(p * n, p * n, dtype=torch.float64)
    for i, slope in enumerate(slopes):
        rad[i * n : (i + 1) * n, i * n : (i + 1) * n] = slope.rad
    return MidRad(cyclic([slope.mid for slope in slopes]), rad)


def _equation(iteration: Iteration, points: list[Tensor], number: int) -> MidRad:
    """Phi in enclosures, (p n,)."""
    parts = []
    for i, point in enumerate(points):
        after = MidRad.exact(points[(i + 1) % len(points)][number])
        parts.append(midrad.sub(after, _one(iteration.image(point), number)))
    return MidRad(torch.cat([part.mid for part in parts]), torch.cat([part.rad for part in parts]))


def apart(first: tuple[Tensor, ...], second: tuple[Tensor, ...], problem: int, batch_dims: int, gap: float) -> bool:
    """Whether two states of one problem are proven to differ by more than `gap` in some entry."""
    a, b = (flattened([MidRad.exact(leaf) for leaf in leaves], batch_dims) for leaves in (first, second))
    distance = midrad.sub(a, b).mignitude()[problem]
    return bool((distance > gap).any())


def distinct(a: Orbit, b: Orbit, batch_dims: int) -> bool:
    """Whether the first balls of two orbits of one problem are disjoint."""
    gap = float(add_up(a.radius, b.radius))
    return a.problem == b.problem and apart(a.points[0], b.points[0], a.problem, batch_dims, gap)


def is_proper(orbit: Orbit, batch_dims: int) -> bool:
    """Whether consecutive points of the cycle differ: F(y_0) != y_0, so that the iteration from y_0 never settles."""
    gap = float(add_up(orbit.radius, orbit.radius))
    return len(orbit.points) > 1 and apart(orbit.points[0], orbit.points[1], orbit.problem, batch_dims, gap)


def inside(region: Region, norm: Norm, orbit: Orbit, which: int, batch_dims: int, *, strictly: bool = False) -> bool:
    """Whether one whole ball of an orbit lies in a region; a ball is one of the norm."""
    points = list(orbit.points[which])
    widths = [torch.tensor(orbit.radius, dtype=torch.float64)] * len(points)
    return bool(holds_boxes(region, norm, points, widths, batch_dims, strictly=strictly)[orbit.problem])
