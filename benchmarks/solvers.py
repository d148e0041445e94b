"""deqops and torchdeq on the same problems, in one run: evaluations, true error, time per evaluation.

Run: python benchmarks/solvers.py. The reference equilibria are solved directly or to 1e-13 in float64. The
overhead is the time per evaluation of the operator, divided by that of torchdeq's fixed-point iteration in the
same run.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from deqops import Anderson, Picard, Solver, Tolerance, solve

RELATIVE = 1e-6
MOST = 500

Operator = Callable[[Tensor], Tensor]
Method = Callable[[Operator, Tensor], Tensor]


@dataclass(frozen=True)
class Problem:
    name: str
    operator: Operator
    start: Tensor
    equilibrium: Tensor


@dataclass
class Counted:
    """An operator that counts its evaluations."""

    operator: Operator
    evaluations: int = 0

    def __call__(self, z: Tensor) -> Tensor:
        self.evaluations += 1
        return self.operator(z)


def refined(operator: Operator, start: Tensor) -> Tensor:
    value: Tensor = solve(operator, start, tolerance=Tolerance(relative=1e-13), max_evaluations=3000).value
    return value


def linear(name: str, W: Tensor, scale: float = 1.0) -> Problem:
    """z = scale (z / scale W + b), solved directly."""
    size = W.shape[0]
    b = torch.randn(8, size, dtype=torch.float64)
    exact = scale * torch.linalg.solve(torch.eye(size, dtype=torch.float64) - W, b, left=False)
    return Problem(name, lambda z: scale * (z / scale @ W + b), torch.zeros_like(b), exact)


def problems() -> list[Problem]:
    torch.manual_seed(0)
    size = 128
    basis = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64))[0]
    spread = basis @ torch.diag(torch.linspace(0, 0.97, size, dtype=torch.float64)) @ basis.mT
    skew = torch.randn(size, size, dtype=torch.float64) / size**0.5
    monotone = skew - skew.mT - 0.5 * torch.eye(size, dtype=torch.float64)
    W, x = torch.randn(size, size, dtype=torch.float64) / size**0.5, torch.randn(8, size, dtype=torch.float64)

    def layer(z: Tensor) -> Tensor:
        return torch.tanh(0.9 * z @ W + x)

    start = torch.zeros_like(x)
    return [
        Problem("tanh layer", layer, start, refined(layer, start)),
        linear("slow contraction, q = 0.97", spread),
        linear("the same times 1e-3", spread, scale=1e-3),
        linear("monotone, Picard diverges", monotone),
    ]


def ours(solver: Solver) -> Method:
    tolerance = Tolerance(relative=RELATIVE)

    def method(operator: Operator, start: Tensor) -> Tensor:
        solution = solve(operator, start, solver=solver, tolerance=tolerance, max_evaluations=MOST, throw=False)
        value: Tensor = solution.value
        return value if solution.converged else torch.full_like(value, torch.nan)

    return method


def torchdeqs(name: str) -> Method:
    from torchdeq.solver import get_solver

    solver = get_solver(name)

    def method(operator: Operator, start: Tensor) -> Tensor:
        value: Tensor = solver(operator, start, max_iter=MOST, tol=RELATIVE, stop_mode="rel")[0]
        return value

    return method


def measured(method: Method, problem: Problem) -> tuple[int, float, float]:
    """Evaluations, worst relative error of a problem of the batch, best time per evaluation of three runs."""
    times = []
    for _ in range(3):
        counted = Counted(problem.operator)
        begin = time.perf_counter()
        value = method(counted, problem.start)
        times.append((time.perf_counter() - begin) / counted.evaluations)
    error = torch.linalg.vector_norm(value - problem.equilibrium, dim=1)
    size = torch.linalg.vector_norm(problem.equilibrium, dim=1)
    return counted.evaluations, float((error / size).max()), min(times)


def main() -> None:
    warnings.simplefilter("ignore")  # torchdeq's use of torch is dated
    torch.set_num_threads(1)
    methods = {
        "torchdeq fixed_point_iter": torchdeqs("fixed_point_iter"),
        "torchdeq anderson": torchdeqs("anderson"),
        "torchdeq broyden": torchdeqs("broyden"),
        "deqops Picard()": ours(Picard()),
        "deqops Picard(0.5)": ours(Picard(0.5)),
        "deqops Anderson()": ours(Anderson()),
    }
    print(f"relative tolerance {RELATIVE:g}, at most {MOST} evaluations, batch 8 x 128, float64")
    for problem in problems():
        print(f"\n{problem.name}\n{'':28}{'evaluations':>12}{'true error':>14}{'overhead':>10}")
        base = 0.0
        with torch.no_grad():
            for name, method in methods.items():
                count, error, seconds = measured(method, problem)
                base = base or seconds
                shown = "told: failed" if error != error else f"{error:.1e}"
                print(f"{name:28}{count:12d}{shown:>14}{seconds / base:10.2f}")


if __name__ == "__main__":
    main()
