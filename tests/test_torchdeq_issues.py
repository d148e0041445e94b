"""What users reported of torchdeq and of its predecessor locuslab/deq: each a test that deqops passes.

torchdeq 0.1.0 is run beside, where that is cheap; a newer one without the failure is noticed. What it gets wrong
besides is in `test_torchdeq_failures.py`.
"""

from __future__ import annotations

import copy
import gc
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from deqops import (
    Anderson,
    Broyden,
    EquilibriumLayer,
    ImplicitAdjoint,
    NewtonKrylov,
    Picard,
    Result,
    Solver,
    Tolerance,
    solve,
)
from tests.test_torchdeq_failures import peer

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import torchdeq
    from torchdeq import apply_norm, get_deq, reset_norm

SOLVERS: list[Solver] = [Picard(), Anderson(), Broyden(), NewtonKrylov()]
every_solver = pytest.mark.parametrize("solver", SOLVERS, ids=repr)
TIGHT = Tolerance(relative=1e-6)


def layer_of_peer(**options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return get_deq(**options)


def their_equilibrium(layer: Any, G: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value: Tensor = layer(G, start)[0][-1]
    return value


# ------------------------------------------------------------------------------------------- names that are ignored


def test_a_setting_of_an_unknown_name_is_an_error() -> None:
    """torchdeq issue 12: `stop_mode="rel"` for `f_stop_mode="rel"` is ignored, so 5 % of 100 is an absolute 0.05."""

    def G(z: Tensor) -> Tensor:
        return 0.9 * z + 10

    start = torch.zeros(1, 3)
    meant, written = (
        layer_of_peer(f_tol=0.05, f_max_iter=200, **{name: "rel"}) for name in ("f_stop_mode", "stop_mode")
    )
    assert (meant.f_stop_mode, written.f_stop_mode) == ("rel", "abs")
    steps = [int(layer(G, start)[1]["nstep"]) for layer in (meant, written)]
    assert steps[1] > 4 * steps[0]
    layer_of_peer(f_tolerance=1e-9, f_solvr="anderson")  # nothing happens

    options: dict[str, Any] = {"stop_mode": "rel"}
    for make in (Tolerance, Picard, Anderson, Broyden, NewtonKrylov, ImplicitAdjoint):
        with pytest.raises(TypeError, match="stop_mode"):
            make(**options)
    with pytest.raises(TypeError, match="stop_mode"):
        EquilibriumLayer(G, **options)
    with pytest.raises(TypeError, match="stop_mode"):
        solve(G, start, **options)
    loose = solve(G, start, solver=Picard(), tolerance=Tolerance(relative=0.05))
    assert int(loose.evaluations) in (steps[0], steps[0] + 1)


# --------------------------------------------------------------------------------------- gradients that are not there


class Energy(nn.Module):
    """As a model of molecules: the forces are the gradient of a scalar by the positions, in evaluation too."""

    def __init__(self, layer: EquilibriumLayer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        energy = (self.layer(positions) ** 2).sum()
        (forces,) = torch.autograd.grad(-energy, positions, create_graph=True)
        return energy, forces


@every_solver
@pytest.mark.parametrize("training", [True, False])
def test_gradients_in_eval_mode(solver: Solver, training: bool) -> None:
    """torchdeq issue 4: in eval mode its solution has no graph, and `torch.autograd.grad` of an energy fails."""
    x = torch.tensor([[0.5, -1.0]], dtype=torch.float64, requires_grad=True)
    start = torch.zeros(1, 2, dtype=torch.float64)
    theirs = layer_of_peer(ift=True).train(training)
    assert their_equilibrium(theirs, lambda z: 0.5 * torch.tanh(z) + x, start).requires_grad == training

    tolerance = Tolerance(relative=1e-12)
    operator = nn.Linear(2, 2, dtype=torch.float64).requires_grad_(False)
    operator.weight.mul_(0.3)
    layer = EquilibriumLayer(
        lambda z, x: torch.tanh(operator(z) + x),
        solver=solver,
        tolerance=tolerance,
        adjoint=ImplicitAdjoint(solver, tolerance),
    )
    model = Energy(layer).train(training)
    energy, forces = model(x)
    step = 1e-4 * torch.eye(2, dtype=torch.float64)
    ends = [[float(model((x + sign * d).detach().requires_grad_())[0].detach()) for sign in (1, -1)] for d in step]
    slopes = torch.tensor([[(a - b) / 2e-4 for a, b in ends]], dtype=torch.float64)
    assert energy.requires_grad
    assert torch.allclose(forces, -slopes, atol=1e-6)
    assert torch.autograd.grad((forces**2).sum(), x)[0].abs().max() > 0


@every_solver
@pytest.mark.parametrize("most", [1, 3, 200])
def test_a_solution_has_its_gradients_however_it_ended(solver: Solver, most: int) -> None:
    """torchdeq issue 8: a layer inside of a pretrained model, which comes in eval mode, trains none of its weights."""
    inner = nn.Linear(3, 3)
    nn.init.orthogonal_(inner.weight, 0.7)
    model = nn.Sequential(
        nn.Linear(3, 3), EquilibriumLayer(lambda z, x: torch.tanh(inner(z) + x), solver=solver)
    ).eval()
    layer = model[1]
    assert isinstance(layer, EquilibriumLayer)
    layer.max_evaluations = most
    solution = layer.solve(model[0](torch.randn(2, 3)), throw=False)
    assert solution.converged == (most == 200)
    assert solution.value.requires_grad
    solution.value.sum().backward()
    for weight in (*model[0].parameters(), *inner.parameters()):
        assert weight.grad is not None
        assert float(weight.grad.abs().max()) > 0


# ------------------------------------------------------------------------------------------------ Anderson's failures


@every_solver
@pytest.mark.parametrize("broken_from", [1, 2, 4])
def test_an_operator_that_breaks_down_leaves_a_named_result(solver: Solver, broken_from: int) -> None:
    """deq issue 26: no residual is ever the lowest, and the variable for its iterate does not exist.

    torchdeq begins with the start instead: with so few iterations that Anderson makes none, it returns the start and a
    residual of 1e8; broken by NaN it returns NaN.
    """
    start = torch.ones(1, 3)
    value, info = peer("anderson", lambda z: 0.5 * z + 1, start, max_iter=2)
    assert torch.equal(value, start)
    assert float(info["abs_lowest"]) == 1e8
    assert peer("anderson", lambda z: z * torch.nan, start, max_iter=10)[0].isnan().all()

    calls = 0

    def G(z: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return torch.full_like(z, torch.nan) if calls >= broken_from else torch.tanh(0.5 * z) + 1

    solution = solve(G, start, solver=solver, tolerance=TIGHT, throw=False)
    assert solution.results == [Result.NONFINITE]
    assert solution.value.isfinite().all()
    for most in (1, 2):
        short = solve(lambda z: 0.5 * z + 1, start, solver=solver, max_evaluations=most, throw=False)
        assert short.results == [Result.MAX_EVALUATIONS]
        assert not torch.equal(short.value, start)


@every_solver
@pytest.mark.parametrize("size", [1.0, 1e2, 1e6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dependent_differences_are_no_singular_matrix(solver: Solver, size: float, dtype: torch.dtype) -> None:
    """deq issue 20: "singular U" in the middle of a training.

    The second problem is harmless, z / 2 + 1. The first, z + size, has residuals that all are the same; torchdeq's
    absolute regularisation of 1e-4 vanishes beside them, and the exception takes the whole batch.
    """

    def G(z: Tensor, *_: Tensor) -> Tensor:
        return torch.cat([z[:1] + size, 0.5 * z[1:] + 1])

    start = torch.zeros(2, 3, dtype=dtype)
    if size >= 1e2 and dtype == torch.float32:
        with pytest.raises(RuntimeError, match="the input matrix is singular"):
            peer("anderson", G, start, max_iter=60, tol=1e-6, stop_mode="rel")
    solution = solve(G, start, solver=solver, tolerance=TIGHT, max_evaluations=100, throw=False)
    assert solution.results[0] in (Result.MAX_EVALUATIONS, Result.STAGNATED, Result.DIVERGED)
    assert solution.results[1] is Result.CONVERGED
    assert solution.value.isfinite().all()
    assert torch.allclose(solution.value[1], torch.full((3,), 2.0, dtype=dtype), rtol=1e-5)


@every_solver
def test_more_memory_than_unknowns_is_no_singular_matrix(solver: Solver) -> None:
    """deq issue 20, without regularisation: differences of a few unknowns are dependent from the third on."""

    def G(z: Tensor) -> Tensor:
        return torch.relu(z - 1)

    start = torch.full((1, 2), 9.0)
    with pytest.raises(RuntimeError, match="the input matrix is singular"):
        peer("anderson", G, start, max_iter=60, tol=1e-7, stop_mode="rel", lam=0.0)
    solution = solve(G, start, solver=solver, tolerance=Tolerance(absolute=1e-7, relative=0.0))
    assert torch.equal(solution.value, torch.zeros(1, 2))


# ----------------------------------------------------------------------------------------------------- deep copies


class Peers(nn.Module):
    def __init__(self, norm: str) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.deq = layer_of_peer(ift=True)
        apply_norm(self.linear, norm)

    def forward(self, x: Tensor) -> Tensor:
        reset_norm(self.linear)
        return their_equilibrium(self.deq, lambda z: torch.tanh(0.3 * self.linear(z) + x), torch.zeros_like(x))


class Normalised(nn.Module):
    def __init__(self, norm: str) -> None:
        super().__init__()
        self.linear = getattr(parametrizations, norm)(nn.Linear(3, 3))

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(0.3 * self.linear(z) + x)


@pytest.mark.parametrize("norm", ["weight_norm", "spectral_norm"])
def test_a_layer_with_normalised_weights_can_be_copied_after_its_use(norm: str) -> None:
    """deq issue 23: `copy.deepcopy` fails, for the normalised weight is a tensor with a graph, kept by the module."""
    x = torch.randn(2, 3)
    theirs = Peers(norm)
    theirs(x).sum().backward()
    with pytest.raises(RuntimeError, match="deepcopy protocol"):
        copy.deepcopy(theirs)

    ours = EquilibriumLayer(Normalised(norm), adjoint=ImplicitAdjoint(tolerance=TIGHT))
    ours(x).sum().backward()
    ours.eval()  # in training a power iteration would change the weight at each call
    other = copy.deepcopy(ours)
    assert torch.equal(other(x), ours(x))
    assert all(a is not b for a, b in zip(other.parameters(), ours.parameters(), strict=True))
    if norm == "spectral_norm":  # its class is made at run time, and cannot be pickled by torch's own account
        return
    loaded = EquilibriumLayer(Normalised(norm))
    loaded.load_state_dict(pickle.loads(pickle.dumps(ours.state_dict())))
    assert torch.equal(loaded.eval()(x), ours(x))


# ------------------------------------------------------------------------------------------------------------ hooks


def test_two_calls_before_one_backward_pass_do_not_recur(monkeypatch: pytest.MonkeyPatch) -> None:
    """deq issue 24: a hook that is not removed is called by the very `autograd.grad` that it makes.

    torchdeq removes the hook of the last call only: with `hook_ift`, two calls and one backward pass never end.
    """
    depth = 0

    def nested(*args: Any, **options: Any) -> Any:
        nonlocal depth
        depth += 1
        if depth > 3:
            raise RuntimeError("a hook that calls itself")
        try:
            return torchdeq.solver.get_solver("fixed_point_iter")(*args, **options)
        finally:
            depth -= 1

    monkeypatch.setitem(torchdeq.solver._solvers, "nested", nested)
    x = torch.ones(2, 3, requires_grad=True)

    def G(z: Tensor) -> Tensor:
        return 0.5 * torch.tanh(z) + x

    layer, start = layer_of_peer(hook_ift=True, b_solver="nested"), torch.zeros(2, 3)
    their_equilibrium(layer, G, start).sum().backward()
    total = their_equilibrium(layer, G, start).sum() + their_equilibrium(layer, G, start).sum()
    with pytest.raises(RuntimeError, match="a hook that calls itself"):
        total.backward()

    adjoint = ImplicitAdjoint(tolerance=TIGHT)
    once, twice = (solve(G, start, tolerance=TIGHT, adjoint=adjoint).value for _ in range(2))
    (expected,) = torch.autograd.grad(once.sum(), x, retain_graph=True)
    (found,) = torch.autograd.grad(once.sum() + twice.sum(), x)
    assert torch.allclose(found, 2 * expected)


def test_the_same_graph_can_be_differentiated_twice() -> None:
    """deq issue 24, the other way: once the hook is removed, torchdeq's second gradient is that of one application."""
    x = torch.ones(2, 3, requires_grad=True)

    def gradients(value: Tensor) -> tuple[Tensor, Tensor]:
        first, second = (torch.autograd.grad(value.sum(), x, retain_graph=True)[0] for _ in range(2))
        return first, second

    start = torch.zeros(2, 3)
    first, second = gradients(their_equilibrium(layer_of_peer(hook_ift=True), lambda z: 0.5 * torch.tanh(z) + x, start))
    assert torch.equal(second, torch.ones(2, 3))
    assert float(first[0, 0]) > 1.05
    tight = ImplicitAdjoint(tolerance=TIGHT)
    first, second = gradients(solve(lambda z: 0.5 * torch.tanh(z) + x, start, tolerance=TIGHT, adjoint=tight).value)
    assert torch.equal(first, second)
    assert float(first[0, 0]) > 1.05


def test_evaluation_without_gradients_in_training_mode() -> None:
    """torchdeq's hook needs a graph: its layer in training mode fails under `torch.no_grad`."""
    x, start = torch.ones(2, 3, requires_grad=True), torch.zeros(2, 3)

    def G(z: Tensor, x: Tensor = x) -> Tensor:
        return 0.5 * torch.tanh(z) + x

    with torch.no_grad():
        with pytest.raises(RuntimeError, match="cannot register a hook"):
            their_equilibrium(layer_of_peer(hook_ift=True), G, start)
        value = EquilibriumLayer(G).train()(x)
    assert not value.requires_grad
    assert torch.equal(value, EquilibriumLayer(G).eval()(x))


def test_training_leaves_no_hooks_and_no_tensors_behind() -> None:
    """deq issues 12 and 15: a segmentation fault, after dozens of epochs, of a hook that is removed while it runs."""
    inner = nn.Linear(3, 3)
    nn.init.orthogonal_(inner.weight, 0.5)
    layer = EquilibriumLayer(lambda z, x: torch.tanh(inner(z) + x))
    optimiser = torch.optim.SGD(inner.parameters(), lr=1e-2)
    alive = []
    for step in range(30):
        optimiser.zero_grad()
        y = layer(torch.randn(4, 3))
        assert y._backward_hooks is None
        (y**2).mean().backward()
        optimiser.step()
        del y
        if step in (9, 19, 29):
            gc.collect()
            alive.append(sum(issubclass(type(thing), Tensor) for thing in gc.get_objects()))
    assert all(not weight._backward_hooks for weight in inner.parameters())
    assert not layer._backward_hooks
    assert not layer._forward_hooks
    assert alive[0] >= alive[1] >= alive[2]  # a leak adds some each step; tensors of earlier tests may go meanwhile
