"""The checker's exact integer products, against Python's integers."""

from __future__ import annotations

import numpy as np
import pytest
from flint import arb
from hypothesis import given
from hypothesis import strategies as st

from deqops.verify.checker import _arithmetic as ball
from deqops.verify.checker._integers import (
    add_multiple_of_2_60,
    factor_in_integers,
    gram,
    in_units_of_2_40,
    midpoints,
    rounded,
    square_of,
)

entries = st.one_of(
    st.integers(-(2**59), 2**59),
    st.sampled_from([2**59, -(2**59), 2**40, 2**40 - 1, -1, 0, 2**20]),
)


def matrices(largest: int = 5) -> st.SearchStrategy[list[list[int]]]:
    shape = st.tuples(st.integers(1, largest), st.integers(1, largest))
    return shape.flatmap(
        lambda s: st.lists(st.lists(entries, min_size=s[1], max_size=s[1]), min_size=s[0], max_size=s[0])
    )


def value(coefficients: list[np.ndarray], i: int, j: int) -> int:
    return sum(int(part[i, j]) << 20 * k for k, part in enumerate(coefficients))


@given(matrices())
def test_a_gram_matrix_is_exact(rows: list[list[int]]) -> None:
    found = gram(np.array(rows, dtype=np.int64))
    n = len(rows[0])
    for i in range(n):
        for j in range(n):
            assert value(found, i, j) == sum(row[i] * row[j] for row in rows)


def test_the_longest_sums_are_exact() -> None:
    """8192 terms of the largest digits reach 2^53, no further."""
    worst = np.full((8192, 2), 2**60 - 1, dtype=np.int64)
    worst[:, 1] = -(2**60)
    found = gram(worst)
    assert value(found, 0, 0) == 8192 * (2**60 - 1) ** 2
    assert value(found, 0, 1) == -8192 * (2**60 - 1) * 2**60
    assert value(found, 1, 1) == 8192 * 2**120
    with pytest.raises(ValueError, match="too many"):
        gram(np.zeros((8193, 1), dtype=np.int64))


@given(matrices(3), st.integers(-(2**62), 2**62), st.integers(-(2**61), 2**61))
def test_units_are_the_floor_or_refused(rows: list[list[int]], multiple: int, offset: int) -> None:
    """After cancellation to something small the units are exact; what is not small is refused."""
    matrix = np.array(rows, dtype=np.int64)
    coefficients, n = gram(matrix), matrix.shape[1]
    # Subtract nearly all of the first entry, so that it becomes small, up to `offset`.
    target = np.zeros((n, n), dtype=np.int64)
    target[0, 0] = np.int64(max(-(2**62), min(2**62, -(value(coefficients, 0, 0) >> 60) + (offset >> 60))))
    add_multiple_of_2_60(coefficients, target)
    exact = [[value(coefficients, i, j) for j in range(n)] for i in range(n)]
    found = in_units_of_2_40(coefficients)
    if found is None:
        assert any(abs(entry) >= 2**100 for row in exact for entry in row)
    else:
        assert [[int(entry) for entry in row] for row in found] == [[entry >> 40 for entry in row] for row in exact]


def test_small_residuals_are_not_refused() -> None:
    matrix = np.array([[3 * 2**55, 5], [7, 2**56]], dtype=np.int64)
    coefficients = [part - other for part, other in zip(gram(matrix), gram(matrix), strict=True)]
    found = in_units_of_2_40(coefficients)
    assert found is not None
    assert not found.any()


def test_a_factor_in_integers_nearly_squares_to_its_matrix() -> None:
    generator = np.random.default_rng(0)
    a = generator.standard_normal((6, 6))
    matrix = (a @ a.T + np.eye(6)) / 32
    lower = factor_in_integers(matrix, 58)
    assert lower is not None
    found = square_of(lower)
    for i in range(6):
        for j in range(6):
            assert value(found, i, j) / 2**116 == pytest.approx(matrix[i, j], abs=1e-14)
    assert factor_in_integers(-np.eye(2), 10) is None
    assert factor_in_integers(np.eye(2) * 2.0**100, 58) is None


@given(st.lists(st.floats(-1e10, 1e10), min_size=1, max_size=6), st.integers(-5, 25))
def test_rounding_keeps_within_its_error(numbers: list[float], shift: int) -> None:
    with ball.working_precision():
        exact = ball.balls([arb(x) / 3 for x in numbers], (len(numbers), 1))
        found = rounded(exact, midpoints(exact), shift)
        assert found is not None
        gaps = [
            entry - arb(int(n)) * arb(2) ** -shift for entry, n in zip(exact.flat, found.integers.flat, strict=True)
        ]
        assert bool(sum((gap * gap for gap in gaps), arb(0)) <= found.error * found.error)
        assert bool(found.error <= arb(2) ** -shift * len(numbers) + arb(1) / 10**4)


def test_entries_too_large_or_not_numbers_are_not_rounded() -> None:
    for entry in (arb(2) ** 61, arb.nan(), arb.pos_inf()):
        array = ball.balls([entry], (1, 1))
        assert rounded(array, midpoints(array), 0) is None
