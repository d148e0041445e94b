"""Where slopes that move together make a chain's derivative large, and which numbers bound it: proposals, in floats.

The derivative at the state of t is `Y_x + Y_w (I - S V_w)^-1 S V_x`, S = diag(sigma(t)). Its largest singular vectors
say how much each slope counts; the state is moved to where the lines beside the slopes make the most of that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ._coupling import Coupling, Lines
from ._later_layers import squares_of_later_layers

_ROUNDS, _SETTLING = 12, 8
_WORTHWHILE = 1 - 2.0**-10  # of the constant that is known
_EVEN = 0.5  # of the first moments: in all directions alike
_STEPS = 7
_GAP = 2e-3  # relative: between the bound and what these lines allow at best
_STEP, _LONGER, _SHORTER = 10.0, 1.3, 0.4
_FLOOR = 5e-5  # of a moment in any direction


@dataclass(frozen=True, eq=False)
class Steepest:
    """The state where the largest derivative was met.

    Attributes:
        t: (n,).
        size: its l2 norm there, an estimate of the bound from below.
        direction: (u, x) / sqrt(2), the largest singular vectors.
        counts: how much each slope counts there, (m,).
    """

    t: Tensor
    size: float
    direction: Tensor
    counts: Tensor


def steepest(coupling: Coupling) -> Steepest | None:
    """The largest of a few rounds; None where numbers overflow."""
    n, best = coupling.chain.unknowns, None
    t = torch.zeros(n, dtype=torch.float64)
    for _ in range(_ROUNDS):
        here = _at(coupling, t)
        if here is None:
            break
        if best is not None and not here.size > best.size * (1 + 1e-9):
            break
        best = here
        rows = coupling.lines(t, here.counts > 0).rows
        t = _furthest(coupling, here.counts @ rows)
    return best


def _settled(coupling: Coupling, found: Steepest) -> Tensor:
    """About where the lines beside the slopes, and not the slopes themselves, make the most of what counts.

    Frank and Wolfe's method on a concave function, that of the nearest lines: touching there they bound it best.
    """
    t = found.t
    for k in range(_SETTLING):
        rows = coupling.lines(t, found.counts > 0).rows
        t = t + (2 / (k + 3)) * (_furthest(coupling, found.counts @ rows) - t)
    return t


def _furthest(coupling: Coupling, a: Tensor) -> Tensor:
    """The t of the unit ball with the largest `a . t`."""
    if coupling.order == "linf":
        return torch.where(a < 0, -1.0, 1.0).to(torch.float64)
    if coupling.order == "l2":
        return torch.nn.functional.normalize(a, dim=0)
    one = torch.zeros_like(a)
    one[a.abs().argmax()] = a[a.abs().argmax()].sign()
    return one


def _at(coupling: Coupling, t: Tensor) -> Steepest | None:
    chain, n = coupling.chain, coupling.chain.unknowns
    sigma = coupling.sigma_estimate(t)
    Y, V = chain.Y.mid, chain.V.mid
    inner = torch.eye(len(sigma), dtype=torch.float64) - sigma[:, None] * V[:, n:]
    w = torch.linalg.solve_triangular(inner, sigma[:, None] * V[:, :n], upper=False)
    J = Y[:, :n] + Y[:, n:] @ w
    if not J.numel() or not bool(J.isfinite().all()):
        return None
    u, sizes, x = torch.linalg.svd(J, full_matrices=False)
    v = V[:, :n] @ x[0] + V[:, n:] @ (w @ x[0])
    pulled = torch.linalg.solve_triangular(inner.T, (Y[:, n:].T @ u[:, 0])[:, None], upper=True)[:, 0]
    direction = torch.cat([u[:, 0], x[0]]) / 2**0.5
    return Steepest(t, float(sizes[0]), direction, pulled * v)


# ------------------------------------------------------------------------------------------------ numbers that bound


@dataclass(frozen=True, eq=False)
class Choice:
    """What `_coupled_gain.py` asks for, in its names.

    Attributes:
        rho: about the bound that these numbers give.
        lines: beside the slopes.
        a: (m,), of part 3.
        b: (m,), of part 4; of layers that read others.
        share: (m,), s in `(q + r)^2 <= (1 + s) q^2 + (1 + 1/s) r^2`.
        scale: (m,), about the sizes of w.
        factors: of part 2.
    """

    rho: float
    lines: Lines
    a: Tensor
    b: Tensor
    share: Tensor
    scale: Tensor
    factors: tuple[Tensor, Tensor]


def proposal(coupling: Coupling, below: float) -> Choice | None:
    """The best choice that was found; None where it promises no bound below `below`, or numbers overflow.

    The least bound over all choices is the largest `<Z, H(Z)>` over moments Z of (u, x), a concave function, H(Z) the
    sum of the forms that are best for Z and its derivative. Steps `log Z + s H(Z)` (exponentiated gradients: Tsuda,
    Raetsch and Warmuth, J. Mach. Learn. Res. 6, 2005) go uphill.
    """
    try:
        return _proposal(coupling, below)
    except RuntimeError:  # of matrices with infinite entries
        return None


def _proposal(coupling: Coupling, below: float) -> Choice | None:
    found = steepest(coupling)
    if found is None or not found.size < below * _WORTHWHILE:
        return None
    search = _Search(coupling, coupling.lines(_settled(coupling, found), found.counts > 0))
    Z = (1 - _EVEN) * torch.outer(found.direction, found.direction) + _EVEN * _even(search.size)
    best, Z_best, attainable, step, last = math.inf, Z, found.size, _STEP, math.inf
    for _ in range(_STEPS):
        total = search.total(Z)
        if not bool(total.isfinite().all()):
            break
        rho, least = 2 * float(torch.linalg.eigvalsh(total)[-1]), 2 * float((Z * total).sum())
        attainable = max(attainable, least)
        if rho < best:
            best, Z_best = rho, Z
        if not attainable < min(below * _WORTHWHILE, best / (1 + _GAP)):
            break
        step, last = step * (_LONGER if rho < last else _SHORTER), rho
        Z = _uphill(Z, total * (2 / rho), step)
    return search.choice(Z_best, best) if best < below else None


def _even(size: int) -> Tensor:
    return torch.eye(size, dtype=torch.float64) / size


def _uphill(Z: Tensor, H: Tensor, step: float) -> Tensor:
    values, vectors = torch.linalg.eigh(Z)
    exponent = (vectors * values.clamp(min=_FLOOR).log()) @ vectors.T + step * H
    values, vectors = torch.linalg.eigh((exponent + exponent.T) / 2)
    weights = torch.exp(values - values[-1])
    weights = weights / weights.sum() + _FLOOR
    moments: Tensor = (vectors * (weights / weights.sum())) @ vectors.T
    return moments


class _Search:
    """The forms for moments Z of (u, x), of trace 1: each number in them is the best one for Z."""

    def __init__(self, coupling: Coupling, lines: Lines) -> None:
        self._coupling, self._lines, chain, n = coupling, lines, coupling.chain, coupling.chain.unknowns
        self._outputs, self.size = chain.Y.shape[0], chain.Y.shape[0] + n
        self._first = chain.Y.mid[:, :n]
        none = torch.zeros(len(lines.rest), self._outputs, dtype=torch.float64)
        self._p = torch.cat([chain.Y.mid[:, n:].T, torch.zeros_like(chain.V.mid[:, :n])], dim=1)  # p = P (u, x)
        self._q = torch.cat([none, chain.V.mid[:, :n]], dim=1)

    def total(self, Z: Tensor) -> Tensor:
        """The sum of all forms, in floats."""
        lines, m = self._lines, self._outputs
        a, b, share, scale = self._numbers(Z)
        later = squares_of_later_layers(self._coupling.chain, b, share, scale)
        total = self._of_the_state(Z)
        total += (self._p.T * (lines.rest * a / 2 + later[0])) @ self._p
        total += (self._q.T * (lines.rest / a / 2 + later[1])) @ self._q
        middle = (self._p.T * (lines.middle / 2)) @ self._q
        total += middle + middle.T
        total[:m, m:] += self._first / 2
        total[m:, :m] += self._first.T / 2
        return total

    def choice(self, Z: Tensor, rho: float) -> Choice:
        """The numbers for Z, and the factors of part 2."""
        return Choice(rho, self._lines, *self._numbers(Z), self._factors(Z))

    def _numbers(self, Z: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """a, b, share and scale."""
        p, q = (((side @ Z) * side).sum(dim=1).clamp(min=1e-300).sqrt() for side in (self._p, self._q))
        chain, read, scale = self._coupling.chain, torch.zeros_like(q), q.clone()
        inside = chain.V.mid[:, chain.unknowns :].square()
        for rows in chain.layers:
            read[rows] = (inside[rows] @ scale.square()).clamp(min=1e-300).sqrt()
            scale[rows] = (q[rows].square() + read[rows].square()).sqrt()
        b, share = p / read, (read / q).clamp(1e-6, 1e6)
        on_p, on_q = squares_of_later_layers(chain, b, share, scale)
        costs = float((on_p * p.square()).sum()), float((on_q * q.square()).sum())
        balance = (costs[0] / costs[1]) ** 0.5 if min(costs) > 0 else 1.0
        return q / p, b * balance, share, scale

    def _of_the_state(self, Z: Tensor) -> Tensor:
        left, right = self._factors(Z)
        if self._coupling.order == "l2":
            stacked = right.reshape(-1, self.size)
            return (left @ left.T + stacked.T @ stacked) / 2
        sides = (side.permute(1, 0, 2).reshape(side.shape[1], -1) for side in (left, right))
        return torch.block_diag(*(side @ side.T / 2 for side in sides))  # type: ignore[no-untyped-call, no-any-return]

    def _factors(self, Z: Tensor) -> tuple[Tensor, Tensor]:
        return self._over_ball(*_roots(Z)) if self._coupling.order == "l2" else self._over_cube(Z)

    def _over_cube(self, Z: Tensor) -> tuple[Tensor, Tensor]:
        """A_k and C_k with `G_k = A_k C_k^T`, `|A_k^T u|^2 + |C_k^T x|^2` least in the mean."""
        m = self._outputs
        (half_u, inverse_u), (half_x, inverse_x) = _roots(Z[:m, :m]), _roots(Z[m:, m:])
        p, q = self._p[:, :m] @ half_u, self._q[:, m:] @ half_x
        left, right = _balanced(p.T @ (self._lines.rows.T[:, :, None] * q))
        return inverse_u @ left, inverse_x @ right

    def _over_ball(self, half: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor]:
        plain, moved = self._forms(torch.eye(self.size, dtype=torch.float64)), self._forms(half)
        side = moved.reshape(-1, self.size)
        sizes, axes = torch.linalg.eigh(side.T @ side)
        L = inverse @ (axes * sizes.clamp(min=1e-24 * float(sizes[-1]) + 1e-300) ** 0.25)
        return L, torch.linalg.solve(L, plain)

    def _forms(self, half: Tensor) -> Tensor:
        """`half F_k half`, (n, N, N)."""
        p, q = self._p @ half, self._q @ half
        product = p.T @ (self._lines.rows.T[:, :, None] * q)
        symmetric: Tensor = (product + product.mT) / 2
        return symmetric


def _balanced(B: Tensor) -> tuple[Tensor, Tensor]:
    """U and V with `B = U V^T`, whose columns are orthogonal and as long in U as in V."""
    if B.shape[-2] > B.shape[-1]:
        right, left = _balanced(B.mT)
        return left, right
    axes = torch.linalg.eigh(B @ B.mT)[1]
    images = B.mT @ axes
    lengths = torch.linalg.vector_norm(images, dim=-2, keepdim=True)
    roots = lengths.clamp(min=1e-12 * float(lengths.max()) + 1e-150).sqrt()
    return axes * roots, images / roots


def _roots(Z: Tensor) -> tuple[Tensor, Tensor]:
    """`Z^(1/2)` and its inverse."""
    values, vectors = torch.linalg.eigh(Z)
    root = values.clamp(min=float(values[-1]) * 1e-12).sqrt()
    return (vectors * root) @ vectors.T, (vectors / root) @ vectors.T
