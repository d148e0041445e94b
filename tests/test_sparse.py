"""Sparse matrices: exact products, verified norms, graph propagation."""

from __future__ import annotations

import math

import pytest
import torch
from exact import ball, bounds_norm, seeded
from flint import arb
from torch import Tensor

from deqops.verify import _elementary as elementary
from deqops.verify import _midrad as midrad
from deqops.verify import _signed_norm as signed_norm
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


# -------------------------------------------------------------------------------------- entries of both signs


def entries(*triples: tuple[int, int, float], shape: tuple[int, int]) -> SparseMatrix:
    rows, cols, values = zip(*triples, strict=True)
    exact = MidRad.exact(torch.tensor(values, dtype=torch.float64))
    return SparseMatrix(torch.tensor(rows), torch.tensor(cols), exact, shape)


@pytest.mark.parametrize("dense", [0, 1024])
@pytest.mark.parametrize("scale", [1.0, 1e60, 1e-60, 1e-160, 1e160, 2.0**-1060])
@pytest.mark.parametrize("seed", range(4))
def test_signed_bounds_are_exactly_above_the_norm_and_sharp(
    seed: int, scale: float, dense: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the factor of [[0, A^T], [A, 0]] alone, and by the dense bound, duplicates and empty rows included."""
    monkeypatch.setattr(signed_norm, "_DENSE", dense)
    matrix = random_matrix(seed, 7, 5, 14)
    matrix = SparseMatrix(matrix.rows, matrix.cols, MidRad.exact(matrix.values.mid * scale), matrix.shape).coalesce()
    bound = matrix.norm_bound("l2")
    values = plain(matrix)
    assert bounds_norm(values, float(bound) * (1 + 1e-12))  # duplicates were rounded where they were added
    assert not bounds_norm(values, float(bound) * (1 - 1e-10) - 2.0**-1068)
    assert bound.lower_estimate == pytest.approx(float(bound), rel=1e-4)


@pytest.mark.parametrize("scale", [1.0, 2.0**-1070])
def test_matrices_of_one_entry_and_of_zeros(scale: float) -> None:
    assert scale <= float(entries((0, 0, -scale), shape=(1, 1)).norm_bound("l2")) <= scale + 2.0**-1074
    assert float(entries((0, 0, scale), (0, 0, -scale), shape=(1, 1)).norm_bound("l2")) <= 2.0**-51 * scale + 2.0**-1070
    assert float(entries((1, 2, 0.0), (0, 0, -0.0), shape=(2, 3)).norm_bound("l2")) == 0


def test_a_cancellation_by_triples_of_one_place_is_taken_in() -> None:
    A = entries((0, 0, 2.0), (0, 1, 5.0), (0, 1, -5.0), (1, 1, 1.0), shape=(2, 2))
    for order in ("l1", "l2", "linf"):
        assert 2 <= float(A.norm_bound(order)) <= 2 + 1e-12


def second_difference(n: int) -> SparseMatrix:
    i = torch.arange(n)
    values = torch.cat([torch.full((n,), 2.0), torch.full((2 * n - 2,), -1.0)]).double()
    rows, cols = torch.cat([i, i[1:], i[:-1]]), torch.cat([i, i[:-1], i[1:]])
    return SparseMatrix(rows, cols, MidRad.exact(values), (n, n))


@pytest.mark.parametrize("n", [2, 30, 700, 4000])
def test_second_differences_have_the_norm_of_the_formula(n: int) -> None:
    """`4 cos^2(pi / (2 (n + 1)))`; their squares `D^T D` of first differences: the same."""
    truth = 4 * (arb.pi() / (2 * (n + 1))).cos() ** 2
    bound = second_difference(n).norm_bound("l2")
    assert ball(bound.upper) >= truth * (1 - arb(2) ** -1000)
    assert ball(bound.upper) <= truth * (1 + arb(1e-10))
    shuffled = torch.randperm(n, generator=seeded(n))
    A = second_difference(n)
    again = SparseMatrix(shuffled[A.rows], A.cols, A.values, A.shape).norm_bound("l2")
    assert ball(again.upper) >= truth * (1 - arb(2) ** -1000)
    assert ball(again.upper) <= truth * (1 + arb(1e-10))


@pytest.mark.parametrize("n", [50, 3000])
def test_first_differences_of_a_rectangular_shape(n: int) -> None:
    """(n + 1, n): the norm is `2 cos(pi / (2 (n + 1)))`, where the moduli reach the same only in the limit."""
    i = torch.arange(n)
    values = torch.cat([torch.ones(n), -torch.ones(n)]).double()
    A = SparseMatrix(torch.cat([i, i + 1]), torch.cat([i, i]), MidRad.exact(values), (n + 1, n))
    truth = 2 * (arb.pi() / (2 * (n + 1))).cos()
    assert truth < ball(A.norm_bound("l2").upper) < truth * (1 + arb(1e-10))


@pytest.mark.parametrize("seed", range(3))
def test_banded_matrices_of_some_thousand_rows_are_sharp(seed: int) -> None:
    """The bound and a Rayleigh quotient, which is below the norm, are within 1e-10."""
    n, width = 2500, 3
    rows = torch.arange(n).repeat_interleave(width)
    cols = (rows + torch.arange(width).repeat(n)).clamp(max=n - 1)
    values = torch.randn(n * width, generator=seeded(seed), dtype=torch.float64)
    A = SparseMatrix(rows, cols, MidRad.exact(values), (n, n))
    bound = A.norm_bound("l2")
    assert 0 <= bound.upper / bound.lower_estimate - 1 <= 1e-10
    assert bound.upper < float(SparseMatrix(rows, cols, MidRad.exact(values.abs()), (n, n)).norm_bound("l2"))


def test_every_signed_matrix_of_an_enclosure_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signed_norm, "_DENSE", 0)
    A = random_matrix(3, 6, 6, 15).coalesce()
    wide = SparseMatrix(A.rows, A.cols, MidRad(A.values.mid, torch.full_like(A.values.mid, 0.125)), A.shape)
    left, _, right = torch.linalg.svd(plain(A))
    worst = plain(A) + 0.125 * (torch.outer(left[:, 0], right[0]).sign() * (plain(A) != 0))
    assert bounds_norm(worst, float(wide.norm_bound("l2")))


def test_a_matrix_with_no_narrow_band_keeps_the_bound_by_moduli() -> None:
    A = random_matrix(0, 3000, 3000, 9000).coalesce()
    bound = A.norm_bound("l2")
    assert bound.method == "Collatz-Wielandt"
    assert bound.upper * 0.8 < bound.lower_estimate < bound.upper


@pytest.mark.parametrize("order", ["l1", "linf"])
def test_sums_have_an_estimate_from_the_midpoints(order: Order) -> None:
    A = entries((0, 0, 3.0), (0, 1, -4.0), (1, 1, 0.5), shape=(2, 2))
    bound = A.norm_bound(order)
    assert bound.lower_estimate == {"l1": 4.5, "linf": 7.0}[order]
    assert bound.lower_estimate <= bound.upper <= bound.lower_estimate * (1 + 1e-14)


# ------------------------------------------------------------------------------------------------- order, size


def test_the_order_of_the_triples_and_chunks_do_not_matter() -> None:
    matrix = random_matrix(1, 40, 30, 200_000, signed=False)
    mixed = torch.randperm(200_000, generator=seeded(2))
    other = SparseMatrix(
        matrix.rows[mixed], matrix.cols[mixed], matrix.values.apply_exact(lambda t: t[mixed]), matrix.shape
    )
    truth = float(torch.linalg.matrix_norm(plain(matrix), 2))
    for A in (matrix, other, matrix.coalesce()):
        assert truth * (1 - 1e-12) <= float(A.norm_bound("l2")) <= truth * (1 + 1e-9)


@pytest.mark.parametrize("ordered", [True, False])
def test_a_graph_of_many_edges_has_norm_one(ordered: bool) -> None:
    """At the first proposal, the root of the degrees, whatever the order of the edges."""
    nodes = 20_000
    ends = torch.randint(0, nodes, (2, 100_000), generator=seeded(5))
    edges = torch.cat([ends, ends.flip(0), torch.arange(nodes).repeat(2, 1)], dim=1)
    A = propagation(torch.unique(edges, dim=1).flip(1), nodes)  # no edge twice: its degrees are the counts
    bound = (A.coalesce() if ordered else A).norm_bound("l2")
    assert 1 <= bound.upper <= 1 + 1e-12


def test_places_that_increase_are_not_sorted_again() -> None:
    A = random_matrix(1, 6, 6, 20).coalesce()
    assert A.coalesce() is A
    twice = SparseMatrix(A.rows.repeat(2), A.cols.repeat(2), A.values.apply_exact(lambda t: t.repeat(2)), A.shape)
    assert len(twice.coalesce().rows) == len(A.rows)
    assert math.isclose(float(twice.norm_bound("l1")), 2 * float(A.norm_bound("l1")), rel_tol=1e-12)


def test_moduli_beyond_the_root_of_the_largest_number_have_a_norm() -> None:
    for scale in (1e200, 1e-200, 2.0**-1060):
        A = entries((0, 0, scale), (0, 1, scale), (1, 0, scale), (1, 1, scale), shape=(2, 2))
        assert 2 * scale <= float(A.norm_bound("l2")) <= 2 * scale * (1 + 1e-13) + 2.0**-1070


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
