"""Functions of one variable that models spell out: recognised as what they are, and as nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from vocabulary import evaluate

from deqops.graph import recognised, trace, with_sorted_pairs
from deqops.verify import Ball, Box, Verdict, certify, check, lipschitz_bound
from deqops.verify._local import jacobian_over
from deqops.verify._midrad import MidRad
from deqops.verify._problem import Problem

DOUBLE = torch.float64
T = torch.tensor([0.1, 0.0, 0.3, 0.4], dtype=DOUBLE)
ONES, ZEROS = torch.ones(4, dtype=DOUBLE), torch.zeros(4, dtype=DOUBLE)
F = nn.functional


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def _filled(z: Tensor) -> Tensor:
    y = z.clone()
    y[y < 0] = 0.0
    return y


SPELLINGS: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "ISTA": ("softshrink", lambda z: torch.sign(z) * torch.relu(z.abs() - 0.1)),
    "ISTA, scaled first": ("softshrink", lambda z: 2.0 * (0.5 * torch.sign(z) * torch.relu(z.abs() - 0.1))),
    "clamp": ("softshrink", lambda z: (z.abs() - T).clamp(min=0) * z.sign()),
    "maximum": ("softshrink", lambda z: z.sign() * torch.maximum(ZEROS, z.abs() - T)),
    "a threshold that is computed": ("softshrink", lambda z: z.sign() * F.relu(z.abs() - F.softplus(T))),
    "two sides": ("softshrink", lambda z: torch.relu(z - 0.1) - torch.relu(-z - 0.1)),
    "two sides, each its own": ("softshrink", lambda z: torch.relu(z - T) - torch.relu(-z - T)),
    "torch's": ("softshrink", lambda z: F.softshrink(z, 0.25)),
    "less its middle": ("softshrink", lambda z: z - z.clamp(-0.5, 0.5)),
    "through casts": ("softshrink", lambda z: (z.sign().float() * torch.relu(z.float().abs() - 0.5)).double()),
    "leaky": ("leaky_relu", lambda z: torch.where(z > 0, z, 0.1 * z)),
    "leaky, turned": ("leaky_relu", lambda z: torch.where(z <= 0.0, z * 0.1, z)),
    "leaky by two": ("leaky_relu", lambda z: torch.relu(z) - 0.25 * torch.relu(-z)),
    "falling": ("leaky_relu", lambda z: torch.where(z >= 0, z, -z)),
    "switch": ("relu", lambda z: z * (z > 0)),
    "switch of numbers": ("relu", lambda z: (z >= 0).to(z.dtype) * z),
    "zeros": ("relu", lambda z: torch.where(z > 0, z, torch.zeros_like(z))),
    "filled": ("relu", lambda z: z.masked_fill(z < 0, 0.0)),
    "written into": ("relu", _filled),
    "the negative part": ("clamp", lambda z: torch.where(z < 0, z, 0.0)),
    "the negative part, switched": ("clamp", lambda z: z * (z <= 0)),
    "from below": ("clamp", lambda z: torch.where(z > 0.5, z, 0.5)),
    "from above": ("clamp", lambda z: torch.where(z > 0.5, 0.5, z)),
    "Huber's": ("clamp", lambda z: torch.where(z.abs() <= 1.5, z, 1.5 * torch.sign(z))),
    "Huber's, of 1": ("clamp", lambda z: torch.where(z.abs() > 1, z.sign(), z)),
    "elu": ("elu", lambda z: torch.where(z > 0, z, torch.exp(z) - 1)),
    "elu of 2": ("elu", lambda z: torch.where(z <= 0, 2 * torch.expm1(z), z)),
    "sigmoid": ("sigmoid", lambda z: 1 / (1 + torch.exp(-z))),
}

NOTHING_OF_THE_KIND: dict[str, Callable[[Tensor], Tensor]] = {
    "a jump": lambda z: torch.where(z > 0, z, 0.1 * z + 0.1),
    "a limit elsewhere": lambda z: torch.where(z > 0.5, z, 0.1 * z),
    "another value": lambda z: torch.where(z > 0, z, 0.1 * z.roll(1, 1)),
    "another condition": lambda z: z * (z.roll(1, 1) > 0),
    "two sides of other thresholds": lambda z: torch.relu(z - 0.1) - torch.relu(-z - 0.2),
    "two sides of a negative threshold": lambda z: torch.relu(z + 0.1) - torch.relu(-z + 0.1),
    "two sides of a negative number": lambda z: torch.relu(z - -0.1) - torch.relu(-z - -0.1),
    "two sides of different values": lambda z: torch.relu(z - 0.1) - torch.relu(-z.roll(1, 1) - 0.1),
    "Huber's with another end": lambda z: torch.where(z.abs() <= 1, z, 2 * z.sign()),
    "Huber's with a factor": lambda z: torch.where(z.abs() <= 1, 2 * z, z.sign()),
    "a clamp that is not even": lambda z: z - z.clamp(-0.5, 0.25),
    "an exponential that does not meet": lambda z: torch.where(z > 0, z, 2 * torch.exp(z) - 1),
    "the exponential above": lambda z: torch.where(z < 0, z, torch.exp(z) - 1),
    "signs of others": lambda z: z.roll(1, 1).sign() * torch.relu(z.abs() - 0.1),
    "a sign of the size": lambda z: z.sign() * torch.relu(z - 0.1),
    "hard thresholding": lambda z: torch.where(z.abs() > 0.1, z, 0.0),
    "a quotient": lambda z: 1 / (2 + torch.exp(-z)),
    "a rising exponential": lambda z: 1 / (1 + torch.exp(z)),
    "an infinite limit": lambda z: torch.where(z > math.inf, z, math.inf),
    "Huber's without an end": lambda z: torch.where(z.abs() <= math.inf, z, math.inf * z.sign()),
    "broadcast": lambda z: torch.where(z[:, :1] > 0, z, 0.1 * z),
    "a threshold of the state": lambda z: z.sign() * torch.relu(z.abs() - z.roll(1, 1).square()),
}


def ops(function: Callable[[Tensor], Tensor], z: Tensor) -> list[str]:
    return [node.op for node in recognised(trace(function, z).concrete(z)).nodes]


@pytest.mark.parametrize("name", list(SPELLINGS))
def test_a_spelling_is_recognised_and_the_function_stays_the_same(name: str) -> None:
    op, function = SPELLINGS[name]
    z = normal(3, 4)
    graph = recognised(trace(function, z).concrete(z))
    assert op in [node.op for node in graph.nodes]
    assert not {node.op for node in graph.nodes} & {"sign", "where", "gt", "ge", "lt", "le", "exp"}
    for seed in range(6):
        state = (2.0 * normal(3, 4, seed=seed)).float().double()
        state[0] = torch.tensor([0.0, -0.0, 0.5, -0.5])
        state[1] = torch.tensor([1.5, -1.5, 1.0, 0.25])
        assert torch.allclose(evaluate(graph, [state])[0], function(state), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", list(NOTHING_OF_THE_KIND))
def test_what_only_looks_like_one_is_not_taken_for_one(name: str) -> None:
    function, z = NOTHING_OF_THE_KIND[name], normal(3, 4)
    graph = trace(function, z).concrete(z)
    assert [node.op for node in recognised(graph).nodes] == [node.op for node in graph.nodes]


@pytest.mark.parametrize("name", list(SPELLINGS))
@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
def test_constants_everywhere_are_the_functions_own(name: str, norm: str) -> None:
    largest = {"elu of 2": 2.0, "sigmoid": 0.25}.get(name, 1.0)
    bound = lipschitz_bound(SPELLINGS[name][1], normal(2, 4), norm=norm)
    assert largest * (1 - 1e-12) <= bound.upper <= largest * (1 + 1e-9)


@given(
    st.sampled_from(sorted(set(SPELLINGS) - {"through casts"})),
    st.integers(0, 10_000),
    st.sampled_from([1e-3, 0.2, 1.0]),
)
def test_slopes_lemma_on_boxes(name: str, seed: int, radius: float) -> None:
    """Difference quotients lie within the slopes of the box, and their ends are about met."""
    function, z = SPELLINGS[name][1], 0.7 * normal(1, 4, seed=seed)
    problem = Problem(trace(function, z), z, ())
    jacobian = jacobian_over(problem, [MidRad(z, torch.full_like(z, radius))])
    (basis,) = [basis for basis in jacobian.bases if basis.shape == z.shape and hasattr(basis, "lower")]
    lower, upper = (torch.as_tensor(end, dtype=DOUBLE).expand(z.shape) for end in (basis.lower, basis.upper))  # type: ignore[union-attr]
    share = 2 * torch.rand(400, 2, 4, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE) - 1
    share[:20, 0], share[:20, 1] = 1.0, 1.0 - 1e-3
    share[20:40, 0], share[20:40, 1] = -1.0, -1.0 + 1e-3
    y, x = (z + radius * share[:, number] for number in (0, 1))
    rise = (function(y) - function(x)) / (y - x)
    slack = 1e-9 / radius
    near = (y - x).abs() > 1e-4 * radius
    assert bool(((rise >= lower - slack) & (rise <= upper + slack) | ~near).all())
    if SPELLINGS[name][0] in ("softshrink", "relu", "leaky_relu"):
        assert set(upper.reshape(-1).tolist()) <= {0.0, 0.1, 0.25, -1.0, 1.0}


def test_a_threshold_that_may_be_negative_is_refused() -> None:
    negative = torch.tensor([0.1, -1e-3, 0.2, 0.3], dtype=DOUBLE)

    def G(z: Tensor) -> Tensor:
        return 0.5 * z.sign() * torch.relu(z.abs() - negative)

    for region in (None, Ball(normal(1, 4), 0.1)):
        certificate = certify(G, normal(1, 4), region=region)
        assert certificate.verdict is Verdict.UNKNOWN
        assert "threshold" in certificate.reason


def test_a_choice_of_infinity_is_not_certified() -> None:
    """`where(z > inf, z, inf)` is infinite throughout, however flat."""
    certificate = certify(lambda z: 0.5 * torch.where(z > math.inf, z, math.inf), normal(1, 4))
    assert certificate.verdict is Verdict.UNKNOWN


class Shrinkage(nn.Module):
    """One step of ISTA for `|A z - x|^2 / 2 + ridge |z|^2 / 2 + sum t |z|`, a contraction."""

    def __init__(self, n: int, ridge: float) -> None:
        super().__init__()
        self.A = nn.Parameter(torch.linalg.qr(normal(n, n))[0][: n // 2])
        self.theta = nn.Parameter(normal(n))
        self.ridge = ridge

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        step = 1 / (1 + self.ridge)
        v = z - step * ((z @ self.A.T - x) @ self.A + self.ridge * z)
        return torch.sign(v) * torch.relu(v.abs() - step * F.softplus(self.theta))


def test_picard_learned_shrinkage_is_certified_everywhere() -> None:
    """T1: `(1 - ridge / (1 + ridge))` is its rate; the checker accepts it; equilibria depend on x by Lipschitz."""
    module, x, z = Shrinkage(8, 0.25).eval(), normal(2, 4, seed=1), normal(2, 8)
    certificate = certify(module, z, x)
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.theorem == "picard"
    assert certificate.rate == pytest.approx(1 / 1.25, abs=1e-6)
    assert all(record.free for record in certificate.inputs)
    assert check(certificate, module, z, x).accepted


def test_local_picard_a_leaky_layer_by_where() -> None:
    W = torch.linalg.qr(normal(6, 6, seed=3))[0]

    def G(z: Tensor) -> Tensor:
        v = z @ W
        return 0.9 * torch.where(v > 0, v, 0.2 * v) + 0.3

    z = torch.full((1, 6), 0.3, dtype=DOUBLE)
    certificate = certify(G, z, region=Ball(z, 50.0), theorem="local_picard", norm="l2")
    assert certificate.verdict is Verdict.CERTIFIED
    assert check(certificate, G, z).accepted
    for region in (Ball(z, 50.0), Box(z - 40.0, z + 40.0)):
        assert 0.89 < lipschitz_bound(G, z, region=region).upper <= 0.9 + 1e-9


def test_large_shrinkage_needs_no_matrix() -> None:
    """Beyond what is written out as a matrix of intervals, where `1 - [0, 1]` was once taken for 2."""
    kernel = torch.zeros(1, 1, 3, 3, dtype=DOUBLE)
    kernel[0, 0, 1, 1], kernel[0, 0, 0, 1] = 0.5, 0.4

    def G(z: Tensor) -> Tensor:
        return F.softshrink(F.conv2d(z, kernel, padding=1), 0.1)

    z = torch.zeros(1, 1, 40, 40, dtype=DOUBLE)
    certificate = certify(G, z)
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.theorem == "picard"
    assert check(certificate, G, z).accepted


@given(
    names=st.tuples(*[st.sampled_from(sorted({**dict.fromkeys(SPELLINGS), **dict.fromkeys(NOTHING_OF_THE_KIND)}))] * 3),
    seed=st.integers(0, 10_000),
    on_kinks=st.booleans(),
)
def test_what_is_recognised_computes_the_same_in_any_company(
    names: tuple[str, str, str], seed: int, on_kinks: bool
) -> None:
    """Spellings of functions beside their look-alikes, and pairs of a larger and a smaller value of what they give."""
    a, b, c = (SPELLINGS[name][1] if name in SPELLINGS else NOTHING_OF_THE_KIND[name] for name in names)

    def G(z: Tensor) -> Tensor:
        u = a(z)
        v = b(u + 0.5 * z)
        return torch.maximum(u, v) - c(torch.minimum(v, u))

    state = normal(2, 4, seed=seed)
    state = state.round() / 2 if on_kinks else state
    graph = trace(G, state).concrete(state)
    found, expected = evaluate(with_sorted_pairs(recognised(graph)), [state])[0], evaluate(graph, [state])[0]
    assert torch.allclose(found, expected, rtol=1e-6, atol=1e-6, equal_nan=True)
