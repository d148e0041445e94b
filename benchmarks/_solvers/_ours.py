"""deqops' solvers, with their defaults."""

from __future__ import annotations

from collections.abc import Callable

import torch

from deqops import Anderson, Broyden, NewtonKrylov, Picard, Solution, Solver, Tolerance, solve

from ._method import Method, Outcome, Setting, Task
from ._problem import Counter, Operator, Problem, bare

SOLVERS: dict[str, Callable[[], Solver]] = {
    "Picard": Picard,
    "Anderson": Anderson,
    "Broyden": Broyden,
    "NewtonKrylov": NewtonKrylov,
}


def solution(problem: Problem, operator: Operator, solver: Solver, tolerance: float, declared: bool) -> Solution:
    with torch.no_grad():
        return solve(
            operator,
            problem.start,
            *problem.inputs,
            solver=solver,
            tolerance=Tolerance(relative=tolerance),
            max_evaluations=problem.most,
            batch_dims=problem.batch_dims,
            batched=problem.batched if declared else None,
            throw=False,
        )


def ours(name: str, declared: bool = True) -> Method:
    solver = SOLVERS[name]()

    def prepare(problem: Problem, setting: Setting, tolerance: float) -> Task:
        def counted() -> Outcome:
            counter = Counter(problem)
            found = solution(problem, counter, solver, tolerance, declared)
            spent = found.evaluations  # products with derivatives count, though they are no calls of the operator
            evaluations, rows = max(counter.evaluations, int(spent.max())), max(counter.rows, int(spent.sum()))
            return Outcome(found.value, evaluations, rows, found.converged)

        operator = problem.bound()
        return Task(
            lambda: solution(problem, problem.operator, solver, tolerance, declared),
            counted,
            lambda count: bare(operator, problem.start, count),
        )

    return Method(
        f"deqops {name}" + ("" if declared else ", undeclared"),
        prepare,
        takes=lambda problem: declared or problem.batched is not None,
    )


def methods() -> list[Method]:
    return [ours(name) for name in SOLVERS] + [ours(name, declared=False) for name in ("Picard", "Anderson")]
