"""Operators whose constants are known exactly, for tests."""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor


def householder(size: int, generator: torch.Generator) -> Tensor:
    """An orthogonal matrix with dyadic entries: `I - 2 v v^T / n`, v of signs, n a power of two."""
    signs = torch.randint(0, 2, (size,), generator=generator).double() * 2 - 1
    return torch.eye(size, dtype=torch.float64) - 2 * torch.outer(signs, signs) / size


def matrix_of_norm(size: int, norm: Fraction, generator: torch.Generator) -> Tensor:
    """A dense matrix whose l2 norm is exactly `norm` (a dyadic number of at most 36 fractional bits).

    `H_1 diag(norm, s_2, ..) H_2` with dyadic orthogonal H: every product and sum is exact in float64. The
    singular values besides the first lie in [1/4, 3/4].
    """
    assert size & (size - 1) == 0
    assert (norm * 2**36).denominator == 1
    values = torch.randint(64, 193, (size,), generator=generator).double() / 256
    values[0] = float(norm)
    left, right = householder(size, generator), householder(size, generator)
    return left @ torch.diag(values) @ right


def dyadic(value: Fraction | float) -> Fraction:
    """The nearest dyadic number with 36 fractional bits."""
    return Fraction(round(Fraction(value) * 2**36), 2**36)


class TanhLayer(torch.nn.Module):
    """`tanh(W z + U x + b)` on states (batch, n)."""

    def __init__(self, weight: Tensor, inputs: int, generator: torch.Generator) -> None:
        super().__init__()
        size, dtype = weight.shape[0], weight.dtype
        self.W = torch.nn.Parameter(weight)
        self.U = torch.nn.Parameter(torch.randn(size, inputs, generator=generator, dtype=dtype))
        self.b = torch.nn.Parameter(torch.randn(size, generator=generator, dtype=dtype))

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(z @ self.W.T + x @ self.U.T + self.b)
