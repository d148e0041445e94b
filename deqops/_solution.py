"""What a solve returns: values, one result per problem, residuals, counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from torch import Tensor

from deqops._errors import DeqopsError

RUNNING = 0
"""In the loop's tensors of results: not ended yet; no solve returns it."""


class Result(IntEnum):
    """How the solve of one problem ended. None but `CONVERGED` says that `value` solves anything."""

    CONVERGED = 1
    """The residual met the tolerance, and so did the proven error where one was asked for.

    Without a certificate this bounds the residual only: with constant q the error may be 1/(1-q) times that.
    """
    MAX_EVALUATIONS = 2
    """The tolerance was not met within max_evaluations; raise it, or use `Anderson()` or damping."""
    DIVERGED = 3
    """The residual grew above 1e8 times the start's size; damp the iteration, or check contraction.

    The start's size is the larger of `||G(z_0)||` and `||G(z_0) - z_0||`. No proof of divergence.
    """
    NONFINITE = 4
    """G returned NaN or infinity (`value` is the last finite iterate); check weights, inputs and start."""
    STAGNATED = 5
    """The residual stopped improving at the dtype's rounding floor; loosen the tolerance or use float64.

    At the floor (100 units of rounding of the state, or a tenth of its size if that is less), and for 20 evaluations
    not 1 % below the best residual; or the proven error cannot reach `Tolerance.error` there. The unit is that of
    the coarsest dtype of the state, of autocast's, or of what G was seen to compute in when it stopped improving.
    """

    @property
    def remedy(self) -> str:
        """What to do, in a few words."""
        return _REMEDIES[self]


_REMEDIES = {
    Result.CONVERGED: "",
    Result.MAX_EVALUATIONS: "raise max_evaluations, loosen the tolerance or use Anderson()",
    Result.DIVERGED: "use Picard(damping=0.5) or Anderson(), or check contraction with deqops.verify.certify",
    Result.NONFINITE: "check weights, inputs and the start for NaN and infinity",
    Result.STAGNATED: "loosen the tolerance or use float64",
}
_REMEDIES_OF_ADJOINTS = _REMEDIES | {
    Result.MAX_EVALUATIONS: "raise ImplicitAdjoint(max_evaluations=...) or loosen ImplicitAdjoint(tolerance=...)",
    Result.STAGNATED: "loosen ImplicitAdjoint(tolerance=...), which is not the layer's tolerance, or use float64",
}
"""An adjoint equation has settings of its own."""


@dataclass(frozen=True, eq=False)
class Solution:
    """The outcome of a solve.

    Attributes:
        value: G(z) at the last iterate z, in the state's structure; z itself for NONFINITE.
        result: `Result` of each problem, (problems,) int64.
        residual: `||G(z) - z||_2` over all leaves, (problems,); it belongs to z, not to `value`; infinity for
            NONFINITE.
        evaluations: of G spent on each problem, (problems,) int64; not counted are those that attach
            gradients and those of the backward pass.
        error_bound: proven distances of `value` to the equilibrium by the tolerance's certificate, or None.
        trace: on request, the residual of each evaluation, (evaluations, problems); NaN after the end.
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
        """One line: how many problems failed, how, and what to do; empty when none did."""
        return _failure(self, _REMEDIES)


def _failure(solution: Solution, remedies: Mapping[Result, str]) -> str:
    failed = [(n, r) for n, r in enumerate(solution.results) if r is not Result.CONVERGED]
    if not failed:
        return ""
    counts = Counter(result.name for _, result in failed)
    kinds = ", ".join(f"{count} {name}" for name, count in counts.items())
    number, kind = failed[0]
    return (
        f"{len(failed)} of {len(solution.result)} problems did not converge ({kinds}); problem {number} has "
        f"residual {float(solution.residual[number]):.3g} after {int(solution.evaluations[number])} evaluations: "
        f"{remedies[kind]}"
    )


class ConvergenceError(DeqopsError, RuntimeError):
    """A solve failed for at least one problem; `solution` holds everything it found."""

    def __init__(self, solution: Solution, where: str = "solve") -> None:
        remedies = _REMEDIES_OF_ADJOINTS if where.endswith("ImplicitAdjoint") else _REMEDIES
        super().__init__(f"{where}: {_failure(solution, remedies)}")
        self.solution, self.where = solution, where

    def __reduce__(self) -> tuple[type[ConvergenceError], tuple[Solution, str]]:
        """What it was made of: by default an exception is made anew from its message."""
        return type(self), (self.solution, self.where)
