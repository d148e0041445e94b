"""The iteration that a run is about, computed anew from its files, beside its proven bound."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

if TYPE_CHECKING:
    from deqops.verify import Certificate

    from ._facts import Facts

STEPS = 60


@dataclass(frozen=True)
class Trajectory:
    """One number per step 0, 1, ...; with several problems the largest.

    Attributes:
        damping: b of `y <- (1 - b) y + b G(y)`.
        norm: of all numbers, in words.
        residual: `||G(y_n) - y_n||` in l2, floating-point.
        distance: of y_n to the computed equilibrium; empty where there is none.
        bound: proven `q^n ||y_0 - y*||`, rounded up; empty where nothing is proven.
        error: proven distance of the computed equilibrium to the true one, or None.
    """

    damping: float
    norm: str
    residual: tuple[float, ...]
    distance: tuple[float, ...]
    bound: tuple[float, ...]
    error: float | None


def trajectory(facts: Facts, steps: int = STEPS) -> Trajectory:
    """Iterate the operator in the folder from the start in the folder."""
    certificate = facts.certificate
    damping = float(getattr(certificate.claim, "damping", 1.0)) if certificate is not None else 1.0
    state, inputs = facts.start.state, facts.start.inputs
    residual: list[float] = []
    distance: list[float] = []
    with torch.no_grad():
        for _ in range(steps + 1):
            image = facts.graph(state, *inputs)
            residual.append(_l2(image, state, facts.graph.batch_dims))
            if facts.state is not None:
                distance.append(_distance(certificate, state, facts))
            state = pytree.tree_map(lambda y, g: (1 - damping) * y + damping * g, state, image)
            if not all(bool(leaf.isfinite().all()) for leaf in pytree.tree_leaves(state)):
                break
    bound, error = _proven(facts, len(residual))
    norm = certificate.norm.describe() if certificate is not None and certificate.norm is not None else "l2"
    return Trajectory(damping, norm, tuple(residual), tuple(distance), bound, error)


def _distance(certificate: Certificate | None, state: Any, facts: Facts) -> float:
    if certificate is None or certificate.norm is None:
        return _l2(state, facts.state, facts.graph.batch_dims)
    return float(certificate.distance_bound(state, facts.state).max())


def _proven(facts: Facts, count: int) -> tuple[tuple[float, ...], float | None]:
    """`q^n ||y_0 - y*||` for the exact iteration, and the error of the computed equilibrium."""
    from deqops.verify import Verdict

    certificate = facts.certificate
    if certificate is None or certificate.verdict is not Verdict.CERTIFIED or facts.rejected:
        return (), None
    inputs, error = facts.start.inputs, None
    if facts.state is not None and certificate.factor is not None:
        error = float(certificate.error_bound(facts.graph, facts.state, *inputs).value.max())
    if certificate.rate is None:  # T5 bounds errors, not an iteration
        return (), error
    first = float(certificate.error_bound(facts.graph, facts.start.state, *inputs).value.max())
    if not math.isfinite(first):  # the start lies outside of the certified ball
        return (), error
    bounds = [first]
    for _ in range(count - 1):
        bounds.append(math.nextafter(bounds[-1] * certificate.rate, math.inf))
    return tuple(bounds), error


def _l2(first: Any, second: Any, batch_dims: int) -> float:
    """The l2 norm of the difference, the largest over the problems; an estimate."""
    squares: Tensor | float = 0.0
    for a, b in zip(pytree.tree_leaves(first), pytree.tree_leaves(second), strict=True):
        difference = (a - b).double()
        rows = difference.reshape(difference.shape[0], -1) if batch_dims else difference.reshape(1, -1)
        squares = squares + rows.square().sum(dim=1)
    return float(torch.as_tensor(squares).max().sqrt())
