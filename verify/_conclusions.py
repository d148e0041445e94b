"""The theorems that make no certificate but draw conclusions, one object each: T3, T4 with q = 1, T7, T10, T14.

`_theorems/` holds those that make a certificate, `_refutations.py` those that refute a claim.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ._gradient_error import gradient_error_bound
from ._nonexpansive import nonexpansive_bound
from ._perturbed import rounding_bound, rounding_floor
from ._projection import nystrom_bound, projection_bound
from ._sensitivity import sensitivity_bound


@dataclass(frozen=True)
class Conclusion:
    """What follows from a certificate, from the operator, or from numbers that the caller has proven.

    Attributes:
        name: as in the theory, "perturbed".
        number: as in the theory, "T3".
        hypotheses: name and statement of each condition; the function's result holds their values.
        guarantee: what holds then, in a formula.
        proof: the name of its machine-checked proof under `proofs/theory/`, or None where there is none yet.
        source: where it is from.
        function: verifies the hypotheses and returns the bound; raises where one is not shown.
    """

    name: str
    number: str
    hypotheses: tuple[tuple[str, str], ...]
    guarantee: str
    proof: str | None
    source: str
    function: Callable[..., Any]


_ALL = (
    Conclusion(
        name="perturbed",
        number="T3",
        hypotheses=(
            ("residual", "||y - y*|| <= kappa ||G(y) - y|| in the region"),
            ("perturbation", "||G^(y) - G(y)|| <= delta"),
        ),
        guarantee="||y - y*|| <= kappa (||G^(y) - y|| + delta)",
        proof="perturbed",
        source="Ostrowski, The round-off stability of iterations, ZAMM 47, 1967",
        function=rounding_bound,
    ),
    Conclusion(
        name="perturbed",
        number="T3",
        hypotheses=(
            ("contraction", "q < 1"),
            ("self-map", "||G(c) - c|| + delta <= (1 - q) r"),
            ("arithmetic", "float32 or float64 as torch computes eagerly on the CPU"),
            ("libm accuracy", "each elementary function errs by at most k ulp: assumed, not proven"),
        ),
        guarantee="the iterates of G^ stay in B(c, r); ||y^_n - y*|| <= q^n ||y_0 - y*|| + delta / (1 - q)",
        proof="perturbed_ball",
        source="Ostrowski, The round-off stability of iterations, ZAMM 47, 1967",
        function=rounding_floor,
    ),
    Conclusion(
        name="damped",
        number="T4",
        hypotheses=(
            ("nonexpansive", "||G(y) - G(z)|| <= ||y - z||"),
            ("invariant set", "a bounded closed convex set that G maps into itself"),
            ("damping", "0 < b < 1"),
        ),
        guarantee="an equilibrium exists, y <- (1-b) y + b G(y) converges to one; "
        "||G(y_n) - y_n||^2 <= ||y_0 - y*||^2 / (b (1-b) (n+1))",
        proof="averaged",
        source="Mann 1953; Krasnosel'skii 1955; "
        "Bauschke and Combettes, Convex Analysis and Monotone Operator Theory, 5.2",
        function=nonexpansive_bound,
    ),
    Conclusion(
        name="projection",
        number="T7",
        hypotheses=(("contraction", "|lambda| k ||P|| < 1"), ("distance", "||y* - P y*||")),
        guarantee="||y_P - y*|| <= ||y* - P y*|| / (1 - |lambda| k ||P||)",
        proof="projection",
        source="Krasnosel'skii et al., Approximate Solution of Operator Equations, 1972",
        function=projection_bound,
    ),
    Conclusion(
        name="projection",
        number="T7",
        hypotheses=(
            ("contraction", "q = |lambda| kappa (b - a) < 1"),
            ("defect", "sup over t of |T_h(y_h) - T(y_h)|"),
            ("nodes", "max |y_h(s_j) - Y_j| <= rho"),
        ),
        guarantee="sup |y_h - y*| <= |lambda| sup |T_h(y_h) - T(y_h)| / (1 - q)",
        proof="nystrom",
        source="Nystrom 1930; Atkinson, The Numerical Solution of Integral Equations of the Second Kind, 1997",
        function=nystrom_bound,
    ),
    Conclusion(
        name="sensitivity",
        number="T10",
        hypotheses=(
            ("residual", "||y - y*|| <= kappa ||G(y) - y|| for all y and x"),
            ("input", "||G(y, x) - G(y, x')|| <= L ||x - x'|| for all y"),
        ),
        guarantee="||y*(x) - y*(x')|| <= kappa L ||x - x'||",
        proof="sensitivity",
        source="Banach's theorem with a parameter; Granas and Dugundji, Fixed Point Theory, 2003",
        function=sensitivity_bound,
    ),
    Conclusion(
        name="implicit_gradient",
        number="T14",
        hypotheses=(
            ("contraction", "||J_y|| <= q < 1"),
            ("curvature of s", "sup |s''|"),
            ("J_y in y", "||J_y(y) - J_y(z)|| <= l ||y - z||"),
            ("J_x in y", "||J_x(y) - J_x(z)|| <= l' ||y - z||"),
            ("distance", "||y - y*|| <= eps"),
        ),
        guarantee="error <= q^n ||J_x|| / (1 - q) + l' eps / (1 - q) + l eps ||J_x|| / (1 - q)^2",
        proof="gradient_error",
        source="implicit function theorem; Neumann's series",
        function=gradient_error_bound,
    ),
)

CONCLUSIONS: dict[str, Conclusion] = {conclusion.function.__name__: conclusion for conclusion in _ALL}
"""Each by the name of the function that verifies its hypotheses."""
