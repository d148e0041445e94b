"""T9 `refute`: is the claim that was asked for proven false?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch

from deqops._errors import UnsupportedOperationError

from ._claim import Claim, Contraction, Converges, UniqueEquilibrium
from ._evidence import Evidence
from ._norm import Norm
from ._problem import Problem
from ._region import Global, Region, stated
from ._request import Request
from ._search import LARGEST, Located, Search
from ._theorems import Finding
from ._two_points import refuting_points
from ._unstable import eigenvalue_witness, index_witness, unstable_at, unstable_witness
from ._watch import Watch


@dataclass(frozen=True, eq=False)
class Refuted:
    """A claim that is proven false, the norm it is about, and the witness."""

    claim: Claim
    norm: Norm
    evidence: Evidence


@dataclass(eq=False)
class Outcome:
    """What the search for a refutation gave.

    Attributes:
        refutation: or None.
        remarks: proven facts that do not refute the claim, and why nothing could be searched, for people.
    """

    refutation: Refuted | None = None
    remarks: list[str] = field(default_factory=list)


def refutation(problem: Problem, inputs: tuple[object, ...], request: Request, findings: list[Finding]) -> Outcome:
    """A verified witness against the claim that was asked for, where one is found.

    Args:
        problem: the operator.
        inputs: its inputs, for the search in the model's own arithmetic.
        request: what was asked.
        findings: of the theorems, all failed.
    """
    norm = findings[0].norm if findings else request.default_norm()
    region = stated(request.region, norm)
    claim, outcome = request.claim(norm, region), Outcome()
    against = _Witnesses(problem, inputs, norm, region, outcome.remarks, request.watch)
    for attempt in against.attempts(claim):
        if request.watch.spent:
            outcome.remarks.append("refute: not searched to the end, the budget was spent")
            return outcome
        try:
            evidence = attempt()
        except UnsupportedOperationError as error:
            outcome.remarks.append(f"refute: {error}")
            continue
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
            outcome.remarks.append("refute: LAPACK did not converge; nothing was proposed")
            continue
        if evidence is not None:
            outcome.refutation = Refuted(claim, norm, evidence)
            return outcome
    return outcome


class _Witnesses:
    """The kinds of witness against each kind of claim, the cheapest first."""

    def __init__(
        self,
        problem: Problem,
        inputs: tuple[object, ...],
        norm: Norm,
        region: Region,
        remarks: list[str],
        watch: Watch,
    ) -> None:
        self._problem, self._inputs, self._norm, self._region = problem, inputs, norm, region
        self._remarks, self._watch = remarks, watch
        self._small = problem.size <= LARGEST

    def attempts(self, claim: Claim) -> Iterator[Callable[[], Evidence | None]]:
        """Functions that search for a witness; each may raise `UnsupportedOperationError`."""
        if isinstance(claim, Contraction):
            yield lambda: refuting_points(self._problem, self._inputs, self._norm, self._region)
            if self._small:
                yield lambda: eigenvalue_witness(self._problem, self._inputs, self._region)
        elif not self._small:
            self._remarks.append(
                f"refute: one problem has {self._problem.size} unknowns, equilibria are searched for up to {LARGEST}"
            )
        elif isinstance(claim, UniqueEquilibrium):
            yield lambda: self._search(1.0).two_equilibria()
        else:
            yield from self._against_convergence(claim)

    def _search(self, damping: float) -> Search:
        return Search(self._problem, self._inputs, damping, self._norm, self._region, self._watch)

    def _against_convergence(self, claim: Converges) -> Iterator[Callable[[], Evidence | None]]:
        search = self._search(claim.damping)
        yield search.two_equilibria
        yield search.cycle
        yield lambda: self._instability(search.equilibria(), claim)

    def _instability(self, located: list[Located], claim: Converges) -> Evidence | None:
        for found in located:
            witness = unstable_witness(found, claim.damping)
            if witness is None and isinstance(claim.region, Global):
                witness = index_witness(found, claim.damping)
            if witness is not None:
                return witness
        self._remarks += [text for text in (unstable_at(found, claim.damping) for found in located) if text]
        return None
