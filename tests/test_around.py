"""The largest ball around a state: T2, T12 and T6 with a radius of the certifier's choice; budgets and progress."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import mpmath
import pytest
import torch
from exact import seeded
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from truth import DIGITS, Layer, difference, equilibrium, exact, norm_of, step

from deqops import InputError
from deqops.graph import trace
from deqops.verify import Around, Ball, Certificate, Contraction, Converges, UniqueEquilibrium, Verdict, certify, check
from deqops.verify._gains import L2Gains
from deqops.verify._jacobian import StateLeaf
from deqops.verify._largest_ball import ATTEMPTS
from deqops.verify._local import local_jacobian
from deqops.verify._norm import Norm
from deqops.verify._problem import Problem
from deqops.verify._theorems import local_picard


@pytest.fixture(autouse=True)
def _digits() -> Iterator[None]:
    with mpmath.workdps(DIGITS):
        yield


def zeros(*shape: int) -> Tensor:
    return torch.zeros(*shape, dtype=torch.float64)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def layer_of(seed: int, size: int, norm: float) -> Layer:
    W = drawn(seed, size, size)
    return Layer(W * norm / float(torch.linalg.matrix_norm(W, 2)), "tanh", torch.eye(size, dtype=torch.float64))


def doubled_tanh(y: Tensor) -> Tensor:
    return 2 * torch.tanh(y)


def ball_of(certificate: Certificate) -> Ball:
    assert certificate.verdict is Verdict.CERTIFIED, certificate.explain()
    assert isinstance(certificate.region, Ball)
    return certificate.region


# ------------------------------------------------------------------------------------------------------ the radius


def test_t2_local_picard_finds_the_largest_ball_of_a_scalar_map() -> None:
    """`2 tanh z` contracts by `2 / cosh^2(c - r)` on the ball around its equilibrium c; that is 1 at r = 1.0336."""
    z = torch.ones(2, 3, dtype=torch.float64)
    certificate = certify(doubled_tanh, z, region=Around(), norm="linf")
    ball = ball_of(certificate)
    assert isinstance(certificate.claim, Contraction)
    center = mpmath.findroot(lambda y: 2 * mpmath.tanh(y) - y, 2)
    least = 2 / mpmath.cosh(center) ** 2
    wanted = center - mpmath.acosh(mpmath.sqrt(2 / (1 - 0.1 * (1 - least))))
    assert wanted / 1.1 <= ball.radius <= wanted * 1.001
    assert certificate.rate is not None
    assert 2 / mpmath.cosh(center - ball.radius) ** 2 <= certificate.rate < 1
    error = certificate.center_error
    assert error is not None
    assert abs(mpmath.mpf(float(ball.leaves[0][0, 0])) - center) <= error < 1e-13
    assert check(certificate, doubled_tanh, z).accepted


def test_t2_local_picard_the_ball_ends_at_a_kink() -> None:
    """Slope 0.5 up to a distance of 1 from the equilibrium 0, and 2.1 beyond."""
    z = zeros(1, 1)
    ball = ball_of(certify(lambda y: 0.5 * y + 1.6 * torch.relu(y - 1), z, region=Around()))
    assert 1 / 1.1 <= ball.radius <= 1


def test_t12_local_lyapunov_a_linear_map_is_certified_as_far_as_anyone_looks() -> None:
    W = torch.tensor([[0.5, 8.0], [0.0, 0.5]], dtype=torch.float64)  # no norm below 1 but a quadratic one
    certificate = certify(lambda y: y @ W.T, zeros(1, 2), region=Around(), theorem="local_lyapunov")
    assert ball_of(certificate).radius >= 256
    assert certificate.theorem == "local_lyapunov"


@settings(max_examples=5)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 3), norm=st.floats(0.5, 2.5), named=st.booleans())
def test_t2_local_picard_every_start_in_the_ball_found_ends_at_its_equilibrium(
    seed: int, size: int, norm: float, named: bool
) -> None:
    layer, x, z = layer_of(seed, size, norm), drawn(seed + 1, 1, size), zeros(1, size)
    options: dict[str, Any] = {"theorem": "local_picard"} if named else {}
    certificate = certify(layer, z, x, region=Around(), **options)
    assume(certificate.verdict is Verdict.CERTIFIED)
    ball = ball_of(certificate)
    chosen = certificate.norm
    assert chosen is not None
    report = check(certificate, layer, z, x)
    assert report.accepted, report.reasons
    if isinstance(certificate.claim, UniqueEquilibrium):
        return
    weights = None if chosen.weights is None else chosen.weights[0]
    center = exact(ball.leaves[0])
    ends = []
    for shift in (0, 1, 2):
        start = drawn(seed + 2 + shift, size)
        y = exact(start)
        length = norm_of(y, chosen.order, weights)
        y = [c + v / length * mpmath.mpf(ball.radius) * (shift > 0) for c, v in zip(center, y, strict=True)]
        for _ in range(600):
            y, before = step(layer, y, exact(x)), y
            if max(abs(v) for v in difference(y, before)) < mpmath.mpf(10) ** -26:
                break
        ends.append(y)
    for end in ends[1:]:
        assert max(abs(v) for v in difference(end, ends[0])) < mpmath.mpf(10) ** -15
    error = certificate.center_error
    assert error is not None
    assert norm_of(difference(center, ends[0]), chosen.order, weights) <= error


@settings(max_examples=6)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 4))
def test_t2_local_picard_a_ball_a_little_larger_gives_away_what_error_bounds_need(seed: int, size: int) -> None:
    """A third more of radius: the theorem fails, or 1 - q is below a tenth of its value at the centre."""
    layer, x, z = layer_of(seed, size, 1.4), drawn(seed + 1, 1, size), zeros(1, size)
    traced = trace(layer, z, x)
    certificate = certify(traced, z, x, region=Around(), norm="l2")
    assume(certificate.verdict is Verdict.CERTIFIED)
    ball = ball_of(certificate)
    assume(ball.radius < 200)
    problem = Problem(traced, z, (x,))
    tiny, larger = (local_picard(problem, Norm("l2"), Ball(ball.center, r)) for r in (1e-9, 1.34 * ball.radius))
    assert tiny.bound is not None
    assert larger.bound is not None
    assert not larger.holds or 1 - larger.bound < 0.1 * (1 - tiny.bound) * (1 + 1e-6)


def test_auto_takes_the_largest_ball_and_mentions_where_the_equilibrium_is_the_only_one() -> None:
    layer, x, z = layer_of(5, 30, 1.6), drawn(6, 1, 30), zeros(1, 30)
    certificate = certify(layer, z, x, region=Around())
    ball = ball_of(certificate)
    assert isinstance(certificate.claim, Converges)
    wider = [text for text in certificate.attempts if text.startswith("newton") and text.endswith("holds")]
    assert len(wider) == 1
    radius = float(wider[0].partition("radius ")[2].partition(":")[0])
    assert radius > 1.1 * ball.radius
    only = ball_of(certify(layer, z, x, region=Around(), theorem="newton_kantorovich"))
    assert only.radius > 1.1 * ball.radius
    for text in ("Ball: radius", "constant there: at most", "the centre is within", "also found newton"):
        assert text in certificate.explain()
    assert check(certificate, layer, z, x).accepted


def test_the_search_takes_a_bounded_number_of_attempts() -> None:
    z = zeros(1, 3) + 1
    told: list[str] = []
    certificate = certify(doubled_tanh, z, region=Around(), norm="l2", progress=told.append)
    assert certificate.verdict is Verdict.CERTIFIED
    assert sum("local_picard in l2 in a ball" in text for text in told) <= ATTEMPTS + 3
    again = certify(doubled_tanh, z, region=Around(), norm="l2")
    assert again.document() == certificate.document()


# ----------------------------------------------------------------------------------------------------- arguments


def test_the_centre_may_be_given() -> None:
    layer, x, z = layer_of(9, 3, 0.9), drawn(10, 1, 3), zeros(1, 3)
    y = torch.tensor([[float(v) for v in equilibrium(layer, exact(x))]], dtype=torch.float64).float()
    for theorem in ("auto", "local_picard", "local_lyapunov", "newton_kantorovich"):
        certificate = certify(layer, z, x, region=Around(y), theorem=theorem)
        assert torch.equal(ball_of(certificate).leaves[0], y.double())
        error = certificate.center_error
        assert error is not None
        apart = difference(exact(y), equilibrium(layer, exact(x)))
        assert norm_of(apart, "l2") <= error * (1 if certificate.norm == Norm("l2") else 1e6)
        assert error < 1e-5


def test_a_centre_far_from_any_equilibrium_leaves_the_question_open() -> None:
    shift = lambda y: y + 1  # noqa: E731 - no equilibrium at all
    certificate = certify(shift, zeros(1, 2), region=Around(zeros(1, 2)))
    assert certificate.verdict is Verdict.UNKNOWN
    assert isinstance(certificate.region, Ball)
    assert certify(shift, zeros(1, 2), region=Around(zeros(1, 2)), theorem="local_picard").verdict is Verdict.UNKNOWN


def test_around_needs_a_local_theorem_and_a_state_that_fits() -> None:
    z = zeros(1, 2)
    for theorem in ("picard", "componentwise", "absorbing"):
        with pytest.raises(InputError, match="Around"):
            certify(torch.tanh, z, region=Around(), theorem=theorem)
    with pytest.raises(InputError, match="shape"):
        certify(torch.tanh, z, region=Around(zeros(1, 3)))
    with pytest.raises(InputError, match="NaN"):
        certify(torch.tanh, z, region=Around(z * math.nan))
    with pytest.raises(InputError, match=r"Around\(\)"):
        certify(torch.tanh, z, theorem="local_lyapunov")


def test_an_iteration_that_overflows_has_no_centre() -> None:
    certificate = certify(lambda y: 1e200 * y + 1, zeros(1, 2), region=Around())
    assert certificate.verdict is Verdict.UNKNOWN


def test_t12_and_t6_that_cannot_be_tried_do_not_spoil_t2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deqops.verify._interval_jacobian.LARGEST_ENTRIES", 3)
    layer, x, z = layer_of(9, 3, 0.9), drawn(10, 1, 3), zeros(1, 3)
    certificate = certify(layer, z, x, region=Around())
    assert certificate.theorem == "local_picard"
    steep = certify(layer_of(9, 3, 9.0), z, 0 * x, region=Around(z))
    assert steep.verdict is Verdict.UNKNOWN
    assert any("too many" in text for text in steep.attempts)


# ------------------------------------------------------------------------------------------- budget and progress


class Clock:
    """Time that passes by one second whenever somebody looks."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


@pytest.mark.parametrize("budget", [0.0, -1.0, math.nan])
def test_a_budget_is_a_positive_number_of_seconds(budget: float) -> None:
    with pytest.raises(InputError, match="budget"):
        certify(torch.tanh, zeros(1, 2), budget=budget)


def test_a_large_budget_changes_nothing() -> None:
    for norm in (0.8, 1.4):
        layer, x, z = layer_of(3, 4, norm), drawn(4, 1, 4), zeros(1, 4)
        assert certify(layer, z, x, budget=1e9).document() == certify(layer, z, x).document()


def test_a_spent_budget_leaves_the_verdict_open_and_says_so() -> None:
    layer, x, z = layer_of(3, 4, 3.0), drawn(4, 1, 4), zeros(1, 4)
    certificate = certify(layer, z, x, budget=1e-9)
    assert certificate.verdict is Verdict.UNKNOWN
    assert "budget" in certificate.reason
    assert len(certificate.attempts) == 1
    easy = layer_of(3, 4, 0.8)
    assert certify(easy, z, x, budget=1e-9).verdict is Verdict.CERTIFIED  # by the first attempt


def test_a_budget_spent_within_the_search_gives_the_best_ball_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    z = zeros(1, 3) + 1
    full = ball_of(certify(doubled_tanh, z, region=Around(), norm="l2")).radius
    radii = []
    for budget in range(1, 12):
        monkeypatch.setattr("deqops.verify._watch.time.monotonic", Clock())
        certificate = certify(doubled_tanh, z, region=Around(), norm="l2", budget=float(budget))
        radii.append(ball_of(certificate).radius)
        assert check(certificate, doubled_tanh, z).accepted
    assert radii == sorted(radii)
    assert radii[0] < 1e-9
    assert radii[-1] == full


def test_a_budget_spent_before_the_refutation_refutes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    z = zeros(1, 2)
    assert certify(lambda y: 4 * y, z, norm="l2").verdict is Verdict.REFUTED
    certificate = certify(lambda y: 4 * y, z, norm="l2", budget=1e-9)
    assert certificate.verdict is Verdict.UNKNOWN


def test_progress_tells_what_starts_and_what_it_gave() -> None:
    told: list[str] = []
    certify(lambda y: 4 * torch.tanh(y), zeros(1, 2), progress=told.append)
    assert told[0] == "trying picard"
    assert told[1].startswith("picard in l2 everywhere: q < 1 not shown")
    assert "looking for a ball around the equilibrium" in told
    told.clear()
    certify(lambda y: 4 * torch.tanh(y), zeros(1, 2), progress=told.append, norm="l2")
    assert told[-1] == "looking for a refutation"


class Overflowing(nn.Module):
    """Finite at the state and beyond float64 near it."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.exp(700 * (z + 1)) * 0 + 0.5 * z


def test_values_that_overflow_are_no_ball() -> None:
    assert certify(Overflowing(), zeros(1, 1), region=Around()).verdict is not Verdict.REFUTED


def test_a_ball_on_which_an_operation_has_no_bound_ends_the_search_at_a_smaller_one() -> None:
    """`0.2 sqrt(z) + x` is defined for z >= 0 only; the search must come back from the ball that reaches below."""
    x = torch.tensor([[0.5, 1.0]], dtype=torch.float64)

    def G(z: Tensor, x: Tensor) -> Tensor:
        return 0.2 * z.sqrt() + x

    certificate = certify(G, torch.ones(1, 2, dtype=torch.float64), x)
    assert certificate.verdict is Verdict.CERTIFIED
    assert isinstance(certificate.region, Ball)
    assert 0.1 < certificate.region.radius < 0.7
    assert check(certificate, G, torch.ones(1, 2, dtype=torch.float64), x).accepted


class Branching(nn.Module):
    """Sums and products of earlier values: an expression with several bases."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.weights = [drawn(seed + number, 3, 3) for number in range(3)]

    def forward(self, y: Tensor) -> Tensor:
        a = torch.tanh(y @ self.weights[0])
        b = torch.sigmoid(a @ self.weights[1] + y)
        return torch.tanh(a * b + b @ self.weights[2])


@pytest.mark.parametrize("seed", range(5))
def test_gains_of_a_growing_expression_are_those_of_the_whole(seed: int) -> None:
    """Bit for bit: what is kept of earlier values changes nothing."""
    problem = Problem(trace(Branching(seed), zeros(1, 3)), zeros(1, 3), ())
    built = local_jacobian(problem, Ball((drawn(seed, 1, 3),), 0.1), Norm("l2"))
    growing: list[Any] = [basis for basis in built.bases if isinstance(basis, StateLeaf)]
    gains = L2Gains(growing)
    for basis in built.bases[len(growing) :]:
        assert gains.of(basis.source) == L2Gains(list(growing)).of(basis.source)
        growing.append(basis)
    assert len(growing) >= 5
    (output,) = built.outputs
    assert gains.of(output) == L2Gains(list(built.bases)).of(output)


def test_the_reason_names_what_is_in_the_way_near_the_equilibrium_too() -> None:
    """The first rule that is missing everywhere may well exist on balls: alone it would be the wrong lead."""

    def G(z: Tensor, x: Tensor) -> Tensor:
        return 0.1 * z.pow(2) + 0.01 * z.sinc() + x

    certificate = certify(G, torch.zeros(1, 3), torch.full((1, 3), 0.1))
    assert certificate.verdict is Verdict.UNKNOWN
    assert re.search("pow.*near the equilibrium: .*sinc", certificate.reason)
