"""How far slope products are from one matrix in l2: against Jacobians in ball arithmetic, and in certificates."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from exact import seeded
from flint import arb, ctx
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from normalisations import derivative, normalised
from torch import Tensor, nn

from campaign import _duals as duals
from campaign._modules import COLUMNS, ROWS, UNKNOWNS, Module, draw_module, draw_sorts, draw_transforms
from deqops.graph import trace
from deqops.testing import assert_accepted
from deqops.verify import Around, Ball, Norm, UnsupportedOperationError, Verdict, certify, check
from deqops.verify._gains import lipschitz_gain
from deqops.verify._interval_jacobian import interval_jacobian
from deqops.verify._jacobian import Jacobian
from deqops.verify._local import local_jacobian
from deqops.verify._lyapunov import form_contraction
from deqops.verify._midrad import MidRad
from deqops.verify._normalisation import Near, Normalisation
from deqops.verify._powers import damped
from deqops.verify._problem import Problem
from deqops.verify._slope_norm import CERTIFIED, spread_norm
from deqops.verify._softmax import softmax_over
from deqops.verify._spread import Spread, _largest, spread
from deqops.verify.checker import _arithmetic as balls
from deqops.verify.checker._document import Ball as CheckedBall
from deqops.verify.checker._local import walk_over_ball
from deqops.verify.checker._normalisation import Near as CheckedNear
from deqops.verify.checker._normalisation import Normalisation as Twin
from deqops.verify.checker._refusal import Rejected
from deqops.verify.checker._softmax import softmax_over as checked_softmax
from deqops.verify.checker._spread import spread as checked_spread
from deqops.verify.checker._subject import Subject
from deqops.verify.checker._values import Values

L2 = Norm("l2")
KINDS: dict[str, Callable[[Any], Module]] = {
    "modules": draw_module,
    "transforms": draw_transforms,
    "sorts": draw_sorts,
}


@pytest.fixture(autouse=True)
def _precision():
    before = ctx.prec
    ctx.prec = 160
    yield
    ctx.prec = before


def expression(module: Any, z: Tensor, x: Tensor, radius: float, batch_dims: int = 1) -> Jacobian:
    return local_jacobian(Problem(trace(module, z, x, batch_dims=batch_dims), z, (x,)), Ball(z, radius), L2)


def apart(jacobian: duals.Balls, middle: Tensor) -> duals.Balls:
    """`J - T`, T exact."""
    return jacobian - duals.exact(middle.reshape(-1).tolist(), tuple(middle.shape))


# ------------------------------------------------------------------------------------------------ random networks


@pytest.mark.parametrize("kind", list(KINDS))
@settings(max_examples=20, deadline=None)
@given(number=st.integers(0, 10**6), power=st.floats(-4, 0.3), seed=st.integers(0, 10**6))
def test_jacobians_in_the_ball_are_within_the_deviation(kind: str, number: int, power: float, seed: int) -> None:
    """Lemma `slopes`: derivatives at points of an l2 ball, in ball arithmetic."""
    rng = np.random.default_rng([seed, number])
    module = KINDS[kind](rng)
    z, x = (torch.from_numpy(rng.standard_normal((1, ROWS, COLUMNS))) for _ in range(2))
    radius = 10.0**power
    try:
        around = spread(expression(module, z, x, radius), 1)
    except UnsupportedOperationError:
        assume(False)
    assume(around.deviation < math.inf)
    for share in (0.0, 0.5, 0.999):
        direction = rng.standard_normal(UNKNOWNS)
        point = z.reshape(-1).numpy() + share * radius * direction / np.linalg.norm(direction)
        try:
            jacobian = module.jacobian(point.tolist())
        except duals.UndecidedError:
            assume(False)
        assert not duals.norm_exceeds(apart(jacobian, around.middle[0]), "l2", around.deviation)


@settings(max_examples=15, deadline=None)
@given(number=st.integers(0, 10**6))
def test_the_deviation_vanishes_with_the_ball(number: int) -> None:
    """To the first order in the radius where no kink is near: the rounding of the middles is all that stays."""
    rng = np.random.default_rng(number)
    module = draw_module(rng)
    z, x = (torch.from_numpy(rng.standard_normal((1, ROWS, COLUMNS))) for _ in range(2))
    try:
        small, smaller = (spread(expression(module, z, x, radius), 1).deviation for radius in (1e-7, 1e-9))
        module.jacobian(z.reshape(-1).tolist())
    except (UnsupportedOperationError, duals.UndecidedError):
        assume(False)
    assert smaller <= small < 1e-2
    assert smaller < 0.02 * small + 1e-11


# --------------------------------------------------------------------------------------- normalisations on balls


POINTS = {
    "seed": st.integers(0, 10**6),
    "n": st.integers(1, 6),
    "distance": st.sampled_from([0.0, 1e-9, 1e-3, 0.3, 3.0]),
    "offset": st.sampled_from([0.0, 1.0, 1e6]),
    "eps": st.sampled_from([1e-12, 1e-5, 1.0]),
    "centred": st.booleans(),
}


def reached(center: Tensor, distance: float, seed: int) -> list[list[Any]]:
    """Points at the distance and within it, exactly near the sphere."""
    directions = torch.randn(6, len(center), generator=seeded(seed), dtype=torch.float64)
    directions = torch.cat([directions, center[None] - center.mean(), -center[None] + center.mean()])
    found = []
    for share, direction in zip((0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0), directions, strict=True):
        length = float(direction.norm()) or 1.0
        factor = arb(share * distance * (1 - 1e-12)) / arb(length)
        found.append([arb(c) + factor * arb(d) for c, d in zip(center.tolist(), direction.tolist(), strict=True)])
    return found


@settings(max_examples=60, deadline=None)
@given(**POINTS)
def test_normalisations_near_a_point(
    seed: int, n: int, distance: float, offset: float, eps: float, centred: bool
) -> None:
    """Values, scales and derivatives within an l2 distance, the checker's too; narrower than on the box around it."""
    rule, center = Normalisation(n, eps, centred), torch.randn(n, generator=seeded(seed), dtype=torch.float64) + offset
    box = MidRad(center[None], torch.full((1, n), distance, dtype=torch.float64))
    slopes = rule.over(box, Near(MidRad.exact(center[None]), distance))
    ends = (balls.balls(end[0].tolist(), (1, n)) for end in (box.lower(), box.upper()))
    twin = Twin(n, arb(eps), centred)
    checked = twin.over(*ends, CheckedNear(balls.balls(center.tolist(), (1, n)), arb(distance)))
    middle = slopes.middle.columns(MidRad.exact(torch.eye(n, dtype=torch.float64)[None]))
    own, other = float(slopes.deviation), checked.deviations((1, n))[0, 0]
    identity, nothing = (balls.full(0, (1, n, n)) for _ in range(2))
    for k in range(n):
        identity[0, k, k] = arb(1)
    theirs = checked.columns(identity, nothing)[0][0]
    for point in reached(center, distance, seed):
        (h, _), J = normalised(point, eps, centred), np.array(derivative(point, eps, centred), dtype=object)
        for i in range(n):
            assert not h[i] < arb(float(slopes.value.lower()[0, i]))
            assert not h[i] > arb(float(slopes.value.upper()[0, i]))
            assert not h[i] < checked.bottom[0, i]
            assert not h[i] > checked.top[0, i]
        rounding = float(middle.rad.sum())
        assert not duals.norm_exceeds(apart(J, middle.mid[0]), "l2", own * (1 + 1e-12) + rounding)
        assert not duals.norm_exceeds(J - theirs, "l2", float(other.upper()) * (1 + 1e-12))
    plain = rule.over(box)
    assert bool((slopes.scale.rad <= plain.scale.rad * (1 + 1e-9) + 1e-300).all())
    assert own <= 2 * float(plain.deviation) + 1e-12  # the middle of a narrower range may be longer


def test_a_distance_says_more_than_the_box_around_it() -> None:
    center = torch.randn(64, generator=seeded(0), dtype=torch.float64)
    box = MidRad(center[None], torch.full((1, 64), 1e-3, dtype=torch.float64))
    rule = Normalisation(64, 1e-5, True)
    near = rule.over(box, Near(MidRad.exact(center[None]), 1e-3))
    assert float(near.deviation) < 0.1 * float(rule.over(box).deviation)
    assert float(near.scale.rad) < 0.2 * float(rule.over(box).scale.rad)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 6), radius=st.sampled_from([0.0, 1e-6, 0.1, 2.0]))
def test_softmax_derivatives_are_within_their_deviation(seed: int, n: int, radius: float) -> None:
    center = 2 * torch.randn(1, n, generator=seeded(seed), dtype=torch.float64)
    box = MidRad(center, torch.full((1, n), radius, dtype=torch.float64))
    slopes = softmax_over(box)
    ends = (balls.balls(end[0].tolist(), (1, n)) for end in (box.lower(), box.upper()))
    checked = checked_softmax(*ends)
    middle = slopes.value.mid[0]
    m = [arb(t) for t in middle.tolist()]
    T = np.array([[m[i] * (i == j) - m[i] * m[j] for j in range(n)] for i in range(n)], dtype=object)
    c = [(a + b) / 2 for a, b in zip(checked.low[0], checked.high[0], strict=True)]
    C = np.array([[c[i] * (i == j) - c[i] * c[j] for j in range(n)] for i in range(n)], dtype=object)
    for share in (-1.0, 0.3, 1.0):
        signs = torch.sign(torch.randn(n, generator=seeded(seed + 1), dtype=torch.float64)).tolist()
        powers = [(arb(t) + arb(share * radius * s)).exp() for t, s in zip(center[0].tolist(), signs, strict=True)]
        p = [power / sum(powers, arb(0)) for power in powers]
        J = np.array([[p[i] * (i == j) - p[i] * p[j] for j in range(n)] for i in range(n)], dtype=object)
        assert not duals.norm_exceeds(J - T, "l2", float(slopes.deviation) * (1 + 1e-12))
        assert not duals.norm_exceeds(J - C, "l2", float(checked.deviations((1, n))[0, 0].upper()) * (1 + 1e-12))
    if radius == 0.0:
        assert float(slopes.deviation) < 1e-13


# ------------------------------------------------------------------------------------------------- in certificates


class Grouped(nn.Module):
    """`z -> B norm(A z) + x`, A and B convolutions; the norm is l2's, whose Jacobian signs do not matter to."""

    def __init__(self, seed: int = 0, norm: nn.Module | None = None) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.into, self.out = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 1)
        self.norm = norm or nn.GroupNorm(3, 3)
        for parameter in self.parameters():
            parameter.data.mul_(0.2 if parameter.dim() > 1 else 1.0)
        self.double()

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return self.out(self.norm(self.into(z))) + x


def settled(module: nn.Module, z: Tensor, x: Tensor) -> Tensor:
    with torch.no_grad():
        for _ in range(600):
            z = module(z, x)
    return z


@pytest.fixture(scope="module")
def grouped() -> tuple[Grouped, Tensor, Tensor]:
    module, x = Grouped(), 0.1 * torch.randn(1, 3, 4, 4, generator=seeded(1), dtype=torch.float64)
    return module, settled(module, torch.zeros_like(x), x), x


def sampled_deviation(module: nn.Module, z: Tensor, x: Tensor, radius: float) -> float:
    """A lower bound of the largest `||J(y) - J(c)||` in the ball."""
    n, found = z.numel(), 0.0
    jacobian = lambda y: torch.autograd.functional.jacobian(lambda v: module(v, x), y).reshape(n, n)  # noqa: E731
    center = jacobian(z)
    for seed in range(40):
        direction = torch.randn(z.shape, generator=seeded(seed), dtype=z.dtype)
        near = jacobian(z + radius * direction / direction.norm())
        found = max(found, float(torch.linalg.matrix_norm(near - center, 2)))
    return found


def test_the_deviation_is_a_fraction_of_the_intervals_and_some_times_the_truth(
    grouped: tuple[Grouped, Tensor, Tensor],
) -> None:
    module, z, x = grouped
    expressed = expression(module, z, x, 1e-3)
    found = spread(expressed, 1).deviation
    intervals = float(torch.linalg.matrix_norm(interval_jacobian(expressed, 1).rad, 2).max())
    truth = sampled_deviation(module, z, x, 1e-3)
    assert truth <= found < 40 * truth
    assert found < 0.4 * intervals


def test_t12_local_lyapunov_on_a_group_norm_holds_in_a_larger_ball_and_the_checker_agrees(
    grouped: tuple[Grouped, Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, z, x = grouped
    certificate = certify(module, z, x, batch_dims=1, theorem="local_lyapunov", region=Around(z))
    assert certificate.verdict is Verdict.CERTIFIED
    assert_accepted(certificate, module, z, x)
    monkeypatch.setattr("deqops.verify._lyapunov.slopes_contraction", _by_intervals)
    before = certify(module, z, x, batch_dims=1, theorem="local_lyapunov", region=Around(z))
    assert isinstance(certificate.region, Ball)
    assert isinstance(before.region, Ball)
    assert certificate.region.radius > 4 * before.region.radius
    monkeypatch.setattr("deqops.verify.checker._theorems._lyapunov.spread", _beyond_the_checker)
    assert_accepted(before, module, z, x)
    assert not check(certificate, module, z, x).accepted


def _by_intervals(form: Any, jacobian: Jacobian, batch_dims: int, damping: float, slack: float) -> float:
    return form_contraction(form, damped(interval_jacobian(jacobian, batch_dims), damping), slack)


def _beyond_the_checker(*_: object) -> None:
    raise Rejected("not asked for")


def test_t12_with_damping_is_accepted(grouped: tuple[Grouped, Tensor, Tensor]) -> None:
    module, z, x = grouped
    certificate = certify(module, z, x, batch_dims=1, theorem="local_lyapunov", region=Around(z), damping=0.7)
    assert certificate.verdict is Verdict.CERTIFIED
    assert_accepted(certificate, module, z, x)


def test_t6_newton_kantorovich_by_the_deviation_is_accepted(
    grouped: tuple[Grouped, Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, z, x = grouped
    options: dict[str, Any] = {"batch_dims": 1, "theorem": "newton_kantorovich", "norm": "l2"}
    certificate = certify(module, z, x, region=Around(z), **options)
    assert certificate.verdict is Verdict.CERTIFIED
    assert_accepted(certificate, module, z, x)
    monkeypatch.setattr("deqops.verify._newton.spread", lambda *_: Spread(torch.zeros(1, 48, 48), math.inf))
    before = certify(module, z, x, region=Around(z), **options)
    assert isinstance(certificate.region, Ball)
    assert isinstance(before.region, Ball)
    assert certificate.region.radius > 2 * before.region.radius


class Opposed(nn.Module):
    """`0.9 z - 0.6 norm(z) + x`: the terms cancel, their norms add."""

    def __init__(self, n: int = 6) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(n, dtype=torch.float64)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return 0.9 * z - 0.6 * self.norm(z) + x


def test_t2_local_picard_where_the_product_of_norms_is_no_contraction() -> None:
    module, z = Opposed(), torch.linspace(-2, 2, 6, dtype=torch.float64)[None] ** 3
    x = (z - module(z, torch.zeros_like(z))).detach()
    norm = Norm("l2")
    expressed = expression(module, z, x, 0.05)
    assert lipschitz_gain(expressed, norm, 1).upper > 1
    found = spread_norm(expressed, norm, 1, CERTIFIED)
    assert found is not None
    assert found < 0.95
    certificate = certify(module, z, x, batch_dims=1, theorem="local_picard", region=Ball(z, 0.05), norm="l2")
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.rate is not None
    assert certificate.rate <= found * (1 + 1e-9)
    assert_accepted(certificate, module, z, x)
    assert spread_norm(expressed, Norm("linf"), 1, CERTIFIED) is None


def test_a_rate_below_what_the_checker_finds_is_rejected() -> None:
    module, z = Opposed(), torch.linspace(-2, 2, 6, dtype=torch.float64)[None] ** 3
    x = (z - module(z, torch.zeros_like(z))).detach()
    certificate = certify(module, z, x, batch_dims=1, theorem="local_picard", region=Ball(z, 0.05), norm="l2")
    assert certificate.rate is not None
    lower = copy.deepcopy(certificate)
    numbers = {**lower.evidence.numbers, "bound": certificate.rate - 1e-4}
    object.__setattr__(lower.evidence, "numbers", numbers)
    object.__setattr__(lower, "rate", certificate.rate - 1e-4)
    report = check(lower, module, z, x)
    assert not report.accepted
    assert "Lipschitz constant on the ball" in report.reasons[0]


def test_t12_a_contraction_below_what_the_checker_finds_is_rejected(grouped: tuple[Grouped, Tensor, Tensor]) -> None:
    module, z, x = grouped
    certificate = certify(module, z, x, batch_dims=1, theorem="local_lyapunov", region=Around(z))
    contraction = certificate.evidence.numbers["contraction"]
    object.__setattr__(
        certificate.evidence, "numbers", {**certificate.evidence.numbers, "contraction": contraction - 1e-3}
    )
    first, *others = certificate.hypotheses
    object.__setattr__(certificate, "hypotheses", (dataclasses.replace(first, value=contraction - 1e-3), *others))
    report = check(certificate, module, z, x)
    assert not report.accepted
    assert "norm of R N R^-1" in report.reasons[0]


# --------------------------------------------------------------------------------------------------- what is odd


def test_the_checker_finds_about_the_same(grouped: tuple[Grouped, Tensor, Tensor]) -> None:
    module, z, x = grouped
    subject = Subject(Problem(trace(module, z, x, batch_dims=1), z, (x,)).graph, frozenset(), ())
    constants = Values(subject.graph, None, subject.free)
    region = CheckedBall([z.numpy()], 1e-3)
    theirs = checked_spread(walk_over_ball(subject, constants, region, L2, None), subject)
    own = spread(expression(module, z, x, 1e-3), 1)
    assert float(theirs.deviation) <= own.deviation * (1 + 1e-9)
    middle = np.array([[float(t) for t in row] for row in theirs.middle[0]])
    assert float((torch.from_numpy(middle) - own.middle[0]).abs().max()) < 1e-9


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "transposed": lambda z: torch.tanh(z.transpose(0, 1)).transpose(0, 1),
    "merged": lambda z: torch.tanh(z.reshape(-1, z.shape[-1])).reshape(z.shape),
    "normalised": lambda z: nn.functional.layer_norm(z.transpose(0, 1), z.shape[-1:]).transpose(0, 1),
    "largest": lambda z: z.transpose(0, 1).amax(-1, keepdim=True).transpose(0, 1) * torch.ones_like(z),
    "sorted": lambda z: z.transpose(0, 1).sort(-1).values.transpose(0, 1),
}


@pytest.mark.parametrize("name", list(LAYOUTS))
@pytest.mark.parametrize("mixed", [False, True])
def test_problems_that_lie_in_another_dimension_inside(name: str, mixed: bool) -> None:
    """Each problem's own deviation, whichever dimension counts problems on the way: as for the problems one by one."""
    W = torch.randn(4, 4, generator=seeded(5), dtype=torch.float64)

    def G(z: Tensor, x: Tensor) -> Tensor:
        inner = LAYOUTS[name](z @ W)
        return (0.3 * (inner @ W) if mixed else 0.3 * inner) + x

    z = torch.randn(3, 3, 4, generator=seeded(6), dtype=torch.float64)
    together = spread(expression(G, z, torch.zeros_like(z), 0.05), 1)
    assert together.middle.shape == (3, 12, 12)
    subject = Subject(Problem(trace(G, z, z, batch_dims=1), z, (z,)).graph, frozenset(), ())
    walk = walk_over_ball(subject, Values(subject.graph, None, subject.free), CheckedBall([z.numpy()], 0.05), L2, None)
    checked = float(checked_spread(walk, subject).deviation)
    alone = [spread(expression(G, one[None], torch.zeros_like(one[None]), 0.05), 1) for one in z]
    largest = max(one.deviation for one in alone)
    assert largest * (1 - 1e-9) <= together.deviation <= largest * (1 + 1e-9)
    assert 0.9 * largest <= checked <= largest * (1 + 1e-9)
    for k, one in enumerate(alone):
        assert float((together.middle[k] - one.middle[0]).abs().max()) < 1e-12


class Partly(nn.Module):
    """Two leaves, one of which is a constant."""

    def forward(self, state: tuple[Tensor, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        y, z = state
        return 0.5 * torch.tanh(y + 0.1 * z) + x, x


def test_a_leaf_that_depends_on_nothing() -> None:
    x = torch.full((1, 3), 0.2, dtype=torch.float64)
    state = (torch.zeros_like(x), torch.zeros_like(x))
    module = Partly()
    problem = Problem(trace(module, state, x, batch_dims=1), state, (x,))
    around = spread(local_jacobian(problem, Ball(state, 0.1), L2), 1)
    assert around.middle.shape == (1, 6, 6)
    assert bool((around.middle[0, 3:] == 0).all())
    assert 0 < around.deviation < 0.1


def test_slopes_without_bounds_have_no_finite_deviation() -> None:
    module, z = nn.LayerNorm(3, dtype=torch.float64), torch.tensor([[1.0, 2.0, 4.0]], dtype=torch.float64)
    jacobian = expression(lambda y, x: torch.sqrt(module(y).square() + 1e-300) + x, z, z, 10.0)
    assert not spread(jacobian, 1).deviation < 1e3


def test_a_bound_that_is_no_number_is_not_forgotten_behind_others() -> None:
    assert math.isnan(_largest([1.0, math.nan, 0.5]))
    assert _largest([1.0, math.inf]) == math.inf
