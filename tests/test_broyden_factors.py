"""Products of factors `I + w s^T`: what is applied is the product, and what is left of it after a reduction."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from deqops._solver._factors import CHUNK, Factors

DOUBLE = torch.float64


def product(count: int, size: int = 40, seed: int = 0, problems: int = 1) -> tuple[Factors, Tensor]:
    """Factors of near a half in norm, and their product as dense matrices."""
    g = torch.Generator().manual_seed(seed)
    factors = Factors.none(problems, torch.device("cpu"))
    dense = torch.eye(size, dtype=DOUBLE).expand(problems, size, size)
    for number in range(count):
        step = torch.nn.functional.normalize(torch.randn(problems, size, generator=g, dtype=DOUBLE), dim=1)
        change = 0.5 * 0.8**number * torch.randn(problems, size, generator=g, dtype=DOUBLE) / size**0.5
        factors.append(change, step)
        dense = dense + change[:, :, None] * (step[:, None] @ dense)
    return factors, dense


def matrix(factors: Factors, size: int = 40) -> Tensor:
    """The product, (problems, size, size)."""
    one = torch.eye(size, dtype=DOUBLE)
    columns = [factors.applied(one[i].expand(len(factors.products), size)) for i in range(size)]
    return torch.stack(columns, dim=2)


@given(
    count=st.integers(1, 2 * CHUNK + 2),
    kept=st.integers(0, 2 * CHUNK + 2),
    after=st.integers(0, CHUNK + 2),
    seed=st.integers(0, 99),
)
@example(count=30, kept=20, after=3, seed=0)
def test_what_is_kept_is_near_the_nearest_matrix_of_its_rank(count: int, kept: int, after: int, seed: int) -> None:
    """Eckart and Young: the nearest has the largest singular values; factors that follow multiply what is kept."""
    kept = min(kept, count)
    factors, dense = product(count, seed=seed)
    assert torch.allclose(matrix(factors), dense, rtol=0, atol=1e-12)
    rest = dense - torch.eye(40, dtype=DOUBLE)
    sizes = torch.linalg.svdvals(rest[0])
    factors.reduce(kept)
    assert factors.count == kept
    short = matrix(factors) - torch.eye(40, dtype=DOUBLE)
    assert torch.linalg.matrix_rank(short[0], tol=1e-6 * float(sizes[0])) <= kept
    nearest = torch.linalg.vector_norm(sizes[kept:])
    assert torch.linalg.vector_norm(short - rest) <= 3 * nearest + 1e-6 * sizes[0]
    expected = torch.eye(40, dtype=DOUBLE) + short
    more, product_of_more = product(after, seed=seed + 1)
    for block, steps in zip(more.changes, more.steps, strict=True):
        for slot in range(CHUNK):
            if factors.count < kept + after:
                factors.append(block[:, slot], steps[:, slot])
    assert torch.allclose(matrix(factors), product_of_more @ expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kept", [1, 5, CHUNK])
def test_each_problem_is_reduced_by_itself(kept: int) -> None:
    """To the bit; dropped factors and numbers that are not finite in one of them included."""
    together = product(CHUNK + 3, problems=4)[0]
    together.changes[0][1, 2] = torch.inf
    together.drop(torch.tensor([2]))
    alone = [together.narrowed(torch.tensor([row])) for row in range(4)]
    together.reduce(kept)
    result = matrix(together)
    for row, factors in enumerate(alone):
        factors.reduce(kept)
        assert torch.equal(matrix(factors)[0], result[row])
    one = torch.eye(40, dtype=DOUBLE)
    assert torch.equal(result[1], one)
    assert torch.equal(result[2], one)
    assert not torch.allclose(result[0], one)
    assert not torch.allclose(result[3], one)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_parallel_and_repeated_factors_are_reduced(dtype: torch.dtype) -> None:
    """Their Gram matrix is singular: what is kept is as exact as the dtype allows."""
    step = torch.nn.functional.normalize(torch.randn(1, 40, generator=torch.Generator().manual_seed(0)), dim=1)
    change = torch.randn(1, 40, generator=torch.Generator().manual_seed(1)) / 40
    factors = Factors.none(1, torch.device("cpu"))
    dense = torch.eye(40, dtype=DOUBLE)
    for sign in (1.0, -1.0, 1.0, 1.0):
        factors.append((sign * change).to(dtype), (sign * step).to(dtype))
        dense = dense + change[0].double()[:, None] * (step[0].double() @ dense)
    factors.reduce(1)
    one = torch.eye(40, dtype=dtype)
    result = torch.stack([factors.applied(one[i : i + 1])[0] for i in range(40)], dim=1)
    assert torch.allclose(result.double(), dense, rtol=0, atol=1e-2 * float(torch.finfo(dtype).eps) ** 0.5)
