"""Midpoint-radius arithmetic and directed rounding against exact rational arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from exact import fractions, seeded
from hypothesis import given
from hypothesis import strategies as st

from deqops.verify import _midrad as midrad
from deqops.verify import _rounding as rounding
from deqops.verify import lowest_eigenvalue_bound, spectral_norm_bound
from deqops.verify._midrad import MidRad

numbers = st.floats(-(2.0**500), 2.0**500, allow_subnormal=True) | st.floats(-4, 4)
positive = st.floats(0, 2.0**300, allow_subnormal=True) | st.floats(0, 4)
PAIRS: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
}


@given(numbers, numbers, st.sampled_from(sorted(PAIRS)))
def test_directed_operations_enclose_the_exact_result(a: float, b: float, name: str) -> None:
    if name == "div" and b == 0:
        return
    exact = PAIRS[name](Fraction(a), Fraction(b))
    low, high = (float(getattr(rounding, f"{name}_{way}")(a, b)) for way in ("down", "up"))
    if abs(low) < float("inf"):
        assert Fraction(low) <= exact
    if abs(high) < float("inf"):
        assert exact <= Fraction(high)
        assert high - low <= 2.3e-16 * max(abs(high), abs(low)) * 2 + 1e-320


@given(st.lists(positive, min_size=1, max_size=20))
def test_sums_and_products_of_nonnegatives_are_bounded(values: list[float]) -> None:
    x = torch.tensor(values, dtype=torch.float64)
    exact = sum((Fraction(v) for v in values), Fraction(0))
    assert Fraction(float(rounding.sum_up(x))) >= exact
    assert float(rounding.sum_up(x)) <= float(x.sum()) * (1 + 1e-13) + 1e-300
    squares = sum((Fraction(v) * Fraction(v) for v in values), Fraction(0))
    assert Fraction(float(rounding.matmul_up(x[None], x[:, None]))) >= squares


@pytest.mark.parametrize("k", [1, 2, 1000, 10**9])
def test_gamma_is_an_upper_bound(k: int) -> None:
    u = Fraction(1, 2**53)
    exact = k * u / (1 - k * u)
    assert exact <= Fraction(rounding.gamma(k)) <= exact * (1 + Fraction(1, 10**14))


def intervals(seed: int, *shape: int, spread: float) -> MidRad:
    generator = seeded(seed)
    mid = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return MidRad(mid, spread * torch.rand(*shape, generator=generator, dtype=torch.float64))


def inside(x: MidRad, share: float) -> list[Fraction]:
    """Points of the intervals, exactly, in row-major order."""
    pairs = zip(x.mid.reshape(-1).tolist(), x.rad.reshape(-1).tolist(), strict=True)
    return [Fraction(m) + Fraction(share) * Fraction(r) for m, r in pairs]


def rows(values: list[Fraction], width: int) -> list[list[Fraction]]:
    return [values[k : k + width] for k in range(0, len(values), width)]


SHARES = (-1.0, -0.3, 0.0, 0.8, 1.0)


@pytest.mark.parametrize("name", sorted(PAIRS))
@pytest.mark.parametrize("spread", [0.0, 1e-9, 0.1])
def test_elementwise_arithmetic_encloses(name: str, spread: float) -> None:
    a, b = intervals(1, 40, spread=spread), intervals(2, 40, spread=spread)
    found = getattr(midrad, name)(a, b)
    for s in SHARES:
        for t in SHARES:
            x, y = inside(a, s), inside(b, t)
            for u, v, low, high in zip(x, y, found.lower().tolist(), found.upper().tolist(), strict=True):
                if abs(high) < float("inf"):
                    assert Fraction(low) <= PAIRS[name](u, v) <= Fraction(high)
    if spread == 0:
        assert float((found.rad / found.mid.abs().clamp(min=1e-3)).max()) < 1e-12


@pytest.mark.parametrize("spread", [0.0, 1e-6, 0.5])
def test_matrix_products_enclose(spread: float) -> None:
    a, b = intervals(3, 4, 5, spread=spread), intervals(4, 5, 3, spread=spread)
    found = midrad.matmul(a, b)
    low, high = fractions(found.lower()), fractions(found.upper())
    for s in SHARES:
        x, y = rows(inside(a, s), 5), rows(inside(b, -s), 3)
        for i in range(4):
            for j in range(3):
                exact = sum(x[i][k] * y[k][j] for k in range(5))
                assert low[i][j] <= exact <= high[i][j]
    if spread == 0:
        assert float(found.rad.max()) < 1e-14


def test_products_that_underflow_are_enclosed() -> None:
    a = MidRad.exact(torch.full((1, 3), 2.0**-600, dtype=torch.float64))
    found = midrad.matmul(a, MidRad.exact(torch.full((3, 1), 2.0**-500, dtype=torch.float64)))
    assert Fraction(float(found.upper())) >= 3 * Fraction(1, 2**1100)


@pytest.mark.parametrize("reduce", ["sum", "mean", "index_add"])
def test_sums_enclose(reduce: str) -> None:
    x = intervals(5, 30, spread=1e-3)
    index = torch.arange(30) % 4
    for s in SHARES:
        values = inside(x, s)
        if reduce == "index_add":
            base = MidRad.exact(torch.ones(4, dtype=torch.float64))
            found = midrad.index_add(base, 0, index, x)
            exact = [
                1 + sum((v for v, k in zip(values, index.tolist(), strict=True) if k == n), Fraction(0))
                for n in range(4)
            ]
        else:
            found = midrad.sum_(x, (0,), True) if reduce == "sum" else midrad.mean(x, (0,), True)
            exact = [sum(values, Fraction(0)) / (1 if reduce == "sum" else 30)]
        for truth, low, high in zip(exact, found.lower().tolist(), found.upper().tolist(), strict=True):
            assert Fraction(low) <= truth <= Fraction(high)


def test_intervals_around_parameters_are_computed_with_like_others() -> None:
    W = torch.nn.Parameter(intervals(3, 3, 3, spread=0.0).mid)
    spread = torch.full((3, 3), 1e-9, dtype=torch.float64)
    given, plain = MidRad(W, spread), MidRad(W.detach(), spread)
    for operation in (midrad.add, midrad.sub, midrad.mul, midrad.div, midrad.matmul):
        assert torch.equal(operation(given, given).rad, operation(plain, plain).rad)
    assert spectral_norm_bound(given).upper == spectral_norm_bound(plain).upper
    assert lowest_eigenvalue_bound(W + W.T) == lowest_eigenvalue_bound(W.detach() + W.detach().T)


def test_division_by_an_interval_around_zero_is_open_not_wrong() -> None:
    one = MidRad.exact(torch.ones(1, dtype=torch.float64))
    around = MidRad(torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
    assert not midrad.div(one, around).is_finite()


def test_comparisons_are_decided_only_when_they_are() -> None:
    a = MidRad(torch.tensor([0.0, 2.0, 1.0], dtype=torch.float64), torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64))
    b = MidRad.exact(torch.tensor([0.2, 1.0, 1.0], dtype=torch.float64))
    decided, truth = midrad.compare("gt", a, b)
    assert decided.tolist() == [False, True, True]
    assert truth.tolist()[1:] == [True, False]


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=10))
def test_from_bounds_contains_both_ends(pairs: list[tuple[float, float]]) -> None:
    low = torch.tensor([min(p) for p in pairs], dtype=torch.float64)
    high = torch.tensor([max(p) for p in pairs], dtype=torch.float64)
    found = MidRad.from_bounds(low, high)
    assert bool((found.lower() <= low).all() & (found.upper() >= high).all())
