"""Verified norms of dense matrices: never below the exact norm, and close to it."""

from __future__ import annotations

import math

import pytest
import torch
from exact import bounds_norm, seeded
from hypothesis import given
from operands import chains
from torch import Tensor

from deqops.verify import InputError, _spectral, spectral_norm_bound
from deqops.verify._midrad import MidRad
from deqops.verify._spectral import cholesky_deficit, inf_norm_bound, one_norm_bound

CLOSE = 1 + 1e-11


matrices = chains(factors=1).map(lambda factors: factors[0])


@given(matrices)
def test_bound_is_at_least_the_exact_norm_and_close(matrix: Tensor) -> None:
    upper = float(spectral_norm_bound(matrix))
    assert bounds_norm(matrix, upper)
    if upper > 1e-290:
        assert not bounds_norm(matrix, upper / CLOSE), "the bound is far above the norm"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_narrow_weights_are_taken_exactly(dtype: torch.dtype) -> None:
    matrix = torch.randn(5, 4, generator=seeded(1)).to(dtype)
    assert bounds_norm(matrix.double(), float(spectral_norm_bound(matrix)))


@pytest.mark.parametrize("size", [64, 300])
def test_overshoot_is_small_at_size(size: int) -> None:
    matrix = torch.randn(size, size // 2, generator=seeded(size), dtype=torch.float64)
    bound = spectral_norm_bound(matrix)
    assert bound.method == "Cholesky"
    assert float(bound) <= float(torch.linalg.matrix_norm(matrix, 2)) * (1 + 1e-10)


@pytest.mark.parametrize("share", [0.5, 0.9, 1 - 1e-6, 1 + 1e-6, 3.0])
def test_a_wrong_estimate_costs_tightness_only(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The estimate may be anything: the bound stays one, and within a factor that its steps allow."""
    matrix = torch.randn(6, 5, generator=seeded(11), dtype=torch.float64)
    truth = float(torch.linalg.matrix_norm(matrix, 2))
    monkeypatch.setattr(_spectral, "_estimate", lambda V, _: share * float(torch.linalg.matrix_norm(V, 2)))
    bound = spectral_norm_bound(matrix)
    assert bounds_norm(matrix, float(bound))
    if abs(share - 1) < 1e-3:
        assert bound.method == "Cholesky"
        assert float(bound) <= truth * (1 + 1e-5)


def test_a_wrong_factor_that_is_called_right_costs_tightness_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is assumed of LAPACK: at half the norm there is no factor, and whatever it returns has a residual."""
    matrix = torch.randn(6, 5, generator=seeded(11), dtype=torch.float64)
    truth = float(torch.linalg.matrix_norm(matrix, 2))
    success = torch.zeros((), dtype=torch.int32)
    monkeypatch.setattr(_spectral, "_estimate", lambda V, _: 0.5 * float(torch.linalg.matrix_norm(V, 2)))
    monkeypatch.setattr(torch.linalg, "cholesky_ex", lambda A: (torch.eye(len(A), dtype=A.dtype), success))
    bound = spectral_norm_bound(matrix)
    assert bounds_norm(matrix, float(bound))
    assert float(bound) <= 3 * truth


def test_a_gram_matrix_that_errs_as_much_as_it_may_is_paid_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product of 4096 terms may be 4096 units too small, in some order; the bound stays one."""
    matrix = torch.randn(4096, 2, generator=seeded(3), dtype=torch.float64)
    right, unit = _spectral._lower_product, 2.0**-53
    monkeypatch.setattr(_spectral, "_lower_product", lambda A, B: right(A, B) * (1 - 4000 * unit))
    monkeypatch.setattr(_spectral, "_estimate", lambda V, _: float(torch.linalg.matrix_norm(V, 2)) * (1 - 1990 * unit))
    bound = spectral_norm_bound(matrix)
    assert bound.method == "Cholesky"
    assert bounds_norm(matrix, float(bound))


@pytest.mark.parametrize("size", [300, 520])
def test_triangular_products_are_the_lower_triangles(size: int) -> None:
    """Sizes above one block, one of them no multiple of it; integers, so that both sides are exact."""
    lower = torch.randint(-5, 5, (size, size), generator=seeded(size)).double().tril()
    assert torch.equal(_spectral._lower_square(lower).tril(), (lower @ lower.T).tril())
    assert torch.equal(_spectral._lower_product(lower.T, lower).tril(), (lower.T @ lower).tril())


def test_a_spectrum_that_decays_slowly_is_bounded_closely() -> None:
    """The Lanczos estimate meets a dense cluster of singular values just below the norm."""
    generator = seeded(12)
    u, v = (torch.linalg.qr(torch.randn(320, 320, generator=generator, dtype=torch.float64))[0] for _ in "uv")
    matrix = u @ torch.diag(torch.linspace(1, 0.99, 320, dtype=torch.float64)) @ v
    assert 1 - 1e-13 <= float(spectral_norm_bound(matrix)) <= 1 + 1e-10


def test_ties_at_norm_one_are_not_below_one() -> None:
    """A permutation and an exact reflection have norm 1: no bound may say less."""
    reflection = torch.eye(8, dtype=torch.float64) - torch.full((8, 8), 0.25, dtype=torch.float64)
    for matrix in (torch.eye(5, dtype=torch.float64)[[1, 0, 3, 4, 2]], reflection):
        assert 1 <= float(spectral_norm_bound(matrix)) <= 1 + 1e-12


def test_plain_svdvals_falls_below_the_exact_norm_and_the_bound_does_not() -> None:
    below = 0
    for seed in range(40):
        matrix = torch.randn(5, 5, generator=seeded(seed), dtype=torch.float64)
        below += not bounds_norm(matrix, float(torch.linalg.svdvals(matrix)[0]))
        assert bounds_norm(matrix, float(spectral_norm_bound(matrix)))
    assert below > 5


def test_float32_singular_values_call_an_expansion_a_contraction() -> None:
    """||W|| = 1 + 3e-8 often looks below 1 in float32; the bound never does."""
    wrong = 0
    for seed in range(60):
        generator = seeded(seed)
        u, v = (torch.linalg.qr(torch.randn(10, 10, generator=generator, dtype=torch.float64))[0] for _ in "uv")
        matrix = u @ torch.diag(torch.linspace(1 + 3e-8, 0.1, 10, dtype=torch.float64)) @ v
        assert not bounds_norm(matrix, 1 + 2e-8)
        wrong += bool(torch.linalg.svdvals(matrix.float())[0] < 1)
        assert float(spectral_norm_bound(matrix)) > 1
    assert wrong > 0


def test_power_iteration_claims_contraction_where_the_bound_does_not() -> None:
    """numerics: after 10 power steps ||W|| = 1.0005 is mostly taken for a contraction."""
    fooled = 0
    for seed in range(30):
        generator = seeded(seed)
        u, v = (torch.linalg.qr(torch.randn(90, 90, generator=generator, dtype=torch.float64))[0] for _ in "uv")
        matrix = u @ torch.diag(torch.linspace(1.0005, 0.0, 90, dtype=torch.float64)) @ v
        x = torch.randn(90, generator=generator, dtype=torch.float64)
        for _ in range(10):
            x = matrix.T @ (matrix @ (x / x.norm()))
        fooled += float((matrix @ (x / x.norm())).norm()) < 1
        assert float(spectral_norm_bound(matrix)) > 1
    assert fooled > 15


def test_radius_is_added() -> None:
    mid = torch.randn(6, 6, generator=seeded(3), dtype=torch.float64)
    rad = torch.full_like(mid, 1e-3)
    upper = float(spectral_norm_bound(MidRad(mid, rad)))
    assert upper >= float(torch.linalg.matrix_norm(mid + rad, 2))
    assert upper >= float(torch.linalg.matrix_norm(mid - rad, 2))
    assert upper <= float(torch.linalg.matrix_norm(mid, 2)) + 6.1e-3


@given(matrices)
def test_row_and_column_sums_bound_exactly(matrix: Tensor) -> None:
    from fractions import Fraction

    entries = [[abs(Fraction(v)) for v in row] for row in matrix.tolist()]
    assert Fraction(inf_norm_bound(matrix)) >= max(sum(row) for row in entries)
    assert Fraction(one_norm_bound(matrix)) >= max(sum(column) for column in zip(*entries, strict=True))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_and_infinity_are_refused_not_bounded(bad: float) -> None:
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[1, 2] = bad
    for bound in (spectral_norm_bound, one_norm_bound, inf_norm_bound):
        with pytest.raises(InputError, match=r"entry \[1, 2\] is not finite; remove NaN"):
            bound(matrix)


def test_nan_through_cholesky_never_verifies() -> None:
    """torch's Cholesky may report success on non-finite input; the residual test must not."""
    gram = torch.eye(4, dtype=torch.float64)
    gram[3, 0] = gram[0, 3] = math.nan
    assert cholesky_deficit(gram, 2.0) is None
    gram[3, 0] = gram[0, 3] = math.inf
    assert cholesky_deficit(gram, 2.0) is None


def test_flushing_subnormals_is_noticed() -> None:
    from deqops import DeqopsError

    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush subnormal numbers")
    try:
        with pytest.raises(DeqopsError, match="subnormal"):
            spectral_norm_bound(torch.eye(2))
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1), (1, 7), (7, 1)])
def test_degenerate_shapes(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=seeded(5), dtype=torch.float64)
    upper = float(spectral_norm_bound(matrix))
    assert upper == 0 if not matrix.numel() else bounds_norm(matrix, upper)
