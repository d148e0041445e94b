"""Verified norms of convolutions: never below the exact norm of the operator that torch computes, and close to it."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
import torch
from convolutions import MODES, cases, integer_kernel, operator_matrix, squared_norm_from_below
from exact import ball, bounds_norm, is_positive_semidefinite, rational, rational_matrix, seeded
from flint import arb, ctx, fmpq, fmpq_mat
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from deqops.verify import InputError, _convolution
from deqops.verify._convolution import convolution_norm_bound, transposed_convolution_norm_bound

CLOSE = 1 + 1e-9


def assert_bounds(bound: float, matrix: Tensor, factor: float) -> None:
    """`norm <= bound <= factor norm`, the norm taken from below exactly."""
    below = squared_norm_from_below(matrix)
    assert Fraction(bound) ** 2 >= below
    assert Fraction(bound) ** 2 <= below * Fraction(factor) ** 2


CIRCULAR = [
    ((3, 2, 3), (8,), {"padding": 1}),
    ((2, 3, 5), (7,), {"padding": 2}),
    ((2, 2, 4), (6,), {"padding": "same"}),
    ((2, 2, 3), (9,), {"padding": 2, "dilation": 2}),
    ((4, 3, 3), (8,), {"padding": 1, "stride": 2}),
    ((2, 4, 3), (9,), {"padding": 1, "stride": 3}),
    ((2, 2, 2), (6,), {"padding": 0, "stride": 2}),
    ((2, 2, 7), (3,), {"padding": 3}),
    ((3, 4, 1), (5,), {"padding": 0}),
    ((4, 1, 3), (6,), {"padding": 1, "groups": 2}),
    ((2, 2, 2), (4,), {"padding": 2, "stride": 6}),
    ((2, 2, 5), (4,), {"padding": 4}),
    ((2, 3, 3, 3), (5, 4), {"padding": 1}),
    ((3, 2, 3, 2), (4, 6), {"padding": (1, 0), "stride": (1, 2)}),
    ((2, 2, 3, 3), (6, 4), {"padding": 1, "stride": 2}),
    ((2, 2, 3, 2), (4, 5), {"padding": "same", "dilation": (1, 2)}),
    ((4, 2, 2, 2), (4, 4), {"padding": 0, "stride": 2, "groups": 2}),
    ((2, 3, 1, 1), (2, 3), {"padding": 0}),
    ((2, 2, 5, 3), (2, 3), {"padding": (2, 1)}),
]


@pytest.mark.parametrize(("shape", "size", "settings"), CIRCULAR)
def test_circular_bounds_are_the_norm_up_to_rounding(
    shape: tuple[int, ...], size: tuple[int, ...], settings: dict[str, Any]
) -> None:
    """Each case puts out every position of the torus, or of a residue class, equally often."""
    kernel = integer_kernel(*shape, seed=sum(shape))
    matrix = operator_matrix(kernel, size, padding_mode="circular", **settings)
    assert_bounds(convolution_norm_bound(kernel, size, padding_mode="circular", **settings), matrix, CLOSE)


@pytest.mark.parametrize(
    ("shape", "size", "settings", "factor"),
    [
        ((3, 2, 3), (16,), {"padding": 1}, 1.02),
        ((2, 3, 5), (16,), {"padding": 2, "dilation": 2}, 1.2),
        ((2, 2, 3), (16,), {"padding": 1, "stride": 2}, 1.05),
        ((2, 2, 5), (15,), {"padding": "same"}, 1.1),
        ((2, 2, 3), (16,), {"padding": "valid"}, 1.05),
        ((2, 2, 2), (5,), {"padding": 9}, 1.2),
        ((2, 2, 9), (3,), {"padding": 4}, 1.3),
        ((2, 2, 9, 3), (3, 6), {"padding": (3, 1)}, 1.35),
        ((2, 2, 3, 3), (16, 16), {"padding": 1}, 1.05),
        ((2, 2, 3, 3), (12, 10), {"padding": (1, 0), "stride": (2, 3)}, 1.1),
        ((4, 1, 3, 3), (8, 8), {"padding": 1, "groups": 4}, 1.1),
        ((2, 3, 1, 1), (4, 4), {"padding": 2}, CLOSE),
    ],
)
def test_zero_padding_is_bounded_by_a_slightly_larger_torus(
    shape: tuple[int, ...], size: tuple[int, ...], settings: dict[str, Any], factor: float
) -> None:
    kernel = integer_kernel(*shape, seed=sum(shape))
    matrix = operator_matrix(kernel, size, padding_mode="zeros", **settings)
    assert_bounds(convolution_norm_bound(kernel, size, padding_mode="zeros", **settings), matrix, factor)


@pytest.mark.parametrize("mode", ["reflect", "replicate"])
@pytest.mark.parametrize(
    ("shape", "size", "settings", "factor"),
    [
        ((3, 2, 3), (16,), {"padding": 1}, 1.5),
        ((2, 2, 5), (10,), {"padding": 2, "stride": 2}, 2.0),
        ((2, 2, 3, 3), (8, 8), {"padding": 1}, 2.1),
        ((2, 2, 1), (3,), {"padding": 2}, CLOSE),
        ((2, 2, 1, 1), (3, 4), {"padding": (1, 2)}, CLOSE),
    ],
)
def test_copying_paddings_cost_the_norm_of_their_map(
    mode: str, shape: tuple[int, ...], size: tuple[int, ...], settings: dict[str, Any], factor: float
) -> None:
    """With a 1 x 1 kernel the map's norm is reached, so nothing smaller would do."""
    kernel = integer_kernel(*shape, seed=sum(shape))
    matrix = operator_matrix(kernel, size, padding_mode=mode, **settings)
    assert_bounds(convolution_norm_bound(kernel, size, padding_mode=mode, **settings), matrix, factor)


@settings(max_examples=150)
@given(cases())
def test_bound_is_at_least_the_exact_norm(case: tuple[Tensor, tuple[int, ...], dict[str, Any]]) -> None:
    kernel, size, options = case
    matrix = operator_matrix(kernel, size, **options)
    assert Fraction(convolution_norm_bound(kernel, size, **options)) ** 2 >= squared_norm_from_below(matrix)


@settings(max_examples=60)
@given(cases(), st.integers(0, 3))
def test_transposed_bound_is_at_least_the_exact_norm(
    case: tuple[Tensor, tuple[int, ...], dict[str, Any]], extra: int
) -> None:
    kernel, size, options = case
    del options["padding_mode"]
    options["padding"] = tuple(
        0 if side == 1 else min(pad, 1) for side, pad in zip(size, options["padding"], strict=True)
    )
    wide = zip(options["stride"], options["dilation"], strict=True)
    options["output_padding"] = tuple(min(extra, max(step, gap) - 1) for step, gap in wide)
    channels = kernel.shape[0]
    inputs = channels * math.prod(size)
    unit = torch.eye(inputs, dtype=torch.float64).reshape(inputs, channels, *size)
    apply = functional.conv_transpose1d if len(size) == 1 else functional.conv_transpose2d
    try:
        matrix = apply(unit, kernel, **options).reshape(inputs, -1).T
    except RuntimeError:
        with pytest.raises(InputError, match="leaves an output of size"):
            transposed_convolution_norm_bound(kernel, size, **options)
        return
    bound = transposed_convolution_norm_bound(kernel, size, **options)
    assert Fraction(bound) ** 2 >= squared_norm_from_below(matrix)


def test_transposed_bound_is_close() -> None:
    kernel = integer_kernel(2, 3, 4, 4, seed=8)
    unit = torch.eye(2 * 64, dtype=torch.float64).reshape(128, 2, 8, 8)
    matrix = functional.conv_transpose2d(unit, kernel, stride=2, padding=1).reshape(128, -1).T
    assert_bounds(transposed_convolution_norm_bound(kernel, (8, 8), stride=2, padding=1), matrix, 1.05)


@pytest.mark.parametrize("mode", ["circular", "zeros"])
def test_bound_of_real_weights_holds_exactly(mode: str) -> None:
    """Rationals decide: `bound^2 I - A^T A` is positive semidefinite, and not for a bound slightly smaller."""
    for seed in range(4):
        kernel = torch.randn(2, 2, 3, generator=seeded(seed), dtype=torch.float64)
        matrix = operator_matrix(kernel, (6,), padding_mode=mode, padding=1)
        bound = convolution_norm_bound(kernel, (6,), padding_mode=mode, padding=1)
        assert bounds_norm(matrix, bound)
        assert not bounds_norm(matrix, bound / (1 + 1e-12 if mode == "circular" else 1.3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_narrow_weights_are_taken_exactly(dtype: torch.dtype) -> None:
    kernel = torch.randn(2, 3, 3, generator=seeded(1)).to(dtype)
    options: dict[str, Any] = {"padding_mode": "circular", "padding": 1}
    bound = convolution_norm_bound(kernel, (5,), **options)
    assert bound == convolution_norm_bound(kernel.double(), (5,), **options)
    assert bounds_norm(operator_matrix(kernel.double(), (5,), **options), bound)


@pytest.mark.parametrize(("channels", "side"), [(64, 32), (7, 33)])
def test_overshoot_is_small_at_size(channels: int, side: int) -> None:
    kernel = torch.randn(channels, channels, 3, 3, generator=seeded(2))
    symbols = torch.fft.rfft2(kernel.double(), s=(side, side)).permute(2, 3, 0, 1)
    estimate = float(torch.linalg.matrix_norm(symbols, 2).max())
    bound = convolution_norm_bound(kernel, (side, side), padding_mode="circular", padding=1)
    assert estimate * (1 - 1e-12) <= bound <= estimate * (1 + 2e-12)


@pytest.mark.parametrize("shape", [(12, 3, 3, 3), (3, 12, 3, 3), (1, 5, 3, 3)])
def test_overshoot_is_small_for_rectangular_channels_and_strides(shape: tuple[int, ...]) -> None:
    kernel = integer_kernel(*shape, seed=4)
    for stride in (1, 2):
        matrix = operator_matrix(kernel, (6, 6), padding_mode="circular", padding=1, stride=stride)
        bound = convolution_norm_bound(kernel, (6, 6), padding_mode="circular", padding=1, stride=stride)
        assert_bounds(bound, matrix, 1 + 1e-12)


def test_reshaped_kernel_is_no_bound_but_this_is() -> None:
    """What spectral normalisation divides by lies below the norm of the convolution."""
    kernel = torch.rand(4, 4, 3, 3, generator=seeded(5), dtype=torch.float64).mul(8).round()
    matrix = operator_matrix(kernel, (8, 8), padding_mode="zeros", padding=1)
    reshaped = float(torch.linalg.matrix_norm(kernel.reshape(4, -1), 2))
    assert reshaped**2 < squared_norm_from_below(matrix)
    assert_bounds(convolution_norm_bound(kernel, (8, 8), padding_mode="zeros", padding=1), matrix, 1.1)


@pytest.mark.parametrize("mode", ["reflect", "replicate"])
def test_copying_paddings_exceed_the_torus_and_the_bound_covers_them(mode: str) -> None:
    """They are no compressions: the torus' norm alone would be wrong."""
    kernel = torch.zeros(1, 1, 3, dtype=torch.float64)
    kernel[0, 0] = torch.tensor([1.0, 0.0, 0.0])
    matrix = operator_matrix(kernel, (6,), padding_mode=mode, padding=1)
    assert squared_norm_from_below(matrix) > 1.9
    assert_bounds(convolution_norm_bound(kernel, (6,), padding_mode=mode, padding=1), matrix, 1.001)


@pytest.mark.parametrize("share", [0.1, 0.9, 1 - 1e-9, 1 + 1e-6, 3.0, math.nan])
def test_a_wrong_estimate_costs_tightness_only(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    right = _convolution._estimate
    kernel = integer_kernel(3, 2, 3, seed=6)
    matrix = operator_matrix(kernel, (8,), padding_mode="circular", padding=1)
    monkeypatch.setattr(_convolution, "_estimate", lambda gram: share * right(gram))
    bound = convolution_norm_bound(kernel, (8,), padding_mode="circular", padding=1)
    assert_bounds(bound, matrix, 1 + 1e-5 if abs(share - 1) < 1e-3 else 2.0)


@pytest.mark.parametrize("mode", ["circular", "zeros"])
def test_eigenvalues_that_do_not_converge_cost_tightness_only(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(gram: Tensor) -> Tensor:
        raise torch.linalg.LinAlgError  # type: ignore[attr-defined]

    kernel = integer_kernel(3, 2, 3, seed=6)
    matrix = operator_matrix(kernel, (8,), padding_mode=mode, padding=1)
    monkeypatch.setattr(torch.linalg, "eigvalsh", fail)
    assert_bounds(convolution_norm_bound(kernel, (8,), padding_mode=mode, padding=1), matrix, 1.8)


def test_nan_in_the_gram_matrices_gives_infinity(monkeypatch: pytest.MonkeyPatch) -> None:
    right = _convolution._gram
    monkeypatch.setattr(_convolution, "_gram", lambda symbols: right(symbols) * math.nan)
    kernel = integer_kernel(3, 2, 3, seed=6)
    assert convolution_norm_bound(kernel, (8,), padding_mode="circular", padding=1) == math.inf


def test_small_batches_give_the_same_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = integer_kernel(4, 2, 3, 3, seed=7)
    matrix = operator_matrix(kernel, (5, 4), padding_mode="circular", padding=1, groups=2)
    monkeypatch.setattr(_convolution, "_CHUNK", 1)
    bound = convolution_norm_bound(kernel, (5, 4), padding_mode="circular", padding=1, groups=2)
    assert_bounds(bound, matrix, CLOSE)


@pytest.mark.parametrize("order", [1, 2, 3, 4, 12, 33, 1056])
def test_roots_of_unity_are_within_their_error(order: int) -> None:
    before = ctx.prec
    table, error = _convolution._roots.__wrapped__(order)
    assert ctx.prec == before
    assert error <= 2.0**-53
    assert (error == 0) == (order in (1, 2, 4))
    for j, (cosine, sine) in enumerate(table.tolist()):
        true_sine, true_cosine = arb.sin_cos_pi_fmpq(fmpq(2 * j, order))
        assert abs(true_cosine - ball(cosine)) <= ball(error)
        assert abs(true_sine - ball(sine)) <= ball(error)


@pytest.mark.parametrize("halves", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_symbols_are_within_their_error(halves: tuple[int, int]) -> None:
    """Against ball arithmetic, at every frequency or its opposite; sides 5 and 7 need 35 different roots or more."""
    offsets = _convolution._grid((3, 2))
    matrices = torch.randn(2, 6, 2, 2, generator=seeded(13), dtype=torch.float64)
    grid = _convolution.Grid((5, 7), halves)
    points = grid.points()
    frequencies = [
        [Fraction(n, d) for n, d in zip(p, grid.denominators.tolist(), strict=True)] for p in points.tolist()
    ]
    every = {tuple(s * f % 1 for f in fs) for fs in frequencies for s in (1, -1)}
    assert every == {
        (Fraction(2 * a + halves[0], 10), Fraction(2 * b + halves[1], 14)) for a in range(5) for b in range(7)
    }
    assert len(points) == 18
    symbols = torch.cat(list(_convolution._symbols(offsets, matrices, grid, points)))
    error = _convolution._symbol_error(matrices, _convolution._roots(grid.order)[1])
    assert error <= 2e-14
    kernels = matrices.repeat_interleave(18, 0)
    for symbol, kernel, fs in zip(symbols, kernels, frequencies * 2, strict=True):
        angles = [2 * sum(f * o for f, o in zip(fs, offset, strict=True)) for offset in offsets.tolist()]
        turns = [arb.sin_cos_pi_fmpq(fmpq(angle.numerator, angle.denominator)) for angle in angles]
        square = arb(0)
        for part, row, col in ((p, r, c) for p in range(2) for r in range(2) for c in range(2)):
            exact = sum(
                (turn[1 - part] * ball(k) for turn, k in zip(turns, kernel[:, row, col].tolist(), strict=True)), arb(0)
            )
            square += (exact - ball(float(symbol[2 * part + row, col]))) ** 2
        assert square <= ball(error) ** 2


@pytest.mark.parametrize("halves", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_every_grid_of_frequencies_bounds_zero_padding(
    halves: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exactly, whichever grid is chosen, with strides, dilation and groups."""
    monkeypatch.setattr(_convolution, "_best_halves", lambda *arguments: (halves, 0.0))
    for seed, options in enumerate(({}, {"stride": 2}, {"dilation": (1, 2)}, {"groups": 2}, {"padding": (0, 2)})):
        kernel = integer_kernel(2, 2 // options.get("groups", 1), 3, 3, seed=seed)
        options = {"padding": 1, "padding_mode": "zeros"} | options
        matrix = operator_matrix(kernel, (6, 5), **options)
        bound = convolution_norm_bound(kernel, (6, 5), **options)
        assert_bounds(bound, matrix, 1.4)


def test_a_half_step_is_taken_where_it_is_better_and_never_around_a_circle() -> None:
    """A tridiagonal Toeplitz matrix has norm 2 + 2 cos(pi / (N + 1)), the symbol half a step from its peak."""
    kernel = torch.tensor([[[1.0, 2.0, 1.0]]], dtype=torch.float64)
    for side in (4, 9, 31):
        bound = convolution_norm_bound(kernel, (side,), padding_mode="zeros", padding=1)
        norm = 2 + 2 * arb.cos_pi_fmpq(fmpq(1, side + 1))
        assert norm <= ball(bound)
        assert bound <= float(norm) * (1 + 1e-13)
        assert convolution_norm_bound(kernel, (side,), padding_mode="circular", padding=1) >= 4


def complex_matrix(real: Tensor, imaginary: Tensor) -> fmpq_mat:
    """`[[X, -Y], [Y, X]]`, exactly."""
    return rational_matrix(torch.cat([torch.cat([real, -imaginary], 1), torch.cat([imaginary, real], 1)]))


@pytest.mark.parametrize("size", [1, 2, 5])
def test_gram_matrices_and_their_thresholds_hold_exactly(size: int) -> None:
    symbols = torch.randn(3, 12, size, generator=seeded(size), dtype=torch.float64)
    gram = _convolution._gram(symbols)
    squares, error = _convolution._gram_error(gram, 12)
    top = float(torch.linalg.eigvalsh(gram).max())
    for share in (1 + 1e-15, 1 + 1e-12, 2.0):
        deficits = _convolution._deficits(gram, top * share)
        for i, deficit in enumerate(deficits.tolist()):
            exact = complex_matrix(*symbols[i].chunk(2))
            stored = complex_matrix(gram[i].real, gram[i].imag)
            apart = (exact.transpose() * exact - stored).entries()
            assert sum(entry**2 for entry in apart) <= 2 * rational(float(error[i])) ** 2
            assert sum(entry**2 for entry in exact.entries()) <= 2 * rational(float(squares[i]))
            assert deficit == math.inf or deficit <= 1e-13 * top
            if deficit < math.inf:
                level = rational(top * share) + rational(deficit) + rational(float(error[i]))
                identity = fmpq_mat(2 * size, 2 * size, [level * (k % (2 * size + 1) == 0) for k in range(4 * size**2)])
                assert is_positive_semidefinite(identity - exact.transpose() * exact)


def test_indefinite_and_nan_matrices_have_no_deficit() -> None:
    gram = torch.eye(3, dtype=torch.complex128).repeat(3, 1, 1)
    gram[0, 2, 0] = math.nan
    gram[1, 2, 0] = gram[1, 0, 2] = 5.0
    infinite = _convolution._deficits(gram, 2.0).isinf()
    assert infinite.tolist() == [True, True, False]


@pytest.mark.parametrize("part", ["_deficits", "_gram_error", "_symbol_error"])
def test_each_error_reaches_the_bound(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are far below the margins at these sizes, so each is made large."""
    kernel = torch.tensor([[[0.5, 0.0, 0.0]]], dtype=torch.float64)
    right = getattr(_convolution, part)

    def enlarged(*arguments: Any) -> Any:
        result = right(*arguments)
        return (result[0], result[1] + 0.75) if isinstance(result, tuple) else result + 0.75

    monkeypatch.setattr(_convolution, part, enlarged)
    expected = 0.5 + 0.75 if part == "_symbol_error" else 1.0
    bound = convolution_norm_bound(kernel, (4,), padding_mode="circular", padding=1)
    assert expected <= bound <= expected * CLOSE


@pytest.mark.parametrize("exponent", [-1060, -1000, -300, 300, 1000, 1020])
def test_bound_scales_with_the_kernel(exponent: int) -> None:
    """Powers of two over the whole range of floats, where squares would overflow or vanish."""
    kernel = integer_kernel(3, 2, 3, 3, seed=9, most=1)
    options: dict[str, Any] = {"padding_mode": "circular", "padding": 1}
    unit = convolution_norm_bound(kernel, (4, 4), **options)
    bound = convolution_norm_bound(
        kernel * 2.0 ** (exponent // 2) * 2.0 ** (exponent - exponent // 2), (4, 4), **options
    )
    assert Fraction(unit) * (1 - Fraction(1, 10**12)) <= Fraction(bound) / Fraction(2) ** exponent
    if exponent > -1000:
        assert Fraction(bound) / Fraction(2) ** exponent <= Fraction(unit) * (1 + Fraction(1, 10**12))


def test_entries_that_vanish_beside_the_largest_are_still_covered() -> None:
    kernel = torch.tensor([[[2.0**1000, 2.0**-1074, 0.0]]], dtype=torch.float64)
    bound = convolution_norm_bound(kernel, (4,), padding_mode="circular", padding=1)
    assert Fraction(bound) >= Fraction(2) ** 1000 + Fraction(2) ** -1074
    assert bound <= 2.0**1000 * (1 + 1e-12)


def test_a_norm_beyond_the_floats_is_bounded_by_infinity() -> None:
    kernel = torch.full((1, 1, 3), 2.0**1023, dtype=torch.float64)
    assert convolution_norm_bound(kernel, (4,), padding_mode="circular", padding=1) == math.inf


@pytest.mark.parametrize("mode", MODES)
def test_zero_and_identity_kernels(mode: str) -> None:
    zero = torch.zeros(2, 3, 3, 3)
    assert convolution_norm_bound(zero, (4, 4), padding_mode=mode, padding=1) == 0
    identity = torch.zeros(3, 3, 3, dtype=torch.float64)
    identity[:, :, 1] = torch.eye(3, dtype=torch.float64)[[1, 2, 0]]
    assert 1 <= convolution_norm_bound(identity, (5,), padding_mode=mode, padding=0, dilation=2) <= 1 + 1e-14
    expected = 1.0 if mode in ("circular", "zeros") else math.sqrt(2.0)
    assert expected <= convolution_norm_bound(identity, (5,), padding_mode=mode, padding=1) <= expected * CLOSE


def test_a_kernel_that_reads_padding_only_is_zero() -> None:
    kernel = torch.ones(1, 1, 2, dtype=torch.float64)
    options: dict[str, Any] = {"padding_mode": "zeros", "padding": 9, "dilation": 20, "stride": 9}
    assert not operator_matrix(kernel, (3,), **options).any()
    assert convolution_norm_bound(kernel, (3,), **options) == 0


def test_a_group_of_zeros_beside_another_is_bounded() -> None:
    kernel = integer_kernel(4, 2, 3, seed=10)
    kernel[:2] = 0
    matrix = operator_matrix(kernel, (5,), padding_mode="circular", padding=1, groups=2)
    assert_bounds(convolution_norm_bound(kernel, (5,), padding_mode="circular", padding=1, groups=2), matrix, CLOSE)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_refused(bad: float) -> None:
    kernel = torch.ones(2, 2, 3)
    kernel[1, 0, 2] = bad
    with pytest.raises(InputError, match=r"kernel: entry \[1, 0, 2\] is not finite; remove NaN"):
        convolution_norm_bound(kernel, (5,), padding_mode="zeros", padding=1)


KERNEL = torch.ones(4, 2, 3)
BAD = [
    ({"kernel": torch.ones(3, 3)}, r"kernel: .* is needed, got \(3, 3\)"),
    ({"kernel": torch.ones(0, 2, 3)}, r"kernel: .* is needed, got \(0, 2, 3\)"),
    ({"kernel": [[[1.0]]]}, "kernel: .* is needed, got list"),
    ({"kernel": torch.ones(4, 2, 3, dtype=torch.int64)}, "kernel: dtype torch.int64 .* use float32 or float64"),
    ({"kernel": torch.ones(4, 2, 3, dtype=torch.complex64)}, "kernel: dtype torch.complex64 .* use float32"),
    ({"size": (5, 5)}, r"size: got \(5, 5\); give 1 integer, at least 1"),
    ({"size": (0,)}, r"size: got \(0,\); give 1 integer, at least 1"),
    ({"size": (2,), "padding": 0}, r"size: got \(2,\); padded to 2 it is below the kernel's 3"),
    ({"stride": 0}, "stride: got 0; give 1 integer, at least 1"),
    ({"stride": (1, 1)}, r"stride: got \(1, 1\); give 1"),
    ({"dilation": 1.5}, "dilation: got 1.5; give 1"),
    ({"dilation": True}, "dilation: got True; give 1"),
    ({"groups": 3}, "groups: got 3; 4 kernels need a divisor"),
    ({"groups": 0}, "groups: got 0; give 1 integer, at least 1"),
    ({"padding": -1}, "padding: got -1; give 1 integer, at least 0"),
    ({"padding": "full"}, "padding: got 'full'; give integers"),
    ({"padding": "same", "stride": 2}, 'padding: got "same" with stride'),
    ({"padding": 6, "padding_mode": "circular"}, "padding: got 6; circular padding of size 5 allows at most 5"),
    ({"padding": 5, "padding_mode": "reflect"}, "padding: got 5; reflect padding of size 5 allows at most 4"),
    ({"padding_mode": "constant"}, "padding_mode: got 'constant'; choose one of circular, zeros, reflect, replicate"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_bad_arguments_are_named(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"kernel": KERNEL, "size": (5,), "padding_mode": "zeros", "padding": 1} | change
    with pytest.raises(InputError, match=message):
        convolution_norm_bound(arguments.pop("kernel"), arguments.pop("size"), **arguments)


def test_messages_count_dimensions() -> None:
    with pytest.raises(InputError, match=r"size: got 5\.5; give 2 integers, at least 1"):
        convolution_norm_bound(torch.ones(1, 1, 3, 3), 5.5, padding_mode="zeros", padding=1)  # type: ignore[arg-type]


def test_transposed_refuses_an_empty_output() -> None:
    with pytest.raises(InputError, match=r"padding: got 3, which leaves an output of size \(-3,\); use a smaller"):
        transposed_convolution_norm_bound(torch.ones(1, 1, 3), (1,), padding=3)
