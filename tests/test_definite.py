"""Smallest eigenvalues of dense, block-tridiagonal and sparse matrices: below the truth, close to it, never wrong."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from exact import ball, is_positive_semidefinite, rational, rational_matrix, seeded
from flint import arb, fmpq_mat
from torch import Tensor

from deqops import InputError
from deqops.verify._banded import WORK, Band, BandFactor, band_work, bandwidth, narrow_order
from deqops.verify._block_tridiagonal import BlockFactor, BlockTridiagonal, ShiftedBlocks
from deqops.verify._definite import is_positive_definite as positive
from deqops.verify._definite import lowest_eigenvalue_bound
from deqops.verify._gershgorin import Circles, largest_row_sum
from deqops.verify._midrad import MidRad
from deqops.verify._sparse import SparseMatrix

SCALES = [1.0, 1e60, 1e-60, 2.0**-1060, 2.0**1000]


def exactly_below(H: Tensor, bound: float) -> bool:
    """Whether every eigenvalue of a symmetric matrix is at least the bound: `H - bound I` is semidefinite."""
    return is_positive_semidefinite(rational_matrix(H) - diagonal(bound, len(H)))


def diagonal(value: float, size: int) -> fmpq_mat:
    return fmpq_mat(size, size, [rational(value) if i == j else rational(0) for i in range(size) for j in range(size)])


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def blocks(seed: int, sizes: tuple[int, ...], scale: float = 1.0) -> BlockTridiagonal:
    own = [drawn(seed + k, n, n) * scale for k, n in enumerate(sizes)]
    below = [drawn(seed + 50 + k, m, n) * scale for k, (n, m) in enumerate(pairwise(sizes))]
    return BlockTridiagonal(tuple(map(MidRad.exact, own)), tuple(map(MidRad.exact, below)))


def sparse(dense: Tensor, *, order: bool = True) -> SparseMatrix:
    place = dense.nonzero()
    place = place if order else place.flip(0)
    rows, cols = place[:, 0], place[:, 1]
    return SparseMatrix(rows, cols, MidRad.exact(dense[rows, cols]), (len(dense), len(dense)))


def banded(seed: int, size: int, width: int, scale: float = 1.0) -> Tensor:
    full = drawn(seed, size, size) * scale
    lower = full.tril() - full.tril(-width - 1)
    return lower + lower.tril(-1).T


def second_difference(n: int) -> SparseMatrix:
    i = torch.arange(n)
    rows, cols = torch.cat([i, i[1:], i[:-1]]), torch.cat([i, i[:-1], i[1:]])
    values = torch.cat([torch.full((n,), 2.0), torch.full((2 * n - 2,), -1.0)]).double()
    return SparseMatrix(rows, cols, MidRad.exact(values), (n, n))


# ------------------------------------------------------------------------------------------ block tridiagonal


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("sizes", [(1,), (4,), (1, 1, 1, 1), (3, 1, 4), (2, 2, 2)])
def test_block_tridiagonal_bounds_are_below_the_truth_and_close(sizes: tuple[int, ...], scale: float) -> None:
    H = blocks(len(sizes), sizes, scale)
    dense, bound = H.dense().mid, lowest_eigenvalue_bound(H)
    assert exactly_below(dense, bound)
    near = bound + max(1e-13 * scale, 2.0**-1070)
    assert not exactly_below(dense, near)
    full = lowest_eigenvalue_bound(MidRad.exact(dense))
    assert exactly_below(dense, full)
    assert bound <= full + max(1e-12 * scale, 2.0**-1070)


def test_many_blocks_of_other_sizes_agree_with_the_dense_bound() -> None:
    H = blocks(3, (30, 7, 1, 40, 12))
    truth = float(torch.linalg.eigvalsh(H.dense().mid)[0])
    assert truth - 1e-11 <= lowest_eigenvalue_bound(H) <= truth + 1e-12


def test_clustered_eigenvalues_do_not_loosen_the_block_bound() -> None:
    """400 blocks of like spectra: the first estimates are far off."""
    H = blocks(0, (8,) * 100)
    truth = float(torch.linalg.eigvalsh(H.dense().mid)[0])
    assert truth - 1e-11 <= lowest_eigenvalue_bound(H) <= truth + 1e-12


def test_every_matrix_of_a_block_enclosure_is_bounded() -> None:
    H = blocks(5, (2, 3, 1))
    radii = 2.0**-6
    wide = BlockTridiagonal(
        *(tuple(MidRad(b.mid, torch.full_like(b.mid, radii)) for b in part) for part in (H.diagonal, H.below))
    )
    bound = lowest_eigenvalue_bound(wide)
    eigenvector = torch.linalg.eigh(H.dense().mid)[1][:, 0]
    worst = H.dense().mid - wide.dense().rad * torch.outer(eigenvector.sign(), eigenvector.sign())
    assert exactly_below(worst, bound)
    assert bound >= float(torch.linalg.eigvalsh(H.dense().mid)[0]) - 6 * radii - 1e-12


@pytest.mark.parametrize("poison", ["noise", "zero", "huge", "nan"])
def test_any_block_factor_bounds_by_its_residual(poison: str) -> None:
    """The factor is a proposal: whatever L is, `H + t I >= -deficit I`."""
    H = blocks(7, (2, 3)).symmetric()
    shifted = ShiftedBlocks.of(H)
    factor = shifted.factor(9.0)
    assert isinstance(factor, BlockFactor)
    change = {
        "noise": lambda t: t + 0.1,
        "zero": torch.zeros_like,
        "huge": lambda t: t * 1e6,
        "nan": lambda t: t * math.nan,
    }
    wrong = BlockFactor(shifted, 9.0, tuple(change[poison](b).tril() for b in factor.own), factor.beside)
    deficit = wrong.deficit()
    assert factor.deficit() < 1e-13
    assert math.isnan(deficit) if poison == "nan" else exactly_below(H.dense().mid, -9.0 - deficit)


def test_blocks_that_do_not_fit_are_named() -> None:
    one, two = (MidRad.exact(torch.eye(n, dtype=torch.float64)) for n in (1, 2))
    with pytest.raises(InputError, match="at least one block"):
        BlockTridiagonal(())
    with pytest.raises(InputError, match="1 blocks are needed, got 0"):
        BlockTridiagonal((one, two))
    with pytest.raises(InputError, match=r"block 0 must have shape \(2, 1\), got \(1, 1\)"):
        BlockTridiagonal((one, two), (one,))
    with pytest.raises(InputError, match="block 1 must be a square matrix"):
        BlockTridiagonal((one, MidRad.exact(torch.zeros(0, 0))), (one,))


# ----------------------------------------------------------------------------------------------------- sparse


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("size", "width"), [(1, 0), (6, 0), (7, 1), (10, 3), (9, 8)])
def test_sparse_bounds_are_below_the_truth_and_close(size: int, width: int, scale: float) -> None:
    dense = banded(size, size, width, scale)
    shuffled = torch.randperm(size, generator=seeded(1))
    dense = dense[shuffled][:, shuffled]
    bound = lowest_eigenvalue_bound(sparse(dense, order=False))
    assert exactly_below(dense, bound)
    assert not exactly_below(dense, bound + max(1e-12 * scale, 2.0**-1070))


@pytest.mark.parametrize("size", [2, 9, 100, 5000])
def test_second_differences_have_the_eigenvalue_of_the_formula(size: int) -> None:
    """`lambda_min = 4 sin^2(pi / (2 (n + 1)))`."""
    H = second_difference(size)
    bound, truth = lowest_eigenvalue_bound(H), 4 * (arb.pi() / (2 * (size + 1))).sin() ** 2
    assert not ball(bound) > truth
    assert ball(bound) > truth - arb(1e-13)
    assert positive(H)


def test_duplicates_are_added_before_moduli_are_taken() -> None:
    """1 - 1 + 2 on the diagonal and 5 - 5 beside it."""
    rows, cols = torch.tensor([0, 0, 0, 1, 1, 1]), torch.tensor([0, 0, 0, 0, 0, 1])
    values = torch.tensor([1.0, -1.0, 2.0, 5.0, -5.0, 3.0], dtype=torch.float64)
    bound = lowest_eigenvalue_bound(SparseMatrix(rows, cols, MidRad.exact(values), (2, 2)))
    assert 2 - 1e-12 <= bound <= 2


def test_zero_and_diagonal_matrices_are_bounded_without_a_factor() -> None:
    nothing = torch.zeros(0, dtype=torch.int64)
    empty = SparseMatrix(nothing, nothing, MidRad.exact(torch.zeros(0, dtype=torch.float64)), (3, 3))
    assert lowest_eigenvalue_bound(empty) == 0
    assert lowest_eigenvalue_bound(sparse(torch.diag(torch.tensor([3.0, 2.0], dtype=torch.float64)))) == 2
    zeros = MidRad.exact(torch.zeros(2, dtype=torch.float64))
    assert lowest_eigenvalue_bound(SparseMatrix(torch.tensor([0, 1]), torch.tensor([0, 0]), zeros, (2, 2))) == 0
    assert not positive(empty)
    block = BlockTridiagonal((MidRad.exact(torch.zeros(2, 2, dtype=torch.float64)),))
    assert lowest_eigenvalue_bound(block) == 0


@pytest.mark.parametrize("poison", ["noise", "zero", "huge", "nan"])
@pytest.mark.parametrize(("size", "width"), [(5, 2), (20, 3), (17, 8), (30, 11)])
def test_any_banded_factor_bounds_by_its_residual(size: int, width: int, poison: str) -> None:
    """The factor is a proposal: whatever L is, the deficit is at least `||L L^T - (H + t I)||`, and not far above."""
    dense = banded(size, size, width)
    band = torch.zeros(size, width + 1, dtype=torch.float64)
    for d in range(width + 1):
        band[: size - d, d] = dense.diagonal(-d)
    factor = Band(band, 1.0, 1.0).factor(20.0)
    assert isinstance(factor, BandFactor)
    assert factor.deficit() < 1e-12
    noise = 0.1 * drawn(3, size, width + 1)
    L = {"noise": factor.lower + noise, "zero": 0 * noise, "huge": 1e6 * noise, "nan": noise * math.nan}[poison]
    wrong = BandFactor(band, 20.0, L.contiguous())
    if poison == "nan":
        assert not math.isfinite(wrong.deficit())
        return
    full = torch.zeros(size + width, size, dtype=torch.float64)  # entries beyond the last row are L's, too
    for j in range(size):
        full[j : j + width + 1, j] = L[j]
    residual = full @ full.T
    residual[:size, :size] -= dense + 20 * torch.eye(size, dtype=torch.float64)
    rows = residual[:size].abs().sum(dim=1).max()
    assert float(rows) * (1 - 1e-12) <= wrong.deficit() <= float(residual.abs().sum(dim=1).max()) * (1 + 1e-11) + 1e-11
    if size < 10:
        assert exactly_below(dense, -20.0 - wrong.deficit())


def test_an_order_is_found_again_and_too_wide_a_band_is_given_up() -> None:
    size = 300
    shuffled = torch.randperm(size, generator=seeded(0))
    chain = SparseMatrix(
        shuffled[1:], shuffled[:-1], MidRad.exact(torch.ones(size - 1, dtype=torch.float64)), (size, size)
    )
    order = narrow_order(chain.rows, chain.cols, size)
    assert order is not None
    assert bandwidth(order[chain.rows], order[chain.cols]) == 1
    assert sorted(order.tolist()) == list(range(size))
    wide = 3000
    star = (torch.arange(1, wide), torch.zeros(wide - 1, dtype=torch.int64))
    assert band_work(wide, wide // 2) > WORK
    assert narrow_order(*star, wide) is None


def test_where_no_band_is_narrow_circles_bound_a_star_nearly() -> None:
    """The star of 3000 leaves: `3 I - S / 20`, least eigenvalue `3 - sqrt(3000) / 20`; circles at x = 1 give -147."""
    leaves = 3000
    i = torch.arange(leaves + 1)
    rows, cols = torch.cat([i, i[1:]]), torch.cat([i, torch.zeros(leaves, dtype=torch.int64)])
    values = torch.cat([torch.full((leaves + 1,), 3.0), torch.full((leaves,), -0.05)]).double()
    H = SparseMatrix(rows, cols, MidRad.exact(values), (leaves + 1, leaves + 1))
    bound, truth = lowest_eigenvalue_bound(H), 3 - math.sqrt(leaves) / 20
    assert truth - 0.02 <= bound <= truth
    assert positive(H)


def test_scaled_circles_are_below_the_truth() -> None:
    for seed in range(20):
        dense = banded(seed, 6, 5)
        lower = sparse(dense.tril())
        values = lower.values
        circles = Circles.of(lower.rows, lower.cols, values.lower(), values.magnitude(), 6)
        assert circles.plain() <= circles.best()
        assert exactly_below(dense, circles.best())
        total = largest_row_sum(lower.rows, lower.cols, values.magnitude(), 6)
        assert total == pytest.approx(float(dense.abs().sum(dim=1).max()), rel=1e-13)


# -------------------------------------------------------------------------------------- definite, and errors


def all_forms(dense: Tensor) -> tuple[MidRad, BlockTridiagonal, SparseMatrix]:
    half = len(dense) // 2
    own = (MidRad.exact(dense[:half, :half]), MidRad.exact(dense[half:, half:]))
    return MidRad.exact(dense), BlockTridiagonal(own, (MidRad.exact(dense[half:, :half]),)), sparse(dense)


@pytest.mark.parametrize("form", [0, 1, 2])
def test_positive_definite_matrices_are_told_from_those_that_are_not(form: int) -> None:
    """`[[1, c], [c, 1]]` in two places: definite for c below 1, by 2^-40 too; singular at 1."""
    for c, expected in ((0.5, True), (1 - 2.0**-40, True), (1.0, False), (1 + 2.0**-50, False)):
        pair = torch.tensor([[1.0, c], [c, 1.0]], dtype=torch.float64)
        assert positive(all_forms(torch.block_diag(pair, pair))[form]) is expected
        D = torch.diag(torch.tensor([2.0**-190, 2.0**190, 2.0**-450, 2.0**300], dtype=torch.float64))
        assert positive(all_forms(D @ torch.block_diag(pair, pair) @ D)[form]) is expected


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("form", [0, 1, 2])
def test_what_is_no_number_certifies_nothing(form: int, bad: float) -> None:
    for i, j in ((0, 0), (1, 0), (3, 2), (2, 1)):
        dense = 4 * torch.eye(4, dtype=torch.float64)
        dense[i, j] = dense[j, i] = bad
        H = all_forms(dense)[form]
        assert lowest_eigenvalue_bound(H) == -math.inf
        assert not positive(H)


@pytest.mark.parametrize("form", [0, 1, 2])
def test_matrices_too_large_to_add_up_are_bounded_or_given_up(form: int) -> None:
    dense = torch.full((4, 4), 1.7e308, dtype=torch.float64)
    bound = lowest_eigenvalue_bound(all_forms(dense)[form])
    assert bound == -math.inf or exactly_below(dense, bound)


def test_what_is_no_square_matrix_is_refused() -> None:
    nothing = torch.zeros(0, dtype=torch.int64)
    values = MidRad.exact(torch.zeros(0, dtype=torch.float64))
    for wrong in (
        MidRad.exact(torch.zeros(2, 3, dtype=torch.float64)),
        MidRad.exact(torch.zeros(0, 0, dtype=torch.float64)),
        SparseMatrix(nothing, nothing, values, (2, 3)),
        SparseMatrix(nothing, nothing, values, (0, 0)),
    ):
        for ask in (lowest_eigenvalue_bound, positive):
            with pytest.raises(InputError, match="a square matrix is needed, got shape"):
                ask(wrong)
    for ask in (lowest_eigenvalue_bound, positive):
        with pytest.raises(InputError, match="got a list; give a tensor"):
            ask([[1.0]])  # type: ignore[arg-type]


def test_tensors_are_taken_exactly() -> None:
    H = torch.tensor([[2.0, -1.0], [-1.0, 2.0]])
    for given in (H, H.to_sparse(), H.half(), MidRad.exact(H.double())):
        assert 1 - 1e-12 < lowest_eigenvalue_bound(given) <= 1
        assert positive(given)
    assert not positive(torch.ones(2, 2).to_sparse())
