"""T5 (a) `one_sided`: a one-sided Lipschitz constant below 1, where damped iteration converges though G expands."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from deqops._errors import UnsupportedOperationError

from .._claim import Converges
from .._evidence import Evidence
from .._gains import lipschitz_gain
from .._monotone import Layer, last_axis_weights, single_layer
from .._monotone_weights import LARGEST_SEARCHED, proposed_weights
from .._norm import Norm
from .._one_sided import best_damping, damped_constant, layer_one_sided, operator_one_sided, proposed_multiplier
from .._problem import Problem
from .._region import Global
from .._rounding import div_up, mul_up, sub_down
from ._base import Finding, Hypothesis, Theorem, contraction, used_inputs

if TYPE_CHECKING:
    from .._request import Request

LARGEST_AUTO = 512
"""Unknowns up to which `theorem="auto"` tries T5 (a), as many as the checker takes; by name there are more."""


def one_sided(problem: Problem, norm: Norm, damping: float | None) -> Finding:
    """T5 (a): `<G(y) - G(z), y - z> <= m ||y - z||^2`, m < 1, G with constant L, 0 < b <= 1.

    Then there is exactly one equilibrium, `(1-b) y + b G(y)` has constant `sqrt((1-b)^2 + 2b(1-b)m + b^2 L^2)`, and
    `||y - y*|| <= ||G(y) - y|| / (1 - m)` for any y. (For b > 1 the constant is another: b <= 1 is essential.)

    Args:
        problem: the operator.
        norm: l2, weighted or not.
        damping: b; None for the best.

    Raises:
        UnsupportedOperationError: no Jacobian expression with slopes everywhere, or one too large to write out.
    """
    gain = lipschitz_gain(problem.jacobian, norm, problem.batch_dims)
    bound = float(mul_up(gain.upper, problem.slack))
    mu, multiplier = _constant(problem, norm)
    b = best_damping(mu, bound) if damping is None else damping
    rate = float(mul_up(damped_constant(mu, bound, b), problem.slack))
    gap = float(sub_down(1.0, mu))
    factor = float(div_up(1.0, gap)) if gap > 0 else math.inf
    return Finding(
        "one_sided",
        norm,
        Global(),
        Evidence("one_sided", {"mu": mu, "bound": bound, "multiplier": multiplier, "factor": factor}),
        rate,
        (
            Hypothesis("one-sided", "m < 1", mu, 1.0, bool(mu < 1) and math.isfinite(factor)),
            Hypothesis("damping", "0 < b <= 1", b, 1.0, 0 < b <= 1),
            contraction(rate, "damped contraction", "(1-b)^2 + 2b(1-b)m + b^2 L^2 < 1"),
        ),
        used_inputs(problem),
        gain.contributions,
        claim=Converges(Global(), b),
    )


def _constant(problem: Problem, norm: Norm) -> tuple[float, float]:
    """m, and the multiplier it rests on: 0 where every entry of the slope matrices was taken by itself."""
    layer = single_layer(problem.jacobian)
    weights = None if layer is None else last_axis_weights(norm, layer.weight.shape[0])
    if layer is None or weights is None:
        return operator_one_sided(problem, norm), 0.0
    multiplier = proposed_multiplier(layer, weights)
    return layer_one_sided(layer, weights, multiplier), multiplier


def _attempt(problem: Problem, request: Request) -> Iterator[Finding]:
    """In plain l2, then, for one layer, with proposed weights; damping as asked for, where it is not 1."""
    damping, wanted = None if request.damping == 1 else request.damping, request.norm
    if request.theorem == "auto" and problem.size > LARGEST_AUTO:
        reason = f"has more than {LARGEST_AUTO} unknowns: ask for theorem one_sided by name"
        raise UnsupportedOperationError("operator", reason)
    if isinstance(wanted, Norm):
        request.check_weights(problem)
        yield one_sided(problem, wanted, damping)
        return
    if wanted != "weighted_l2":
        yield one_sided(problem, Norm("l2"), damping)
    layer = single_layer(problem.jacobian)
    if layer is not None and layer.weight.shape[0] <= LARGEST_SEARCHED:
        yield one_sided(problem, _weighted(problem, layer), damping)


def _weighted(problem: Problem, layer: Layer) -> Norm:
    weights = proposed_weights(layer.weight.mid, float(layer.lower.mid), float(layer.upper.mid))
    return Norm("l2", (weights.expand(problem.problem_shapes[0]).clone(),))


ONE_SIDED = Theorem(
    name="one_sided",
    number="T5",
    hypotheses=(
        ("one-sided", "m < 1"),
        ("damping", "0 < b <= 1"),
        ("damped contraction", "(1-b)^2 + 2b(1-b)m + b^2 L^2 < 1"),
    ),
    guarantee="one equilibrium, reached by y <- (1-b) y + b G(y) at the rate sqrt((1-b)^2 + 2b(1-b)m + b^2 L^2); "
    "||y - y*|| <= ||G(y) - y|| / (1 - m)",
    proof="one_sided",
    source="Zarantonello 1960; Bauschke and Combettes, Convex Analysis and Monotone Operator Theory",
    claim="converges",
    orders=("l2",),
    attempt=_attempt,
    residual_factor=lambda evidence: evidence.numbers["factor"],
    evidence=("one_sided",),
)
