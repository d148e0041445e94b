"""Every adjoint with every solver and shape of state: gradients, second derivatives, their errors and their memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from benchmarks.gradients import (
    OURS,
    THEIRS,
    Equilibrium,
    Problem,
    Settings,
    gradient_error,
    hessian_product,
    methods,
    ours,
    peak_bytes,
    relative_error,
    saved_bytes,
    second_order_errors,
    unrolled,
)
from deqops import (
    Adjoint,
    Anderson,
    Broyden,
    ImplicitAdjoint,
    JacobianFree,
    NewtonKrylov,
    Phantom,
    Picard,
    Solver,
    Tolerance,
    Unrolled,
    solve,
)

DOUBLE = torch.float64
TIGHT = Tolerance(relative=1e-11)
MOST = 4000
SOLVERS: list[Solver] = [Picard(), Anderson(), Broyden(), NewtonKrylov()]
every_solver = pytest.mark.parametrize("solver", SOLVERS, ids=repr)


@dataclass(frozen=True)
class Shape:
    """An operator `G(state, x, W)` on states of one structure, built from x (1, 2) and W (2, 2)."""

    G: Callable[[Any, Tensor, Tensor], Any]
    start: Callable[[Tensor], Any]


SHAPES = {
    "tensor": Shape(lambda z, x, W: torch.tanh(z @ W + x), torch.zeros_like),
    "dict": Shape(
        lambda z, x, W: {"u": torch.tanh(z["v"] @ W + x), "v": 0.4 * torch.sin(z["u"] + x[:, :1])},
        lambda x: {"u": torch.zeros_like(x), "v": torch.zeros_like(x)},
    ),
    "tuple": Shape(
        lambda z, x, W: ([torch.tanh(z[1] * W[0] + x)], 0.4 * torch.cos(z[0][0][:, :1] + z[1])),
        lambda x: ([torch.zeros_like(x)], torch.zeros_like(x[:, :1])),
    ),
}
every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def parameters() -> tuple[Tensor, Tensor]:
    x, W = (0.3 * torch.randn(rows, 2, dtype=DOUBLE) for rows in (1, 2))
    return x.requires_grad_(), W.requires_grad_()


def found(shape: Shape, solver: Solver, adjoint: Adjoint, x: Tensor, W: Tensor) -> tuple[Tensor, ...]:
    """The equilibrium's leaves."""
    G = shape.G
    value = solve(lambda z: G(z, x, W), shape.start(x), solver=solver, adjoint=adjoint, tolerance=TIGHT).value
    return tuple(pytree.tree_leaves(value))


# ----------------------------------------------------------------------------- against finite differences


@every_solver
@every_shape
@pytest.mark.parametrize("kind", ["implicit", "unrolled"])
def test_first_and_second_derivatives_against_finite_differences(solver: Solver, shape: Shape, kind: str) -> None:
    """T14 `implicit_gradient`: the solver in both passes, or so many applications that no bias shows."""
    adjoint = ImplicitAdjoint(solver, TIGHT) if kind == "implicit" else Unrolled(14)
    equilibrium = partial(found, shape, solver, adjoint)
    assert torch.autograd.gradcheck(equilibrium, parameters(), fast_mode=True)
    assert torch.autograd.gradgradcheck(equilibrium, parameters(), fast_mode=True)


@pytest.mark.parametrize(("forward", "backward"), list(zip(SOLVERS, [*SOLVERS[1:], SOLVERS[0]], strict=True)), ids=repr)
def test_a_solver_of_its_own_for_the_adjoint_equation(forward: Solver, backward: Solver) -> None:
    equilibrium = partial(found, SHAPES["tensor"], forward, ImplicitAdjoint(backward, TIGHT))
    assert torch.autograd.gradgradcheck(equilibrium, parameters(), fast_mode=True)


# ------------------------------------------------------------------------------- the documented formulas


def dense(shape: Shape, state: Any, x: Tensor, W: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """J, dG/dx and dG/dW of the flattened state, (unknowns, ..)."""
    leaves, spec = pytree.tree_flatten(state)
    sizes = [leaf.numel() for leaf in leaves]

    def flat(y: Tensor, x: Tensor, W: Tensor) -> Tensor:
        parts = [p.reshape(leaf.shape) for p, leaf in zip(y.split(sizes), leaves, strict=True)]
        image = shape.G(pytree.tree_unflatten(parts, spec), x, W)
        return torch.cat([leaf.reshape(-1) for leaf in pytree.tree_leaves(image)])

    y = torch.cat([leaf.reshape(-1) for leaf in leaves]).detach()
    J, J_x, J_W = torch.autograd.functional.jacobian(flat, (y, x.detach(), W.detach()))
    return J, J_x.flatten(1), J_W.flatten(1)


@every_solver
@every_shape
@pytest.mark.parametrize("adjoint", [JacobianFree(), Phantom(3, 0.5), Phantom(4, 1.0), Unrolled(3)], ids=repr)
def test_approximate_gradients_are_the_documented_sums(solver: Solver, shape: Shape, adjoint: Adjoint) -> None:
    """`b sum_{j < steps} ((1-b) I + b J)^j dG/dx` at the equilibrium; dG/dx alone for `JacobianFree`."""
    x, W = parameters()
    leaves = found(shape, solver, adjoint, x, W)
    weights = torch.randn(sum(leaf.numel() for leaf in leaves), dtype=DOUBLE)
    got = torch.autograd.grad((weights * torch.cat([leaf.reshape(-1) for leaf in leaves])).sum(), (x, W))
    state = pytree.tree_unflatten(list(leaves), pytree.tree_structure(shape.start(x)))
    J, *slopes = dense(shape, state, x, W)
    steps, b = getattr(adjoint, "steps", 1), getattr(adjoint, "damping", 1.0)
    damped = (1 - b) * torch.eye(len(J), dtype=DOUBLE) + b * J
    series = b * sum((torch.linalg.matrix_power(damped, j) for j in range(steps)), torch.zeros_like(J))
    for gradient, slope in zip(got, slopes, strict=True):
        assert torch.allclose(gradient.reshape(-1), weights @ series @ slope, rtol=1e-9, atol=1e-11)
    if steps * b > 1:
        assert not torch.allclose(got[0].reshape(-1), weights @ slopes[0], rtol=1e-2)


# -------------------------------------------------------------------------- the error beside the tolerance


def implicit(solver: Solver) -> Equilibrium:
    """As the benchmark asks for it, with this solver for both passes."""

    def run(step: Callable[[Tensor], Tensor], start: Tensor, settings: Settings) -> Tensor:
        forward, backward = (Tolerance(relative=t) for t in (settings.relative, settings.adjoint))
        value: Tensor = solve(
            step,
            start,
            solver=solver,
            adjoint=ImplicitAdjoint(solver, backward, MOST),
            tolerance=forward,
            max_evaluations=MOST,
        ).value
        return value

    return run


@every_solver
@pytest.mark.parametrize(("dtype", "relative"), [(torch.float32, 1e-3), (torch.float32, 1e-5), (DOUBLE, 1e-9)])
def test_the_gradients_error_is_below_ten_tolerances(solver: Solver, dtype: torch.dtype, relative: float) -> None:
    """Against float64 unrolled differentiation of the same numbers; second derivatives as well."""
    problem = Problem.layer(12, 3, 0.9, dtype)
    assert gradient_error(implicit(solver), problem, Settings(relative)) <= 10 * relative
    exact = problem.to_double()
    truth = hessian_product(unrolled, exact, Settings(0.0, 400))
    assert relative_error(hessian_product(implicit(solver), problem, Settings(relative)), truth) <= 10 * relative


@every_solver
@pytest.mark.parametrize("rate", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("backward", [1e-2, 1e-6])
def test_t14_the_backward_solves_error_is_its_residual_over_one_less_q(
    solver: Solver, rate: float, backward: float
) -> None:
    """`z = q Q z + x`: the gradient by x is `(I - q Q^T)^-1 g`, and off by at most `tolerance |u| / (1 - q)`."""
    problem = Problem.slow(12, 2, rate)
    value = problem.value(implicit(solver), Settings(1e-12, backward=backward))
    g = torch.randn(2, 12, dtype=DOUBLE)
    (u,) = torch.autograd.grad(value, problem.x, g)
    exact = torch.linalg.solve(torch.eye(12, dtype=DOUBLE) - problem.W.detach(), g, left=False)
    error, size = (torch.linalg.vector_norm(t, dim=1) for t in (u - exact, u))
    assert bool((error <= backward * rate / (1 - rate) * size + 1e-11 * size).all())


# -------------------------------------------------------------------------------------------------- memory


@pytest.mark.parametrize("name", ["deqops implicit", "deqops implicit, 1st only", "deqops phantom, 5"])
def test_memory_does_not_grow_with_the_iterations(name: str) -> None:
    """What the graph keeps, and the most that is alive through both passes; the differentiated loop beside it."""
    problem, kept, peak = Problem.slow(16, 8), {}, {}
    for count in (10, 100, 300):
        for method in (name, "every application"):
            settings = Settings(0.0, count, backward=1e-1)
            equilibrium = OURS.get(method, unrolled)
            kept[method, count] = saved_bytes(equilibrium, problem, settings)
            peak[method, count] = peak_bytes(equilibrium, problem, settings)
    state = problem.x.numel() * problem.x.element_size()
    assert kept[name, 10] == kept[name, 100] == kept[name, 300] <= 5 * state
    assert peak[name, 100] == peak[name, 300] <= 15 * state
    assert peak[name, 10] <= 15 * state
    assert kept["every application", 300] >= 290 * state


@every_solver
def test_the_graph_of_any_solver_keeps_as_little(solver: Solver) -> None:
    problem, states = Problem.slow(16, 8, 0.9), 8 * 16 * 8
    sizes = {saved_bytes(implicit(solver), problem, Settings(relative)) for relative in (1e-1, 1e-4, 1e-10)}
    assert sizes == {4 * states}


def test_unrolled_gradients_keep_a_point_an_application() -> None:
    problem, state = Problem.slow(16, 8), 16 * 8 * 8
    sizes = [saved_bytes(partial(ours, lambda *_, n=n: Unrolled(n)), problem, Settings(0.0, 20)) for n in (10, 20, 40)]
    assert sizes[1] - sizes[0] == 10 * state
    assert sizes[2] - sizes[1] == 20 * state


# ------------------------------------------------------------------------------------------- the benchmark


def test_the_benchmarks_first_table() -> None:
    assert set(methods()) == {*OURS, *THEIRS}
    problem = Problem.layer(8, 2, 0.8)
    for name, method in methods().items():
        error = gradient_error(method, problem, Settings(1e-7))
        assert (error <= 1e-6) == ("implicit" in name), name


def test_the_benchmarks_second_table() -> None:
    """torchdeq's implicit gradient has another second derivative than the equilibrium, and says nothing."""
    errors = {name: second_order_errors(method, Settings(1e-12)) for name, method in methods().items()}
    assert max(errors["deqops implicit"]) < 1e-11
    assert all(map(math.isnan, errors["deqops implicit, 1st only"]))
    assert min(errors["torchdeq implicit"]) > 0.5
    assert min(errors["torchdeq implicit, hook"]) > 0.5
