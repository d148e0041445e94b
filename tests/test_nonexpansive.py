"""T4 `damped` with q = 1: nonexpansiveness decided exactly, existence shown, residuals along exact iterations."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
from exact import bounds_norm, is_positive_semidefinite, rational, rational_matrix, seeded
from flint import fmpq, fmpz_mat
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import deqops.testing as kit
from deqops import InputError, UnsupportedOperationError
from deqops.verify import Ball, Norm, nonexpansive_bound
from deqops.verify import _exact_gain as exact_gain
from deqops.verify._exact_gain import matrix_bound
from deqops.verify._matrix import DenseMatrix
from deqops.verify._midrad import MidRad
from deqops.verify._sparse import SparseMatrix

TURN = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
DAMPINGS = [0.03125, 0.25, 0.5, 0.75, 0.96875]


def dense(values: Tensor) -> DenseMatrix:
    return DenseMatrix(MidRad.exact(values))


def clamped(W: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda z: (z @ W.T).clamp(-1.0, 1.0)


def square(values: list[Any]) -> Any:
    return sum((v * v for v in values), fmpq(0))


# ----------------------------------------------------------------------------------- residuals, exactly


def exact_residuals(W: Tensor, start: Tensor, damping: float, steps: int) -> list[Any]:
    """`||G(y_n) - y_n||^2` of `y <- (1-b) y + b clamp(W y)` in rational arithmetic, some 200 bits kept."""
    M, b, y, found = rational_matrix(W), rational(damping), [rational(v) for v in start.tolist()], []
    for _ in range(steps):
        rows = range(M.nrows())
        image = [sum((M[i, j] * v for j, v in enumerate(y)), fmpq(0)) for i in rows]
        image = [max(min(v, fmpq(1)), fmpq(-1)) for v in image]
        found.append(square([g - v for g, v in zip(image, y, strict=True)]))
        y = [(1 - b) * v + b * g for v, g in zip(y, image, strict=True)]
        y = [fmpq(round(v * 2**200), 2**200) for v in y]
    return found


@pytest.mark.parametrize("damping", DAMPINGS)
@pytest.mark.parametrize("start", [[3.0, 4.0], [0.5, -0.25], [1.0, 1.0]])
def test_t4_nonexpansive_a_turn_in_a_box_keeps_the_residual_bound(damping: float, start: list[float]) -> None:
    y0 = torch.tensor([start], dtype=torch.float64)
    proven = nonexpansive_bound(clamped(TURN), y0, damping=damping)
    assert [h.name for h in proven.hypotheses] == ["nonexpansive", "invariant set", "damping"]
    for n, found in enumerate(exact_residuals(TURN, y0[0], damping, 150)):
        assert found <= rational(float(proven.residual_bound(n))) ** 2
    wanted = 0.125
    steps = proven.steps(wanted)
    assert float(proven.residual_bound(steps)) <= wanted
    assert steps == 0 or float(proven.residual_bound(int(steps * 0.999) - 1)) > wanted


@given(st.data(), st.sampled_from([1, 2, 4, 8]), st.sampled_from(DAMPINGS))
def test_t4_nonexpansive_orthogonal_layers_keep_the_residual_bound(
    data: st.DataObject, size: int, damping: float
) -> None:
    W, y0 = data.draw(kit.orthogonals(size)), 2 * data.draw(kit.floats(1, size))
    proven = nonexpansive_bound(clamped(W), y0, damping=damping)
    for n, found in enumerate(exact_residuals(W, y0[0], damping, 40)):
        assert found <= rational(float(proven.residual_bound(n))) ** 2


def test_t4_nonexpansive_the_bound_is_not_vacuous() -> None:
    """From far away the first residual of a reflection is half the bound's or more, whatever the box holds."""
    y0 = torch.full((1, 3), 1000.0, dtype=torch.float64)
    proven = nonexpansive_bound(lambda z: (-z).clamp(-1.0, 1.0), y0)
    first = float(exact_residuals(-torch.eye(3, dtype=torch.float64), y0[0], 0.5, 1)[0]) ** 0.5
    assert first <= float(proven.residual_bound(0)) <= 2.01 * first
    assert float(proven.distance) == pytest.approx(1001 * 3**0.5)
    assert float(proven.residual_bound(99)) == pytest.approx(float(proven.residual_bound(0)) / 10)


# -------------------------------------------------------------------------------------------- existence


@pytest.mark.parametrize("damping", DAMPINGS)
@pytest.mark.parametrize("shift", [1.0, -0.5, 2.0**-1000])
def test_t4_nonexpansive_a_translation_is_refused(damping: float, shift: float) -> None:
    """It is nonexpansive and has no equilibrium: the residual stays at |shift| for ever."""
    y0 = torch.zeros(1, 2, dtype=torch.float64)
    regions = [None, *(Ball(y0, radius, Norm("linf")) for radius in (1e-3, 1.0, 1e3)), Ball(y0, 1.0)]
    for region in regions:
        with pytest.raises(UnsupportedOperationError, match=r"box|keep the ball"):
            nonexpansive_bound(lambda z: z + shift, y0, damping=damping, region=region)


def test_t4_nonexpansive_a_ball_that_is_kept_may_be_given() -> None:
    """z^2 / 2 has slopes up to 1 on [-1, 1] only, and maps it into [0, 1/2]."""
    y0, zero = torch.full((2, 3), -1.0, dtype=torch.float64), torch.zeros(2, 3, dtype=torch.float64)
    for norm in (Norm("linf"), Norm("linf", (torch.full((3,), 1.0, dtype=torch.float64),))):
        proven = nonexpansive_bound(lambda z: z.square() / 2, y0, region=Ball(zero, 1.0, norm))
        assert proven.distance.shape == (2,)
        assert float(proven.distance[0]) == pytest.approx(1.5 * 3**0.5)
        assert float(proven.upper[0].max()) == pytest.approx(0.5)
    with pytest.raises(InputError, match="start inside"):
        nonexpansive_bound(lambda z: z.square() / 2, 1.5 * y0, region=Ball(zero, 1.0, Norm("linf")))
    with pytest.raises(UnsupportedOperationError, match="keep the ball"):
        nonexpansive_bound(lambda z: z.square() / 2, y0, region=Ball(zero, 3.0, Norm("linf")))
    with pytest.raises(UnsupportedOperationError, match="nonexpansive"):
        nonexpansive_bound(lambda z: z.square() / 2, y0, region=Ball(zero, 1.5, Norm("linf")))


def test_t4_nonexpansive_leaves_and_weights() -> None:
    y = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    swapped = nonexpansive_bound(lambda s: (torch.tanh(s[1]), torch.tanh(-s[0])), (y, y))
    assert len(swapped.lower) == 2
    scale = torch.tensor([1.0, 4.0], dtype=torch.float64)
    W = TURN * scale[None, :] / scale[:, None]
    with pytest.raises(UnsupportedOperationError, match="nonexpansive"):
        nonexpansive_bound(lambda z: torch.tanh(z @ W.T), y)
    weighted = nonexpansive_bound(lambda z: torch.tanh(z @ W.T), y, norm=Norm("l2", (scale,)))
    assert weighted.hypotheses[0].value == 1.0
    assert float(weighted.distance) > float(swapped.distance) / 2


# ----------------------------------------------------------------------------------- the constant 1, exactly


@pytest.mark.parametrize("excess", [2.0**-50, 2.0**-52, 1e-6, 0.5])
def test_t4_nonexpansive_a_norm_just_above_one_is_refused(excess: float) -> None:
    y0 = torch.ones(1, 2, dtype=torch.float64)
    for W in (TURN * (1 + excess), torch.diag(torch.tensor([1 + excess, 0.25], dtype=torch.float64))):
        assert not bounds_norm(W, 1.0)
        with pytest.raises(UnsupportedOperationError, match="nonexpansive"):
            nonexpansive_bound(clamped(W), y0)


@pytest.mark.parametrize("angle", [0.1, 0.7, 1.3])
def test_t4_nonexpansive_a_rounded_turn_is_refused_where_its_norm_exceeds_one(angle: float) -> None:
    a = torch.tensor(angle, dtype=torch.float64)
    W = torch.stack([torch.stack([a.cos(), -a.sin()]), torch.stack([a.sin(), a.cos()])])
    assert (matrix_bound(dense(W)) <= 1) == bounds_norm(W, 1.0)


@given(st.data(), st.sampled_from([2, 4, 8, 16]), st.integers(-2, 2))
def test_the_bound_of_a_stored_matrix_is_exact_next_to_one(data: st.DataObject, size: int, units: int) -> None:
    norm = 1 + Fraction(units, 2**36)
    W = data.draw(kit.matrices(size, norm))
    bound = matrix_bound(dense(W))
    assert bound >= norm
    assert (bound <= 1) == (norm <= 1)
    assert matrix_bound(dense(W / 4)) * 4 >= norm
    assert (matrix_bound(dense(W / 4)) * 4 <= 1) == (norm <= 1)


@given(seed=st.integers(0, 10**6), size=st.integers(1, 6), rank=st.integers(0, 6), spoil=st.integers(-1, 1))
def test_definiteness_in_integers(seed: int, size: int, rank: int, spoil: int) -> None:
    """Gram matrices, singular or not, and what is one unit away from them."""
    V = torch.randint(-3, 4, (rank, size), generator=seeded(seed)).long()
    A = (V.T @ V).tolist()
    A[seed % size][seed % size] += spoil
    expected = is_positive_semidefinite(fmpz_mat(A) * fmpq(1))
    assert exact_gain.is_positive_semidefinite(A) == expected
    assert spoil < 0 or expected


def test_large_sparse_matrices_are_decided_by_their_sums() -> None:
    order = torch.randperm(5000, generator=seeded(0))
    assert matrix_bound(SparseMatrix.from_index_select(order, 5000)) == 1
    halves = SparseMatrix(
        torch.arange(5000).repeat(2),
        torch.cat([order, order.roll(1)]),
        MidRad.exact(torch.full((10000,), 0.5, dtype=torch.float64)),
        (5000, 5000),
    )
    assert matrix_bound(halves) == 1
    more = SparseMatrix(
        halves.rows, halves.cols, MidRad.exact(halves.values.mid + 2.0**-53 * (order.repeat(2) == 0)), halves.shape
    )
    assert matrix_bound(more) > 1


def test_averages_and_selections_are_nonexpansive() -> None:
    y0 = torch.ones(2, 4, dtype=torch.float64)
    H = kit.reflection(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))
    proven = nonexpansive_bound(lambda z: torch.tanh(0.5 * z.flip(1) + 0.5 * torch.tanh(z @ H.T)), y0)
    assert proven.hypotheses[0].value == 1.0
    with pytest.raises(UnsupportedOperationError, match="nonexpansive"):
        nonexpansive_bound(lambda z: torch.tanh(0.5 * z.flip(1) + 0.75 * torch.tanh(z @ H.T)), y0)


# ------------------------------------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"damping": 0.0}, "damping"),
        ({"damping": 1.0}, "damping"),
        ({"damping": float("nan")}, "damping"),
        ({"norm": "linf"}, "l2"),
        ({"norm": Norm("l2", (torch.ones(3, dtype=torch.float64),))}, "weights"),
        ({"region": Ball(torch.zeros(1, 3, dtype=torch.float64), 1.0)}, "region"),
    ],
)
def test_arguments_that_do_not_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        nonexpansive_bound(clamped(TURN), torch.ones(1, 2, dtype=torch.float64), **options)


def test_what_is_not_one_map_of_one_problem_is_refused() -> None:
    y0 = torch.ones(3, 2, dtype=torch.float64)
    with pytest.raises(UnsupportedOperationError, match="batch_dims"):
        nonexpansive_bound(lambda z: torch.tanh(z.flip(0)), y0)
    assert nonexpansive_bound(lambda z: torch.tanh(z.flip(0)), y0, batch_dims=0).distance.shape == (1,)
    proven = nonexpansive_bound(clamped(TURN), y0)
    for value in (0.0, -1.0, float("nan"), 1e-200):
        with pytest.raises(InputError, match="residual"):
            proven.steps(value)
    with pytest.raises(InputError, match="steps"):
        proven.residual_bound(-1)
    least = nonexpansive_bound(clamped(TURN), y0, damping=2.0**-1074)
    assert bool(least.residual_bound(10).isinf().all())
