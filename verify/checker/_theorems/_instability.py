"""T9 `refute`: eigenvalues of modulus above 1, and equilibria of the wrong index."""

from __future__ import annotations

from flint import arb_mat

from .. import _arithmetic as ball
from .._decided import jumps
from .._document import Document, Evidence, Norm
from .._eigenvalue import require_growth
from .._orbit import Iteration, defect_of, float_inverse, require_orbit
from .._smooth import is_analytic, is_differentiable
from .._subject import Subject
from .._witness import Array
from ._base import Rule, point_of, require
from ._refutation import require_box_inside, require_plain, require_problem


def _eigenvalue(document: Document, evidence: Evidence, subject: Subject, norm: Norm) -> tuple[str, ...]:
    """A box in the region where every slope matrix has an eigenvalue of modulus > 1: no norm makes G contract there."""
    require(document.kind == "contraction", "claim: an eigenvalue refutes only a contraction")
    require_plain(document)
    problem, radius = require_problem(evidence, subject), evidence["radius"]
    require(radius > 0, "evidence.radius: must be positive")
    point = point_of(subject, evidence.arrays["point"])
    require_box_inside(document, subject, norm, problem, point, radius)
    line = require_growth(Iteration(subject, 1.0, problem).slopes(point, radius), _form(evidence), evidence["growth"])
    return (f"box of half-width {radius!r} around the point of problem {problem}: {line}",)


def _unstable(document: Document, evidence: Evidence, subject: Subject, norm: Norm) -> tuple[str, ...]:
    """An equilibrium in the region, unstable, of an analytic F with a nonsingular Jacobian: almost no start gets there.

    Centre-stable manifold theorem (Shub 1987, III.7); preimages of null sets are null sets where det DF is not 0.
    """
    require(document.kind == "converges", "claim: instability refutes only convergence")
    require(document.damping != 0, "claim.iteration.damping: must not be 0")
    require_plain(document)
    require(is_analytic(subject), "evidence: instability refutes convergence only where the operator is analytic")
    problem, radius = require_problem(evidence, subject), evidence["radius"]
    point = point_of(subject, evidence.arrays["point"])
    located = require_orbit(Iteration(subject, 1.0, problem), [point], radius)
    require_box_inside(document, subject, norm, problem, point, radius)
    slopes = Iteration(subject, document.damping, problem).slopes(point, radius)
    line = require_growth(slopes, _form(evidence), evidence["growth"])
    require(bool(defect_of(float_inverse(slopes), slopes) < 1), "evidence: the Jacobian may be singular")
    return (located, f"{line}, and is nonsingular; the operator is analytic")


def _index(document: Document, evidence: Evidence, subject: Subject, norm: Norm) -> tuple[str, ...]:
    """`det(I - J) < 0`, or `det(I - J) > 0 > det(I + J)`, J the Jacobian of F at an equilibrium: it cannot attract all.

    If F^n(y) -> y* for every y, F being continuous, then F^n maps some ball into its interior for all large n and has
    no other fixed point, so that `det(I - J^n) >= 0`.
    """
    require(document.kind == "converges", "claim: an index refutes only convergence")
    require(document.damping != 0, "claim.iteration.damping: must not be 0")
    require(document.region is None, "region: an index refutes only convergence from every start")
    require_plain(document)
    require(not jumps(subject.graph), "evidence: an index refutes convergence only where the operator jumps nowhere")
    problem, radius = require_problem(evidence, subject), evidence["radius"]
    point = point_of(subject, evidence.arrays["point"])
    located = require_orbit(Iteration(subject, 1.0, problem), [point], radius)
    iteration = Iteration(subject, document.damping, problem)
    smooth = is_analytic(subject) or is_differentiable(
        iteration.walk(point, 2 * radius)
    )  # y* has a neighbourhood in it
    require(smooth, "evidence: the operator may not be differentiable at the equilibrium")
    slopes = iteration.slopes(point, radius)
    before, after = (_determinant(slopes, sign) for sign in (-1, 1))
    require(bool(before < 0) or bool(before > 0 and after < 0), "evidence: neither determinant is shown to be negative")
    which = "det(I - J)" if before < 0 else "det(I + J)"
    return (located, f"{which} < 0 there: the equilibrium cannot attract every start")


def _determinant(slopes: ball.Balls, sign: int) -> ball.Ball:
    """det(I + sign J)."""
    matrix = ball.times(slopes, sign)
    for i in range(len(matrix)):
        matrix[i, i] += 1
    return arb_mat(len(matrix), len(matrix), list(matrix.flat)).det()


def _form(evidence: Evidence) -> Array:
    require(len(evidence.arrays["form"]) == 1, "evidence.form: must be one matrix")
    return evidence.arrays["form"][0]


EIGENVALUE = Rule(_eigenvalue, "eigenvalue")
UNSTABLE = Rule(_unstable, "unstable")
INDEX = Rule(_index, "index")
