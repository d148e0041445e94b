"""Estimates from below of an operator norm, from products with the matrix and its transpose only."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from ._norm import Order

_STEPS = 24  # of Lanczos' method
_ROUNDS = 5  # of Hager's method


class Applied(Protocol):
    """What an estimate needs of a matrix."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""

    def apply(self, x: Tensor) -> Tensor:
        """About `A x`, x of shape (n, k)."""

    def apply_transposed(self, y: Tensor) -> Tensor:
        """About `A^T y`, y of shape (m, k)."""


def norm_estimate(A: Applied, order: Order) -> float:
    """About the norm from l_p to l_p, not above it up to rounding; 0 where the products are not finite.

    l2: Lanczos' method on `A^T A`, whose Ritz values lie below its largest eigenvalue. l1: Hager's method (Higham,
    *Accuracy and Stability*, 15.3), which returns the norm of a vector's image. linf: l1 of the transpose. The start is
    fixed.
    """
    if not min(A.shape):
        return 0.0
    found = _lanczos(A) if order == "l2" else _hager(A, transposed=order == "linf")
    return found if math.isfinite(found) else 0.0


def _lanczos(A: Applied) -> float:
    n = A.shape[1]
    basis = [_start(n)]
    alpha: list[float] = []
    beta: list[float] = []
    for _ in range(min(_STEPS, n)):
        w = A.apply_transposed(A.apply(basis[-1][:, None]))[:, 0]
        alpha.append(float(w @ basis[-1]))
        if not math.isfinite(alpha[-1]):
            return math.nan
        Q = torch.stack(basis)
        for _ in range(2):  # full reorthogonalisation, twice
            w = w - Q.T @ (Q @ w)
        size = float(w.norm())
        if not size > 1e-14 * max(map(abs, alpha)):
            break
        beta.append(size)
        basis.append(w / size)
    off = torch.diag(torch.tensor(beta[: len(alpha) - 1], dtype=torch.float64), 1)
    ritz = torch.linalg.eigvalsh(torch.diag(torch.tensor(alpha, dtype=torch.float64)) + off + off.T)
    return math.sqrt(max(float(ritz[-1]), 0.0))


def _start(n: int) -> Tensor:
    start = torch.randn(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return start.div_(start.norm())


def _hager(A: Applied, transposed: bool) -> float:
    push, pull = (A.apply_transposed, A.apply) if transposed else (A.apply, A.apply_transposed)
    n = A.shape[0] if transposed else A.shape[1]
    x = torch.full((n, 1), 1.0 / n, dtype=torch.float64)
    best = 0.0
    for _ in range(_ROUNDS):
        image = push(x)
        best = max(best, float(image.abs().sum()))
        slope = pull(torch.where(image < 0, -1.0, 1.0).to(torch.float64))
        x = torch.zeros_like(x)
        x[slope.abs().argmax()] = 1.0
    return best
