"""`I + U^T M U`: the rows of U are orthonormal, hold what was admitted, and a reduction keeps the largest part."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from deqops._solver._subspace import CHUNK, Subspace

DOUBLE = torch.float64


def filled(count: int, size: int = 90, seed: int = 0, problems: int = 1) -> Subspace:
    """Directions in general position, and a matrix whose singular values fall by a tenth each."""
    g = torch.Generator().manual_seed(seed)
    subspace = Subspace.none(problems, torch.device("cpu"))
    for _ in range(count):
        subspace.admit(torch.randn(problems, size, generator=g, dtype=DOUBLE))
    left, right = torch.linalg.qr(torch.randn(2, problems, count, count, generator=g, dtype=DOUBLE))[0]
    subspace.matrix[:, :count, :count] = left * 0.9 ** torch.arange(count, dtype=DOUBLE) @ right.mT
    return subspace


def rows(subspace: Subspace) -> Tensor:
    """U, (problems, room, unknowns); 0 where there is no direction yet."""
    U = torch.cat(subspace.blocks, dim=1).clone()
    U[:, subspace.count :] = 0.0
    return U


def matrix(subspace: Subspace) -> Tensor:
    """P, (problems, unknowns, unknowns)."""
    U = rows(subspace)
    return torch.eye(U.shape[2], dtype=U.dtype) + U.mT @ subspace.matrix.to(U.dtype) @ U


@given(
    picks=st.lists(st.integers(0, 59), min_size=1, max_size=CHUNK + 8),
    near=st.sampled_from([0.0, 1e-14, 1e-9, 1e-4, 1.0]),
    scale=st.sampled_from([1e-30, 1.0, 1e30]),
    dtype=st.sampled_from([torch.float32, DOUBLE]),
)
@example(picks=[0, 0, 0, 1, 0], near=1e-4, scale=1.0, dtype=torch.float32)
@example(picks=list(range(CHUNK + 8)), near=1.0, scale=1.0, dtype=torch.float32)
def test_directions_are_orthonormal_and_hold_what_was_admitted(
    picks: list[int], near: float, scale: float, dtype: torch.dtype
) -> None:
    """Vectors near to each other, equal ones, more of them than unknowns, and 0 among them."""
    g = torch.Generator().manual_seed(0)
    common = torch.randn(60, generator=g, dtype=DOUBLE)
    vectors = scale * (common + near * torch.randn(60, 60, generator=g, dtype=DOUBLE))
    vectors[59] = 0.0
    subspace, unit = Subspace.none(1, torch.device("cpu")), torch.finfo(dtype).eps
    for pick in picks:
        vector = vectors[pick : pick + 1].to(dtype)
        coordinates = subspace.admit(vector)
        back = subspace.moved(torch.zeros_like(vector), coordinates)
        assert torch.allclose(back, vector, rtol=0, atol=30 * unit * float(vector.abs().max()))
        assert coordinates.shape == subspace.matrix.shape[:2]
    U = rows(subspace)[0].double()
    gram = U @ U.T
    assert torch.allclose(gram, torch.diag(gram.diagonal().round()), rtol=0, atol=100 * unit)
    assert set(gram.diagonal().round().tolist()) <= {0.0, 1.0}
    if near in (0.0, 1.0):  # else rounding decides
        assert int(gram.trace().round()) == torch.linalg.matrix_rank(vectors[picks] / scale, tol=20 * unit * 60)


@given(count=st.integers(3, CHUNK + 8), rank=st.integers(0, CHUNK + 6), held=st.integers(1, 2), seed=st.integers(0, 99))
@example(count=32, rank=20, held=2, seed=0)
@example(count=CHUNK + 8, rank=CHUNK + 2, held=2, seed=1)
def test_what_is_kept_is_near_the_largest_part(count: int, rank: int, held: int, seed: int) -> None:
    """Of all subspaces of `rank` directions the eigenvectors of `M M^T + M^T M` bound best what is lost."""
    rank = min(rank, count - held)
    subspace = filled(count, seed=seed)
    M, before = subspace.matrix[0].clone(), matrix(subspace)[0]
    known = torch.randn(1, held, len(M), dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))
    known[:, :, count:] = 0.0
    vectors = known[0] @ rows(subspace)[0]
    after = subspace.reduce(rank, known)
    assert subspace.count == rank + held
    U = rows(subspace)[0]
    gram = U @ U.T
    assert torch.allclose(gram, torch.diag(torch.arange(len(U)) < rank + held).to(DOUBLE), rtol=0, atol=1e-12)
    assert torch.allclose(after[0] @ U, vectors, rtol=0, atol=1e-9)
    lost = torch.linalg.matrix_norm(matrix(subspace)[0] - before)
    tail = torch.linalg.eigvalsh(M @ M.T + M.T @ M)[: len(M) - rank].sum().clamp(min=0.0).sqrt()
    assert lost <= 1.2 * tail + 1e-9 if rank else not bool(subspace.matrix.any())


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_each_problem_admits_by_itself(dtype: torch.dtype) -> None:
    """To the bit: vectors of which much, little and nothing is new, and one that is not finite, beside each other."""
    g = torch.Generator().manual_seed(0)
    vectors = torch.randn(12, 5, 200, generator=g, dtype=dtype)
    for number in range(1, 12):
        vectors[number, 1] = vectors[number - 1, 1] + 1e-3 * vectors[number, 1]
        vectors[number, 2] = vectors[0, 2]
    vectors[7, 3, 0] = torch.nan
    together = Subspace.none(5, torch.device("cpu"))
    alone = [Subspace.none(1, torch.device("cpu")) for _ in range(5)]
    for number in range(12):
        coordinates = together.admit(vectors[number])
        for row, subspace in enumerate(alone):
            own = subspace.admit(vectors[number, row : row + 1])
            assert torch.equal(own[0].nan_to_num(nan=-1.0), coordinates[row].nan_to_num(nan=-1.0))
    for row, subspace in enumerate(alone):
        assert torch.equal(rows(subspace)[0], rows(together)[row])
    U = rows(together)[[0, 1, 4], :12].double()
    assert torch.allclose(U @ U.mT, torch.eye(12, dtype=DOUBLE), rtol=0, atol=100 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_blocks_are_used_again(dtype: torch.dtype) -> None:
    """What a reduction leaves is written over, and nothing that is held changes with it."""
    g = torch.Generator().manual_seed(0)
    subspace, fresh = Subspace.none(2, torch.device("cpu")), Subspace.none(2, torch.device("cpu"))
    memory = set()
    for turn in range(4):
        for _ in range(CHUNK + 4 - subspace.count):
            vectors = torch.randn(2, 80, generator=g, dtype=dtype)
            assert torch.equal(subspace.admit(vectors), fresh.admit(vectors))
        assert torch.equal(rows(subspace), rows(fresh))
        memory |= {block.data_ptr() for block in subspace.blocks}
        held = torch.randn(2, 2, 2 * CHUNK, generator=g, dtype=DOUBLE)
        held[:, :, CHUNK + 4 :] = 0.0
        assert torch.equal(subspace.reduce(20, held), fresh.reduce(20, held))
        fresh.spare = []
        assert subspace.count == 22, turn
    assert len(memory) == 3  # two to reduce, one to reduce into


@pytest.mark.parametrize("rank", [0, 1, 5, CHUNK])
def test_each_problem_is_reduced_by_itself(rank: int) -> None:
    """To the bit; a dropped one and numbers that are not finite in another included."""
    together = filled(CHUNK + 3, problems=4)
    together.matrix[1, 2, 3] = torch.inf
    together.drop(torch.tensor([2]))
    held = torch.randn(4, 1, 2 * CHUNK, dtype=DOUBLE, generator=torch.Generator().manual_seed(5))
    held[:, :, CHUNK + 3 :] = 0.0
    alone = [together.narrowed(torch.tensor([row])) for row in range(4)]
    after = together.reduce(rank, held)
    result = matrix(together)
    for row, subspace in enumerate(alone):
        own = subspace.reduce(rank, held[row : row + 1])
        assert torch.equal(matrix(subspace)[0], result[row])
        assert torch.equal(own[0], after[row])
    one = torch.eye(90, dtype=DOUBLE)
    assert torch.equal(result[1], one)
    assert torch.equal(result[2], one)
    assert not bool(after[1].any())
    assert bool(after[2].any())
    if rank:
        assert not torch.allclose(result[0], one)
        assert not torch.allclose(result[3], one)


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_a_matrix_of_lower_rank_is_kept_whole(dtype: torch.dtype) -> None:
    """Directions that hold nothing are no part of what is kept: one of the admitted was there already."""
    g = torch.Generator().manual_seed(0)
    subspace = Subspace.none(1, torch.device("cpu"))
    for vector in torch.randn(4, 1, 40, generator=g)[[0, 1, 1, 2, 3]]:
        subspace.admit(vector.to(dtype))
    assert [bool(row.any()) for row in rows(subspace)[0, :5]] == [True, True, False, True, True]
    subspace.matrix[0, 0, 1] = subspace.matrix[0, 3, 0] = 0.5
    before, unit = matrix(subspace), torch.finfo(dtype).eps
    subspace.reduce(3, torch.eye(1, CHUNK, dtype=DOUBLE)[None])
    assert torch.allclose(matrix(subspace), before, rtol=0, atol=10 * unit)
    U = rows(subspace)[0].double()
    gram = U @ U.T
    assert torch.allclose(gram, torch.diag(gram.diagonal().round()), rtol=0, atol=10 * unit)
