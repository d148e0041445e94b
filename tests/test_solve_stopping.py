"""How problems end: each by itself, with an honest result, residual and count."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deqops import Anderson, Broyden, ConvergenceError, Picard, Result, Solver, Tolerance, solve
from deqops._watch import Watch

SOLVERS = [Picard(), Picard(0.7), Anderson(), Anderson(memory=2, damping=0.8)]


def rates(z: Tensor, rate: Tensor) -> Tensor:
    """Problem i contracts by rate_i towards 1 / (1 - rate_i), with a little nonlinearity."""
    return rate * z + 1 + 0.01 * torch.sin(z)


RATES = torch.tensor([[0.1], [0.5], [0.7]], dtype=torch.float64)
START = torch.zeros(3, 4, dtype=torch.float64)


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
def test_each_problem_counts_and_stops_by_itself(solver: Solver) -> None:
    together = solve(rates, START, RATES, solver=solver, tolerance=Tolerance(relative=1e-10))
    for number in range(3):
        part = slice(number, number + 1)
        alone = solve(rates, START[part], RATES[part], solver=solver, tolerance=Tolerance(relative=1e-10))
        assert alone.results == [Result.CONVERGED]
        assert int(alone.evaluations) == int(together.evaluations[number])
        assert torch.allclose(alone.value, together.value[part], rtol=1e-14)
    assert together.evaluations[0] < together.evaluations[2]


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
@pytest.mark.parametrize("intruder", [math.nan, math.inf, 1e200, -3.0])
def test_companions_never_change_a_bit(solver: Solver, intruder: float) -> None:
    torch.manual_seed(4)
    W, x = 0.2 * torch.randn(12, 12, dtype=torch.float64), torch.randn(5, 12, dtype=torch.float64)

    def run(inputs: Tensor) -> tuple[Tensor, ...]:
        start = torch.zeros(5, 12, dtype=torch.float64)
        solution = solve(lambda z, x: torch.tanh(z @ W.mT) + x, start, inputs, solver=solver, throw=False)
        return solution.value, solution.residual, solution.evaluations, solution.result

    disturbed = x.clone()
    disturbed[[0, 3]] = intruder
    kept = [1, 2, 4]
    for first, second in zip(run(x), run(disturbed), strict=True):
        assert torch.equal(first[kept], second[kept])


@pytest.mark.parametrize("solver", [*SOLVERS, Broyden()], ids=repr)
@given(
    seed=st.integers(0, 2**20),
    rates=st.lists(st.sampled_from([0.0, 0.3, 0.9, 0.99, -0.8, 1.0, 1.5, 1e6]), min_size=1, max_size=6),
    scales=st.lists(st.sampled_from([0.0, 1e-18, 1e-3, 1.0, 1e6, 1e15]), min_size=6, max_size=6),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    relative=st.sampled_from([0.0, 1e-9, 1e-5, 1e-2]),
)
@settings(max_examples=30)
def test_what_all_residuals_say_at_once_ends_no_problem_otherwise(
    solver: Solver, seed: int, rates: list[float], scales: list[float], dtype: torch.dtype, relative: float
) -> None:
    """The least and the greatest residual only ever spare a closer look: the same bits with a look each time."""
    rate, generator = torch.tensor(rates, dtype=dtype)[:, None], torch.Generator().manual_seed(seed)
    b = (
        torch.randn(len(rates), 5, generator=generator).to(dtype)
        * torch.tensor(scales[: len(rates)]).to(dtype)[:, None]
    )

    def run() -> list[Tensor]:
        G = lambda z: rate * z.roll(1, 1) + b + 0.1 * torch.sin(z)  # noqa: E731
        options: dict[str, Any] = {"tolerance": Tolerance(relative=relative), "max_evaluations": 90, "throw": False}
        solution = solve(G, torch.zeros_like(b), solver=solver, **options)
        return [solution.value, solution.residual, solution.evaluations, solution.result]

    quick = run()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Watch, "_are_quiet", lambda *_, **__: False)
        slow = run()
    for first, second in zip(quick, slow, strict=True):
        assert torch.equal(first.nan_to_num(nan=-7.0), second.nan_to_num(nan=-7.0))


def test_most_evaluations_need_the_extremes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    closely = Watch._closely

    def counted(*arguments: Any) -> Any:
        nonlocal looks
        looks += 1
        return closely(*arguments)

    monkeypatch.setattr(Watch, "_closely", counted)
    b = torch.randn(64, 256, generator=torch.Generator().manual_seed(0))
    solution = solve(lambda z: 0.9 * z.roll(1, 1) + b, torch.zeros_like(b), solver=Picard())
    assert looks <= int(solution.evaluations.max()) / 4


def test_a_frozen_problem_is_fed_the_same_numbers_again() -> None:
    seen: list[Tensor] = []

    def G(z: Tensor) -> Tensor:
        seen.append(z.clone())
        return rates(z, RATES)

    with torch.no_grad():
        solution = solve(G, START, solver=Picard())
    ended = int(solution.evaluations[0])
    assert ended < len(seen)
    assert all(torch.equal(z[0], seen[ended - 1][0]) for z in seen[ended - 1 :])
    assert torch.equal(rates(seen[ended - 1], RATES)[0], solution.value[0])


def test_residual_belongs_to_the_last_point_and_value_is_its_image() -> None:
    seen: list[Tensor] = []

    def G(z: Tensor) -> Tensor:
        seen.append(z.clone())
        return rates(z, RATES[:1])

    with torch.no_grad():
        solution = solve(G, START[:1], solver=Picard(), trace=True)
    assert torch.equal(rates(seen[-1], RATES[:1]), solution.value)
    assert solution.residual == torch.linalg.vector_norm(solution.value - seen[-1])
    assert solution.trace is not None
    assert solution.trace.shape == (len(seen), 1)
    assert solution.trace[-1] == solution.residual
    assert int(solution.evaluations) == len(seen)


def test_the_stop_rule_is_absolute_plus_relative() -> None:
    for tolerance in (Tolerance(absolute=0.1, relative=0.0), Tolerance(absolute=0.0, relative=0.03)):
        trace = solve(rates, START[:1], RATES[2:], solver=Picard(), tolerance=tolerance, trace=True)
        size = torch.linalg.vector_norm(trace.value)
        limit = tolerance.absolute + tolerance.relative * size
        assert trace.trace is not None
        assert trace.trace[-1, 0] <= limit < trace.trace[-2, 0]


def test_max_evaluations_is_reported_and_raised() -> None:
    solution = solve(rates, START, RATES, solver=Picard(), max_evaluations=5, throw=False)
    assert solution.results == [Result.MAX_EVALUATIONS] * 3
    assert solution.evaluations.tolist() == [5, 5, 5]
    with pytest.raises(ConvergenceError, match=r"3 of 3 problems did not converge \(3 MAX_EVALUATIONS\)") as caught:
        solve(rates, START, RATES, solver=Picard(), max_evaluations=5)
    assert torch.equal(caught.value.solution.value, solution.value)
    assert "raise max_evaluations" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nonfinite_problems_end_at_their_last_finite_point() -> None:
    def G(z: Tensor) -> Tensor:  # the square root of a negative number, in problem 1 at its third evaluation
        return torch.sqrt(z + torch.tensor([[2.0], [-1.0], [2.0]]))

    solution = solve(G, torch.full((3, 2), 3.0), solver=Picard(), throw=False)
    assert solution.results == [Result.CONVERGED, Result.NONFINITE, Result.CONVERGED]
    assert solution.value.isfinite().all()
    assert torch.allclose(solution.value[0], torch.tensor(2.0))
    assert solution.residual[1] == torch.inf
    # 3 -> sqrt(2) -> sqrt(0.41) -> NaN: three evaluations, the last of them at a finite point
    assert int(solution.evaluations[1]) == 3
    assert torch.allclose(solution.value[1], torch.tensor(math.sqrt(math.sqrt(2) - 1)))
    with pytest.raises(ConvergenceError, match="NONFINITE"):
        solve(G, torch.full((3, 2), 3.0), solver=Picard())


def test_divergence_is_named_long_before_overflow() -> None:
    solution = solve(lambda z: 3 * z + 1, torch.ones(2, 2), solver=Picard(), throw=False)
    assert solution.results == [Result.DIVERGED] * 2
    assert solution.evaluations.max() < 25
    assert solution.value.isfinite().all()


def test_a_growing_but_bounded_iteration_is_not_called_divergent() -> None:
    """From 1e-6 the residual of tanh(2 z) grows by 1e5 before it shrinks to the equilibrium 0.957."""
    solution = solve(lambda z: torch.tanh(2 * z), torch.full((1, 1), 1e-6, dtype=torch.float64), solver=Picard())
    assert torch.allclose(solution.value, torch.tensor(0.9575040240772688, dtype=torch.float64))


def flickering(scale: float) -> Callable[[Tensor], Tensor]:
    """As rounding may do it: at its equilibrium `scale` this map goes back and forth between two neighbours."""

    def G(z: Tensor) -> Tensor:
        target = torch.full_like(z, scale)
        image = target + 0.1 * (z - target)
        there = (image - target).abs() <= 2 * torch.finfo(z.dtype).eps * scale
        return torch.where(there, torch.where(z > target, target, torch.nextafter(target, 2 * target)), image)

    return G


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e9])
def test_stagnation_at_the_rounding_floor(dtype: torch.dtype, scale: float) -> None:
    tolerance = Tolerance(relative=torch.finfo(dtype).eps / 100)
    start = torch.zeros(1, 20, dtype=dtype)
    solution = solve(flickering(scale), start, solver=Picard(), tolerance=tolerance, throw=False)
    assert solution.results == [Result.STAGNATED]
    assert solution.evaluations < 60
    assert 0 < solution.residual < 2 * torch.finfo(dtype).eps * torch.linalg.vector_norm(solution.value)


def test_slow_convergence_is_not_stagnation() -> None:
    """Rate 0.995 in float32: every step helps by half a percent, down to the tolerance."""
    b = torch.ones(1, 3)
    solution = solve(
        lambda z: 0.995 * z + b,
        torch.zeros(1, 3),
        solver=Picard(),
        tolerance=Tolerance(relative=3e-6),
        max_evaluations=3000,
    )
    assert torch.allclose(solution.value, 200 * b, rtol=1e-3)


def test_callback_sees_every_evaluation() -> None:
    calls: list[tuple[int, int]] = []
    solution = solve(rates, START, RATES, callback=lambda n, residual: calls.append((n, len(residual))))
    assert calls == [(n, 3) for n in range(1, int(solution.evaluations.max()) + 1)]


def test_every_result_says_what_to_do() -> None:
    assert [r.name for r in Result] == ["CONVERGED", "MAX_EVALUATIONS", "DIVERGED", "NONFINITE", "STAGNATED"]
    assert all(result.remedy for result in Result if result is not Result.CONVERGED)


class Leaping(Picard):
    """Picard's steps, but the last of several problems is sent to infinity each time."""

    def step(self, memory: None, z: Tensor, image: Tensor) -> tuple[Tensor, None]:
        leap = torch.zeros(len(image), 1, dtype=image.dtype)
        leap[1:] = math.inf
        return image + leap, memory


@pytest.mark.parametrize("far", [5e-15, 3.0])
def test_a_companion_whose_step_overflows_counts_nothing_for_the_others(far: float) -> None:
    """The first problem swings about 1 and is stuck, or grows away from it; the last is evaluated twice each time."""

    def G(z: Tensor) -> Tensor:
        swinging = 1 - (1 if far < 1 else 1.5) * (z[:, :1] - 1)
        return torch.where(torch.arange(len(z))[:, None] == 0, swinging, 0.999 * z + 1)

    def outcome(start: list[float], solver: Solver) -> list[float]:
        z = torch.tensor(start, dtype=torch.float64)[:, None]
        found = solve(G, z, solver=solver, tolerance=Tolerance(relative=1e-15), max_evaluations=400, throw=False)
        return [float(part.reshape(-1)[0]) for part in (found.result, found.evaluations, found.value, found.residual)]

    assert outcome([1 + far, 0.0], Leaping()) == outcome([1 + far], Picard())
