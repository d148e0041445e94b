"""Proposals of a diagonal P > 0 for T5's inequality; nothing here is proven, the verifier decides."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LARGEST_SEARCHED = 400
"""Units up to which P is searched for: some seconds."""

_BALANCE_STEPS, _NEWTON_STEPS, _ASCENT_STEPS, _RATE = 100, 60, 60, 0.05


def proposed_weights(W: Tensor, lower: float, upper: float) -> Tensor:
    """Weights w, P = diag(w)^2, that make `sym((I - a W)^T P (I - b W))` positive definite relative to P, if found.

    Args:
        W: (n, n).
        lower: a, the smallest slope.
        upper: b, the largest slope.

    Returns:
        (n,) positive; ones where the search met numbers beyond the floating-point range.
    """
    ones = torch.ones(W.shape[0], dtype=torch.float64)
    try:
        found = _searched(W, lower, upper)
    except RuntimeError:  # the search, or LAPACK, met overflown numbers
        return ones
    return found if bool((found.isfinite() & (found > 0)).all()) else ones


def _searched(W: Tensor, lower: float, upper: float) -> Tensor:
    n, balance = W.shape[0], _balancing(W)
    balanced, eye = balance[:, None] * W / balance[None, :], torch.eye(n, dtype=torch.float64)
    start = _feasible(eye - lower * balanced, eye - upper * balanced)
    return balance * _ascended(balanced, lower, upper, start.sqrt())


def _balancing(W: Tensor) -> Tensor:
    """Weights d for which the rows and columns of `diag(d) W diag(d)^-1` have equal norms (Osborne's iteration)."""
    squares = (W * W).fill_diagonal_(0)
    d = torch.ones(len(W), dtype=torch.float64)
    for _ in range(_BALANCE_STEPS):
        moved = squares * (d * d)[:, None] / (d * d)[None, :]
        ratio = (moved.sum(dim=0) / moved.sum(dim=1)) ** 0.25
        usable = ratio.isfinite() & (ratio > 0)
        d = (d * torch.where(usable, ratio, torch.ones_like(ratio))).clamp(1e-12, 1e12)
    return d


def _feasible(U: Tensor, V: Tensor) -> Tensor:
    """p in (0, 1)^n for which `sym(U^T diag(p) V) + t I` is positive definite with a small t.

    A barrier method: Newton steps for `tau t - log det(sym(U^T diag(p) V) + t I) - sum log p (1 - p)`.
    """
    n = U.shape[0]
    p = torch.full((n,), 0.5, dtype=torch.float64)
    t = 1.0 - float(torch.linalg.eigvalsh(_inequality(U, V, p))[0])
    tau = 1.0
    for _ in range(_NEWTON_STEPS):
        step = _newton_step(U, V, p, t, tau)
        size, point = 1.0, _value(U, V, p, t, tau)
        while size > 1e-6:
            p_new, t_new = p + size * step[:n], t + size * float(step[n])
            if _value(U, V, p_new, t_new, tau) < point:
                p, t = p_new, t_new
                break
            size /= 2
        if t < 0:
            break
        tau *= 2.0
    return p


def _inequality(U: Tensor, V: Tensor, p: Tensor) -> Tensor:
    product = (U.T * p) @ V
    return (product + product.T) / 2


def _value(U: Tensor, V: Tensor, p: Tensor, t: float, tau: float) -> float:
    """The barrier function; infinite outside of its domain."""
    if not bool(((p > 0) & (p < 1)).all()):
        return math.inf
    factor, info = torch.linalg.cholesky_ex(_inequality(U, V, p) + t * torch.eye(len(p), dtype=torch.float64))
    if int(info):
        return math.inf
    return tau * t - 2 * float(factor.diagonal().log().sum()) - float((p * (1 - p)).log().sum())


def _newton_step(U: Tensor, V: Tensor, p: Tensor, t: float, tau: float) -> Tensor:
    """For (p, t), (n + 1,). With Z the inverse: `tr(Z E_i) = v_i Z u_i`, `tr(Z E_i Z E_j)` the products below."""
    n = len(p)
    Z = torch.linalg.inv(_inequality(U, V, p) + t * torch.eye(n, dtype=torch.float64))
    VZ, UZ = V @ Z, U @ Z
    cross = VZ @ U.T
    gradient = torch.cat([-cross.diagonal() - 1 / p + 1 / (1 - p), (tau - Z.trace())[None]])
    hessian = torch.empty(n + 1, n + 1, dtype=torch.float64)
    hessian[:n, :n] = (cross * cross.T + (UZ @ U.T) * (VZ @ V.T)) / 2 + torch.diag(p**-2 + (1 - p) ** -2)
    hessian[:n, n] = hessian[n, :n] = (VZ * UZ).sum(dim=1)
    hessian[n, n] = (Z * Z).sum()
    if not bool(hessian.isfinite().all() & gradient.isfinite().all()):
        raise RuntimeError("the search for P overflowed")  # LAPACK would say so on the terminal
    step: Tensor = torch.linalg.lstsq(hessian, -gradient[:, None]).solution[:, 0]
    return step


def _ascended(W: Tensor, lower: float, upper: float, start: Tensor) -> Tensor:
    """Gradient ascent of the smallest eigenvalue relative to P, from `start` and from ones; the best weights met."""
    n = W.shape[0]
    steps = max(10, min(_ASCENT_STEPS, int(1e9 / n**3)))
    best, chosen = -math.inf, torch.ones(n, dtype=torch.float64)
    for origin in (torch.ones(n, dtype=torch.float64), start / start.max()):
        logarithms = origin.log().requires_grad_()
        optimiser = torch.optim.Adam([logarithms], lr=_RATE)
        for _ in range(steps):
            with torch.enable_grad():
                lowest, w = _relative_eigenvalue(W, lower, upper, logarithms)
            if not bool(lowest.isfinite()):
                break
            if float(lowest.detach()) > best:
                best, chosen = float(lowest.detach()), w.detach().clone()
            (logarithms.grad,) = torch.autograd.grad(-lowest, [logarithms])
            optimiser.step()
    return chosen


def _relative_eigenvalue(W: Tensor, lower: float, upper: float, logarithms: Tensor) -> tuple[Tensor, Tensor]:
    w = logarithms.clamp(-40, 40).exp()
    X = w[:, None] * W / w[None, :]
    eye = torch.eye(len(w), dtype=torch.float64)
    H = eye - (lower + upper) / 2 * (X + X.T) + lower * upper * (X.T @ X)
    return torch.linalg.eigvalsh(H)[0], w
