"""Solvers beside torchdeq's on the same problems, in one run: evaluations, true errors and time.

`python benchmarks/solvers.py` prints a table. Equilibria are known: the problems are linear, or solved to the end.
The wall ratio is a solve's time to that of a bare loop of as many applications of the operator, each the best of
REPEATS, interleaved. On operators of a few microseconds, as most of these, it is the price of a step's small kernels.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from deqops import Anderson, Broyden, Picard, Solver, Tolerance, solve

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torchdeq.solver import anderson_solver, broyden_solver, fixed_point_iter

Operator = Callable[[Tensor], Tensor]
Run = Callable[[Operator, Tensor], tuple[Tensor, int]]
REPEATS = 3
MOST = 3000


def linear(scale: float, top: float) -> tuple[Operator, Tensor]:
    generator = torch.Generator().manual_seed(0)
    q = torch.linalg.qr(torch.randn(60, 60, generator=generator, dtype=torch.float64))[0]
    a = q @ torch.diag(torch.linspace(-0.9, top, 60, dtype=torch.float64)) @ q.T
    b = scale * torch.randn(1, 60, generator=generator, dtype=torch.float64)
    return (lambda z: z @ a.T + b), torch.linalg.solve(torch.eye(60, dtype=torch.float64) - a, b.T).T


def layer() -> tuple[Operator, Tensor]:
    generator = torch.Generator().manual_seed(1)
    w = torch.randn(200, 200, generator=generator, dtype=torch.float64)
    w = 0.98 * w / torch.linalg.matrix_norm(w, 2)
    b = 0.1 * torch.randn(8, 200, generator=generator, dtype=torch.float64)
    operator = lambda z: torch.tanh(z @ w.T + b)  # noqa: E731
    found = solve(operator, b * 0, tolerance=Tolerance(relative=1e-14), max_evaluations=5000, throw=False)
    return operator, found.value


def wide() -> tuple[Operator, Tensor]:
    """0.9 times an orthogonal matrix: no method has a short cut, and an application costs something."""
    generator = torch.Generator().manual_seed(2)
    w = 0.9 * torch.linalg.qr(torch.randn(512, 512, generator=generator, dtype=torch.float64))[0]
    b = torch.randn(64, 512, generator=generator, dtype=torch.float64)
    return (lambda z: z @ w + b), torch.linalg.solve(torch.eye(512, dtype=torch.float64) - w, b, left=False)


def ours(solver: Solver) -> Run:
    def run(operator: Operator, start: Tensor) -> tuple[Tensor, int]:
        tolerance = Tolerance(relative=1e-8)
        found = solve(operator, start, solver=solver, tolerance=tolerance, max_evaluations=MOST, throw=False)
        return found.value, int(found.evaluations.max())

    return run


def theirs(solver: Callable[..., tuple[Tensor, object, dict[str, Tensor]]]) -> Run:
    def run(operator: Operator, start: Tensor) -> tuple[Tensor, int]:
        evaluations = 0

        def counted(z: Tensor) -> Tensor:
            nonlocal evaluations
            evaluations += 1
            return operator(z)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value, _, _ = solver(counted, start, max_iter=MOST, tol=1e-8, stop_mode="rel")
        return value, evaluations

    return run


METHODS = {
    "deqops Picard": ours(Picard()),
    "deqops Anderson": ours(Anderson()),
    "deqops Broyden": ours(Broyden()),
    "torchdeq fixed_point": theirs(fixed_point_iter),
    "torchdeq anderson": theirs(anderson_solver),
    "torchdeq broyden": theirs(broyden_solver),
}
PROBLEMS = {
    "linear, q = 0.95": linear(1.0, 0.95),
    "same, scaled by 1e-3": linear(1e-3, 0.95),
    "linear, q = 0.999": linear(1.0, 0.999),
    "tanh layer, n = 200": layer(),
    "orthogonal, 64 x 512": wide(),
}


def bare(operator: Operator, start: Tensor, count: int) -> None:
    z = start
    for _ in range(count):
        z = operator(z)


def seconds(task: Callable[[], object]) -> float:
    begin = time.perf_counter()
    task()
    return time.perf_counter() - begin


def wall_ratio(run: Run, operator: Operator, start: Tensor, count: int) -> float:
    """The solve's best time to the bare loop's, taken in turns."""
    times = [
        (seconds(lambda: run(operator, start)), seconds(lambda: bare(operator, start, count))) for _ in range(REPEATS)
    ]
    return min(solve for solve, _ in times) / min(loop for _, loop in times)


def main() -> None:
    print(f"{'problem':<22} {'method':<22} {'evaluations':>11} {'relative error':>15} {'wall ratio':>11}")
    for problem, (operator, truth) in PROBLEMS.items():
        start = torch.zeros_like(truth)
        for method, run in METHODS.items():
            value, count = run(operator, start)
            error = float((value - truth).norm() / truth.norm())
            ratio = wall_ratio(run, operator, start, count)
            print(f"{problem:<22} {method:<22} {count:>11} {error:>15.1e} {ratio:>11.1f}")


if __name__ == "__main__":
    main()
