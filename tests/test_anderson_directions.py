"""The columns of Anderson's method: orthogonal, few on symmetric problems, made anew on others, each problem alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from deqops import Anderson, Tolerance, solve
from deqops._solver import _directions
from deqops._solver._anderson import AndersonMemory
from deqops._solver._directions import Directions
from tests.test_solve_anderson import symmetric

DOUBLE = torch.float64
Map = Callable[[Tensor], Tensor]


def gaussian(radius: float, size: int = 40, seed: int = 0) -> Map:
    """`z W + b`, W with this spectral radius and nothing symmetric about it."""
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(size, size, generator=generator, dtype=DOUBLE)
    W *= radius / torch.linalg.eigvals(W).abs().max()
    b = torch.randn(3, size, generator=generator, dtype=DOUBLE)
    return lambda z: z @ W + b


def alone(G: Map, problem: int) -> Map:
    """One of the three problems of `gaussian`, as a batch of one."""
    return lambda z: G(z.expand(3, -1))[problem : problem + 1]


def textbook(G: Map, z: Tensor, steps: int, memory: int) -> Tensor:
    """Type II with all of the last `memory` differences, by least squares: one problem."""
    points, images = [z], [G(z)]
    for _ in range(steps):
        r = images[-1] - points[-1]
        proposal = images[-1]
        if len(points) > 1:
            first = max(1, len(points) - memory)
            dg = torch.cat([images[k] - images[k - 1] for k in range(first, len(points))])
            dr = dg - torch.cat([points[k] - points[k - 1] for k in range(first, len(points))])
            proposal = proposal - torch.linalg.lstsq(dr.T, r.T).solution.T @ dg
        points.append(proposal)
        images.append(G(proposal))
    return points[-1]


def stepped(G: Map, z: Tensor, steps: int, solver: Anderson) -> tuple[Tensor, AndersonMemory]:
    memory = None
    for _ in range(steps):
        z, memory = solver.step(memory, z, G(z))
    assert memory is not None
    return z, memory


@pytest.mark.parametrize("memory", [1, 2, 5, 10])
def test_steps_are_the_textbooks_until_the_memory_is_full(memory: int) -> None:
    G, start = gaussian(0.9), torch.zeros(3, 40, dtype=DOUBLE)
    found, _ = stepped(G, start, memory + 1, Anderson(memory))
    for problem in range(3):
        expected = textbook(alone(G, problem), start[:1], memory + 1, memory)
        assert torch.allclose(found[problem], expected[0], rtol=1e-9, atol=1e-11)


def test_one_difference_is_the_textbooks_for_ever() -> None:
    linear, start = alone(gaussian(0.5), 0), torch.zeros(1, 40, dtype=DOUBLE)

    def G(z: Tensor) -> Tensor:
        return torch.tanh(linear(z))

    found, _ = stepped(G, start, 12, Anderson(1))
    assert torch.allclose(found, textbook(G, start, 12, 1), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("steps", [9, 17, 23, 40])
@pytest.mark.parametrize("memory", [3, 6, 7])
def test_columns_are_orthogonal_and_each_pair_is_a_difference(memory: int, steps: int) -> None:
    """On a linear problem p = dz + dr with dr = (W - I) dz, whatever was combined: q = (p - q)(W - I)."""
    G, start = gaussian(0.95), torch.zeros(3, 40, dtype=DOUBLE)
    _, state = stepped(G, start, steps, Anderson(memory))
    q, p = state.directions.rows[:memory].split(40, dim=2)
    present = state.directions.inverse.T[:, :, None] != 0
    shift = p - q
    image = torch.stack([G(row) - G(torch.zeros_like(row)) for row in shift]) - shift
    assert torch.allclose((image * present), q * present, atol=1e-9 * float(q.abs().max()))
    unit = torch.where(present, q / q.norm(dim=2, keepdim=True), 0.0).transpose(0, 1)
    off = unit @ unit.mT - torch.diag_embed(present[:, :, 0].T.to(DOUBLE))
    assert float(off.abs().max()) < 1e-6
    assert bool(present.any(dim=0).all())


def test_three_differences_do_what_all_would_where_the_layer_is_symmetric() -> None:
    """Where a window of ten needs twelve times as many evaluations."""
    W, b, exact = symmetric(0.9999)
    counts = []
    for memory in (3, 60):
        found = solve(lambda z: z @ W + b, torch.zeros_like(b), solver=Anderson(memory), tolerance=Tolerance(1e-8, 0.0))
        assert torch.allclose(found.value, exact, atol=1e-3)
        counts.append(int(found.evaluations))
    assert abs(counts[0] - counts[1]) <= 2
    assert counts[0] <= 62 + 4


@pytest.mark.parametrize("memory", [3, 4, 7])
def test_each_proposal_is_the_image_less_the_weighted_columns(memory: int) -> None:
    """Where it is made from the last proposal, what a dropped column had added to that is taken back."""
    G, point = gaussian(0.9), torch.zeros(3, 40, dtype=DOUBLE)
    directions = Directions.begun(point, G(point), memory, 1e-7)
    point = G(point)
    for _ in range(2 * memory + 3):
        image = G(point)
        point = directions.proposal(point, image, None, exact=False)
        added = torch.einsum("pc,pcn->pn", directions.weights[:, : directions.used], directions.images)
        assert torch.allclose(point, image - added, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("memory", [33, 70, 10**12])
def test_a_long_memory_is_made_as_it_is_needed(monkeypatch: pytest.MonkeyPatch, memory: int) -> None:
    """The values are those of a memory made at once, but for the rounding of sums in another order."""
    generator = torch.Generator().manual_seed(1)
    G, start = gaussian(0.9), torch.randn(3, 40, generator=generator, dtype=DOUBLE)
    seen: list[int] = []
    own = Directions.proposal

    def noted(self: Directions, *arguments: Any) -> Tensor:
        seen.append(self.count)
        return own(self, *arguments)

    monkeypatch.setattr(Directions, "proposal", noted)
    solver, point = Anderson(memory, regularization=1e-14), start
    made: list[Tensor] = []
    for block in (_directions.BLOCK, 70):
        monkeypatch.setattr(_directions, "BLOCK", block)
        state, point = solver.init(start), start
        for _ in range(38):
            point, state = solver.step(state, point, G(point))
        made.append(point)
    assert torch.allclose(*made, rtol=1e-9, atol=1e-9)
    assert seen[:31] == [32] * 31
    assert max(seen[:37]) == min(memory, 64)


def test_columns_are_made_anew_where_dropping_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Truncation alone loses its way on layers far from symmetric."""
    G, start = gaussian(0.999), torch.zeros(3, 40, dtype=DOUBLE)

    def count() -> int:
        tolerance = Tolerance(relative=1e-8)
        found = solve(G, start, solver=Anderson(), tolerance=tolerance, max_evaluations=2000, throw=False)
        return int(found.evaluations.max())

    anew = count()
    monkeypatch.setattr(Directions, "rebuild", lambda self, problems: None)
    assert 1.1 * anew < count()


def test_a_problem_made_anew_leaves_its_companions_bits_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Symmetric companions of problems that are not: their memory is kept while the others' is made anew."""
    W, b, _ = symmetric(0.99, size=40)
    G = gaussian(0.99)
    rough = torch.tensor([[1.0], [0.0], [1.0]], dtype=DOUBLE)
    offset = b.expand(3, -1)

    def mixed(z: Tensor, rough: Tensor) -> Tensor:
        return torch.where(rough > 0, G(z), z @ W + offset)

    tolerance = Tolerance(relative=1e-9)
    start = torch.zeros(3, 40, dtype=DOUBLE)
    own, rebuilt = Directions.rebuild, list[list[int]]()

    def noted(self: Directions, problems: Tensor) -> None:
        rebuilt.append(problems.tolist())
        own(self, problems)

    monkeypatch.setattr(Directions, "rebuild", noted)
    together = solve(mixed, start, rough, tolerance=tolerance, max_evaluations=500)
    assert [0, 2] in rebuilt
    assert not any(1 in problems for problems in rebuilt)
    calm = solve(mixed, start, torch.zeros_like(rough), tolerance=tolerance, max_evaluations=500)
    assert torch.equal(together.value[1], calm.value[1])
    assert together.evaluations[1] == calm.evaluations[1]


def test_rounding_does_not_add_up_over_many_steps() -> None:
    """float32, hundreds of steps at a rate of 0.99: the residual falls below where Picard ends."""
    generator = torch.Generator().manual_seed(3)
    Q = torch.linalg.qr(torch.randn(64, 64, generator=generator, dtype=DOUBLE))[0].float()
    b = torch.randn(4, 64, generator=generator, dtype=DOUBLE).float()
    found = solve(
        lambda z: 0.99 * (z @ Q) + b,
        torch.zeros_like(b),
        solver=Anderson(5),
        tolerance=Tolerance(relative=2e-6),
        max_evaluations=3000,
    )
    assert bool((found.evaluations > 100).all())


def test_a_proposal_that_overflows_empties_that_problems_memory_alone() -> None:
    """G jumps by 200 orders of magnitude once: the next proposals of that problem are Picard's, then new columns."""
    calls = 0

    def G(z: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        image = 0.5 * z + 1
        return torch.where(torch.tensor([[calls == 4], [False]]), 1e308 * torch.ones_like(z), image)

    found = solve(G, torch.zeros(2, 3, dtype=DOUBLE), tolerance=Tolerance(relative=1e-10), throw=False)
    assert found.converged
    assert torch.allclose(found.value, torch.full((2, 3), 2.0, dtype=DOUBLE))


def test_a_residual_that_doubles_empties_the_memory_and_the_step_is_picards() -> None:
    G, start = gaussian(0.9), torch.zeros(3, 40, dtype=DOUBLE)
    z, state = stepped(G, start, 6, Anderson())
    image = G(z)
    image[1] += 100 * (image[1] - z[1])
    proposal, state = Anderson().step(state, z, image)
    assert torch.equal(proposal[1], image[1])
    assert not bool((proposal[::2] == image[::2]).all(dim=1).any())
    assert bool((state.directions.inverse[1] == 0).all())
    assert bool((state.directions.inverse[::2, :6] != 0).all())


def test_a_lost_proposal_empties_that_problems_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    G, start = gaussian(0.9), torch.zeros(3, 40, dtype=DOUBLE)
    plain = solve(G, start, tolerance=Tolerance(relative=1e-9))
    own, forget, calls = Directions.proposal, Directions.forget, 0
    forgotten: list[tuple[int, list[int]]] = []

    def spoilt(self: Directions, point: Tensor, image: Tensor, begun: Tensor | None, exact: bool) -> Tensor:
        nonlocal calls
        calls += 1
        found = own(self, point, image, begun, exact)
        return torch.where(torch.tensor([[calls == 5], [False], [False]]), torch.inf, found)

    def noted(self: Directions, problems: Tensor) -> None:
        forgotten.append((calls, problems.tolist()))
        forget(self, problems)

    monkeypatch.setattr(Directions, "proposal", spoilt)
    monkeypatch.setattr(Directions, "forget", noted)
    found = solve(G, start, tolerance=Tolerance(relative=1e-9))
    assert (6, [0]) in forgotten
    assert torch.equal(found.value[1:], plain.value[1:])
    assert torch.allclose(found.value[0], plain.value[0], rtol=1e-6)
