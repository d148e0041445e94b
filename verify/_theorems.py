"""The theorems certify can apply: each verifies its hypotheses and says what then holds.

Statements and names are those of the theory (T1 `picard`, T2 `local_picard`, T4 `damped`, T5 `monotone`);
all but the last have a machine-checked proof under `proofs/theory/`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ._gains import lipschitz_gain
from ._local import local_jacobian
from ._monotone import Layer, Monotonicity, last_axis_weights, monotonicity
from ._norm import Norm, finite
from ._problem import Problem
from ._region import Ball, Global, Region
from ._rounding import add_up, mul_down, mul_up, sub_down, sub_up

TheoremName = Literal["picard", "local_picard", "damped", "monotone"]

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

    `bound` is a proven Lipschitz constant of G on the region, `rate` the proven constant of the iteration the
    theorem speaks of; `residual` a proven `||G(c) - c||` for local theorems. T5 proves neither bound nor rate but
    `monotonicity` (mu) and `factor` in `||y - y*|| <= factor ||G(y) - y||`. `inputs` are the positions of the inputs
    whose values were used.
    """

    theorem: TheoremName
    norm: Norm
    region: Region
    bound: float | None
    rate: float | None
    hypotheses: tuple[Hypothesis, ...]
    inputs: frozenset[int]
    contributions: tuple[tuple[str, float], ...] = ()
    damping: float = 1.0
    residual: float | None = None
    monotonicity: float | None = None
    factor: float | None = None

    @property
    def holds(self) -> bool:
        """Whether every hypothesis was verified."""
        return all(hypothesis.holds for hypothesis in self.hypotheses)

    def describe(self) -> str:
        """One line: theorem, norm, and which hypothesis failed by how much."""
        failed = next((h for h in self.hypotheses if not h.holds), None)
        head = f"{self.theorem} in {self.norm.describe()} {self.region.describe()}"
        if failed is None:
            return f"{head}: holds" + (f" with q = {self.rate:.9g}" if self.rate is not None else "")
        return f"{head}: {failed.statement} not shown, {failed.value} against {failed.limit}"


def contraction(value: float, name: str = "contraction", statement: str = "q < 1") -> Hypothesis:
    """`value < 1`, with NaN failing."""
    return Hypothesis(name, statement, value, 1.0, bool(value < 1))


def picard(problem: Problem, norm: Norm, damping: float = 1.0) -> Finding:
    """T1 (Banach-Caccioppoli): G has a constant q < 1 on X.

    Then there is exactly one equilibrium and Picard's iteration converges to it from every start, with
    `||y - y*|| <= ||G(y) - y|| / (1 - q)` for any y. Proof: `picard`.
    """
    gain = lipschitz_gain(problem.jacobian, norm, problem.batch_dims)
    bound = float(mul_up(gain.upper, SLACK))
    hypotheses: tuple[Hypothesis, ...] = (contraction(bound),)
    if damping != 1:
        hypotheses += (contraction(damped_rate(bound, damping), "damped contraction", "|1 - b| + |b| q < 1"),)
    rate = bound if damping == 1 else damped_rate(bound, damping)
    return Finding("picard", norm, Global(), bound, rate, hypotheses, _used(problem), gain.contributions, damping)


def damped(problem: Problem, norm: Norm, damping: float) -> Finding:
    """T4 (smoothing factor): `(1-b) y + b G(y)` has constant `|1-b| + |b| q` < 1 and the equilibria of G.

    Proof: `damped`.
    """
    plain = picard(problem, norm)
    bound = math.inf if plain.bound is None else plain.bound
    rate = damped_rate(bound, damping)
    hypotheses = (
        Hypothesis("damping", "b != 0", damping, 0.0, damping != 0),
        contraction(rate, "damped contraction", "|1 - b| + |b| q < 1"),
    )
    inputs, parts = plain.inputs, plain.contributions
    return Finding("damped", norm, Global(), bound, rate, hypotheses, inputs, parts, damping)


def local_picard(problem: Problem, norm: Norm, ball: Ball, damping: float = 1.0) -> Finding:
    """T2: constant q < 1 on B(c, r) and `||G(c) - c|| <= (1 - q) r`.

    Then G maps the ball into itself, has exactly one equilibrium in it, and Picard's iteration converges to it
    from every start there. Proof: `local_picard`.
    """
    gain = lipschitz_gain(local_jacobian(problem, ball, norm), norm, problem.batch_dims)
    bound = float(mul_up(gain.upper, SLACK))
    residuals = problem.residual(list(ball.leaves), norm)
    residual = float(mul_up(float(residuals.max()), SLACK)) if residuals.numel() else 0.0
    room = float(mul_down(sub_down(1.0, bound), ball.radius)) if bound < 1 else 0.0
    statement = "||G(c) - c|| <= (1 - q) r"
    hypotheses: tuple[Hypothesis, ...] = (
        contraction(bound),
        Hypothesis("self-map", statement, residual, room, finite(residual) and bool(residual <= room)),
    )
    if damping != 1:
        allowed = 0 < damping <= 1
        hypotheses += (Hypothesis("damping", "0 < b <= 1 keeps the ball invariant", damping, 1.0, allowed),)
    region = Ball(ball.center, ball.radius, norm)
    used = frozenset(range(len(problem.graph.inputs)))  # the residual takes every input's value
    rate = bound if damping == 1 else damped_rate(bound, damping)
    return Finding("local_picard", norm, region, bound, rate, hypotheses, used, gain.contributions, damping, residual)


def monotone(problem: Problem, layer: Layer, norm: Norm) -> Finding:
    """T5 (c, d): `G(z) = s(W z + c)` with slopes in [a, b] and `sym((I - a W)^T P (I - b W)) >= mu P`, mu > 0.

    Then there is exactly one equilibrium, for every c, and `||y - y*||_P <= factor ||G(y) - y||_P`. It says nothing
    of Picard's iteration. P is the square of the norm's weights, constant along all dimensions but the last.
    """
    weights = last_axis_weights(norm, layer.weight.shape[0])
    found = Monotonicity(-math.inf, math.inf) if weights is None else monotonicity(layer, weights)
    holds = found.mu > 0 and math.isfinite(found.factor)
    hypothesis = Hypothesis("monotone", "mu > 0", found.mu, 0.0, holds)
    return Finding(
        "monotone",
        norm,
        Global(),
        None,
        None,
        (hypothesis,),
        _used(problem),
        monotonicity=found.mu,
        factor=found.factor,
    )


def damped_rate(bound: float, damping: float) -> float:
    """Upper bound of `|1 - b| + |b| q`."""
    kept = max(abs(float(sub_up(1.0, damping))), abs(float(sub_down(1.0, damping))))
    return float(add_up(kept, mul_up(abs(damping), bound)))


def _used(problem: Problem) -> frozenset[int]:
    return frozenset(problem.constants.touched)
