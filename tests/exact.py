"""Exact arithmetic that bounds are compared with; what the campaign has of it, it has from there."""

from __future__ import annotations

import itertools
from fractions import Fraction

import torch
from flint import arb, ctx, fmpq, fmpq_mat
from torch import Tensor

from campaign._exact import is_semidefinite, norm_at_most, rational, rational_matrix

__all__ = [
    "ball",
    "bounds_norm",
    "bounds_rational_norm",
    "fractions",
    "is_positive_semidefinite",
    "rational",
    "rational_matrix",
    "relu_equilibria",
    "seeded",
]
ctx.prec = 300


def ball(value: float) -> arb:
    """A float as a ball of radius 0."""
    numerator, denominator = float(value).as_integer_ratio()
    return arb(numerator) / arb(denominator)


def fractions(tensor: Tensor) -> list[list[Fraction]]:
    return [[Fraction(v) for v in row] for row in tensor.tolist()]


def is_positive_semidefinite(matrix: fmpq_mat) -> bool:
    """Exactly, whatever the denominators."""
    return is_semidefinite(matrix.numer_denom()[0])


def bounds_norm(tensor: Tensor, bound: float) -> bool:
    """Whether `||W||_2 <= bound`, exactly."""
    return bounds_rational_norm(rational_matrix(tensor), bound)


def bounds_rational_norm(w: fmpq_mat, bound: float) -> bool:
    """Whether `||W||_2 <= bound`, exactly."""
    return norm_at_most(w, "l2", rational(bound))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def relu_equilibria(weight: Tensor, x: Tensor) -> list[list[Fraction]]:
    """All y with y = relu(W y + x), exactly."""
    w, c, size = fractions(weight.double()), [Fraction(v) for v in x.tolist()], len(x)
    found: list[list[Fraction]] = []
    for active in itertools.product((False, True), repeat=size):
        rows = [[Fraction(int(i == j)) - (w[i][j] if active[i] else 0) for j in range(size)] for i in range(size)]
        matrix = fmpq_mat(size, size, [fmpq(v.numerator, v.denominator) for row in rows for v in row])
        if matrix.det() == 0:
            continue
        right = [fmpq(v.numerator, v.denominator) if on else fmpq(0) for v, on in zip(c, active, strict=True)]
        solved = matrix.solve(fmpq_mat(size, 1, right))
        y = [Fraction(int(solved[i, 0].p), int(solved[i, 0].q)) for i in range(size)]
        before = [sum((w[i][j] * y[j] for j in range(size)), c[i]) for i in range(size)]
        if all(v == max(b, 0) for v, b in zip(y, before, strict=True)) and y not in found:
            found.append(y)
    return found
