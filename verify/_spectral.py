"""Verified norms of dense matrices.

`||W||_2`: with an estimate s, `t = s^2 (1 + tiny)` and `A = t I - W^T W`, a floating-point Cholesky factor L of A
is computed; whoever made it, `L L^T` is positive semidefinite, so `lambda_min(A) >= -||A - L L^T||`, and that
residual is bounded rigorously. Hence `||W||_2 <= sqrt(t + residual + error of forming A)`. The estimate, the
factorisation and the order of summation need not be right.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from deqops._errors import InputError

from ._bound import Bound
from ._midrad import MidRad
from ._rounding import (
    TINY,
    U,
    add_up,
    check_environment,
    div_up,
    exact_float64,
    gamma,
    mul_up,
    sqrt_up,
    sum_of_squares_up,
    sum_up,
)

_SMALL = 256  # up to here the estimate is an exact-looking SVD, above it a Lanczos value
_BLOCKS = 8  # row blocks of a triangular product


def one_norm_bound(W: Tensor | MidRad) -> float:
    """Proven upper bound of the operator norm l1 -> l1: the largest column sum of moduli."""
    return _largest(sum_up(_magnitudes(W), dim=0))


def inf_norm_bound(W: Tensor | MidRad) -> float:
    """Proven upper bound of the operator norm linf -> linf: the largest row sum of moduli."""
    return _largest(sum_up(_magnitudes(W), dim=1))


def spectral_norm_bound(W: Any) -> Bound:
    """Proven upper bound of `||W||_2`, the largest singular value.

    Args:
        W: (m, n) of any real floating dtype, taken exactly, or an enclosure; a vector counts as one column. Or what
            `as_operand` knows: a sparse tensor, a `Product`, a `Kronecker`, a `LowRankPlusDiagonal`, a `Convolution`,
            another `Operand`.

    Returns:
        Bound: `upper` is proven; about 1e-13 (n = 64) to 1e-10 (n = 2048) above the truth, relatively.
        `lower_estimate` comes from singular values or Lanczos steps in floats.

    Raises:
        InputError: NaN or infinity in W, not a matrix, or of a type that is not known.

    Method: Rump, *Verification of positive definiteness*, BIT 46 (2006), with the residual of the factor bounded a
    posteriori, so that nothing is assumed of LAPACK.
    """
    if isinstance(W, MidRad) or (isinstance(W, Tensor) and W.layout is torch.strided):
        return _dense_bound(W)
    from ._operand import as_operand  # which needs this file

    return as_operand(W, "W").norm_bound("l2")


def _dense_bound(W: Tensor | MidRad) -> Bound:
    mid, rad = _parts(W)
    if not mid.numel():
        return Bound(0.0, 0.0, "empty")
    exact = _exact_bound(mid)
    if rad is None or not bool((rad != 0).any()):
        return exact
    spread = _cheap_bound(rad)
    return Bound(float(add_up(exact.upper, spread)), exact.lower_estimate, exact.method + " + radius")


def _parts(W: Tensor | MidRad) -> tuple[Tensor, Tensor | None]:
    """Midpoints and radii (None for zeros), (m, n), all finite."""
    check_environment()
    mid, rad = (W.mid, W.rad) if isinstance(W, MidRad) else (exact_float64(W), None)
    if mid.ndim == 1:
        mid, rad = mid[:, None], None if rad is None else rad[:, None]
    if mid.ndim != 2:
        raise InputError(f"W: a matrix is needed, got shape {tuple(mid.shape)}")
    for part in (mid, rad):
        if part is not None and part.numel() and not math.isfinite(_largest_modulus(part)):
            raise InputError(
                f"W: entry {(~part.isfinite()).nonzero()[0].tolist()} is not finite; remove NaN and infinity"
            )
    return mid, rad


def _largest_modulus(W: Tensor) -> float:
    """NaN where an entry is; one pass over the entries."""
    least, largest = torch.aminmax(W)
    return float(torch.maximum(-least, largest))


def _magnitudes(W: Tensor | MidRad) -> Tensor:
    mid, rad = _parts(W)
    return mid.abs() if rad is None else MidRad(mid, rad).magnitude()


def _largest(sums: Tensor) -> float:
    return float(sums.max()) if sums.numel() else 0.0


def _power_of_two(exponent: int) -> float:
    return math.ldexp(1.0, exponent)


def _exact_bound(W: Tensor) -> Bound:
    """The bound for known entries: scaled by a power of two, the shorter side's Gram matrix, the cheap bound last."""
    largest = _largest_modulus(W)
    if largest == 0:
        return Bound(0.0, 0.0, "zero")
    exponent = math.frexp(largest)[1]
    scaled, lost = _scaled(W, exponent)
    V = scaled if scaled.shape[0] >= scaled.shape[1] else scaled.T
    if V.shape[1] == 1:
        upper, estimate, method = float(_column_norm(V)), float(V.norm()), "vector"
    else:
        upper, estimate, method = _gram_bound(V.contiguous())
    total = float(add_up(upper, lost))
    # Undo the scaling, in two steps since 2^1024 is no float.
    half = exponent // 2
    back = float(mul_up(mul_up(total, _power_of_two(half)), _power_of_two(exponent - half)))
    return Bound(back, _ldexp(estimate, exponent), method)


def _scaled(W: Tensor, exponent: int) -> tuple[Tensor, float]:
    """`W 2^-exponent` (largest entry in [1/2, 1)) and a bound of the norm of what underflowed in it."""
    half = -exponent // 2
    scaled = (W * _power_of_two(half)).mul_(_power_of_two(-exponent - half))
    if float(scaled.square().amin()) > 2.0**-500:
        return scaled, 0.0  # no entry is zero or faint
    faint = (W != 0) & (scaled.abs() < 2.0**-1000)
    if not bool(faint.any()):
        return scaled, 0.0
    # Entries this faint are dropped; each was below 2^-1000 + 2^-1073 after scaling.
    count = float(faint.sum())
    return torch.where(faint, 0.0, scaled), float(mul_up(sqrt_up(count), 2.0**-999))


def _ldexp(value: float, exponent: int) -> float:
    try:
        return math.ldexp(value, exponent)
    except OverflowError:
        return math.inf


def _column_norm(V: Tensor) -> Tensor:
    return sqrt_up(sum_of_squares_up(V))


def _cheap_bound(R: Tensor) -> float:
    """min(Frobenius, sqrt(l1 linf)) of a matrix of any scale."""
    scale = float(R.abs().max())
    if scale == 0:
        return 0.0
    return float(mul_up(_cheap_bound_at_unit_scale(div_up(R.abs(), scale)), scale))


def _cheap_bound_at_unit_scale(R: Tensor) -> float:
    """The same where the largest modulus is about 1, so that no square overflows and none that matters underflows."""
    magnitude = R.abs()
    mixed = sqrt_up(mul_up(_largest(sum_up(magnitude, dim=0)), _largest(sum_up(magnitude, dim=1))))
    del magnitude
    return float(torch.minimum(sqrt_up(sum_of_squares_up(R)), mixed))


def _estimate(V: Tensor, gram: Tensor) -> float:
    """About ||V||_2, from the lower triangle of V^T V where V is large; need not be right."""
    n = V.shape[1]
    if n <= _SMALL:
        return float(torch.linalg.matrix_norm(V, 2))
    square = gram.tril()
    square += square.tril(-1).T
    basis = [torch.ones(n, dtype=torch.float64) / math.sqrt(n)]
    basis[0] = basis[0] + 0.1 * torch.sin(torch.arange(n, dtype=torch.float64) + 1) / math.sqrt(n)
    basis[0] = basis[0] / basis[0].norm()
    alpha: list[float] = []
    beta: list[float] = []
    top = 0.0
    for step in range(120):
        w = square @ basis[-1]
        alpha.append(float(w @ basis[-1]))
        Q = torch.stack(basis)
        w = w - Q.T @ (Q @ w)
        w = w - Q.T @ (Q @ w)  # full reorthogonalisation, twice
        size = float(w.norm())
        if step % 10 == 9 or size < 1e-14:
            previous, top = top, _largest_ritz_value(alpha, beta)
            if size < 1e-14 or top - previous <= 1e-14 * top:
                break
        beta.append(size)
        basis.append(w / size)
    return math.sqrt(max(top, 0.0))


def _largest_ritz_value(alpha: list[float], beta: list[float]) -> float:
    off = torch.diag(torch.tensor(beta, dtype=torch.float64), 1)
    return float(torch.linalg.eigvalsh(torch.diag(torch.tensor(alpha, dtype=torch.float64)) + off + off.T)[-1])


def _gram_bound(V: Tensor) -> tuple[float, float, str]:
    """The Cholesky bound for V of m >= n, largest entry in [1/2, 1)."""
    m, n = V.shape
    cheap = _cheap_bound_at_unit_scale(V)
    gram = _lower_product(V.T, V)
    estimate = _estimate(V, gram)
    if not 0 < estimate < math.inf:
        return cheap, 0.0, "sqrt(l1 linf)"
    # ||fl(V^T V) - V^T V||_2 <= gamma_m || |V|^T |V| ||_2 <= gamma_m min(F^2, l1 linf) (Jeannerod & Rump 2013)
    error = float(add_up(mul_up(gamma(m + 2), mul_up(cheap, cheap)), mul_up(float(m) * float(n), 2 * TINY)))
    margin = 16.0 * n * U
    while margin < 4.0:  # a poor estimate costs tightness, in steps, not the bound
        t = estimate * estimate * (1.0 + margin)
        excess = cholesky_deficit(gram, t)
        if excess is not None:
            upper = float(sqrt_up(add_up(add_up(t, excess), error)))
            return min(upper, cheap), estimate, "Cholesky"
        margin *= 8.0
    return cheap, estimate, "sqrt(l1 linf)"


def _lower_product(A: Tensor, B: Tensor) -> Tensor:
    """The lower triangle of A B, in row blocks; what lies above the blocks is left 0."""
    n = A.shape[0]
    result = torch.zeros(n, n, dtype=torch.float64)
    step = max(-(-n // _BLOCKS), 64)
    for start in range(0, n, step):
        end = min(start + step, n)
        result[start:end, :end] = A[start:end] @ B[:, :end]
    return result


def _lower_square(L: Tensor) -> Tensor:
    """The lower triangle of L L^T for a lower triangular L; row block i needs only i blocks of columns."""
    n = L.shape[0]
    result = torch.zeros(n, n, dtype=torch.float64)
    step = max(-(-n // _BLOCKS), 64)
    for start in range(0, n, step):
        end = min(start + step, n)
        result[start:end, :end] = L[start:end, :end] @ L[:end, :end].T
    return result


def cholesky_deficit(gram: Tensor, t: float) -> float | None:
    """A bound c >= 0 with `t I - G >= -c I` for the symmetric G whose lower triangle is given, or None.

    NaN or infinity anywhere in the factor or the residual reaches `found` through their sums of squares.
    """
    n = gram.shape[0]
    A = -gram
    diagonal = t - gram.diagonal()
    A.diagonal().copy_(diagonal)
    diagonal_error = float(mul_up(diagonal.abs().max(), U))  # of t - g_ii
    factor, info = torch.linalg.cholesky_ex(A)
    if int(info) != 0:
        return None
    lower = factor.tril_()
    residual = _lower_square(lower).sub_(A).tril_()
    # ||fl(LL^T) - LL^T|| <= gamma_n ||L||_F^2, and rounding fl(product - A) errs by u relatively.
    frobenius = sqrt_up(mul_up(2.0, sum_of_squares_up(residual)))
    rounding = add_up(mul_up(gamma(n + 2), sum_of_squares_up(lower)), float(n) * float(n) * 2 * TINY)
    found = float(add_up(add_up(mul_up(frobenius, 1.0 + 4.0 * U), rounding), diagonal_error))
    return found if math.isfinite(found) else None
