"""T5 (b) `log_norm`: a logarithmic norm below 1, where damped iteration converges though G need not contract."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from deqops._errors import UnsupportedOperationError

from .._claim import Converges
from .._evidence import Evidence
from .._log_norm import log_norm, proposed_log_weights
from .._monotone import Layer, last_axis_weights, single_layer
from .._norm import Norm, Order
from .._problem import Problem
from .._region import Global
from .._rounding import add_up, div_down, div_up, mul_down, mul_up, sub_down, sub_up
from ._base import SLACK, Finding, Hypothesis, Theorem, used_inputs

if TYPE_CHECKING:
    from .._request import Request


def log_norm_finding(problem: Problem, layer: Layer, norm: Norm, damping: float | None) -> Finding:
    """T5 (b): `mu(M) <= m < 1` for all slopes M, `M_ii >= d`, 0 < b <= 1 / (1 - d), d < 1.

    Then there is exactly one equilibrium, `(1-b) y + b G(y)` has constant `1 - b (1 - m)`, and
    `||y - y*|| <= ||G(y) - y|| / (1 - m)` for any y.

    Args:
        problem: whose operator the layer is.
        layer: `s(W z + c)`.
        norm: l1 or linf, weights along the last dimension or none.
        damping: b; None for the largest that the theorem allows.
    """
    weights = last_axis_weights(norm, layer.weight.shape[0])
    found = None if weights is None else log_norm(layer, norm.order, weights)
    mu = math.inf if found is None else _above(found.mu)
    least = -math.inf if found is None else -_above(-found.least)
    room = float(sub_up(1.0, least))
    largest = float(div_down(1.0, room)) if 0 < room < math.inf else 0.0
    b = largest if damping is None else damping
    gap = float(sub_down(1.0, mu))
    rate = float(sub_up(1.0, mul_down(b, gap)))
    return Finding(
        "log_norm",
        norm,
        Global(),
        Evidence("log_norm", {"mu": mu, "least": least, "factor": float(div_up(1.0, gap)) if gap > 0 else math.inf}),
        rate,
        (
            Hypothesis("logarithmic norm", "mu(M) < 1", mu, 1.0, bool(mu < 1)),
            Hypothesis("damping", "0 < b <= 1 / (1 - d)", b, largest, 0 < b <= largest),
            Hypothesis("damped contraction", "1 - b (1 - m) < 1", rate, 1.0, bool(rate < 1)),
        ),
        used_inputs(problem),
        claim=Converges(Global(), b) if b else None,
    )


def _above(value: float) -> float:
    """A little more: room for a checker's own method."""
    return float(add_up(value, mul_up(abs(value), SLACK - 1)))


def _attempt(problem: Problem, request: Request) -> Iterator[Finding]:
    """In plain linf and l1, then with proposed weights; damping as asked for, where it is not 1."""
    layer = single_layer(problem.jacobian)
    if layer is None:
        raise UnsupportedOperationError("operator", "theorem log_norm needs the form s(W z + c)")
    damping = None if request.damping == 1 else request.damping
    if isinstance(request.norm, Norm):
        request.check_weights(problem)
        yield log_norm_finding(problem, layer, request.norm, damping)
        return
    wanted = request.norm
    orders: tuple[Order, ...] = ("linf", "l1")
    for order in orders:
        if wanted in ("auto", f"weighted_{order}"):
            weights = proposed_log_weights(layer, order).expand(problem.problem_shapes[0]).clone()
            yield log_norm_finding(problem, layer, Norm(order, (weights,)), damping)


LOG_NORM = Theorem(
    name="log_norm",
    number="T5",
    hypotheses=(
        ("logarithmic norm", "mu(M) < 1"),
        ("damping", "0 < b <= 1 / (1 - d)"),
        ("damped contraction", "1 - b (1 - m) < 1"),
    ),
    guarantee="one equilibrium, reached by y <- (1-b) y + b G(y) at the rate 1 - b (1 - m); "
    "||y - y*|| <= ||G(y) - y|| / (1 - m)",
    proof="log_norm",
    source="Davydov, Jafarpour, Proskurnikov and Bullo, NeurIPS 2021 (non-Euclidean monotone operators)",
    claim="converges",
    orders=("l1", "linf"),
    attempt=_attempt,
    residual_factor=lambda evidence: evidence.numbers["factor"],
    evidence=("log_norm",),
)
