"""`operator_norm_bound` in every norm, against exact rational arithmetic."""

from __future__ import annotations

import math

import pytest
import torch
from exact import bounds_rational_norm, rational, rational_matrix, seeded
from flint import fmpq_mat
from hypothesis import given
from hypothesis import strategies as st
from operands import KINDS, exact_diagonal, exact_product, is_closely_above, largest_sum, matrix
from torch import Tensor

from deqops.verify import (
    InputError,
    Kronecker,
    LowRankPlusDiagonal,
    MidRad,
    Norm,
    Product,
    QuadraticNorm,
    _operator_norm,
    operator_norm_bound,
)
from deqops.verify._sparse import SparseMatrix


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def positive(size: int, seed: int) -> Tensor:
    return 10 ** (2 * torch.rand(size, generator=seeded(seed), dtype=torch.float64) - 1)


def weighted(w: fmpq_mat, weights: Tensor) -> fmpq_mat:
    n = w.nrows()
    factors = [rational(v) for v in weights.tolist()]
    return fmpq_mat(n, n, [w[i, j] * factors[i] / factors[j] for i in range(n) for j in range(n)])


def square_operands(n: int, seed: int) -> dict[str, tuple[object, fmpq_mat]]:
    """Every type of operand with its exact value; the signs are such that the sparse bound is sharp."""
    A, B, d = randn(n, 2, seed=seed), randn(2, n, seed=seed + 1), randn(n, seed=seed + 2)
    full = randn(n, n, seed=seed + 3)
    entries = full.abs() * (full > 0)
    return {
        "dense": (full, rational_matrix(full)),
        "product": (Product(A, B), exact_product([A, B])),
        "low rank": (LowRankPlusDiagonal(A, B.T, d), exact_product([A, B]) + exact_diagonal(d)),
        "sparse": (entries.to_sparse(), rational_matrix(entries)),
        "enclosure": (MidRad.exact(full), rational_matrix(full)),
    }


@given(st.integers(1, 6), st.integers(1, 6), st.sampled_from(KINDS), st.integers(0, 10**6))
def test_plain_norms_of_matrices(rows: int, cols: int, kind: str, seed: int) -> None:
    A = matrix(kind, rows, cols, seed)
    exact = rational_matrix(A)
    assert is_closely_above(exact, operator_norm_bound(A).upper)
    for order in ("l1", "linf"):
        truth, bound = largest_sum(exact, order), operator_norm_bound(A, order)
        assert truth <= rational(bound.upper) <= truth * rational(1 + 1e-14) + rational(1e-322)
        assert rational(bound.lower_estimate) <= rational(bound.upper)
        assert rational(bound.lower_estimate) >= truth * rational(1 - 1e-14)


@pytest.mark.parametrize("kind", list(square_operands(4, 1)))
@pytest.mark.parametrize("order", ["l1", "l2", "linf"])
@pytest.mark.parametrize("seed", [1, 2])
def test_weighted_norms_of_every_operand(kind: str, order: str, seed: int) -> None:
    operand, exact = square_operands(5, seed)[kind]
    weights = positive(5, seed)
    bound = operator_norm_bound(operand, Norm(order, (weights,)))
    scaled = weighted(exact, weights)
    if order == "l2":
        assert is_closely_above(scaled, bound.upper, 1 + 1e-9)
    else:
        truth = largest_sum(scaled, order)
        assert truth <= rational(bound.upper) <= truth * rational(1 + 1e-12)
    assert 0.5 * bound.upper <= bound.lower_estimate <= bound.upper


def test_weights_of_a_kronecker_product_too_large_to_write_out_cost_their_ratio() -> None:
    A = randn(80, 80, seed=5)
    weights = torch.ones(6400, dtype=torch.float64)
    weights[0] = 2.0
    plain = operator_norm_bound(Kronecker(A, A), "linf").upper
    assert plain < operator_norm_bound(Kronecker(A, A), Norm("linf", (weights,))).upper <= 2 * plain * (1 + 1e-15)


def test_weights_that_make_a_shear_a_near_tie() -> None:
    """diag(1, 2^k) shrinks the shear below its diagonal of norm 1: the bound stays at least 1."""
    shear = torch.tensor([[1.0, 3.0], [0.0, 0.5]], dtype=torch.float64)
    weights = torch.tensor([1.0, 2.0**30], dtype=torch.float64)
    for order in ("l1", "l2", "linf"):
        assert 1 <= operator_norm_bound(shear, Norm(order, (weights,))).upper <= 1 + 1e-8


@pytest.mark.parametrize("kind", list(square_operands(4, 1)))
@pytest.mark.parametrize("seed", range(3))
def test_quadratic_norms_of_every_operand(kind: str, seed: int) -> None:
    operand, exact = square_operands(4, seed)[kind]
    R = randn(4, 4, seed=seed + 70)
    conjugated = rational_matrix(R) * exact * rational_matrix(R).inv()
    bound = operator_norm_bound(operand, QuadraticNorm(R))
    assert bounds_rational_norm(conjugated, bound.upper)
    assert not bounds_rational_norm(conjugated, bound.upper / (1 + 1e-9))
    assert 0.5 * bound.upper <= bound.lower_estimate <= bound.upper


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_narrow_roots_are_taken_exactly(dtype: torch.dtype) -> None:
    R, A = (randn(3, 3, seed=80) + 3 * torch.eye(3)).to(dtype), randn(3, 3, seed=81).to(dtype)
    r, a = rational_matrix(R.double()), rational_matrix(A.double())
    assert is_closely_above(r * a * r.inv(), operator_norm_bound(A, QuadraticNorm(R)).upper)


def test_a_quadratic_norm_in_which_a_shear_contracts() -> None:
    A = torch.tensor([[0.5, 40.0], [0.0, 0.5]], dtype=torch.float64)
    R = torch.tensor([[1.0, 0.0], [0.0, 400.0]], dtype=torch.float64)
    assert operator_norm_bound(A).upper > 40
    assert operator_norm_bound(A, QuadraticNorm(R)).upper < 0.6


@pytest.mark.parametrize("scale", [1e-60, 1e60])
def test_the_scale_of_the_root_does_not_matter(scale: float) -> None:
    R, A = randn(4, 4, seed=82), randn(4, 4, seed=83)
    plain, scaled = (operator_norm_bound(A, QuadraticNorm(R * s)).upper for s in (1.0, scale))
    assert scaled == pytest.approx(plain, rel=1e-12)


def test_singular_roots_are_refused() -> None:
    A = randn(2, 2)
    nearly = torch.tensor([[1.0, 1.0], [1.0, 1.0 + 2.0**-52]], dtype=torch.float64)
    for R in (torch.zeros(2, 2), torch.ones(2, 2), nearly * 1e8):
        with pytest.raises(InputError, match=r"^norm: R is not shown to be invertible"):
            operator_norm_bound(A, QuadraticNorm(R))


def test_operands_too_large_for_a_quadratic_norm_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_operator_norm, "LARGEST", 4)
    with pytest.raises(InputError, match=r"^A: 5 rows are too many"):
        operator_norm_bound(SparseMatrix.identity(5), QuadraticNorm(torch.eye(5)))


def test_wrong_norms_are_refused_by_name() -> None:
    A, wide = randn(3, 3), randn(2, 3)
    ones = torch.ones(3, dtype=torch.float64)
    wrong = {
        "norm: got 'auto'; choose 'l1'": lambda: operator_norm_bound(A, "auto"),
        "norm: got 2; choose": lambda: operator_norm_bound(A, 2),  # type: ignore[arg-type]
        r"A: got shape \(2, 3\)": lambda: operator_norm_bound(wide, Norm("l1", (ones,))),
        r"A: got shape \(2, 3\); this": lambda: operator_norm_bound(wide, QuadraticNorm(torch.eye(3))),
        r"norm: weights of shapes \[\(2,\)\]": lambda: operator_norm_bound(A, Norm("l2", (ones[:2],))),
        r"norm: weights of shapes \[\(3,\), \(3,\)\]": lambda: operator_norm_bound(A, Norm("l2", (ones, ones))),
        r"norm: R has shape \(2, 2\)": lambda: operator_norm_bound(A, QuadraticNorm(torch.eye(2))),
        r"root: a square matrix is needed, got shape \(2, 3\)": lambda: QuadraticNorm(wide),
        "root: entry": lambda: QuadraticNorm(torch.full((2, 2), math.nan)),
        "root: dtype": lambda: QuadraticNorm(torch.ones(2, 2, dtype=torch.int32)),
    }
    for message, call in wrong.items():
        with pytest.raises(InputError, match=f"^{message}"):
            call()
