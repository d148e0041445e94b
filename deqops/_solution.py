"""What a solve returns: values, one result per problem, residuals, counts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from torch import Tensor

from deqops._errors import DeqopsError


class Result(IntEnum):
    """How the solve of one problem ended."""

    RUNNING = 0
    """Internal: not ended yet; never returned."""
    CONVERGED = 1
    """The residual met the tolerance (and, where a proven error was asked for, that bound was met too)."""
    MAX_EVALUATIONS = 2
    """The residual was still above the tolerance after max_evaluations: raise it, or use another solver."""
    DIVERGED = 3
    """The residual grew beyond 1e6 times everything at the start: damp the iteration, or check contraction."""
    NONFINITE = 4
    """The operator returned NaN or infinity; the value is the last finite iterate: check weights and inputs."""
    STAGNATED = 5
    """The residual is at the dtype's rounding floor, above the tolerance: loosen it or use float64."""

    @property
    def remedy(self) -> str:
        """What to do, in a few words."""
        return _REMEDIES[self]


_REMEDIES = {
    Result.RUNNING: "",
    Result.CONVERGED: "",
    Result.MAX_EVALUATIONS: "raise max_evaluations, loosen the tolerance or use Anderson()",
    Result.DIVERGED: "use Picard(damping=0.5) or Anderson(), or check contraction with deqops.verify.certify",
    Result.NONFINITE: "check weights, inputs and the start for NaN and infinity",
    Result.STAGNATED: "loosen the tolerance or use float64",
}


@dataclass(frozen=True)
class Solution:
    """The outcome of a solve.

    Attributes:
        value: G(z) at the last iterate z, the state's structure; for NONFINITE the last finite iterate.
        result: `Result` of each problem, (problems,) int64.
        residual: `||G(z) - z||_2` of each problem, (problems,); it belongs to z, not to `value`.
        evaluations: of G spent on each problem, (problems,) int64.
        error_bound: proven distances of `value` to the equilibrium, from the tolerance's certificate; else None.
        trace: residuals after each evaluation, (evaluations, problems), NaN once a problem has ended; on request.
    """

    value: Any
    result: Tensor
    residual: Tensor
    evaluations: Tensor
    error_bound: Any = None
    trace: Tensor | None = None

    @property
    def converged(self) -> bool:
        """Whether every problem did."""
        return bool((self.result == Result.CONVERGED).all())

    @property
    def results(self) -> list[Result]:
        """The result of each problem as an enum."""
        return [Result(int(number)) for number in self.result]

    def describe_failure(self) -> str:
        """One line: how many problems failed, how, and what to do."""
        failed = [(n, r) for n, r in enumerate(self.results) if r is not Result.CONVERGED]
        number, kind = failed[0]
        residual = float(self.residual[number])
        return (
            f"{len(failed)} of {len(self.result)} problems did not converge; problem {number} ended as {kind.name} "
            f"after {int(self.evaluations[number])} evaluations with residual {residual:.3g}; {kind.remedy}"
        )


class ConvergenceError(DeqopsError, RuntimeError):
    """A solve failed for at least one problem; `solution` holds everything it found."""

    def __init__(self, solution: Solution, where: str = "solve") -> None:
        super().__init__(f"{where}: {solution.describe_failure()}")
        self.solution = solution
