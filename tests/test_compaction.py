"""Problems that have ended are dropped from the batch where the inputs say which problem they belong to."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deqops import (
    Anderson,
    Broyden,
    EquilibriumLayer,
    NewtonKrylov,
    OperatorEquation,
    Picard,
    Result,
    Solver,
    Tolerance,
    solve,
)

DOUBLE = torch.float64
SOLVERS = [Picard(), Picard(0.7), Anderson(), Broyden(), NewtonKrylov()]


def problem(count: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    """A weight, inputs, and one rate per problem: every eighth is slow."""
    generator = torch.Generator().manual_seed(3)
    W = torch.linalg.qr(torch.randn(12, 12, generator=generator, dtype=DOUBLE))[0]
    x = torch.randn(count, 12, generator=generator, dtype=DOUBLE)
    rates = torch.linspace(0.05, 0.3, count, dtype=DOUBLE)
    rates[::8] = 0.95
    return W, x, rates[:, None]


class Recording:
    """`tanh(rate z W + x)`; keeps how many rows it was given."""

    def __init__(self, W: Tensor) -> None:
        self.W, self.rows = W, list[int]()

    def __call__(self, z: Tensor, x: Tensor, rate: Tensor) -> Tensor:
        self.rows.append(len(z))
        return torch.tanh(rate * (z @ self.W) + x)


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
def test_the_slow_problems_go_on_alone(solver: Solver) -> None:
    W, x, rates = problem()
    G, whole = Recording(W), Recording(W)
    options = {"solver": solver, "tolerance": Tolerance(relative=1e-9), "max_evaluations": 500}
    with torch.no_grad():
        dropped = solve(G, torch.zeros_like(x), x, rates, batched=("problem", "problem"), trace=True, **options)
        kept = solve(whole, torch.zeros_like(x), x, rates, trace=True, **options)
    assert set(whole.rows) == {16}
    assert G.rows[0] == 16
    assert G.rows[-1] <= 4
    share = 0.9 if isinstance(solver, NewtonKrylov) else 0.7  # most of Newton's work is products, no calls of G
    assert sum(G.rows) < share * sum(whole.rows)
    assert dropped.results == kept.results == [Result.CONVERGED] * 16
    assert (dropped.evaluations - kept.evaluations).abs().max() <= 1
    assert torch.allclose(dropped.value, kept.value, rtol=1e-9, atol=1e-9)
    exact = G(dropped.value, x, rates)
    assert torch.allclose(exact, dropped.value, atol=1e-8)
    assert dropped.trace is not None
    for number in range(16):
        residuals = dropped.trace[:, number]
        seen = int((~residuals.isnan()).sum())  # one for each evaluation; products with J come besides
        assert seen == int(dropped.evaluations[number]) or isinstance(solver, NewtonKrylov)
        assert residuals[seen - 1] == dropped.residual[number]
        assert residuals[seen:].isnan().all()


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
def test_most_problems_may_end_before_the_first_step(solver: Solver) -> None:
    """As after a warm start: there is no memory yet that could be narrowed."""
    W, x, rates = problem()
    x[:10] = 0.0
    options = {"solver": solver, "tolerance": Tolerance(relative=1e-9), "max_evaluations": 500}
    with torch.no_grad():
        dropped = solve(Recording(W), torch.zeros_like(x), x, rates, batched=("problem", "problem"), **options)
        kept = solve(Recording(W), torch.zeros_like(x), x, rates, **options)
    assert dropped.evaluations[:10].tolist() == [1] * 10
    assert (dropped.evaluations - kept.evaluations).abs().max() <= 1
    assert torch.allclose(dropped.value, kept.value, rtol=1e-9, atol=1e-9)


def test_nothing_is_dropped_without_a_declaration() -> None:
    W, x, rates = problem()
    G = Recording(W)
    solve(G, torch.zeros_like(x), x, rates, solver=Picard(), max_evaluations=500)
    assert set(G.rows) == {16}


def test_trees_of_two_dtypes_and_an_equation_with_an_offset() -> None:
    W, x, rates = problem()

    def T(state: dict[str, Tensor], x: Tensor, rate: Tensor) -> dict[str, Tensor]:
        image = rate * torch.tanh(state["a"] @ W)
        return {"a": image, "b": (0.5 * state["b"].to(DOUBLE) + image.sum(1)).to(torch.float32)}

    def f(x: Tensor, rate: Tensor) -> dict[str, Tensor]:
        return {"a": x, "b": torch.zeros(len(x))}

    G = OperatorEquation(T, f)
    start = {"a": torch.zeros_like(x), "b": torch.zeros(16)}
    tolerance = Tolerance(relative=1e-5)
    dropped = solve(G, start, x, rates, batched=("problem", "problem"), tolerance=tolerance, max_evaluations=400)
    kept = solve(G, start, x, rates, tolerance=tolerance, max_evaluations=400)
    for name in ("a", "b"):
        assert dropped.value[name].dtype == kept.value[name].dtype
        assert torch.allclose(dropped.value[name], kept.value[name], rtol=1e-4, atol=1e-4)


def test_failures_are_reported_under_their_own_numbers() -> None:
    _, x, rates = problem(8)
    rates = rates.clone()
    rates[5], rates[2] = 3.0, torch.nan

    solution = solve(
        lambda z, x, rate: rate * z + x,
        torch.zeros_like(x),
        x,
        rates,
        batched=("problem", "problem"),
        solver=Picard(),
        throw=False,
        max_evaluations=1000,
    )
    expected = [Result.CONVERGED] * 8
    expected[2], expected[5] = Result.NONFINITE, Result.DIVERGED
    assert solution.results == expected


def test_gradients_are_those_of_the_whole_batch() -> None:
    W, x, rates = problem()
    tight = Tolerance(relative=1e-12)
    gradients = []
    for batched in (None, ("problem", "problem")):
        given = x.clone().requires_grad_()
        G = Recording(W)
        layer = EquilibriumLayer(G, tolerance=tight, batched=batched, max_evaluations=500)
        gradients.append(torch.autograd.grad(layer(given, rates).square().sum(), given)[0])
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-5, atol=1e-6)
