"""What is asked of a method: a task to time, a counted run, and its own bare loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ._problem import Problem

Setting = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Outcome:
    """A counted run. `claim` is what the method says of itself: converged, not, or nothing at all (None)."""

    value: Tensor
    evaluations: int
    rows: int
    claim: bool | None


@dataclass(frozen=True, eq=False)
class Task:
    """One solve, ready to run. `bare(k)` applies the operator k times and does nothing else."""

    run: Callable[[], object]
    counted: Callable[[], Outcome]
    bare: Callable[[int], object]


@dataclass(frozen=True, eq=False)
class Method:
    """A solver of some package.

    Attributes:
        name: package and solver.
        prepare: a task from a problem, a setting and a relative tolerance.
        settings: the candidates; the best is measured.
        takes: whether a problem suits it.
    """

    name: str
    prepare: Callable[[Problem, Setting, float], Task]
    settings: tuple[Setting, ...] = ({},)
    takes: Callable[[Problem], bool] = lambda problem: True
