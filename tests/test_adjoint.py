"""Gradients through equilibria: T14 `implicit_gradient`, against finite differences and closed forms."""

from __future__ import annotations

import copy
import gc
import pickle
import warnings
import weakref
from fractions import Fraction
from typing import Any

import pytest
import torch
import torch.utils.checkpoint
from hypothesis import given, settings
from torch import Tensor, nn

import deqops.testing as kit
from deqops import (
    ConvergenceError,
    DeqopsError,
    EquilibriumLayer,
    ImplicitAdjoint,
    InputError,
    JacobianFree,
    OperatorEquation,
    Picard,
    Tolerance,
    solve,
)

TIGHT = Tolerance(relative=1e-13)


def tensors(*shapes: tuple[int, ...], scale: float = 1.0) -> list[Tensor]:
    return [(scale * torch.randn(shape, dtype=torch.float64)).requires_grad_() for shape in shapes]


def equilibrium(x: Tensor, W: Tensor, derivatives: int = 2, **options: Any) -> Tensor:
    adjoint = ImplicitAdjoint(tolerance=TIGHT, derivatives=derivatives)
    start = torch.zeros_like(x)
    value: Tensor = solve(
        lambda z, x: torch.tanh(z @ W + x), start, x, tolerance=TIGHT, adjoint=adjoint, **options
    ).value
    return value


def same(first: tuple[Tensor, ...], second: tuple[Tensor, ...], tolerance: float = 1e-10) -> bool:
    return all(torch.allclose(a, b, rtol=tolerance, atol=tolerance) for a, b in zip(first, second, strict=True))


def test_t14_first_and_second_derivatives_against_finite_differences() -> None:
    x, W = tensors((2, 3), (3, 3), scale=0.3)
    assert torch.autograd.gradcheck(equilibrium, (x, W))
    assert torch.autograd.gradgradcheck(equilibrium, (x, W))


def test_t14_against_the_closed_form_of_a_linear_equation() -> None:
    x, W = tensors((4, 3), (3, 3), scale=0.3)
    weights = torch.randn(4, 3, dtype=torch.float64)
    y = solve(lambda z, x: z @ W + x, torch.zeros_like(x), x, tolerance=TIGHT, adjoint=ImplicitAdjoint(tolerance=TIGHT))
    exact = torch.linalg.solve(torch.eye(3, dtype=torch.float64) - W, x, left=False)
    got = torch.autograd.grad((weights * y.value).sum(), (x, W))
    assert same(got, torch.autograd.grad((weights * exact).sum(), (x, W)))


@settings(max_examples=10)
@given(kit.contractions(("linear", "activation", "layers", "convolution"), rate=kit.rates(most=Fraction(1, 2))))
def test_t14_gradients_of_known_contractions_are_those_of_many_steps(known: kit.Known) -> None:
    kit.assert_gradients_match(known.operator, known.start, *known.inputs, steps=60)


@pytest.mark.parametrize("order", [2, 3])
def test_higher_derivatives_of_a_scalar_equilibrium(order: int) -> None:
    """y = sin(y) / 2 + s^2 has y' = 2 s / (1 - cos(y) / 2); its derivatives along s by autograd on that formula."""
    s = torch.tensor([[0.4]], dtype=torch.float64, requires_grad=True)
    adjoint = ImplicitAdjoint(tolerance=TIGHT, derivatives=order)
    derivative = solve(
        lambda z, s: torch.sin(z) / 2 + s**2, torch.zeros_like(s), s, tolerance=TIGHT, adjoint=adjoint
    ).value
    y = derivative.detach().requires_grad_()
    formula = [2 * s / (1 - torch.cos(y) / 2)]
    for _ in range(order - 1):
        ds, dy = torch.autograd.grad(formula[-1].sum(), (s, y), create_graph=True)
        formula.append(ds + dy * formula[0])
    for expected in formula:
        (derivative,) = torch.autograd.grad(derivative.sum(), s, create_graph=True)
        assert torch.allclose(derivative, expected, rtol=1e-9)


@pytest.mark.parametrize("derivatives", [1, 2])
def test_one_derivative_too_many_is_refused(derivatives: int) -> None:
    x, W = tensors((1, 2), (2, 2), scale=0.3)
    result = equilibrium(x, W, derivatives)
    for _ in range(derivatives):
        (result,) = torch.autograd.grad(result.sum(), x, create_graph=True)
    with pytest.raises(DeqopsError, match="raise derivatives="):
        torch.autograd.grad(result.sum(), x)


def test_second_derivatives_of_intermediate_tensors() -> None:
    """A gradient by an intermediate tensor that the loss also uses directly counts both ways."""
    x, W = tensors((2, 3), (3, 3), scale=0.3)
    hidden = 2 * x
    loss = (equilibrium(hidden, W) + hidden).sum()
    (plain,) = torch.autograd.grad(loss, hidden, retain_graph=True)
    (kept,) = torch.autograd.grad(loss, hidden, create_graph=True)
    assert kept.requires_grad
    assert same((plain,), (kept,))


def test_second_derivatives_through_two_layers_that_share_weights() -> None:
    x, W = tensors((2, 2), (2, 2), scale=0.3)

    def twice(x: Tensor, W: Tensor) -> Tensor:
        first = equilibrium(x, W)
        return equilibrium(first * x, W) + first

    assert torch.autograd.gradcheck(twice, (x, W))
    assert torch.autograd.gradgradcheck(twice, (x, W))


def test_a_loss_of_value_and_gradient_together() -> None:
    """As in a physics-informed loss: y and dy/dx in one backward pass, against finite differences."""
    x, W = tensors((2, 2), (2, 2), scale=0.3)

    def loss(x: Tensor, W: Tensor) -> Tensor:
        y = equilibrium(x, W)
        (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        return (y**2 + slope**3).sum()

    assert torch.autograd.gradcheck(loss, (x, W))


def test_one_application_of_the_operator_beyond_the_jacobian_free_one_is_attached() -> None:
    """What gradients cost: an order of derivatives one application, the backward pass none."""
    count = 0
    (W,) = tensors((3, 3), scale=0.2)

    def G(z: Tensor, x: Tensor) -> Tensor:
        nonlocal count
        count += 1
        return torch.tanh(z @ W + x)

    x = torch.randn(2, 3, dtype=torch.float64)
    for adjoint, extra in ((JacobianFree(), 1), (ImplicitAdjoint(derivatives=1), 1), (ImplicitAdjoint(), 2)):
        count = 0
        solution = solve(G, torch.zeros_like(x), x, adjoint=adjoint)
        assert count == int(solution.evaluations.max()) + extra
        count = 0
        solution.value.sum().backward()
        assert count == 0


def test_gradients_of_a_tree() -> None:
    A, B = tensors((2, 2), (2, 2), scale=0.3)
    x = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)

    def pair(x: Tensor, A: Tensor, B: Tensor) -> tuple[Tensor, Tensor]:
        def G(y: dict[str, Tensor], inputs: dict[str, Tensor]) -> dict[str, Tensor]:
            return {"u": torch.tanh(y["v"] @ A + inputs["x"]), "v": torch.sin(y["u"] @ B)}

        start = {"u": torch.zeros_like(x), "v": torch.zeros_like(x)}
        adjoint = ImplicitAdjoint(tolerance=TIGHT)
        y = solve(G, start, {"x": x}, tolerance=TIGHT, adjoint=adjoint).value
        return y["u"], y["v"]

    assert torch.autograd.gradcheck(pair, (x, A, B))
    assert torch.autograd.gradgradcheck(pair, (x, A, B))


def test_gradients_of_one_problem_are_its_own() -> None:
    """Backward too, a companion's values change nothing, bit for bit."""
    x, W = tensors((3, 4), (4, 4), scale=0.3)
    other = x.detach().clone()
    other[2] *= 50
    gradients = []
    for values in (x.detach().clone(), other):
        leaf = values.requires_grad_()
        gradients.append(torch.autograd.grad(equilibrium(leaf, W)[:2].sum(), leaf)[0])
    assert torch.equal(gradients[0][:2], gradients[1][:2])


def test_jacobian_free_is_the_gradient_of_one_application() -> None:
    x, W = tensors((2, 3), (3, 3), scale=0.3)
    y = solve(lambda z, x: torch.tanh(z @ W + x), torch.zeros_like(x), x, adjoint=JacobianFree(), tolerance=TIGHT)
    once = torch.tanh(y.value.detach() @ W + x)
    assert same(torch.autograd.grad(y.value.sum(), (x, W)), torch.autograd.grad(once.sum(), (x, W)))


class Step(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3, dtype=torch.float64)
        with torch.no_grad():
            self.linear.weight.mul_(0.5)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(self.linear(z) + x)


def tight_layer() -> EquilibriumLayer:
    return EquilibriumLayer(Step(), tolerance=TIGHT, adjoint=ImplicitAdjoint(tolerance=TIGHT))


def test_two_calls_before_one_backward_pass() -> None:
    layer = tight_layer()
    x, y = torch.randn(2, 2, 3, dtype=torch.float64)
    (layer(x).sum() + layer(y).sum()).backward()
    together = [p.grad.clone() for p in layer.parameters() if p.grad is not None]
    layer.zero_grad()
    layer(x).sum().backward()
    layer(y).sum().backward()
    apart = [p.grad for p in layer.parameters() if p.grad is not None]
    assert len(apart) == 2
    assert same(tuple(together), tuple(apart))


def test_weights_changed_before_the_backward_pass_are_noticed() -> None:
    layer = tight_layer()
    y = layer(torch.randn(2, 3, dtype=torch.float64))
    with torch.no_grad():
        layer.operator.linear.weight.mul_(0.9)  # type: ignore[union-attr]
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_no_graph_without_need() -> None:
    layer = tight_layer()
    x = torch.randn(2, 3, dtype=torch.float64)
    with torch.no_grad():
        assert not layer(x).requires_grad
    for parameter in layer.parameters():
        parameter.requires_grad_(False)
    assert not layer(x).requires_grad
    assert layer(x.requires_grad_()).requires_grad


def test_nothing_outlives_its_use() -> None:
    """No hooks on weights, no cycle: dropping the result frees the inputs at once, without a collection."""
    layer = tight_layer()
    x = torch.randn(2, 3, dtype=torch.float64)
    gc.disable()
    try:
        y = layer(x)
        y.sum().backward()
        reference = weakref.ref(x)
        del x, y
        assert reference() is None
    finally:
        gc.enable()
    assert all(not p._backward_hooks for p in layer.parameters())
    copy.deepcopy(layer)


def test_a_failed_backward_solve_is_an_error() -> None:
    x, W = tensors((2, 3), (3, 3), scale=0.3)
    adjoint = ImplicitAdjoint(solver=Picard(), tolerance=TIGHT, max_evaluations=2)
    y = solve(lambda z, x: torch.tanh(z @ W + x), torch.zeros_like(x), x, adjoint=adjoint)
    with pytest.raises(ConvergenceError, match="backward solve of ImplicitAdjoint: 2 of 2 problems") as caught:
        y.value.sum().backward()
    assert caught.value.solution.evaluations.tolist() == [2, 2]


def test_a_backward_solve_that_stagnates_names_its_own_tolerance() -> None:
    x, W = torch.randn(4, 32, requires_grad=True), torch.nn.init.orthogonal_(torch.empty(32, 32), gain=0.9)
    adjoint = ImplicitAdjoint(tolerance=Tolerance(relative=1e-12), max_evaluations=1000)
    y = solve(lambda z, x: torch.tanh(z @ W + x), torch.zeros_like(x), x, adjoint=adjoint)
    with pytest.raises(ConvergenceError, match=r"STAGNATED.*: loosen ImplicitAdjoint\(tolerance=\.\.\.\)") as caught:
        y.value.sum().backward()
    assert "loosen the tolerance" in caught.value.solution.describe_failure()
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize("derivatives", [1, 2])
@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf])
def test_a_gradient_that_is_not_finite_spoils_its_own_problem_alone(wrong: float, derivatives: int) -> None:
    x, W = tensors((3, 3), (3, 3), scale=0.3)
    incoming = torch.ones_like(x)
    expected = torch.autograd.grad(equilibrium(x, W, derivatives), x, incoming)[0]
    incoming[1, 2] = wrong
    by_x, by_W = torch.autograd.grad(equilibrium(x, W, derivatives), (x, W), incoming)
    assert by_x[1].isnan().all()
    assert by_W.isnan().all()
    assert same((by_x[::2],), (expected[::2],))


def test_a_grad_scaler_skips_steps_whose_gradients_overflow() -> None:
    step, x = nn.Linear(3, 3), torch.ones(2, 3)
    layer = EquilibriumLayer(lambda z, x: torch.tanh(step(z) / 2 + x))
    optimizer = torch.optim.SGD(step.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    before = step.weight.detach().clone()
    for skipped in (True, False):
        optimizer.zero_grad()
        scaler.scale(100 * layer(x).square().sum()).backward()
        scaler.step(optimizer)
        scaler.update(2.0**10 if skipped else None)
        assert torch.equal(step.weight, before) == skipped


@pytest.mark.parametrize("derivatives", [1, 2])
@pytest.mark.parametrize("size", [1e-40, 1e-9, 1e6])
def test_gradients_of_any_size_under_float16_autocast(size: float, derivatives: int) -> None:
    """Products with J^T are float16 then: small gradients would vanish in them, large ones overflow."""
    x, W = torch.randn(2, 4), 0.9 * torch.linalg.qr(torch.randn(4, 4))[0]
    loose = Tolerance(relative=1e-2)
    found = []
    for factor in (1.0, size):
        offset = torch.zeros(2, 4, requires_grad=True)
        with torch.autocast("cpu", dtype=torch.float16):
            adjoint = ImplicitAdjoint(tolerance=loose, derivatives=derivatives)
            y = solve(lambda z, b: torch.tanh(z @ W + x) + b, x, offset, tolerance=loose, adjoint=adjoint).value
        found.append(torch.autograd.grad(y, offset, torch.full_like(y, factor))[0] / factor)
    torch.testing.assert_close(found[1], found[0], rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("size", [1e-20, 1e-8, 1e5])
def test_second_derivatives_of_gradients_of_any_size_under_float16_autocast(size: float) -> None:
    W, loose = 0.9 * torch.linalg.qr(torch.randn(4, 4))[0], Tolerance(relative=1e-2)
    x = torch.randn(2, 4).requires_grad_()
    found = []
    for factor in (1.0, size):
        with torch.autocast("cpu", dtype=torch.float16):
            adjoint = ImplicitAdjoint(tolerance=loose)
            y = solve(lambda z, x: torch.tanh(z @ W + x), torch.zeros(2, 4), x, tolerance=loose, adjoint=adjoint).value
        (first,) = torch.autograd.grad(y, x, torch.full_like(y, factor), create_graph=True)
        found.append((first / factor, *torch.autograd.grad((first / factor).square().sum(), x)))
    for scaled, plain in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(scaled, plain, rtol=3e-2, atol=3e-2)


def test_a_gradient_beyond_the_dtype_is_infinite() -> None:
    x = torch.full((1, 3), 0.5, dtype=torch.float16, requires_grad=True)
    loose = Tolerance(relative=4e-3)
    y = solve(lambda z, x: z / 2 + x, torch.zeros_like(x), x, tolerance=loose, adjoint=ImplicitAdjoint(tolerance=loose))
    assert torch.autograd.grad(y.value, x, torch.full_like(x, 6e4))[0].isinf().all()


def test_an_absolute_tolerance_is_that_of_the_gradient_as_it_is() -> None:
    """One product is enough where the residual is below it, whatever the gradient's size."""
    x, W = tensors((1, 3), (3, 3), scale=0.3)
    adjoint = ImplicitAdjoint(solver=Picard(), tolerance=Tolerance(absolute=1e-3, relative=0.0), max_evaluations=1)
    y = solve(lambda z, x: torch.tanh(z @ W + x), torch.zeros_like(x), x, adjoint=adjoint).value
    torch.autograd.grad(y, x, torch.full_like(x, 1e-6), retain_graph=True)
    with pytest.raises(ConvergenceError, match="MAX_EVALUATIONS"):
        torch.autograd.grad(y, x, torch.full_like(x, 1e6))


@pytest.mark.parametrize("derivatives", [1, 2])
def test_a_reentrant_checkpoint_is_refused_by_torch_and_not_passed_by(derivatives: int) -> None:
    step, x = nn.Linear(3, 3), torch.ones(2, 3)

    def G(z: Tensor) -> Tensor:
        inner: Tensor = torch.utils.checkpoint.checkpoint(step, z, use_reentrant=True)
        return torch.tanh(inner / 2 + x)

    with warnings.catch_warnings(action="ignore"):  # that gradients are None, of the iteration without them
        y = solve(G, torch.zeros(2, 3), adjoint=ImplicitAdjoint(derivatives=derivatives)).value
    with pytest.raises(RuntimeError, match="use_reentrant=False"):
        y.sum().backward()


def test_an_operator_that_ignores_its_state() -> None:
    x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    y = solve(lambda z, x: x**2, torch.zeros_like(x), x).value
    assert same(torch.autograd.grad(y.sum(), x), (2 * x,))


def test_gradients_of_a_parameter_as_offset_and_of_the_scale() -> None:
    f = nn.Parameter(torch.randn(3, dtype=torch.float64))
    equation = OperatorEquation(torch.sin, f=f, scale=0.5)
    start = torch.zeros(1, 3, dtype=torch.float64)
    y = solve(equation, start, tolerance=TIGHT, adjoint=ImplicitAdjoint(tolerance=TIGHT)).value
    (gradient,) = torch.autograd.grad(y.sum(), f)
    assert same((gradient,), ((1 / (1 - torch.cos(y) / 2))[0],))


def test_float16_gradients() -> None:
    x = torch.full((2, 3), 0.5, dtype=torch.float16, requires_grad=True)
    loose = Tolerance(relative=4e-3)
    y = solve(lambda z, x: z / 2 + x, torch.zeros_like(x), x, tolerance=loose, adjoint=ImplicitAdjoint(tolerance=loose))
    (gradient,) = torch.autograd.grad(y.value.sum(), x)
    assert gradient.dtype == torch.float16
    assert torch.allclose(gradient, torch.full_like(gradient, 2.0), rtol=1e-2)


def test_an_adjoint_has_no_certificate() -> None:
    class Zero:
        def error_bound(self, G: Any, y: Any, *inputs: Any) -> Any:
            return None

    with pytest.raises(InputError, match="tolerance: an adjoint equation has no certificate"):
        ImplicitAdjoint(tolerance=Tolerance(certificate=Zero()))
