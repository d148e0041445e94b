"""Anderson acceleration: exact on small linear problems, indifferent to scale, robust."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from deqops import Anderson, Picard, Result, Solution, Solver, Tolerance, solve


def symmetric(rate: float, size: int = 60) -> tuple[Tensor, Tensor, Tensor]:
    """W with eigenvalues spread over [-rate, rate], an offset b and the fixed point of `z W + b`."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0]
    W = basis @ torch.diag(torch.linspace(-rate, rate, size, dtype=torch.float64)) @ basis.mT
    b = torch.randn(1, size, generator=generator, dtype=torch.float64)
    return W, b, torch.linalg.solve(torch.eye(size, dtype=torch.float64) - W, b.mT).mT


def run(W: Tensor, b: Tensor, solver: Solver, relative: float = 1e-8, most: int = 2000) -> Solution:
    tolerance = Tolerance(relative=relative)
    return solve(
        lambda z: z @ W + b,
        torch.zeros_like(b),
        solver=solver,
        tolerance=tolerance,
        max_evaluations=most,
        throw=False,
    )


def test_linear_problem_in_few_dimensions_ends_in_as_many_steps() -> None:
    """Walker and Ni: on linear problems type II is GMRES, exact after as many steps as unknowns."""
    W, b, exact = symmetric(0.9, size=5)
    solution = run(W, b, Anderson(), relative=1e-12)
    assert solution.converged
    assert int(solution.evaluations) <= 5 + 2
    assert torch.allclose(solution.value, exact, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ill_conditioned_contraction_needs_a_fraction_of_picards_evaluations(dtype: torch.dtype) -> None:
    W, b, exact = symmetric(0.99)
    W, b = W.to(dtype), b.to(dtype)
    anderson, picard = (run(W, b, solver, relative=3e-6) for solver in (Anderson(), Picard()))
    assert anderson.converged
    assert picard.converged
    assert 5 * int(anderson.evaluations) < int(picard.evaluations)
    assert torch.linalg.vector_norm(anderson.value - exact) < 1e-3 * torch.linalg.vector_norm(exact)


@pytest.mark.parametrize("scale", [1e-3, 1e3, 1e-8, 1e25, 2.0**-40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scaling_the_problem_changes_nothing(scale: float, dtype: torch.dtype) -> None:
    torch.manual_seed(2)
    W, b = (torch.randn(30, 30) / math.sqrt(30)).to(dtype), torch.randn(2, 30).to(dtype)

    def count(factor: float) -> Tensor:
        def G(z: Tensor) -> Tensor:
            return factor * torch.tanh(z / factor @ W.mT + b)

        start = torch.zeros(2, 30, dtype=dtype)
        return solve(G, start, solver=Anderson(), tolerance=Tolerance(relative=1e-5)).evaluations

    difference = (count(scale) - count(1.0)).abs()
    assert difference.max() <= (0 if math.frexp(scale)[0] == 0.5 else 1)


def test_monotone_problem_where_picard_diverges() -> None:
    """T5: I - W has a positive symmetric part, so one equilibrium exists; Picard's map expands."""
    torch.manual_seed(3)
    skew = torch.randn(40, 40, dtype=torch.float64) / math.sqrt(40)
    W = skew - skew.mT - 0.5 * torch.eye(40, dtype=torch.float64)
    b = torch.randn(1, 40, dtype=torch.float64)
    assert run(W, b, Picard()).results == [Result.DIVERGED]
    solution = run(W, b, Anderson(), relative=1e-8)
    exact = torch.linalg.solve(torch.eye(40, dtype=torch.float64) - W, b, left=False)
    assert solution.converged
    assert int(solution.evaluations) <= 100
    assert torch.allclose(solution.value, exact, atol=1e-6)


def test_nonlinear_monotone_problem() -> None:
    torch.manual_seed(5)
    skew = torch.randn(40, 40, dtype=torch.float64) / math.sqrt(40)
    W, b = skew - skew.mT - 2 * torch.eye(40, dtype=torch.float64), torch.randn(1, 40, dtype=torch.float64)

    def G(z: Tensor) -> Tensor:
        return torch.tanh(z @ W + b)

    start = torch.zeros(1, 40, dtype=torch.float64)
    assert not solve(G, start, solver=Picard(), throw=False).converged
    solution = solve(G, start, tolerance=Tolerance(relative=1e-10))
    assert torch.allclose(G(solution.value), solution.value, atol=1e-9)


def test_constant_operator_and_exact_start() -> None:
    """Differences of zero length are no columns: nothing is divided by 0."""
    target = torch.ones(2, 3)
    constant = solve(lambda z: target + 0 * z, torch.zeros(2, 3))
    assert torch.equal(constant.value, target)
    assert constant.evaluations.tolist() == [2, 2]
    there = solve(lambda z: target + 0 * z, target)
    assert there.evaluations.tolist() == [1, 1]


@pytest.mark.parametrize("memory", [1, 3, 30])
def test_any_memory_works_with_fewer_unknowns_than_columns(memory: int) -> None:
    W, b, exact = symmetric(0.9, size=3)
    solution = run(W, b, Anderson(memory=memory), relative=1e-10)
    assert solution.converged
    assert torch.allclose(solution.value, exact, atol=1e-8)


def test_a_step_that_overflows_gives_way_to_picards() -> None:
    class Overflowing:
        def init(self, z: Tensor) -> None:
            return None

        def step(self, memory: None, z: Tensor, image: Tensor) -> tuple[Tensor, None]:
            proposal = image.clone()
            proposal[0] = torch.inf
            return proposal, None

    solution = solve(lambda z: 0.5 * z + 1, torch.zeros(2, 2), solver=Overflowing())
    assert torch.equal(solution.value[0], solution.value[1])


def contraction(kind: str, size: int, rate: float, generator: torch.Generator) -> Tensor:
    """A matrix of l2 norm `rate`, singular values all equal, spread, or of a nilpotent matrix."""
    matrix = torch.randn(size, size, generator=generator, dtype=torch.float64)
    if kind == "orthogonal":
        return rate * torch.linalg.qr(matrix)[0]
    matrix = matrix.triu(1) if kind == "nilpotent" else matrix
    return rate * matrix / torch.linalg.matrix_norm(matrix, 2)


@pytest.mark.parametrize(("kind", "more"), [("orthogonal", 1), ("gaussian", 1), ("nilpotent", 4)])
@pytest.mark.parametrize("link", [torch.nn.Identity(), torch.tanh, torch.relu], ids=["linear", "tanh", "relu"])
@pytest.mark.parametrize("rate", [0.3, 0.6, 0.9, 0.97])
def test_contractions_never_cost_more_than_picard(
    kind: str, more: int, link: Callable[[Tensor], Tensor], rate: float
) -> None:
    """By more than an evaluation; where Picard ends after finitely many steps by design, by a few."""
    generator = torch.Generator().manual_seed(5)
    for size in (2, 7, 18, 31):
        W = contraction(kind, size, rate, generator)
        b = torch.randn(3, size, generator=generator, dtype=torch.float64)
        counts = [
            solve(
                lambda z: link(z @ W.mT + b),  # noqa: B023
                torch.zeros_like(b),
                solver=solver,
                tolerance=Tolerance(relative=1e-9),
                max_evaluations=2000,
            ).evaluations
            for solver in (Anderson(), Picard())
        ]
        assert bool((counts[0] <= counts[1] + more).all())
