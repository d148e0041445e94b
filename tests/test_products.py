"""Products of state-dependent values, softmax and extremes: slopes on boxes and everywhere, on both sides."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from flint import arb, ctx
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from deqops import InputError
from deqops.graph import trace
from deqops.verify import Ball, Norm, UnsupportedOperationError, Verdict, certify, check, lipschitz_bound
from deqops.verify._extreme import weights_over
from deqops.verify._gains import lipschitz_gain
from deqops.verify._interval_jacobian import interval_jacobian
from deqops.verify._local import local_jacobian
from deqops.verify._matrix import DenseMatrix, norm_bound
from deqops.verify._midrad import MidRad
from deqops.verify._norm import Order
from deqops.verify._problem import Problem
from deqops.verify._smooth import is_analytic, is_differentiable
from deqops.verify._softmax import softmax_over, softmax_slopes
from deqops.verify._stack import Stack
from deqops.verify.checker import _arithmetic as ball
from deqops.verify.checker._derivative import slope_products
from deqops.verify.checker._document import Ball as CheckedBall
from deqops.verify.checker._document import Norm as CheckedNorm
from deqops.verify.checker._gains import lipschitz_bound as checker_bound
from deqops.verify.checker._local import walk_over_ball
from deqops.verify.checker._network import Walk
from deqops.verify.checker._refusal import Rejected
from deqops.verify.checker._softmax import softmax_over as checker_softmax
from deqops.verify.checker._subject import Subject
from deqops.verify.checker._values import Values

SLACK = 1 + 2.0**-40
T, D = 3, 4


@pytest.fixture(autouse=True)
def _precision():
    before = ctx.prec
    ctx.prec = 240
    yield
    ctx.prec = before


def weight(seed: int, *shape: int, scale: float = 0.4) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


W = [weight(seed, D, D) for seed in range(4)]
ROWS = weight(9, T, D, D)
HIDDEN = torch.tensor([[False, True, False], [False, False, False], [True, True, False]])
BIAS = torch.tensor([[0.0, -math.inf, 0.3, -1.0], [-math.inf, 0.1, 0.0, -math.inf]], dtype=torch.float64)


def attention(z: Tensor) -> Tensor:
    scores = (z @ W[0]) @ (z @ W[1]).transpose(-1, -2)
    return torch.softmax(scores / math.sqrt(D), -1) @ (z @ W[2])


def heads(z: Tensor) -> Tensor:
    q, k, v = (part.reshape(-1, T, 2, D // 2).transpose(1, 2) for part in (z @ W[0], z @ W[1], z @ W[2]))
    mixed = torch.softmax(q @ k.transpose(-1, -2), -1) @ v
    return mixed.transpose(1, 2).reshape(z.shape) @ W[3]


def gate(z: Tensor) -> Tensor:
    return torch.sigmoid(z @ W[0]) * (z @ W[1]) + (1 - torch.sigmoid(z @ W[0])) * torch.tanh(z @ W[2])


def squares(z: Tensor) -> Tensor:
    return (z @ W[0]) * (z @ W[0]) - z * (z @ W[1]).sum(-1, keepdim=True)


def quotient(z: Tensor) -> Tensor:
    return (z @ W[0]) / (2 + (z @ W[1]).abs()) + 1 / (3 + z * z)


def pooled(z: Tensor) -> Tensor:
    largest = (z @ W[0]).reshape(*z.shape[:-1], D // 2, 2).amax(-1)
    smallest = (z @ W[1]).amin((-2, -1), keepdim=True)
    return torch.cat([largest, largest.tanh()], -1) + smallest


def softmaxes(z: Tensor) -> Tensor:
    return torch.softmax(z @ W[0], -1) + torch.softmax(z @ W[1], -2)


def experts(z: Tensor) -> Tensor:
    """A constant matrix for each row, from either side."""
    return (z.unsqueeze(-2) @ ROWS).squeeze(-2) + (ROWS.transpose(-1, -2) @ z.unsqueeze(-1)).squeeze(-1).tanh()


def bounded_gate(z: Tensor) -> Tensor:
    return 0.3 * torch.sigmoid(z @ W[0]) * torch.tanh(z @ W[1])


def causal(z: Tensor) -> Tensor:
    return torch.nn.functional.scaled_dot_product_attention(z @ W[0], z @ W[1], z @ W[2], is_causal=True)


def masked(z: Tensor) -> Tensor:
    """The last row sees one entry only; adding minus infinity is the same as filling it in."""
    scores = ((z @ W[0]) @ (z @ W[1]).transpose(-1, -2)).masked_fill(HIDDEN, -math.inf)
    biased = (z @ W[3]).unsqueeze(-2) + BIAS
    return torch.softmax(scores, -1) @ z + torch.softmax(biased.flatten(-2), -1).reshape(biased.shape).sum(-2)


LOCAL = [attention, causal, masked, heads, gate, squares, quotient, pooled, softmaxes, experts, bounded_gate]
GLOBAL = [pooled, softmaxes, experts, bounded_gate]
Map = Callable[[Tensor], Tensor]


def problem_of(G: Map, state: Tensor, batch_dims: int = 1) -> Problem:
    return Problem(trace(G, state, batch_dims=batch_dims), state, ())


def subject_of(problem: Problem) -> Subject:
    return Subject(problem.graph, frozenset(), ())


def exact_image(problem: Problem, state: Tensor) -> list[Any]:
    """G at a point in ball arithmetic, by the checker's rules of evaluation."""
    values = Values(problem.graph, [ball.exact(state)], frozenset())
    return list(values.balls(problem.graph.outputs[0]).reshape(-1))


def floats(x: Any) -> Tensor:
    return torch.tensor([float(v.mid()) for v in x.reshape(-1)], dtype=torch.float64).reshape(x.shape)


def point_near(center: Tensor, radius: float, seed: int) -> Tensor:
    share = torch.rand(center.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    corner = torch.where(share < 0.3, -1.0, torch.where(share > 0.7, 1.0, 2 * share - 1))
    return center + radius * corner


def contains(matrices: MidRad, difference: Tensor, change: list[Any]) -> bool:
    """Whether some M of the intervals has `M difference = change`: row by row, in ball arithmetic."""
    batch, n = matrices.mid.shape[:2]
    rows = matrices.mid.reshape(batch * n, n), matrices.rad.reshape(batch * n, n)
    flat = difference.reshape(batch, n)
    for row, (mid, rad) in enumerate(zip(*rows, strict=True)):
        d = [arb(v) for v in flat[row // n].tolist()]
        middle = sum((arb(m) * x for m, x in zip(mid.tolist(), d, strict=True)), arb(0))
        reach = sum((arb(r) * abs(x) for r, x in zip(rad.tolist(), d, strict=True)), arb(0))
        if abs(change[row] - middle) > reach:
            return False
    return True


@pytest.mark.parametrize("G", LOCAL)
@pytest.mark.parametrize("radius", [1e-6, 0.05, 1.0])
def test_slopes_lemma_differences_on_a_box_are_a_slope_product(G: Map, radius: float) -> None:
    center = weight(20, 2, T, D, scale=0.7)
    problem = problem_of(G, center)
    jacobian = interval_jacobian(local_jacobian(problem, Ball(center, radius), Norm("linf")), 1)
    region = CheckedBall((center.numpy(),), radius)
    subject = subject_of(problem)
    walk = walk_over_ball(subject, Values(problem.graph, None, frozenset()), region, CheckedNorm("linf", None), None)
    twin = slope_products(walk, subject)
    theirs = MidRad(floats(twin.middle), floats(twin.radius) * (1 + 1e-9) + 1e-14)
    for seed in range(6):
        y, z = point_near(center, radius, seed), point_near(center, radius, seed + 100)
        change = [a - b for a, b in zip(exact_image(problem, y), exact_image(problem, z), strict=True)]
        assert contains(jacobian, y - z, change)
        assert contains(theirs, y - z, change)
    if radius < 1e-3:
        truth = torch.autograd.functional.jacobian(lambda s: G(s[None])[0], center[0]).reshape(T * D, T * D)
        assert float((jacobian.mid[0] - truth).abs().max()) < 1e-4
        assert float(jacobian.rad.max()) < 1e-4
        assert max(float(v) for v in twin.radius.reshape(-1)) < 1e-4


@pytest.mark.parametrize("G", LOCAL)
@pytest.mark.parametrize("order", ["l1", "l2", "linf"])
def test_t2_gains_on_a_ball_are_above_sampled_jacobians_and_confirmed(G: Map, order: Any) -> None:
    center, radius = weight(21, 2, T, D, scale=0.7), 0.05
    problem, norm = problem_of(G, center), Norm(order)
    gain = lipschitz_gain(local_jacobian(problem, Ball(center, radius), norm), norm, 1).upper
    kind = {"l1": 1, "l2": 2, "linf": math.inf}[order]
    size = {"l1": 1 / (T * D), "l2": 1 / math.sqrt(T * D), "linf": 1.0}[order]
    largest = 0.0
    for seed in range(8):
        y = point_near(center, radius * size, seed)
        jacobian = torch.autograd.functional.jacobian(lambda s: G(s[None])[0], y[0]).reshape(T * D, T * D)
        largest = max(largest, float(torch.linalg.matrix_norm(jacobian, kind)))
    assert largest <= gain * (1 + 1e-12)
    assert gain < 8 * largest
    subject, checked = subject_of(problem), CheckedNorm(order, None)
    region = CheckedBall((center.numpy(),), radius)
    walk = walk_over_ball(subject, Values(problem.graph, None, frozenset()), region, checked, None)
    assert float(checker_bound(walk.network.sources, walk.outputs, order, None)) <= gain * SLACK


@pytest.mark.parametrize("G", GLOBAL)
@pytest.mark.parametrize("order", ["l1", "l2", "linf"])
def test_t1_constants_of_bounded_factors_hold_everywhere_and_are_confirmed(G: Map, order: Any) -> None:
    state = torch.zeros(2, T, D, dtype=torch.float64)
    bound = lipschitz_bound(G, state, norm=order)
    kind = {"l1": 1, "l2": 2, "linf": math.inf}[order]
    for seed in range(20):
        y = weight(seed, T, D, scale=3.0)
        jacobian = torch.autograd.functional.jacobian(lambda s: G(s[None])[0], y).reshape(T * D, T * D)
        assert float(torch.linalg.matrix_norm(jacobian, kind)) <= bound.upper
    problem = problem_of(G, state)
    upper = lipschitz_gain(problem.jacobian, Norm(order), 1).upper
    walk = Walk(problem.graph, Values(problem.graph, None, frozenset()))
    assert float(checker_bound(walk.network.sources, walk.outputs, order, None)) <= upper * SLACK


@pytest.mark.parametrize("G", [attention, gate, squares])
def test_products_of_unbounded_factors_have_no_constant(G: Map) -> None:
    with pytest.raises(UnsupportedOperationError, match="unless both are bounded"):
        lipschitz_bound(G, torch.zeros(1, T, D, dtype=torch.float64))


def test_a_divisor_that_may_vanish_is_refused() -> None:
    state = torch.ones(1, D, dtype=torch.float64)
    with pytest.raises(UnsupportedOperationError, match="may be 0"):
        lipschitz_bound(lambda z: z / z, state, region=Ball(state, 1.0))
    assert lipschitz_bound(lambda z: z / z, state, region=Ball(state, 0.5)).upper < 9


# ------------------------------------------------------------------------------------------------------- softmax


def exact_softmax(x: list[Any]) -> list[Any]:
    powers = [v.exp() for v in x]
    total = sum(powers, arb(0))
    return [p / total for p in powers]


@given(st.lists(st.tuples(st.floats(-4, 4), st.floats(0, 3)), min_size=2, max_size=5))
def test_softmax_ranges_are_attained_at_corners(box: list[tuple[float, float]]) -> None:
    mid, rad = (torch.tensor([[part[k] for part in box]], dtype=torch.float64) for k in range(2))
    x = MidRad(mid, rad)
    found = softmax_over(x).value
    low, high = x.lower()[0].tolist(), x.upper()[0].tolist()
    theirs = checker_softmax(*(ball.balls(end, (1, len(box))) for end in (low, high)))
    for k in range(len(box)):
        best = [arb(high[j] if j == k else low[j]) for j in range(len(box))]
        worst = [arb(low[j] if j == k else high[j]) for j in range(len(box))]
        top, bottom = exact_softmax(best)[k], exact_softmax(worst)[k]
        for a, b in ((found.lower()[0, k].item(), found.upper()[0, k].item()), (theirs.low[0, k], theirs.high[0, k])):
            assert not bottom < arb(a)
            assert not top > arb(b)
            assert arb(b) - top < 1e-12
            assert bottom - arb(a) < 1e-12


def test_softmax_constant_in_l2_is_attained_at_two_equal_entries() -> None:
    assert float(softmax_slopes(1, 2).gain) == 0.5
    pair = softmax_over(MidRad.exact(torch.zeros(1, 2, dtype=torch.float64)))
    assert float(pair.gain) == pytest.approx(0.5, abs=1e-15)
    assert float(softmax_slopes(1, 1).gain) == 0.0
    peaked = softmax_over(MidRad.exact(torch.tensor([[30.0, 0.0, 0.0]], dtype=torch.float64)))
    assert float(peaked.gain) < 1e-12


@pytest.mark.parametrize(("at", "value"), [("mid", math.inf), ("mid", math.nan), ("rad", math.inf), ("rad", math.nan)])
def test_boxes_that_are_not_enclosed_tell_nothing(at: str, value: float) -> None:
    """Beside some real number anything is possible, beside infinity or NaN there is no softmax at all."""
    whole = MidRad(torch.zeros(1, 3, dtype=torch.float64), torch.zeros(1, 3, dtype=torch.float64))
    getattr(whole, at)[0, 1] = value
    found = softmax_over(whole).value
    real = at == "rad" and value == math.inf
    assert found.is_finite() is real
    assert bool((found.lower() <= 0).all())
    assert bool((found.upper() >= 1).all())
    if not (at == "mid" and math.isinf(value)):
        assert weights_over(whole).kept[0, 1]


@pytest.mark.parametrize("theorem", ["auto", "picard"])
def test_a_row_that_is_masked_throughout_certifies_nothing(theorem: str) -> None:
    nothing = torch.full((1, T), -math.inf, dtype=torch.float64)
    some = torch.where(torch.arange(T) == 1, 0.0, nothing)
    z = weight(23, 1, 1, T)

    def G(mask: Tensor) -> Map:
        return lambda z: torch.softmax(0.1 * z + mask, -1) * 0.1

    assert certify(G(nothing), z, theorem=theorem).verdict is Verdict.UNKNOWN
    certificate = certify(G(some), z, theorem=theorem)
    assert check(certificate, G(some), z).accepted
    graph = problem_of(G(nothing), z).graph
    with pytest.raises(Rejected, match="minus infinity"):
        Walk(graph, Values(graph, None, frozenset()))


def test_minus_infinity_that_not_only_a_softmax_reads_is_an_error() -> None:
    hole = torch.tensor([0.0, -math.inf, 0.0], dtype=torch.float64)

    def G(z: Tensor) -> Tensor:
        scores = 0.1 * z + hole
        return torch.softmax(scores, -1) + 0.1 * scores.clamp(min=-1.0)

    with pytest.raises(InputError, match="NaN or infinity"):
        certify(G, torch.zeros(1, 3, dtype=torch.float64))


def test_an_entry_at_minus_infinity_counts_for_nothing() -> None:
    """As without it; where nothing else is left there is no softmax."""
    x = torch.tensor([[0.3, -math.inf, -1.0], [-math.inf, -math.inf, 5.0]], dtype=torch.float64)
    width = torch.full((2, 3), 0.1, dtype=torch.float64)
    found = softmax_over(MidRad(x, width)).value
    alone = softmax_over(MidRad(x[:1, ::2].clone(), width[:1, ::2].clone())).value
    torch.testing.assert_close(found.lower()[:1, ::2], alone.lower(), rtol=0, atol=1e-15)
    torch.testing.assert_close(found.upper()[:1, ::2], alone.upper(), rtol=0, atol=1e-15)
    assert found.mid[0, 1] == found.rad[0, 1] == 0
    assert bool(((found.mid[1] - torch.tensor([0.0, 0.0, 1.0])).abs() <= found.rad[1]).all())
    assert bool((found.rad[1] <= 1e-14).all())
    for size in (1, 3):
        nothing = torch.full((1, size), -math.inf, dtype=torch.float64)
        assert not softmax_over(MidRad.exact(nothing)).value.is_finite()


def test_huge_scores_do_not_overflow() -> None:
    x = MidRad.exact(torch.tensor([[1e300, 1e300, -1e300]], dtype=torch.float64))
    found = softmax_over(x).value
    assert found.lower()[0, 0] == pytest.approx(0.5)
    assert found.upper()[0, 2] < 1e-300


@pytest.mark.parametrize("name", ["softmax", "amax"])
def test_nothing_to_choose_from_is_unknown_by_name(name: str) -> None:
    def G(z: Tensor) -> Tensor:
        part = z[..., :0].reshape(0, 4)
        chosen = part.softmax(-1) if name == "softmax" else part.amax(-1, keepdim=True)
        return 0.5 * z + chosen.sum()

    certificate = certify(G, torch.zeros(1, 4, dtype=torch.float64), batch_dims=0)
    assert certificate.verdict is Verdict.UNKNOWN
    assert "no entries" in certificate.reason


# ------------------------------------------------------------------------------------------------------ extremes


def test_only_values_that_may_be_the_largest_have_weight() -> None:
    x = MidRad(torch.tensor([[0.0, 1.0, 0.9]], dtype=torch.float64), torch.full((1, 3), 0.1, dtype=torch.float64))
    assert weights_over(x).kept.tolist() == [[False, True, True]]
    tie = MidRad.exact(torch.tensor([[1.0, 1.0, 0.0]], dtype=torch.float64))
    assert weights_over(tie).kept.tolist() == [[True, True, False]]


def test_an_extreme_is_differentiable_where_one_value_wins() -> None:
    center = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    problem = problem_of(lambda z: z.amax(-1, keepdim=True).expand(1, 2), center)
    assert not is_analytic(problem.graph)
    assert is_differentiable(local_jacobian(problem, Ball(center, 0.4), Norm("linf")))
    assert not is_differentiable(local_jacobian(problem, Ball(center, 0.6), Norm("linf")))
    assert not is_differentiable(problem.jacobian)


def test_attention_and_gates_are_analytic_quotients_are_not() -> None:
    state = torch.zeros(1, T, D, dtype=torch.float64)
    assert is_analytic(problem_of(attention, state).graph)
    assert is_analytic(problem_of(gate, state).graph)
    assert not is_analytic(problem_of(lambda z: z / (1 + z.square()), state).graph)


@pytest.mark.parametrize("entries", [1, 100])
def test_the_checker_may_take_a_few_columns_at_once(entries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    center = weight(22, 2, T, D)
    problem, plain = problem_of(heads, center), CheckedNorm("linf", None)
    subject, constants = subject_of(problem), Values(problem.graph, None, frozenset())
    walk = walk_over_ball(subject, constants, CheckedBall((center.numpy(),), 0.1), plain, None)
    whole = slope_products(walk, subject)
    monkeypatch.setattr("deqops.verify.checker._derivative.LARGEST_ENTRIES", 200 + entries)
    parts = slope_products(walk, subject)
    assert floats(parts.middle).equal(floats(whole.middle))
    assert floats(parts.radius).equal(floats(whole.radius))


# -------------------------------------------------------------------------------------------------------- stacks


@given(st.integers(0, 1000), st.integers(1, 4), st.integers(1, 4), st.integers(1, 8), st.floats(0, 0.5))
def test_a_stack_of_matrices_is_bounded_by_its_largest(seed: int, p: int, n: int, batch: int, radius: float) -> None:
    mid = weight(seed, batch, p, n, scale=1.0)
    stack = Stack(MidRad(mid, torch.full_like(mid, radius)), width=2)
    for order, kind in (("l1", 1), ("l2", 2), ("linf", math.inf)):
        bound = stack.norm_bound(order, None, None)  # type: ignore[arg-type]
        for sign in (-1.0, 0.0, 1.0):
            for flip in (mid.sign(), torch.ones_like(mid)):
                sample = torch.linalg.matrix_norm(mid + sign * radius * flip, kind)
                assert float(sample.max()) <= bound * (1 + 1e-12)
        assert bound <= float(torch.linalg.matrix_norm(mid, kind).max()) * (1 + 1e-9) + radius * max(p, n) + 1e-12


@given(st.integers(0, 1000), st.integers(1, 6), st.integers(1, 6), st.sampled_from([0.0, 1e-9, 0.3]))
def test_few_matrices_of_a_stack_tell_its_norm(seed: int, p: int, n: int, radius: float) -> None:
    """It is the largest bound of all, though most are not looked at closely."""
    mid = weight(seed, 40, p, n, scale=1.0) * 10.0 ** torch.linspace(-200, 0, 40, dtype=torch.float64)[:, None, None]
    mid[20:] = weight(seed + 1, 20, p, n, scale=1.0)
    stack = Stack(MidRad(mid, radius * mid.abs()), width=2)
    each = [norm_bound(DenseMatrix(MidRad(one, radius * one.abs())), "l2") for one in mid]
    looked: list[float] = []

    def counted(one: DenseMatrix, order: Order) -> float:
        looked.append(norm_bound(one, order))
        return looked[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deqops.verify._stack.norm_bound", counted)
        found = stack.norm_bound("l2", None, None)
    assert found <= max(each) * (1 + 1e-12)
    assert found >= float(torch.linalg.matrix_norm(mid, 2).max()) * (1 - 1e-12)
    assert len(looked) <= 12


# ------------------------------------------------------------------------------------------------- certificates


def shrunk(G: Map, factor: float) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda z, x: factor * G(z) + x


@pytest.mark.parametrize("G", [attention, causal, masked, heads, gate, quotient, squares])
def test_t2_a_map_with_products_is_certified_at_its_equilibrium_and_checked(G: Map) -> None:
    z, x = torch.zeros(2, T, D, dtype=torch.float64), weight(30, 2, T, D, scale=0.5)
    H = shrunk(G, 0.3)
    certificate = certify(H, z, x)
    assert certificate.verdict is Verdict.CERTIFIED, certificate.reason
    assert isinstance(certificate.region, Ball)
    assert certificate.region.radius > 1e-4
    assert check(certificate, H, z, x).accepted


@pytest.mark.parametrize("G", GLOBAL)
def test_t1_a_map_of_bounded_factors_is_certified_for_every_state(G: Map) -> None:
    z, x = torch.zeros(2, T, D, dtype=torch.float64), weight(31, 2, T, D, scale=0.5)
    H = shrunk(G, 0.4 / lipschitz_bound(G, z).upper)
    certificate = certify(H, z, x, theorem="picard", norm="l2")
    assert certificate.verdict is Verdict.CERTIFIED, certificate.reason
    assert check(certificate, H, z, x).accepted


def test_t11_gates_of_bounded_values_have_an_absorbing_box() -> None:
    z, x = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([[0.3, -0.2]], dtype=torch.float64)

    def G(z: Tensor, x: Tensor) -> Tensor:
        return torch.sigmoid(4 * z) * torch.tanh(z) + x

    certificate = certify(G, z, x)
    assert (certificate.verdict, certificate.theorem) == (Verdict.CERTIFIED, "absorbing")
    assert check(certificate, G, z, x).accepted


def test_t9_plain_attention_that_expands_is_refuted_as_a_contraction() -> None:
    z, x = torch.zeros(1, T, D, dtype=torch.float64), weight(32, 1, T, D, scale=3.0)
    H = shrunk(attention, 4.0)
    certificate = certify(H, z, x, theorem="picard", norm="l2")
    assert certificate.verdict is Verdict.REFUTED
    assert check(certificate, H, z, x).accepted


# ---------------------------------------------------------------------------------------------- random small maps

_STEPS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / (1.5 + b * b),
    "scores": lambda a, b: torch.softmax(a @ b.transpose(-1, -2), -1) @ b,
    "softmax": lambda a, b: torch.softmax(a, -1) + b,
    "amax": lambda a, b: a.amax(-1, keepdim=True) - b,
    "gate": lambda a, b: torch.sigmoid(a) * b,
    "tanh": lambda a, b: torch.tanh(a + b),
    "matmul": lambda a, b: a @ (b.transpose(-1, -2) @ b),
}


@given(
    st.lists(st.tuples(st.sampled_from(sorted(_STEPS)), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=4),
    st.integers(0, 200),
    st.sampled_from([1e-4, 0.1, 0.8]),
)
def test_slopes_lemma_random_maps_of_two_points_of_a_box(steps: Any, seed: int, radius: float) -> None:
    def G(z: Tensor) -> Tensor:
        values = [z, z @ W[0][:2, :2]]
        for name, a, b in steps:
            values.append(_STEPS[name](values[a % len(values)], values[b % len(values)]))
        return values[-1] * 0.5

    center = weight(seed, 1, 2, 2, scale=0.6)
    problem = problem_of(G, center)
    matrices = interval_jacobian(local_jacobian(problem, Ball(center, radius), Norm("linf")), 1)
    for number in range(3):
        y, z = point_near(center, radius, number), point_near(center, radius, number + 50)
        change = [a - b for a, b in zip(exact_image(problem, y), exact_image(problem, z), strict=True)]
        assert contains(matrices, y - z, change)
