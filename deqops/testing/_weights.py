"""Matrices of which the norm, the spectral radius or the row sums are known exactly, at 1 or off it by a known step.

All entries are dyadic with few digits, so that float64 computes them without a rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import torch
from torch import Tensor

from ._choices import Choices, one_of


def doubles(values: Sequence[float] | Sequence[Sequence[float]]) -> Tensor:
    """Numbers as float64."""
    return torch.tensor(values, dtype=torch.float64)


def reflection(signs: Tensor) -> Tensor:
    """`I - 2 v v^T / n` for a vector v of n signs: orthogonal, and dyadic where n is a power of two."""
    size = len(signs)
    return torch.eye(size, dtype=signs.dtype) - 2 * torch.outer(signs, signs) / size


def with_singular_values(values: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """`H_1 diag(values) H_2` with the reflections of two vectors of signs."""
    return reflection(left) @ torch.diag(values) @ reflection(right)


def signs(choices: Choices, size: int) -> Tensor:
    """Ones of either sign."""
    return 2 * doubles(choices.integers(size, 0, 1)) - 1


def rotation(choices: Choices, size: int) -> Tensor:
    """Orthogonal and dyadic: a reflection where the size is a power of two, else a permutation with signs."""
    return signed_permutation(choices, size) if size & (size - 1) else reflection(signs(choices, size))


def signed_permutation(choices: Choices, size: int) -> Tensor:
    """A permutation matrix with signs: norm 1 in l1, l2 and linf."""
    order = choices.order(size)
    return torch.eye(size, dtype=torch.float64)[order] * signs(choices, size)


def matrix_of_norm(choices: Choices, size: int, norm: Fraction, *, least: int = 0, most: int = 8) -> Tensor:
    """(size, size) of l2 norm exactly `norm`, which has at most 36 binary places; size a power of two up to 256.

    The others are `least` to `most` eighths of it, in 256ths: every product and sum is exact in float64.
    """
    others = [math.floor(256 * norm * k / 8) / 256 for k in choices.integers(size - 1, least, most)]
    values = doubles([float(norm), *others])
    return with_singular_values(values, signs(choices, size), signs(choices, size))


def shares(choices: Choices, parts: int, whole: Fraction) -> list[float]:
    """So many numbers of either sign whose moduli are eighths of `whole` and sum up to it; none for no parts."""
    if not parts:
        return []
    most = 8 // parts
    rest = choices.integers(parts - 1, 0, most)
    moduli = [8 - sum(rest), *rest]
    turned = choices.integers(parts, 0, 1)
    return [float(whole * k / 8) * (1 - 2 * turn) for k, turn in zip(moduli, turned, strict=True)]


# -------------------------------------------------------------------------------------- at the theorems' limits


def step(choices: Choices) -> float:
    """0, or a power of two of either sign, small enough that products with 3-bit numbers stay exact."""
    return float(choices.integer(-1, 1)) * math.ldexp(1.0, -choices.integer(1, 36))


def known_norm(choices: Choices, size: int) -> Tensor:
    """l2 norm exactly 1, or off by a step."""
    values = doubles(choices.integers(size, -6, 6)) / 8
    values[0] = 1 + step(choices)
    return rotation(choices, size) @ torch.diag(values) @ rotation(choices, size)


def known_radius(choices: Choices, size: int) -> Tensor:
    """Spectral radius exactly 1, or off by a step, and a norm well above it."""
    upper = doubles(choices.integers(size * size, -8, 8)).reshape(size, size) / 4
    triangle = torch.triu(upper, 1) + torch.diag(doubles(choices.integers(size, -7, 7)) / 8)
    triangle[0, 0] = float(one_of(choices, (-1, 1))) * (1 + step(choices) / 2**10)
    basis = rotation(choices, size)
    return basis @ triangle @ basis.T


def scaled(choices: Choices, size: int) -> Tensor:
    """l2 norm exactly 1, or off by a step, in a diagonally weighted norm."""
    scale = torch.exp2(doubles(choices.integers(size, -4, 4)))
    return known_norm(choices, size) * scale[:, None] / scale[None, :]


def row_sums(choices: Choices, size: int) -> Tensor:
    """linf (or l1) norm exactly 1, or off by a step."""
    whole = doubles(choices.integers(size * size, -8, 8)).reshape(size, size)
    whole[0] = 0
    whole[0, choices.integer(0, size - 1)] = 16
    matrix = whole / (16 * max(1, size // 2))
    matrix[0] *= max(1, size // 2) * (1 + step(choices))
    return matrix if choices.chance(0.5) else matrix.T.contiguous()


def eighths(choices: Choices, size: int) -> Tensor:
    """Eighths up to 3/2."""
    return doubles(choices.integers(size * size, -12, 12)).reshape(size, size) / 8


def permutation(choices: Choices, size: int) -> Tensor:
    """A permutation with signs, scaled by 1 or off by a step."""
    return signed_permutation(choices, size) * (1 + step(choices))


def trap(choices: Choices, size: int) -> Tensor:
    """Two equilibria behind relu, although a non-diagonal P has ||P W P^-1|| < 1."""
    matrix, corner = torch.zeros(size, size, dtype=torch.float64), doubles([[1.5, -2.0], [1.0, -1.2]])
    few = min(size, 2)
    matrix[:few, :few] = corner[:few, :few] * one_of(choices, (1.0, 0.9, 0.5))
    return matrix


def triangular(choices: Choices, size: int) -> Tensor:
    """Strictly triangular in some order of the unknowns: causal, whatever its norm."""
    order = choices.order(size)
    matrix = doubles(choices.integers(size * size, -24, 24)).reshape(size, size).tril(-1) / 8
    return matrix[order][:, order].contiguous()


WEIGHTS: dict[str, Callable[[Choices, int], Tensor]] = {
    "norm": known_norm,
    "radius": known_radius,
    "weighted": scaled,
    "row sums": row_sums,
    "eighths": eighths,
    "permutation": permutation,
    "trap": trap,
    "triangular": triangular,
}
"""Square matrices near the limits of the theorems, by name: `WEIGHTS[name](choices, size)`."""
