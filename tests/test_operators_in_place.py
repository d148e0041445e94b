"""Operators that write into what they are given, overridden calls, and what belongs to the caller."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deqops import (
    Anderson,
    Broyden,
    EquilibriumLayer,
    InputError,
    NewtonKrylov,
    OperatorEquation,
    PeacemanRachford,
    Picard,
    ProximalLayer,
    Result,
    solve,
)
from deqops.verify import Verdict, certify, check, lipschitz_bound
from deqops.verify.contractive import repair

SOLVERS = [Picard(), Anderson(), Broyden(), NewtonKrylov()]
WRITES = "G: it writes into the state it is given"


def in_place(z: Tensor) -> Tensor:
    return z.mul_(0.5).add_(1.0)


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("inference", [False, True])
def test_an_operator_that_writes_into_its_argument_is_refused(solver: Any, inference: bool) -> None:
    """Its iterate was its image, so that the residual was 0 and the status CONVERGED."""
    with torch.inference_mode(inference):
        y0 = torch.zeros(2, 3)
        with pytest.raises(InputError, match=WRITES):
            solve(in_place, y0, solver=solver)
        assert bool((y0 == 0).all())


@pytest.mark.parametrize("solver", SOLVERS[:3], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("inference", [False, True])
def test_an_operator_that_uses_one_buffer_is_refused(solver: Any, inference: bool) -> None:
    with torch.inference_mode(inference):
        buffer = torch.zeros(2, 3)
        with pytest.raises(InputError, match=WRITES):
            solve(lambda z: torch.add(0.5 * z, 1.0, out=buffer), torch.zeros(2, 3), solver=solver)


def test_a_pre_activation_in_place_is_refused_by_name() -> None:
    linear = nn.Linear(4, 4)
    with torch.no_grad(), pytest.raises(InputError, match=r"ReLU\(inplace=True\)"):
        solve(nn.Sequential(nn.ReLU(inplace=True), linear), torch.randn(3, 4))


def test_trees_are_watched_as_well() -> None:
    def G(state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        a, b = state
        return a.mul_(0.5), 0.5 * b

    with pytest.raises(InputError, match=WRITES):
        solve(G, (torch.ones(2, 3), torch.ones(2, 2)))


def test_what_writes_into_tensors_of_its_own_is_solved() -> None:
    """In-place operations on fresh tensors, a constant operator, and the identity."""
    with torch.inference_mode():
        inside = solve(lambda z: z.mul(0.5).add_(1.0), torch.zeros(2, 3))
    assert inside.converged
    assert torch.allclose(inside.value, torch.full((2, 3), 2.0), atol=1e-3)
    constant = torch.ones(2, 3)
    assert torch.equal(solve(lambda z: constant, torch.zeros(2, 3)).value, constant)
    assert torch.equal(solve(lambda z: z, constant).value, constant)


def test_y0_stays_the_callers() -> None:
    y0 = torch.ones(2, 3)
    solve(lambda z: z, y0).value.add_(5)
    assert bool((y0 == 1).all())
    leaf = (torch.ones(2, 3),)
    solve(lambda z: z, leaf).value[0].add_(5)
    assert bool((leaf[0] == 1).all())


# ------------------------------------------------------------------------------------------- overridden calls


class Half(OperatorEquation):
    """Half of the equation's right-hand side."""

    def forward(self, y: Any, *inputs: Any) -> Any:
        return 0.5 * super().forward(y, *inputs)


class HalfProximal(ProximalLayer):
    def forward(self, z: Tensor, x: Tensor) -> Tensor:  # type: ignore[override]
        return 0.5 * super().forward(z, x)


def residual(G: Any, value: Tensor, *inputs: Any) -> float:
    return float((G(value, *inputs) - value).detach().norm())


def test_a_derived_forward_is_what_is_solved() -> None:
    G = Half(lambda y: 0.5 * torch.tanh(y), f=torch.ones(1, 3))
    solution = solve(G, torch.zeros(2, 3))
    assert solution.converged
    assert residual(G, solution.value) < 1e-4
    plain = OperatorEquation(lambda y: 0.5 * torch.tanh(y), f=torch.ones(1, 3))
    plain.forward = lambda y: 0.5 * torch.tanh(y)  # type: ignore[method-assign]
    assert float(solve(plain, torch.ones(2, 3)).value.abs().max()) < 1e-3


def test_a_form_that_is_not_the_calls_does_not_converge() -> None:
    layer = HalfProximal(nn.Parameter(0.5 * torch.eye(3)), nn.Parameter(torch.eye(3)), activation=nn.Tanh())
    x = torch.full((2, 3), 0.7)
    solution = solve(layer, torch.zeros(2, 3), x, solver=PeacemanRachford(), throw=False)
    assert not bool((solution.result == Result.CONVERGED).any())
    found = solve(layer, torch.zeros(2, 3), x)
    assert residual(layer, found.value, x) < 1e-4


def test_global_hooks_see_every_call() -> None:
    seen = []
    handle = torch.nn.modules.module.register_module_forward_hook(lambda module, *_: seen.append(type(module)))
    try:
        solve(OperatorEquation(lambda y: 0.5 * y, f=torch.ones(1, 3)), torch.zeros(2, 3))
    finally:
        handle.remove()
    assert OperatorEquation in seen


# ------------------------------------------------------------------------------------------------ narrow dtypes


def test_a_difference_beyond_the_range_of_float16_is_no_failure() -> None:
    y0 = torch.full((1, 2), 40000.0, dtype=torch.float16)
    solution = solve(lambda z: -z, y0, solver=Picard(0.5), throw=False)
    assert solution.converged
    assert bool((solution.value == 0).all())


def test_a_layers_first_state_is_not_written_to() -> None:
    start = torch.zeros(2, 3)
    layer = EquilibriumLayer(lambda z, x: 0.5 * z + x, initial=lambda x: start)
    layer(torch.ones(2, 3)).add_(1.0)
    assert bool((start == 0).all())


# ------------------------------------------------------------------------- modules with a part called `operator`


class Scaled(nn.Module):
    """3 times a part that is called `operator`."""

    def __init__(self, factor: float = 3.0) -> None:
        super().__init__()
        self.factor, self.operator = factor, nn.Linear(4, 4, bias=False)
        self.operator.weight.data = 0.5 * torch.eye(4)

    def forward(self, z: Tensor) -> Tensor:
        return self.factor * self.operator(z)


def test_a_module_is_not_taken_for_its_part() -> None:
    """`Scaled` has the constant 1.5, its part 0.5."""
    y = torch.zeros(2, 4)
    assert certify(Scaled(), y, theorem="picard", norm="l2").verdict is not Verdict.CERTIFIED
    assert 1.5 <= lipschitz_bound(Scaled(), y).upper < 1.5001
    certificate = certify(Scaled(1.5), y, theorem="picard", norm="l2")
    assert certificate.rate is not None
    assert 0.75 <= certificate.rate < 0.7501
    assert check(certificate, Scaled(1.5), y).accepted
    assert not check(certificate, Scaled(1.5).operator, y).accepted
    repaired = repair(Scaled(), y, rate=0.9)
    assert float(lipschitz_bound(repaired.module, y).upper) < 0.91


def test_a_layer_is_still_taken_for_its_operator() -> None:
    layer = EquilibriumLayer(Scaled(1.5), initial=lambda: torch.zeros(2, 4))
    certificate = certify(layer)
    assert certificate.rate is not None
    assert 0.75 <= certificate.rate < 0.7501
