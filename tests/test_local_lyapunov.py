"""T12 `local_lyapunov`: Picard's convergence near an equilibrium where G contracts in no diagonally weighted norm.

The truth is iterated in mpmath with 40 digits.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import mpmath
import pytest
import torch
from exact import seeded
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn

from deqops import InputError
from deqops.graph import trace
from deqops.testing import Layer, assert_accepted
from deqops.verify import Ball, Certificate, Converges, Norm, Verdict, certify, check
from deqops.verify._lyapunov import Form, damped_slopes, proposed_form
from deqops.verify._problem import Problem
from deqops.verify._theorems import local_lyapunov


def sheared(size: int, radius: float, shear: float, seed: int) -> Tensor:
    """`Q (radius R + shear N) Q^T`: eigenvalues of modulus `radius`, far from normal in every diagonal scaling."""
    basis = torch.linalg.qr(torch.randn(size, size, generator=seeded(seed), dtype=torch.float64)).Q
    inner = torch.eye(size, dtype=torch.float64) * radius
    inner += torch.diag(torch.full((size - 1,), shear, dtype=torch.float64), 1)
    return basis @ inner @ basis.T


def located(layer: nn.Module, x: Tensor, radius: float, damping: float | None = None) -> Certificate:
    center = torch.zeros_like(x)
    return certify(layer, center, x, theorem="local_lyapunov", region=Ball(center, radius), damping=damping)


def _holds(weight: Tensor, bias: Tensor, ball: float, damping: float) -> bool:
    layer, center = Layer(weight, "tanh"), torch.zeros_like(bias[None])
    problem = Problem(trace(layer, center, bias[None]), center, (bias[None],))
    near = damped_slopes(problem, Ball(center, 1e-12 * ball), damping)
    return local_lyapunov(problem, Ball(center, ball), damping, proposed_form(near.mid)).holds


def mp_step(weight: Tensor, bias: Tensor, damping: float, y: Any) -> Any:
    """`(1-b) y + b tanh(W y + x)` in mpmath."""
    moved = mpmath.matrix(weight.tolist()) * y + mpmath.matrix(bias.tolist())
    image = moved.apply(mpmath.tanh)
    return (1 - mpmath.mpf(damping)) * y + mpmath.mpf(damping) * image


@given(
    seed=st.integers(0, 10**6),
    size=st.integers(2, 4),
    radius=st.floats(0.1, 0.9),
    shear=st.floats(0.0, 3.0),
    ball=st.sampled_from([1e-6, 1e-3, 0.02, 0.1]),
    damping=st.sampled_from([1.0, 0.5, 1.2]),
)
def test_t12_local_lyapunov_every_start_in_the_ball_converges_as_fast_as_said(
    seed: int, size: int, radius: float, shear: float, ball: float, damping: float
) -> None:
    weight = sheared(size, radius, shear, seed)
    bias = torch.randn(size, generator=seeded(seed + 1), dtype=torch.float64) * ball * 1e-2
    assume(_holds(weight, bias, ball, damping))
    certificate = located(Layer(weight, "tanh"), bias[None], ball, damping)
    assert certificate.verdict is Verdict.CERTIFIED
    assert isinstance(certificate.claim, Converges)
    start = torch.randn(size, generator=seeded(seed + 2), dtype=torch.float64)
    start *= ball / start.norm() * (1 - 1e-12)
    with mpmath.workdps(40):
        y = mpmath.matrix(start.tolist())
        states = [y]
        for _ in range(150):
            y = mp_step(weight, bias, damping, y)
            states.append(y)
        for _ in range(2000):
            y = mp_step(weight, bias, damping, y)
            if mpmath.norm(y - mp_step(weight, bias, damping, y)) < mpmath.mpf(10) ** -30:
                break
        limit = y
        assert mpmath.norm(limit) <= ball
        first = float(mpmath.norm(states[1] - states[0])) * (1 + 1e-9)
        for n in (1, 3, 20, 150):
            left = mpmath.norm(states[n] - limit)
            assert certificate.iterations(float(left) * (1 - 1e-6) + 1e-25, first) >= n or left < mpmath.mpf(10) ** -20
        factor = certificate.factor
        assert factor is not None
        for n in (0, 1, 5):
            moved = mpmath.matrix(weight.tolist()) * states[n] + mpmath.matrix(bias.tolist())
            residual = mpmath.norm(moved.apply(mpmath.tanh) - states[n])
            if mpmath.norm(states[n]) <= ball:
                assert mpmath.norm(states[n] - limit) <= factor * residual + mpmath.mpf(10) ** -25


def test_t12_local_lyapunov_is_not_vacuous() -> None:
    """Most sheared maps with a spectral radius of 0.8 are certified on a small ball, none in a plain norm."""
    found = []
    x = torch.zeros(1, 4, dtype=torch.float64)
    for seed in range(6):
        layer = Layer(sheared(4, 0.8, 0.8, seed), "tanh")
        certificate = located(layer, x, 1e-5)
        found.append(certificate.verdict is Verdict.CERTIFIED)
        if found[-1]:
            assert_accepted(certificate, layer, x, x)
    assert sum(found) == 6
    assert certify(layer, x, x, theorem="local_picard", region=Ball(x, 1e-5)).verdict is Verdict.REFUTED


def test_t12_local_lyapunov_auto_finds_it() -> None:
    layer, x = Layer(sheared(3, 0.7, 1.0, 3), "tanh"), torch.full((2, 3), 0.01, dtype=torch.float64)
    certificate = certify(layer, torch.zeros_like(x), x)
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.theorem == "local_lyapunov"
    assert isinstance(certificate.claim, Converges)
    assert certificate.rate is None
    report = check(certificate, layer, torch.zeros_like(x), x)
    assert report.accepted, report.reasons
    y = torch.zeros_like(x)
    for _ in range(400):
        y = layer(y, x)
    error = certificate.error_bound(layer, y.detach(), x)
    assert float(error.value.max()) < 1e-9
    assert certificate.iterations(1e-6, 1e-3) > 10


def test_t12_local_lyapunov_damping_may_repair_an_unstable_equilibrium() -> None:
    basis = torch.linalg.qr(torch.randn(4, 4, generator=seeded(5), dtype=torch.float64)).Q
    inner = torch.diag(torch.tensor([-1.6, 0.3, 0.2, -0.5], dtype=torch.float64))
    inner[0, 1] = 4.0
    layer, x = Layer(basis @ inner @ basis.T, "tanh"), torch.zeros(1, 4, dtype=torch.float64)
    assert located(layer, x, 1e-4).verdict is not Verdict.CERTIFIED
    certificate = located(layer, x, 1e-4, damping=0.5)
    assert certificate.verdict is Verdict.CERTIFIED
    assert_accepted(certificate, layer, x, x)


def test_t12_local_lyapunov_says_nothing_of_a_kink_that_expands() -> None:
    """`relu(1.2 z)` at 0 has slopes from 0 to 1.2: no quadratic norm shrinks."""
    layer, x = Layer(torch.tensor([[1.2]], dtype=torch.float64), "relu"), torch.zeros(1, 1, dtype=torch.float64)
    assert located(layer, x, 0.1).verdict is not Verdict.CERTIFIED
    contracting = Layer(torch.tensor([[0.9]], dtype=torch.float64), "relu")
    assert located(contracting, x, 0.1).verdict is Verdict.CERTIFIED


def test_t12_local_lyapunov_is_quiet_where_the_form_is_none() -> None:
    """A form that is not invertible proves nothing."""
    layer, x = Layer(0.5 * torch.eye(2, dtype=torch.float64), "tanh"), torch.zeros(1, 2, dtype=torch.float64)
    problem = Problem(trace(layer, x, x), x, (x,))
    singular = torch.tensor([[[1.0, 1.0], [1.0, 1.0]]], dtype=torch.float64)
    for form in (Form(singular, singular), Form(singular, torch.zeros_like(singular))):
        assert not local_lyapunov(problem, Ball(x, 0.1), 1.0, form).holds
    assert torch.equal(proposed_form(2 * torch.eye(2, dtype=torch.float64)[None]).root[0], torch.eye(2).double())


@pytest.mark.parametrize("norm", ["weighted_l2", Norm("l2", (torch.ones(2, dtype=torch.float64),))])
def test_other_norms_are_refused_by_name(norm: Any) -> None:
    x = torch.zeros(1, 2, dtype=torch.float64)
    layer = Layer(0.5 * torch.eye(2, dtype=torch.float64), "tanh")
    with pytest.raises(InputError, match="plain l2"):
        certify(layer, x, x, theorem="local_lyapunov", region=Ball(x, 0.1), norm=norm)
    with pytest.raises(InputError, match="needs a Ball"):
        certify(layer, x, x, theorem="local_lyapunov")


def _with_digest(document: dict[str, Any]) -> dict[str, Any]:
    from deqops.verify.checker._document import _digest

    return {**document, "digest": _digest(document)}


@pytest.mark.parametrize("name", ["defect", "contraction", "size", "inverse_size", "factor"])
def test_numbers_that_are_too_small_are_rejected(name: str) -> None:
    layer, x = Layer(sheared(3, 0.7, 1.0, 3), "tanh"), torch.full((1, 3), 1e-6, dtype=torch.float64)
    certificate = located(layer, x, 1e-3)
    assert certificate.verdict is Verdict.CERTIFIED
    document = certificate.document()
    assert_accepted(document, layer, x, x)
    spoilt = copy.deepcopy(document)
    spoilt["evidence"][name] = (float.fromhex(document["evidence"][name]) * (1 - 1e-6)).hex()
    report = check(_with_digest(spoilt), layer, x, x)
    assert not report.accepted
    assert name.split("_")[0] in report.reasons[0] or "norm of R" in report.reasons[0] or "agree" in report.reasons[0]


def test_a_claim_that_does_not_follow_is_rejected() -> None:
    layer, x = Layer(sheared(3, 0.7, 1.0, 3), "tanh"), torch.full((1, 3), 1e-6, dtype=torch.float64)
    document = located(layer, x, 1e-3).document()
    larger, faster, damped = (copy.deepcopy(document) for _ in range(3))
    for part in (larger, larger["claim"]):
        part["region"]["radius"] = (5.0).hex()
    faster["rate"] = (0.5).hex()
    damped["claim"]["iteration"]["damping"] = (2.5).hex()
    for spoilt in (larger, faster, damped):
        assert not check(_with_digest(spoilt), layer, x, x).accepted
    assert math.isfinite(float.fromhex(document["evidence"]["factor"]))
