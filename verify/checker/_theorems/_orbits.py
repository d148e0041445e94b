"""T9 `refute`: two equilibria, and cycles."""

from __future__ import annotations

from flint import arb

from .. import _arithmetic as ball
from .._document import Document, Evidence, Norm
from .._orbit import Iteration, Point, require_orbit
from .._subject import Subject
from ._base import Rule, point_of, require
from ._refutation import require_box_inside, require_plain, require_problem

LONGEST_CYCLE = 16


def _two_equilibria(document: Document, evidence: Evidence, subject: Subject, norm: Norm) -> tuple[str, ...]:
    """Two boxes in the region, disjoint, each with an equilibrium: not one equilibrium, no contraction."""
    require_plain(document)
    iteration = Iteration(subject, 1.0, require_problem(evidence, subject))
    lines, points = [], []
    for name in ("first", "second"):
        point, radius = point_of(subject, evidence.arrays[name]), evidence[f"{name}_radius"]
        lines.append(require_orbit(iteration, [point], radius))
        require_box_inside(document, subject, norm, iteration.problem, point, radius)
        points.append(point)
    gap = arb(evidence["first_radius"]) + arb(evidence["second_radius"])
    require(_apart(iteration, points[0], points[1], gap), "evidence: the two boxes may overlap")
    return tuple(lines)


def _cycle(document: Document, evidence: Evidence, subject: Subject, norm: Norm) -> tuple[str, ...]:
    """A cycle of the iteration that starts in the region and moves: the iteration from there does not converge."""
    require(document.kind == "converges", "claim: a cycle refutes only convergence")
    require(document.damping != 0, "claim.iteration.damping: must not be 0")
    require_plain(document)
    iteration, radius = Iteration(subject, document.damping, require_problem(evidence, subject)), evidence["radius"]
    leaves = evidence.arrays["points"]
    require(bool(leaves) and all(leaf.ndim for leaf in leaves), "evidence.points: must be stacked states")
    period = len(leaves[0])
    require(1 < period <= LONGEST_CYCLE, f"evidence.points: the period must be from 2 to {LONGEST_CYCLE}")
    require(all(len(leaf) == period for leaf in leaves), "evidence.points: leaves differ in their number of points")
    points = [point_of(subject, tuple(leaf[i] for leaf in leaves)) for i in range(period)]
    line = require_orbit(iteration, points, radius)
    require_box_inside(document, subject, norm, iteration.problem, points[0], radius)
    require(_apart(iteration, points[0], points[1], 2 * arb(radius)), "evidence: the cycle may be an equilibrium")
    return (line,)


def _apart(iteration: Iteration, a: Point, b: Point, gap: ball.Ball) -> bool:
    """Whether some entry differs by more than the gap."""
    difference = ball.absolute(ball.array(iteration.one(a) - iteration.one(b)))
    return any(bool(entry > gap) for entry in difference)


TWO_EQUILIBRIA = Rule(_two_equilibria, "two_equilibria")
CYCLE = Rule(_cycle, "cycle")
