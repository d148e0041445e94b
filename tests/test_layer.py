"""The layer is an ordinary module: state, copies, files, dtypes, starts."""

from __future__ import annotations

import copy
import io
import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from deqops import (
    Anderson,
    ConvergenceError,
    EquilibriumLayer,
    ImplicitAdjoint,
    InputError,
    OperatorEquation,
    Picard,
    Result,
    Tolerance,
    solve,
)


class Step(nn.Module):
    def __init__(self, size: int = 3) -> None:
        super().__init__()
        self.linear = nn.Linear(size, size)
        nn.init.orthogonal_(self.linear.weight, gain=0.5)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(self.linear(z))


def offset(x: Tensor) -> Tensor:
    return x


def layer() -> EquilibriumLayer:
    return EquilibriumLayer(OperatorEquation(Step(), f=offset, scale=0.9), solver=Picard(0.8))


def test_operator_equation_is_f_plus_scale_times_t() -> None:
    y, x = torch.randn(2, 4, 3)
    step = Step()
    expected = 0.9 * step(y, x)
    assert torch.equal(OperatorEquation(step, scale=0.9)(y, x), expected)
    assert torch.equal(OperatorEquation(step, f=offset, scale=0.9)(y, x), x + expected)
    constant = OperatorEquation(step, f=torch.ones(3))
    assert torch.equal(constant(y, x), 1 + step(y, x))
    assert "f" in dict(constant.named_buffers())
    assert "f" in dict(OperatorEquation(step, f=nn.Parameter(torch.ones(3))).named_parameters())
    tree = OperatorEquation(lambda y: {"a": 2 * y["a"]}, f=lambda: {"a": torch.ones(3)}, scale=0.5)
    assert torch.equal(tree({"a": y})["a"], 1 + y)
    with pytest.raises(InputError, match="f: T returns a tree"):
        OperatorEquation(lambda y: {"a": y["a"]}, f=torch.ones(3))({"a": y})


def test_forward_is_the_solution() -> None:
    torch.manual_seed(0)
    equilibrium_layer, x = layer(), torch.randn(4, 3)
    y = equilibrium_layer(x)
    assert torch.allclose(equilibrium_layer.operator(y, x), y, atol=1e-4)
    solution = equilibrium_layer.solve(x)
    assert torch.equal(solution.value, y)
    assert solution.results == [Result.CONVERGED] * 4
    assert len(list(equilibrium_layer.parameters())) == 2


def test_defaults_are_those_of_the_documentation() -> None:
    plain = EquilibriumLayer(Step())
    assert plain.solver == Anderson()
    assert plain.adjoint == ImplicitAdjoint()
    assert plain.tolerance == Tolerance(relative=1e-5)
    assert plain.batch_dims == 1
    assert "Anderson(memory=10" in repr(plain)


def test_copies_and_files_give_the_same_layer(tmp_path: Path) -> None:
    torch.manual_seed(0)
    original, x = layer(), torch.randn(4, 3)
    y = original(x)
    file = io.BytesIO()
    torch.save(original, file)
    file.seek(0)
    copies = [copy.deepcopy(original), pickle.loads(pickle.dumps(original)), torch.load(file, weights_only=False)]
    loaded = layer()
    loaded.load_state_dict(original.state_dict())
    for other in [*copies, loaded]:
        assert torch.equal(other(x), y)
        assert other.solver == original.solver


def test_to_another_dtype() -> None:
    double = layer().to(torch.float64)
    x = torch.randn(2, 3, dtype=torch.float64)
    assert double(x).dtype == torch.float64
    with pytest.raises(InputError, match=r"G: it fails on y0 and the inputs: .*dtype"):
        double(x.float())


def test_a_call_leaves_no_trace() -> None:
    torch.manual_seed(0)
    equilibrium_layer, x = layer(), torch.randn(4, 3)
    before = pickle.dumps(equilibrium_layer)
    first = equilibrium_layer(x)
    equilibrium_layer(10 * x).sum()
    assert pickle.dumps(equilibrium_layer) == before
    assert torch.equal(equilibrium_layer(x), first)


def test_starts() -> None:
    x = torch.randn(4, 3)
    assert torch.equal(layer().initial_state(x), torch.zeros(4, 3))
    assert layer().initial_state((x.double(),)).dtype == torch.float64
    chosen = EquilibriumLayer(lambda z, x: z / 2 + x.sum(1, keepdim=True), initial=lambda x: x[:, :1])
    assert chosen(x).shape == (4, 1)
    for inputs in ((), (3.0,), (torch.ones(2, 3, dtype=torch.int64),)):
        with pytest.raises(InputError, match="initial: the first input is no floating tensor"):
            layer().initial_state(*inputs)


def test_failure_raises_unless_asked_not_to() -> None:
    hopeless = EquilibriumLayer(lambda z, x: 3 * z + x, solver=Picard())
    x = torch.ones(2, 3)
    with pytest.raises(ConvergenceError, match="2 of 2 problems"):
        hopeless(x)
    assert hopeless.solve(x, throw=False).results == [Result.DIVERGED] * 2


def test_settings_are_checked_where_they_are_given() -> None:
    for options, name in (
        ({"solver": "anderson"}, "solver"),
        ({"batch_dims": 2}, "batch_dims"),
        ({"max_evaluations": 0}, "max_evaluations"),
        ({"initial": torch.zeros(3)}, "initial"),
        ({"tolerance": 1e-3}, "tolerance"),
    ):
        with pytest.raises(InputError) as caught:
            EquilibriumLayer(Step(), **options)  # type: ignore[arg-type]
        assert str(caught.value).startswith(f"{name}: ")
    with pytest.raises(InputError, match=r"^G: "):
        EquilibriumLayer("G")  # type: ignore[arg-type]


def test_training_moves_the_equilibrium() -> None:
    torch.manual_seed(0)
    equilibrium_layer, x = layer(), torch.randn(8, 3)
    target = 0.5 * torch.randn(8, 3) + x
    optimiser = torch.optim.Adam(equilibrium_layer.parameters(), lr=0.02)
    losses = []
    for _ in range(30):
        optimiser.zero_grad()
        loss = ((equilibrium_layer(x) - target) ** 2).mean()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


def test_an_equation_computes_f_once_in_a_solve_and_gives_the_same_gradients() -> None:
    calls: list[int] = []

    def offset(x: Tensor) -> Tensor:
        calls.append(1)
        return torch.tanh(x)

    x = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3).requires_grad_()
    equation = OperatorEquation(lambda y, x: torch.sin(y), f=offset, scale=0.5)
    tight = {"tolerance": Tolerance(relative=1e-12), "adjoint": ImplicitAdjoint(tolerance=Tolerance(relative=1e-12))}
    value = solve(equation, torch.zeros(4, 3, dtype=torch.float64), x, **tight).value  # type: ignore[arg-type]
    assert len(calls) == 1
    plain = solve(lambda y, x: torch.tanh(x) + 0.5 * torch.sin(y), torch.zeros(4, 3).double(), x, **tight).value  # type: ignore[arg-type]
    assert torch.equal(value, plain)
    (found,), (expected,) = (torch.autograd.grad(v.square().sum(), x) for v in (value, plain))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
