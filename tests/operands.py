"""Matrices for tests of norm bounds, with their exact rational values."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from exact import bounds_rational_norm, rational_matrix, seeded
from flint import fmpq, fmpq_mat
from hypothesis import strategies as st
from torch import Tensor

from campaign._exact import diagonal, rationals

KINDS = ["plain", "integers", "rank one", "scaled columns", "orthogonal", "subnormal"]
CLOSE = 1 + 1e-10


def matrix(kind: str, rows: int, cols: int, seed: int) -> Tensor:
    generator = seeded(seed)
    base = torch.randn(rows, cols, generator=generator, dtype=torch.float64)
    if kind == "integers":
        return (3 * base).round()
    if kind == "rank one":
        return torch.outer(base[:, 0], base[0])
    if kind == "scaled columns":
        powers = torch.randint(-60, 60, (cols,), generator=generator)
        return base * torch.tensor([10.0 ** int(p) for p in powers], dtype=torch.float64)
    if kind == "orthogonal":
        size = max(rows, cols)
        return torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0][:rows, :cols]
    return base * 2.0**-1060 if kind == "subnormal" else base


@st.composite
def chains(draw: st.DrawFn, factors: int = 2, kinds: Sequence[str] = KINDS) -> list[Tensor]:
    """Matrices of matching shapes."""
    sizes = [draw(st.integers(1, 6)) for _ in range(factors + 1)]
    seed = draw(st.integers(0, 10**6))
    return [matrix(draw(st.sampled_from(kinds)), sizes[k], sizes[k + 1], seed + k) for k in range(factors)]


def exact_product(factors: Sequence[Tensor]) -> fmpq_mat:
    total = rational_matrix(factors[0].double())
    for factor in factors[1:]:
        total = total * rational_matrix(factor.double())
    return total


def exact_diagonal(d: Tensor) -> fmpq_mat:
    return diagonal(rationals(d))


def largest_sum(w: fmpq_mat, order: str) -> fmpq:
    """The exact norm in l1 (column sums) or linf (row sums)."""
    moduli = [[abs(w[i, j]) for j in range(w.ncols())] for i in range(w.nrows())]
    lines = list(zip(*moduli, strict=True)) if order == "l1" else moduli
    return max(sum(line, fmpq(0)) for line in lines)


def is_closely_above(w: fmpq_mat, upper: float, close: float = CLOSE) -> bool:
    """Whether upper bounds `||W||_2` and upper / close does not; tiny bounds need only be bounds."""
    return bounds_rational_norm(w, upper) and (upper < 1e-290 or not bounds_rational_norm(w, upper / close))
