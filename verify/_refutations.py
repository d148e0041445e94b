"""T9 `refute`: the kinds of witness, one object each; `_refute.py` searches for them and verifies what it finds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Refutation:
    """One way to refute a claim.

    Attributes:
        kind: of the evidence, "two_points".
        refutes: names of the claims' classes.
        hypotheses: what is verified of the witness, in enclosures.
        words: what the witness shows, with the evidence's numbers and counts in braces.
        proof: the name of its machine-checked proof under `proofs/theory/`, or None where there is none yet.
        source: where it is from.
    """

    kind: str
    refutes: tuple[str, ...]
    hypotheses: tuple[str, ...]
    words: str
    proof: str | None
    source: str


_LOCATED = "T6 in a box around it: exactly one equilibrium there"
_STEIN = "Stein's inequality for every slope matrix on the box: an eigenvalue of modulus above 1"

REFUTATIONS: dict[str, Refutation] = {
    refutation.kind: refutation
    for refutation in (
        Refutation(
            "two_points",
            ("Contraction",),
            ("y != z, both in the region", "||G(y) - G(z)|| >= ||y - z||"),
            "two states of problem {problem} that G moves apart or keeps apart.",
            "refute_points",
            "the definition",
        ),
        Refutation(
            "eigenvalue",
            ("Contraction",),
            ("the box is inside the region", _STEIN),
            "a state of problem {problem} near which every slope matrix of G has an eigenvalue of modulus above "
            "{growth}: G contracts there in no norm.",
            "refute_stein",
            "Rademacher 1919; Stein 1952",
        ),
        Refutation(
            "two_equilibria",
            ("Contraction", "UniqueEquilibrium", "Converges"),
            ("T6 in each box", "the boxes are disjoint and inside the region"),
            "two equilibria of problem {problem}, enclosed within {first_radius} and {second_radius}.",
            "refute_two_equilibria",
            "Krawczyk 1969; Rump 1983",
        ),
        Refutation(
            "cycle",
            ("Converges",),
            ("T6 for the whole cycle of the damped map", "its first two boxes are disjoint, the first in the region"),
            "a cycle of the iteration of problem {problem}, enclosed within {radius}: it goes round for ever.",
            "refute_cycle",
            "Krawczyk 1969; Rump 1983, for the cycle's equations",
        ),
        Refutation(
            "unstable",
            ("Converges",),
            (_LOCATED, _STEIN, "the damped map is analytic, its Jacobian there nonsingular"),
            "an equilibrium of problem {problem}, enclosed within {radius}, with an eigenvalue of modulus above "
            "{growth}; the map is analytic, so that almost no start leads there.",
            None,
            "centre-stable manifold theorem; Shub, Global Stability of Dynamical Systems, 1987",
        ),
        Refutation(
            "index",
            ("Converges",),
            (_LOCATED, "det(I - J) < 0, or det(I - J) != 0 and det(I + J) < 0, for every J on the box"),
            "an equilibrium of problem {problem}, enclosed within {radius}, where a determinant has a sign that it "
            "cannot have if every start leads there.",
            None,
            "Brouwer's degree; Krasnosel'skii and Zabreiko, Geometrical Methods of Nonlinear Analysis, 1984",
        ),
    )
}
"""Each kind of witness by its evidence's kind."""
