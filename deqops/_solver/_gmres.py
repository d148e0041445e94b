"""GMRES on `(I - J) s = r` for a batch of problems, each by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

Product = Callable[[Tensor, Tensor], Tensor]
"""`J v` from v, (problems, unknowns), and the problems whose product is used, (problems,) bool."""

DEGENERATE = 10.0
"""A column is nothing but rounding below this many units of rounding of its length."""


@dataclass(frozen=True)
class Reduced:
    """Steps of the linear problems and what they leave of them."""

    step: Tensor  # (problems, unknowns): s; 0 where no product was allowed
    left: Tensor  # (problems,): ||r - (I - J) s||, of ||r|| = 1


@dataclass
class _Krylov:
    """Arnoldi's basis of J and the QR factorisation `H = Q R` of I - J in it, by Givens rotations."""

    basis: Tensor  # (problems, room, unknowns), orthonormal rows; grows as needed
    turned: Tensor  # (problems, size + 1, size + 1): Q^T
    triangle: Tensor  # (problems, size, size): R
    goal: Tensor  # (problems, size + 1): Q^T e_1; the last entry's magnitude is what is left of r
    sound: Tensor  # (problems,) bool: the newest column is independent
    size: int


def gmres(product: Product, target: Tensor, enough: Tensor, most: Tensor) -> Reduced:
    """Steps s that make `||r - (I - J) s||` smallest over the Krylov spaces of J and r.

    Each problem ends by itself, with the numbers it has then: once what is left is `enough`, after `most` products,
    or where its space is exhausted. Whatever companions do afterwards changes none of its bits.

    Args:
        product: J.
        target: r, of length 1, (problems, unknowns).
        enough: what may be left of r, (problems,).
        most: the largest number of products, (problems,) int64; 0 for a problem that is not solved.

    Source: Saad and Schultz, SIAM J. Sci. Stat. Comput. 7, 1986. The spaces of J and of I - J are the same, and
    J v loses less to cancellation; Gram-Schmidt twice is orthogonal to rounding (Giraud, Langou, Rozloznik and van
    den Eshof, Numer. Math. 101, 2005).
    """
    active = most > 0
    found = Reduced(torch.zeros_like(target), torch.ones_like(enough))
    krylov = _begin(target)
    while bool(active.any()):
        direction = torch.where(active[:, None], krylov.basis[:, krylov.size], 0.0)
        image = product(direction, active).to(target.dtype)
        exhausted = _extend(krylov, image)
        left = torch.where(krylov.sound, krylov.goal[:, -1].abs(), krylov.goal[:, -2].abs())
        ended = active & ((left <= enough) | (most <= krylov.size) | exhausted)
        if bool(ended.any()):
            step = torch.where(ended[:, None], _solution(krylov), found.step)
            found = Reduced(step, torch.where(ended, left, found.left))
        active = active & ~ended
    return found


def _begin(target: Tensor) -> _Krylov:
    one = target.new_ones(target.shape[0], 1)
    empty = target.new_zeros(target.shape[0], 0, 0)
    sound = torch.ones_like(one[:, 0], dtype=torch.bool)
    return _Krylov(target[:, None], one[:, :, None], empty, one, sound, 0)


def _extend(krylov: _Krylov, image: Tensor) -> Tensor:
    """Take over J v of the newest v; which problems' spaces cannot grow, (problems,) bool."""
    size = krylov.size
    basis = krylov.basis[:, : size + 1]
    length = torch.linalg.vector_norm(image, dim=1)
    rest, inside = _orthogonalised(basis, image)
    beyond = torch.linalg.vector_norm(rest, dim=1)
    floor = DEGENERATE * torch.finfo(image.dtype).eps
    grows = (beyond > floor * length) & length.isfinite()
    beyond = torch.where(grows, beyond, 0.0)
    _remember(krylov, torch.where(grows[:, None], rest / torch.where(grows, beyond, 1.0)[:, None], 0.0))
    column = -inside
    column[:, size] += 1.0  # H of I - J from that of J
    _rotate(krylov, column, -beyond, floor * (1 + length))
    exhausted: Tensor = ~grows
    return exhausted


def _orthogonalised(basis: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
    """What of J v is across the basis, and its components along it: Gram-Schmidt twice, inside a problem."""
    row = image[:, None]  # products of rows with matrices take a tenth of the time of those with columns
    first = torch.bmm(row, basis.mT)
    rest = row - torch.bmm(first, basis)
    second = torch.bmm(rest, basis.mT)
    return (rest - torch.bmm(second, basis))[:, 0], (first + second)[:, 0]


def _remember(krylov: _Krylov, vector: Tensor) -> None:
    """Append a basis vector; the room doubles where it is used up."""
    krylov.size += 1
    room = krylov.basis.shape[1]
    if krylov.size == room:
        krylov.basis = pad(krylov.basis, (0, 0, 0, room))
    krylov.basis[:, krylov.size] = vector


def _rotate(krylov: _Krylov, column: Tensor, beyond: Tensor, floor: Tensor) -> None:
    """Append the column (column, beyond) to H; one more rotation makes it triangular."""
    turned = torch.bmm(column[:, None], krylov.turned.mT)[:, 0]  # (problems, size)
    pivot = turned[:, -1]
    length = torch.hypot(pivot, beyond)
    safe = torch.where(length > 0, length, 1.0)
    cosine, sine = torch.where(length > 0, pivot / safe, 1.0)[:, None], (beyond / safe)[:, None]
    krylov.sound = (length > floor) & length.isfinite()
    krylov.triangle = pad(krylov.triangle, (0, 1, 0, 1))
    krylov.triangle[:, :, -1] = torch.cat([turned[:, :-1], length[:, None]], dim=1)
    rows = pad(krylov.turned, (0, 1, 0, 1))
    rows[:, -1, -1] = 1.0
    upper, lower = rows[:, -2].clone(), rows[:, -1].clone()
    rows[:, -2], rows[:, -1] = cosine * upper + sine * lower, cosine * lower - sine * upper
    krylov.turned, krylov.goal = rows, rows[:, :, 0]


def _solution(krylov: _Krylov) -> Tensor:
    """The smallest residual's step in the space so far; a last column that depends on the others is left out."""
    triangle, goal = krylov.triangle.clone(), krylov.goal[:, :-1].clone()
    triangle[:, -1, -1] = torch.where(krylov.sound, triangle[:, -1, -1], 1.0)
    goal[:, -1] = torch.where(krylov.sound, goal[:, -1], 0.0)
    weights = torch.linalg.solve_triangular(triangle, goal[:, :, None], upper=True)
    return torch.bmm(weights.mT, krylov.basis[:, : krylov.size])[:, 0]
