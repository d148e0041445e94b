"""Broyden's method: the textbook's iterates, memory as it is needed, nothing divided by rounding."""

from __future__ import annotations

import math
from copy import deepcopy

import pytest
import torch
from torch import Tensor

from deqops import Broyden, Picard, Result, Tolerance, solve
from deqops._solver._subspace import CHUNK
from tests.test_solve_anderson import run, symmetric

DOUBLE = torch.float64


def textbook(W: Tensor, b: Tensor, solver: Broyden, steps: int) -> list[Tensor]:
    """z_0 .. z_steps of Broyden's method for F(z) = tanh(z W + b) - z with a dense H; `memory` is 1 or enough."""
    start = -solver.damping * torch.eye(len(W), dtype=DOUBLE)
    z, H = torch.zeros(len(W), dtype=DOUBLE), start
    F, points = torch.tanh(z @ W + b) - z, [z]
    for _ in range(steps):
        step = -H @ F
        z = z + step
        change = torch.tanh(z @ W + b) - z - F
        F = F + change
        H = start if solver.memory == 1 else H
        H = H + torch.outer(step - H @ change, step @ H) / (step @ H @ change)
        points.append(z)
    return points


@pytest.mark.parametrize("solver", [Broyden(), Broyden(damping=0.6), Broyden(memory=1), Broyden(1, 0.6)], ids=repr)
def test_iterates_are_the_textbooks(solver: Broyden) -> None:
    W, b, _ = symmetric(0.9, size=12)
    points: list[Tensor] = []

    def G(z: Tensor) -> Tensor:
        points.append(z[0])
        return torch.tanh(z @ W + b)

    solve(G, torch.zeros_like(b), solver=solver, max_evaluations=11, throw=False)
    for ours, theirs in zip(points, textbook(W, b[0], solver, 10), strict=False):
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-9)
    assert len(points) > 6


@pytest.mark.parametrize("size", [1, 2, 5])
def test_linear_equations_end_in_twice_as_many_steps_as_unknowns(size: int) -> None:
    """Gay, SIAM J. Numer. Anal. 16, 1979: on n linear equations at most 2 n steps."""
    W, b, exact = symmetric(0.9, size=size)
    solution = run(W, b, Broyden(), relative=1e-9)
    assert solution.converged
    assert int(solution.evaluations) <= 2 * size + 2
    assert torch.allclose(solution.value, exact, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ill_conditioned_contraction_needs_a_fraction_of_picards_evaluations(dtype: torch.dtype) -> None:
    W, b, exact = symmetric(0.99)
    broyden, picard = (run(W.to(dtype), b.to(dtype), solver, relative=3e-6) for solver in (Broyden(), Picard()))
    assert broyden.converged
    assert picard.converged
    assert 5 * int(broyden.evaluations) < int(picard.evaluations)
    assert torch.linalg.vector_norm(broyden.value - exact) < 1e-3 * torch.linalg.vector_norm(exact)


def test_monotone_problem_where_picard_diverges() -> None:
    torch.manual_seed(3)
    skew = torch.randn(40, 40, dtype=DOUBLE) / math.sqrt(40)
    W, b = skew - skew.mT - 0.5 * torch.eye(40, dtype=DOUBLE), torch.randn(1, 40, dtype=DOUBLE)
    solution = run(W, b, Broyden())
    assert run(W, b, Picard()).results == [Result.DIVERGED]
    assert solution.converged
    assert int(solution.evaluations) <= 90


@pytest.mark.parametrize("scale", [1e-8, 1e25, 2.0**-40, 2.0**30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scaling_the_problem_changes_nothing(scale: float, dtype: torch.dtype) -> None:
    """Units whose squares over- or underflow in float32 included; a power of 2 changes no count at all."""
    W = (torch.randn(30, 30) / math.sqrt(30)).to(dtype)
    b = torch.randn(2, 30).to(dtype)

    def count(factor: float) -> Tensor:
        def G(z: Tensor) -> Tensor:
            return factor * torch.tanh(0.8 * (z / factor) @ W.mT + b)

        return solve(G, torch.zeros(2, 30, dtype=dtype), solver=Broyden()).evaluations

    assert (count(scale) - count(1.0)).abs().max() <= (0 if math.frexp(scale)[0] == 0.5 else 2)


@pytest.mark.parametrize(
    ("memory", "counts"),
    [(1, [1, 2, 3, 3, 3, 3, 3]), (4, [1, 2, 3, 4, 5, 5, 6]), (10**9, [1, 2, 3, 4, 5, 6, 7])],
    ids=["1", "4", "all"],
)
def test_memory_grows_with_the_steps_done(memory: int, counts: list[int]) -> None:
    """One vector a step, up to `memory + 2` of them, however many are allowed."""
    W, b, _ = symmetric(0.9, size=8)
    solver = Broyden(memory=memory)
    z, kept = torch.zeros_like(b), None
    for count in counts:
        z, kept = solver.step(kept, z, torch.tanh(z @ W + b))
        assert kept is not None
        assert kept.inverse.count == count
        assert len(kept.inverse.blocks) == -(-count // CHUNK)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_arithmetic_is_at_least_float32_and_the_point_is_the_states_dtype(dtype: torch.dtype) -> None:
    z = torch.ones(2, 3, dtype=dtype)
    proposal, kept = Broyden(damping=0.5).step(None, z, 3 * z)
    assert proposal.dtype == dtype
    assert kept.inverse.blocks[0].dtype == (torch.float64 if dtype == DOUBLE else torch.float32)
    assert torch.equal(proposal, 2 * z)  # Picard's damped step


def test_a_setback_drops_the_memory_of_its_problem_alone() -> None:
    solver = Broyden(damping=0.5)
    W, b, _ = symmetric(0.9, size=6)
    b = torch.cat([b, b])
    z, kept = solver.step(None, torch.zeros_like(b), b)
    for _ in range(3):
        z, kept = solver.step(kept, z, torch.tanh(z @ W + b))
    image = torch.tanh(z @ W + b)
    far = image.clone()
    far[0] += 1e6
    (together, _), (set_back, after) = solver.step(deepcopy(kept), z, image), solver.step(kept, z, far)
    assert torch.allclose(set_back[0], z[0] + 0.5 * (far[0] - z[0]), rtol=1e-15)
    assert torch.equal(set_back[1], together[1])
    assert not torch.equal(together[1], z[1] + 0.5 * (image[1] - z[1]))
    # never twice in a row: the next step changes H again
    assert [bool(M.any()) for M in after.inverse.matrix] == [False, True]
    again = solver.step(after, set_back, torch.stack([set_back[0] + 1e12, image[1]]))[1]
    assert again.rested.tolist() == [True, True]


def test_a_denominator_of_rounding_is_left_out() -> None:
    """s^T H y = 0 in the first problem: H stays as it was, there and there only."""
    solver = Broyden()
    z, kept = solver.step(None, torch.zeros(2, 2), torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    # the step was (1, 0): the residuals' change is across it but for rounding, or along it
    for along in (1.0, 1 - 2**-23, 1 + 2**-23):
        proposal, new = solver.step(deepcopy(kept), z, z + torch.tensor([[along, 1.0], [0.5, 0.0]]))
        assert torch.equal(proposal[0], z[0] + torch.tensor([along, 1.0]))
        assert torch.equal(proposal[1], torch.tensor([2.0, 0.0]))  # the secant's root
        assert [bool(M.any()) for M in new.inverse.matrix] == [False, True]


def test_hard_layer_in_a_batch_where_every_memory_is_full() -> None:
    basis = torch.linalg.qr(torch.randn(40, 40, dtype=DOUBLE))[0]
    b = torch.randn(6, 40, dtype=DOUBLE)
    exact = torch.linalg.solve(torch.eye(40, dtype=DOUBLE) - 0.9 * basis, b, left=False)
    for memory in (1, 3, 30):
        solution = solve(
            lambda z: 0.9 * z @ basis + b,
            torch.zeros_like(b),
            solver=Broyden(memory=memory),
            tolerance=Tolerance(relative=1e-9),
            max_evaluations=400,
        )
        assert int(solution.evaluations.min()) > memory
        assert torch.allclose(solution.value, exact, atol=1e-7)


@pytest.mark.parametrize("memory", [8, 30])
def test_a_full_memory_costs_few_evaluations(memory: int) -> None:
    """Starting anew from -b I after every `memory` steps took three times as many as remembering all."""
    counts = []
    for steps in (memory, 1000):
        W = torch.randn(100, 100, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
        b = torch.randn(1, 100, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
        W = W * (0.99 / torch.linalg.eigvals(W).abs().max())
        counts.append(int(run(W, b, Broyden(memory=steps), relative=1e-8).evaluations))
    assert counts[0] < 1.7 * counts[1]


def test_a_problem_without_progress_starts_anew() -> None:
    """Its residual was not halved in 20 steps: H = -b I once its memory is full; its companion keeps what it knows."""
    solver, flat = Broyden(memory=4), torch.randn(60, 9, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    z, kept = torch.zeros(2, 9, dtype=DOUBLE), None
    empty = []
    for step in range(60):
        residual = torch.stack([flat[step] / torch.linalg.vector_norm(flat[step]), 0.9**step * flat[step]])
        z, kept = solver.step(kept, z, z + residual)
        if kept.rank > 1:
            empty.append([step, *(int(torch.linalg.matrix_rank(M, rtol=1e-9)) <= 1 for M in kept.inverse.matrix)])
    assert [step for step, stuck, _ in empty if stuck and step <= 20] == []
    assert any(stuck for step, stuck, _ in empty if step > 20)
    assert not any(companion for _, _, companion in empty)
