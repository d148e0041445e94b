"""The solver benchmark's counters, errors and ladder on tiny problems; no time is asserted."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks._solvers import _catalogue, _dense, _measure, _memory, _method, _ours, _problem, _tables, _verdicts
from deqops import InputError

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "solvers.py"
DOUBLE = torch.float64


def halving() -> _problem.Problem:
    """`z = z / 2 + b`: the equilibrium is 2 b, and the plain iteration halves the error."""
    b = torch.tensor([[1.0, 0.0], [0.0, 4.0]])
    return _problem.Problem("h", "", lambda z: 0.5 * z + b, torch.zeros(2, 2), 2 * b.double(), lambda jax: None)


def scripted(counts: dict[float, tuple[int, Tensor]]) -> _method.Method:
    """A method whose outcome at each tolerance is written down."""

    def prepare(problem: _problem.Problem, setting: _method.Setting, tolerance: float) -> _method.Task:
        count, value = counts[tolerance]
        return _method.Task(lambda: None, lambda: _method.Outcome(value, count, count, None), lambda k: None)

    return _method.Method("scripted", prepare)


def test_the_counter_counts_each_call_and_each_row() -> None:
    problem = halving()
    counter = _problem.Counter(problem)
    for _ in range(5):
        counter(torch.zeros(2, 2))
    assert (counter.evaluations, counter.rows) == (5, 10)
    whole = _problem.Counter(replace(problem, batch_dims=0))
    whole(torch.zeros(2, 2))
    assert (whole.evaluations, whole.rows) == (1, 1)


@pytest.mark.parametrize("name", ["deqops Picard", "deqops Anderson", "deqops Broyden", "torchdeq fixed_point_iter"])
def test_every_method_is_counted_around_the_operator(name: str) -> None:
    calls = 0
    plain = halving()

    def noted(z: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return plain.operator(z)

    problem = replace(plain, operator=noted)
    method = next(method for method in _catalogue.methods()[0] if method.name == name)
    outcome = method.prepare(problem, {}, 1e-4).counted()
    assert outcome.evaluations == calls > 1
    assert outcome.rows == 2 * calls
    assert problem.error(outcome.value) < 1e-3


def test_picard_needs_as_many_evaluations_as_the_residuals_say() -> None:
    """From 0 the k-th residual is 2^-(k-1) ||b||, the image is near 2 b: 2^-(k-1) <= 2 tolerance, nearly."""
    outcome = _ours.ours("Picard").prepare(halving(), {}, 2.0**-11).counted()
    assert outcome.evaluations == 12
    assert outcome.claim is True


def test_true_error_of_a_known_solution() -> None:
    problem = halving()
    exact = torch.tensor([[2.0, 0.0], [0.0, 8.0]])
    assert problem.error(exact) == 0
    assert problem.error(exact + torch.tensor([[0.2, 0.0], [0.0, 0.4]])) == pytest.approx(0.1)
    assert problem.error(exact * torch.nan) == math.inf
    assert replace(problem, batch_dims=0).error(exact + torch.tensor([[0.0, 0.0], [0.0, 0.8]])) == pytest.approx(
        0.8 / 68**0.5
    )


def test_truths_are_equilibria_in_float64() -> None:
    problem = _dense.linear(quick=True)
    q = 0.9 * _dense.orthogonal(16, 0)
    image = problem.truth @ q.float().double() + _dense.randn(4, 16, seed=1).float().double()
    assert torch.allclose(problem.truth, image, rtol=0, atol=1e-13)
    slow = _dense.slow_sample(quick=True)
    b, rate = (t.double() for t in slow.inputs)
    image = b + rate * (slow.truth @ _dense.orthogonal(16, 7).float().double())
    assert torch.allclose(slow.truth, image, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["a", "b", "b-hard", "c", "e", "f", "g"])
def test_problems_are_solved_by_the_plain_iteration(name: str) -> None:
    for problem in _catalogue.problems(name, quick=True):
        found = _problem.bare(problem.bound(), problem.start, 2500)
        assert problem.error(found) < (1e-5 if problem.start.dtype == torch.float32 else 1e-12)


def test_the_ladder_takes_the_loosest_tolerance_that_reaches_the_goal() -> None:
    problem = halving()
    far, near = problem.truth * (1 + 1e-3), problem.truth * (1 + 1e-6)
    counts = {t: (k + 1, near if t <= 1e-4 else far) for k, t in enumerate(_measure.LADDER)}
    rungs = _measure.ladder(scripted(counts), problem, {})
    assert [rung.tolerance for rung in rungs] == [1e-2, 1e-3, 1e-4, 1e-5]
    best = _measure.fastest([replace(rung, seconds=rung.outcome.evaluations) for rung in rungs])
    assert best is not None
    assert best.tolerance == 1e-4
    never = _measure.row(scripted(dict.fromkeys(_measure.LADDER, (1, far))), problem)
    assert never.best is None
    assert never.table.error == pytest.approx(1e-3)


def test_declared_inputs_save_rows() -> None:
    problem = _dense.slow_sample(quick=True)
    declared, whole = (_ours.ours("Picard", told).prepare(problem, {}, 1e-5).counted() for told in (True, False))
    assert abs(declared.evaluations - whole.evaluations) <= 2  # products of one row round otherwise than of four
    assert declared.rows < whole.rows == 4 * whole.evaluations


def test_verdicts_name_what_is_not_met() -> None:
    outcome = _method.Outcome(torch.zeros(1), 10, 10, True)
    rung = _measure.Rung({}, 1e-5, outcome, 1e-6, 1.0)
    rows = [
        _measure.Row("deqops Picard", rung, rung, 1.5, 1.4, 2.0, 2.0),
        _measure.Row("torchdeq anderson", rung, rung, 2.0, 2.0, 1.0, 1.0),
    ]
    (met, text), *_ = _verdicts.picard({"a": rows}, 1)
    assert not met
    assert "1.50" in text
    assert [met for met, _ in _verdicts.walls({"a": rows}, 1)] == [False, False]
    assert _tables.best_wall(rows, "deqops ") == 2.0


def test_peak_memory_of_a_known_allocation() -> None:
    _memory.warm_up()

    def task(count: int) -> Callable[[], object]:
        return lambda: [torch.zeros(1000, dtype=DOUBLE) for _ in range(count)]

    assert _memory.peak_bytes(task(7)) - _memory.peak_bytes(task(2)) == pytest.approx(40_000, rel=0.05)


def test_missing_data_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Cora"):
        next(_catalogue.problems("d", quick=True, planetoid=tmp_path))


def test_the_script_prints_verdicts_and_refuses_unknown_problems() -> None:
    def run(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, str(SCRIPT), *options], capture_output=True, text=True, check=False)

    done = run("--quick", "--repeats", "1", "--problem", "b")
    assert done.returncode == 0, done.stderr
    assert "(b) wall time to a true error of 1e-05" in done.stdout
    assert "target 5" in done.stdout
    wrong = run("--problem", "z")
    assert wrong.returncode == 2
    assert "invalid choice: 'z'" in wrong.stderr
