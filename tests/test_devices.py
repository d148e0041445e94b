"""A state on another device: nothing is made on the CPU by accident, and the numbers are the CPU's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deqops import (
    Adjoint,
    Anderson,
    Broyden,
    EquilibriumLayer,
    ImplicitAdjoint,
    JacobianFree,
    NewtonKrylov,
    OperatorEquation,
    Phantom,
    Picard,
    Solution,
    Solver,
    Tolerance,
    Unrolled,
    solve,
)
from tests.elsewhere import DEVICE, Device, Elsewhere, fetched, sent

SOLVERS: list[Solver] = [
    Picard(),
    Picard(0.5),
    Anderson(),
    Anderson(memory=2),
    Broyden(),
    Broyden(memory=3),
    NewtonKrylov(),
]
every_solver = pytest.mark.parametrize("solver", SOLVERS, ids=repr)


def randn(*shape: int, seed: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def same(there: Tensor, here: Tensor) -> None:
    assert there.device == DEVICE
    torch.testing.assert_close(fetched(there), here, rtol=0, atol=0, equal_nan=True)


def assert_same(there: Solution, here: Solution) -> None:
    for name in ("result", "residual", "evaluations", "trace"):
        same(getattr(there, name), getattr(here, name))


def test_the_device_is_a_device() -> None:
    """It refuses what an accelerator refuses, or the tests below would mean nothing."""
    with Device():
        there, here = sent(torch.ones(3)), torch.ones(3)
        for mixed in (lambda: there + here, lambda: torch.where(there > 0, here, there), lambda: there[here > 0]):
            with pytest.raises(RuntimeError, match="tensors on two devices"):
                mixed()
        with pytest.raises(RuntimeError, match="tensors on two devices"):
            there + torch.zeros(3)
        same(there + torch.tensor(1.0) + torch.zeros_like(there) + here.to(DEVICE), here * 3)
        same(torch.eye(3, device=DEVICE) @ there, here)
        assert not isinstance(there.cpu(), Elsewhere)
        assert float(there.sum()) == 3.0
    with pytest.raises(NotImplementedError):
        torch.ones(3, device=DEVICE).tolist()


@every_solver
@pytest.mark.parametrize("adjoint", [ImplicitAdjoint(), JacobianFree(), Phantom(), Unrolled(4)], ids=repr)
def test_solutions_and_gradients_are_the_cpus(solver: Solver, adjoint: Adjoint) -> None:
    def run(x: Tensor, W: Tensor, start: Tensor) -> tuple[Solution, tuple[Tensor, ...]]:
        solution = solve(
            lambda z, x: torch.tanh(z @ W + x), start, x, solver=solver, adjoint=adjoint, trace=True, callback=print_
        )
        return solution, torch.autograd.grad((solution.value**2).sum(), (x, W))

    print_: Callable[[int, Tensor], None] = lambda n, residual: seen.append(residual.device)  # noqa: E731
    seen: list[torch.device] = []
    x, W = randn(3, 4, seed=0).requires_grad_(), randn(4, 4, seed=1, scale=0.3).requires_grad_()
    here, gradients = run(x, W, torch.zeros(3, 4))
    with Device():
        seen.clear()
        there, others = run(sent(x), sent(W), torch.zeros(3, 4, device=DEVICE))
        assert set(seen) == {DEVICE}
    same(there.value, here.value.detach())
    assert_same(there, here)
    for other, gradient in zip(others, gradients, strict=True):
        same(other, gradient)


@every_solver
def test_problems_that_end_at_different_times_are_dropped_there_too(solver: Solver) -> None:
    x, W = randn(8, 4, seed=0), randn(4, 4, seed=1, scale=0.3)
    rates = torch.linspace(0.1, 1.0, 8)[:, None]

    def run(x: Tensor, rates: Tensor, W: Tensor) -> Solution:
        G = lambda z, x, rate: torch.tanh(rate * (z @ W)) + x  # noqa: E731
        start, roles = torch.zeros_like(x), ("problem", "problem")
        return solve(G, start, x, rates, batched=roles, solver=solver, trace=True, throw=False)

    here = run(x, rates, W)
    with Device():
        there = run(sent(x), sent(rates), sent(W))
    same(there.value, here.value)
    assert_same(there, here)


@every_solver
def test_graphs_of_a_mini_batch_are_dropped_there_too(solver: Solver) -> None:
    batch = torch.tensor([0, 1, 0, 2, 2, 2, 1, 3])
    edges = torch.tensor([[0, 2, 1, 6, 3, 4, 5], [2, 0, 6, 1, 4, 5, 3]])
    x, W = randn(8, 3, seed=0) * torch.linspace(0.01, 2, 8)[:, None], randn(3, 3, seed=1, scale=0.3)

    def run(x: Tensor, edges: Tensor, batch: Tensor, W: Tensor) -> Solution:
        def G(z: Tensor, x: Tensor, edges: Tensor) -> Tensor:
            return torch.tanh(torch.zeros_like(z).index_add(0, edges[1], (z @ W)[edges[0]]) + x)

        roles = ("node", "edge_index")
        return solve(
            G, torch.zeros_like(x), x, edges, batch=batch, batched=roles, solver=solver, trace=True, throw=False
        )

    here = run(x, edges, batch, W)
    with Device():
        there = run(sent(x), sent(edges), sent(batch), sent(W))
    same(there.value, here.value)
    assert_same(there, here)


def test_a_tree_in_two_dtypes_and_every_way_to_fail() -> None:
    """NaN, divergence, a step that overflows, the floor, and a start at the equilibrium, side by side."""
    factors = torch.tensor([[float("nan")], [10.0], [1e30], [0.9], [0.0]])

    def run(factors: Tensor) -> Solution:
        def G(y: dict[str, Tensor], factors: Tensor) -> dict[str, Tensor]:
            return {"a": factors * y["a"] + 1, "b": 0.5 * y["b"] + y["a"].double().sum(1, keepdim=True)}

        start = {"a": torch.ones(5, 2, device=factors.device), "b": torch.ones(5, 1, device=factors.device).double()}
        options: dict[str, Any] = {"tolerance": Tolerance(relative=1e-12), "throw": False, "trace": True}
        return solve(G, start, factors, solver=Broyden(), max_evaluations=300, **options)

    here = run(factors)
    assert len(set(here.results)) >= 3
    with Device():
        there = run(sent(factors))
    for name in ("a", "b"):
        same(there.value[name], here.value[name])
    assert_same(there, here)


class Step(nn.Module):
    def __init__(self, W: Tensor) -> None:
        super().__init__()
        self.W = nn.Parameter(W.clone())

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(z @ self.W)


def test_a_layer_and_its_training_step() -> None:
    def trained(W: Tensor, x: Tensor) -> Tensor:
        layer = EquilibriumLayer(OperatorEquation(Step(W), f=lambda x: x, scale=0.9))
        optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)
        for _ in range(3):
            optimiser.zero_grad()
            (layer(x) ** 2).mean().backward()
            optimiser.step()
        return layer(x).detach()

    x, W = randn(3, 4, seed=0), randn(4, 4, seed=1, scale=0.3)
    here = trained(W, x)
    with Device():
        same(trained(sent(W), sent(x)), here)
