"""Gradients belong to the weights and the mode that the solve saw, and to each problem by itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from exact import seeded
from torch import Tensor, nn
from torch.func import functional_call

from deqops import EquilibriumLayer, ImplicitAdjoint, Tolerance, solve

FINE = Tolerance(relative=1e-12)


class Step(nn.Module):
    """tanh(W z + b + x), halved in training."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3, dtype=torch.float64)
        nn.init.orthogonal_(self.linear.weight, gain=0.6)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return (0.5 if self.training else 1.0) * torch.tanh(self.linear(z) + x)


def layer_of(derivatives: int) -> EquilibriumLayer:
    torch.manual_seed(0)
    adjoint = ImplicitAdjoint(tolerance=FINE, derivatives=derivatives)
    return EquilibriumLayer(Step(), tolerance=FINE, adjoint=adjoint).eval()


def inputs() -> Tensor:
    return torch.randn(4, 3, generator=seeded(1), dtype=torch.float64, requires_grad=True)


def iterated(weight: Tensor, bias: Tensor, x: Tensor, factor: float = 1.0) -> Tensor:
    z = torch.zeros_like(x)
    for _ in range(300):
        z = factor * torch.tanh(z @ weight.T + bias + x)
    return z


def assert_near(found: Tensor, truth: Tensor, relative: float = 1e-8) -> None:
    assert float((found - truth).detach().norm()) <= relative * float(truth.detach().norm())


@pytest.mark.parametrize("derivatives", [1, 2])
def test_exchanged_weights_have_the_gradients(derivatives: int) -> None:
    """`torch.func.functional_call` outside of transforms: before the backward pass the module has its own again."""
    layer, x = layer_of(derivatives), inputs()
    weight = (0.9 * torch.linalg.qr(torch.randn(3, 3, generator=seeded(2), dtype=torch.float64))[0]).requires_grad_()
    bias = torch.randn(3, generator=seeded(3), dtype=torch.float64, requires_grad=True)
    y = functional_call(layer, {"operator.linear.weight": weight, "operator.linear.bias": bias}, (x,))
    z = iterated(weight, bias, x)
    found, truth = (
        torch.autograd.grad(value.square().sum(), (weight, bias, x), create_graph=derivatives > 1, retain_graph=True)
        for value in (y, z)
    )
    for a, b in zip(found, truth, strict=True):
        assert_near(a, b)
    if derivatives > 1:
        seconds = (torch.autograd.grad(g[0].sin().sum(), x)[0] for g in (found, truth))
        assert_near(*seconds)


@pytest.mark.parametrize("derivatives", [1, 2])
def test_weights_changed_in_place_before_the_backward_pass_are_refused_as_torch_does(derivatives: int) -> None:
    layer, x = layer_of(derivatives), inputs()
    y = layer(x)
    with torch.no_grad():
        layer.operator.linear.weight.mul_(0.1)
    with pytest.raises(RuntimeError, match="inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("derivatives", [1, 2])
def test_the_mode_of_the_solve_counts(derivatives: int) -> None:
    layer, x = layer_of(derivatives).train(), inputs()
    y = layer(x)
    layer.eval()
    linear = layer.operator.linear
    truth = torch.autograd.grad(iterated(linear.weight, linear.bias, x, 0.5).square().sum(), x)[0]
    assert_near(torch.autograd.grad(y.square().sum(), x)[0], truth)


def test_where_nothing_needs_gradients_none_are_kept() -> None:
    """And where only the input does, or only a weight, they are."""
    layer = layer_of(2)
    for parameter in layer.parameters():
        parameter.requires_grad_(False)
    assert not layer(inputs().detach()).requires_grad
    assert layer(inputs()).requires_grad
    layer.operator.linear.bias.requires_grad_()
    assert layer(inputs().detach()).requires_grad
    constant = torch.ones(2, 3)
    assert not solve(lambda z: 0.5 * z + constant, torch.zeros(2, 3)).value.requires_grad
    assert not solve(lambda z: constant, torch.zeros(2, 3)).value.requires_grad
    weight = torch.ones(2, 3, requires_grad=True)
    for G in (lambda z: weight, lambda z: 0.5 * z.detach() + weight):
        solve(G, torch.zeros(2, 3)).value.sum().backward()
        assert weight.grad is not None
        assert torch.equal(weight.grad, torch.ones(2, 3))
        weight.grad = None


@pytest.mark.parametrize("seed", range(4))
def test_second_derivatives_do_not_depend_on_how_large_a_companion_is(seed: int) -> None:
    tolerance, generator = Tolerance(relative=1e-6), seeded(seed)
    W = 0.5 * torch.linalg.qr(torch.randn(4, 4, generator=generator))[0]
    X = torch.randn(8, 4, generator=generator)
    X[0] *= 1e-3

    def second(weight: float) -> Tensor:
        weights = torch.ones(8, 1)
        weights[0] = weight
        x = X.clone().requires_grad_()
        adjoint = ImplicitAdjoint(tolerance=tolerance)
        y = solve(lambda z, x: torch.tanh(z @ W + x), torch.zeros_like(x), x, tolerance=tolerance, adjoint=adjoint)
        (g,) = torch.autograd.grad((weights * y.value.square()).sum(), x, create_graph=True)
        return torch.autograd.grad(g.sum(), x)[0]

    base = second(1.0)
    for weight in (1e5, 1e7):
        assert torch.equal(second(weight)[1:], base[1:])


def test_second_derivatives_in_bfloat16_are_not_taken_for_rounding() -> None:
    tolerance = Tolerance(relative=2e-2)
    W = 0.5 * torch.linalg.qr(torch.randn(4, 4, generator=seeded(0)))[0]
    x64 = torch.randn(8, 4, generator=seeded(1))

    def second(dtype: torch.dtype, settings: dict[str, Any]) -> Tensor:
        x, weight = x64.to(dtype).requires_grad_(), W.to(dtype)
        y = solve(lambda z, x: torch.tanh(z @ weight + x), torch.zeros_like(x), x, **settings).value
        (g,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        return torch.autograd.grad(g.sum(), x)[0].double()

    truth = second(torch.float64, {"tolerance": FINE, "adjoint": ImplicitAdjoint(tolerance=FINE)})
    found = second(torch.bfloat16, {"tolerance": tolerance, "adjoint": ImplicitAdjoint(tolerance=tolerance)})
    assert_near(found, truth, 0.1)


@pytest.mark.parametrize("derivatives", [1, 2])
def test_a_problem_that_is_not_finite_does_not_stop_the_others_gradients(derivatives: int) -> None:
    W = 0.5 * torch.linalg.qr(torch.randn(3, 3, generator=seeded(0), dtype=torch.float64))[0]
    x = torch.randn(4, 3, generator=seeded(1), dtype=torch.float64)
    x[2] = torch.nan
    x.requires_grad_()
    adjoint = ImplicitAdjoint(tolerance=FINE, derivatives=derivatives)
    solution = solve(
        lambda z, x: torch.tanh(z @ W + x), torch.zeros_like(x), x, tolerance=FINE, adjoint=adjoint, throw=False
    )
    good = torch.tensor([0, 1, 3])
    solution.value[good].square().sum().backward()
    assert x.grad is not None
    alone = x.detach()[good].requires_grad_()
    truth = torch.autograd.grad(iterated(W.T, torch.zeros(3, dtype=torch.float64), alone).square().sum(), alone)[0]
    assert_near(x.grad[good], truth)
