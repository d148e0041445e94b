"""Whenever a theorem's hypotheses verify, its guarantee holds along high-precision iterations.

The truth is computed with 60 decimal digits by mpmath; no float64 result is taken for it.
"""

from __future__ import annotations

import itertools
from typing import Any

import mpmath
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

import deqops.testing as kit
from deqops.testing import Layer
from deqops.verify import Ball, Certificate, Verdict, certify, enclose
from tests.truth import Vector, difference, exact, norm_of, step

mpmath.mp.dps = 60
ORDERS = ("l1", "l2", "linf")


NAMES = ("relu", "sigmoid", "softplus", "tanh")
Case = tuple[Layer, Tensor, Tensor]


def exact_step(layer: Layer, y: Vector, x: Tensor) -> Vector:
    return step(layer, y, exact(x))


def exact_iterates(layer: Layer, y0: Tensor, x: Tensor, steps: int, damping: float = 1.0) -> list[Vector]:
    iterates = [exact(y0)]
    for _ in range(steps):
        y, b = iterates[-1], mpmath.mpf(damping)
        iterates.append([(1 - b) * u + b * v for u, v in zip(y, exact_step(layer, y, x), strict=True)])
    return iterates


def equilibrium(layer: Layer, x: Tensor, damping: float = 1.0) -> Vector:
    zeros = torch.zeros(1, len(layer.weight), dtype=torch.float64)
    iterates = exact_iterates(layer, zeros, x, 900, damping)
    assume(distance(iterates[-1], iterates[-2], "linf") < mpmath.mpf(10) ** -40)
    return iterates[-1]


def distance(a: Vector, b: Vector, order: str, weights: Tensor | None = None) -> Any:
    return norm_of(difference(a, b), order, weights)


def certificate_distance(certificate: Certificate, a: list[Any], b: list[Any]) -> Any:
    assert certificate.norm is not None
    weights = None if certificate.norm.weights is None else certificate.norm.weights[0]
    return distance(a, b, certificate.norm.order, weights)


@given(kit.layers(NAMES, scale=0.3), st.sampled_from(ORDERS))
def test_picard_bounds_hold(case: Case, order: str) -> None:
    """T1 `picard`: a-priori, a-posteriori and residual bounds, the enclosure, and the promised number of steps."""
    layer, y0, x = case
    certificate = certify(layer, y0, x, theorem="picard", norm=order)
    assume(certificate.verdict is Verdict.CERTIFIED and certificate.rate is not None and certificate.rate < 0.97)
    q = mpmath.mpf(certificate.rate)
    truth = equilibrium(layer, x)
    iterates = exact_iterates(layer, y0, x, 12)
    first = certificate_distance(certificate, iterates[1], iterates[0])
    for n in range(1, len(iterates)):
        error = certificate_distance(certificate, iterates[n], truth)
        assert error <= q**n / (1 - q) * first
        assert error <= q / (1 - q) * certificate_distance(certificate, iterates[n], iterates[n - 1])
    bound = certificate.error_bound(layer, y0, x)
    start = iterates[0]
    assert certificate_distance(certificate, start, truth) <= mpmath.mpf(float(bound.value))
    assert distance(start, truth, "l2") <= mpmath.mpf(float(bound.l2))
    assert distance(start, truth, "linf") <= mpmath.mpf(float(bound.linf))
    ball = enclose(certificate, layer, y0, x)
    assert certificate_distance(certificate, start, truth) <= mpmath.mpf(float(ball.radius))
    steps = certificate.iterations(1e-3, float(first) * (1 + 1e-12) + 1e-300)
    assert certificate_distance(certificate, exact_iterates(layer, y0, x, steps)[-1], truth) <= mpmath.mpf("1e-3")


@given(kit.layers(NAMES, scale=0.3), st.sampled_from([0.3, 0.5, 0.9, 1.1, -0.1]))
def test_damped_rate_holds(case: Case, damping: float) -> None:
    """T4 `damped`: the damped map contracts at the certified rate and keeps the equilibria."""
    layer, y0, x = case
    certificate = certify(layer, y0, x, theorem="damped", damping=damping)
    assume(certificate.verdict is Verdict.CERTIFIED and certificate.rate is not None)
    truth = equilibrium(layer, x)
    iterates = exact_iterates(layer, y0, x, 5, damping)
    errors = [certificate_distance(certificate, y, truth) for y in iterates]
    for before, after in itertools.pairwise(errors):
        assert after <= mpmath.mpf(certificate.rate or 0) * before + mpmath.mpf(10) ** -35


def test_t4_a_damped_rate_of_one_is_no_contraction() -> None:
    """T4 needs `|1 - b| + |b| q` below 1: at b = 2 a constant map gives `y <- 2 c - y`, which turns for ever."""
    y0 = torch.zeros(1, 3, dtype=torch.float64)
    certificate = certify(lambda z: 0.0 * z + 1.0, y0, theorem="damped", damping=2.0)
    assert certificate.verdict is Verdict.UNKNOWN
    assert certify(lambda z: 0.0 * z + 1.0, y0, theorem="damped", damping=1.5).verdict is Verdict.CERTIFIED


@given(kit.layers(NAMES, scale=0.9), st.sampled_from(ORDERS), st.floats(1e-3, 0.5))
def test_local_picard_ball_holds_the_equilibrium(case: Case, order: str, radius: float) -> None:
    """T2 `local_picard`: the ball is mapped into itself, and iterates from inside stay and converge at the rate."""
    layer, y0, x = case
    center = torch.tensor([[float(v) for v in exact_iterates(layer, y0, x, 60)[-1]]], dtype=torch.float64)
    certificate = certify(layer, center, x, theorem="local_picard", norm=order, region=Ball(center, radius))
    assume(certificate.verdict is Verdict.CERTIFIED and certificate.rate is not None and certificate.rate < 0.97)
    middle = [mpmath.mpf(v) for v in center[0].tolist()]
    limit = exact_iterates(layer, center, x, 900)[-1]
    assert certificate_distance(certificate, limit, middle) <= radius
    size = center.shape[1]
    edge = center + radius / size * torch.ones_like(center)
    iterates = exact_iterates(layer, edge, x, 6)
    errors = [certificate_distance(certificate, y, limit) for y in iterates]
    assert all(certificate_distance(certificate, y, middle) <= radius for y in iterates[1:])
    for before, after in itertools.pairwise(errors):
        assert after <= mpmath.mpf(certificate.rate or 0) * before + mpmath.mpf(10) ** -35


@given(kit.layers(NAMES, scale=1.5), st.sampled_from(ORDERS))
def test_refutation_witness_is_true(case: Case, order: str) -> None:
    """T9 `refute`: the two points really are not brought closer, evaluated with 60 digits."""
    layer, y0, x = case
    certificate = certify(layer, y0, x, theorem="picard", norm=order)
    assume(certificate.verdict is Verdict.REFUTED)
    witness = certificate.witness
    assert witness is not None
    y, z = ([mpmath.mpf(v) for v in leaf[0][0].tolist()] for leaf in (witness.first, witness.second))
    before, after = distance(y, z, order), distance(exact_step(layer, y, x), exact_step(layer, z, x), order)
    assert after >= before > 0


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("radius", "expected"), [(1.5, Verdict.UNKNOWN), (2.125, Verdict.CERTIFIED)])
def test_t2_a_ball_that_the_iteration_leaves_is_not_certified(order: str, radius: float, expected: Verdict) -> None:
    """The image 1 of the centre of `z -> z/2 + 1` is in the smaller ball, the equilibrium 2 is not."""
    zero = torch.zeros(1, 1, dtype=torch.float64)
    region = Ball(zero, radius)
    certificate = certify(lambda z: 0.5 * z + 1.0, zero, theorem="local_picard", norm=order, region=region)
    assert certificate.verdict is expected


def test_the_trap_of_a_full_scaling_matrix_is_not_certified() -> None:
    """T1's trap: `||P W P^-1|| < 1` for a full P proves nothing; relu(Wz + b) has two equilibria here."""
    weight = torch.tensor([[1.5, -2.0], [1.0, -1.2]], dtype=torch.float64)
    x = torch.tensor([[-0.5, -1.0]], dtype=torch.float64)
    for norm in ("auto", "l1", "l2", "linf", "weighted_l1", "weighted_l2", "weighted_linf"):
        certificate = certify(Layer(weight, "relu"), torch.zeros(1, 2, dtype=torch.float64), x, norm=norm)
        holds_globally = certificate.verdict is Verdict.CERTIFIED and not isinstance(certificate.region, Ball)
        assert not holds_globally, norm


def test_gelu_with_a_norm_below_one_is_not_certified() -> None:
    """T1: GELU's slopes reach 1.129, so `||W|| = 0.95` proves nothing; a quotient above 1 refutes it."""
    weight = torch.tensor([[0.95]], dtype=torch.float64)
    module = torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False).double(), torch.nn.GELU())
    with torch.no_grad():
        module[0].weight.copy_(weight)
    certificate = certify(module, torch.zeros(1, 1, dtype=torch.float64), theorem="picard", norm="l2")
    assert certificate.verdict is Verdict.REFUTED


@pytest.mark.parametrize("order", ORDERS)
def test_identity_is_refuted_not_certified(order: str) -> None:
    """An isometry is no contraction although it expands nothing."""
    module = torch.nn.Identity()
    certificate = certify(module, torch.zeros(2, 3, dtype=torch.float64), theorem="picard", norm=order)
    assert certificate.verdict is Verdict.REFUTED


@pytest.mark.parametrize("order", ORDERS)
def test_t9_a_contraction_by_less_than_a_rounding_is_not_refuted(order: str) -> None:
    """`z - 2^-60 z` contracts, by what a float64 of z does not show: only enclosures know that nothing is refuted."""
    y0 = torch.zeros(2, 3, dtype=torch.float64)
    certificate = certify(lambda z: z - 2.0**-60 * z, y0, theorem="picard", norm=order)
    assert certificate.verdict is Verdict.UNKNOWN
