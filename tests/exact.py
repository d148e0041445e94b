"""Exact arithmetic that bounds are compared with."""

from __future__ import annotations

import itertools
from fractions import Fraction

import torch
from flint import arb, ctx, fmpq, fmpq_mat
from torch import Tensor

ctx.prec = 300


def ball(value: float) -> arb:
    """A float as a ball of radius 0."""
    numerator, denominator = float(value).as_integer_ratio()
    return arb(numerator) / arb(denominator)


def rational(value: float) -> fmpq:
    numerator, denominator = float(value).as_integer_ratio()
    return fmpq(numerator, denominator)


def fractions(tensor: Tensor) -> list[list[Fraction]]:
    return [[Fraction(v) for v in row] for row in tensor.tolist()]


def rational_matrix(tensor: Tensor) -> fmpq_mat:
    rows, cols = tensor.shape
    return fmpq_mat(rows, cols, [rational(v) for v in tensor.reshape(-1).tolist()])


def is_positive_semidefinite(matrix: fmpq_mat) -> bool:
    """Exactly, by symmetric elimination: every pivot >= 0, and a zero pivot only with a zero row."""
    size = matrix.nrows()
    a = [[matrix[i, j] for j in range(size)] for i in range(size)]
    for k in range(size):
        if a[k][k] < 0 or (a[k][k] == 0 and any(a[i][k] != 0 for i in range(k + 1, size))):
            return False
        if a[k][k] == 0:
            continue
        for i in range(k + 1, size):
            factor = a[i][k] / a[k][k]
            for j in range(k + 1, size):
                a[i][j] = a[i][j] - factor * a[k][j]
    return True


def bounds_norm(tensor: Tensor, bound: float) -> bool:
    """Whether `||W||_2 <= bound`, exactly."""
    return bounds_rational_norm(rational_matrix(tensor), bound)


def bounds_rational_norm(w: fmpq_mat, bound: float) -> bool:
    """Whether `||W||_2 <= bound`, exactly: `bound^2 I - W^T W` is positive semidefinite."""
    square = rational(bound) * rational(bound)
    size = w.ncols()
    identity = fmpq_mat(size, size, [square if i == j else fmpq(0) for i in range(size) for j in range(size)])
    return is_positive_semidefinite(identity - w.transpose() * w)


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
