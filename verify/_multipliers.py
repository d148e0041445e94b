"""Multipliers of a chain's constraints, found in floats: a proposal, believed by nobody.

    minimise s  over s and T,  with  H(s, T) = diag(s, .., s, T_1, .., T_m) - Y^T Y - V^T diag(T) V >= 0

is a semidefinite programme. The matrices B_i of `H = sum z_i B_i - Y^T Y` are `e e^T - v v^T`, but for that of s. A
step of a primal-dual interior-point method therefore costs a few products of matrices of H's order, where a general
solver forms the B_i. From H's positive diagonal all T_i > 0 along the way.

Fazlyab, Robey, Hassani, Morari and Pappas, *Efficient and accurate estimation of Lipschitz constants for deep neural
networks*, NeurIPS 2019, for the programme; Helmberg, Rendl, Vanderbei and Wolkowicz, *An interior-point method for
semidefinite programming*, SIAM J. Optim. 6 (1996), for the direction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_MOST_STEPS = 60
_GAP = 4e-3  # relative, of s: twice that of the constant
_SHORTER, _INSIDE = 0.75, 0.95
_SHORTEST = 1e-4
_START = 2.0


@dataclass(frozen=True, eq=False)
class Form:
    """Y and V as floats, and which rows of V belong to one layer."""

    Y: Tensor
    V: Tensor
    unknowns: int
    layers: tuple[slice, ...]

    @property
    def size(self) -> int:
        """The order of H."""
        return self.Y.shape[1]

    def matrix(self, s: float, T: Tensor) -> Tensor:
        """H(s, T)."""
        return self.linear(s, T) - self.Y.T @ self.Y

    def linear(self, s: float, T: Tensor) -> Tensor:
        """The part of H that is linear in s and T."""
        H = -(self.V.T * T) @ self.V
        H.diagonal()[: self.unknowns] += s
        H.diagonal()[self.unknowns :] += T
        return H

    def least_square(self, T: Tensor) -> float | None:
        """About the least s with `H(s, T) >= 0`; None where there is none."""
        return _least(self.matrix(0.0, T), slice(0, self.unknowns))

    def columns(self, layer: slice) -> slice:
        """The columns of a layer's w."""
        return slice(self.unknowns + layer.start, self.unknowns + layer.stop)


def _least(H: Tensor, block: slice) -> float | None:
    """About the least t for which adding t to a diagonal block makes it and all behind it positive semidefinite."""
    behind = slice(block.stop, len(H))
    lower, info = torch.linalg.cholesky_ex(H[behind, behind])
    if int(info) != 0 or not bool(lower.isfinite().all()):
        return None
    half = torch.linalg.solve_triangular(lower, H[behind, block], upper=False)
    complement = half.T @ half - H[block, block]
    return float(torch.linalg.eigvalsh(complement)[-1]) if bool(complement.isfinite().all()) else None


def proposed_multipliers(form: Form) -> Tensor | None:
    """T, (m,), positive, near the best one; None where none is found."""
    T = _start(form)
    s = None if T is None else form.least_square(T)
    if T is None or s is None or not 0 < s < math.inf:
        return None
    search = _Search(form, _START * s, T)
    for _ in range(_MOST_STEPS):
        if not search.step():
            break
    return search.T if bool((search.T.isfinite() & (search.T > 0)).all()) else None


def _start(form: Form) -> Tensor | None:
    """One number a layer, from the last, twice what the layers behind it ask for."""
    T = torch.zeros(form.V.shape[0], dtype=torch.float64)
    for layer in reversed(form.layers):
        least = _least(form.matrix(0.0, T), form.columns(layer))
        if least is None:
            return None
        T[layer] = _START * max(least, 1e-300)
    return T


class _Search:
    """`X H = mu I` is aimed at with mu falling; X is the dual matrix, `<B_i, X> = 0` but for s, where it is 1.

    Steps are relative to s and T, since these may differ by many orders of magnitude.
    """

    def __init__(self, form: Form, s: float, T: Tensor) -> None:
        self._form, self.s, self.T = form, s, T
        self._H = form.matrix(s, T)
        self._X: Tensor | None = None
        self._share = 0.3  # of the current mu that is aimed at

    def step(self) -> bool:
        """One step; False where it was the last one, or none could be made."""
        lower, info = torch.linalg.cholesky_ex(self._H)
        if int(info) != 0:
            return False
        P = torch.cholesky_inverse(lower)
        X = P / float(P.diagonal()[: self._form.unknowns].sum()) if self._X is None else self._X
        mu = float((X * self._H).sum()) / self._form.size
        moved = _Direction(self._form, P, X, self.s, self.T).towards(self._share * mu)
        if moved is None or not mu > 0:
            return False
        ds, dT, dX = moved
        long, dual = _length(self._H, self._form.linear(ds, dT)), _length(X, dX)
        if not min(long, dual) > 0:
            return False
        self.s, self.T = self.s + long * ds, self.T + long * dT
        self._H, self._X = self._form.matrix(self.s, self.T), X + dual * dX
        shorter = min(long, dual)
        self._share = 0.1 if shorter > 0.8 else 0.2 if shorter > 0.5 else 0.4 if shorter > 0.25 else 0.8
        return not (dual == 1 or self._fits()) or float((self._X * self._H).sum()) > _GAP * self.s

    def _fits(self) -> bool:
        """Whether X is nearly feasible, so that its gap says something."""
        X, form = self._X, self._form
        if X is None:
            return False
        own = X.diagonal()[form.unknowns :] - ((form.V @ X) * form.V).sum(dim=1)
        off = float((own * self.T).abs().sum()) + self.s * abs(float(X.diagonal()[: form.unknowns].sum()) - 1)
        return off < _GAP * self.s


class _Direction:
    """The equations of one step: `<B_i, dX> = b_i - <B_i, X>`, `dX = nu P - X - sym(X dH P)`, P = H^-1."""

    def __init__(self, form: Form, P: Tensor, X: Tensor, s: float, T: Tensor) -> None:
        self._form, self._P, self._X = form, P, X
        self._VP, self._VX = form.V @ P, form.V @ X
        self._scale = torch.cat([torch.tensor([s], dtype=torch.float64), T])

    def towards(self, nu: float) -> tuple[float, Tensor, Tensor] | None:
        """(ds, dT, dX)."""
        form, n, P, X = self._form, self._form.unknowns, self._P, self._X
        QP, QX = self._VP @ form.V.T, self._VX @ form.V.T
        matrix = torch.empty(len(self._scale), len(self._scale), dtype=torch.float64)
        matrix[0, 0] = (X[:n, :n] * P[:n, :n]).sum()
        matrix[0, 1:] = (X[:n, n:] * P[:n, n:]).sum(dim=0) - (self._VX[:, :n] * self._VP[:, :n]).sum(dim=1)
        matrix[1:, 0] = matrix[0, 1:]
        cross = self._VX[:, n:] * self._VP[:, n:]
        matrix[1:, 1:] = X[n:, n:] * P[n:, n:] - cross - cross.T + QX * QP
        right = nu * torch.cat([P.diagonal()[:n].sum()[None], P.diagonal()[n:] - QP.diagonal()])
        right[0] -= 1.0
        matrix = matrix * self._scale[:, None] * self._scale
        matrix.diagonal().mul_(1 + 1e-11)
        factor, info = torch.linalg.cholesky_ex(matrix)
        if int(info) != 0:
            return None
        step = torch.cholesky_solve((self._scale * right)[:, None], factor)[:, 0] * self._scale
        return float(step[0]), step[1:], self._dual(nu, float(step[0]), step[1:])

    def _dual(self, nu: float, ds: float, dT: Tensor) -> Tensor:
        diagonal = torch.cat([torch.full((self._form.unknowns,), ds, dtype=torch.float64), dT])
        product = (self._X * diagonal) @ self._P - self._VX.T @ (dT[:, None] * self._VP)
        return nu * self._P - self._X - (product + product.T) / 2


def _length(matrix: Tensor, change: Tensor) -> float:
    """How much of a change keeps a matrix positive definite: all of it, or a part of what could be gone; 0 for none."""
    length = 1.0
    while length > _SHORTEST:
        if int(torch.linalg.cholesky_ex(matrix + length * change)[1]) == 0:
            return 1.0 if length == 1 else _INSIDE * length
        length *= _SHORTER
    return 0.0
