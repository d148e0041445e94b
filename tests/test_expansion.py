"""Lemma `slopes` with sums gathered before they are multiplied: the same products, bounds that are a recursion."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from exact import rational, rational_matrix, seeded
from flint import fmpq_mat
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from campaign._exact import norm_at_most
from deqops.graph import trace
from deqops.testing import signed
from deqops.verify import Ball, Norm, Verdict, _expansion, certify, check, lipschitz_bound
from deqops.verify._chain_gain import chain_gain
from deqops.verify._expansion import Expansion
from deqops.verify._gains import lipschitz_gain
from deqops.verify._interval_jacobian import interval_jacobian
from deqops.verify._jacobian import Builder, Jacobian, Subtotal
from deqops.verify._norm import Order
from deqops.verify._problem import Problem
from deqops.verify.checker import _network
from deqops.verify.checker._arithmetic import working_precision
from deqops.verify.checker._gains import lipschitz_bound as checked_bound
from deqops.verify.checker._network import Walk
from deqops.verify.checker._values import Values

DOUBLE = torch.float64
ORDERS: tuple[Order, ...] = ("l1", "l2", "linf")


class Residual(nn.Module):
    """`factor (I + F_k) .. (I + F_1) z + x`, `F_i(z) = W2 relu(W1 z)`."""

    def __init__(self, blocks: int, n: int = 2, m: int = 2, seed: int = 0, factor: float = 1.0) -> None:
        super().__init__()
        generator = seeded(seed)
        pairs = [[torch.randn(m, n, generator=generator, dtype=DOUBLE), None] for _ in range(blocks)]
        pairs = [[a, torch.randn(n, m, generator=generator, dtype=DOUBLE)] for a, _ in pairs]
        self.weights = nn.ParameterList([nn.Parameter(w) for pair in pairs for w in pair])  # type: ignore[arg-type]
        self.factor = factor

    def pairs(self) -> list[tuple[Tensor, Tensor]]:
        both = [w.detach() for w in self.weights]
        return list(zip(both[::2], both[1::2], strict=True))

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        weights = list(self.weights)
        for inner, outer in zip(weights[::2], weights[1::2], strict=True):
            z = z + torch.relu(z @ inner.T) @ outer.T
        return self.factor * z + x


def problem(G: nn.Module, y: Tensor) -> Problem:
    return Problem(trace(G, y, y), y, (y,))


def expression(given: Problem, gather: bool) -> Jacobian:
    return Builder(given.graph, given.constants, expansion=Expansion(None) if gather else None).build()


def products(G: Residual) -> list[fmpq_mat]:
    """All slope products with slopes at their ends, exactly."""
    pairs, found = G.pairs(), []
    n, m = pairs[0][1].shape
    eye = rational_matrix(torch.eye(n, dtype=DOUBLE))
    for choice in itertools.product((0.0, 1.0), repeat=m * len(pairs)):
        product = eye
        for k, (inner, outer) in enumerate(pairs):
            slopes = rational_matrix(torch.diag(torch.tensor(choice[m * k : m * (k + 1)], dtype=DOUBLE)))
            product = product + rational_matrix(outer) * slopes * rational_matrix(inner) * product
        found.append(rational(G.factor) * product)
    return found


def recursion(G: Residual, order: Order) -> float:
    """`factor prod (1 + ||W2|| ||W1||)`."""
    size = {"l1": 1, "l2": 2, "linf": float("inf")}[order]
    total = G.factor
    for inner, outer in G.pairs():
        total *= 1 + float(torch.linalg.matrix_norm(outer, size) * torch.linalg.matrix_norm(inner, size))
    return total


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), order=st.sampled_from(ORDERS), blocks=st.integers(2, 3))
def test_slopes_gathered_sums_bound_every_slope_product_and_keep_the_recursion(
    seed: int, order: Order, blocks: int
) -> None:
    G = Residual(blocks, seed=seed)
    given_ = problem(G, torch.zeros(1, 2, dtype=DOUBLE))
    gathered, expanded = (expression(given_, gather) for gather in (True, False))
    assert any(isinstance(basis, Subtotal) for basis in gathered.bases)
    assert not any(isinstance(basis, Subtotal) for basis in expanded.bases)
    wide, tight = (lipschitz_gain(J, Norm(order), 1).upper for J in (gathered, expanded))
    every = products(G)
    assert all(norm_at_most(matrix, order, rational(tight)) for matrix in every)
    assert all(norm_at_most(matrix, order, rational(wide)) for matrix in every)
    assert tight <= wide * (1 + 1e-12)
    assert wide <= recursion(G, order) * (1 + 1e-9)


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_slopes_matrices_and_multipliers_are_those_of_the_same_products(seed: int) -> None:
    G = Residual(3, seed=seed)
    given_ = problem(G, torch.zeros(1, 2, dtype=DOUBLE))
    gathered, expanded = (expression(given_, gather) for gather in (True, False))
    first, second = (interval_jacobian(J, 1) for J in (gathered, expanded))
    torch.testing.assert_close(first.mid, second.mid)
    for matrix in products(G)[::7]:
        entries = torch.tensor([float(v.p) / float(v.q) for v in matrix.entries()], dtype=DOUBLE).reshape(2, 2)
        assert bool(((entries - first.mid[0]).abs() <= first.rad[0] * (1 + 1e-9) + 1e-12).all())
    bounds = [chain_gain(J, 1) for J in (gathered, expanded)]
    assert (bounds[0] is None) == (bounds[1] is None)
    if bounds[0] is not None and bounds[1] is not None:
        assert bounds[0].upper == pytest.approx(bounds[1].upper, rel=1e-6)
        assert [T.shape for T in bounds[0].multipliers] == [T.shape for T in bounds[1].multipliers]


@pytest.mark.parametrize("order", ORDERS)
def test_the_checker_has_both_bounds(order: Order) -> None:
    G = Residual(3, seed=5)
    graph = problem(G, torch.zeros(1, 2, dtype=DOUBLE)).graph
    with working_precision():
        walks = [Walk(graph, Values(graph, None, frozenset()), gather=gather) for gather in (True, False)]
        wide, tight = (float(checked_bound(w.network.sources, w.outputs, order, None)) for w in walks)
    assert [walk.gathered for walk in walks] == [True, False]
    assert all(norm_at_most(matrix, order, rational(tight)) for matrix in products(G))
    assert tight <= wide <= recursion(G, order) * (1 + 1e-9)


def contractive(blocks: int, n: int = 3, m: int = 4) -> tuple[Residual, Tensor]:
    G = Residual(blocks, n, m)
    G.factor = 0.9 / recursion(G, "l2")
    return G, torch.zeros(2, n, dtype=DOUBLE)


@pytest.mark.parametrize("region", ["global", "ball"])
@pytest.mark.parametrize("norm", ["l2", "weighted_linf"])
def test_t1_t2_certificates_on_gathered_sums_are_checked(
    region: str, norm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_expansion, "LARGEST_WORK", 0.0)
    G, y = contractive(4)
    theorem, where = ("picard", None) if region == "global" else ("local_picard", Ball(y, 0.1))
    certificate = certify(G, y, y, norm=norm, theorem=theorem, region=where)
    assert certificate.verdict is Verdict.CERTIFIED
    assert check(certificate, G, y, y).accepted
    document: dict[str, Any] = copy.deepcopy(certificate.document())
    lowered = 0.01 * float.fromhex(document["evidence"]["bound"])
    document["evidence"]["bound"] = document["rate"] = lowered.hex()
    document["hypotheses"] = []
    found = check(signed(document), G, y, y)  # type: ignore[arg-type]
    assert not found.accepted
    assert "could only be bounded" in found.reasons[0], found.reasons


def test_a_certificate_on_expanded_sums_is_checked_where_the_gathered_bound_is_too_large() -> None:
    G, y = contractive(4)
    G.factor *= 1.05  # times the recursion's bound: 0.945
    certificate = certify(G, y, y, norm="l2", theorem="picard")
    assert certificate.rate is not None
    assert certificate.rate < recursion(G, "l2")
    assert check(certificate, G, y, y).accepted


def maps(jacobian: Jacobian) -> int:
    sources = [basis.source.maps for basis in jacobian.bases if hasattr(basis, "source")]
    return sum(map(len, [*sources, *(output.maps for output in jacobian.outputs)]))


def test_gathered_terms_grow_with_the_depth_and_expanded_ones_with_its_square() -> None:
    counts = {}
    for gather in (True, False):
        found = [maps(expression(problem(Residual(k), torch.zeros(1, 2, dtype=DOUBLE)), gather)) for k in (8, 16, 32)]
        counts[gather] = [b / a for a, b in itertools.pairwise(found)]
    assert all(ratio < 2.1 for ratio in counts[True])
    assert counts[False][-1] > 3.5


def test_what_costs_too_much_is_gathered_and_what_does_not_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    G = Residual(6)
    y = torch.zeros(1, 2, dtype=DOUBLE)
    assert not any(isinstance(basis, Subtotal) for basis in problem(G, y).jacobian.bases)
    tight = lipschitz_bound(G, y, y).upper
    monkeypatch.setattr(_expansion, "LARGEST_WORK", 100.0)
    assert any(isinstance(basis, Subtotal) for basis in problem(G, y).jacobian.bases)
    assert lipschitz_bound(G, y, y).upper >= tight * (1 - 1e-9)


def test_long_sums_are_gathered_by_their_number() -> None:
    """A sum that no matrix multiplies grows by a term a step."""

    def G(z: Tensor) -> Tensor:
        total = z
        for k in range(20):
            total = total + torch.tanh(total * (k + 1))
        return total

    y = torch.zeros(1, 2, dtype=DOUBLE)
    given_ = Problem(trace(G, y), y, ())
    gathered, expanded = (expression(given_, gather) for gather in (True, False))
    assert (
        max(len(basis.source.maps) for basis in gathered.bases if hasattr(basis, "source")) <= _network.MOST_TERMS + 1
    )
    wide, tight = (lipschitz_gain(J, Norm("linf"), 1).upper for J in (gathered, expanded))
    assert wide == pytest.approx(tight, rel=1e-9)
