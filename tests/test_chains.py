"""Lemma `slopes`, T1 and T2 by one multiplier a slope: chains of linear maps against exact enumeration of slopes."""

from __future__ import annotations

import base64
import copy
import itertools
import math
from typing import Any

import pytest
import torch
from checker_builder import witness
from exact import bounds_rational_norm, rational_matrix, seeded
from flint import fmpq_mat
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from deqops import InputError
from deqops.graph import trace
from deqops.testing import signed
from deqops.verify import Ball, Certificate, Norm, Verdict, certify, check, lipschitz_bound
from deqops.verify._chain import chain_of
from deqops.verify._chain_gain import ChainGain, chain_gain, vertex_estimate
from deqops.verify._gains import lipschitz_gain
from deqops.verify._jacobian import Jacobian
from deqops.verify._local import local_jacobian
from deqops.verify._multipliers import Form
from deqops.verify._problem import Problem

L2, DOUBLE = Norm("l2"), torch.float64


class Net(nn.Module):
    """`skip y + W_L s(.. s(W_1 y + b_1) ..) + x` on states (batch, n)."""

    def __init__(self, weights: list[Tensor], s: Any = torch.relu, skip: float = 0.0, spread: float = 0.0) -> None:
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(w) for w in weights])
        self.biases = [spread * torch.randn(len(w), generator=seeded(7), dtype=DOUBLE) for w in weights[:-1]]
        self.s, self.skip = s, skip

    def forward(self, y: Tensor, x: Tensor | None = None) -> Tensor:
        u = y
        for w, b in zip(list(self.weights)[:-1], self.biases, strict=True):
            u = self.s(u @ w.T + b)
        u = u @ self.weights[-1].T
        u = u + self.skip * y if self.skip else u
        return u if x is None else u + x


def drawn(seed: int, *sizes: int, scale: float = 1.0) -> list[Tensor]:
    generator = seeded(seed)
    pairs = itertools.pairwise(sizes)
    return [scale * torch.randn(m, n, generator=generator, dtype=DOUBLE) / n**0.5 for n, m in pairs]


def expression(G: nn.Module, y: Tensor, *inputs: Tensor) -> Jacobian:
    return Problem(trace(G, y, *inputs), y, inputs).jacobian


def gain_of(weights: list[Tensor], s: Any = torch.relu, skip: float = 0.0, below: float = math.inf) -> ChainGain:
    y = torch.zeros(1, weights[0].shape[1], dtype=DOUBLE)
    found = chain_gain(expression(Net(weights, s, skip), y), 1, below)
    assert found is not None
    return found


def products(weights: list[Tensor], ends: tuple[float, float], skip: float = 0.0) -> list[fmpq_mat]:
    """All slope products with every slope at one of its ends, exactly; their hull holds all others."""
    inner = [rational_matrix(w) for w in weights]
    n = inner[0].ncols()
    identity = rational_matrix(skip * torch.eye(n, dtype=DOUBLE))
    found = []
    widths = [w.nrows() for w in inner[:-1]]
    for choice in itertools.product(ends, repeat=sum(widths)):
        rest, product = list(choice), inner[0]
        for k, width in enumerate(widths):
            own, rest = rest[:width], rest[width:]
            product = inner[k + 1] * rational_matrix(torch.diag(torch.tensor(own, dtype=DOUBLE))) * product
        found.append(product + identity if skip else product)
    return found


def truth(matrices: list[fmpq_mat]) -> float:
    """About the largest norm, for tests of tightness."""

    def floats(m: fmpq_mat) -> Tensor:
        entries = [float(v.p) / float(v.q) for v in m.entries()]
        return torch.tensor(entries, dtype=DOUBLE).reshape(m.nrows(), m.ncols())

    return max(float(torch.linalg.matrix_norm(floats(m), 2)) for m in matrices)


SLOPES = {"relu": (0.0, 1.0), "abs": (-1.0, 1.0), "leaky": (0.25, 1.0)}
FUNCTIONS = {"relu": torch.relu, "abs": torch.abs, "leaky": lambda v: nn.functional.leaky_relu(v, 0.25)}


# ------------------------------------------------------------------------------------------- against all slopes


@settings(max_examples=12)
@given(
    seed=st.integers(0, 10**6),
    sizes=st.sampled_from([(3, 4, 3), (2, 3, 2, 2), (1, 1, 1), (3, 1, 3), (2, 2, 1, 2, 2)]),
    name=st.sampled_from(sorted(SLOPES)),
    skip=st.sampled_from([0.0, 0.5, -1.0]),
)
def test_slopes_multipliers_bound_every_slope_product_exactly(
    seed: int, sizes: tuple[int, ...], name: str, skip: float
) -> None:
    weights = drawn(seed, *sizes)
    found = gain_of(weights, FUNCTIONS[name], skip)
    every = products(weights, SLOPES[name], skip)
    assert all(bounds_rational_norm(m, found.upper) for m in every)
    y = torch.zeros(1, sizes[0], dtype=DOUBLE)
    composed = lipschitz_gain(expression(Net(weights, FUNCTIONS[name], skip), y), L2, 1).upper
    assert truth(every) * (1 - 1e-12) <= found.upper <= composed * 1.005
    assert found.upper <= 1.6 * truth(every)  # abs is the worst: its slopes have no centre


def test_slopes_multipliers_are_close_to_the_largest_product_of_small_nets() -> None:
    ratios = []
    for seed in range(8):
        weights = drawn(seed, 4, 5, 4)
        ratios.append(gain_of(weights).upper / truth(products(weights, (0.0, 1.0))))
    assert max(ratios) < 1.15
    assert sum(ratios) / len(ratios) < 1.05


def test_slopes_one_layer_without_a_map_behind_costs_nothing() -> None:
    """`s(W y)`: the largest norm is that of W itself."""
    (w,) = drawn(3, 6, 6)
    found = gain_of([w, torch.eye(6, dtype=DOUBLE)])
    norm = float(torch.linalg.matrix_norm(w, 2))
    assert norm <= found.upper <= norm * 1.004


@pytest.mark.parametrize("batch", [1, 3])
def test_slopes_on_a_ball_differ_from_problem_to_problem(batch: int) -> None:
    """Each problem's slopes and multipliers are its own; the bound holds for the Jacobians inside its ball."""
    net = Net(drawn(1, 5, 6, 5), torch.tanh, spread=1.0)
    center = 2 * torch.randn(batch, 5, generator=seeded(2), dtype=DOUBLE)
    problem = Problem(trace(net, center), center, ())
    found = chain_gain(local_jacobian(problem, Ball(center, 0.2), L2), 1)
    assert found is not None
    assert [tuple(t.shape) for t in found.multipliers] == [(batch, 6)]
    steps = torch.randn(50, batch, 5, generator=seeded(3), dtype=DOUBLE)
    inside = center + 0.2 * steps / steps.norm(dim=-1, keepdim=True)
    seen = [
        torch.linalg.matrix_norm(torch.autograd.functional.jacobian(lambda z: net(z[None])[0], z), 2)
        for z in inside.reshape(-1, 5)
    ]
    assert max(seen) <= found.upper * (1 + 1e-12)
    assert found.upper <= 1.1 * max(seen)
    assert found.upper <= lipschitz_gain(local_jacobian(problem, Ball(center, 0.2), L2), L2, 1).upper


def test_slopes_that_are_known_need_no_multiplier() -> None:
    """Where every ReLU of a ball is settled, the map is affine there, and the bound is its norm."""
    weights = drawn(5, 4, 6, 4)
    net = Net(weights, torch.relu, spread=3.0)
    center = torch.randn(1, 4, generator=seeded(6), dtype=DOUBLE)
    problem = Problem(trace(net, center), center, ())
    found = chain_gain(local_jacobian(problem, Ball(center, 1e-9), L2), 1)
    assert found is not None
    assert not bool(found.multipliers[0].any())
    jacobian = torch.autograd.functional.jacobian(lambda z: net(z[None])[0], center[0])
    assert found.upper == pytest.approx(float(torch.linalg.matrix_norm(jacobian, 2)), rel=1e-8)


def test_a_box_is_the_ball_of_linf_and_the_constant_that_of_l2() -> None:
    net = Net(drawn(1, 5, 8, 8, 5), torch.tanh, spread=1.0)
    center = torch.randn(1, 5, generator=seeded(2), dtype=DOUBLE)
    box, ball = (lipschitz_bound(net, center, region=Ball(center, 0.1, norm)) for norm in (Norm("linf"), L2))
    assert box.method == "coupled slopes"
    assert ball.upper <= box.upper * 1.002
    corners = center + 0.1 * torch.tensor(list(itertools.product((-1.0, 1.0), repeat=5)), dtype=DOUBLE)
    seen = [
        float(torch.linalg.matrix_norm(torch.autograd.functional.jacobian(lambda z: net(z[None])[0], z), 2))
        for z in corners
    ]
    assert max(seen) <= box.upper <= 1.15 * max(seen)


def test_a_dense_skip_and_two_readers_of_one_value() -> None:
    """`A s(B y) + C t(D s(B y) + E y)` with everything connected to everything."""
    A, B, C, D, E = drawn(9, 2, 2, 2, 2, 2, 2)

    def G(y: Tensor) -> Tensor:
        u = torch.relu(y @ B.T)
        return u @ A.T + torch.relu(u @ D.T + y @ E.T) @ C.T

    y = torch.zeros(2, 2, dtype=DOUBLE)
    found = chain_gain(expression(G, y), 1)  # type: ignore[arg-type]
    assert found is not None
    rational = [rational_matrix(m) for m in (A, B, C, D, E)]
    every = []
    for ends in itertools.product((0.0, 1.0), repeat=4):
        first, second = (rational_matrix(torch.diag(torch.tensor(part, dtype=DOUBLE))) for part in (ends[:2], ends[2:]))
        a, b, c, d, e = rational
        u = first * b
        every.append(a * u + c * second * (d * u + e))
    assert all(bounds_rational_norm(m, found.upper) for m in every)
    assert found.upper <= 1.2 * truth(every)


# ------------------------------------------------------------------------------------------------- odd values


@pytest.mark.parametrize("scale", [1e-150, 1e-30, 1e30, 1e150, 1e300])
def test_extreme_weights_give_a_bound_or_none(scale: float) -> None:
    weights = drawn(0, 3, 4, 3)
    weights = [weights[0] * scale, weights[1]]
    bound = lipschitz_bound(Net(weights), torch.zeros(1, 3, dtype=DOUBLE)).upper
    assert all(bounds_rational_norm(m, bound) for m in products(weights, (0.0, 1.0)))


def test_zero_maps_and_idle_units() -> None:
    weights = drawn(0, 3, 4, 3)
    weights[0][1] = 0  # reads nothing
    weights[1][:, 2] = 0  # is read by nothing
    found = gain_of(weights)
    assert all(bounds_rational_norm(m, found.upper) for m in products(weights, (0.0, 1.0)))
    nothing = lipschitz_bound(Net([weights[0], torch.zeros(3, 4, dtype=DOUBLE)]), torch.zeros(1, 3, dtype=DOUBLE))
    assert nothing.upper == 0


def test_nan_weights_are_refused() -> None:
    weights = drawn(0, 3, 4, 3)
    weights[1][0, 0] = math.nan
    with pytest.raises(InputError, match="NaN"):
        lipschitz_bound(Net(weights), torch.zeros(1, 3, dtype=DOUBLE))


def test_normalisations_and_sizes_beyond_the_limit_have_no_multipliers() -> None:
    y = torch.zeros(1, 4, dtype=DOUBLE)
    normalised = lambda y: torch.tanh(nn.functional.layer_norm(y, (4,)))  # noqa: E731
    assert chain_gain(expression(normalised, y), 1) is None  # type: ignore[arg-type]
    assert chain_gain(expression(Net(drawn(0, 4, 5, 4)), y), 1, largest=8) is None


def test_a_constant_that_slopes_show_to_be_too_large_is_given_up_on() -> None:
    weights = drawn(0, 4, 5, 4, scale=3.0)
    y = torch.zeros(1, 4, dtype=DOUBLE)
    chain = chain_of(expression(Net(weights), y))
    assert chain is not None
    seen = vertex_estimate(Form(chain.Y.mid, chain.V.mid, chain.unknowns, chain.layers))
    assert seen <= truth(products(weights, (0.0, 1.0))) * (1 + 1e-12)
    assert chain_gain(expression(Net(weights), y), 1, below=0.99 * seen) is None


def test_the_method_is_named() -> None:
    y = torch.zeros(1, 6, dtype=DOUBLE)
    bound = lipschitz_bound(Net(drawn(0, 6, 6, 6)), y)
    assert bound.method == "multipliers"
    assert bound.contributions
    assert lipschitz_bound(lambda z: 0.5 * z, y).method == "composition"
    assert lipschitz_bound(Net(drawn(0, 6, 6, 6)), y, norm="linf").method == "interval Jacobian"


# ----------------------------------------------------------------------------------------------- certificates


def contractive(batch: int = 2) -> tuple[Net, Tensor, Tensor]:
    """A network that contracts, which the product of norms does not show."""
    net = Net(drawn(2, 6, 8, 6, scale=0.72), torch.tanh)
    return net, torch.zeros(batch, 6, dtype=DOUBLE), torch.randn(batch, 6, generator=seeded(4), dtype=DOUBLE)


def local(batch: int = 2) -> tuple[Net, Tensor, Tensor, Ball]:
    """One that contracts near its equilibria only."""
    net = Net(drawn(1, 6, 8, 6, scale=1.4), torch.tanh, spread=0.5)
    y, x = torch.zeros(batch, 6, dtype=DOUBLE), torch.randn(batch, 6, generator=seeded(4), dtype=DOUBLE)
    for _ in range(500):
        y = net(y, x)
    return net, y, x, Ball(y.detach(), 0.05)


@pytest.mark.parametrize("norm", ["l2", "auto"])
def test_t1_picard_by_multipliers_is_certified_and_checked(norm: str) -> None:
    net, y, x = contractive()
    composed = lipschitz_gain(expression(net, y, x), L2, 1).upper
    assert composed > 1
    certificate = certify(net, y, x, norm=norm, theorem="picard")
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.rate is not None
    assert certificate.rate < 0.95
    if norm == "l2":
        assert certificate.evidence is not None
        assert certificate.evidence.kind == "chain"
    assert certificate.contributions
    assert check(certificate, net, y, x).accepted
    again = Certificate.from_document(certificate.document())
    assert again.rate == certificate.rate
    error = again.error_bound(net, y, x)
    assert bool(error.value.isfinite().all())


def test_t1_picard_by_multipliers_rate_is_that_of_the_iteration() -> None:
    net, y, x = contractive(1)
    certificate = certify(net, y, x, norm="l2")
    a, b = torch.randn(2, 200, 6, generator=seeded(5), dtype=DOUBLE)
    ratio = ((net(a) - net(b)).norm(dim=1) / (a - b).norm(dim=1)).max().detach()
    assert certificate.rate is not None
    assert float(ratio) <= certificate.rate


@pytest.mark.parametrize("batch", [1, 2])
def test_t2_local_picard_by_multipliers_is_certified_and_checked(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deqops.verify._theorems._local_picard.spread_norm", lambda *_: None)  # it does here, too
    net, y, x, ball = local(batch)
    certificate = certify(net, y, x, norm="l2", region=ball)
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.evidence is not None
    assert certificate.evidence.kind == "local_chain"
    assert check(certificate, net, y, x).accepted


@pytest.mark.parametrize("damping", [0.5, 1.0])
def test_damped_iterations_have_their_rate(damping: float) -> None:
    net, y, x = contractive(1)
    certificate = certify(net, y, x, norm="auto", theorem="auto", damping=damping)
    assert certificate.verdict is Verdict.CERTIFIED
    assert check(certificate, net, y, x).accepted


def _changed(document: dict[str, Any], what: str) -> dict[str, Any]:
    document = copy.deepcopy(document)
    evidence, name = document["evidence"], document["evidence"]["multipliers"][0]
    T = torch.frombuffer(bytearray(base64.b64decode(document["witnesses"][name]["data"])), dtype=DOUBLE)
    T = T.reshape(document["witnesses"][name]["shape"]).clone()
    if what == "bound":
        lowered = (0.9 * float.fromhex(evidence["bound"])).hex()
        evidence["bound"] = document["rate"] = lowered
        document["hypotheses"] = []
    elif what == "none":
        evidence["multipliers"], document["witnesses"] = (
            [],
            {k: v for k, v in document["witnesses"].items() if k != name},
        )
    elif what == "kind":
        evidence.pop("multipliers")
        evidence["kind"] = {"chain": "lipschitz", "local_chain": "local"}[evidence["kind"]]
        document["witnesses"] = {k: v for k, v in document["witnesses"].items() if k != name}
    elif what == "norm":
        document["norm"]["order"] = document["claim"]["norm"]["order"] = "linf"
        if document["region"]["kind"] == "ball":
            document["region"]["norm"]["order"] = document["claim"]["region"]["norm"]["order"] = "linf"
    else:
        T = {
            "zero": lambda: T.index_fill(1, torch.tensor([0]), 0.0),
            "negative": lambda: T * torch.where(torch.arange(T.shape[1]) == 0, -1.0, 1.0),
            "scaled": lambda: 3 * T,
            "small": lambda: T / 3,
            "shape": lambda: T[:, :-1],
            "problems": lambda: torch.cat([T] * 5),
        }[what]()
        document["witnesses"][name] = witness(T)
    return signed(document)


@pytest.mark.parametrize("region", ["global", "ball"])
@pytest.mark.parametrize(
    ("what", "because"),
    [
        ("bound", "semidefinite"),
        ("none", "one array for each function"),
        ("kind", "could only be bounded"),
        ("norm", "plain l2"),
        ("zero", "0 where the slope is not known"),
        ("negative", "negative"),
        ("scaled", "evidence.multipliers"),
        ("small", "evidence.multipliers"),
        ("shape", "one array for each function"),
        ("problems", "one array for each function"),
    ],
)
def test_edited_multipliers_are_rejected(region: str, what: str, because: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deqops.verify._theorems._local_picard.spread_norm", lambda *_: None)  # it does here, too
    net, y, x, *ball = local() if region == "ball" else contractive()
    certificate = certify(net, y, x, norm="l2", region=ball[0] if ball else None)  # type: ignore[arg-type]
    found = check(_changed(certificate.document(), what), net, y, x)  # type: ignore[arg-type]
    assert not found.accepted
    assert because in found.reasons[0], found.reasons


def test_multipliers_of_another_network_are_rejected() -> None:
    net, y, x = contractive()
    document = certify(net, y, x, norm="l2").document()
    other = Net(drawn(3, 6, 8, 6, scale=0.72), torch.tanh)
    document["model"]["fingerprint"] = trace(other, y, x).fingerprint
    assert not check(signed(document), other, y, x).accepted


def test_convolutions_and_factors_of_each_problem_pass_the_checker() -> None:
    torch.manual_seed(1)
    first, second = nn.Conv1d(2, 3, 3, padding=1, dtype=DOUBLE), nn.Conv1d(3, 2, 3, padding=1, dtype=DOUBLE)
    factors = 0.5 + 0.5 * torch.rand(2, 3, 4, generator=seeded(0), dtype=DOUBLE)

    def G(y: Tensor, x: Tensor) -> Tensor:
        return 1.2 * second(torch.tanh(first(y)) * factors) + x

    y = torch.zeros(2, 2, 4, dtype=DOUBLE)
    certificate = certify(G, y, y, norm="l2")
    assert certificate.evidence is not None
    assert certificate.evidence.kind == "chain"
    assert [tuple(t.shape) for t in certificate.evidence.tensors["multipliers"]] == [(2, 3, 4)]
    assert check(certificate, G, y, y).accepted
