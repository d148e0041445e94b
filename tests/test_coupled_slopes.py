"""Lemma `slopes`, locally: slopes that follow one state, against exact values, Jacobians and definiteness."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from exact import ball, bounds_rational_norm, is_positive_semidefinite, rational, rational_matrix, seeded
from flint import arb, arb_mat, fmpq, fmpq_mat, fmpz
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from deqops.graph import trace
from deqops.verify import Ball, Box, Norm, lipschitz_bound
from deqops.verify._chain import Chain, chain_of
from deqops.verify._chain_gain import chain_gain
from deqops.verify._coupled_gain import _of_the_state, coupled_gain
from deqops.verify._coupling import Coupling
from deqops.verify._coupling_search import Choice, _balanced, proposal
from deqops.verify._jacobian import Function
from deqops.verify._later_layers import squares_of_later_layers
from deqops.verify._local import followed_jacobian
from deqops.verify._midrad import MidRad
from deqops.verify._one_problem import one_problem
from deqops.verify._pieces import chord, line, pieces
from deqops.verify._problem import Problem
from deqops.verify._region import Region

L2, DOUBLE = Norm("l2"), torch.float64


def sigmoid(a: arb) -> arb:
    return 1 / (1 + (-a).exp())


TRUTH: dict[str, tuple[Callable[[arb], arb], Callable[[arb], arb]]] = {
    "tanh": (lambda a: a.tanh(), lambda a: 1 - a.tanh() ** 2),
    "sigmoid": (sigmoid, lambda a: sigmoid(a) * (1 - sigmoid(a))),
    "silu": (lambda a: a * sigmoid(a), lambda a: sigmoid(a) + a * sigmoid(a) * (1 - sigmoid(a))),
    "softplus": (lambda a: (1 + a.exp()).log(), sigmoid),
    "relu": (lambda a: a if a > 0 else arb(0), lambda a: arb(1) if a > 0 else arb(0)),
    "exp": (lambda a: a.exp(), lambda a: a.exp()),
    "square": (lambda a: a * a, lambda a: 2 * a),
}


def inside(value: arb, interval: MidRad, entry: int) -> bool:
    """Not shown to be outside."""
    low, high = float(interval.lower()[entry]), float(interval.upper()[entry])
    return not (value < ball(low) or value > ball(high))


# ------------------------------------------------------------------------------------------------------- lines


@pytest.mark.parametrize("name", sorted(TRUTH))
@pytest.mark.parametrize("width", [1e-9, 0.3, 3.0])
def test_lines_beside_a_function_and_its_derivative_hold_exactly(name: str, width: float) -> None:
    s, derivative = TRUTH[name]
    center = torch.tensor([-2.0, -0.25, 0.0, 0.125, 1.5], dtype=DOUBLE)
    low, high = torch.full_like(center, -width), torch.full_like(center, 0.75 * width)
    function, around = Function(name, {}, 0), MidRad(center, torch.full_like(center, 1e-12))
    b, e = chord(function, around, low, high)
    sides = torch.tensor([True, False, True, False, True])
    steep, rest = line(pieces(function, around, low, high), (low + high) / 3, sides)
    for entry, share in itertools.product(range(5), (0.0, 0.01, 0.3, 0.57, 0.571428571, 0.8, 1.0)):
        d = float((low + share * (high - low)).clamp(low, high)[entry])
        for shift in (-1e-12, 0.0, 1e-12):
            c = ball(float(center[entry])) + ball(shift)
            assert inside(s(c + ball(d)) - s(c) - ball(float(b[entry])) * ball(d), e, entry)
            assert inside(derivative(c + ball(d)) - ball(float(steep[entry])) * ball(d), rest, entry)


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "silu", "softplus"])
def test_lines_are_near_to_the_second_order(name: str) -> None:
    center = torch.linspace(-2, 2, 9, dtype=DOUBLE)
    for width in (0.1, 0.2):
        low, high = torch.full_like(center, -width), torch.full_like(center, width)
        around = MidRad.exact(center)
        _, e = chord(Function(name, {}, 0), around, low, high)
        assert float(e.rad.max()) < 0.5 * width**2
        _, rest = line(pieces(Function(name, {}, 0), around, low, high), low, torch.ones(9, dtype=torch.bool))
        assert float(rest.rad.max()) < 0.06 * width + 2 * width**2  # the pieces' width and the curvature


# -------------------------------------------------------------------------------------------------- linear forms


class Net(nn.Module):
    """`skip y + W_L s(.. s(W_1 y + b_1) ..)` on states (batch, n)."""

    def __init__(self, seed: int, sizes: tuple[int, ...], name: str, scale: float = 1.0, skip: float = 0.0) -> None:
        super().__init__()
        generator, pairs = seeded(seed), itertools.pairwise(sizes)
        drawn = [scale * torch.randn(m, n, generator=generator, dtype=DOUBLE) / n**0.5 for n, m in pairs]
        self.weights = drawn
        self.biases = [0.6 * torch.randn(len(w), generator=generator, dtype=DOUBLE) for w in drawn]
        self.name, self.skip = name, skip

    def forward(self, y: Tensor) -> Tensor:
        u, s = y, getattr(nn.functional, self.name) if self.name != "tanh" else torch.tanh
        for w, b in list(zip(self.weights, self.biases, strict=True))[:-1]:
            u = s(u @ w.T + b)
        return u @ self.weights[-1].T + self.skip * y

    def exactly(self, y: Tensor) -> tuple[list[list[arb]], fmpq_mat]:
        """All pre-activations at one state, and the Jacobian there, to 300 bits."""
        s, derivative = TRUTH[self.name]
        u, seen = [ball(v) for v in y.tolist()], []
        J = arb_mat([[arb(int(i == j)) for j in range(len(y))] for i in range(len(y))])
        *inner, last = [arb_mat([[ball(v) for v in row] for row in w.tolist()]) for w in self.weights]
        for w, b in zip(inner, self.biases, strict=False):
            product = w * arb_mat([[v] for v in u])
            seen.append([product[i, 0] + ball(float(b[i])) for i in range(len(b))])
            rows = w * J
            J = arb_mat([[derivative(t) * rows[i, j] for j in range(len(y))] for i, t in enumerate(seen[-1])])
            u = [s(t) for t in seen[-1]]
        J = last * J
        own = [[J[i, j] + ball(self.skip) * int(i == j) for j in range(J.ncols())] for i in range(J.nrows())]
        return seen, fmpq_mat(J.nrows(), J.ncols(), [middle(v) for row in own for v in row])


def middle(value: arb) -> fmpq:
    mantissa, exponent = value.mid().man_exp()
    return fmpq(mantissa * fmpz(2) ** int(exponent)) if exponent >= 0 else fmpq(mantissa, fmpz(2) ** -int(exponent))


def regions(center: Tensor, radius: float) -> dict[str, tuple[Region, Norm]]:
    weights = (torch.linspace(0.7, 2.0, center.shape[1], dtype=DOUBLE),)
    spread = radius * torch.linspace(0.2, 1.0, center.numel(), dtype=DOUBLE).reshape(center.shape)
    balls = {order: Norm(order) for order in ("l1", "l2", "linf")}  # type: ignore[arg-type]
    balls["weighted"] = Norm("l2", weights)
    found: dict[str, tuple[Region, Norm]] = {k: (Ball(center, radius, norm), norm) for k, norm in balls.items()}
    return found | {"box": (Box(center - spread, center + 0.5 * spread), L2)}


def states(region: Region, norm: Norm, count: int, seed: int) -> Tensor:
    """States of the region, (count, batch, n): some of its corners or of its surface, and some inside."""
    steps = torch.randn(count, *_center(region).shape, generator=seeded(seed), dtype=DOUBLE)
    steps[: count // 2] = steps[: count // 2].sign()
    if isinstance(region, Box):
        low, high = (ends[0] for ends in region.ends)
        return torch.where(steps.abs() == 1, torch.where(steps > 0, high, low), low + (high - low) * steps.sigmoid())
    assert isinstance(region, Ball)
    weighted = steps if norm.weights is None else steps * norm.weights[0]
    order = {"l1": 1.0, "l2": 2.0, "linf": float("inf")}[norm.order]
    return (
        _center(region)
        + steps * (region.radius * (1 - 1e-9) / torch.linalg.vector_norm(weighted, order, dim=-1))[..., None]
    )


def _center(region: Region) -> Tensor:
    return region.leaves[0] if isinstance(region, Ball) else region.middle[0]  # type: ignore[union-attr]


KINDS = ["l1", "l2", "linf", "weighted", "box"]


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), kind=st.sampled_from(KINDS), name=st.sampled_from(["tanh", "relu", "silu"]))
def test_forms_contain_every_argument_exactly(seed: int, kind: str, name: str) -> None:
    check_forms(seed, kind, name)


def test_forms_contain_the_arguments_of_a_curved_net_exactly() -> None:
    check_forms(0, "box", "tanh")


def check_forms(seed: int, kind: str, name: str) -> None:
    net = Net(seed, (3, 4, 3, 3), name)
    center = torch.randn(2, 3, generator=seeded(seed + 1), dtype=DOUBLE)
    region, norm = regions(center, 0.3)[kind]
    jacobian, forms = followed_jacobian(Problem(trace(net, center), center, ()), region, norm)  # type: ignore[arg-type]
    at = forms.reach.boxes[0].mid
    assert len(jacobian.bases) == 3
    for state in states(region, norm, 4, seed):
        for problem in range(2):
            here, there = net.exactly(state[problem])[0], net.exactly(at[problem])[0]
            for form, v, c in zip(forms.of_argument.values(), here, there, strict=True):
                for i, (a, b) in enumerate(zip(v, c, strict=True)):
                    steps = [
                        ball(x) - ball(m) for x, m in zip(state[problem].tolist(), at[problem].tolist(), strict=True)
                    ]
                    line_ = sum(
                        (ball(r) * d for r, d in zip(form.rows[problem, i].tolist(), steps, strict=True)), arb(0)
                    )
                    left = a - b - line_ - ball(float(form.offset[problem, i]))
                    assert not abs(left) > ball(float(form.rest[problem, i]))
                    assert not a - b > ball(float(form.high[problem, i]))
                    assert not a - b < ball(float(form.low[problem, i]))


def test_forms_narrow_the_enclosures_of_deeper_layers() -> None:
    net, center = Net(3, (6, 8, 8, 6), "tanh"), torch.zeros(1, 6, dtype=DOUBLE)
    problem, region = Problem(trace(net, center), center, ()), Ball(center, 0.05, Norm("linf"))
    _, forms = followed_jacobian(problem, region, Norm("linf"))
    second = list(forms.of_argument.values())[1]
    assert float(second.rest.max()) < 0.1 * float((second.high - second.low).max())


# ---------------------------------------------------------------------------------------------- the parts of a bound


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=DOUBLE)


@settings(max_examples=12)
@given(seed=st.integers(0, 10**6), order=st.sampled_from(["linf", "l2"]))
def test_what_follows_the_state_is_below_the_matrix_for_it_exactly(seed: int, order: str) -> None:
    G = drawn(seed, 3, 2, 3)
    F = torch.cat([torch.cat([torch.zeros(3, 2, 2), G / 2], 2), torch.cat([G.mT / 2, torch.zeros(3, 3, 3)], 2)], 1)
    if order == "l2":
        L = drawn(seed + 1, 5, 5)
        factors = L, torch.linalg.solve(L, F)
    else:
        side = drawn(seed + 1, 3, 2, 2)
        factors = side, torch.linalg.solve(side, G).mT
    above = _of_the_state(order, MidRad.exact(G), factors)
    top = rational_matrix(above.mid) + fmpq_mat(
        5, 5, [rational(v) for v in torch.diag(above.rad.sum(dim=1)).reshape(-1).tolist()]
    )
    corners = [list(t) for t in itertools.product((-1.0, 1.0), repeat=3)]
    unit = [[1.0, 0, 0], [0, -1.0, 0], [0.6, 0.0, -0.8], [0.28, 0.96, 0.0], [-0.6, 0.48, 0.64]]
    for t in corners if order == "linf" else unit:
        moved = sum((rational(x) * rational_matrix(f) for x, f in zip(t, F, strict=True)), fmpq_mat(5, 5))
        assert is_positive_semidefinite((top - moved + (top - moved).transpose()) / 2)


def test_an_error_in_the_factors_is_paid_for() -> None:
    """Of factors that are 0 all is error: `u_1 x_1 - 2 u_2 x_2 <= |u|^2 + |x|^2`, and no smaller multiple will do."""
    G = torch.diag(torch.tensor([1.0, -2.0], dtype=DOUBLE))[None]
    none, nothing = torch.zeros(1, 2, 2, dtype=DOUBLE), torch.zeros(1, 4, 4, dtype=DOUBLE)
    for order, factors in (("linf", (none, none)), ("l2", (nothing[0], nothing))):
        assert float(_of_the_state(order, MidRad.exact(G), factors).lower().diagonal().min()) >= 1


@pytest.mark.parametrize("shape", [(3, 2, 4), (3, 4, 2), (2, 3, 3), (2, 1, 1)])
def test_balanced_factors_are_exact_and_as_long_on_both_sides(shape: tuple[int, ...]) -> None:
    """Then `|U^T u|^2 + |V^T x|^2` is least in the mean: twice the sum of the singular values."""
    B = drawn(4, *shape)
    left, right = _balanced(B)
    assert torch.allclose(left @ right.mT, B, rtol=0, atol=1e-13)
    least = 2 * torch.linalg.svdvals(B).sum(dim=-1)
    assert torch.allclose(left.square().sum(dim=(1, 2)) + right.square().sum(dim=(1, 2)), least, rtol=1e-10)
    assert torch.equal(_balanced(torch.zeros(1, 2, 2, dtype=DOUBLE))[1], torch.zeros(1, 2, 2, dtype=DOUBLE))


@settings(max_examples=12)
@given(seed=st.integers(0, 10**6))
def test_squares_of_later_layers_bound_what_they_read_exactly(seed: int) -> None:
    """Of three layers, at rational p, q and slopes: `sum_i |p_i (V_w w)_i|` is below the squares."""
    sizes, n = (2, 3, 2), 2
    m, starts = sum(sizes), [0, 2, 5, 7]
    V = torch.zeros(m, n + m, dtype=DOUBLE)
    V[:, :n] = drawn(seed, m, n)
    for a, b in itertools.pairwise(starts):
        V[a:b, n : n + a] = drawn(seed + a + 1, b - a, a)
    layers = tuple(slice(a, b) for a, b in itertools.pairwise(starts))
    chain = Chain(MidRad.exact(torch.zeros(1, n + m, dtype=DOUBLE)), MidRad.exact(V), n, layers, ())
    free = [drawn(seed + k, m).abs() + 0.1 for k in (20, 21, 22)]
    on_p, on_q = squares_of_later_layers(chain, *free)
    assert float(on_q[5:].abs().max()) == 0  # nothing reads the last layer
    for k in range(6):
        p, x, sigma = drawn(seed + 30 + k, m), drawn(seed + 40 + k, n), drawn(seed + 50 + k, m).clamp(-1, 1)
        q = [
            sum((rational(v) * rational(t) for v, t in zip(row[:n].tolist(), x.tolist(), strict=True)), fmpq(0))
            for row in V
        ]
        w: list[fmpq] = []
        read = fmpq(0)
        for i in range(m):
            inner = sum((rational(v) * u for v, u in zip(V[i, n : n + len(w)].tolist(), w, strict=True)), fmpq(0))
            own = rational(float(p[i])) * inner
            read += own if own > 0 else -own
            w.append(rational(float(sigma[i])) * (q[i] + inner))
        above = sum((rational(float(a)) * rational(float(b)) ** 2 for a, b in zip(on_p, p, strict=True)), fmpq(0))
        above += sum((rational(float(a)) * b * b for a, b in zip(on_q, q, strict=True)), fmpq(0))
        assert read <= above


def test_squares_are_sharp_where_each_layer_is_one_neuron() -> None:
    """p = q = w = 1 and `V_w = 1`: what is read is 1, and so are the squares."""
    V = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], dtype=DOUBLE)
    chain, ones = (
        Chain(MidRad.exact(V), MidRad.exact(V), 1, (slice(0, 1), slice(1, 2)), ()),
        torch.ones(2, dtype=DOUBLE),
    )
    on_p, on_q = squares_of_later_layers(chain, ones, ones, ones)
    assert 1 <= float(on_p.sum() + on_q.sum()) <= 1 + 1e-12


def test_a_layer_that_reads_itself_has_no_bound() -> None:
    V = torch.ones(2, 4, dtype=DOUBLE)
    chain = Chain(MidRad.exact(V), MidRad.exact(V), 2, (slice(0, 2),), ())
    ones = torch.ones(2, dtype=DOUBLE)
    assert not any(bool(part.isfinite().any()) for part in squares_of_later_layers(chain, ones, ones, ones))


# ----------------------------------------------------------------------------------------------------- the bound


def coupled(net: nn.Module, center: Tensor, region: Region, norm: Norm) -> float | None:
    problem = Problem(trace(net, center), center, ())
    jacobian, forms = followed_jacobian(problem, region, norm)  # type: ignore[arg-type]
    return coupled_gain(jacobian, forms, problem.batch_dims)


@settings(max_examples=20)
@given(
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(KINDS),
    name=st.sampled_from(["tanh", "relu", "silu", "softplus"]),
    sizes=st.sampled_from([(3, 4, 3), (2, 3, 3, 2), (2, 2, 3, 2, 2), (1, 2, 1)]),
    radius=st.sampled_from([0.01, 0.2, 1.0]),
    skip=st.sampled_from([0.0, -0.5]),
)
def test_slopes_that_follow_one_state_bound_every_jacobian_exactly(
    seed: int, kind: str, name: str, sizes: tuple[int, ...], radius: float, skip: float
) -> None:
    net, center = Net(seed, sizes, name, skip=skip), torch.randn(2, sizes[0], generator=seeded(seed + 1), dtype=DOUBLE)
    region, norm = regions(center, radius)[kind]
    found = coupled(net, center, region, norm)
    if found is None:  # no slope is open
        assert name == "relu"
        return
    for state in states(region, norm, 4, seed):
        assert all(bounds_rational_norm(net.exactly(state[problem])[1], found) for problem in range(2))


def test_the_bound_is_near_the_largest_jacobian_and_below_that_of_free_slopes() -> None:
    """One layer of slopes between two maps: the box' corners show how large Jacobians become."""
    ratios, gains = [], []
    for seed in range(6):
        net, center = Net(seed, (4, 6, 4), "tanh", scale=1.5), torch.randn(1, 4, generator=seeded(seed), dtype=DOUBLE)
        region = Ball(center, 0.1, Norm("linf"))
        found = coupled(net, center, region, Norm("linf"))
        problem = Problem(trace(net, center), center, ())
        free = chain_gain(followed_jacobian(problem, region, Norm("linf"))[0], 1)
        assert found is not None
        assert free is not None
        corners = center + 0.1 * torch.tensor(list(itertools.product((-1.0, 1.0), repeat=4)), dtype=DOUBLE)
        J = torch.func.vmap(torch.func.jacrev(net))(corners)
        ratios.append(found / float(torch.linalg.matrix_norm(J, 2).max()))
        gains.append(free.upper / found)
    assert max(ratios) < 1.04
    assert sum(ratios) / 6 < 1.015
    assert min(gains) > 1.0
    assert sum(gains) / 6 > 1.03


def test_in_a_ball_too_the_bound_is_near_the_largest_jacobian() -> None:
    ratios = []
    for seed in range(6):
        net, center = Net(seed, (4, 6, 4), "tanh", scale=1.5), torch.randn(1, 4, generator=seeded(seed), dtype=DOUBLE)
        found = coupled(net, center, Ball(center, 0.1, L2), L2)
        assert found is not None
        steps = torch.nn.functional.normalize(torch.randn(2000, 4, generator=seeded(seed), dtype=DOUBLE), dim=1)
        J = torch.func.vmap(torch.func.jacrev(net))(center + 0.1 * steps)
        ratios.append(found / float(torch.linalg.matrix_norm(J, 2).max()))
    assert max(ratios) < 1.04
    assert sum(ratios) / 6 < 1.015


def test_the_bound_of_three_maps_is_below_that_of_free_slopes() -> None:
    net, center = Net(1, (6, 8, 8, 6), "tanh", scale=1.5), torch.zeros(1, 6, dtype=DOUBLE)
    center = torch.randn(1, 6, generator=seeded(8), dtype=DOUBLE)
    bound = lipschitz_bound(net, center, region=Ball(center, 0.02, Norm("linf")))
    assert bound.method == "coupled slopes"
    corners = center + 0.02 * torch.tensor(list(itertools.product((-1.0, 1.0), repeat=6)), dtype=DOUBLE)
    largest = float(torch.linalg.matrix_norm(torch.func.vmap(torch.func.jacrev(net))(corners), 2).max())
    assert largest <= bound.upper < 1.02 * largest


def test_each_problem_has_slopes_of_its_own() -> None:
    """The second problem's slopes are steep, the first one's are not: the bound is that of the second."""
    net = Net(2, (3, 5, 3), "tanh", scale=2.0)
    center = torch.stack([torch.full((3,), 6.0, dtype=DOUBLE), torch.zeros(3, dtype=DOUBLE)])
    both = coupled(net, center, Ball(center, 0.05, Norm("linf")), Norm("linf"))
    one = coupled(net, center[1:], Ball(center[1:], 0.05, Norm("linf")), Norm("linf"))
    assert both is not None
    assert both == pytest.approx(one, rel=1e-6)
    problem, region = Problem(trace(net, center[1], batch_dims=0), center[1], ()), Ball(center[1], 0.05, Norm("linf"))
    jacobian, forms = followed_jacobian(problem, region, Norm("linf"))
    assert coupled_gain(jacobian, forms, 0) == pytest.approx(one, rel=1e-6)


def test_numbers_that_promise_nothing_below_what_is_known_are_not_sought() -> None:
    net, center = Net(2, (3, 5, 3), "tanh"), torch.zeros(1, 3, dtype=DOUBLE)
    problem, region = Problem(trace(net, center), center, ()), Ball(center, 0.05, Norm("linf"))
    jacobian, forms = followed_jacobian(problem, region, Norm("linf"))
    assert coupled_gain(jacobian, forms, 1, below=1e-3) is None


def test_a_wrong_proposal_is_not_believed() -> None:
    """The proposed constant is lowered by one per cent: the matrix is not definite, and there is no bound."""
    net, center = Net(2, (3, 5, 3), "tanh"), torch.zeros(1, 3, dtype=DOUBLE)
    problem, region = Problem(trace(net, center), center, ()), Ball(center, 0.05, Norm("linf"))
    jacobian, forms = followed_jacobian(problem, region, Norm("linf"))
    one = one_problem(jacobian, 0, 1)
    chain = chain_of(one)
    assert chain is not None
    honest = proposal(Coupling.of(chain, one, forms, 0), float("inf"))
    assert honest is not None
    with pytest.MonkeyPatch.context() as patch:
        lowered = Choice(**{**honest.__dict__, "rho": 0.99 * honest.rho})
        patch.setattr("deqops.verify._coupled_gain.proposal", lambda *_: lowered)
        assert coupled_gain(jacobian, forms, 1) is None


def test_maps_that_are_unbounded_or_normalise_have_no_such_bound() -> None:
    center = torch.ones(1, 4, dtype=DOUBLE)
    for G in (lambda y: torch.tanh(nn.functional.layer_norm(y, (4,))), lambda y: 0.5 * y):
        assert coupled(G, center, Ball(center, 0.1, Norm("linf")), Norm("linf")) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("factor", [1e-300, 1e-160, 1e-30, 1e30, 1e150, 1e300])
def test_weights_of_any_size_have_a_bound_that_holds_or_none(factor: float) -> None:
    net, center = Net(4, (3, 5, 3), "tanh"), torch.zeros(1, 3, dtype=DOUBLE)
    net.weights[-1] = net.weights[-1] * factor
    region = Ball(center, 0.05, Norm("linf"))
    bound = lipschitz_bound(net, center, region=region).upper
    for state in states(region, Norm("linf"), 4, 1):
        assert bounds_rational_norm(net.exactly(state[0])[1], bound)
    assert bound <= 1e3 * factor


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
def test_a_batch_in_another_dimension_has_the_slopes_of_the_widest_problem(norm: str) -> None:
    """z^2 of two problems, the wide one first: its slope at the ends is 12, wherever the graph keeps the batch."""
    center = torch.tensor([[0.0], [5.0]], dtype=torch.float64).expand(2, 2, 1).contiguous()
    half = torch.tensor([1.0, 1e-3], dtype=torch.float64).reshape(2, 1, 1).expand(2, 2, 1)
    region = Box(center - half, center + half)
    for operator in (
        lambda z: z.square(),
        lambda z: z.transpose(0, 1).square().transpose(0, 1),
        lambda z: z.reshape(4, 1).square().reshape(2, 2, 1),
        lambda z: z[None].square()[0],
        lambda z: torch.msort(z.transpose(0, 1).square()).transpose(0, 1),
    ):
        assert 12 <= lipschitz_bound(operator, center, norm=norm, region=region).upper <= 12 * (1 + 1e-9)
