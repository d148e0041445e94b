"""`torch.compile` of operators and of layers: the same numbers, and no more graphs than shapes and modes."""

from __future__ import annotations

import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from deqops import (
    Adjoint,
    EquilibriumLayer,
    ImplicitAdjoint,
    InputError,
    NewtonKrylov,
    Phantom,
    Picard,
    Unrolled,
    solve,
)
from tests.test_adjoint import TIGHT, Step, equilibrium, same, tensors

# torch's tracer asks every tensor for .grad, those inside a graph too
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")

IMPLICIT = ImplicitAdjoint(tolerance=TIGHT)


@pytest.fixture(autouse=True)
def _nothing_compiled_before() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def graphs() -> int:
    return counters["stats"]["unique_graphs"]


def gradients(made: Callable[[Tensor], Tensor], weights: list[nn.Parameter], x: Tensor) -> tuple[Tensor, ...]:
    y = made(x)
    return (y.detach(), *torch.autograd.grad(y.square().sum(), [x, *weights]))


def check_same(compiled: Any, plain: nn.Module, batches: tuple[int, ...], tolerance: float = 0.0) -> None:
    weights = list(plain.parameters())
    for batch in batches:
        x = torch.randn(batch, 3, dtype=torch.float64, requires_grad=True)
        assert same(gradients(compiled, weights, x), gradients(plain, weights, x), tolerance)


@pytest.mark.parametrize("adjoint", [IMPLICIT, Phantom(2)], ids=["ImplicitAdjoint", "Phantom"])
def test_a_compiled_operator(adjoint: Adjoint) -> None:
    """Graphs: with gradients and without, through the state too or not; each for one batch, then for any."""
    step = Step()
    operator = torch.compile(step, backend="aot_eager")
    plain, compiled = (EquilibriumLayer(G, adjoint=adjoint, tolerance=TIGHT) for G in (step, operator))
    check_same(compiled, plain, (4, 5, 6))
    assert 0 < graphs() <= 6
    before = graphs()
    check_same(compiled, plain, (4, 9, 3))
    assert graphs() == before


def test_a_compiled_operator_under_newtons_forward_differentiation() -> None:
    step = Step()
    operator = torch.compile(step, backend="aot_eager")
    plain, compiled = (
        EquilibriumLayer(G, NewtonKrylov(), ImplicitAdjoint(tolerance=TIGHT), TIGHT) for G in (step, operator)
    )
    check_same(compiled, plain, (4, 4))
    x = torch.randn(2, 3, dtype=torch.float64)
    assert torch.equal(compiled.solve(x).evaluations, plain.solve(x).evaluations)


def test_second_derivatives_with_a_compiled_operator() -> None:
    x, W = tensors((2, 2), (2, 2), scale=0.3)
    G = torch.compile(lambda z, x, W: torch.tanh(z @ W + x), backend="eager")

    def compiled(x: Tensor, W: Tensor) -> Tensor:
        adjoint = ImplicitAdjoint(tolerance=TIGHT)
        value: Tensor = solve(G, torch.zeros_like(x), x, W, tolerance=TIGHT, adjoint=adjoint).value
        return value

    def second(function: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, ...]:
        first = torch.autograd.grad(function(x, W).square().sum(), (x, W), create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in first), (x, W))  # type: ignore[arg-type]

    assert same(second(compiled), second(equilibrium))


@pytest.mark.parametrize("adjoint", [IMPLICIT, Unrolled(2)], ids=["ImplicitAdjoint", "Unrolled"])
def test_a_compiled_layer_between_compiled_modules(adjoint: Adjoint) -> None:
    layer = EquilibriumLayer(Step(), adjoint=adjoint, tolerance=TIGHT)
    model = nn.Sequential(nn.Linear(3, 3), layer, nn.Tanh()).to(torch.float64)
    compiled = torch.compile(model, backend="aot_eager")
    check_same(compiled, model, (4, 5, 1))
    assert 2 <= graphs() <= 6  # one before and one after the solve; for one batch, for any, for a single row
    before = graphs()
    for batch in (2, 3, 11):
        check_same(compiled, model, (batch,))
    assert graphs() == before
    assert all("disable" in reason for reason in counters["graph_break"])


def test_a_compiled_layer_without_gradients() -> None:
    layer = EquilibriumLayer(Step())
    compiled = torch.compile(layer, backend="aot_eager")
    x = torch.randn(4, 3, dtype=torch.float64)
    with torch.no_grad():
        assert torch.equal(compiled(x), layer(x))
    layer.compile(backend="aot_eager")
    assert torch.equal(layer(x), compiled(x))


def test_a_compiled_function_that_solves() -> None:
    """An operator made inside, and options by name."""
    x, W = tensors((4, 3), (3, 3), scale=0.3)

    def function(x: Tensor) -> Tensor:
        hidden = 2 * x
        solution = solve(lambda z: torch.tanh(z @ W + hidden), 0 * hidden, solver=Picard(), throw=False)
        return solution.value + solution.residual[:, None]

    compiled = torch.compile(function, backend="aot_eager")
    for _ in range(3):
        assert torch.equal(compiled(x), function(x))
    assert same(torch.autograd.grad(compiled(x).sum(), x), torch.autograd.grad(function(x).sum(), x), tolerance=1e-15)
    assert graphs() <= 3


@pytest.mark.skipif(shutil.which("g++") is None, reason="the default backend needs a C++ compiler")
def test_generated_code() -> None:
    """The default backend, on one graph: its kernels may differ by rounding."""
    step, x = Step(), torch.randn(4, 3, dtype=torch.float64)
    plain, compiled = (EquilibriumLayer(G, tolerance=TIGHT) for G in (step, torch.compile(step)))
    with torch.no_grad():
        assert same((compiled(x),), (plain(x),), tolerance=1e-12)
    assert graphs() == 1


def test_traces_and_exports_of_a_solve_are_refused() -> None:
    """They would keep the number of evaluations that one input took."""
    layer, x = EquilibriumLayer(Step()), torch.zeros(2, 3, dtype=torch.float64)
    traces: tuple[Callable[[], Any], ...] = (
        lambda: torch.jit.trace(layer, (x,), check_trace=False),
        lambda: torch.export.export(layer, (x,)),
        lambda: torch.func.linearize(layer, x),
    )
    for trace in traces:
        refused = pytest.raises(InputError, match="would keep the evaluations of one input")
        with warnings.catch_warnings(action="ignore"), refused:  # torch.jit is deprecated
            trace()


def test_plain_calls_do_not_load_the_compiler() -> None:
    program = (
        "import sys, torch, deqops\n"
        "layer = deqops.EquilibriumLayer(torch.nn.Bilinear(3, 3, 3), max_evaluations=9)\n"
        "layer.solve(torch.ones(2, 3), throw=False)\n"
        "assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
