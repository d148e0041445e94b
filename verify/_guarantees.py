"""What a certificate guarantees about computed states: error bounds, enclosures, numbers of steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from deqops._errors import InputError

from ._certified import certified_operator, check_certificate, check_inputs, check_tensors
from ._claim import Verdict
from ._membership import state_distance, within
from ._norm import Norm
from ._problem import Problem
from ._region import Box, Global, Region
from ._rounding import check_environment, div_up, exact_float64, mul_up, sub_down

if TYPE_CHECKING:
    from ._certificate import Certificate


@dataclass(frozen=True, eq=False)
class ErrorBound:
    """Proven distances `||y - y*||`, per problem, (problems,) float64 each.

    Attributes:
        value: in the certificate's norm.
        l2: in the l2 norm.
        linf: in the linf norm.
    """

    value: Tensor
    l2: Tensor
    linf: Tensor


@dataclass(frozen=True, eq=False)
class Enclosure:
    """A ball that contains the true equilibrium of each problem.

    Attributes:
        center: the state's leaves, float64.
        norm: of the ball.
        radius: per problem, (problems,).
        error: the same in l2 and linf.
    """

    center: tuple[Tensor, ...]
    norm: Norm
    radius: Tensor
    error: ErrorBound
    batch_dims: int

    def contains(self, state: Any) -> Tensor:
        """Per problem, whether a state is surely in the ball."""
        check_environment()
        leaves = [exact_float64(leaf) for leaf in pytree.tree_leaves(state)]
        return state_distance(self.norm, leaves, list(self.center), self.batch_dims) <= self.radius


def enclose(certificate: Certificate, G: Any, y: Any, *inputs: Any) -> Enclosure:
    """A ball around y that contains the true equilibrium (T1's residual form, in enclosures).

    Raises:
        InputError: as `Certificate.error_bound`.
    """
    check_certificate(certificate)
    bound = error_bound(certificate, G, y, inputs)
    center = tuple(exact_float64(leaf) for leaf in pytree.tree_leaves(y))
    if certificate.norm is None:
        raise InputError("certificate: it proves no rate")
    return Enclosure(center, certificate.norm, bound.value, bound, certificate.batch_dims)


def distance_bound(certificate: Certificate, first: Any, second: Any) -> Tensor:
    """Upper bound of `||first - second||` in the certificate's norm, per problem."""
    check_environment()
    if certificate.norm is None:
        raise InputError("certificate: it names no norm")
    given = [pytree.tree_leaves(state) for state in (first, second)]
    for name, leaves in zip(("first", "second"), given, strict=True):
        _check_state(certificate, name, leaves)
    a, b = ([exact_float64(leaf) for leaf in leaves] for leaves in given)
    return state_distance(certificate.norm, a, b, certificate.batch_dims)


def error_bound(certificate: Certificate, G: Any, y: Any, inputs: tuple[Any, ...]) -> ErrorBound:
    """`factor ||G(y) - y||` with the residual enclosed; the factor is `1 / (1 - q)` for a contraction."""
    factor = _factor(certificate)
    if certificate.norm is None or factor is None or not math.isfinite(factor):
        raise InputError(f"certificate: verdict is {certificate.verdict.value}, it bounds no error")
    leaves = pytree.tree_leaves(y)
    _check_state(certificate, "y", leaves)
    operator = certified_operator(certificate, G, y, inputs)
    check_inputs(certificate, pytree.tree_leaves(inputs))
    problem = Problem(operator, y, inputs)
    residual = problem.residual(leaves, certificate.norm)
    value = mul_up(residual, torch.full_like(residual, factor))
    for region in (certificate.region, _absorbing_box(certificate)):
        inside = within(region, certificate.norm, leaves, certificate.batch_dims)
        value = torch.where(inside, value, torch.full_like(value, math.inf))
    value = torch.where(value.isnan(), torch.full_like(value, math.inf), value)
    return ErrorBound(value, certificate.norm.to_l2(value, problem.size), certificate.norm.to_linf(value))


def _absorbing_box(certificate: Certificate) -> Region:
    """The box on which a certificate of T11 bounds errors; everything under other theorems."""
    evidence = certificate.evidence
    if certificate.verdict is not Verdict.CERTIFIED or evidence is None or evidence.kind != "absorbing":
        return Global()
    return Box(evidence.tensors["lower"], evidence.tensors["upper"])


def _factor(certificate: Certificate) -> float | None:
    """kappa of `||y - y*|| <= kappa ||G(y) - y||` for y where the certificate bounds errors."""
    if isinstance(_absorbing_box(certificate), Global) or certificate.bound is None or not certificate.bound < 1:
        return certificate.factor
    return float(div_up(1.0, sub_down(1.0, certificate.bound)))


def sufficient_steps(rate: float, eps: float, first_step: float) -> int:
    """A number n with `rate^n / (1 - rate) * first_step <= eps`, verified with upward rounding."""
    if first_step == 0:
        return 0
    gap = float(sub_down(1.0, rate))
    if rate == 0:
        return 0 if first_step <= eps else 1
    guess = (math.log(eps) + math.log(gap) - math.log(first_step)) / math.log(rate)
    steps = max(0, math.ceil(guess))
    most = 2 * steps + 1000
    while not float(div_up(mul_up(power_up(rate, steps), first_step), gap)) <= eps:
        steps += 1 + steps // 1000
        if steps > most:
            raise InputError(
                f"iterations: eps {eps!r} is too small, or the rate {rate!r} too near 1, to be reached by powers of "
                "the rate as float64 bounds them"
            )
    return steps


def power_up(base: float, exponent: int) -> float:
    """Upper bound of base^exponent by squaring, 0 <= base."""
    result, square = 1.0, base
    while exponent:
        if exponent & 1:
            result = float(mul_up(result, square))
        square, exponent = float(mul_up(square, square)), exponent >> 1
    return result


def _check_state(certificate: Certificate, name: str, leaves: list[Any]) -> None:
    check_tensors(name, leaves)
    got = [tuple(leaf.shape) for leaf in leaves]
    expected = [shape for shape, _ in certificate.state]
    if got != expected:
        raise InputError(f"{name}: the certificate is for states of shape {expected}, got {got}")
    if any(not bool(leaf.isfinite().all()) for leaf in leaves):
        raise InputError(f"{name}: holds NaN or infinity")
