"""Attention over segments: read from what graph libraries export, ranges and slopes on both sides."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from exact import seeded
from flint import arb
from torch import Tensor, nn
from torch_geometric.nn import GATConv, GATv2Conv, TransformerConv
from torch_geometric.utils import softmax as segment_softmax

from deqops.graph import trace
from deqops.testing import signed
from deqops.verify import Around, Ball, Norm, certify, check, lipschitz_bound
from deqops.verify._gains import lipschitz_gain
from deqops.verify._interval_jacobian import interval_jacobian
from deqops.verify._local import local_jacobian
from deqops.verify._midrad import MidRad
from deqops.verify._problem import Problem
from deqops.verify._segment_attention import Segments
from deqops.verify.checker import _arithmetic as ball
from deqops.verify.checker._attention import Attention
from deqops.verify.checker._derivative import slope_products
from deqops.verify.checker._document import Ball as CheckedBall
from deqops.verify.checker._document import Norm as CheckedNorm
from deqops.verify.checker._gains import lipschitz_bound as checker_bound
from deqops.verify.checker._interval import between
from deqops.verify.checker._local import walk_over_ball
from deqops.verify.checker._network import Walk
from deqops.verify.checker._subject import Subject
from deqops.verify.checker._values import Values

NODES, WIDTH = 5, 4
EDGES = torch.tensor([[0, 1, 1, 2, 3, 0, 0, 4], [1, 0, 2, 1, 0, 3, 2, 0]])
INDEX = torch.tensor([0, 2, 0, 0, 2, 3])  # segment 1 is empty, segment 3 has one entry
Map = Callable[[Tensor], Tensor]


class Step(nn.Module):
    """`tanh(conv(z)) + f`, f fixed."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv
        self.register_buffer("f", torch.randn(NODES, WIDTH, generator=seeded(1), dtype=torch.float64))

    def forward(self, z: Tensor) -> Tensor:
        result: Tensor = torch.tanh(self.conv(z, EDGES)) + self.f
        return result


def step(kind: type[nn.Module], **options: Any) -> Step:
    torch.manual_seed(3)
    return Step(kind(WIDTH, WIDTH // 2, heads=2, **options).double()).eval()


def bounded(z: Tensor) -> Tensor:
    """Scores of any size, bounded values."""
    p = segment_softmax(z[:, 0][EDGES[0]] + z[:, 1][EDGES[1]], EDGES[1], num_nodes=NODES)
    messages = p[:, None] * torch.tanh(z)[EDGES[0]]
    return 0.4 * torch.zeros_like(z).index_add(0, EDGES[1], messages)


STEPS: list[Map] = [
    step(GATConv),
    step(GATConv, add_self_loops=False),
    step(GATv2Conv),
    step(TransformerConv),
    bounded,
]


def problem_of(G: Map, state: Tensor) -> Problem:
    return Problem(trace(G, state, batch_dims=0), state, ())


def state_of(seed: int = 5) -> Tensor:
    return torch.randn(NODES, WIDTH, generator=seeded(seed), dtype=torch.float64)


def exact_image(problem: Problem, state: Tensor) -> list[Any]:
    """G at a point in ball arithmetic, by the operations of the export."""
    values = Values(problem.written_out, [ball.exact(state)], frozenset())
    return list(values.balls(problem.graph.outputs[0]).reshape(-1))


def floats(x: Any) -> Tensor:
    return torch.tensor([[float(v.mid()) for v in row] for row in x], dtype=torch.float64)


def near(center: Tensor, radius: float, seed: int) -> Tensor:
    return center + radius * (2 * torch.rand(center.shape, generator=seeded(seed), dtype=torch.float64) - 1)


def contains(middle: Tensor, radius: Tensor, difference: Tensor, change: list[Any]) -> bool:
    """Whether some M of the intervals has `M difference = change`, in ball arithmetic."""
    d = [arb(v) for v in difference.reshape(-1).tolist()]
    for row, (mid, rad) in enumerate(zip(middle.tolist(), radius.tolist(), strict=True)):
        inner = sum((arb(m) * x for m, x in zip(mid, d, strict=True)), arb(0))
        reach = sum((arb(r) * abs(x) for r, x in zip(rad, d, strict=True)), arb(0))
        if abs(change[row] - inner) > reach:
            return False
    return True


@pytest.mark.parametrize("G", STEPS)
def test_an_exported_chain_is_read_as_attention_and_means_the_same(G: Map) -> None:
    z = state_of()
    problem = problem_of(G, z)
    assert [node.op for node in problem.graph.nodes].count("segment_attention") == 1
    assert not any(node.op in ("exp", "amax") for node in problem.graph.nodes)
    assert any(node.op == "exp" for node in problem.written_out.nodes)
    truth = exact_image(problem, z)
    read = Values(problem.graph, [ball.exact(z)], frozenset()).balls(problem.graph.outputs[0]).reshape(-1)
    found = problem.image([z])[0]
    ends = zip(found.lower().reshape(-1).tolist(), found.upper().reshape(-1).tolist(), strict=True)
    assert all(a.overlaps(b) for a, b in zip(truth, read, strict=True))
    assert all(arb(low) <= v <= arb(high) for (low, high), v in zip(ends, truth, strict=True))
    assert float(found.rad.max()) < 1e-12
    assert max(float(v.rad()) for v in read) < 1e-8


def other_sum(z: Tensor) -> Tensor:
    """The weights of one index, summed along another."""
    p = segment_softmax(z[:, 0][EDGES[0]], EDGES[1], num_nodes=NODES)
    return torch.zeros_like(z).index_add(0, EDGES[0], p[:, None] * z[EDGES[0]])


def other_shift(z: Tensor) -> Tensor:
    """Scores less a maximum over other segments: the epsilon counts for more."""
    scores = z[:, 0][EDGES[0]]
    largest = scores.new_full((NODES,), -math.inf).scatter_reduce(0, EDGES[0], scores, "amax", include_self=False)
    power = (scores - largest[EDGES[0]]).exp()
    total = z.new_zeros(NODES).index_add(0, EDGES[1], power) + 1e-16
    return torch.zeros_like(z).index_add(0, EDGES[1], (power / total[EDGES[1]])[:, None] * z[EDGES[0]])


def started(z: Tensor) -> Tensor:
    """A sum that does not start at 0."""
    p = segment_softmax(z[:, 0][EDGES[0]], EDGES[1], num_nodes=NODES)
    return torch.ones_like(z).index_add(0, EDGES[1], p[:, None] * z[EDGES[0]])


@pytest.mark.parametrize("G", [other_sum, other_shift, started])
def test_a_chain_that_is_something_else_stays_as_it_is(G: Map) -> None:
    problem = problem_of(G, state_of())
    assert problem.graph is problem.written_out


@pytest.mark.parametrize("G", STEPS)
@pytest.mark.parametrize("radius", [1e-6, 0.05, 1.0])
def test_slopes_lemma_of_attention_differences_on_a_box_are_a_slope_product(G: Map, radius: float) -> None:
    center = state_of()
    problem = problem_of(G, center)
    jacobian = interval_jacobian(local_jacobian(problem, Ball(center, radius), Norm("linf")), 0)
    region, subject = CheckedBall((center.numpy(),), radius), Subject(problem.graph, frozenset(), ())
    walk = walk_over_ball(subject, Values(problem.graph, None, frozenset()), region, CheckedNorm("linf", None), None)
    twin = slope_products(walk, subject)
    theirs = [floats(part[0]) for part in (twin.middle, twin.radius)]
    for seed in range(5):
        y, z = near(center, radius, seed), near(center, radius, seed + 100)
        change = [a - b for a, b in zip(exact_image(problem, y), exact_image(problem, z), strict=True)]
        assert contains(jacobian.mid[0], jacobian.rad[0], y - z, change)
        assert contains(theirs[0], theirs[1] * (1 + 1e-9) + 1e-14, y - z, change)
    if radius < 1e-3:
        truth = torch.autograd.functional.jacobian(G, center).reshape(NODES * WIDTH, NODES * WIDTH)
        assert float((jacobian.mid[0] - truth).abs().max()) < 1e-4
        assert max(float(jacobian.rad.max()), float(theirs[1].max())) < 1e-4


@pytest.mark.parametrize("order", ["l1", "l2", "linf"])
def test_t1_attention_of_bounded_values_has_a_constant_everywhere(order: Any) -> None:
    bound, kind = lipschitz_bound(bounded, state_of(), norm=order, batch_dims=0).upper, {"l1": 1, "l2": 2}.get(order)
    size, largest = NODES * WIDTH, 0.0
    for seed in range(20):
        jacobian = torch.autograd.functional.jacobian(bounded, 3 * state_of(seed)).reshape(size, size)
        largest = max(largest, float(torch.linalg.matrix_norm(jacobian, math.inf if kind is None else kind)))
    assert largest <= bound < 8 * largest
    problem = problem_of(bounded, state_of())
    upper = lipschitz_gain(problem.jacobian, Norm(order), 0).upper
    walk = Walk(problem.graph, Values(problem.graph, None, frozenset()))
    assert float(checker_bound(walk.network.sources, walk.outputs, order, None)) <= upper * (1 + 2.0**-40)


def exact_weights(scores: list[Any], index: Tensor) -> list[Any]:
    powers = [s.exp() for s in scores]
    places = index.tolist()
    totals = [sum((p for p, k in zip(powers, places, strict=True) if k == own), arb(0)) for own in places]
    return [p / t for p, t in zip(powers, totals, strict=True)]


@pytest.mark.parametrize("radius", [0.0, 1e-3, 0.7, 40.0])
def test_ranges_of_weights_are_attained_where_one_score_is_largest(radius: float) -> None:
    scores = torch.tensor([0.3, -1.0, 2.0, 0.1, 5.0, 7.0], dtype=torch.float64)
    found = Segments(INDEX, 4, 0.0).weights_over(MidRad(scores, torch.full_like(scores, radius)))
    box = between(*(ball.array(ball.exact(scores) + sign * arb(radius)) for sign in (-1, 1)))
    twin = Attention(INDEX.numpy(), 4, arb(0)).weights(box)
    for k in range(len(INDEX)):
        for sign, ours, theirs in ((1, found.upper(), twin.ends[1]), (-1, found.lower(), twin.ends[0])):
            ends = [arb(v) + arb(radius) * (sign if e == k else -sign) for e, v in enumerate(scores.tolist())]
            truth = exact_weights(ends, INDEX)[k]
            for end in (arb(float(ours[k])), theirs[k]):
                assert not sign * (truth - end) > 0
                assert abs(end - truth) <= truth * 1e-9 + 1e-14


@pytest.mark.parametrize("epsilon", [0.0, 1e-16, 0.125])
@pytest.mark.parametrize("radius", [0.0, 0.3])
def test_values_and_slopes_of_attention_hold_at_points_of_the_box(epsilon: float, radius: float) -> None:
    """The derivative's brackets `p_e (v_e - out_i) - delta out_i w_e`, by exact differentiation at points."""
    generator = seeded(8)
    scores, values = (torch.randn(6, *rest, generator=generator, dtype=torch.float64) for rest in ((), (2,)))
    segments = Segments(INDEX, 4, epsilon)
    wide = [MidRad(x, torch.full_like(x, radius)) for x in (scores, values)]
    weights = segments.weights_over(wide[0]).apply_exact(lambda t: t[:, None])
    image, slopes = segments.value(weights, wide[1]), segments.slopes(weights, wide[1])
    rule = Attention(INDEX.numpy(), 4, arb(epsilon))
    box = [between(*(ball.exact(x + sign * radius) for sign in (-1, 1))) for x in (scores, values)]
    own = rule.weights(box[0])
    column = between(*(end[:, None] for end in own.ends))
    theirs = rule.result(column, box[1]), rule.slopes(column, box[1])
    for seed in range(6):
        s, v = near(scores, radius, seed), near(values, radius, seed + 50)
        out, derivative = attention_and_derivative(s, v, epsilon)
        for ends, truth in ((image, out), (slopes, derivative)):
            assert bool((ends.lower() <= truth + 1e-13).all() and (truth - 1e-13 <= ends.upper()).all())
        for interval, truth in zip(theirs, (out, derivative), strict=True):
            low, high = (floats(end) for end in interval.ends)
            assert bool((low <= truth + 1e-13).all() and (truth - 1e-13 <= high).all())
    if radius == 0 and epsilon < 1e-10:
        assert float(slopes.rad.max()) < 1e-13
        assert float(image.rad.max()) < 1e-13


def attention_and_derivative(s: Tensor, v: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """out, and d out_i / d s_e for e's own segment i, in each component."""

    def out(scores: Tensor) -> Tensor:
        largest = scores.new_full((4,), -math.inf).scatter_reduce(0, INDEX, scores, "amax")[INDEX]
        power = (scores - largest).exp()
        total = scores.new_zeros(4).index_add(0, INDEX, power) + epsilon
        return v.new_zeros(4, 2).index_add(0, INDEX, (power / total[INDEX])[:, None] * v)

    full = torch.autograd.functional.jacobian(out, s)  # (4, 2, 6)
    return out(s), full[INDEX, :, torch.arange(6)]


def test_attention_is_certified_around_its_equilibrium_and_a_lie_is_rejected() -> None:
    G, y = step(GATConv), torch.zeros(NODES, WIDTH, dtype=torch.float64)
    with torch.no_grad():
        for weight in G.parameters():
            weight.mul_(0.2)
    certificate = certify(G, y, batch_dims=0, region=Around(), norm="weighted_linf", theorem="local_picard")
    assert certificate.theorem == "local_picard"
    assert check(certificate, G, y).accepted
    with torch.no_grad():
        G.conv.att_src.mul_(1.5)
    assert not check(certificate, G, y).accepted


@pytest.mark.parametrize("seed", range(4))
def test_t11_attention_on_a_box_is_accepted_where_its_composition_shows_less(seed: int) -> None:
    """The checker goes on to the norm of all slope products, where its own products of norms exceed the claim."""
    torch.manual_seed(seed)
    G, y = TurnedAttention(), torch.zeros(6, 8, dtype=torch.float64)
    certificate = certify(G, y, batch_dims=0, theorem="absorbing")
    assert certificate.theorem == "absorbing"
    assert check(certificate, G, y).accepted
    document: dict[str, Any] = copy.deepcopy(certificate.document())
    document["evidence"]["bound"] = (0.01 * float.fromhex(document["evidence"]["bound"])).hex()
    document["hypotheses"] = []
    assert not check(signed(document), G, y).accepted  # type: ignore[arg-type]


class TurnedAttention(nn.Module):
    """`tanh(GATv2(z))` on six nodes, its weights shrunk."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = GATv2Conv(8, 8).double().eval()
        self.register_buffer("edges", torch.tensor([[0, 1, 2, 3, 4, 5, 0, 2], [1, 2, 3, 4, 5, 0, 3, 5]]))
        with torch.no_grad():
            for weight in self.conv.parameters():
                weight.mul_(0.3 if weight.dim() > 1 else 1.0)

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(self.conv(z, self.edges))
