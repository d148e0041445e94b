"""Norms of matrices known by their parts: never below the exact norm, and close to it."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import pytest
import torch
from exact import bounds_norm, bounds_rational_norm, rational, rational_matrix, seeded
from flint import fmpq_mat
from hypothesis import given
from hypothesis import strategies as st
from operands import (
    CLOSE,
    KINDS,
    chains,
    exact_diagonal,
    exact_product,
    is_closely_above,
    largest_sum,
    matrix,
)
from torch import Tensor

from campaign._exact import kronecker
from deqops.verify import (
    Bound,
    InputError,
    Kronecker,
    LowRankPlusDiagonal,
    MidRad,
    Operand,
    Product,
    as_operand,
    operator_norm_bound,
    spectral_norm_bound,
)
from deqops.verify._low_rank_bound import low_rank_bound
from deqops.verify._sparse import SparseMatrix

TAME = ["plain", "integers", "rank one", "orthogonal"]
NARROW = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def truth(W: Tensor) -> float:
    return float(torch.linalg.matrix_norm(W, 2))


# ---------------------------------------------------------------------------------------------------- Product


@given(chains())
def test_product_bound_is_at_least_the_exact_norm_and_at_most_the_product_of_norms(factors: list[Tensor]) -> None:
    upper = spectral_norm_bound(Product(*factors)).upper
    assert bounds_rational_norm(exact_product(factors), upper)
    separate = [spectral_norm_bound(f).upper for f in factors]
    assert upper <= separate[0] * separate[1] * (1 + 1e-15) or upper <= 1e-300


@given(chains(3, TAME))
def test_product_of_three_is_bounded_closely(factors: list[Tensor]) -> None:
    exact = exact_product(factors)
    norms = math.prod(float(spectral_norm_bound(f)) for f in factors)
    upper = spectral_norm_bound(Product(*factors)).upper
    assert bounds_rational_norm(exact, upper)
    # Close where the factors do not cancel: the rounding is relative to the product of the norms.
    if not bounds_rational_norm(exact, 1e-3 * norms):
        assert not bounds_rational_norm(exact, upper / CLOSE)


@pytest.mark.parametrize(("rows", "middle", "cols"), [(9, 2, 8), (2, 9, 3), (8, 8, 8), (1, 7, 1), (7, 1, 7)])
@pytest.mark.parametrize("dtype", NARROW)
def test_products_of_narrow_and_rectangular_matrices_are_exact(rows: int, middle: int, cols: int, dtype) -> None:
    factors = [randn(rows, middle, seed=1).to(dtype), randn(middle, cols, seed=2).to(dtype)]
    assert is_closely_above(exact_product(factors), spectral_norm_bound(Product(*factors)).upper)


def test_a_small_middle_dimension_needs_no_large_product() -> None:
    """U V^T of 20,000 rows and columns would have 4e8 entries."""
    U, V = randn(20_000, 3, seed=1), randn(20_000, 3, seed=2)
    bound = spectral_norm_bound(Product(U, V.T))
    small = truth(torch.linalg.qr(U).R @ torch.linalg.qr(V).R.T)
    assert small * (1 - 1e-14) <= bound.upper <= small * (1 + 1e-10)
    assert bound.method == "norm of the product"


def test_columns_and_rows_that_cancel_in_scale_cost_nothing() -> None:
    scales = 10.0 ** torch.linspace(-60, 60, 4, dtype=torch.float64)
    U, V = randn(9, 4, seed=3) * scales, randn(4, 9, seed=4) / scales[:, None]
    assert is_closely_above(exact_product([U, V]), spectral_norm_bound(Product(U, V)).upper)


def test_a_product_of_opposites_is_not_bounded_by_the_factors() -> None:
    """A A^-1 = I: the product of norms is the condition number."""
    A = torch.tensor([[1.0, 100.0], [0.0, 1.0]], dtype=torch.float64)
    bound = spectral_norm_bound(Product(A, torch.tensor([[1.0, -100.0], [0.0, 1.0]], dtype=torch.float64)))
    assert 1 <= bound.upper <= 1 + 1e-10
    assert dict(bound.contributions)["factor 1"] > 100


def test_ties_at_norm_one() -> None:
    """Products of exact reflections and permutations have norm 1: no bound may say less."""
    reflection = torch.eye(8, dtype=torch.float64) - torch.full((8, 8), 0.25, dtype=torch.float64)
    permutation = torch.eye(8, dtype=torch.float64).roll(1, 0)
    for operand in (Product(reflection, permutation), Kronecker(reflection, permutation), Product(permutation)):
        assert 1 <= spectral_norm_bound(operand).upper <= 1 + 1e-12
    tall = torch.full((8, 1), 8**-0.5, dtype=torch.float64)
    mirror = LowRankPlusDiagonal(-2 * tall, tall, torch.ones(8, dtype=torch.float64))
    assert is_closely_above(
        exact_product([-2 * tall, tall.T]) + exact_diagonal(torch.ones(8)), spectral_norm_bound(mirror).upper
    )


def test_radii_of_factors_are_included() -> None:
    A, B = MidRad(randn(5, 4, seed=5), torch.full((5, 4), 1e-3, dtype=torch.float64)), randn(4, 6, seed=6)
    upper = spectral_norm_bound(Product(A, B)).upper
    for sign in (randn(5, 4, seed=7).sign(), torch.ones(5, 4, dtype=torch.float64)):
        assert upper >= truth((A.mid + 1e-3 * sign) @ B) * (1 - 1e-14)
    assert upper <= truth(A.mid @ B) + 1e-3 * 20**0.5 * truth(B) + 1e-12


@given(chains(2, KINDS), st.sampled_from(["l1", "linf"]))
def test_row_and_column_sums_of_products(factors: list[Tensor], order: str) -> None:
    exact = largest_sum(exact_product(factors), order)
    upper = operator_norm_bound(Product(*factors), order).upper
    assert rational(upper) >= exact
    if float(upper) > 1e-290:
        moduli = exact_product([f.abs() for f in factors])
        assert rational(upper) <= exact + largest_sum(moduli, order) * rational(1e-13)


# -------------------------------------------------------------------------------------------------- Kronecker


@given(chains(2, TAME))
def test_kronecker_bound_is_the_exact_norm(factors: list[Tensor]) -> None:
    A, B = (f[:3, :3] for f in factors)
    exact = kronecker(rational_matrix(A), rational_matrix(B))
    assert is_closely_above(exact, spectral_norm_bound(Kronecker(A, B)).upper)
    for order in ("l1", "linf"):
        upper = operator_norm_bound(Kronecker(A, B), order).upper
        assert largest_sum(exact, order) <= rational(upper) <= largest_sum(exact, order) * rational(CLOSE)


@pytest.mark.parametrize("dtype", NARROW)
def test_kronecker_products_apply_as_the_matrix_they_stand_for(dtype: torch.dtype) -> None:
    A, B, C = (matrix("plain", *shape, 8).to(dtype) for shape in ((2, 3), (4, 2), (3, 3)))
    written = torch.kron(torch.kron(A.double(), B.double()), C.double())
    operand = Kronecker(A, B, C)
    assert operand.shape == tuple(written.shape)
    x, y = randn(written.shape[1], 2, seed=9), randn(written.shape[0], 2, seed=10)
    torch.testing.assert_close(operand.apply(x), written @ x)
    torch.testing.assert_close(operand.apply_transposed(y), written.T @ y)
    values = operand.entries()
    assert values is not None
    assert bool(((values.mid - written).abs() <= values.rad + 1e-15).all())


@pytest.mark.parametrize("shapes", [((0, 3), (2, 2)), ((3, 0), (2, 2)), ((2, 2), (0, 3)), ((0, 0), (0, 2))])
def test_kronecker_products_without_entries_apply(shapes: tuple[tuple[int, int], tuple[int, int]]) -> None:
    operand = Kronecker(*(randn(*shape) for shape in shapes))
    rows, cols = operand.shape
    assert torch.equal(operand.apply(randn(cols, 3)), torch.zeros(rows, 3, dtype=torch.float64))
    assert torch.equal(operand.apply_transposed(randn(rows, 3)), torch.zeros(cols, 3, dtype=torch.float64))
    assert spectral_norm_bound(Product(operand, randn(cols, 2))).upper == 0.0


def test_large_kronecker_products_are_never_formed() -> None:
    A = randn(300, 300, seed=11)
    bound = spectral_norm_bound(Kronecker(A, A, A))
    assert truth(A) ** 3 * (1 - 1e-13) <= bound.upper <= truth(A) ** 3 * (1 + 1e-10)
    assert bound.lower_estimate == pytest.approx(truth(A) ** 3, rel=1e-10)


def test_operands_nest() -> None:
    A, B, d = randn(3, 2, seed=12), randn(2, 3, seed=13), randn(3, seed=14)
    low_rank = LowRankPlusDiagonal(A, B.T, d)
    nested = Product(Kronecker(Product(A, B), torch.eye(2, dtype=torch.float64)), Kronecker(low_rank, randn(2, 2)))
    exact = kronecker(exact_product([A, B]), exact_diagonal(torch.ones(2))) * kronecker(
        exact_product([A, B]) + exact_diagonal(d), rational_matrix(randn(2, 2))
    )
    assert is_closely_above(exact, spectral_norm_bound(nested).upper)


# -------------------------------------------------------------------------------------- LowRankPlusDiagonal


@st.composite
def low_rank_parts(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    n, k, seed = draw(st.integers(2, 7)), draw(st.integers(1, 2)), draw(st.integers(0, 10**6))
    kinds = st.sampled_from(KINDS)
    U, V = matrix(draw(kinds), n, k, seed), matrix(draw(kinds), n, k, seed + 1)
    d = matrix(draw(kinds), 1, n, seed + 2)[0]
    shape = draw(st.sampled_from(["free", "tied", "cancelling", "zero"]))
    if shape == "tied":
        d = torch.full_like(d, float(d[0]))
    elif shape == "zero":
        d = torch.zeros_like(d)
    elif shape == "cancelling":  # the largest |d_i| are not near the norm
        U, V = torch.zeros_like(U), V * 1e-3
        U[:k], V[:k] = -torch.diag(d[:k]), torch.eye(k, dtype=torch.float64)
    return U, V, d


def exact_low_rank(U: Tensor, V: Tensor, d: Tensor) -> fmpq_mat:
    return exact_product([U, V.T]) + exact_diagonal(d)


@given(low_rank_parts())
def test_low_rank_bound_is_at_least_the_exact_norm_and_close(parts: tuple[Tensor, Tensor, Tensor]) -> None:
    """The lemma of `_low_rank_bound`, whose path the public function takes for large n only."""
    exact = exact_low_rank(*parts)
    upper = low_rank_bound(*(MidRad.exact(part) for part in parts))
    size = max(float(parts[2].abs().max()), spectral_norm_bound(Product(parts[0], parts[1].T)).upper)
    assert bounds_rational_norm(exact, upper)
    if size > 1e-290:  # close to the norm, or to the sum that cancels
        assert not bounds_rational_norm(exact, upper - 1e-9 * size) or upper <= 1e-9 * size


@given(low_rank_parts())
def test_low_rank_operand_is_bounded_and_never_vacuous(parts: tuple[Tensor, Tensor, Tensor]) -> None:
    U, V, d = parts
    upper = spectral_norm_bound(LowRankPlusDiagonal(U, V, d)).upper
    assert bounds_rational_norm(exact_low_rank(U, V, d), upper)
    apart = float(d.abs().max()) + spectral_norm_bound(U).upper * spectral_norm_bound(V).upper
    assert upper <= apart * (1 + 1e-15) + 1e-300


@pytest.mark.parametrize("dtype", NARROW)
def test_narrow_low_rank_parts_are_taken_exactly(dtype: torch.dtype) -> None:
    U, V, d = (randn(*shape, seed=k).to(dtype) for k, shape in enumerate([(8, 1), (8, 1), (8,)]))
    exact = exact_low_rank(U, V, d)
    assert is_closely_above(exact, spectral_norm_bound(LowRankPlusDiagonal(U, V, d)).upper)
    parts = [MidRad.exact(t.double()) for t in (U, V, d)]
    assert is_closely_above(exact, low_rank_bound(*parts))


SHAPES = ["plain", "projection", "reflection", "cancelling", "scaled", "rank deficient", "small low rank"]


@pytest.mark.parametrize("shape", SHAPES)
def test_low_rank_at_size_is_as_close_as_the_matrix_written_out(shape: str) -> None:
    n, k = 400, 4
    U, V, d = randn(n, k, seed=21), randn(n, k, seed=22), randn(n, seed=23)
    Q = torch.linalg.qr(U)[0]
    if shape in ("projection", "reflection"):
        U, V, d = -Q * (2 if shape == "reflection" else 1), Q, torch.ones(n, dtype=torch.float64)
    elif shape == "cancelling":
        d[:k] = 10 + torch.arange(k)
        U, V = torch.zeros_like(U), V * 1e-4
        U[:k], V[:k] = -torch.diag(d[:k]), torch.eye(k, dtype=torch.float64)
    elif shape == "scaled":
        scales = 10.0 ** torch.linspace(-60, 60, k, dtype=torch.float64)
        U, V = U * scales, V / scales
    elif shape == "rank deficient":
        U = U[:, :1].expand(n, k).contiguous()
    elif shape == "small low rank":
        U = U * 1e-7
    bound = spectral_norm_bound(LowRankPlusDiagonal(U, V, d))
    written = spectral_norm_bound(U @ V.T + torch.diag(d)).upper
    assert written * (1 - 1e-11) <= bound.upper <= written * (1 + 1e-10)
    assert bound.method in ("secular equation", "max |d| + norm of the product")
    assert 0.99 * written <= bound.lower_estimate <= bound.upper


def test_low_rank_radii_are_included() -> None:
    n, k = 300, 2
    parts = [MidRad(randn(*s, seed=k), torch.full(s, 1e-4, dtype=torch.float64)) for s in ((n, k), (n, k), (n,))]
    upper = spectral_norm_bound(LowRankPlusDiagonal(*parts)).upper
    for seed in range(3):
        U, V, d = (p.mid + p.rad * randn(*p.shape, seed=seed + 30).sign() for p in parts)
        assert upper >= truth(U @ V.T + torch.diag(d)) * (1 - 1e-13)
    middle = truth(parts[0].mid @ parts[1].mid.T + torch.diag(parts[2].mid))
    assert upper <= middle * (1 + 2e-3)


def test_a_poor_root_costs_tightness_only(monkeypatch: pytest.MonkeyPatch) -> None:
    from deqops.verify import _low_rank_bound

    U, V, d = randn(7, 2, seed=41), randn(7, 2, seed=42), randn(7, seed=43)
    parts = [MidRad.exact(t) for t in (U, V, d)]
    for root in (None, 0.0, 0.5, 1e3, float(d.abs().max())):
        monkeypatch.setattr(_low_rank_bound, "_secular_root", lambda W, d, root=root: root)
        upper = low_rank_bound(*parts)
        assert upper == math.inf or bounds_rational_norm(exact_low_rank(U, V, d), upper)


@pytest.mark.parametrize("zero", ["U", "V", "d", "U and d", "V and d", "U, V and d"])
def test_zero_parts_at_size(zero: str) -> None:
    U, V, d = (
        randn(*s, seed=k) * (name not in zero)
        for k, (name, s) in enumerate({"U": (300, 2), "V": (300, 2), "d": (300,)}.items())
    )
    upper = low_rank_bound(*(MidRad.exact(t) for t in (U, V, d)))
    written = truth(U @ V.T + torch.diag(d))
    assert written * (1 - 1e-14) <= upper <= written * (1 + 1e-10) + 1e-12


@pytest.mark.parametrize("noise", [0.0, 1e-6, 1.0])
def test_poor_factors_cost_tightness_only(noise: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever LAPACK proposes for the balanced factors, what they miss is added."""
    from deqops.verify import _low_rank_bound

    U, V, d = randn(7, 2, seed=44), randn(7, 2, seed=45), randn(7, seed=46)
    wrong = noise * randn(7, 2, seed=47)
    monkeypatch.setattr(_low_rank_bound, "_balanced", lambda U, V: ((U + V) / 2 + wrong, (V - U) / 2))
    upper = low_rank_bound(*(MidRad.exact(t) for t in (U, V, d)))
    assert bounds_rational_norm(exact_low_rank(U, V, d), upper)


# ------------------------------------------------------------------------------------------------ sparse tensors


def made_sparse(dense: Tensor, layout: torch.layout) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that compressed layouts are new
        return dense.to_sparse(layout=layout)


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr, torch.sparse_csc])
def test_sparse_tensors_are_bounded_like_their_matrix(dtype: torch.dtype, layout: torch.layout) -> None:
    dense = (randn(6, 5, seed=51) * (randn(6, 5, seed=52) > 0)).abs().to(dtype)
    sparse = made_sparse(dense, layout)
    assert is_closely_above(rational_matrix(dense.double()), spectral_norm_bound(sparse).upper, 1 + 1e-9)
    for order in ("l1", "linf"):
        bound = operator_norm_bound(sparse, order)
        assert rational(bound.upper) >= largest_sum(rational_matrix(dense.double()), order)
        assert bound.lower_estimate == pytest.approx(bound.upper, rel=1e-12)


def test_sparse_tensors_of_both_signs_are_bounded() -> None:
    dense = randn(5, 6, seed=53) * (randn(5, 6, seed=54) > 0)
    assert bounds_norm(dense, spectral_norm_bound(dense.to_sparse()).upper)


def test_entries_of_one_place_are_added_with_their_rounding() -> None:
    """0.1 + 0.2 + 1e-17 is no float: the bound is of the exact sum of what is stored."""
    values = torch.tensor([0.1, 0.2, 1e-17], dtype=torch.float64)
    sparse = torch.sparse_coo_tensor(torch.zeros(2, 3, dtype=torch.int64), values, (1, 1), check_invariants=True)
    upper = spectral_norm_bound(sparse).upper
    exact = sum((rational(v) for v in values.tolist()), rational(0.0))
    assert exact <= rational(upper) <= exact * rational(1 + 1e-14)


# --------------------------------------------------------------------------------- other types and wrong arguments


@dataclass(frozen=True)
class Circulant:
    """A type that this library does not know."""

    row: Tensor


@as_operand.register
def _(A: Circulant, name: str = "A") -> Operand:
    return as_operand(torch.stack([A.row.roll(k) for k in range(len(A.row))]), name)


def test_a_registered_type_is_bounded_alone_and_in_products() -> None:
    shift = Circulant(torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64))
    assert 1 <= spectral_norm_bound(shift).upper <= 1 + 1e-12
    assert 1 <= spectral_norm_bound(Product(shift, shift)).upper <= 1 + 1e-12


class Doubling(Operand):
    """A subclass of one's own: 2 I, never written out."""

    shape = (10**9, 10**9)

    def norm_bound(self, order: str) -> Bound:
        return Bound(2.0, 2.0, "2")

    def apply(self, x: Tensor) -> Tensor:
        return 2 * x

    def apply_transposed(self, y: Tensor) -> Tensor:
        return 2 * y

    def entries(self) -> None:
        return None


def test_a_subclass_of_ones_own_needs_no_entries() -> None:
    assert spectral_norm_bound(Kronecker(Doubling(), Doubling(), randn(1, 1))).upper >= 4 * abs(float(randn(1, 1)))


@pytest.mark.parametrize("bad", ["a name", 3.0, [[1.0]], None, torch.nn.Linear(2, 2)])
def test_unknown_types_are_refused_by_name(bad: object) -> None:
    for call in (spectral_norm_bound, operator_norm_bound):
        with pytest.raises(InputError, match=rf"^[AW]: no norm is known of {type(bad).__qualname__}"):
            call(bad)
    with pytest.raises(InputError, match=r"^factor 2: no norm is known"):
        Product(randn(2, 2), bad)


def test_wrong_shapes_and_values_are_refused_by_name() -> None:
    good, nan = randn(3, 2), torch.full((2, 2), math.nan)
    wrong = {
        "factor 2: got shape": lambda: Product(good, good),
        "factors: none given; a Product": Product,
        "factors: none given; a Kronecker": Kronecker,
        r"factor 1: a matrix is needed, got shape \(2, 2, 2\)": lambda: Kronecker(randn(2, 2, 2)),
        r"factor 1: entry \[0, 0\] is not finite": lambda: Product(nan),
        r"A: entry \[0, 0\] is not finite": lambda: operator_norm_bound(nan),
        "A: dtype torch.int64 is no real": lambda: operator_norm_bound(torch.ones(2, 2, dtype=torch.int64)),
        "A: dtype torch.complex64 is no real": lambda: operator_norm_bound(torch.ones(2, 2, dtype=torch.complex64)),
        "V: got shape": lambda: LowRankPlusDiagonal(good, randn(2, 3), randn(3)),
        "d: got shape": lambda: LowRankPlusDiagonal(good, good, randn(2)),
        "U: a matrix": lambda: LowRankPlusDiagonal(randn(3), randn(3), randn(3)),
        "U: a dense tensor or a MidRad is needed, got list": lambda: LowRankPlusDiagonal([1.0], good, randn(3)),
        "A: a radius is negative": lambda: operator_norm_bound(MidRad(good, -good.abs())),
        "A: midpoints and radii must be": lambda: operator_norm_bound(MidRad(good, good[:1].abs())),
        "A: a sparse tensor needs two": lambda: operator_norm_bound(randn(2, 2, 2).to_sparse()),
        r"A: entry \[1\] is not finite": lambda: operator_norm_bound(torch.tensor([[1.0, math.inf]]).to_sparse()),
    }
    for message, call in wrong.items():
        with pytest.raises(InputError, match=f"^{message}"):
            call()


@pytest.mark.parametrize("order", ["l1", "l2", "linf"])
def test_zero_and_empty_operands(order: str) -> None:
    zero, empty = torch.zeros(3, 2, dtype=torch.float64), torch.zeros(0, 3, dtype=torch.float64)
    for operand in (
        zero,
        empty,
        Product(empty.T, empty),
        Product(empty, empty.T),
        Product(zero, zero.T),
        Kronecker(empty, zero),
        Kronecker(zero, randn(2, 2)),
        LowRankPlusDiagonal(zero, zero, torch.zeros(3)),
        LowRankPlusDiagonal(empty, empty, torch.zeros(0)),
        zero.to_sparse(),
        SparseMatrix.identity(0),
    ):
        bound = operator_norm_bound(operand, order)
        assert bound.lower_estimate == 0
        assert bound.upper <= 1e-300
    without = torch.zeros(3, 0, dtype=torch.float64)
    bound = operator_norm_bound(LowRankPlusDiagonal(without, without, torch.tensor([1.0, -3.0, 2.0])), order)
    assert 3 <= bound.upper <= 3 + 1e-12


def test_overflow_gives_infinity_not_a_number() -> None:
    huge = torch.full((2, 2), 1e300, dtype=torch.float64)
    for operand in (Product(huge, huge), Kronecker(huge, huge), LowRankPlusDiagonal(huge, huge, torch.ones(2))):
        for order in ("l1", "l2", "linf"):
            assert operator_norm_bound(operand, order).upper == math.inf
