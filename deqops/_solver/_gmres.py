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
ENOUGH = 0.5**0.5
"""Of the length of J v that is left across the basis: then it is orthogonal enough."""


@dataclass(frozen=True)
class Reduced:
    """Steps of the linear problems and what they leave of them."""

    step: Tensor  # (problems, unknowns): s; 0 where no product was allowed
    left: Tensor  # (problems,): ||r - (I - J) s||, of ||r|| = 1


@dataclass
class _Krylov:
    """Arnoldi's basis of J and the QR factorisation `H = Q R` of I - J in it, by Givens rotations.

    All three have room for more, which doubles where it is used up.
    """

    basis: Tensor  # (problems, room, unknowns): size + 1 orthonormal rows
    turned: Tensor  # (problems, room, room): Q^T, of order size + 1; 0 beyond
    triangle: Tensor  # (problems, room, room): R, of order size; 0 beyond
    sound: Tensor  # (problems,) bool: the newest column is independent
    size: int

    @property
    def goal(self) -> Tensor:
        """`Q^T e_1`, (problems, size + 1); the last entry's magnitude is what is left of r."""
        return self.turned[:, : self.size + 1, 0]


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
    J v loses less to cancellation; Gram-Schmidt, twice where needed (Daniel, Gragg, Kaufman and Stewart, Math. Comp.
    30, 1976), is orthogonal to rounding (Giraud, Langou, Rozloznik and van den Eshof, Numer. Math. 101, 2005).
    """
    active = most > 0
    found = Reduced(torch.zeros_like(target), torch.ones_like(enough))
    krylov = _begin(target)
    while bool(active.any()):
        direction = krylov.basis[:, krylov.size]
        if not bool(active.all()):
            direction = torch.where(active[:, None], direction, 0.0)
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
    problems = target.shape[0]
    sound = torch.ones(problems, dtype=torch.bool, device=target.device)
    return _Krylov(target[:, None], target.new_ones(problems, 1, 1), target.new_zeros(problems, 1, 1), sound, 0)


def _extend(krylov: _Krylov, image: Tensor) -> Tensor:
    """Take over J v of the newest v; which problems' spaces cannot grow, (problems,) bool."""
    size = krylov.size
    length = torch.linalg.vector_norm(image, dim=1)
    rest, inside, beyond = _orthogonalised(krylov.basis[:, : size + 1], image, length)
    floor = DEGENERATE * torch.finfo(image.dtype).eps
    grows = (beyond > floor * length) & length.isfinite()
    if not bool(grows.all()):
        beyond, rest = torch.where(grows, beyond, 0.0), torch.where(grows[:, None], rest, 0.0)
    _remember(krylov, rest / torch.where(beyond > 0, beyond, 1.0)[:, None])
    column = inside.neg_()
    column[:, size] += 1.0  # H of I - J from that of J
    _rotate(krylov, column, -beyond, floor * (1 + length))
    exhausted: Tensor = ~grows
    return exhausted


def _orthogonalised(basis: Tensor, image: Tensor, length: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What of J v is across the basis, its components along it, and the length of the former; inside a problem.

    By Gram-Schmidt, twice where the first time takes more than it leaves.
    """
    row = image[:, None]  # products of rows with matrices take a tenth of the time of those with columns
    inside = torch.bmm(row, basis.mT)
    rest = torch.baddbmm(row, inside, basis, alpha=-1)
    beyond = torch.linalg.vector_norm(rest[:, 0], dim=1)
    again = ~(beyond > ENOUGH * length)
    if bool(again.any()):
        second = torch.where(again[:, None, None], torch.bmm(rest, basis.mT), 0.0)
        rest = torch.where(again[:, None, None], torch.baddbmm(rest, second, basis, alpha=-1), rest)
        inside = inside + second
        beyond = torch.linalg.vector_norm(rest[:, 0], dim=1)
    return rest[:, 0], inside[:, 0], beyond


def _remember(krylov: _Krylov, vector: Tensor) -> None:
    """Append a basis vector."""
    krylov.size += 1
    room = krylov.basis.shape[1]
    if krylov.size == room:
        krylov.basis = pad(krylov.basis, (0, 0, 0, room))
        krylov.turned, krylov.triangle = (pad(known, (0, room, 0, room)) for known in (krylov.turned, krylov.triangle))
    krylov.basis[:, krylov.size] = vector


def _rotate(krylov: _Krylov, column: Tensor, beyond: Tensor, floor: Tensor) -> None:
    """Append the column (column, beyond) to H; one more rotation makes it triangular."""
    size = krylov.size
    turned = torch.bmm(column[:, None], krylov.turned[:, :size, :size].mT)[:, 0]
    pivot = turned[:, -1].clone()
    length = torch.hypot(pivot, beyond)
    safe = torch.where(length > 0, length, 1.0)
    cosine, sine = torch.where(length > 0, pivot / safe, 1.0), beyond / safe
    krylov.sound = (length > floor) & length.isfinite()
    turned[:, -1] = length
    krylov.triangle[:, :size, size - 1] = turned
    upper, lower = krylov.turned[:, size - 1], krylov.turned[:, size]
    torch.mul(upper[:, :size], -sine[:, None], out=lower[:, :size])
    upper[:, :size] *= cosine[:, None]
    upper[:, size], lower[:, size] = sine, cosine


def _solution(krylov: _Krylov) -> Tensor:
    """The smallest residual's step in the space so far; a last column that depends on the others is left out."""
    size = krylov.size
    triangle, goal = krylov.triangle[:, :size, :size].clone(), krylov.goal[:, :-1].clone()
    triangle[:, -1, -1] = torch.where(krylov.sound, triangle[:, -1, -1], 1.0)
    goal[:, -1] = torch.where(krylov.sound, goal[:, -1], 0.0)
    weights = torch.linalg.solve_triangular(triangle, goal[:, :, None], upper=True)
    return torch.bmm(weights.mT, krylov.basis[:, :size])[:, 0]
