"""Sparse Jacobians of graph operators and their l2 norms block by block, on both sides; T2 certificates by these."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from exact import bounds_norm, seeded
from flint import arb
from torch import Tensor, nn
from torch_geometric.nn import GATConv, GCNConv

from deqops.graph import trace
from deqops.verify import Around, Ball, Certificate, Norm, Verdict, certify, check
from deqops.verify._around import computed_equilibrium, iterated
from deqops.verify._block_gain import (
    _singular_vector,
    batched_norm_bounds,
    block_gain,
    has_nodes,
    proposed_node_norm,
)
from deqops.verify._gains import lipschitz_gain
from deqops.verify._interval_jacobian import interval_jacobian
from deqops.verify._jacobian import Jacobian
from deqops.verify._local import local_jacobian
from deqops.verify._midrad import MidRad
from deqops.verify._problem import Problem
from deqops.verify._sparse import SparseMatrix
from deqops.verify._sparse_jacobian import sparse_jacobian
from deqops.verify.checker import _arithmetic as ball
from deqops.verify.checker import _blocks as blocks
from deqops.verify.checker._document import Ball as CheckedBall
from deqops.verify.checker._document import Norm as CheckedNorm
from deqops.verify.checker._local import walk_over_ball
from deqops.verify.checker._network import Walk
from deqops.verify.checker._subject import Subject
from deqops.verify.checker._values import Values

NODES, WIDTH = 12, 4
HUB = torch.stack([torch.arange(1, NODES), torch.zeros(NODES - 1, dtype=torch.int64)])
EDGES = torch.cat([HUB, HUB.flip(0)], dim=1)  # a star: everybody attends to node 0


class Step(nn.Module):
    """`tanh(conv(z)) + x`."""

    def __init__(self, conv: nn.Module, largest: float) -> None:
        super().__init__()
        self.conv = conv.double()
        with torch.no_grad():
            for name, weight in conv.named_parameters():
                if name.endswith("lin.weight"):
                    weight.copy_(largest * torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=seeded(4)).double())[0])
                    weight[0] *= 0.5
                elif "att" in name:
                    weight.mul_(0.2)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        result: Tensor = torch.tanh(self.conv(z, EDGES)) + x
        return result


def step(name: str, largest: float = 0.8) -> Step:
    torch.manual_seed(2)
    conv = GCNConv(WIDTH, WIDTH) if name == "GCN" else GATConv(WIDTH, WIDTH // 2, heads=2)
    return Step(conv, largest).eval()


def given(seed: int = 3, size: float = 1.0) -> Tensor:
    return size * torch.randn(NODES, WIDTH, generator=seeded(seed), dtype=torch.float64)


def problem_of(name: str, largest: float = 0.8) -> Problem:
    z = given()
    return Problem(trace(step(name, largest), z, z, batch_dims=0), z, (z,))


def expression(problem: Problem, radius: float, norm: Norm) -> Jacobian:
    return local_jacobian(problem, Ball((given(),), radius, norm), norm)


def node_weights(seed: int = 9) -> Norm:
    return Norm("l2", (torch.rand(NODES, 1, generator=seeded(seed)).double().add(0.25).expand(NODES, WIDTH).clone(),))


def checkers_walk(problem: Problem, radius: float, norm: Norm) -> tuple[Walk, Any]:
    weights = None if norm.weights is None else [ball.exact(norm.weights[0])]
    checked = CheckedNorm("l2", None if norm.weights is None else (norm.weights[0].numpy(),))
    region, subject = CheckedBall((given().numpy(),), radius), Subject(problem.graph, frozenset(), ())
    return walk_over_ball(subject, Values(problem.graph, None, frozenset()), region, checked, weights), weights


@pytest.mark.parametrize("name", ["GCN", "GAT"])
@pytest.mark.parametrize("radius", [1e-9, 0.2])
def test_the_sparse_jacobian_is_the_dense_one(name: str, radius: float) -> None:
    jacobian = expression(problem_of(name), radius, Norm("linf"))
    dense, sparse = interval_jacobian(jacobian, 0), sparse_jacobian(jacobian)
    written = sparse.dense()
    assert len(torch.unique(sparse.rows * sparse.shape[1] + sparse.cols)) == len(sparse.rows) < NODES**2 * WIDTH**2 / 2
    assert float((written.mid - dense.mid[0]).abs().max()) < 1e-14
    assert float((written.rad - dense.rad[0]).abs().max()) < 1e-12


@pytest.mark.parametrize("spread", [0.0, 1e-3])
def test_norms_of_small_matrices_are_bounded_and_sharp(spread: float) -> None:
    mid = torch.randn(20, 3, 3, generator=seeded(1), dtype=torch.float64)
    mid[0], mid[1] = 0, torch.eye(3)
    mid[2, 1:] = 0
    bounds = batched_norm_bounds(MidRad(mid, torch.full_like(mid, spread)))
    for matrix, bound in zip(mid, bounds.tolist(), strict=True):
        assert bounds_norm(matrix, bound)
        assert bounds_norm(matrix + spread * torch.ones(3, 3, dtype=torch.float64), bound * (1 + 1e-15))
        assert bound <= float(torch.linalg.matrix_norm(matrix, 2)) * (1 + 1e-12) + 3 * spread + 1e-15


def test_norms_of_what_is_no_number_are_infinite() -> None:
    mid = torch.zeros(2, 2, 2, dtype=torch.float64)
    mid[0, 0, 0], mid[1, 1, 0] = math.nan, math.inf
    assert not bool(batched_norm_bounds(MidRad.exact(mid)).isfinite().any())


@pytest.mark.parametrize("name", ["GCN", "GAT"])
@pytest.mark.parametrize("norm", [Norm("l2"), node_weights()], ids=["plain", "weighted"])
@pytest.mark.parametrize("radius", [1e-9, 0.05])
def test_t2_blocks_bound_jacobians_in_the_ball_and_are_confirmed(name: str, norm: Norm, radius: float) -> None:
    problem, model = problem_of(name), step(name)
    jacobian = expression(problem, radius, norm)
    bound, size = block_gain(jacobian, norm), NODES * WIDTH
    weights = torch.ones(size, dtype=torch.float64) if norm.weights is None else norm.weights[0].reshape(-1)
    largest = 0.0
    for seed in range(6):
        offset = given(seed + 20).reshape(-1) / weights
        y = given() + (radius * offset / (weights * offset).norm()).reshape(NODES, WIDTH)
        truth = torch.autograd.functional.jacobian(lambda s: model(s, given()), y).reshape(size, size)
        largest = max(largest, float(torch.linalg.matrix_norm(weights[:, None] * truth / weights, 2)))
    assert largest <= bound * (1 + 1e-12)
    assert bound <= 1.5 * largest
    assert bound <= lipschitz_gain(jacobian, norm, 0).upper * 1.001
    walk, own = checkers_walk(problem, radius, norm)
    assert blocks.applies(walk.network.sources, own, 0)
    theirs = float(blocks.block_bound(walk.network.sources, walk.outputs[0], own))
    assert largest <= theirs * (1 + 1e-12)
    assert theirs <= bound * (1 + 2.0**-20)


def test_the_checker_takes_columns_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    walk, _ = checkers_walk(problem_of("GAT"), 0.01, Norm("l2"))
    whole = blocks.block_bound(walk.network.sources, walk.outputs[0], None)
    monkeypatch.setattr(blocks, "LARGEST_TERMS", 400)
    parts = blocks.block_bound(walk.network.sources, walk.outputs[0], None)
    assert abs(float(whole) - float(parts)) <= 1e-12 * float(whole)


@pytest.mark.parametrize("top", [1.0, 0.5])
def test_the_checkers_small_norms_hold_whatever_is_proposed(top: float) -> None:
    """A proposal that is too small falls back to the Frobenius norm."""
    matrix = torch.randn(4, 4, generator=seeded(6), dtype=torch.float64)
    norm = float(torch.linalg.matrix_norm(matrix, 2))
    found = float(blocks._norm(matrix.numpy(), top * norm))
    assert bounds_norm(matrix, found * (1 + 1e-15))
    assert found <= (norm * (1 + 1e-10) if top == 1.0 else float(matrix.norm()) * (1 + 1e-12))
    assert not blocks._is_positive(ball.exact(torch.tensor([[1.0, 1.0], [1.0, 1.0]], dtype=torch.float64)))


def test_weights_on_nodes_bring_the_norm_of_means_down_to_the_spectral_radius() -> None:
    problem = problem_of("GAT")
    jacobian = expression(problem, 1e-9, Norm("linf"))
    assert has_nodes(jacobian, 0)
    assert not has_nodes(jacobian, 1)
    norm = proposed_node_norm(jacobian)
    assert norm is not None
    assert block_gain(jacobian, norm) < 1 < block_gain(jacobian, Norm("l2"))
    assert proposed_node_norm(expression(problem_of("GAT", 2.5), 1e-9, Norm("linf"))) is None


@pytest.fixture(scope="module")
def certified() -> tuple[Certificate, Step, Tensor, Tensor]:
    model, y, x = step("GAT"), torch.zeros(NODES, WIDTH, dtype=torch.float64), given(3, 0.3)
    found = certify(model, y, x, batch_dims=0, norm="weighted_l2", theorem="local_picard", region=Around())
    return found, model, y, x


def test_t2_a_graph_whose_means_expand_in_plain_l2_is_certified_by_blocks(
    certified: tuple[Certificate, Step, Tensor, Tensor],
) -> None:
    found, model, y, x = certified
    assert found.verdict is Verdict.CERTIFIED
    assert found.norm is not None
    assert found.rate is not None
    assert found.contributions[0][0] == "blocks"
    assert check(found, model, y, x).accepted
    z = given(30) * found.region.radius / found.norm.upper([given(30).abs()], 0)  # type: ignore[union-attr]
    z = z + found.region.leaves[0]  # type: ignore[union-attr]
    with torch.no_grad():
        moved = model(z, x) - model(found.region.leaves[0], x)  # type: ignore[union-attr]
    before = found.norm.upper([(z - found.region.leaves[0]).abs()], 0)  # type: ignore[union-attr]
    assert float(found.norm.upper([moved.abs()], 0)) <= found.rate * float(before)


def tampered(found: Certificate, change: Callable[[dict[str, Any]], None]) -> Certificate:
    document = json.loads(json.dumps(found.document()))
    change(document)
    from deqops.testing._tampering import signed

    return Certificate.from_document(signed(document))


def _better_rate(document: dict[str, Any]) -> None:
    bound = float.fromhex(document["evidence"]["bound"]) * 0.95
    document["evidence"]["bound"] = document["rate"] = bound.hex()
    for hypothesis in document["hypotheses"]:
        if hypothesis["name"] == "contraction":
            hypothesis["value"] = bound.hex()


def _larger_ball(document: dict[str, Any]) -> None:
    for region in (document["region"], document["claim"]["region"]):
        region["radius"] = (4 * float.fromhex(region["radius"])).hex()


@pytest.mark.parametrize("change", [_better_rate, _larger_ball])
def test_a_better_claim_than_the_blocks_show_is_rejected(
    certified: tuple[Certificate, Step, Tensor, Tensor], change: Callable[[dict[str, Any]], None]
) -> None:
    found, model, y, x = certified
    report = check(tampered(found, change), model, y, x)
    assert not report.accepted
    assert "constant on the ball" in report.reasons[0]


def test_an_equilibrium_that_repels_the_iteration_is_left_for_where_it_goes() -> None:
    """Newton-like steps end at 0, which repels `z <- tanh(2 z)`; the iteration goes to 0.9575."""
    G, y = lambda z: torch.tanh(2 * z), torch.full((1, 1), 1e-3, dtype=torch.float64)
    problem = Problem(trace(G, y, batch_dims=0), y, ())
    reached = iterated(problem, (), 1.0)
    assert reached is not None
    assert abs(float(reached[0]) - 0.9575040240772687) < 1e-12
    assert computed_equilibrium(problem, ()) is not None
    found = certify(G, y, batch_dims=0, region=Around())
    assert found.verdict is Verdict.CERTIFIED
    assert abs(float(found.region.leaves[0]) - 0.9575040240772687) < 1e-6  # type: ignore[union-attr]
    assert bool(arb(found.region.radius) < 0.9575)  # type: ignore[union-attr]


@pytest.mark.parametrize("entry", [0.0, 5e-324, 1e-200, 1.0, 1e200, 1e308])
def test_a_vector_is_proposed_for_blocks_of_any_size(entry: float) -> None:
    """Squares of the entries overflow: ARPACK ended the certificate with an error of its own."""
    places = torch.arange(6)
    values = MidRad.exact(torch.full((6,), entry, dtype=torch.float64))
    found = _singular_vector(SparseMatrix(places, (places + 1) % 6, values, (6, 6)))
    assert bool((found > 0).all() & found.isfinite().all())
