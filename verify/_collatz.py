"""Sums of moduli over the triples of a sparse matrix, and Collatz and Wielandt's bound of `|| |A| ||_2` from them.

For any x > 0, `|| |A| ||_2^2 <= max_i (|A|^T |A| x)_i / x_i`; it is exact for a good x, which a power iteration
proposes. For the symmetrically normalised adjacency matrix of a graph x is the square root of the degrees.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ._midrad import MidRad
from ._rounding import TINY, U, add_up, div_up, gamma, mul_up, sqrt_up
from ._scaling import exponent_of, ldexp, power_of_two_up

ROUNDS = 40
_FLOOR = 1e-100
_CHUNK = 2**17  # triples at a time, so that what is gathered stays in the processor's cache
_UNIT = 2.0**300  # moduli beyond this, or below its inverse, are scaled before they are squared


def magnitudes(values: MidRad) -> Tensor:
    """Upper bounds of the moduli, a few passes over them: exact where the radius is 0."""
    if not values.rad.numel() or float(values.rad.max()) == 0:
        return values.mid.abs()
    # fl(a + b) >= (a + b)(1 - u) and (1 - u)^2 (1 + 4u) >= 1; sums that are subnormal are exact.
    grown = values.mid.abs().add_(values.rad).mul_(1.0 + 4.0 * U)
    return torch.where(values.rad == 0, values.mid.abs(), grown)


def most_terms(index: Tensor) -> int:
    """How often the most frequent index occurs; 1 for no index."""
    return int(torch.bincount(index).max()) if index.numel() else 1


def sums_up(weights: Tensor, source: Tensor, target: Tensor, x: Tensor, size: int, most: int | None = None) -> Tensor:
    """Upper bound of `sum over triples of weight * x[source]` at target, in any order of summation.

    Args:
        weights: (triples,), nonnegative.
        source: (triples,), places in x.
        target: (triples,), places in the result.
        x: (n,) or (n, k), nonnegative.
        size: of the result.
        most: `most_terms(target)`.
    """
    terms = most_terms(target) if most is None else most
    product = mul_up if terms == 1 else torch.mul
    factor = weights.reshape(-1, *(1,) * (x.ndim - 1))
    total = torch.zeros(size, *x.shape[1:], dtype=torch.float64)
    for part in _chunks(len(weights), x.shape[1:].numel()):
        total.index_add_(0, target[part], product(factor[part], x.index_select(0, source[part])))
    if terms == 1:
        return total
    # exact <= fl / (1 - gamma_k) <= fl (1 + 2 gamma_k): k - 1 additions and one product to a term
    grown = mul_up(total, 1.0 + 2.0 * gamma(terms + 2))
    return grown if _cannot_underflow(weights, x) else add_up(grown, float(terms + 1) * TINY)


def _chunks(count: int, width: int) -> Iterator[slice]:
    step = max(_CHUNK // max(width, 1), 1)
    return (slice(start, start + step) for start in range(0, count, step))


def _cannot_underflow(weights: Tensor, x: Tensor) -> bool:
    """Whether every product of two nonzero numbers is at least 2^-1000."""
    return not weights.numel() or not x.numel() or _least(weights) * _least(x) >= 2.0**-1000


def _least(values: Tensor) -> float:
    """The least positive number; infinity where all are 0."""
    least = float(values.min())
    if least != 0:
        return least
    positive = values[values > 0]
    return float(positive.min()) if positive.numel() else math.inf


@dataclass(frozen=True, eq=False)
class Moduli:
    """`|A|` of an (m, n) matrix as triples; triples of one place are added."""

    rows: Tensor
    cols: Tensor
    weights: Tensor
    shape: tuple[int, int]
    row_terms: int
    col_counts: Tensor

    @staticmethod
    def of(rows: Tensor, cols: Tensor, values: MidRad, shape: tuple[int, int]) -> Moduli:
        """Upper bounds of the moduli of enclosed values; at least one triple."""
        return Moduli(rows, cols, magnitudes(values), shape, most_terms(rows), torch.bincount(cols, minlength=shape[1]))

    @property
    def col_terms(self) -> int:
        """The most triples in one column."""
        return int(self.col_counts.max())

    def apply(self, x: Tensor) -> Tensor:
        """Upper bound of `|A| x`, x >= 0 of shape (n,)."""
        return sums_up(self.weights, self.cols, self.rows, x, self.shape[0], self.row_terms)

    def apply_transposed(self, y: Tensor) -> Tensor:
        """Upper bound of `|A|^T y`, y >= 0 of shape (m,)."""
        return sums_up(self.weights, self.rows, self.cols, y, self.shape[1], self.col_terms)

    def row_sums(self) -> Tensor:
        """Upper bounds of the rows' sums, (m,)."""
        return self.apply(torch.ones(self.shape[1], dtype=torch.float64))

    def col_sums(self) -> Tensor:
        """Upper bounds of the columns' sums, (n,)."""
        return self.apply_transposed(torch.ones(self.shape[0], dtype=torch.float64))

    def scaled(self) -> tuple[Moduli, int]:
        """`(B, e)` with `|A| <= B 2^e` entrywise and B of moderate size: e is 0 where A is."""
        largest = float(self.weights.max())
        if not 0 < largest < math.inf or 1 / _UNIT < largest < _UNIT:
            return self, 0
        exponent = exponent_of(largest)
        weights = power_of_two_up(self.weights, -exponent)
        return Moduli(self.rows, self.cols, weights, self.shape, self.row_terms, self.col_counts), exponent


def moduli_norm_bound(A: Moduli, vector: Callable[[], Tensor] | None = None) -> tuple[float, float]:
    """Proven upper bound of `|| |A| ||_2` and an estimate of it.

    Args:
        A: the moduli.
        vector: proposes a right singular vector, where the first proposal, from the columns' counts, is poor.
    """
    B, exponent = A.scaled()
    mixed = sqrt_up(mul_up(B.row_sums().max(), B.col_sums().max()))
    upper, estimate = _collatz_wielandt(B, vector)
    best = torch.minimum(torch.as_tensor(upper, dtype=torch.float64), mixed)
    return float(power_of_two_up(best, exponent) if exponent else best), ldexp(estimate, exponent)


def _collatz_wielandt(A: Moduli, vector: Callable[[], Tensor] | None) -> tuple[float, float]:
    # Rounding alone keeps the ratio from ever reaching the estimate.
    slack = 1 + 1e-14 + 4 * U * (A.row_terms + A.col_terms)
    best, estimate = math.inf, 0.0
    used = (A.col_counts > 0).double()  # columns without triples, isolated nodes, tell nothing of the norm
    for x in _starts(A, vector):
        for round_ in range(ROUNDS):
            image = A.apply_transposed(A.apply(x))
            ratio = float(div_up(image, x).max())
            improved = ratio < best * (1 - 1e-15)
            best = ratio if ratio < best else best
            estimate = max(estimate, float((image @ image).sqrt() / (x @ (used * x)).sqrt()) ** 0.5)
            if (not improved and round_ > 2) or not ratio > estimate**2 * slack:
                break
            # Averaging keeps every entry positive and makes bipartite graphs converge.
            x = ((image / float(image.max()) + x / float(x.max())) / 2).clamp(min=_FLOOR)
        if best <= estimate**2 * (1 + 1e-12):
            break
    return float(sqrt_up(best)), estimate


def _starts(A: Moduli, vector: Callable[[], Tensor] | None) -> Iterator[Tensor]:
    yield A.col_counts.double().clamp(min=1.0).sqrt()  # the Perron vector of a symmetrically normalised graph
    yield vector() if vector else torch.ones(A.shape[1], dtype=torch.float64)
