"""What every solver owes: equilibria, independence, honest failures, in every dtype and at every scale.

A new solver is added to SOLVERS and inherits all of it. The splitting solvers need operators that say their form:
test_solve_splitting.py asks the same of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

import deqops.testing as kit
from deqops import Anderson, Broyden, InputError, NewtonKrylov, Picard, Result, Solution, Solver, Tolerance, solve
from tests.test_solve_picard import linear
from tests.test_solve_stopping import flickering, rates

SOLVERS = [
    Picard(),
    Picard(0.5),
    Anderson(),
    Anderson(memory=3),
    Broyden(),
    Broyden(memory=5),
    NewtonKrylov(),
    NewtonKrylov(krylov=3, forcing=0.5),
]
every_solver = pytest.mark.parametrize("solver", SOLVERS, ids=repr)
DOUBLE = torch.float64


def layer(norm: float, size: int = 24) -> kit.Layer:
    g = torch.Generator().manual_seed(1)
    W, U, b = (torch.randn(*shape, generator=g, dtype=DOUBLE) for shape in ((size, size), (size, 4), (size,)))
    return kit.Layer(torch.linalg.qr(W)[0] * norm, "tanh", U, b).requires_grad_(False)


def inputs(problems: int = 5) -> Tensor:
    return 0.3 * torch.randn(problems, 4, generator=torch.Generator().manual_seed(2), dtype=DOUBLE)


def is_a_point(z: Tensor) -> bool:
    """Whether G is called for an image; a call with a tangent is a product with its derivative."""
    return unpack_dual(z).tangent is None


def run(G: Callable[..., Any], start: Any, *x: Any, solver: Solver, most: int = 1000, **tolerance: float) -> Solution:
    return solve(G, start, *x, solver=solver, tolerance=Tolerance(**tolerance), max_evaluations=most, throw=False)


@every_solver
@pytest.mark.parametrize("rate", [0.0, 0.5, 0.9])
def test_linear_equations_with_known_solutions(solver: Solver, rate: float) -> None:
    W, b, exact = linear(rate, seed=7, size=20)
    solution = run(lambda z: z @ W.mT + b, torch.zeros_like(b), solver=solver, relative=1e-11)
    assert solution.converged
    # T1: the error is at most the residual / (1 - q); the value is one application further
    error = torch.linalg.vector_norm(solution.value - exact, dim=1)
    assert (error <= solution.residual * rate / (1 - rate) + 1e-13 * torch.linalg.vector_norm(exact, dim=1)).all()


@every_solver
@settings(max_examples=8)
@given(known=kit.contractions(rate=kit.rates(most=Fraction(7, 8))))
def test_t1_contractions_with_known_equilibria(solver: Solver, known: kit.Known) -> None:
    """The value is no farther from the equilibrium than the residual says, in the norm of the constant."""
    solution = kit.assert_converges(
        known.operator,
        known.start,
        *known.inputs,
        solver=solver,
        within=1000,
        tolerance=Tolerance(relative=1e-9),
        batch_dims=known.batch_dims,
    )
    error, q = (solution.value.detach() - known.equilibrium).abs().max(), float(known.constant)
    size = known.equilibrium.numel() ** 0.5  # the residual is in l2, the constant perhaps in linf
    assert float(error) <= size * float(solution.residual.max()) / (1 - q) + 1e-12


@every_solver
@settings(max_examples=5)
@given(known=kit.contractions(("linear", "activation")), companions=kit.states(2, 4))
def test_companions_of_known_contractions_change_nothing(solver: Solver, known: kit.Known, companions: Tensor) -> None:
    (x,) = known.inputs
    batch = torch.cat([x[:1], companions[:, : x.shape[1]]])
    kit.assert_batch_independent(known.operator, torch.zeros_like(batch), batch, solver=solver)


@every_solver
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_tanh_layer_against_its_float64_equilibrium(solver: Solver, dtype: torch.dtype) -> None:
    G, x = layer(0.8), inputs()
    exact = torch.zeros(5, 24, dtype=DOUBLE)
    for _ in range(300):
        exact = G(exact, x)
    relative = 64 * torch.finfo(dtype).eps
    solution = run(G.to(dtype), torch.zeros(5, 24, dtype=dtype), x.to(dtype), solver=solver, relative=relative)
    assert solution.converged
    assert solution.value.dtype == dtype
    error = torch.linalg.vector_norm(solution.value.to(DOUBLE) - exact, dim=1)
    rounding = 20 * torch.finfo(dtype).eps * torch.linalg.vector_norm(exact, dim=1)
    assert (error <= (solution.residual + rounding) / (1 - 0.8)).all()


@every_solver
def test_a_tree_is_its_leaves_side_by_side(solver: Solver) -> None:
    W, b, exact = linear(0.7, seed=2)

    def G(y: dict[str, Any]) -> dict[str, Any]:
        image = torch.cat([y["a"], y["b"][0].flatten(1)], dim=1) @ W.mT + b
        return {"a": image[:, :2], "b": [image[:, 2:].reshape(2, 2, 2)]}

    start = {"a": torch.zeros(2, 2, dtype=DOUBLE), "b": [torch.zeros(2, 2, 2, dtype=DOUBLE)]}
    tree = run(G, start, solver=solver, relative=1e-10)
    plain = run(lambda z: z @ W.mT + b, torch.zeros_like(b), solver=solver, relative=1e-10)
    assert tree.converged
    assert torch.equal(tree.evaluations, plain.evaluations)
    assert torch.allclose(torch.cat([tree.value["a"], tree.value["b"][0].flatten(1)], dim=1), exact, atol=1e-8)


@every_solver
@pytest.mark.parametrize("intruder", [math.nan, math.inf, 1e200, -3.0])
def test_companions_never_change_a_bit(solver: Solver, intruder: float) -> None:
    """A rate at which every memory is used up and begun anew."""
    G, x = layer(0.95), inputs()
    disturbed = x.clone()
    disturbed[[0, 3]] = intruder
    start = torch.zeros(5, 24, dtype=DOUBLE)
    first, second = (run(G, start, given, solver=solver, most=60, relative=1e-9) for given in (x, disturbed))
    assert int(first.evaluations.min()) > 5
    for name in ("value", "residual", "evaluations", "result"):
        assert torch.equal(getattr(first, name)[[1, 2, 4]], getattr(second, name)[[1, 2, 4]]), name


@every_solver
def test_a_problem_alone_ends_as_in_company(solver: Solver) -> None:
    G, x = layer(0.8), inputs(3) * torch.tensor([[0.1], [1.0], [3.0]], dtype=DOUBLE)
    together = run(G, torch.zeros(3, 24, dtype=DOUBLE), x, solver=solver, relative=1e-8)
    for number in range(3):
        alone = run(G, torch.zeros(1, 24, dtype=DOUBLE), x[number : number + 1], solver=solver, relative=1e-8)
        assert alone.results == [together.results[number]] == [Result.CONVERGED]
        assert abs(int(alone.evaluations) - int(together.evaluations[number])) <= 1
        assert torch.allclose(alone.value[0], together.value[number], atol=1e-7)


@every_solver
def test_too_few_evaluations_are_told(solver: Solver) -> None:
    solution = run(layer(0.95), torch.zeros(5, 24, dtype=DOUBLE), inputs(), solver=solver, most=6, relative=1e-12)
    assert solution.results == [Result.MAX_EVALUATIONS] * 5
    assert solution.evaluations.tolist() == [6] * 5
    assert solution.value.isfinite().all()


@every_solver
def test_a_residual_that_grows_whatever_the_solver_does_is_divergence(solver: Solver) -> None:
    size = 1.0

    def G(z: Tensor) -> Tensor:
        nonlocal size
        size *= 10
        return z + size * torch.tensor([[1.0, -2.0], [0.0, 0.0]])

    solution = run(G, torch.ones(2, 2), solver=solver, relative=1e-5)
    assert solution.results == [Result.DIVERGED, Result.CONVERGED]
    assert solution.evaluations.tolist()[1] == 1
    assert int(solution.evaluations[0]) < 30
    assert solution.value.isfinite().all()


@every_solver
def test_nan_in_one_problem_is_told_and_the_others_go_on(solver: Solver) -> None:
    points: list[Tensor] = []
    G, x = layer(0.8), inputs(3)

    def breaking(z: Tensor) -> Tensor:
        if is_a_point(z):
            points.append(z.clone())
        image = G(z, x)
        image[1, 0] = torch.nan if len(points) >= 3 else image[1, 0]
        return image

    solution = run(breaking, torch.zeros(3, 24, dtype=DOUBLE), solver=solver, relative=1e-8)
    assert solution.results == [Result.CONVERGED, Result.NONFINITE, Result.CONVERGED]
    assert int(solution.evaluations[1]) >= 3  # products with derivatives count besides the three images
    assert isinstance(solver, NewtonKrylov) or int(solution.evaluations[1]) == 3
    assert torch.equal(solution.value[1], points[2][1])
    assert solution.residual[1] == torch.inf


@every_solver
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e9])
def test_a_tolerance_below_the_rounding_floor_is_stagnation(solver: Solver, dtype: torch.dtype, scale: float) -> None:
    eps = torch.finfo(dtype).eps
    solution = run(flickering(scale), torch.zeros(1, 20, dtype=dtype), solver=solver, relative=eps / 100)
    assert solution.results == [Result.STAGNATED]
    assert int(solution.evaluations) < 100
    assert solution.residual <= 4 * eps * torch.linalg.vector_norm(solution.value)


@every_solver
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_the_dtypes_floor_is_reached_and_no_loop_is_endless(solver: Solver, dtype: torch.dtype) -> None:
    W, b, exact = linear(0.5, seed=4, size=32)
    W, b, eps = W.to(dtype), b.to(dtype), torch.finfo(dtype).eps
    size = torch.linalg.vector_norm(exact, dim=1)
    for relative, results in ((8 * eps, [Result.CONVERGED]), (0.0, [Result.CONVERGED, Result.STAGNATED])):
        solution = run(lambda z: z @ W.mT + b, torch.zeros_like(b), solver=solver, most=200, relative=relative)
        assert all(result in results for result in solution.results)
        error = torch.linalg.vector_norm(solution.value.to(DOUBLE) - exact, dim=1)
        assert (error <= 32 * eps * size).all()


@every_solver
def test_the_same_solve_twice_gives_the_same_bits(solver: Solver) -> None:
    first, second = (
        run(layer(0.9), torch.zeros(5, 24, dtype=DOUBLE), inputs(), solver=solver, relative=1e-10) for _ in range(2)
    )
    assert torch.equal(first.value, second.value)
    assert torch.equal(first.residual, second.residual)
    assert torch.equal(first.evaluations, second.evaluations)


@every_solver
@pytest.mark.parametrize("scale", [1e-3, 1e3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_problem_in_other_units_takes_as_many_evaluations(solver: Solver, scale: float, dtype: torch.dtype) -> None:
    G, x = layer(0.9).to(dtype), inputs().to(dtype)
    start = torch.zeros(5, 24, dtype=dtype)
    relative = 1e-8 if dtype == DOUBLE else 1e-5
    plain = run(G, start, x, solver=solver, relative=relative)
    scaled = run(lambda z: scale * G(z / scale, x), start, solver=solver, relative=relative)
    assert plain.converged
    assert scaled.converged
    assert (plain.evaluations - scaled.evaluations).abs().max() <= 2
    assert torch.allclose(scaled.value / scale, plain.value, atol=100 * relative)


@every_solver
def test_a_start_at_the_equilibrium_takes_one_evaluation(solver: Solver) -> None:
    target = torch.tensor([[1.0, -2.0], [0.5, 4.0]])
    solution = run(lambda z: target + 0 * z, target, solver=solver, relative=0.0)
    assert solution.evaluations.tolist() == [1, 1]
    assert torch.equal(solution.value, target)


@every_solver
def test_one_unknown(solver: Solver) -> None:
    solution = run(torch.cos, torch.ones(3, 1, dtype=DOUBLE), solver=solver, relative=1e-12)
    assert solution.converged
    assert torch.allclose(solution.value, torch.tensor(0.7390851332151607, dtype=DOUBLE), rtol=1e-11)


@every_solver
def test_the_zero_operator(solver: Solver) -> None:
    solution = run(torch.zeros_like, torch.ones(2, 3), solver=solver, absolute=1e-6, relative=0.0)
    assert solution.converged
    assert torch.equal(solution.value, torch.zeros(2, 3))


@every_solver
def test_no_equilibrium_is_no_division_by_zero(solver: Solver) -> None:
    solution = run(lambda z: z + 1, torch.zeros(1, 3), solver=solver, most=30, relative=1e-6)
    assert solution.results == [Result.MAX_EVALUATIONS]
    assert solution.value.isfinite().all()


@every_solver
def test_problems_of_different_speeds_stop_by_themselves(solver: Solver) -> None:
    speeds = torch.tensor([[0.1], [0.5], [0.9]], dtype=DOUBLE)
    start = torch.zeros(3, 4, dtype=DOUBLE)
    solution = run(rates, start, speeds, solver=solver, relative=1e-9)
    assert solution.converged
    assert solution.evaluations[0] <= solution.evaluations[2]
    assert torch.allclose(rates(solution.value, speeds), solution.value, rtol=1e-8)


@pytest.mark.parametrize("solver", [Anderson(), Broyden()], ids=repr)
def test_a_step_that_would_be_differentiated_is_refused(solver: Solver) -> None:
    """It writes into its memory, so that autograd could not go back through it."""
    z, W = torch.zeros(2, 3), torch.nn.Parameter(torch.eye(3) / 2)
    with pytest.raises(InputError, match="not differentiated"):
        solver.step(solver.init(z), z, z @ W)
    with torch.no_grad():
        step, _ = solver.step(solver.init(z), z, z @ W + 1.0)
    assert torch.allclose(step, torch.ones(2, 3))
