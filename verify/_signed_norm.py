"""The l2 norm of sparse matrices with entries of both signs.

The smallest eigenvalue of `H = [[0, A^T], [A, 0]]` is `-||A||_2`, so that a factor of `s I + H` bounds the norm. H
has A's entries as they are: no product is rounded, no number squared, and a banded A leaves it banded. Where no order
makes H narrow, a small A is bounded as a dense matrix, and a large one by its moduli alone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ._banded import band_work, banded_lowest_bound, bandwidth, narrow_order
from ._bound import Bound
from ._gershgorin import largest_row_sum
from ._midrad import MidRad
from ._rounding import add_up
from ._scaling import exponent_of, ldexp, power_of_two_up, times_power_of_two
from ._spectral import spectral_norm_bound

_DENSE = 1024  # rows and columns that are written out
_BAND_COST = 6  # a unit of `band_work` in multiplications of a dense product
_STEPS = 10  # of the power iteration where nothing better is affordable


def signed_norm_bound(rows: Tensor, cols: Tensor, values: MidRad, shape: tuple[int, int], moduli_bound: float) -> Bound:
    """Proven upper bound of `||A||_2`, at most `moduli_bound`.

    Args:
        rows: (triples,), one triple per place.
        cols: (triples,).
        values: (triples,), finite, some entry not 0.
        shape: (m, n).
        moduli_bound: a proven bound that is known already.
    """
    found = banded_norm_bound(rows, cols, values, shape, otherwise_dense=True)
    if found.upper < moduli_bound:
        return found
    return Bound(moduli_bound, found.lower_estimate, "Collatz-Wielandt")


def banded_norm_bound(
    rows: Tensor, cols: Tensor, values: MidRad, shape: tuple[int, int], *, otherwise_dense: bool = False
) -> Bound:
    """Proven upper bound of `||A||_2`, infinite where no order makes `[[0, A^T], [A, 0]]` narrow.

    Args:
        rows: (triples,), one triple per place.
        cols: (triples,).
        values: (triples,), finite, some entry not 0.
        shape: (m, n).
        otherwise_dense: bound A as a dense matrix, of at most 1024 rows and columns, where that is cheaper.
    """
    (r, m), (c, n) = _numbered(rows, shape[0]), _numbered(cols, shape[1])
    exponent = exponent_of(float(values.mid.abs().max()))
    dense = otherwise_dense and max(m, n) <= _DENSE
    upper, estimate, method = _bound(r, c, times_power_of_two(values, -exponent), (m, n), dense)
    return Bound(float(power_of_two_up(upper, exponent)), ldexp(estimate, exponent), method)


def _numbered(index: Tensor, size: int) -> tuple[Tensor, int]:
    """The indices numbered without those that do not occur, and how many do."""
    number = (torch.bincount(index, minlength=size) > 0).cumsum(0)
    return number[index] - 1, int(number[-1])


def _bound(rows: Tensor, cols: Tensor, values: MidRad, shape: tuple[int, int], dense: bool) -> tuple[float, float, str]:
    """By the cheaper of the banded and the dense method, or an infinite bound."""
    m, n = shape
    place = _interleaved(m, n)
    order = narrow_order(rows + n, cols, m + n, place)
    if order is not None and dense:
        work = _BAND_COST * band_work(m + n, bandwidth(order[rows + n], order[cols]))
        order = order if work < m * n * min(m, n) else None
    if order is not None:
        found = banded_lowest_bound(rows + n, cols, values.mid, order)
        if math.isfinite(found[0]):
            spread = largest_row_sum(rows + n, cols, values.rad, m + n)
            return float(add_up(-found[0], spread)), -found[1], "banded Cholesky"
    if dense:
        bound = spectral_norm_bound(_written_out(rows, cols, values, shape))
        return bound.upper, bound.lower_estimate, bound.method
    return math.inf, _norm_estimate(rows, cols, values.mid, shape), "none"


def _interleaved(m: int, n: int) -> Tensor:
    """A place for each column, then each row, of a band matrix that makes `[[0, A^T], [A, 0]]` one too."""
    along = torch.cat([torch.arange(n).double() / max(n, 1), torch.arange(m).double() / max(m, 1)])
    return torch.empty(m + n, dtype=torch.int64).index_copy_(0, along.argsort(stable=True), torch.arange(m + n))


def _written_out(rows: Tensor, cols: Tensor, values: MidRad, shape: tuple[int, int]) -> MidRad:
    mid, rad = (torch.zeros(shape, dtype=torch.float64) for _ in "mr")
    mid[rows, cols], rad[rows, cols] = values.mid, values.rad
    return MidRad(mid, rad)


def _norm_estimate(rows: Tensor, cols: Tensor, mid: Tensor, shape: tuple[int, int]) -> float:
    """`||A x|| / ||x||` for an x that some power steps turned towards the singular vector."""
    x = torch.randn(shape[1], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    estimate = 0.0
    for _ in range(_STEPS):
        y = torch.zeros(shape[0], dtype=torch.float64).index_add_(0, rows, mid * x[cols])
        estimate = max(estimate, float(y.norm() / x.norm()))
        x = torch.zeros(shape[1], dtype=torch.float64).index_add_(0, cols, mid * y[rows])
        x = x / x.norm()
    return estimate
