"""Sparse matrices: exact products, verified norms, graph propagation."""

from __future__ import annotations

import pytest
import torch
from exact import bounds_norm, seeded
from torch import Tensor

from deqops.verify import _elementary as elementary
from deqops.verify import _midrad as midrad
from deqops.verify._midrad import MidRad
from deqops.verify._norm import Norm, Order
from deqops.verify._sparse import SparseMatrix

P = {"l1": 1, "l2": 2, "linf": float("inf")}


def random_matrix(seed: int, rows: int, cols: int, entries: int, *, signed: bool = True) -> SparseMatrix:
    generator = seeded(seed)
    values = torch.randn(entries, generator=generator, dtype=torch.float64)
    values = values if signed else values.abs()
    r = torch.randint(0, rows, (entries,), generator=generator)
    c = torch.randint(0, cols, (entries,), generator=generator)
    return SparseMatrix(r, c, MidRad.exact(values), (rows, cols))


def plain(matrix: SparseMatrix) -> Tensor:
    return matrix.dense().mid


@pytest.mark.parametrize("seed", range(8))
def test_products_agree_with_dense_ones(seed: int) -> None:
    a, b = random_matrix(seed, 6, 5, 12), random_matrix(seed + 50, 5, 7, 9)
    found = a.compose(b).dense()
    assert bool(((plain(a) @ plain(b) - found.mid).abs() <= found.rad + 1e-14).all())


@pytest.mark.parametrize("order", ["l1", "l2", "linf"])
@pytest.mark.parametrize("seed", range(5))
def test_norm_bounds_hold_and_are_sharp_for_nonnegative_matrices(order: Order, seed: int) -> None:
    matrix = random_matrix(seed, 6, 6, 20, signed=False)
    upper, truth = float(matrix.norm_bound(order)), float(torch.linalg.matrix_norm(plain(matrix), P[order]))
    assert truth * (1 - 1e-14) <= upper <= truth * (1 + 1e-9)
    signed = random_matrix(seed, 6, 6, 20)
    assert float(signed.norm_bound(order)) >= float(torch.linalg.matrix_norm(plain(signed), P[order])) * (1 - 1e-14)


@pytest.mark.parametrize("seed", range(5))
def test_l2_bound_is_exactly_above_the_norm(seed: int) -> None:
    matrix = random_matrix(seed, 5, 4, 10)
    assert bounds_norm(plain(matrix), float(matrix.norm_bound("l2")))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("order", ["l1", "l2", "linf"])
def test_an_open_entry_bounds_nothing(order: Order, bad: float) -> None:
    values = MidRad(torch.ones(2, dtype=torch.float64), torch.tensor([0.0, bad], dtype=torch.float64))
    place = torch.arange(2)
    assert not float(SparseMatrix(place, place, values, (2, 2)).norm_bound(order)) < float("inf")


def propagation(edges: Tensor, nodes: int) -> SparseMatrix:
    degree = torch.bincount(edges[1], minlength=nodes).double()
    inverse = elementary.pow_scalar(MidRad.exact(degree), -0.5)
    weights = midrad.mul(*(inverse.apply_exact(lambda t, e=e: t[e]) for e in edges))
    scatter, gather = SparseMatrix.from_index_add(edges[1], nodes), SparseMatrix.from_index_select(edges[0], nodes)
    return scatter.compose(SparseMatrix.diagonal(weights)).compose(gather)


@pytest.mark.parametrize("components", [1, 3])
def test_symmetric_normalisation_has_norm_one(components: int) -> None:
    """Exactly normalised propagation has norm 1; the bound is 1 up to rounding, also on a disconnected graph."""
    generator, parts = seeded(9), []
    for k in range(components):
        ends = torch.randint(0, 100, (2, 300), generator=generator) + 100 * k
        parts += [ends, ends.flip(0)]
    nodes = 100 * components
    edges = torch.cat([*parts, torch.arange(nodes).repeat(2, 1)], dim=1)
    upper = float(propagation(edges, nodes).norm_bound("l2"))
    assert 1 <= upper <= 1 + 1e-12


def test_normalisation_stored_in_float32_exceeds_one_and_is_enclosed() -> None:
    generator = seeded(4)
    above = 0
    for _ in range(20):
        ends = torch.randint(0, 12, (2, 30), generator=generator)
        edges = torch.cat([ends, ends.flip(0), torch.arange(12).repeat(2, 1)], dim=1)
        degree = torch.bincount(edges[1], minlength=12).float()
        weights = degree[edges[0]].pow(-0.5) * degree[edges[1]].pow(-0.5)
        matrix = SparseMatrix(edges[1], edges[0], MidRad.exact(weights.double()), (12, 12))
        dense = torch.zeros(12, 12, dtype=torch.float64).index_put_(
            (edges[1], edges[0]), weights.double(), accumulate=True
        )
        upper = float(matrix.norm_bound("l2"))
        above += not bounds_norm(dense, 1.0)
        assert upper >= float(torch.linalg.matrix_norm(dense, 2)) * (1 - 1e-14)
        assert upper <= 1 + 1e-6
    assert above > 0


@pytest.mark.parametrize("order", ["l1", "l2", "linf"])
def test_vector_norms_are_enclosed_from_both_sides(order: Order) -> None:
    x = torch.randn(4, 50, generator=seeded(2), dtype=torch.float64).abs()
    weights = torch.rand(50, generator=seeded(3), dtype=torch.float64) + 0.5
    norm = Norm(order, (weights,))
    truth = torch.linalg.vector_norm(x * weights, P[order], dim=1)
    low, high = norm.lower([x], 1), norm.upper([x], 1)
    assert bool((low <= truth * (1 + 1e-15)).all() & (truth <= high * (1 + 1e-15)).all())
    assert bool(((high - low) <= 1e-12 * truth).all())
    big = norm.upper([x * 1e300], 1)
    assert bool(big.isfinite().all())
