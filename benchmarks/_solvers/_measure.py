"""The measurement: a ladder of tolerances per method, then times taken in turns."""

from __future__ import annotations

import math
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from deqops import InputError

from ._method import Method, Outcome, Setting, Task
from ._problem import Problem

LADDER = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
GOAL = 1e-5
"""The true error whose price is compared."""
BUDGET = 10.0
"""Seconds after which a table's rounds end."""
LEAST = 3
"""Rounds that are taken at any rate, and all that a solve longer than LONG takes part in."""
PATIENCE = 3.0
"""Seconds; the ladder ends with a rung that took longer, and no such solve is timed more than once."""
LONG = 0.5
"""Seconds."""
SHORT = 0.1
"""Seconds up to which a solve is timed after an untimed one of its own: else it pays for the caches of the last."""
TRIALS = 5
"""How often a short solve is timed to find the rung that reaches the goal first."""


@dataclass(frozen=True, eq=False)
class Rung:
    """One run of a method: its setting, its tolerance, what came out and how long it took."""

    setting: Setting
    tolerance: float
    outcome: Outcome
    error: float
    seconds: float

    @property
    def price(self) -> float:
        """Evaluations per decade of the true error."""
        return self.outcome.evaluations / max(-math.log10(max(self.error, 1e-16)), 1e-3)


@dataclass(frozen=True, eq=False)
class Row:
    """A method on a problem: at the table's tolerance, and on the rung that reaches the goal first, if any does.

    Attributes:
        best: the rung; None where no tolerance reached the goal.
        ratio: wall time at the table's tolerance to that of a bare loop of as many applications.
        quiet_ratio: the same of the shortest times: where it differs much, the machine was not quiet.
        wall: median seconds of the best rung.
        quiet_wall: the shortest.
    """

    method: str
    table: Rung
    best: Rung | None
    ratio: float = math.nan
    quiet_ratio: float = math.nan
    wall: float = math.inf
    quiet_wall: float = math.inf


def seconds(task: Callable[[], object]) -> float:
    begin = time.perf_counter()
    task()
    return time.perf_counter() - begin


def typical_seconds(task: Callable[[], object]) -> float:
    """Of a short one the median of TRIALS, so that no chance decides which rung is the best."""
    first = seconds(task)
    return first if first > SHORT else statistics.median(seconds(task) for _ in range(TRIALS))


def climb(method: Method, problem: Problem, setting: Setting, tolerance: float) -> Rung:
    """A counted run, and a timed one for what reaches the goal."""
    task = method.prepare(problem, setting, tolerance)
    outcome = task.counted()
    error = problem.error(outcome.value)
    return Rung(setting, tolerance, outcome, error, typical_seconds(task.run) if error <= GOAL else math.inf)


def ladder(method: Method, problem: Problem, setting: Setting) -> list[Rung]:
    """From loose to tight; one more after the first that reaches the goal, for a tighter one may take less time."""
    rungs: list[Rung] = []
    for tolerance in LADDER:
        begin = time.perf_counter()
        rungs.append(climb(method, problem, setting, tolerance))
        reached = [rung.seconds for rung in rungs if rung.error <= GOAL]
        enough = len(reached) == 2 or (reached and reached[0] > LONG)
        if enough or time.perf_counter() - begin > PATIENCE:
            break
    return rungs


def fastest(rungs: Sequence[Rung]) -> Rung | None:
    """The rung that reaches the goal in the shortest time."""
    return min((rung for rung in rungs if rung.error <= GOAL), key=lambda rung: rung.seconds, default=None)


def row(method: Method, problem: Problem) -> Row:
    """Without times; the setting is the one with the fewest evaluations per decade at the table's tolerance."""
    tried = [climb(method, problem, setting, problem.tolerance) for setting in method.settings]
    table = min(tried, key=lambda rung: rung.price)
    return Row(method.name, table, fastest([table, *ladder(method, problem, table.setting)]))


def timed(tasks: Sequence[Callable[[], object]], repeats: int, budget: float) -> list[tuple[float, float]]:
    """The median and the shortest time of each, taken in turns; a first round does not count.

    The long ones take part in the first three rounds only, and those beyond all patience in that first round alone.
    """
    first = [seconds(task) for task in tasks]
    times = [[once] if once > PATIENCE else [] for once in first]
    begin = time.perf_counter()
    for turn in range(repeats):
        if turn >= LEAST and time.perf_counter() - begin > budget:
            break
        for k, task in enumerate(tasks):
            if first[k] <= (PATIENCE if turn < LEAST else LONG):
                if first[k] <= SHORT:
                    task()
                times[k].append(seconds(task))
    return [(statistics.median(column), min(column)) for column in times]


def measured(
    methods: Sequence[Method],
    problem: Problem,
    repeats: int,
    budget: float,
    note: Callable[[str], None],
    refused: dict[str, str],
) -> list[Row]:
    """All methods on a problem; those that refuse it go into `refused` with their reason."""
    taking: list[Method] = []
    rows: list[Row] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peers' use of their dependencies is dated
        for method in methods:
            begin = time.perf_counter()
            try:
                found = row(method, problem) if method.takes(problem) else None
            except InputError as error:
                refused[method.name] = str(error)
                continue
            if found is not None:
                taking.append(method)
                rows.append(found)
                note(f"{problem.name}: {method.name}, ladder in {time.perf_counter() - begin:.1f} s")
        begin = time.perf_counter()
        rows = with_ratios(taking, problem, rows, repeats, budget)
        rows = with_walls(taking, problem, rows, repeats, budget)
        note(f"{problem.name}: timed in {time.perf_counter() - begin:.1f} s")
    return rows


def with_ratios(
    methods: Sequence[Method], problem: Problem, rows: Sequence[Row], repeats: int, budget: float
) -> list[Row]:
    tasks: list[Callable[[], object]] = []
    for method, found in zip(methods, rows, strict=True):
        task: Task = method.prepare(problem, found.table.setting, problem.tolerance)
        count = max(found.table.outcome.evaluations, 1)
        tasks += [task.run, lambda task=task, count=count: task.bare(count)]
    times = timed(tasks, repeats, budget)
    pairs = zip(times[::2], times[1::2], strict=True)
    ratios = [(run[0] / loop[0], run[1] / loop[1]) for run, loop in pairs]
    return [replace(found, ratio=ratio, quiet_ratio=quiet) for found, (ratio, quiet) in zip(rows, ratios, strict=True)]


def with_walls(
    methods: Sequence[Method], problem: Problem, rows: Sequence[Row], repeats: int, budget: float
) -> list[Row]:
    reached = [(k, found.best) for k, found in enumerate(rows) if found.best is not None]
    tasks = [methods[k].prepare(problem, best.setting, best.tolerance).run for k, best in reached]
    walls = dict(zip((k for k, _ in reached), timed(tasks, repeats, budget) if tasks else [], strict=True))
    both = [walls.get(k, (math.inf, math.inf)) for k in range(len(rows))]
    return [replace(found, wall=wall, quiet_wall=quiet) for found, (wall, quiet) in zip(rows, both, strict=True)]
