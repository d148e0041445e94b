"""Phantom and unrolled gradients: exactly those of their applications, and as near the equilibrium's as T14 says."""

from __future__ import annotations

import gc
import re
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor

from deqops import (
    Adjoint,
    Anderson,
    DeqopsError,
    EquilibriumLayer,
    InputError,
    JacobianFree,
    Phantom,
    Picard,
    Tolerance,
    Unrolled,
    solve,
)
from tests.test_adjoint import Step, same, tensors

TIGHT = Tolerance(relative=1e-13)
DOUBLE = torch.float64
ADJOINTS: list[Phantom | Unrolled] = [Phantom(1, 1.0), Phantom(3, 0.5), Phantom(4, 1.0), Unrolled(1), Unrolled(4)]
every_adjoint = pytest.mark.parametrize("adjoint", ADJOINTS, ids=repr)


def applied(z: Tensor, x: Tensor, W: Tensor, adjoint: Phantom | Unrolled) -> Tensor:
    """The computation that is differentiated, written out; z is a constant."""
    damping = adjoint.damping if isinstance(adjoint, Phantom) else 1.0
    h = z.detach()
    for _ in range(adjoint.steps):
        h = (1 - damping) * h + damping * torch.tanh(h @ W + x)
    return h


def attached(z: Tensor, x: Tensor, W: Tensor, adjoint: Adjoint) -> Tensor:
    return adjoint.attach(lambda h: torch.tanh(h @ W + x), z)


@every_adjoint
def test_gradients_are_those_of_the_applications(adjoint: Phantom | Unrolled) -> None:
    x, W = tensors((2, 3), (3, 3), scale=0.3)
    z = torch.randn(2, 3, dtype=DOUBLE)
    weights = torch.randn(2, 3, dtype=DOUBLE)
    got = torch.autograd.grad((weights * attached(z, x, W, adjoint)).sum(), (x, W))
    assert same(got, torch.autograd.grad((weights * applied(z, x, W, adjoint)).sum(), (x, W)), tolerance=1e-14)


@every_adjoint
def test_second_derivatives_are_those_of_the_applications(adjoint: Phantom | Unrolled) -> None:
    x, W = tensors((2, 3), (3, 3), scale=0.3)
    z = torch.randn(2, 3, dtype=DOUBLE)

    def second(path: Tensor) -> tuple[Tensor, ...]:
        first = torch.autograd.grad((path**2).sum(), (x, W), create_graph=True)
        return torch.autograd.grad(sum((g**3).sum() for g in first), (x, W))

    expected = applied(z, x, W, adjoint)
    value = attached(z, x, W, adjoint)
    # the value differs from the path's: give the loss the same numbers
    got = second(value - value.detach() + expected.detach())
    assert same(got, second(expected), tolerance=1e-12)


@every_adjoint
def test_derivatives_against_finite_differences(adjoint: Phantom | Unrolled) -> None:
    """First derivatives of the path written out, second ones of what `attach` returns; z does not move."""
    x, W = tensors((2, 3), (3, 3), scale=0.3)
    z = torch.randn(2, 3, dtype=DOUBLE)
    assert torch.autograd.gradcheck(lambda x, W: applied(z, x, W, adjoint), (x, W))
    assert torch.autograd.gradgradcheck(lambda x, W: attached(z, x, W, adjoint), (x, W))


@every_adjoint
def test_through_solve_they_start_at_the_found_point(adjoint: Phantom | Unrolled) -> None:
    x, W = tensors((2, 3), (3, 3), scale=0.3)
    points: list[Tensor] = []

    def G(z: Tensor, x: Tensor) -> Tensor:
        points.append(z.detach())
        return torch.tanh(z @ W + x)

    y = solve(G, torch.zeros_like(x), x, solver=Picard(), adjoint=adjoint, tolerance=Tolerance(relative=1e-3))
    found = points[int(y.evaluations.max()) - 1]
    got = torch.autograd.grad(y.value.sum(), (x, W))
    # every problem stopped by itself, and is fed its last point from then on
    assert same(got, torch.autograd.grad(applied(found, x, W, adjoint).sum(), (x, W)))


@every_adjoint
@pytest.mark.parametrize("solver", [Anderson(), Picard()], ids=repr)
def test_the_value_is_what_it_is_without_gradients(adjoint: Phantom | Unrolled, solver: Any) -> None:
    x, W = tensors((2, 3), (3, 3), scale=0.3)

    def found() -> Tensor:
        G, start = lambda z, x: torch.tanh(z @ W + x), torch.zeros_like(x)
        value: Tensor = solve(G, start, x, solver=solver, adjoint=adjoint, tolerance=Tolerance(relative=1e-2)).value
        return value

    with torch.no_grad():
        plain = found()
    value = found()
    assert value.requires_grad
    assert torch.equal(value, plain)


@pytest.mark.parametrize("rate", [0.5, 0.9])
@pytest.mark.parametrize("damping", [None, 1.0, 0.5])
def test_t14_the_bias_shrinks_as_promised(rate: float, damping: float | None) -> None:
    """z W + x with W = q times an orthogonal matrix: the bias is at most, and of the order of, T14's bound."""
    W = rate * torch.linalg.qr(torch.randn(4, 4, dtype=DOUBLE))[0]
    exact = torch.linalg.inv(torch.eye(4, dtype=DOUBLE) - W)
    for steps in range(1, 13):
        adjoint: Adjoint = Unrolled(steps) if damping is None else Phantom(steps, damping)

        def solution(x: Tensor, adjoint: Adjoint = adjoint) -> Tensor:
            value: Tensor = solve(
                lambda z, x: z @ W + x, torch.zeros(1, 4, dtype=DOUBLE), x, tolerance=TIGHT, adjoint=adjoint
            ).value
            return value[0]

        jacobian = torch.autograd.functional.jacobian(solution, torch.ones(1, 4, dtype=DOUBLE))[:, 0]
        error = torch.linalg.matrix_norm(jacobian.mT - exact, 2)
        b = 1.0 if damping is None else damping
        assert error <= (1 - b + b * rate) ** steps / (1 - rate) * (1 + 1e-9)
        if b == 1:  # W^n (I - W)^-1, an orthogonal matrix but for its size
            assert error >= rate**steps / (1 + rate) * (1 - 1e-9)


def test_t14_the_bias_is_attained_in_the_worst_direction() -> None:
    x = torch.ones(1, 1, dtype=DOUBLE, requires_grad=True)
    for adjoint, rate in ((Unrolled(6), 0.8), (Phantom(6, 1.0), 0.8), (Phantom(6, 0.5), 0.9)):
        y = solve(lambda z, x: 0.8 * z + x, torch.zeros_like(x), x, tolerance=TIGHT, adjoint=adjoint).value
        (slope,) = torch.autograd.grad(y.sum(), x)
        assert torch.allclose(5 - slope, torch.tensor(rate**6 * 5, dtype=DOUBLE), rtol=1e-10)


def test_a_phantom_of_one_step_is_jacobian_free() -> None:
    x, W = tensors((2, 3), (3, 3), scale=0.3)
    z = torch.randn(2, 3, dtype=DOUBLE)
    values = [attached(z, x, W, adjoint) for adjoint in (Phantom(1, 1.0), Unrolled(1), JacobianFree())]
    first, second, third = (torch.autograd.grad(v.sum(), (x, W)) for v in values)
    assert same(first, third)
    assert same(second, third)


@pytest.mark.parametrize(("adjoint", "forward", "backward"), [(Phantom(4), 4, 0), (Unrolled(4), 4, 4)])
def test_unrolled_keeps_points_and_applies_g_again(adjoint: Adjoint, forward: int, backward: int) -> None:
    """Between the passes the intermediates of a phantom's applications live, those of an unrolled one do not."""
    alive: weakref.WeakSet[Tensor] = weakref.WeakSet()
    calls = 0
    (x,) = tensors((2, 3))

    def G(z: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        hidden = 0.5 * z + x
        alive.add(hidden)
        return torch.sin(hidden)

    y = adjoint.attach(G, torch.zeros(2, 3, dtype=DOUBLE))
    gc.collect()
    assert calls == forward
    assert len(alive) == (0 if isinstance(adjoint, Unrolled) else forward)
    y.sum().backward()
    assert calls == forward + backward


@pytest.mark.parametrize(("dtype", "factor"), [(DOUBLE, 1 - 1e-9), (torch.float32, 0.999), (torch.bfloat16, 0.5)])
def test_unrolled_refuses_an_operator_that_changed_in_between(dtype: torch.dtype, factor: float) -> None:
    """Its second evaluation would silently be another operator's: autograd cannot notice."""
    layer = EquilibriumLayer(Step().to(dtype), adjoint=Unrolled(3), tolerance=Tolerance(relative=0.02))
    y = layer(torch.randn(2, 3, dtype=dtype))
    with torch.no_grad():
        layer.operator.linear.weight.mul_(factor)  # type: ignore[union-attr]
    with pytest.raises(DeqopsError, match="Unrolled: in the backward pass G gave another image") as caught:
        y.sum().backward()
    assert "\n" not in str(caught.value)


def test_unrolled_repeats_random_numbers() -> None:
    """Dropout draws the same numbers in the second evaluation as in the first."""
    (x,) = tensors((2, 8))
    y = Unrolled(3).attach(lambda z: torch.dropout(0.5 * z + x, 0.5, True), torch.ones(2, 8, dtype=DOUBLE))
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert gradient.isfinite().all()


@every_adjoint
def test_a_path_that_overflows_spoils_no_value(adjoint: Phantom | Unrolled) -> None:
    x = torch.ones(2, 1, requires_grad=True)
    rates = torch.tensor([[1e30], [0.5]])
    solution = solve(
        lambda z, x: rates * z + x,
        torch.ones(2, 1),
        x,
        solver=Picard(),
        adjoint=adjoint,
        max_evaluations=2,
        throw=False,
    )
    assert solution.value.isfinite().all()


@every_adjoint
@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
def test_a_broken_problem_leaves_the_others_gradients(adjoint: Phantom | Unrolled, broken: float) -> None:
    x = torch.ones(2, 1, dtype=DOUBLE)
    x[0] = broken
    x.requires_grad_()
    solution = solve(lambda z, x: z / 2 + x, torch.zeros_like(x), x, adjoint=adjoint, throw=False)
    (gradient,) = torch.autograd.grad(solution.value[1].sum(), x)
    damping = adjoint.damping if isinstance(adjoint, Phantom) else 1.0
    assert torch.allclose(gradient[1], torch.tensor(2 - 2 * (1 - damping / 2) ** adjoint.steps, dtype=DOUBLE))


@every_adjoint
def test_gradients_of_one_problem_are_its_own(adjoint: Phantom | Unrolled) -> None:
    x, W = tensors((3, 4), (4, 4), scale=0.3)
    other = x.detach().clone()
    other[2] *= 50
    gradients = []
    for values in (x.detach().clone(), other):
        leaf = values.requires_grad_()
        y = solve(lambda z, x: torch.tanh(z @ W + x), torch.zeros_like(leaf), leaf, adjoint=adjoint).value
        gradients.append(torch.autograd.grad(y[:2].sum(), leaf)[0])
    assert torch.equal(gradients[0][:2], gradients[1][:2])


@pytest.mark.parametrize("adjoint", [Phantom(3), Unrolled(3)], ids=repr)
def test_gradients_of_a_tree_in_two_dtypes(adjoint: Phantom | Unrolled) -> None:
    x = torch.randn(2, 3, requires_grad=True)
    start = {"u": torch.zeros(2, 3), "v": torch.zeros(2, 3, dtype=DOUBLE)}

    def G(y: dict[str, Tensor], x: Tensor) -> dict[str, Tensor]:
        return {"u": 0.5 * torch.sin(y["v"].float()) + x, "v": 0.5 * torch.cos(y["u"].double())}

    y = solve(G, start, x, adjoint=adjoint).value
    (gradient,) = torch.autograd.grad(y["u"].sum() + y["v"].sum().float(), x)
    assert gradient.shape == x.shape
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


def test_phantom_under_torch_func() -> None:
    x, W = tensors((2, 3), (3, 3), scale=0.3)

    def loss(x: Tensor) -> Tensor:
        start = torch.zeros_like(x)
        value: Tensor = solve(lambda z, x: torch.tanh(z @ W.detach() + x), start, x, adjoint=Phantom(3)).value
        return value.sum()

    (plain,) = torch.autograd.grad(loss(x), x)
    assert torch.equal(torch.func.grad(loss)(x.detach()), plain)


@every_adjoint
def test_no_graph_without_need(adjoint: Phantom | Unrolled) -> None:
    layer = EquilibriumLayer(Step().requires_grad_(False), adjoint=adjoint)
    x = torch.randn(2, 3, dtype=DOUBLE)
    assert not layer(x).requires_grad
    assert layer(x.requires_grad_()).requires_grad


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Phantom(steps=0), "steps: a whole number of at least 1 is needed, got 0"),
        (lambda: Phantom(steps=True), "steps: a whole number of at least 1 is needed, got True"),
        (lambda: Phantom(damping=0.0), "damping: a finite number above 0 is needed, got 0.0"),
        (lambda: Phantom(damping=float("nan")), "damping: a finite number above 0 is needed, got nan"),
        (lambda: Unrolled(steps=-1), "steps: a whole number of at least 1 is needed, got -1"),
        (lambda: Unrolled(steps=2.0), "steps: a whole number of at least 1 is needed, got 2.0"),  # type: ignore[arg-type]
    ],
)
def test_bad_settings_are_refused_by_name(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        make()
