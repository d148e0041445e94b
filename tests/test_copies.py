"""A trained layer can be copied, saved, replicated and called at will: nothing is shared, nothing is left behind."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from deqops import (
    Adjoint,
    Anderson,
    Broyden,
    ConvergenceError,
    EquilibriumLayer,
    ImplicitAdjoint,
    InputError,
    JacobianFree,
    NewtonKrylov,
    Phantom,
    Picard,
    SciPy,
    Solver,
    Tolerance,
    TorchDEQ,
    Unrolled,
    UnsupportedOperationError,
)
from tests.test_adjoint import TIGHT, Step, same

SOLVERS: list[Solver] = [Picard(), Anderson(), Broyden(), NewtonKrylov()]
ADJOINTS: list[Adjoint] = [ImplicitAdjoint(tolerance=TIGHT), Unrolled(3), Phantom(3), JacobianFree()]
every_pair = pytest.mark.parametrize(
    ("solver", "adjoint"),
    list(zip(SOLVERS, ADJOINTS, strict=True)),
    ids=["Picard", "Anderson", "Broyden", "NewtonKrylov"],
)
every_solver = pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: type(s).__name__)
every_adjoint = pytest.mark.parametrize("adjoint", ADJOINTS, ids=lambda a: type(a).__name__)


def layer(solver: Solver | None = None, adjoint: Adjoint | None = None) -> EquilibriumLayer:
    return EquilibriumLayer(Step(), solver, adjoint or ADJOINTS[0], TIGHT)


def inputs(rows: int = 4) -> Tensor:
    return torch.randn(rows, 3, dtype=torch.float64)


def trained(**options: Any) -> EquilibriumLayer:
    """Two steps of Adam: gradients, and a graph that has been used."""
    made = layer(**options)
    optimiser = torch.optim.Adam(made.parameters(), lr=0.01)
    for _ in range(2):
        optimiser.zero_grad()
        made(inputs()).square().sum().backward()
        optimiser.step()
    return made


def gradients(made: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    weights = list(made.parameters())
    return torch.autograd.grad(made(x).square().sum(), weights)


def live_tensors() -> int:
    gc.collect()
    return sum(issubclass(type(item), Tensor) for item in gc.get_objects())


@every_pair
def test_a_deep_copy_is_the_same_and_apart(solver: Solver, adjoint: Adjoint) -> None:
    original, x = trained(solver=solver, adjoint=adjoint), inputs()
    before, expected = gradients(original, x), original(x)
    other = copy.deepcopy(original)
    assert torch.equal(other(x), expected)
    assert same(gradients(other, x), before, tolerance=0)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.5)
    assert torch.equal(original(x), expected)
    assert not torch.equal(other(x), expected)


def test_a_state_dict_fits_a_fresh_layer_strictly_and_loads_without_pickles() -> None:
    original, x = trained(), inputs()
    assert set(original.state_dict()) == {"operator.linear.weight", "operator.linear.bias"}
    file = io.BytesIO()
    torch.save(original.state_dict(), file)
    file.seek(0)
    for state in (original.state_dict(), torch.load(file, weights_only=True)):
        fresh = layer()
        found = fresh.load_state_dict(state, strict=True)
        assert (found.missing_keys, found.unexpected_keys) == ([], [])
        assert torch.equal(fresh(x), original(x))
        assert same(gradients(fresh, x), gradients(original, x), tolerance=0)


@every_pair
def test_a_trained_layer_is_pickled(solver: Solver, adjoint: Adjoint) -> None:
    original, x = trained(solver=solver, adjoint=adjoint), inputs()
    other = pickle.loads(pickle.dumps(original))
    assert torch.equal(other(x), original(x))
    assert (other.solver, other.adjoint, other.tolerance) == (solver, adjoint, TIGHT)


def test_records_are_pickled() -> None:
    records = [*SOLVERS, *ADJOINTS, TIGHT, TorchDEQ("anderson"), SciPy("krylov")]
    for record in records:
        assert pickle.loads(pickle.dumps(record)) == record
        assert copy.deepcopy(record) == record


def test_solutions_are_pickled_with_and_without_gradients() -> None:
    made, x = layer(), inputs()
    for solution in (made.solve(x, trace=True), made.requires_grad_(False).solve(x, trace=True)):
        other = pickle.loads(pickle.dumps(solution))
        for name in ("value", "result", "residual", "evaluations", "trace"):
            assert torch.equal(getattr(other, name), getattr(solution, name))
        assert other.results == solution.results
    assert torch.equal(copy.deepcopy(solution).value, solution.value)


def test_errors_are_pickled_as_what_they_are() -> None:
    """A worker's error reaches the process that asked for the work."""
    hopeless = EquilibriumLayer(lambda z, x: 3 * z + x, solver=Picard())
    with pytest.raises(ConvergenceError) as caught:
        hopeless(inputs())
    error = pickle.loads(pickle.dumps(caught.value))
    assert str(error) == str(caught.value)
    assert error.solution.results == caught.value.solution.results
    unsupported = pickle.loads(pickle.dumps(UnsupportedOperationError("aten.foo", "has no rule")))
    assert (unsupported.operation, unsupported.why) == ("aten.foo", "has no rule")
    assert type(pickle.loads(pickle.dumps(InputError("x")))) is InputError


NORMS: list[Callable[[nn.Module], nn.Module]] = [
    parametrizations.weight_norm,
    parametrizations.spectral_norm,
    parametrizations.orthogonal,
]


@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: norm.__name__)
def test_a_copy_of_a_reparametrised_layer_after_a_call(norm: Callable[[nn.Module], nn.Module]) -> None:
    """locuslab/deq, issue 23: a copy after a call fails where the layer keeps the weight it computed."""
    made, x = layer(), inputs()
    norm(made.operator.linear)  # type: ignore[attr-defined]
    y = made(x)
    y.sum().backward()
    y = made(x)  # a graph under way while the layer is copied
    other = copy.deepcopy(made)
    y.sum().backward()
    made.eval()
    other.eval()
    assert torch.equal(other(x), made(x))
    assert same(gradients(other, x), gradients(made, x), tolerance=0)


def replica_of(module: nn.Module, weights: dict[str, Tensor], prefix: str = "") -> nn.Module:
    """What `torch.nn.parallel.replicate` makes: plain attributes that are no leaves, in shallow copies of modules."""
    replica = module._replicate_for_data_parallel()
    for name, child in module._modules.items():
        setattr(replica, name, None if child is None else replica_of(child, weights, f"{prefix}{name}."))
    for name in module._parameters:
        setattr(replica, name, weights[f"{prefix}{name}"])
    return replica


def run_together(work: list[Callable[[], None]]) -> None:
    """One thread each; the first error is raised here."""
    errors: list[BaseException] = []

    def guarded(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(job,)) for job in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@every_adjoint
@every_solver
def test_replicas_in_threads_have_the_single_layers_gradients(solver: Solver, adjoint: Adjoint) -> None:
    single, x = layer(solver, adjoint), inputs(8)
    expected = gradients(single, x)
    outputs: dict[int, Tensor] = {}
    work = []
    for number, part in enumerate(x.split(2)):
        copies = {name: 1 * weight for name, weight in single.named_parameters()}
        replica = replica_of(single, copies)
        work.append(lambda n=number, r=replica, p=part: outputs.__setitem__(n, r(p)))
    run_together(work)
    gathered = torch.cat([outputs[n] for n in range(4)])
    assert torch.equal(gathered, single(x)) or same((gathered,), (single(x),), tolerance=1e-14)
    got = torch.autograd.grad(gathered.square().sum(), list(single.parameters()))
    assert same(got, expected, tolerance=1e-11)


@every_solver
def test_one_layer_in_several_threads(solver: Solver) -> None:
    """Each thread runs both passes, many times, so that they meet inside a solve."""
    shared, parts = layer(solver, Unrolled(3)), inputs(12).split(3)
    expected = [gradients(shared, part) for part in parts]
    got: dict[int, tuple[Tensor, ...]] = {}

    def job(number: int) -> None:
        for _ in range(5):
            got[number] = gradients(shared, parts[number])

    run_together([lambda n=n: job(n) for n in range(4)])
    for number, gradient in enumerate(expected):
        assert same(got[number], gradient, tolerance=0)


@every_adjoint
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_several_calls_before_the_backward_passes_in_any_order(adjoint: Adjoint, order: tuple[int, ...]) -> None:
    made, parts = layer(adjoint=adjoint), inputs(9).split(3)
    expected = [gradients(made, part) for part in parts]
    losses = [made(part).square().sum() for part in parts]
    for number in order:
        for _ in range(2):
            got = torch.autograd.grad(losses[number], list(made.parameters()), retain_graph=True)
            assert same(got, expected[number], tolerance=0)
    total = torch.autograd.grad(sum(losses), list(made.parameters()))
    assert same(total, tuple(sum(g) for g in zip(*expected, strict=True)), tolerance=1e-12)


@every_adjoint
def test_eval_mode_differentiates(adjoint: Adjoint) -> None:
    made, x = layer(adjoint=adjoint), inputs()
    assert same(gradients(made, x), gradients(made.eval(), x), tolerance=0)


@every_pair
def test_many_calls_leave_no_tensor(solver: Solver, adjoint: Adjoint) -> None:
    made, x = EquilibriumLayer(Step(), solver, adjoint, Tolerance(relative=1e-3)), inputs(2)

    def call() -> None:
        made.zero_grad()
        made(x).sum().backward()

    call()
    before = live_tensors()
    for _ in range(200 if solver == Picard() else 40):
        call()
    assert live_tensors() <= before  # tensors of earlier tests may go meanwhile
    assert all(not p._backward_hooks for p in made.parameters())


@every_adjoint
def test_a_dropped_result_frees_its_graph_at_once(adjoint: Adjoint) -> None:
    """Without a backward pass too, and without a collection of cycles."""
    made, x = layer(adjoint=adjoint), inputs()
    gc.disable()
    try:
        hidden = 1 * x
        reference = weakref.ref(hidden)
        y = made(hidden)
        del hidden, y
        assert reference() is None
    finally:
        gc.enable()


class Stopped(Exception):
    """The caller's own."""


@every_pair
def test_an_error_in_the_middle_leaves_nothing(solver: Solver, adjoint: Adjoint) -> None:
    made, x = layer(solver, adjoint), inputs()
    expected = gradients(made, x)
    count = 0

    def stops(z: Tensor, x: Tensor) -> Tensor:
        nonlocal count
        count += 1
        if count == 3:
            raise Stopped
        return made.operator(z, x)

    failing = EquilibriumLayer(stops, solver, adjoint, TIGHT)

    def fail() -> None:
        nonlocal count
        count = 0
        with pytest.raises(Stopped):
            failing(x)

    fail()
    before = live_tensors()
    for _ in range(3):
        fail()
    assert live_tensors() == before
    assert torch.is_grad_enabled()
    assert same(gradients(made, x), expected, tolerance=0)
