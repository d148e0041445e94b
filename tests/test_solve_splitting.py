"""Forward-backward and Peaceman-Rachford splitting: T5's rates, prox against high precision, what they refuse.

The contract suite gives its solvers plain callables, which say nothing of W, c and s. What it asks is asked here of
operators that do, except for trees, for mini-batches of graphs and for G without the form: these are refused.
"""

from __future__ import annotations

import copy
import math
import re
import runpy
from pathlib import Path
from typing import Any

import flint
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrize

import deqops.testing as kit
from deqops import (
    Anderson,
    EquilibriumLayer,
    ForwardBackward,
    ImplicitAdjoint,
    InputError,
    NewtonKrylov,
    PeacemanRachford,
    Picard,
    ProximalForm,
    ProximalLayer,
    ProximalOperator,
    Result,
    Solution,
    Solver,
    Tolerance,
    prox,
    solve,
)
from deqops._equation import Equation, Given
from deqops._solver._splitting import constants_estimate
from deqops._tree import StateLayout

DOUBLE = torch.float64
ACTIVATIONS = [
    nn.Identity(),
    nn.ReLU(),
    nn.ReLU6(),
    nn.Hardtanh(-0.5, 0.25),
    nn.LeakyReLU(0.1),
    nn.Tanh(),
    nn.Sigmoid(),
]
SOLVERS: list[Solver] = [ForwardBackward(), PeacemanRachford()]
every_activation = pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
every_solver = pytest.mark.parametrize("solver", SOLVERS, ids=repr)


def monotone(m: float, skew: float, seed: int, size: int = 8) -> Tensor:
    """W with `sym(I - W) >= m I`, m attained, and a skew part of norm `skew`."""
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=DOUBLE))[0]
    values = torch.cat([torch.zeros(1, dtype=DOUBLE), torch.rand(size - 1, generator=generator, dtype=DOUBLE)])
    K = torch.randn(size, size, generator=generator, dtype=DOUBLE)
    K = K - K.mT
    turned = skew / torch.linalg.matrix_norm(K, ord=2) * K
    return (1 - m) * torch.eye(size, dtype=DOUBLE) - basis @ torch.diag(values) @ basis.mT - turned


def layer(m: float = 0.5, skew: float = 0.5, activation: nn.Module | None = None, seed: int = 1) -> ProximalLayer:
    W = monotone(m, skew, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    U, b = (torch.randn(*shape, generator=generator, dtype=DOUBLE) for shape in ((8, 3), (8,)))
    return ProximalLayer(W, U, b, nn.Tanh() if activation is None else activation)


def inputs(problems: int = 5) -> Tensor:
    return torch.randn(problems, 3, generator=torch.Generator().manual_seed(2), dtype=DOUBLE)


def start(problems: int = 5) -> Tensor:
    return torch.zeros(problems, 8, dtype=DOUBLE)


def run(G: Any, y0: Any, *x: Any, solver: Solver, most: int = 4000, **tolerance: float) -> Solution:
    return solve(G, y0, *x, solver=solver, tolerance=Tolerance(**tolerance), max_evaluations=most, throw=False)


def equilibrium(G: ProximalLayer, x: Tensor) -> Tensor:
    """By damped iteration, T5 (a), to rounding: independent of both solvers."""
    found = constants_estimate(G.W)
    m, L = 1 - found.monotonicity_estimate, 1 + found.lipschitz_estimate
    z = torch.zeros(len(x), 8, dtype=DOUBLE)
    v = z
    # s(v) is the equilibrium where v = W s(v) + c; -(I-W) dissipates, so that dv = (W s(v) + c - v) dt settles
    for _ in range(int(80 * L * L / (1 - m))):
        v = v + (1 - m) / (L * L) * (G.W @ G.activation(v)[:, :, None])[:, :, 0].sub(v - (x @ G.U.mT + G.b))
    return G.activation(v)


def prepared(solver: Any, G: Any, x: Tensor) -> Any:
    return solver.prepared(Equation(lambda z: G(z, x), Given(G, (x,), StateLayout.of(start(len(x)), 1))))


# ------------------------------------------------------------------------------------------------------ prox


@every_activation
@given(step=st.sampled_from([1e-6, 1e-3, 0.3, 1.0, 1.7, 30.0, 1e4]), seed=st.integers(0, 100))
def test_prox_solves_its_equation(activation: nn.Module, step: float, seed: int) -> None:
    """`x = (1 - a) s(v) + a v` for v drawn, so that s(v) is the answer."""
    v = torch.randn(400, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE) * 10 ** (seed % 5 - 2)
    x = (1 - step) * activation(v) + step * v
    rounding = 8 * torch.finfo(DOUBLE).eps * max(1.0, step) * (1 + v.abs())
    assert ((prox(activation, x, step) - activation(v)).abs() <= rounding).all()
    assert torch.equal(prox(activation, v, 1.0), activation(v))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("step", [1e-4, 0.2, 0.9, 3.0])
@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
def test_prox_to_the_dtypes_rounding_against_balls(name: str, step: float, dtype: torch.dtype) -> None:
    activation = nn.Tanh() if name == "tanh" else nn.Sigmoid()
    x = torch.tensor([-900.0, -3.0, -1.0, -0.3, -1e-3, 0.0, 1e-6, 0.2, 0.5, 0.99, 1.0, 1.5, 20.0], dtype=dtype)
    found = prox(activation, x, step)
    assert found.dtype == dtype
    a = flint.arb(step)

    def s(v: Any) -> Any:
        return v.tanh() if name == "tanh" else 1 / (1 + (-v).exp())

    for given_x, given_p in zip(x.double().tolist(), found.double().tolist(), strict=True):
        low, high = flint.arb(-1e8), flint.arb(1e8)
        for _ in range(150):
            middle = ((low + high) / 2).mid()
            below = (1 - a) * s(middle) + a * middle < given_x
            low, high = (middle, high) if below else (low, middle)
        exact = float(s(low).mid())
        assert abs(given_p - exact) <= 4 * torch.finfo(dtype).eps * max(1.0, step) * max(abs(exact), abs(given_x), 0.5)


@every_activation
@given(seed=st.integers(0, 200), step=st.sampled_from([0.01, 0.5, 2.0, 50.0]))
def test_prox_is_firmly_nonexpansive(activation: nn.Module, seed: int, step: float) -> None:
    x, y = 4 * torch.randn(2, 200, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)
    p, q = prox(activation, x, step), prox(activation, y, step)
    assert ((p - q).square() <= (p - q) * (x - y) + 1e-12 * step).all()


def test_prox_is_unmoved_by_companions_and_by_what_is_not_finite() -> None:
    x = torch.linspace(-3, 3, 16, dtype=DOUBLE)
    disturbed = x.clone()
    disturbed[::2] = torch.tensor([math.nan, math.inf, -math.inf, 1e300] * 2, dtype=DOUBLE)
    for activation in (nn.Tanh(), nn.Sigmoid()):
        first, second = prox(activation, x, 0.05), prox(activation, disturbed, 0.05)
        assert torch.equal(first[1::2], second[1::2])
        assert second[0].isnan()


@pytest.mark.parametrize(
    "activation",
    [nn.Softplus(), nn.GELU(), nn.LeakyReLU(-0.1), nn.LeakyReLU(1.5), torch.tanh],
    ids=["softplus", "gelu", "negative slope", "slope above 1", "a function"],
)
def test_what_is_no_proximal_map_is_refused(activation: Any) -> None:
    with pytest.raises(InputError, match=r"activation: .* proximal map"):
        ProximalLayer(torch.zeros(2, 2), activation=activation)


def test_an_activation_of_ones_own_is_registered() -> None:
    class Halved(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x / 2

    prox.register(Halved, lambda activation, x, step: x / (1 + step))
    v = torch.randn(5)
    assert torch.allclose(prox(Halved(), (1 - 0.3) * v / 2 + 0.3 * v, 0.3), v / 2)
    G = ProximalLayer(monotone(0.5, 0.5, 3), b=torch.ones(8, dtype=DOUBLE), activation=Halved())
    exact = torch.linalg.solve(2 * torch.eye(8, dtype=DOUBLE) - G.W, torch.ones(8, dtype=DOUBLE))
    for solver in SOLVERS:
        assert torch.allclose(run(G, start(1), solver=solver, relative=1e-12).value[0], exact, atol=1e-10)


# --------------------------------------------------------------------------------------------------- T5's rates


@every_solver
@settings(max_examples=15)
@given(known=kit.operators(("monotone",)))
def test_t5_monotone_layers_with_known_equilibria(solver: Solver, known: kit.Known) -> None:
    """Whatever the norm of W: the error is at most the residual in `z - G(z)`, by `||I - W|| / m`."""
    W, (x,) = known.operator.weight.detach(), known.inputs
    eye = torch.eye(len(W), dtype=DOUBLE)
    G = ProximalLayer(W, eye, torch.zeros(len(W), dtype=DOUBLE), nn.ReLU()).requires_grad_(False)
    solution = run(G, known.start, x, solver=solver, most=20_000, relative=1e-10)
    image = G(solution.value, x)
    residual = torch.linalg.vector_norm(image - solution.value, dim=1)
    assert known.margin is not None
    factor = float(torch.linalg.matrix_norm(2 * eye - W, ord=2)) / float(known.margin)
    error = torch.linalg.vector_norm(solution.value - known.equilibrium, dim=1)
    assert bool((error <= factor * residual + 1e-12).all())
    assert solution.converged or isinstance(solver, ForwardBackward)  # whose rate is 1 - (m / L)^2


@every_activation
@given(m=st.sampled_from([0.4, 1.0]), skew=st.sampled_from([0.0, 0.5, 3.0]), seed=st.integers(0, 100))
@settings(max_examples=12)
def test_t5_every_step_contracts_by_the_proven_constant(
    activation: nn.Module, m: float, skew: float, seed: int
) -> None:
    """Forward-backward for z, Peaceman-Rachford for u; the limits are those of the same solvers, long run."""
    G, x = layer(m, skew, activation, seed), inputs(3)
    found = constants_estimate(G.W)
    L = float(torch.linalg.matrix_norm(torch.eye(8, dtype=DOUBLE) - G.W, ord=2))
    assert found.monotonicity_estimate == pytest.approx(m, rel=1e-9)
    assert found.lipschitz_estimate == pytest.approx(L, rel=1e-9)
    exact = run(G, start(3), x, solver=PeacemanRachford(), relative=1e-14, most=3000).value
    size = 1 + exact.abs().max()
    forward = prepared(ForwardBackward(), G, x)
    z, memory = 3 * torch.randn(3, 8, dtype=DOUBLE), forward.init(start(3))
    for _ in range(10):
        moved, memory = forward.step(memory, z, G(z, x))
        rate = math.sqrt(1 - (m / L) ** 2)
        assert (norms(moved - exact) <= (rate + 1e-9) * norms(z - exact) + 1e-12 * size * L / m).all()
        z = moved
    reflected = prepared(PeacemanRachford(), G, x)
    limit = exact + (G.W @ exact[:, :, None])[:, :, 0] / L + (x @ G.U.mT + G.b - exact) / L
    z, memory = 3 * torch.randn(3, 8, dtype=DOUBLE), reflected.init(start(3))
    before = None
    for _ in range(10):
        z, memory = reflected.step(memory, z, G(z, x))
        distance = norms(memory.u - limit)
        if before is not None:
            assert (distance <= (math.sqrt((L - m) / (L + m)) + 1e-9) * before + 1e-11 * size * L / m).all()
        assert (norms(z - exact) <= distance + 1e-11 * size * L / m).all()
        before = distance


def norms(rows: Tensor) -> Tensor:
    return torch.linalg.vector_norm(rows, dim=1)


@pytest.mark.parametrize("step_size", [0.05, 0.4])
@every_activation
def test_t5_any_step_below_2m_over_l2_converges_to_the_equilibrium(activation: nn.Module, step_size: float) -> None:
    G, x = layer(0.6, 0.8, activation), inputs()
    L = constants_estimate(G.W).lipschitz_estimate
    assert step_size < 2 * 0.6 / L**2
    exact = equilibrium(G, x)
    for solver in (ForwardBackward(step_size), PeacemanRachford(step_size), *SOLVERS):
        solution = run(G, start(), x, solver=solver, relative=1e-12)
        assert solution.converged
        assert torch.allclose(solution.value, exact, rtol=0, atol=1e-10)
        assert torch.allclose(G(solution.value, x), solution.value, rtol=0, atol=1e-10)


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.Tanh(), nn.LeakyReLU(0.1)], ids=repr)
def test_t5_layers_of_norm_27_where_picard_fails(activation: nn.Module) -> None:
    G, x = layer(5.0, 27.0, activation), inputs()
    assert torch.linalg.matrix_norm(G.W, ord=2) > 27
    picard = run(G, start() + 1, x, solver=Picard(), most=400, relative=1e-8)
    assert sum(result in (Result.DIVERGED, Result.MAX_EVALUATIONS) for result in picard.results) >= 4
    reflected = run(G, start() + 1, x, solver=PeacemanRachford(), most=1000, relative=1e-8)
    forward = run(G, start() + 1, x, solver=ForwardBackward(), most=20000, relative=1e-8)
    assert reflected.converged
    assert forward.converged
    assert int(reflected.evaluations.max()) < int(forward.evaluations.min())
    assert torch.allclose(reflected.value, forward.value, rtol=0, atol=1e-6)
    for value in (reflected.value, forward.value):  # one application further, which expands a residual by at most 34
        assert (norms(G(value, x) - value) <= 34 * 1e-8 * norms(value)).all()


def test_a_certificate_of_t5_bounds_what_they_find() -> None:
    from deqops.verify import Verdict, certify

    G, x = layer(5.0, 27.0, nn.ReLU()), inputs(2)
    certificate = certify(G, start(2), x)
    assert (certificate.verdict, certificate.theorem) == (Verdict.CERTIFIED, "monotone")
    tolerance = Tolerance(error=1e-6, certificate=certificate)
    solution = solve(G, start(2) + 1, x, solver=PeacemanRachford(), tolerance=tolerance, max_evaluations=2000)
    assert solution.error_bound is not None
    assert (solution.error_bound.l2 <= 1e-6).all()


# ------------------------------------------------------------------------------------------------- the contract


@every_solver
@pytest.mark.parametrize("activation", [nn.Identity(), nn.ReLU()], ids=repr)
def test_linear_equations_with_known_solutions(solver: Solver, activation: nn.Module) -> None:
    """ReLU is the identity where the solution is positive."""
    W = monotone(0.4, 0.6, 3)
    exact = torch.rand(2, 8, dtype=DOUBLE) + 0.5
    U = torch.eye(8, dtype=DOUBLE)
    solution = run(ProximalLayer(W, U, None, activation), start(2), exact - exact @ W.mT, solver=solver, relative=1e-12)
    assert solution.converged
    assert torch.allclose(solution.value, exact, rtol=0, atol=1e-10)


@every_solver
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_dtypes_are_kept_and_their_floor_is_reached(solver: Solver, dtype: torch.dtype) -> None:
    G, x = layer(0.6, 0.5), inputs()
    exact, eps = equilibrium(G, x), torch.finfo(dtype).eps
    G, x = G.to(dtype), x.to(dtype)
    for relative, results in ((16 * eps, [Result.CONVERGED]), (0.0, [Result.CONVERGED, Result.STAGNATED])):
        solution = run(G, start().to(dtype), x, solver=solver, most=600, relative=relative)
        assert all(result in results for result in solution.results)
        assert solution.value.dtype == dtype
        assert (norms(solution.value.to(DOUBLE) - exact) <= 64 * eps * norms(exact)).all()


def test_a_float32_layer_is_solved_to_its_own_rounding() -> None:
    G, x = layer(2.0, 27.0), inputs()
    G, x = G.to(torch.float32), x.to(torch.float32)
    solution = run(G, start().to(torch.float32), x, solver=PeacemanRachford(), relative=0.0)
    assert (solution.residual <= 27 * 4 * torch.finfo(torch.float32).eps * norms(solution.value)).all()


@every_solver
@pytest.mark.parametrize("intruder", [math.nan, math.inf, 1e200, -3.0])
@pytest.mark.parametrize("activation", [nn.ReLU(), nn.Tanh()], ids=repr)
def test_companions_never_change_a_bit(solver: Solver, intruder: float, activation: nn.Module) -> None:
    G, x = layer(0.2, 2.0, activation), inputs()
    disturbed = x.clone()
    disturbed[[0, 3]] = intruder
    first, second = (run(G, start() + 1, given_x, solver=solver, most=61, relative=1e-9) for given_x in (x, disturbed))
    assert int(first.evaluations.min()) > 5
    for name in ("value", "residual", "evaluations", "result"):
        assert torch.equal(getattr(first, name)[[1, 2, 4]], getattr(second, name)[[1, 2, 4]]), name


@every_solver
def test_a_problem_alone_ends_as_in_company(solver: Solver) -> None:
    G, x = layer(0.3, 1.0), inputs(3) * torch.tensor([[0.1], [1.0], [3.0]], dtype=DOUBLE)
    together = run(G, start(3), x, solver=solver, relative=1e-8)
    for number in range(3):
        alone = run(G, start(1), x[number : number + 1], solver=solver, relative=1e-8)
        assert alone.results == [together.results[number]] == [Result.CONVERGED]
        assert abs(int(alone.evaluations) - int(together.evaluations[number])) <= 2
        assert torch.allclose(alone.value[0], together.value[number], atol=1e-7)


@every_solver
@pytest.mark.parametrize("most", [1, 2, 6, 7])
def test_too_few_evaluations_are_told_and_none_are_overdrawn(solver: Solver, most: int) -> None:
    solution = run(layer(0.05, 3.0), start(), inputs(), solver=solver, most=most, relative=1e-12)
    assert solution.results == [Result.MAX_EVALUATIONS] * 5
    assert solution.evaluations.tolist() == [most] * 5
    assert solution.value.isfinite().all()


@every_solver
def test_each_step_is_charged_for_its_product(solver: Solver) -> None:
    applied: list[int] = []
    seen: list[int] = []

    class Counted(ProximalLayer):
        def _activated(self, v: Tensor) -> Tensor:
            applied.append(1)
            return super()._activated(v)

    G = Counted(monotone(0.5, 0.5, 1), b=torch.ones(8, dtype=DOUBLE))
    with torch.no_grad():
        solution = solve(G, start(1), solver=solver, callback=lambda rounds, _: seen.append(rounds))
    assert int(solution.evaluations) == 2 * len(seen) - 1 == 2 * len(applied) - 1


class Breaking(nn.Module):
    """A user's own module that keeps the protocol; its second problem is spoilt at the third point."""

    def __init__(self, inner: ProximalLayer, spoilt: float) -> None:
        super().__init__()
        self.inner, self.spoilt, self.points = inner, spoilt, list[Tensor]()

    def proximal_form(self, x: Tensor) -> ProximalForm:
        return self.inner.proximal_form(x)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        self.points.append(z.clone())
        image: Tensor = self.inner(z, x)
        if len(self.points) >= 3:
            image[1, 0] = self.spoilt
        return image


@every_solver
def test_nan_in_one_problem_is_told_and_the_others_go_on(solver: Solver) -> None:
    G = Breaking(layer(), math.nan)
    assert isinstance(G, ProximalOperator)
    solution = run(G, start(3), inputs(3), solver=solver, relative=1e-8)
    assert solution.results == [Result.CONVERGED, Result.NONFINITE, Result.CONVERGED]
    assert int(solution.evaluations[1]) == 5
    assert torch.equal(solution.value[1], G.points[2][1])
    assert solution.residual[1] == torch.inf


@every_solver
def test_a_form_that_is_not_gs_own_is_never_believed(solver: Solver) -> None:
    """The solver finds the form's equilibrium; G's residual says that it is none of G's."""

    class Lying(Breaking):
        def forward(self, z: Tensor, x: Tensor) -> Tensor:
            image: Tensor = self.inner(z, x) + 1.0
            return image

    solution = run(Lying(layer(), 0.0), start(3), inputs(3), solver=solver, most=300, relative=1e-8)
    assert solution.results == [Result.MAX_EVALUATIONS] * 3
    assert (solution.residual > 2).all()


@every_solver
def test_the_same_solve_twice_gives_the_same_bits(solver: Solver) -> None:
    first, second = (run(layer(0.3, 1.0), start(), inputs(), solver=solver, relative=1e-10) for _ in range(2))
    for name in ("value", "residual", "evaluations"):
        assert torch.equal(getattr(first, name), getattr(second, name)), name


@every_solver
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_a_problem_in_other_units_takes_as_many_evaluations(solver: Solver, scale: float) -> None:
    G, x = layer(0.3, 1.0, nn.ReLU()), inputs()
    scaled = ProximalLayer(G.W, G.U * scale, G.b * scale)  # type: ignore[operator]
    first, second = (run(operator, start(), x, solver=solver, relative=1e-8) for operator in (G, scaled))
    assert first.converged
    assert (first.evaluations - second.evaluations).abs().max() <= 2
    assert torch.allclose(second.value / scale, first.value, atol=1e-6)


@every_solver
def test_a_start_at_the_equilibrium_takes_one_evaluation(solver: Solver) -> None:
    target = torch.tensor([[1.0, -2.0], [0.5, 4.0]])
    G = ProximalLayer(torch.zeros(2, 2), torch.eye(2), activation=nn.Identity())
    solution = run(G, target, target, solver=solver, relative=0.0)
    assert solution.evaluations.tolist() == [1, 1]
    assert torch.equal(solution.value, target)


@every_solver
def test_the_slow_problems_go_on_alone(solver: Solver) -> None:
    rows: list[int] = []

    class Recording(ProximalLayer):
        def _activated(self, v: Tensor) -> Tensor:
            rows.append(len(v))
            return super()._activated(v)

    plain = layer(0.2, 1.0, nn.ReLU())
    exact = torch.rand(16, 8, dtype=DOUBLE) + 0.5
    G = Recording(plain.W, torch.eye(8, dtype=DOUBLE))
    c = exact - exact @ G.W.mT
    y0 = exact.clone()
    y0[::8] += 1.0
    with torch.no_grad():
        dropped = solve(
            G, y0, c, solver=solver, batched=("problem",), tolerance=Tolerance(relative=1e-9), max_evaluations=20000
        )
        kept = solve(G, y0, c, solver=solver, tolerance=Tolerance(relative=1e-9), max_evaluations=20000)
    assert rows[0] == 16
    assert 2 in rows
    assert torch.allclose(dropped.value, exact, rtol=0, atol=1e-6)
    assert (dropped.evaluations - kept.evaluations).abs().max() <= 2


@every_solver
def test_states_of_more_dimensions_and_one_problem_of_many_rows(solver: Solver) -> None:
    G, x = layer(0.4, 1.0), torch.randn(3, 4, 3, dtype=DOUBLE)
    flat = run(G, start(12), x.reshape(12, 3), solver=solver, relative=1e-11).value.reshape(3, 4, 8)
    nodes = run(G, torch.zeros(3, 4, 8, dtype=DOUBLE), x, solver=solver, relative=1e-11)
    assert torch.allclose(nodes.value, flat, atol=1e-9)
    whole = solve(G, torch.zeros(3, 4, 8, dtype=DOUBLE), x, solver=solver, batch_dims=0, max_evaluations=2000)
    assert len(whole.results) == 1
    assert torch.allclose(whole.value, flat, atol=1e-3)


def test_peaceman_rachford_begins_anew_where_the_loop_took_another_point() -> None:
    G, x = layer(), inputs(2)
    solver = prepared(PeacemanRachford(), G, x)
    z, memory = solver.step(solver.init(start(2)), start(2), G(start(2), x))
    other = z.clone()
    other[1] = 7.0
    plain, mended = (solver.step(memory, point, G(point, x))[0] for point in (z.clone(), other))
    assert torch.equal(plain[0], mended[0])
    first, _ = solver.step(solver.init(start(2)), other, G(other, x))
    assert torch.equal(first[1], mended[1])


# -------------------------------------------------------------------------------------------------- gradients


@every_solver
def test_gradients_of_the_equilibrium_against_the_closed_form(solver: Solver) -> None:
    """`y = s(Wy + Ux + b)`: `dy = (I - D W)^-1 D (dW y + U dx + db)`, D = s'."""
    G = layer(0.5, 3.0)
    parameters = [nn.Parameter(t.clone()) for t in (G.W, G.U, G.b) if t is not None]
    G = ProximalLayer(*parameters, activation=nn.Tanh())
    x = inputs(2).requires_grad_()
    tolerance = Tolerance(relative=1e-13)
    adjoint = ImplicitAdjoint(tolerance=tolerance, max_evaluations=500)
    with torch.enable_grad():
        y = solve(G, start(2), x, solver=solver, tolerance=tolerance, adjoint=adjoint, max_evaluations=20000).value
        weights = torch.randn(2, 8, dtype=DOUBLE)
        found = torch.autograd.grad((weights * y).sum(), [*parameters, x])
    W, U, _ = parameters
    u = []
    for row, g in zip(y.detach(), weights, strict=True):
        D = torch.diag(1 - row.square())
        u.append(D @ torch.linalg.solve(torch.eye(8, dtype=DOUBLE) - (D @ W.detach()).mT, g))
    covectors = torch.stack(u)
    expected = [covectors.mT @ y.detach(), covectors.mT @ x.detach(), covectors.sum(0), covectors @ U.detach()]
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-8, atol=1e-9)


@every_solver
def test_a_layer_trains_by_the_default_adjoint(solver: Solver) -> None:
    weights = [nn.Parameter(t.clone()) for t in (layer().W, layer().U) if t is not None]
    G = ProximalLayer(*weights, activation=nn.ReLU())
    deq = EquilibriumLayer(G, solver=solver, initial=lambda x: start(len(x)))
    deq(inputs()).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in weights)
    again = copy.deepcopy(deq)
    again.load_state_dict(deq.state_dict())
    assert torch.equal(again(inputs()), deq(inputs()))


class Monotone(nn.Module):
    """`I - W = m I + A A^T + B - B^T` with m = 1/2; A is the lower triangle of the parameter, B the upper."""

    def forward(self, parameter: Tensor) -> Tensor:
        A, B = parameter.tril(), parameter.triu(1)
        return 0.5 * torch.eye(len(parameter), dtype=parameter.dtype) - A @ A.mT - B + B.mT


@pytest.mark.parametrize(("size", "adjoint"), [(1.0, Anderson()), (3.0, NewtonKrylov())], ids=repr)
def test_a_layer_kept_monotone_by_its_parametrisation_trains(size: float, adjoint: Solver) -> None:
    """||W|| is 31 and 286; Anderson's iteration diverges on the adjoint equations of the latter."""
    G = ProximalLayer(nn.Parameter(size * torch.randn(8, 8, dtype=DOUBLE)), torch.eye(8, dtype=DOUBLE))
    parametrize.register_parametrization(G, "W", Monotone())
    assert constants_estimate(G.W.detach()).monotonicity_estimate >= 0.5 - 1e-12
    deq = EquilibriumLayer(G, solver=PeacemanRachford(), adjoint=ImplicitAdjoint(solver=adjoint), max_evaluations=20000)
    loss = (deq(torch.randn(4, 8, dtype=DOUBLE)) - 1).square().mean()
    loss.backward()
    (parameter,) = G.parameters()
    assert parameter.grad is not None
    assert parameter.grad.isfinite().all()
    assert (parameter.grad != 0).any()


@every_solver
def test_they_are_refused_for_adjoint_equations(solver: Solver) -> None:
    with pytest.raises(InputError, match=r"solver: .* an adjoint equation is none; use NewtonKrylov"):
        ImplicitAdjoint(solver=solver)


# --------------------------------------------------------------------------------------------------- refusals


@every_solver
def test_operators_of_another_form_are_refused(solver: Solver) -> None:
    with pytest.raises(InputError, match=r"G: .* does not say that it is one; use a ProximalLayer"):
        run(lambda z: 0.5 * z, start(), solver=solver)
    name = type(solver).__name__
    with pytest.raises(InputError, match=f"batch: {name}.*leave batch= out"):
        solve(layer(), start(), inputs(), solver=solver, batch=torch.tensor([0, 0, 1, 1, 1]))
    with pytest.raises(InputError, match=f"y0: {name}.* takes one tensor"):
        run(layer(), {"a": start()}, inputs(), solver=solver)


@every_solver
def test_layers_that_are_not_monotone_are_refused_without_a_step(solver: Solver) -> None:
    G = ProximalLayer(torch.diag(torch.tensor([1.25, 0.0])), b=torch.ones(2), activation=nn.Tanh())
    with pytest.raises(InputError, match=r"eigenvalue of about -0\.25, .* give it step_size=, or use Anderson"):
        run(G, torch.zeros(1, 2), solver=solver)
    given_one = type(solver)(step_size=0.5)  # it may converge, or not and say so
    solution = run(G, torch.zeros(1, 2), solver=given_one, most=200)
    assert solution.results == [Result.CONVERGED if isinstance(solver, ForwardBackward) else Result.MAX_EVALUATIONS]


@every_solver
@pytest.mark.parametrize(
    ("form", "message"),
    [
        (None, "returned a NoneType; return a ProximalForm"),
        (ProximalForm(torch.zeros(3, 3), torch.zeros(3), nn.ReLU()), r"W is torch.float32 of shape \(3, 3\)"),
        (ProximalForm(torch.full((2, 2), math.nan), torch.zeros(2), nn.ReLU()), "W holds NaN"),
        (ProximalForm(torch.zeros(2, 2), torch.zeros(3), nn.ReLU()), r"c has shape \(3,\)"),
        (ProximalForm(torch.zeros(2, 2), torch.zeros(2), nn.GELU()), "GELU is not known"),
    ],
)
def test_forms_that_do_not_fit_are_refused(solver: Solver, form: Any, message: str) -> None:
    class Own(nn.Module):
        def proximal_form(self) -> Any:
            return form

        def forward(self, z: Tensor) -> Tensor:
            return 0 * z

    with pytest.raises(InputError, match=message):
        run(Own(), torch.zeros(1, 2), solver=solver)


@pytest.mark.parametrize("kind", [ForwardBackward, PeacemanRachford])
def test_settings_out_of_range_and_use_without_an_equation(kind: Any) -> None:
    for step_size in (0.0, -1.0, math.inf, math.nan, "1", True):
        with pytest.raises(InputError, match=r"step_size: a finite number above 0"):
            kind(step_size)
    with pytest.raises(InputError, match=r"prepared\(equation\)"):
        kind().init(start())
    with pytest.raises(InputError, match=r"prepared\(equation\)"):
        kind().step(None, start(), start())


def test_a_step_that_makes_the_resolvent_singular_is_refused() -> None:
    G = ProximalLayer(torch.diag(torch.tensor([2.0, 0.0])), activation=nn.Tanh())
    with pytest.raises(InputError, match=r"step_size: .* singular"):
        run(G, torch.zeros(1, 2), solver=PeacemanRachford(1.0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(2, 3),), "W: a square matrix"),
        ((torch.zeros(2),), "W: a floating matrix"),
        (([[1.0]],), "W: a floating matrix with as many rows is needed, got list"),
        ((torch.zeros(2, 2), torch.zeros(3, 2)), "U: a floating matrix with 2 rows"),
        ((torch.zeros(2, 2), None, torch.zeros(3)), r"b: a tensor of shape \(2,\)"),
    ],
)
def test_a_layers_shapes_are_checked(arguments: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ProximalLayer(*arguments)


def test_a_layer_takes_its_inputs_and_no_others() -> None:
    with pytest.raises(InputError, match="inputs: 0 needed"):
        ProximalLayer(torch.zeros(2, 2))(torch.zeros(1, 2), torch.zeros(1, 2))
    with pytest.raises(InputError, match="inputs: 1 needed"):
        ProximalLayer(torch.zeros(2, 2), torch.zeros(2, 2))(torch.zeros(1, 2))


def test_anderson_on_the_same_layer_finds_the_same() -> None:
    G, x = layer(0.5, 0.5), inputs()
    other = run(G, start(), x, solver=Anderson(), relative=1e-12)
    assert torch.allclose(run(G, start(), x, solver=PeacemanRachford(), relative=1e-12).value, other.value, atol=1e-10)


def test_the_pages_example_runs(tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent / "docs" / "splitting.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    script = tmp_path / "example.py"
    script.write_text(block)
    assert runpy.run_path(str(script))["W"].grad.isfinite().all()
