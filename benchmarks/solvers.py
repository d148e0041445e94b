"""Solvers beside torchdeq's on the same problems, in one run: evaluations and true errors.

`python benchmarks/solvers.py` prints a table. Equilibria are known: the problems are linear, or solved to the end.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from deqops import Anderson, Picard, Tolerance, solve

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torchdeq.solver import anderson_solver, fixed_point_iter

Operator = Callable[[Tensor], Tensor]


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


def ours(solver: Picard | Anderson) -> Callable[[Operator, Tensor], tuple[Tensor, int]]:
    def run(operator: Operator, start: Tensor) -> tuple[Tensor, int]:
        tolerance = Tolerance(relative=1e-8)
        found = solve(operator, start, solver=solver, tolerance=tolerance, max_evaluations=3000, throw=False)
        return found.value, int(found.evaluations.max())

    return run


def theirs(
    solver: Callable[..., tuple[Tensor, object, dict[str, Tensor]]],
) -> Callable[[Operator, Tensor], tuple[Tensor, int]]:
    def run(operator: Operator, start: Tensor) -> tuple[Tensor, int]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value, _, info = solver(operator, start, max_iter=3000, tol=1e-8, stop_mode="rel")
        return value, int(info["nstep"].max())

    return run


METHODS = {
    "deqops Picard": ours(Picard()),
    "deqops Anderson": ours(Anderson()),
    "torchdeq fixed_point": theirs(fixed_point_iter),
    "torchdeq anderson": theirs(anderson_solver),
}
PROBLEMS = {
    "linear, q = 0.95": linear(1.0, 0.95),
    "same, scaled by 1e-3": linear(1e-3, 0.95),
    "linear, q = 0.999": linear(1.0, 0.999),
    "tanh layer, n = 200": layer(),
}


def main() -> None:
    print(f"{'problem':<22} {'method':<22} {'evaluations':>11} {'relative error':>15}")
    for problem, (operator, truth) in PROBLEMS.items():
        for method, run in METHODS.items():
            value, count = run(operator, torch.zeros_like(truth))
            error = float((value - truth).norm() / truth.norm())
            print(f"{problem:<22} {method:<22} {count:>11} {error:>15.1e}")


if __name__ == "__main__":
    main()
