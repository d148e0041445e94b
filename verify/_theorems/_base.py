"""What a theorem is to this package: a name, hypotheses that are verified, and what then holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from .._claim import Claim
from .._evidence import Evidence
from .._norm import Norm
from .._problem import Problem
from .._region import Region
from .._rounding import add_up, div_up, mul_up, sub_down, sub_up

if TYPE_CHECKING:
    from .._request import Request

SLACK = 1 + 2.0**-40  # a published bound is this much above the proven one: room for a checker's own method


@dataclass(frozen=True)
class Hypothesis:
    """One condition of a theorem: what was verified, against which limit, and whether it holds."""

    name: str
    statement: str
    value: float | None
    limit: float | None
    holds: bool


@dataclass(frozen=True)
class Finding:
    """What applying one theorem in one norm gave.

    Attributes:
        theorem: its name.
        norm: of the bounds and of the errors that follow.
        region: where they hold.
        evidence: the proven numbers and the witnesses, by the theorem's kind.
        rate: the proven constant of the iteration the theorem speaks of; None where it speaks of none.
        hypotheses: each with its value.
        inputs: the positions of the inputs whose values were used; the others are free.
        contributions: gains of the parts, for people.
        claim: what this finding proves where that is another claim than the one asked for.
    """

    theorem: str
    norm: Norm
    region: Region
    evidence: Evidence
    rate: float | None
    hypotheses: tuple[Hypothesis, ...]
    inputs: frozenset[int]
    contributions: tuple[tuple[str, float], ...] = ()
    claim: Claim | None = None

    @property
    def holds(self) -> bool:
        """Whether every hypothesis was verified."""
        return all(hypothesis.holds for hypothesis in self.hypotheses)

    @property
    def bound(self) -> float | None:
        """The proven Lipschitz constant of G on the region, where the theorem rests on one."""
        return self.evidence.numbers.get("bound")

    def describe(self) -> str:
        """One line: theorem, norm, and which hypothesis failed by how much."""
        failed = next((h for h in self.hypotheses if not h.holds), None)
        head = f"{self.theorem} in {self.norm.describe()} {self.region.describe()}"
        if failed is None:
            return f"{head}: holds" + (f" with q = {self.rate:.9g}" if self.rate is not None else "")
        return f"{head}: {failed.statement} not shown, {failed.value} against {failed.limit}"


@dataclass(frozen=True)
class Theorem:
    """One theorem of the theory.

    Attributes:
        name: as in certificates, "picard".
        number: as in the theory, "T1".
        hypotheses: name and statement of each condition that is verified.
        guarantee: what holds then, in a formula.
        proof: the name of its machine-checked proof under `proofs/theory/`, or None where there is none yet.
        source: where it is from.
        evidence: the kinds of evidence its certificates carry.
        rated: whether it proves the rate of an iteration.
        claim: the kind of claim made where this theorem is asked for by name.
        region: what it speaks of: "global", "ball", "local" (a ball or a box), or "any" of them.
        orders: of the norms it holds in.
        attempt: yields findings for a request, the cheapest first; raises `UnsupportedOperationError` where the
            operator has not the theorem's form.
        residual_factor: kappa of `||y - y*|| <= kappa ||G(y) - y||` for y in the region, from the evidence; inf
            where the evidence gives none.
    """

    name: str
    number: str
    hypotheses: tuple[tuple[str, str], ...]
    guarantee: str
    proof: str | None
    source: str
    attempt: Callable[[Problem, Request], Iterator[Finding]]
    residual_factor: Callable[[Evidence], float]
    evidence: tuple[str, ...]
    rated: bool = True
    claim: Literal["contraction", "converges", "unique_equilibrium"] = "contraction"
    region: Literal["global", "ball", "local", "any"] = "global"
    orders: tuple[str, ...] = ("l1", "l2", "linf")


def contraction(value: float, name: str = "contraction", statement: str = "q < 1") -> Hypothesis:
    """`value < 1`, with NaN failing."""
    return Hypothesis(name, statement, value, 1.0, bool(value < 1))


def damped_rate(bound: float, damping: float) -> float:
    """Upper bound of `|1 - b| + |b| q`."""
    kept = max(abs(float(sub_up(1.0, damping))), abs(float(sub_down(1.0, damping))))
    return float(add_up(kept, mul_up(abs(damping), bound)))


def inverse_gap(evidence: Evidence) -> float:
    """`1 / (1 - q)` from the evidence's "bound", rounded up; inf unless q < 1."""
    bound = evidence.numbers["bound"]
    return float(div_up(1.0, sub_down(1.0, bound))) if bound < 1 else math.inf


def used_inputs(problem: Problem) -> frozenset[int]:
    """The positions of the inputs whose values entered the problem's constants."""
    return frozenset(problem.constants.touched)
