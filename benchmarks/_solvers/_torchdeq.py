"""torchdeq's solvers, with the relative stop rule, Anderson at the best of several settings."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ._method import Method, Outcome, Setting, Task
from ._problem import Counter, Map, Problem, bare

LARGE = 10**6
"""Unknowns above which its Broyden keeps few factors: it allocates all of them at the start."""
SETTINGS: dict[str, tuple[Setting, ...]] = {
    "fixed_point_iter": ({},),
    "anderson": ({"m": 6, "lam": 1e-4}, {"m": 6, "lam": 1e-8}, {"m": 10, "lam": 1e-8}),
    "broyden": ({},),
}


def get_solver() -> Callable[[str], Callable[..., Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchdeq.solver import get_solver
    return get_solver


def torchdeq(name: str) -> Method:
    call = get_solver()(name)

    def prepare(problem: Problem, setting: Setting, tolerance: float) -> Task:
        shape = problem.start.shape
        start = problem.start if problem.batch_dims else problem.start.reshape(1, -1)
        options = {"max_iter": problem.most, "tol": tolerance, "stop_mode": "rel", **setting}
        if name == "broyden":
            options |= {"max_iter": 200, "LBFGS_thres": 30 if start.numel() > LARGE else None}

        def run(operator: Map) -> Tensor:
            rows = operator if problem.batch_dims else lambda z: operator(z.view(shape)).reshape(1, -1)
            with torch.no_grad():
                return call(rows, start, **options)[0].reshape(shape)

        def counted() -> Outcome:
            counter = Counter(problem)
            value = run(problem.bound(counter))
            return Outcome(value, counter.evaluations, counter.rows, None)

        operator = problem.bound()
        return Task(lambda: run(operator), counted, lambda count: bare(operator, problem.start, count))

    return Method(f"torchdeq {name}", prepare, SETTINGS[name])


def methods() -> list[Method]:
    return [torchdeq(name) for name in SETTINGS]
