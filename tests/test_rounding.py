"""The floating-point trust base: edges of binary64, long sums, and the environment it asks for."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from exact import seeded

from deqops import DeqopsError, InputError
from deqops.verify import (
    Norm,
    certify,
    check,
    enclose,
    lipschitz_bound,
    nonexpansive_bound,
    nystrom_bound,
    operator_norm_bound,
    projection_bound,
    quadrature,
    rounding_floor,
)
from deqops.verify import _midrad as midrad
from deqops.verify import _rounding as rounding
from deqops.verify._midrad import MidRad
from deqops.verify._sparse import SparseMatrix
from deqops.verify._spectral import inf_norm_bound, one_norm_bound

LARGEST = math.ldexp(2 - 2.0**-52, 1023)
EDGES = [0.0, -0.0, 5e-324, 2.0**-1022, 2.0**-1022 - 5e-324, 2.0**-537, 0.5, 1.0, 1 + 2.0**-52, 3.0, 2.0**600, LARGEST]
SIGNED = [s * v for v in EDGES for s in (1.0, -1.0)]


def doubles(count: int) -> torch.Tensor:
    """Random bit patterns that are numbers: every exponent, subnormal ones included."""
    bits = torch.randint(-(2**63), 2**63 - 1, (2 * count,), generator=seeded(0))
    values = bits.view(torch.float64)
    return values[values.isfinite()][:count]


def test_neighbours_are_the_ones_of_the_standard_library() -> None:
    """torch's vectorised nextafter, over lengths that use its vector and its scalar code."""
    x = torch.cat([doubles(5000), torch.tensor([*SIGNED, math.inf, -math.inf], dtype=torch.float64)])
    assert rounding.next_up(x).tolist() == [math.nextafter(v, math.inf) for v in x.tolist()]
    assert rounding.next_down(x).tolist() == [math.nextafter(v, -math.inf) for v in x.tolist()]
    for length in (1, 2, 3, 5):
        assert rounding.next_up(x[:length]).tolist() == [math.nextafter(v, math.inf) for v in x[:length].tolist()]
    assert bool(rounding.next_up(torch.tensor([math.nan], dtype=torch.float64)).isnan())


def exact(name: str, a: float, b: float) -> Fraction | None:
    x, y = Fraction(a), Fraction(b)
    if name == "div":
        return x / y if y else None
    return {"add": x + y, "sub": x - y, "mul": x * y}[name]


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div"])
def test_directed_operations_at_the_edges_of_binary64(name: str) -> None:
    """Overflow ends at infinity on one side and at the largest number on the other; underflow is never lost."""
    pairs = [(a, b) for a in SIGNED for b in SIGNED]
    drawn = doubles(4000).tolist()
    pairs += list(zip(drawn[::2], drawn[1::2], strict=True))
    a, b = (torch.tensor(column, dtype=torch.float64) for column in zip(*pairs, strict=True))
    low, high = (getattr(rounding, f"{name}_{way}")(a, b).tolist() for way in ("down", "up"))
    for (x, y), lower, upper in zip(pairs, low, high, strict=True):
        truth = exact(name, x, y)
        if truth is not None:
            assert lower == -math.inf or Fraction(lower) <= truth, (x, y)
            assert upper == math.inf or truth <= Fraction(upper), (x, y)
            assert lower != math.inf, (x, y)
            assert upper != -math.inf, (x, y)


def test_sums_of_nonnegatives_are_bounded_within_two_units() -> None:
    drawn = doubles(4000).abs()
    near = drawn[::2] * (1 + torch.rand(2000, generator=seeded(1), dtype=torch.float64) * 2.0**-30)
    pairs = [(a, b) for a in EDGES for b in EDGES]
    pairs += list(zip(drawn[::2].tolist(), [*drawn[1:2000:2].tolist(), *near[1000:].tolist()], strict=True))
    a, b = (torch.tensor(column, dtype=torch.float64).abs() for column in zip(*pairs, strict=True))
    for x, y, upper in zip(a.tolist(), b.tolist(), rounding.plus_up(a, b).tolist(), strict=True):
        assert upper == math.inf or Fraction(x) + Fraction(y) <= Fraction(upper), (x, y)
        assert upper <= math.nextafter(math.nextafter(x + y, math.inf), math.inf), (x, y)
        assert upper > 0 or x + y == 0
    assert rounding.plus_up(0.0, torch.zeros(3)).tolist() == [0.0, 0.0, 0.0]


def test_products_of_nonnegatives_are_bounded_within_two_units() -> None:
    """One by one and all together: who underflows decides for all."""
    drawn = doubles(2000).abs().tolist()
    pairs = [(abs(a), abs(b)) for a in EDGES for b in EDGES] + list(zip(drawn[::2], drawn[1::2], strict=True))
    a, b = (torch.tensor(column, dtype=torch.float64) for column in zip(*pairs, strict=True))
    alone = [float(rounding.times_up(x, y)) for x, y in zip(a, b, strict=True)]
    for uppers in (alone, rounding.times_up(a, b).tolist()):
        for (x, y), upper in zip(pairs, uppers, strict=True):
            assert upper == math.inf or Fraction(x) * Fraction(y) <= Fraction(upper), (x, y)
            assert upper <= math.nextafter(math.nextafter(x * y, math.inf), math.inf), (x, y)
            assert upper > 0 or x == 0 or y == 0, (x, y)
    assert bool(rounding.times_up(torch.tensor([0.0, 1.0]), math.inf).isnan()[0])
    ends = torch.tensor([0.0, 2.0**-600], dtype=torch.float64), torch.tensor([math.inf, 2.0**-600], dtype=torch.float64)
    assert float(rounding.times_up(*ends)[1]) > 0  # beside what is no number, too
    row = torch.tensor([0.0, 1.0, 2.0**-1000], dtype=torch.float64)
    assert rounding.times_up(torch.tensor([[0.0], [2.0]]), row).count_nonzero() == 2


@pytest.mark.parametrize("scale", [1.0, 2.0**-500, 2.0**-530, 2.0**-540])
def test_errors_of_products_are_bounded_and_not_loosely(scale: float) -> None:
    """Products that underflow included; where a row of A is 0 and nothing underflows, the error is 0."""
    A, B = (torch.randn(4, 4, generator=seeded(k), dtype=torch.float64) * scale for k in (1, 2))
    A[0] = 0
    bound = rounding.product_error_up(A.abs(), B.abs())
    computed, least = A @ B, Fraction(2) ** -1074
    for i in range(4):
        for j in range(4):
            terms = [Fraction(float(A[i, k])) * Fraction(float(B[k, j])) for k in range(4)]
            found, size = Fraction(float(bound[i, j])), sum(map(abs, terms))
            assert abs(Fraction(float(computed[i, j])) - sum(terms)) <= found
            assert found <= 7 * size / 2**53 + 12 * least
    assert scale != 1.0 or bool((bound[0] == 0).all())


def test_directed_square_roots() -> None:
    x = torch.cat([doubles(2000).abs(), torch.tensor(EDGES, dtype=torch.float64)])
    low, high = rounding.sqrt_down(x).tolist(), rounding.sqrt_up(x).tolist()
    for value, lower, upper in zip(x.tolist(), low, high, strict=True):
        assert Fraction(lower) ** 2 <= Fraction(value) <= Fraction(upper) ** 2


def test_obvious_results_are_exact() -> None:
    for way in ("up", "down"):
        assert float(getattr(rounding, f"mul_{way}")(0.0, 0.3)) == 0
        assert float(getattr(rounding, f"mul_{way}")(1.0, 0.3)) == 0.3
        assert float(getattr(rounding, f"div_{way}")(0.3, 1.0)) == 0.3
        assert float(getattr(rounding, f"add_{way}")(0.5, 0.25)) == 0.75
        assert float(getattr(rounding, f"sqrt_{way}")(1.0)) == 1


@pytest.mark.parametrize("size", [1, 7, 1000, 100_000])
@pytest.mark.parametrize("scale", [0, -540, -1060, 400])
def test_long_sums_are_bounded_and_not_loosely(size: int, scale: int) -> None:
    x = torch.rand(size, generator=seeded(size), dtype=torch.float64) * 2.0**scale
    numbers = [Fraction(v) for v in x.tolist()]
    total, squares = sum(numbers), sum(v * v for v in numbers)
    slack = 1 + Fraction(5 * (size + 3), 2**53)
    underflow = Fraction(4 * (size + 2), 2**1074)
    for found, truth in ((rounding.sum_up(x), total), (rounding.sum_of_squares_up(x), squares)):
        assert truth <= Fraction(float(found)) <= truth * slack + underflow


def test_a_sum_of_squares_passes_on_what_is_no_number() -> None:
    for bad in (math.nan, math.inf, -math.inf):
        x = torch.ones(9, dtype=torch.float64)
        x[4] = bad
        assert not bool(rounding.sum_of_squares_up(x).isfinite())


@pytest.mark.parametrize("k", [-1, 2**52])
def test_gamma_refuses_what_it_cannot_bound(k: int) -> None:
    with pytest.raises(InputError, match="too long"):
        rounding.gamma(k)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_only_real_floating_dtypes_are_taken_exactly(dtype: torch.dtype) -> None:
    with pytest.raises(InputError, match="dtype"):
        rounding.exact_float64(torch.ones(2).to(dtype))


@pytest.mark.parametrize(("dtype", "least"), [(torch.float16, 2.0**-24), (torch.bfloat16, 2.0**-133)])
def test_narrow_subnormals_are_taken_exactly(dtype: torch.dtype, least: float) -> None:
    assert rounding.exact_float64(torch.tensor([least], dtype=dtype)).tolist() == [least]


def test_every_norm_notices_flushed_subnormals() -> None:
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush subnormal numbers")
    square = torch.eye(2, dtype=torch.float64)
    try:
        for bound in (one_norm_bound, inf_norm_bound):
            with pytest.raises(rounding.DeqopsError, match="subnormal"):
                bound(square)
        with pytest.raises(rounding.DeqopsError, match="subnormal"):
            SparseMatrix.identity(2).norm_bound("l1")
    finally:
        torch.set_flush_denormal(False)


def test_an_interval_whose_ends_are_swapped_is_poisoned() -> None:
    """An upstream defect must not become a negative radius, which would shrink what it is added to."""
    found = MidRad.from_bounds(torch.tensor([2.0]).double(), torch.tensor([1.0]).double())
    assert not found.is_finite()


def test_overflow_is_open_not_wrong() -> None:
    big = MidRad.exact(torch.tensor([[LARGEST, LARGEST]], dtype=torch.float64))
    ones = MidRad.exact(torch.tensor([[1.0], [-1.0]], dtype=torch.float64))
    index = torch.tensor([0, 0])
    zero = MidRad.exact(torch.zeros(1, dtype=torch.float64))
    results = [
        midrad.matmul(big, ones),
        midrad.matmul(big, midrad.absolute(ones)),
        midrad.sum_(big, (1,), False),
        midrad.index_add(zero, 0, index, big.apply_exact(lambda t: t[0])),
        midrad.add(big, big),
        midrad.mul(big, big),
    ]
    assert not any(bool(r.rad.isfinite().any()) for r in results)


def test_no_bound_is_computed_where_subnormals_are_flushed() -> None:
    """`z/2 + x` at x = 1e-310 is 1e-310 from its equilibrium per unit; flushed, the residual would be 0."""
    y, x = torch.zeros(1, 2, dtype=torch.float64), torch.full((1, 2), 1e-310, dtype=torch.float64)
    certificate = certify(half, y, x)
    assert float(certificate.error_bound(half, y, x).linf) >= 2e-310
    ball, rule = enclose(certificate, half, y, x), quadrature("midpoint", 0.0, 1.0, 2)
    floor, weights = rounding_floor(certificate, half, y, x, radius=1e-300), Norm("linf", (torch.ones(2).double(),))
    nonexpansive = nonexpansive_bound(lambda z: z.clamp(-1, 1), y)
    bounds = (
        lambda: certificate.error_bound(half, y, x),
        lambda: certificate.distance_bound(y, x),
        lambda: certificate.iterations(1e-6, 1e-310),
        lambda: ball.contains(x),
        lambda: floor.after(3, 1e-310),
        lambda: nonexpansive.residual_bound(3),
        lambda: lipschitz_bound(lambda z: 1e-310 * z, y, norm="linf"),
        lambda: certify(half, y, x, norm="linf"),
        lambda: certify(half, y, x, norm="l1"),
        lambda: certify(half, y, x, theorem="componentwise"),
        lambda: operator_norm_bound(torch.eye(2).double() * 1e-310, weights),
        lambda: operator_norm_bound(torch.eye(2).double() * 1e-310, "l1"),
        lambda: projection_bound(0.5, 1.0, 1e-310),
        lambda: rule.defect_bound(1e-310),
        lambda: nystrom_bound(rule, 1e-310, 1.0, 1e-310),
    )
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush subnormal numbers")
    try:
        for bound in bounds:
            with pytest.raises(DeqopsError, match="flushed to zero"):
                bound()
        report = check(certificate, half, y, x)
    finally:
        torch.set_flush_denormal(False)
    assert not report.accepted
    assert "flushed to zero" in report.reasons[0]
    for bound in bounds:
        bound()


def half(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return 0.5 * z + x
