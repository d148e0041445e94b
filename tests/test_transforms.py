"""torch.func's transforms of an equilibrium: values as in a loop, derivatives as those of many iterations."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, stack_module_state, vjp, vmap
from torch.utils import _pytree as pytree

from deqops import (
    Adjoint,
    Anderson,
    Broyden,
    ConvergenceError,
    DeqopsError,
    EquilibriumLayer,
    ImplicitAdjoint,
    InputError,
    JacobianFree,
    NewtonKrylov,
    Phantom,
    Picard,
    Result,
    Solver,
    Tolerance,
    Unrolled,
    solve,
)
from tests.test_derivative import Once

TIGHT = Tolerance(relative=1e-13)
IMPLICIT = ImplicitAdjoint(tolerance=TIGHT)
DOUBLE = torch.float64
Function = Callable[[Tensor, Tensor], Any]


def numbers(*shape: int, scale: float = 1.0, seed: int = 0) -> Tensor:
    return scale * torch.randn(shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


X, W, V = numbers(4, 2), numbers(3, 3, scale=0.3, seed=1), numbers(4, 2, seed=2)
U = numbers(2, 3, seed=3)
FEW = torch.stack([W, 0.5 * W, -1.2 * W])


def applied(z: Tensor, x: Tensor, W: Tensor) -> Tensor:
    return 0.5 * torch.tanh(z @ W + torch.sin(x @ U.to(x.dtype)))


def equilibrium(x: Tensor, W: Tensor = W, **options: Any) -> Tensor:
    """The operator holds what is transformed, as a layer holds its weights: a solve cannot see it."""
    settings: dict[str, Any] = {"tolerance": TIGHT, "adjoint": IMPLICIT, **options}
    value: Tensor = solve(lambda z: applied(z, x, W), x.new_zeros(x.shape[0], 3), **settings).value
    return value


def iterated(x: Tensor, W: Tensor = W) -> Tensor:
    z = x.new_zeros(x.shape[0], 3)
    for _ in range(45):
        z = applied(z, x, W)
    return z


def size(f: Function) -> Function:
    return lambda x, W: f(x, W).square().sum()


def of_weights(f: Function) -> Callable[[Tensor], Tensor]:
    """One call for each row, with weights that all share."""
    return lambda W: vmap(f, in_dims=(0, None))(X[:, None], W).square().sum()


FIRST: dict[str, Callable[[Function], Any]] = {
    "vmap of inputs": lambda f: vmap(f, in_dims=(0, None))(X[:, None], W),
    "vmap of weights": lambda f: vmap(f, in_dims=(None, 0))(X, FEW),
    "vmap of both": lambda f: vmap(f)(X[:3, None], FEW),
    "vmap along another dimension": lambda f: vmap(f, in_dims=(1, 2), out_dims=2)(
        X[:, None], FEW.movedim(0, 2)[..., :1]
    ),
    "vmap of vmap": lambda f: vmap(vmap(f, in_dims=(None, 0)), in_dims=(0, None))(X[:, None], FEW),
    "grad": lambda f: grad(size(f), argnums=(0, 1))(X, W),
    "vjp": lambda f: vjp(f, X, W)[1](X.new_ones(4, 3)),
    "jvp": lambda f: jvp(f, (X, W), (V, 0.5 * W)),
    "jvp of weights": lambda f: jvp(lambda W: f(X, W), (W,), (W.mT,)),
    "jacrev": lambda f: jacrev(f, argnums=(0, 1))(X, W),
    "jacfwd": lambda f: jacfwd(f, argnums=(0, 1))(X, W),
    "vmap of grad": lambda f: vmap(grad(size(f), argnums=(0, 1)), in_dims=(0, None))(X[:, None], W),
    "vmap of jacrev": lambda f: vmap(jacrev(f, argnums=1), in_dims=(0, None))(X[:, None], W),
    "vmap of jacfwd": lambda f: vmap(jacfwd(f, argnums=1), in_dims=(None, 0))(X, FEW),
    "grad of vmap": lambda f: grad(of_weights(f))(W),
    "jvp of vmap": lambda f: jvp(of_weights(f), (W,), (W.mT,)),
    "vjp of vmap": lambda f: vjp(of_weights(f), W)[1](X.new_ones(())),
}
SECOND: dict[str, Callable[[Function], Any]] = {
    "hessian": lambda f: hessian(size(f), argnums=(0, 1))(X, W),
    "jacrev of jacrev": lambda f: jacrev(jacrev(size(f)), argnums=1)(X, W),
    "jacrev of jacfwd": lambda f: jacrev(jacfwd(size(f)), argnums=1)(X, W),
    "jacfwd of jacfwd": lambda f: jacfwd(jacfwd(size(f)), argnums=1)(X, W),
    "jvp of grad": lambda f: jvp(lambda x: grad(size(f))(x, W), (X,), (V,)),
    "grad of grad of vmap": lambda f: grad(lambda W: grad(of_weights(f))(W).square().sum())(W),
    "hessian of vmap": lambda f: hessian(of_weights(f))(W),
    "vmap of hessian": lambda f: vmap(hessian(size(f)), in_dims=(0, None))(X[:, None], W),
}


def check(
    case: Callable[[Function], Any], f: Function, expected: Function = iterated, tolerance: float = 1e-10
) -> None:
    got, right = (pytree.tree_leaves(case(function)) for function in (f, expected))
    assert len(got) == len(right) > 0
    for a, b in zip(got, right, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", FIRST | SECOND)
def test_t14_as_through_many_iterations(name: str) -> None:
    check((FIRST | SECOND)[name], equilibrium)


THIRD: dict[str, Callable[[Function], Any]] = {
    "reverse only": lambda f: jacrev(jacrev(jacrev(size(f))))(X[:1], W),
    "forward only": lambda f: jacfwd(jacfwd(jacfwd(size(f))))(X[:1], W),
    "in turn": lambda f: jacfwd(jacrev(jacfwd(size(f))))(X[:1], W),
}


@pytest.mark.parametrize("name", THIRD)
def test_t14_third_derivatives(name: str) -> None:
    adjoint = ImplicitAdjoint(tolerance=TIGHT, derivatives=3)
    check(THIRD[name], lambda x, W: equilibrium(x, W, adjoint=adjoint))
    with pytest.raises(DeqopsError, match="raise derivatives="):
        THIRD[name](equilibrium)


def forward_over_backward(f: Function) -> Tensor:
    with forward_ad.dual_level():
        x = forward_ad.make_dual(X.clone().requires_grad_(), V)
        (gradient,) = torch.autograd.grad(size(f)(x, W), x, create_graph=True)
        return forward_ad.unpack_dual(gradient).tangent.clone()


def backward_over_forward(f: Function) -> tuple[Tensor, ...]:
    x = X.clone().requires_grad_()
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(f(forward_ad.make_dual(x, V), W)).tangent
    return torch.autograd.grad(tangent.square().sum(), x)


@pytest.mark.parametrize("case", [forward_over_backward, backward_over_forward])
def test_t14_second_derivatives_without_torch_func(case: Callable[[Function], Any]) -> None:
    check(case, equilibrium)


@pytest.mark.parametrize("name", ["vmap of both", "vjp", "jacfwd", "grad of vmap", "hessian of vmap"])
def test_t14_where_gradients_are_switched_off_around(name: str) -> None:
    """torch.no_grad() around a transform does not reach into it."""
    with torch.no_grad():
        check((FIRST | SECOND)[name], equilibrium)


@pytest.mark.parametrize("name", [name for name in FIRST if name != "vjp of vmap"])
def test_t14_plain_gradients_of_a_transformed_equilibrium(name: str) -> None:
    """A second derivative where the transform is one itself; the weights are not the transform's argument."""

    def gradients(f: Function) -> tuple[Tensor, ...]:
        weights = torch.eye(3, dtype=DOUBLE).requires_grad_()
        outputs = pytree.tree_leaves(FIRST[name](lambda x, W: f(x, W @ weights)))
        return torch.autograd.grad(sum(y.square().sum() for y in outputs), weights)  # type: ignore[arg-type]

    check(gradients, equilibrium)


@pytest.mark.parametrize("solver", [Picard(0.9), Anderson(3), Broyden(), NewtonKrylov()], ids=repr)
@pytest.mark.parametrize("name", ["vmap of vmap", "jacrev", "grad of vmap"])
def test_every_solver(solver: Solver, name: str) -> None:
    adjoint = ImplicitAdjoint(solver=solver, tolerance=TIGHT)
    check(FIRST[name], lambda x, W: equilibrium(x, W, solver=solver, adjoint=adjoint))


def test_t14_the_closed_form_of_a_linear_equation() -> None:
    """z = z A + x: dz/dx = (I - A)^-T for each row, d2z/dA2 from the inverse's derivatives."""
    A, x, eye = W, numbers(1, 3), torch.eye(3, dtype=DOUBLE)

    def linear(x: Tensor, A: Tensor) -> Tensor:
        return solve(lambda z, x: z @ A + x, torch.zeros_like(x), x, tolerance=TIGHT, adjoint=IMPLICIT).value[0]

    exact = torch.linalg.inv(eye - A).mT
    for jacobian in (jacrev, jacfwd):
        torch.testing.assert_close(jacobian(linear)(x, A)[:, 0], exact, rtol=1e-12, atol=1e-12)
    second = jacfwd(jacrev(linear, argnums=1), argnums=1)(x, A)
    expected = jacfwd(jacrev(lambda A: (x @ torch.linalg.inv(eye - A))[0]))(A)
    torch.testing.assert_close(second, expected, rtol=1e-11, atol=1e-11)


def test_each_problem_of_each_call_stops_as_it_does_alone() -> None:
    rates = torch.tensor([[0.1, 0.5], [0.9, 0.3]], dtype=DOUBLE)

    def solved(rates: Tensor) -> tuple[Tensor, ...]:
        solution = solve(lambda z: rates[:, None] * z + 1, X.new_zeros(2, 3), solver=Picard(), trace=True)
        assert solution.trace is not None
        return solution.value, solution.result, solution.residual, solution.evaluations

    together = vmap(solved)(rates)
    alone = [torch.stack(parts) for parts in zip(*(solved(r) for r in rates), strict=True)]
    for a, b in zip(together, alone, strict=True):
        assert torch.equal(a, b)


def test_the_trace_and_the_callback_see_all_calls() -> None:
    seen: list[tuple[int, tuple[int, ...]]] = []

    def traced(x: Tensor) -> Any:
        return solve(
            lambda z: z / 2 + x,
            0 * x,
            trace=True,
            solver=Picard(),
            callback=lambda n, r: seen.append((n, tuple(r.shape))),
        ).trace

    trace = vmap(traced, out_dims=1)(numbers(5, 2, 3))
    assert trace.shape == (len(seen), 5, 2)
    assert seen[-1] == (len(seen), (10,))


class Step(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.state, self.input = nn.Linear(3, 3, dtype=DOUBLE), nn.Linear(2, 3, dtype=DOUBLE)
        nn.init.orthogonal_(self.state.weight, gain=0.5)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(self.state(z) + self.input(x))


def layer(**options: Any) -> EquilibriumLayer:
    start = lambda x: x.new_zeros(x.shape[0], 3)  # noqa: E731
    return EquilibriumLayer(Step(), initial=start, tolerance=TIGHT, adjoint=IMPLICIT, **options)


def test_per_sample_gradients_of_a_layer() -> None:
    made = layer()
    weights = {name: p.detach() for name, p in made.named_parameters()}
    loss = lambda weights, x: functional_call(made, weights, (x[None],)).square().sum()  # noqa: E731
    together = vmap(grad(loss), in_dims=(None, 0))(weights, X)
    for number, row in enumerate(X):
        gradients = torch.autograd.grad(made(row[None]).square().sum(), list(made.parameters()))
        for name, alone in zip(weights, gradients, strict=True):
            torch.testing.assert_close(together[name][number], alone, rtol=1e-11, atol=1e-11)


def test_an_ensemble_of_layers() -> None:
    models = [layer() for _ in range(3)]
    weights, buffers = stack_module_state(models)  # type: ignore[arg-type]
    base = layer()
    values = vmap(lambda w, b: functional_call(base, (w, b), (X,)))(weights, buffers)
    values.square().sum().backward()
    for number, model in enumerate(models):
        y = model(X)
        torch.testing.assert_close(values[number], y, rtol=1e-12, atol=1e-12)
        y.square().sum().backward()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(weights[name].grad[number], parameter.grad, rtol=1e-10, atol=1e-10)


def test_a_tree_as_one_problem() -> None:
    def pair(x: Tensor) -> tuple[Tensor, Tensor]:
        G = lambda y: {"u": 0.5 * torch.sin(y["v"]).sum(1) + x, "v": 0.3 * torch.cos(y["u"])[:, None].expand(2, 3)}  # noqa: E731
        start = {"u": torch.zeros_like(x), "v": x.new_zeros(2, 3)}
        y = solve(G, start, tolerance=TIGHT, adjoint=IMPLICIT, batch_dims=0).value
        return y["u"], y["v"]

    def unrolled(x: Tensor) -> tuple[Tensor, Tensor]:
        u, v = torch.zeros_like(x), x.new_zeros(2, 3)
        for _ in range(99):
            u, v = 0.5 * torch.sin(v).sum(1) + x, 0.3 * torch.cos(u)[:, None].expand(2, 3)
        return u, v

    x = numbers(5, 2)
    for case in (lambda f: vmap(f)(x), lambda f: vmap(jacrev(f))(x), lambda f: jacfwd(f)(x[0])):
        check(case, pair, unrolled)  # type: ignore[arg-type]


def test_a_mini_batch_of_graphs() -> None:
    batch = torch.tensor([0, 1, 0, 1, 1])

    def nodes(x: Tensor) -> Tensor:
        value: Tensor = solve(
            lambda z, x: 0.5 * torch.sin(z) + x, torch.zeros_like(x), x, batch=batch, tolerance=TIGHT, adjoint=IMPLICIT
        ).value
        return value

    def unrolled(x: Tensor) -> Tensor:
        z = torch.zeros_like(x)
        for _ in range(60):
            z = 0.5 * torch.sin(z) + x
        return z

    x = numbers(3, 5, 2)
    for case in (lambda f: vmap(f)(x), lambda f: jacfwd(f)(x[0]), lambda f: jacrev(f)(x[0])):
        check(case, nodes, unrolled)  # type: ignore[arg-type]


def test_an_equilibrium_inside_an_equilibrium() -> None:
    def nested(x: Tensor, W: Tensor) -> Tensor:
        value: Tensor = solve(
            lambda z: 0.3 * torch.sin(z) + equilibrium(0.2 * z[:, :2] + x, W),
            x.new_zeros(x.shape[0], 3),
            tolerance=TIGHT,
            adjoint=IMPLICIT,
        ).value
        return value

    def unrolled(x: Tensor, W: Tensor) -> Tensor:
        z = x.new_zeros(x.shape[0], 3)
        for _ in range(40):
            z = 0.3 * torch.sin(z) + iterated(0.2 * z[:, :2] + x, W)
        return z

    for name in ("vmap of inputs", "grad", "jvp"):
        check(FIRST[name], nested, unrolled)


@pytest.mark.parametrize("adjoint", [JacobianFree(), Phantom(1, 1.0), Phantom(3, 0.5)], ids=repr)
@pytest.mark.parametrize("name", ["jvp of weights", "grad", "jacrev", "jacfwd", "hessian"])
def test_adjoints_by_applications(adjoint: Adjoint, name: str) -> None:
    """Their derivatives are those of the applications written out, from a point that is held."""
    found = iterated(X, W)
    steps, damping = (adjoint.steps, adjoint.damping) if isinstance(adjoint, Phantom) else (1, 1.0)

    def written(x: Tensor, W: Tensor) -> Tensor:
        h = found
        for _ in range(steps):
            h = (1 - damping) * h + damping * applied(h, x, W)
        return h

    check((FIRST | SECOND)[name], lambda x, W: equilibrium(x, W, adjoint=adjoint), written)


@pytest.mark.parametrize("adjoint", [JacobianFree(), Phantom(3, 0.5)], ids=repr)
@pytest.mark.parametrize("name", ["grad of vmap", "vmap of grad", "jvp of vmap", "vmap of jacfwd"])
def test_adjoints_by_applications_with_vmap(adjoint: Adjoint, name: str) -> None:
    """With vmap they are what a loop of plain calls gives."""

    def case(f: Callable[[Tensor, Tensor], Tensor], mapped: Callable[..., Any]) -> Any:
        if name == "grad of vmap":
            return grad(lambda W: mapped(f, (0, None))(X[:, None], W).square().sum())(W)
        if name == "jvp of vmap":
            return jvp(lambda W: mapped(f, (0, None))(X[:, None], W), (W,), (W.mT,))
        inner = grad(size(f)) if name == "vmap of grad" else jacfwd(f)
        return mapped(inner, (0, None))(X[:, None], W)

    def loop(f: Any, in_dims: Any) -> Any:
        return lambda xs, W: torch.stack([f(x, W) for x in xs])

    f = lambda x, W: equilibrium(x, W, adjoint=adjoint)  # noqa: E731
    got, right = (pytree.tree_leaves(case(f, mapped)) for mapped in (vmap, loop))
    for a, b in zip(got, right, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("adjoint", [IMPLICIT, JacobianFree(), Phantom(2)], ids=lambda a: type(a).__name__)
def test_forward_differentiation_without_torch_func(adjoint: Adjoint) -> None:
    with forward_ad.dual_level():
        dual = equilibrium(forward_ad.make_dual(X, V), W, adjoint=adjoint)
        value, tangent = forward_ad.unpack_dual(dual)
    expected = jvp(lambda x: equilibrium(x, W, adjoint=adjoint), (X,), (V,))
    assert torch.equal(value, expected[0])
    torch.testing.assert_close(tangent, expected[1], rtol=1e-12, atol=1e-12)


def test_t14_forward_derivatives_against_finite_differences() -> None:
    x, w = X[:2].clone().requires_grad_(), W.clone().requires_grad_()
    assert torch.autograd.gradcheck(equilibrium, (x, w), check_forward_ad=True)


@pytest.mark.parametrize("derivatives", [1, 2, 3])
def test_many_gradients_in_one_backward_pass(derivatives: int) -> None:
    """Autograd's own way to Jacobians, of a plain call; a `vmap` over its backward pass does the same."""
    x, adjoint = X.clone().requires_grad_(), ImplicitAdjoint(tolerance=TIGHT, derivatives=derivatives)
    y = equilibrium(x, W, adjoint=adjoint)
    covectors = torch.eye(12, dtype=DOUBLE).reshape(12, 4, 3)
    expected = jacrev(iterated)(X).reshape(12, 4, 2)
    (together,) = torch.autograd.grad(y, x, covectors, retain_graph=True, is_grads_batched=True)
    torch.testing.assert_close(together, expected, rtol=1e-10, atol=1e-10)
    pulled = vmap(lambda c: torch.autograd.grad(y, x, c, retain_graph=True)[0])(covectors)
    torch.testing.assert_close(pulled, expected, rtol=1e-10, atol=1e-10)
    jacobian = torch.autograd.functional.jacobian(lambda x: equilibrium(x, W, adjoint=adjoint), X, vectorize=True)
    torch.testing.assert_close(jacobian, jacrev(iterated)(X), rtol=1e-10, atol=1e-10)
    forward = torch.autograd.functional.jacobian(
        lambda x: equilibrium(x, W, adjoint=adjoint), X, vectorize=True, strategy="forward-mode"
    )
    torch.testing.assert_close(forward, jacobian, rtol=1e-10, atol=1e-10)
    with pytest.raises(InputError, match="create_graph: not together with is_grads_batched"):
        torch.autograd.grad(y, x, covectors, create_graph=True, is_grads_batched=True)


@pytest.mark.parametrize("strategy", ["reverse-mode", "forward-mode"])
def test_autograds_own_hessians(strategy: str) -> None:
    found = torch.autograd.functional.hessian(
        lambda x: equilibrium(x).square().sum(), X, vectorize=True, outer_jacobian_strategy=strategy
    )
    torch.testing.assert_close(found, hessian(lambda x: iterated(x).square().sum())(X), rtol=1e-10, atol=1e-10)


def test_second_derivatives_of_a_mapped_backward_pass() -> None:
    x = X.clone().requires_grad_()
    covectors = numbers(3, 4, 3, seed=5)

    def second(y: Tensor) -> Tensor:
        first = vmap(lambda c: torch.autograd.grad(y, x, c, create_graph=True)[0])(covectors)
        return torch.autograd.grad(first.square().sum(), x)[0]

    torch.testing.assert_close(second(equilibrium(x)), second(iterated(x)), rtol=1e-10, atol=1e-10)
    with pytest.raises(DeqopsError, match="raise derivatives="):
        second(equilibrium(x, adjoint=ImplicitAdjoint(tolerance=TIGHT, derivatives=1)))


def test_random_operators() -> None:
    """A mask drawn once, by each call of a vmap for itself or for all: `randomness` says which."""

    def masked(x: Tensor) -> Tensor:
        mask = torch.bernoulli(torch.full((2, 3), 0.5))
        value: Tensor = solve(lambda z: 0.5 * torch.sin(z) * mask + x, torch.zeros_like(x)).value
        return value

    x = torch.ones(6, 2, 3)
    shared, own = (vmap(masked, randomness=r)(x) for r in ("same", "different"))
    assert torch.equal(shared[0], shared[5])
    assert not torch.equal(own[0], own[5])
    assert jacrev(masked)(x[0]).isfinite().all()


@pytest.mark.parametrize("derivatives", [1, 2, 3])
def test_one_derivative_too_many_is_refused(derivatives: int) -> None:
    def scalar(s: Tensor) -> Tensor:
        adjoint = ImplicitAdjoint(tolerance=TIGHT, derivatives=derivatives)
        start = X.new_zeros(1, 1)
        return solve(lambda z: torch.sin(z) / 2 + s**2, start, tolerance=TIGHT, adjoint=adjoint).value[0, 0]

    def unrolled(s: Tensor) -> Tensor:
        z = 0 * s
        for _ in range(60):
            z = torch.sin(z) / 2 + s**2
        return z

    s = torch.tensor(0.4, dtype=DOUBLE)
    for derived in (grad, jacfwd):
        f, expected = scalar, unrolled
        for _ in range(derivatives):
            f, expected = derived(f), derived(expected)
        torch.testing.assert_close(f(s), expected(s), rtol=1e-9, atol=1e-9)
        with pytest.raises(DeqopsError, match="raise derivatives="):
            derived(f)(s)
    leaf = s.clone().requires_grad_()
    inside = f(leaf)  # all orders are used up by the transforms
    with pytest.raises(DeqopsError, match="raise derivatives="):
        torch.autograd.grad(inside, leaf)


def test_a_failed_call_is_an_error_that_counts_all_calls() -> None:
    rates = torch.tensor([0.5, 3.0, 0.1], dtype=DOUBLE)
    failing = lambda r: solve(lambda z: r * z + 1, X.new_zeros(2, 3), solver=Picard()).value  # noqa: E731
    with pytest.raises(ConvergenceError, match="2 of 6 problems did not converge") as caught:
        vmap(failing)(rates)
    assert caught.value.solution.results[2:4] == [Result.DIVERGED] * 2
    open_ended = lambda r: solve(lambda z: r * z + 1, X.new_zeros(2, 3), solver=Picard(), throw=False).result  # noqa: E731
    assert vmap(open_ended)(rates)[1].tolist() == [Result.DIVERGED] * 2


@pytest.mark.parametrize("transform", [jacrev, jacfwd])
def test_a_broken_problem_leaves_the_others_derivatives(transform: Any) -> None:
    x = torch.tensor([[torch.nan], [1.0]], dtype=DOUBLE)
    f = lambda x: solve(lambda z: z / 2 + x, torch.zeros_like(x), adjoint=IMPLICIT, throw=False).value  # noqa: E731
    jacobian = transform(f)(x)[:, 0, :, 0]
    torch.testing.assert_close(jacobian[1], torch.tensor([0.0, 2.0], dtype=DOUBLE), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("transform", [jacrev, jacfwd])
def test_a_failed_derivative_solve_is_an_error(transform: Any) -> None:
    adjoint = ImplicitAdjoint(solver=Picard(), tolerance=TIGHT, max_evaluations=2)
    with pytest.raises(ConvergenceError, match=r"(backward|forward) solve of ImplicitAdjoint: \d+ of (48|32) problems"):
        transform(lambda x: equilibrium(x, W, adjoint=adjoint))(X)


class Zero:
    def error_bound(self, G: Any, y: Any, *inputs: Any) -> Any:
        return None


def test_what_cannot_be_is_refused_by_name() -> None:
    proven = Tolerance(certificate=Zero())
    with pytest.raises(InputError, match="certificate: it proves nothing inside"):
        vmap(lambda x: equilibrium(x[None], W, tolerance=proven))(X)
    for transform in (grad, jacfwd):
        with pytest.raises(InputError, match=r"Phantom\(3, 1.0\) has the same derivatives"):
            transform(lambda x: equilibrium(x, W, adjoint=Unrolled(3)).sum())(X)
        if transform is jacfwd:
            with pytest.raises(InputError, match="NewtonKrylov differentiates forward itself"):
                transform(lambda x: equilibrium(x, W, solver=NewtonKrylov()).sum())(X)
    with pytest.raises(InputError, match="y0: it holds NaN"):
        vmap(lambda x: solve(lambda z: z / 2, x).value)(torch.full((2, 1, 3), torch.nan))
    with pytest.raises(InputError, match="G: it maps a state of shape"):
        vmap(lambda x: solve(lambda z: z[:1], x).value)(X[:, None].expand(4, 3, 2))
    with pytest.raises(InputError, match=r"does not run inside .* Functionalize"):
        torch.func.functionalize(lambda x: equilibrium(x, W))(X)
    with pytest.raises(InputError, match=r"batch: inside torch\.func's vmap"):
        vmap(lambda b: solve(lambda z: z / 2, X, batch=b).value)(torch.zeros(3, 4, dtype=torch.int64))


def test_inference_mode_gives_values_and_refuses_derivatives() -> None:
    with torch.inference_mode():
        check(FIRST["vmap of inputs"], equilibrium)
        with pytest.raises(InputError, match="nothing records derivatives here, as in inference_mode"):
            jvp(equilibrium, (X,), (V,))


@pytest.mark.parametrize("scale", [1e-25, 1e-36])
def test_small_gradients(scale: float) -> None:
    """What cancels in them lies below the range of float32."""
    x, weights = X.float(), W.float().requires_grad_()
    f = lambda x: scale * equilibrium(x, weights, tolerance=Tolerance(), adjoint=ImplicitAdjoint()).sum()  # noqa: E731
    got, expected = grad(f)(x), scale * grad(lambda x: iterated(x, W).sum())(X).float()
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3 * scale)


@pytest.mark.parametrize("size", [1e-20, 1e-8])
def test_small_derivatives_under_float16_autocast(size: float) -> None:
    """Products with J are float16 then; weights that need gradients ask for a second order."""
    weights, x, loose = 2 * W.float().requires_grad_(), numbers(4, 3).float(), Tolerance(relative=1e-2)
    options: dict[str, Any] = {"tolerance": loose, "adjoint": ImplicitAdjoint(tolerance=loose)}

    def f(x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.float16):
            value: Tensor = solve(lambda z: torch.tanh(z @ weights) + x, torch.zeros_like(x), **options).value
        return value

    backward = [vjp(f, x)[1](torch.full_like(x, part))[0] / part for part in (size, 1.0)]
    forward = [jvp(f, (x,), (torch.full_like(x, part),))[1] / part for part in (size, 1.0)]
    for small, plain in (backward, forward):
        torch.testing.assert_close(small, plain, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_directions_that_are_not_finite_have_no_derivative(wrong: float) -> None:
    covector, direction = torch.ones(4, 3, dtype=X.dtype), torch.ones_like(X)
    covector[0, 0] = direction[0, 0] = wrong
    f = lambda x: equilibrium(x, W)  # noqa: E731
    for found in (vjp(f, X)[1](covector)[0], jvp(f, (X,), (direction,))[1]):
        assert found[0].isnan().all()
        assert found[1:].isfinite().all()


def test_an_operator_that_switches_gradients_off_has_two_derivatives() -> None:
    """Forward differentiation goes through `no_grad` and not through `detach`: the latter is the same in both modes."""

    def held(z: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.sin(z)

    def f(x: Tensor, factor: Callable[[Tensor], Tensor]) -> Tensor:
        start = torch.zeros_like(x)
        value: Tensor = solve(lambda z: 0.3 * z * factor(z) + x, start, tolerance=TIGHT, adjoint=IMPLICIT).value
        return value

    assert grad(lambda x: f(x, held).sum())(X).isfinite().all()
    g = lambda x: f(x, held)  # noqa: E731
    for transform in (lambda: jvp(g, (X,), (V,)), lambda: jacfwd(g)(X), lambda: vmap(jacfwd(g))(X[None])):
        with pytest.raises(InputError, match="G: its forward and backward derivatives differ"):
            transform()
    detached = lambda x: f(x, lambda z: torch.sin(z).detach())  # noqa: E731
    torch.testing.assert_close(jacfwd(detached)(X), jacrev(detached)(X), rtol=1e-11, atol=1e-11)


def test_an_operation_without_a_second_derivative_is_named() -> None:
    def f(x: Tensor) -> Tensor:
        value: Tensor = solve(lambda z: 0.5 * Once.apply(z) + x, torch.zeros_like(x), adjoint=IMPLICIT).value
        return value

    assert grad(lambda x: f(x).sum())(X).isfinite().all()
    with pytest.raises(InputError, match="G: its forward and backward derivatives differ"):
        jvp(f, (X,), (V,))


def test_unrolled_without_derivatives_is_only_a_value() -> None:
    torch.testing.assert_close(vmap(lambda x: equilibrium(x[None], W, adjoint=Unrolled(3)))(X)[:, 0], iterated(X))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # torch's tracer asks for it
def test_every_snippet_of_the_page_runs() -> None:
    page = Path(__file__).parent.parent / "docs" / "transforms.md"
    session: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, str(page), "exec"), session)  # noqa: S102
    assert session["per_sample"]["operator.linear.weight"].shape == (4, 3, 3)
    torch.testing.assert_close(session["jacobian"], jacfwd(session["layer"])(session["x"]), rtol=1e-4, atol=1e-4)


def test_nothing_is_left_behind() -> None:
    """After an error inside, the next transforms work; nothing is kept, forward or backward."""

    class Stopped(Exception):
        pass

    def stops(x: Tensor) -> Tensor:
        def G(z: Tensor) -> Tensor:
            raise Stopped

        value: Tensor = solve(G, x).value
        return value

    for transform in (lambda: vmap(stops)(X[:, None]), lambda: jacrev(stops)(X), lambda: jacfwd(stops)(X)):
        with pytest.raises(Stopped):
            transform()
    assert torch._C._functorch.maybe_current_level() is None

    def call() -> None:
        grad(of_weights(equilibrium))(W)
        jvp(lambda x: equilibrium(x, W), (X,), (V,))

    def live() -> int:
        gc.collect()
        return sum(issubclass(type(item), Tensor) for item in gc.get_objects())

    call()
    before = live()
    for _ in range(5):
        call()
    assert live() <= before  # a leak is more of them: tensors of earlier tests may go meanwhile
