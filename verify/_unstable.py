"""T9: eigenvalues of modulus above 1, and which claims they refute.

*Contraction in any norm.* If G had constant q < 1 in some norm on a region, then `||J|| <= q`, hence `rho(J) <= q`,
at each point of its interior where G is differentiable. In an open box there are such points (Rademacher), and their
J lies in the box' enclosure of slopes, kinks or not. So an enclosure all of whose matrices have an eigenvalue of
modulus > 1 refutes the claim.

*Convergence, F analytic.* Let y* be an equilibrium in the region, J = DF(y*) nonsingular with an eigenvalue of modulus
> 1. By the centre-stable manifold theorem the starts whose iterates stay near y* lie in a manifold of lower dimension:
a null set. F is analytic and det DF(y*) != 0, so det DF vanishes on a null set only, and preimages of null sets are
null sets. Hence almost no start converges to y*; a region has inner points, so the claim is false. (Without "analytic
and nonsingular" an unstable equilibrium refutes nothing: iterates may leave it and land on it again exactly.)

*Convergence from every start, F continuous everywhere, differentiable at y*.* If all iterates converged to y*, then for
all large n the map F^n, continuous as F is, would send some ball into its interior and have y* for its only fixed point
there: degree 1. The degree is the sign of `det(I - J^n)` for n free of the finitely many n that make it 0; for odd n
this is `sign det(I - J)`, for even n `sign det(I - J) det(I + J)`. So `det(I - J) < 0`, or `det(I - J) != 0` and
`det(I + J) < 0`, refutes the claim, J being DF(y*). (2 z for |z| < 1, and 0 elsewhere, ends at 0 all the same.)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from . import _midrad as midrad
from ._around import computed_equilibrium
from ._decided import jumps
from ._evidence import Evidence
from ._located import Iteration
from ._midrad import MidRad
from ._norm import Norm
from ._problem import Problem
from ._region import Ball, Global, Region
from ._search import Located
from ._smooth import is_analytic, is_differentiable
from ._verified_eigen import SteinForm, eigenvalue_exceeds, proposed_form
from ._verified_solve import approximate_inverse, contraction_defect_bound, determinant_sign

_BOX = 2.0**-30  # half-width, relatively, of the box around a point
_MOST_PROBLEMS = 16


def eigenvalue_witness(problem: Problem, inputs: tuple[object, ...], region: Region) -> Evidence | None:
    """A box inside the region where every slope matrix of one problem has an eigenvalue of modulus > 1."""
    iteration = Iteration(problem)
    for point in _points(problem, inputs, iteration, region):
        radius = min(_BOX * max(1.0, float(point.abs().max())), _BOX * _room(region))
        if radius == 0:  # a flat box has nothing inside
            return None
        slopes = iteration.jacobian(point, radius)
        for number in range(min(iteration.problems, _MOST_PROBLEMS)):
            found = _growing(slopes, number)
            if found is not None and _strictly_inside(iteration, point, radius, number, region):
                leaves = tuple(iteration.leaves(point))
                return _evidence("eigenvalue", leaves, radius, number, found)
    return None


def unstable_witness(found: Located, damping: float) -> Evidence | None:
    """The equilibrium with an eigenvalue of modulus > 1, where that refutes convergence: F analytic, J nonsingular."""
    form = _unstable_form(found, damping)
    if form is None or not is_analytic(found.problem.graph) or not _nonsingular(_slopes(found, damping)):
        return None
    orbit = found.orbit
    return _evidence("unstable", orbit.points[0], orbit.radius, orbit.problem, form)


def index_witness(found: Located, damping: float) -> Evidence | None:
    """The equilibrium with the wrong index: it cannot attract every start. For claims about every start only."""
    if jumps(found.problem.graph):
        return None
    orbit, iteration = found.orbit, Iteration(found.problem, damping)
    point = iteration.flat(list(orbit.points[0]))
    if not (is_analytic(found.problem.graph) or is_differentiable(iteration.expression(point, orbit.radius))):
        return None
    if not has_wrong_index(_slopes(found, damping)):
        return None
    return Evidence("index", {"radius": orbit.radius}, {"problem": orbit.problem}, {"point": orbit.points[0]})


def has_wrong_index(slopes: MidRad) -> bool:
    """`det(I - J) < 0`, or `det(I - J) > 0` and `det(I + J) < 0`, for every J in the enclosure."""
    eye = MidRad.exact(torch.eye(slopes.mid.shape[0], dtype=torch.float64))
    before = determinant_sign(midrad.sub(eye, slopes))
    return before < 0 or (before > 0 and determinant_sign(midrad.add(eye, slopes)) < 0)


def unstable_at(found: Located, damping: float) -> str:
    """In words: the iteration is unstable at this equilibrium; "" where that is not proven."""
    form = _unstable_form(found, damping)
    if form is None:
        return ""
    iteration = "Picard's iteration" if damping == 1 else f"Picard's iteration damped by {damping:g}"
    return (
        f"refute: {iteration} is unstable at an equilibrium that is enclosed (problem {found.orbit.problem}, within "
        f"{found.orbit.radius:.2g}): every slope matrix there has an eigenvalue of modulus above {form.growth:.6g}; by "
        "itself this does not refute convergence"
    )


def _unstable_form(found: Located, damping: float) -> SteinForm | None:
    return _form_of(_slopes(found, damping))


def _slopes(found: Located, damping: float) -> MidRad:
    """DF on the orbit's ball, for its problem."""
    iteration = Iteration(found.problem, damping)
    point = iteration.flat(list(found.orbit.points[0]))
    return iteration.jacobian(point, found.orbit.radius).apply_exact(lambda t: t[found.orbit.problem])


def _growing(slopes: MidRad, number: int) -> SteinForm | None:
    return _form_of(slopes.apply_exact(lambda t: t[number]))


def _form_of(slopes: MidRad) -> SteinForm | None:
    form = proposed_form(slopes.mid) if slopes.is_finite() else None
    return form if form is not None and eigenvalue_exceeds(slopes, form) else None


def _nonsingular(slopes: MidRad) -> bool:
    inverse = approximate_inverse(slopes.mid)
    return inverse is not None and contraction_defect_bound(inverse, slopes) < 1 - 2.0**-12


def _points(problem: Problem, inputs: tuple[object, ...], iteration: Iteration, region: Region) -> list[Tensor]:
    if not isinstance(region, Global):
        return [iteration.flat(list(region.leaves if isinstance(region, Ball) else region.middle))]
    example = iteration.flat(problem.example)
    points = [example, torch.zeros_like(example)]
    computed = computed_equilibrium(problem, inputs)
    return points if computed is None else [iteration.flat(list(computed)), *points]


def _strictly_inside(iteration: Iteration, point: Tensor, radius: float, number: int, region: Region) -> bool:
    from ._located import Orbit, inside

    norm = region.norm if isinstance(region, Ball) else Norm("linf")
    orbit = Orbit((tuple(iteration.leaves(point)),), radius, number)
    return norm is not None and inside(region, norm, orbit, 0, iteration.problem.batch_dims, strictly=True)


def _room(region: Region) -> float:
    """About the distance from the middle of a region to its boundary."""
    if isinstance(region, Global):
        return math.inf
    if isinstance(region, Ball):
        return region.radius
    return min((float((b / 2 - a / 2).min()) for a, b in zip(*region.ends, strict=True) if a.numel()), default=0.0)


def _evidence(kind: str, point: tuple[Tensor, ...], radius: float, number: int, found: SteinForm) -> Evidence:
    numbers = {"radius": radius, "growth": found.growth}
    return Evidence(kind, numbers, {"problem": number}, {"point": point, "form": (found.form,)})
