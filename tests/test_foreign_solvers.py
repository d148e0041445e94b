"""The adapters hold what of the solvers' contract is theirs to hold.

Not promised: as many evaluations in other units (torchdeq's regularisation and scipy's differences are absolute),
convergence of linearmixing, excitingmixing and df-sane wherever ours converge, few evaluations, one unknown (scipy's
Anderson with its memory of 5 does not find cos's), and by which failure a problem without equilibrium ends.
"""

from __future__ import annotations

import sys
import threading

import pytest
import torch
from torch import Tensor

from deqops import InputError, SciPy, Solver, Tolerance, TorchDEQ, solve
from deqops._solver._scipy import METHODS
from deqops._solver._torchdeq import NAMES
from tests import test_solver_contract as contract

FOREIGN = [
    *(TorchDEQ(name) for name in ("fixed_point_iter", "anderson", "broyden")),
    *(SciPy(method) for method in ("hybr", "lm", "broyden1", "anderson", "krylov", "df-sane")),
]
every_solver = pytest.mark.parametrize("solver", FOREIGN, ids=repr)


@every_solver
@pytest.mark.parametrize(
    "promise",
    [
        contract.test_too_few_evaluations_are_told,
        contract.test_the_same_solve_twice_gives_the_same_bits,
        contract.test_a_start_at_the_equilibrium_takes_one_evaluation,
    ],
    ids=lambda promise: promise.__name__,
)
def test_the_contract(solver: Solver, promise: object) -> None:
    promise(solver)  # type: ignore[operator]
    assert not leaked()


@every_solver
def test_linear_equations_and_companions(solver: Solver) -> None:
    contract.test_linear_equations_with_known_solutions(solver, 0.5)
    contract.test_companions_never_change_a_bit(solver, float("nan"))
    assert not leaked()


@every_solver
def test_no_equilibrium_is_told(solver: Solver) -> None:
    """Some of these solvers run so far out that z + 1 is z in float64: that alone may count as converged."""
    start = torch.zeros(1, 3, dtype=torch.float64)
    solution = contract.run(lambda z: z + 1, start, solver=solver, most=30, absolute=1e-3, relative=0.0)
    assert solution.value.isfinite().all()
    assert solution.converged == bool((solution.value + 1 == solution.value).all())
    assert not leaked()


@every_solver
def test_float32_states_stay_float32(solver: Solver) -> None:
    contract.test_a_tanh_layer_against_its_float64_equilibrium(solver, torch.float32)


@every_solver
def test_no_thread_outlives_an_exception(solver: Solver) -> None:
    calls = 0

    def G(z: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyError("the caller's own")
        return torch.cos(z) + 0.1

    with pytest.raises(KeyError):
        solve(G, torch.ones(2, 3), solver=solver)
    assert not leaked()


def test_wrong_names_list_the_right_ones() -> None:
    with pytest.raises(InputError, match="anderson, broyden"):
        TorchDEQ("newton")
    with pytest.raises(InputError, match="hybr, lm"):
        SciPy("newton")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchdeq.solver", None)
    with pytest.raises(InputError, match="pip install torchdeq"):
        TorchDEQ("anderson")


@pytest.mark.parametrize(
    "solver",
    [
        TorchDEQ("anderson", {"m": "x"}),
        TorchDEQ("broyden", {"max_iter": "x"}),
        TorchDEQ("simple_fixed_point_iter", {"max_iter": "x"}),
        SciPy("hybr", {"maxfev": "x"}),
        SciPy("broyden1", {"line_search": "x"}),
        SciPy("krylov", {"jac_options": {"method": "x"}}),
    ],
    ids=repr,
)
def test_options_that_it_fails_on_are_named(solver: Solver) -> None:
    name = getattr(solver, "name", None) or getattr(solver, "method", None)
    with pytest.raises(InputError, match=rf"options: .*'{name}'.*'x'.*Error: ") as caught:
        solve(lambda z: torch.cos(z) + 0.1, torch.ones(2, 3), solver=solver)
    assert caught.value.__cause__ is not None
    assert not leaked()


def test_the_simple_iteration_is_damped_as_asked() -> None:
    start = torch.ones(1, 1, dtype=torch.float64)
    damped = {"solver": TorchDEQ("simple_fixed_point_iter", {"tau": 0.25}), "max_evaluations": 500}
    assert solve(lambda z: 1 - 4 * z, start, **damped).value == pytest.approx(0.2, abs=1e-5)


def test_options_are_a_dict_or_none() -> None:
    for kind in (lambda options: SciPy("hybr", options), lambda options: TorchDEQ("anderson", options)):
        assert kind(None).options == {}
        for wrong in (3, "maxfev", [("maxfev", 3)], {3: 4}):
            with pytest.raises(InputError, match="options: a dict"):
                kind(wrong)


def leaked() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "deqops-foreign"]


@pytest.mark.parametrize("solver", [*map(SciPy, METHODS), *map(TorchDEQ, NAMES)], ids=repr)
def test_every_method_solves_a_contracting_layer(solver: Solver) -> None:
    generator = torch.Generator().manual_seed(0)
    W = 0.1 * torch.randn(20, 20, generator=generator, dtype=torch.float64)
    b = torch.randn(3, 20, generator=generator, dtype=torch.float64)
    solution = solve(
        lambda z: torch.tanh(z @ W + b),
        torch.zeros_like(b),
        solver=solver,
        tolerance=Tolerance(relative=1e-8),
        max_evaluations=500,
    )
    residual = torch.tanh(solution.value @ W + b) - solution.value
    assert residual.norm() < 1e-7
    assert hash(solver) == hash(type(solver)(*vars(solver).values()))
    assert not leaked()
