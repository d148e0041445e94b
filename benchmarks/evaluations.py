"""Evaluations of the accelerated solvers on kinds of layers, beside torchdeq's, scipy's, jaxopt's and optimistix's.

    python benchmarks/evaluations.py [--seeds N] [--quick]

Each layer is one problem of 100 unknowns in float64, solved to a relative residual of 1e-8. Printed: the mean over the
seeds, and how many were solved where not all were; solved means that the residual is there, whatever a method claims.
A peer with several settings has the one that solves most, then the one with the fewest evaluations.
"""

from __future__ import annotations

import argparse
import math
import warnings
from collections.abc import Callable, Sequence
from statistics import mean

import torch
from _solvers import _catalogue
from _solvers._dense import DOUBLE, orthogonal, randn
from _solvers._method import Method, Setting
from _solvers._problem import Problem
from torch import Tensor

TOLERANCE = 1e-8
MOST = 1000
Matrix = Callable[[int, int], Tensor]


def gaussian(n: int, seed: int) -> Tensor:
    """Spectral radius 0.99, far from normal."""
    w = randn(n, n, seed=seed)
    return w * (0.99 / torch.linalg.eigvals(w).abs().max())


def skew(n: int, seed: int) -> Tensor:
    w = randn(n, n, seed=seed)
    return 0.95 * (w - w.T) / torch.linalg.matrix_norm(w - w.T, 2)


def laplacian(n: int, seed: int) -> Tensor:
    """Jacobi's iteration for Poisson's equation on an interval; the seed draws the right-hand side alone."""
    beside = torch.ones(n - 1, dtype=DOUBLE)
    return (torch.diag(beside, 1) + torch.diag(beside, -1)) / 2


def eigenvectors(n: int, seed: int) -> Tensor:
    """Eigenvalues over [-0.99, 0.99], eigenvectors normally distributed, hence ill-conditioned."""
    v = randn(n, n, seed=seed)
    return v @ torch.diag(torch.linspace(-0.99, 0.99, n, dtype=DOUBLE)) @ torch.linalg.inv(v)


def normal(n: int, seed: int) -> Tensor:
    return 0.95 * orthogonal(n, seed)


def large(n: int, seed: int) -> Tensor:
    w = randn(n, n, seed=seed)
    return 3 * w / torch.linalg.matrix_norm(w, 2)


LAYERS: dict[str, tuple[Matrix, Callable[[Tensor], Tensor]]] = {
    "linear, Gaussian of spectral radius 0.99": (gaussian, lambda a: a),
    "linear, skew of norm 0.95": (skew, lambda a: a),
    "linear, Laplacian": (laplacian, lambda a: a),
    "linear, 0.95 x orthogonal": (normal, lambda a: a),
    "linear, ill-conditioned eigenvectors": (eigenvectors, lambda a: a),
    "tanh, Gaussian of norm 3": (large, torch.tanh),
    "ReLU, 0.95 x orthogonal": (normal, torch.relu),
}


def problem(name: str, n: int, seed: int) -> Problem:
    matrix, link = LAYERS[name]
    w, b = matrix(n, seed), randn(1, n, seed=1000 + seed)

    def in_jax(jax: object) -> object:
        weight, bias = w.numpy(), b.numpy()
        outer = {torch.tanh: jax.numpy.tanh, torch.relu: jax.nn.relu}.get(link, lambda a: a)  # type: ignore[attr-defined]
        return lambda z: outer(z @ weight + bias)

    start = torch.zeros_like(b)
    return Problem("layer", name, lambda z: link(z @ w + b), start, start + math.nan, in_jax, most=MOST)


def evaluations(method: Method, setting: Setting, layer: Problem, size: float) -> int | None:
    """None where the residual is not there in the end; an image may be ten times as far as its point was."""
    sized = Problem(layer.name, layer.title, layer.operator, layer.start, torch.tensor(size), layer.in_jax, most=MOST)
    outcome = method.prepare(sized, setting, TOLERANCE).counted()
    image = layer.operator(outcome.value)
    solved = bool((image - outcome.value).norm() <= 10 * TOLERANCE * image.norm())
    return outcome.evaluations if solved and outcome.evaluations <= MOST else None


def cell(method: Method, layers: Sequence[tuple[Problem, float]]) -> str:
    rows = [[evaluations(method, setting, *layer) for layer in layers] for setting in method.settings]
    best = max(([count for count in row if count is not None] for row in rows), key=lambda row: (len(row), -sum(row)))
    solved = f" ({len(best)}/{len(layers)})" if len(best) < len(layers) else ""
    return f"{mean(best):.0f}{solved}" if best else "-"


def size_of(layer: Problem) -> float:
    """The length of the equilibrium, for peers that know absolute tolerances alone."""
    from deqops import NewtonKrylov, Tolerance, solve

    with torch.no_grad():
        tolerance = Tolerance(relative=TOLERANCE)
        return float(
            solve(layer.operator, layer.start, solver=NewtonKrylov(), tolerance=tolerance, throw=False).value.norm()
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Evaluations of solvers on kinds of layers.")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="tiny layers and one seed, to see that it runs")
    given = parser.parse_args()
    seeds, n = (1, 12) if given.quick else (given.seeds, 100)
    methods, missing = _catalogue.methods()
    methods = [method for method in methods if "undeclared" not in method.name]
    for package in missing:
        print(f"{package}: not installed")
    for name in LAYERS:
        layers = [(layer, size_of(layer)) for layer in (problem(name, n, seed) for seed in range(seeds))]
        print(f"\n{name}, {n} unknowns, {seeds} seeds")
        for method in methods:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # peers' use of their dependencies is dated
                print(f"  {method.name:<26} {cell(method, layers)}", flush=True)


if __name__ == "__main__":
    main()
