"""scipy.optimize on the whole state, flattened and in float64 between evaluations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._method import Method, Outcome, Setting, Task
from ._problem import Counter, Map, Problem, bare

MOST = 300
SETTINGS: dict[str, tuple[Setting, ...]] = {
    "anderson": ({"alpha": 1.0, "M": 5, "line_search": None}, {"alpha": 1.0, "M": 10, "line_search": None}),
    "broyden1": ({"alpha": 1.0, "line_search": None},),
    "newton_krylov": ({"line_search": None},),
}


def l2(vector: Any) -> float:
    return float(np.linalg.norm(vector))


def scipy(name: str) -> Method:
    from scipy import optimize

    call: Callable[..., Any] = getattr(optimize, name)

    def prepare(problem: Problem, setting: Setting, tolerance: float) -> Task:
        options = {**setting, "f_tol": tolerance * problem.size, "tol_norm": l2, "maxiter": MOST}
        if name == "newton_krylov":
            options["rdiff"] = torch.finfo(problem.start.dtype).eps ** 0.5

        def run(operator: Map) -> tuple[Tensor, bool]:
            def residual(v: Any) -> Any:
                z = torch.from_numpy(v).to(problem.start.dtype).reshape(problem.start.shape)
                return (operator(z).double() - z.double()).reshape(-1).numpy()

            with torch.no_grad(), np.errstate(all="ignore"):
                try:
                    found, claim = call(residual, problem.start.double().reshape(-1).numpy(), **options), True
                except (optimize.NoConvergence, ValueError) as error:
                    found, claim = error.args[0], False
            if isinstance(found, str):  # it stopped at an overflow, with no state to show
                return torch.full_like(problem.start, torch.nan), False
            return torch.from_numpy(np.asarray(found)).reshape(problem.start.shape), claim

        def counted() -> Outcome:
            counter = Counter(problem)
            value, claim = run(problem.bound(counter))
            return Outcome(value, counter.evaluations, counter.rows, claim)

        operator = problem.bound()
        return Task(lambda: run(operator), counted, lambda count: bare(operator, problem.start, count))

    return Method(f"scipy {name}", prepare, SETTINGS[name], lambda problem: problem.in_scipy)


def methods() -> list[Method]:
    return [scipy(name) for name in SETTINGS]
