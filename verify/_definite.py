"""Verified lower bounds of a symmetric matrix' smallest eigenvalue: dense, block-tridiagonal or sparse.

In each case a floating-point factor of a shift, whoever made it, bounds the eigenvalue by its residual: Rump,
*Verification of positive definiteness*, BIT 46 (2006), with the residual bounded a posteriori.
"""

from __future__ import annotations

import math
from functools import singledispatch

import torch
from torch import Tensor

from deqops._errors import InputError

from . import _midrad as midrad
from ._banded import banded_lowest_bound, narrow_order
from ._block_tridiagonal import BlockTridiagonal, ShiftedBlocks, circles_bound, row_sums
from ._gershgorin import Circles, largest_row_sum
from ._midrad import MidRad
from ._rounding import U, add_up, check_environment, sub_down, sum_up
from ._scaling import exponent_of, power_of_two_down, times_power_of_two
from ._shifted import lowest_bound
from ._sparse import SparseMatrix
from ._spectral import cholesky_deficit

_UNIT = 2.0**300  # dense matrices whose entries are larger, or smaller than its inverse, are scaled

Symmetric = MidRad | BlockTridiagonal | SparseMatrix


@singledispatch
def lowest_eigenvalue_bound(H: Symmetric | Tensor) -> float:
    """A number that the smallest eigenvalue of every symmetric matrix in the enclosure reaches.

    With an estimate `e` of it and `t` slightly above `-e`, a Cholesky factor of `mid + t I`, whoever made it, shows
    `mid + t I >= -c I` for a c bounded rigorously from its residual; hence `lambda_min >= -t - c - ||rad||_inf`.

    Args:
        H: (n, n), read below and on the diagonal. A dense enclosure: O(n^3). A `BlockTridiagonal`: O(sum of n_k^3). A
            `SparseMatrix`: reordered to a band, O(n b^2) up to 2^32; beyond, Gershgorin's circles, scaled. A tensor,
            dense or sparse, is taken exactly.

    Returns:
        The bound; minus infinity where none was found, or where H is not finite.

    Raises:
        InputError: H is not a square matrix, or empty, or no such matrix.
    """
    raise _unknown(H)


def _unknown(H: object) -> InputError:
    return InputError(f"H: got a {type(H).__name__}; give a tensor, a MidRad or a BlockTridiagonal")


def is_positive_definite(H: Symmetric | Tensor) -> bool:
    """Whether every symmetric matrix in the enclosure is proven positive definite.

    H is positive definite if and only if `D H D` is; D are the powers of two that make the diagonal about 1, so that
    rows of very different sizes do not hide the smallest eigenvalue.

    Args:
        H: as of `lowest_eigenvalue_bound`.

    Returns:
        False where it is not, or where that is not shown.

    Raises:
        InputError: H is not a square matrix, or empty, or no such matrix.
    """
    check_environment()
    if isinstance(H, Tensor):
        H = _enclosed(H)
    if not isinstance(H, Symmetric):
        raise _unknown(H)
    diagonal = _lowest_diagonal(H)
    if not bool(((diagonal > 0) & diagonal.isfinite()).all()):
        return False
    halves = torch.div(torch.frexp(diagonal)[1].to(torch.int64), 2, rounding_mode="floor")
    weights = ((1023 - halves) << 52).view(torch.float64)  # 2^-half, exactly
    return lowest_eigenvalue_bound(_congruent(H, weights)) > 0


def _enclosed(H: Tensor) -> MidRad | SparseMatrix:
    """A tensor taken exactly."""
    from ._operand import SparseEntries, as_operand  # which need this file

    operand = as_operand(H, "H")
    if isinstance(operand, SparseEntries):
        return operand.matrix
    values = operand.entries()
    if values is None:
        raise _unknown(H)
    return values


@lowest_eigenvalue_bound.register
def _(H: Tensor) -> float:
    return lowest_eigenvalue_bound(_enclosed(H))


# ----------------------------------------------------------------------------------------------------- dense


@lowest_eigenvalue_bound.register
def _(H: MidRad) -> float:
    check_environment()
    _check_square(H.mid.shape)
    if not bool((H.mid.isfinite() & H.rad.isfinite()).all()):
        return -math.inf
    largest = float(H.mid.abs().max())
    exponent = 0 if 1 / _UNIT < largest < _UNIT else exponent_of(largest)
    bound = _dense_bound(times_power_of_two(H, -exponent))
    return _unscaled(bound, exponent) if exponent else bound


def _dense_bound(H: MidRad) -> float:
    mid, rad = (part.tril() + part.tril(-1).T for part in (H.mid, H.rad))
    scale = float(sum_up(mid.abs(), dim=1).max())
    spread = float(sum_up(rad, dim=1).max())
    try:
        estimate = float(torch.linalg.eigvalsh(mid)[0])
    except RuntimeError:  # it did not converge
        estimate = -scale
    if not math.isfinite(estimate) or not math.isfinite(scale):
        return -math.inf
    margin = 4.0 * mid.shape[0] * U * scale
    while margin <= 4.0 * scale:  # a poor estimate costs tightness, in steps, not the bound
        shift = margin - estimate
        deficit = cholesky_deficit(-mid, shift)
        if deficit is not None:
            return -float(add_up(add_up(shift, deficit), spread))
        margin = max(8.0 * margin, 2.0**-1000)
        if scale == 0:
            break
    return -float(add_up(scale, spread))  # Gershgorin


def _check_square(shape: torch.Size | tuple[int, int]) -> None:
    if len(shape) != 2 or shape[0] != shape[1] or not shape[0]:
        raise InputError(f"H: a square matrix is needed, got shape {tuple(shape)}")


# ----------------------------------------------------------------------------------------- block tridiagonal


@lowest_eigenvalue_bound.register
def _(H: BlockTridiagonal) -> float:
    check_environment()
    if not H.is_finite():
        return -math.inf
    exponent = exponent_of(max(float(block.mid.abs().max()) for block in H.blocks()))
    scaled = H.symmetric().scaled(-exponent)
    best = circles_bound(scaled)
    if any(bool((block.mid != 0).any()) for block in scaled.blocks()):
        spread = row_sums(tuple(a.rad for a in scaled.diagonal), tuple(b.rad for b in scaled.below))
        found, _ = lowest_bound(ShiftedBlocks.of(scaled))
        best = _larger(best, float(sub_down(found, spread.max())))
    return _unscaled(best, exponent)


def _larger(first: float, second: float) -> float:
    """The larger bound; NaN bounds nothing."""
    return max(value if value > -math.inf else -math.inf for value in (first, second))


def _unscaled(bound: float, exponent: int) -> float:
    return float(power_of_two_down(bound, exponent)) if math.isfinite(bound) else -math.inf


# ---------------------------------------------------------------------------------------------------- sparse


@lowest_eigenvalue_bound.register
def _(H: SparseMatrix) -> float:
    check_environment()
    _check_square(H.shape)
    if not H.values.is_finite():
        return -math.inf
    rows, cols, values = _lower_triangle(H)
    if not values.is_finite():
        return -math.inf
    if not len(rows):
        return 0.0
    exponent = exponent_of(float(values.mid.abs().max()))
    scaled = times_power_of_two(values, -exponent)
    return _unscaled(_sparse_bound(rows, cols, scaled, H.shape[0]), exponent)


def _lower_triangle(H: SparseMatrix) -> tuple[Tensor, Tensor, MidRad]:
    single = H.coalesce()
    kept = single.rows >= single.cols
    return single.rows[kept], single.cols[kept], single.values.apply_exact(lambda t: t[kept])


def _sparse_bound(rows: Tensor, cols: Tensor, values: MidRad, size: int) -> float:
    circles = Circles.of(rows, cols, values.lower(), values.magnitude(), size)
    if not bool((rows != cols).any()) or not bool((values.mid != 0).any()):
        return circles.plain()
    order = narrow_order(rows, cols, size)
    if order is None:
        return circles.best()
    found, _ = banded_lowest_bound(rows, cols, values.mid, order)
    spread = largest_row_sum(rows, cols, values.rad, size)
    banded = float(sub_down(found, spread))
    return _larger(banded, circles.plain() if banded > -math.inf else circles.best())


# -------------------------------------------------------------------------------------------- congruent ones


def _lowest_diagonal(H: Symmetric) -> Tensor:
    """Lower bounds of the diagonal entries, (n,)."""
    if isinstance(H, MidRad):
        _check_square(H.mid.shape)
        return H.lower().diagonal()
    if isinstance(H, BlockTridiagonal):
        return torch.cat([block.lower().diagonal() for block in H.diagonal])
    _check_square(H.shape)
    single = H.coalesce()
    own = single.rows == single.cols
    lowest = torch.zeros(H.shape[0], dtype=torch.float64)
    lowest[single.rows[own]] = single.values.lower()[own]
    return lowest


def _congruent(H: Symmetric, weights: Tensor) -> Symmetric:
    """`D H D` for D = diag(weights), powers of two, enclosed."""
    if isinstance(H, BlockTridiagonal):
        return H.congruent(weights)
    if isinstance(H, SparseMatrix):
        left, right = (MidRad.exact(weights[place]) for place in (H.rows, H.cols))
        return SparseMatrix(H.rows, H.cols, midrad.mul(midrad.mul(H.values, left), right), H.shape)
    rows = midrad.mul(H, MidRad.exact(weights[:, None]))
    return midrad.mul(rows, MidRad.exact(weights[None, :]))
