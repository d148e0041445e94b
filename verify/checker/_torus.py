"""Upper bounds of a convolution's l2 norm from its symbols, in exact Gaussian integers.

On a torus a convolution is block-circulant; its norm is the largest norm of the symbols
`H(f) = sum_m K_m exp(2 pi i f.m / T)`. Zero padding is the restriction of a torus' convolution that is large enough
for nothing to wrap around onto the input; a stride splits it into as many convolutions of interleaved channels.

Kernel and roots of unity are replaced by integers with known errors, so a symbol is `2^-s (A + i B) + E`. For an
integer T and any Gaussian integer matrix L, `T I - N^* N = L L^* + R` with `N = A + i B` gives
`||N||_2^2 <= T + max_i sum_j |R_ij|`. Floating point only proposes T and L.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from flint import arb, fmpq, fmpz, fmpz_mat
from numpy.typing import NDArray

from . import _arithmetic as ball
from ._refusal import Rejected

KERNEL_BITS = 64  # of the largest entry of the kernel
ROOT_BITS = 64
FACTOR_BITS = 62
LARGEST_WORK = 2**28  # frequencies times the products in one symbol's Gram matrix
LARGEST_TABLE = 2**16  # roots of unity
_BATCH = 2**17  # entries of symbols in memory at a time

Floats = NDArray[np.float64]
Points = NDArray[np.int64]


@dataclass(frozen=True)
class Dimension:
    """One spatial dimension: its size, "zeros" or "circular", and the entries added before and after."""

    size: int
    mode: str
    before: int
    after: int


@dataclass(frozen=True)
class _Side:
    """The torus of one dimension: its side, the stride on it, how often an output repeats, taps from..to.

    Where it is `free`, nothing wraps around.
    """

    side: int
    stride: int
    repeats: int
    first: int
    end: int
    free: bool


def torus_norm(
    kernel: ball.Balls, dims: Sequence[Dimension], strides: Sequence[int], gaps: Sequence[int], groups: int
) -> ball.Ball:
    """A bound of `||A||_2`, `(A z)[o, p] = sum K[o, c, k] pad(z)[c, stride p + gap k]`.

    Raises:
        Rejected: too much work.
    """
    if not ball.all_finite(kernel):
        return arb.pos_inf()
    sides = [
        _side(dim, taps, stride, gap)
        for dim, taps, stride, gap in zip(dims, kernel.shape[2:], strides, gaps, strict=True)
    ]
    kept = kernel[(slice(None), slice(None), *(slice(side.first, side.end) for side in sides))]
    if not kept.size or all(entry.is_zero() for entry in kept.reshape(-1)):
        return arb(0)
    offsets, matrices = _interleaved(kept, sides, gaps, groups)
    torus = [side.side // side.stride for side in sides]
    _refuse_too_much(torus, matrices.shape)
    bound = _symbol_norm(offsets, matrices, torus, [side.free for side in sides])
    return (bound * arb(math.prod(side.repeats for side in sides)).sqrt()).upper()


def _side(dim: Dimension, taps: int, stride: int, gap: int) -> _Side:
    """The torus of one dimension.

    Circular: output p stands at `stride p - before` on a torus of the input's size. Modulo that size these are the
    multiples of g = gcd(stride, size), shifted, each at most `ceil(outputs g / size)` times.

    Zeros: an output at j reads j to j + span - 1. Taps that read zeros wherever the output stands are left out, and so
    are outputs that read zeros only. The others read no further than `reach` entries beyond either end, hence on a
    torus of `size + reach` entries none of the zeros they read falls on the input, and no two of them coincide.
    """
    span = gap * (taps - 1) + 1
    if dim.mode == "circular":
        common = math.gcd(stride, dim.size)
        outputs = (dim.size + dim.before + dim.after - span) // stride + 1
        return _Side(dim.size, common, -(-outputs * common // dim.size), 0, taps, free=False)
    offsets = gap * np.arange(taps)
    lowest, highest = -dim.before, dim.size + dim.after - span  # where outputs may stand
    useful = np.flatnonzero((highest + offsets >= 0) & (lowest + offsets < dim.size))
    if not len(useful):
        return _Side(stride, stride, 1, 0, 0, free=True)
    first, end = int(useful[0]), int(useful[-1]) + 1
    before, after = dim.before - gap * first, dim.after - gap * (taps - end)
    reach = max(min(max(before, after), gap * (end - first - 1)), 0)
    return _Side(-(-(dim.size + reach) // stride) * stride, stride, 1, first, end, free=True)


def _interleaved(
    kernel: ball.Balls, sides: Sequence[_Side], gaps: Sequence[int], groups: int
) -> tuple[Points, ball.Balls]:
    """Offsets (n, d) and matrices (groups, n, rows, cols): tap k reads entry `gap k = stride m + r`, channel r."""
    out, channels, *taps = kernel.shape
    strides = [side.stride for side in sides]
    phases = math.prod(strides)
    numbers: dict[tuple[int, ...], int] = {}
    placed: list[tuple[int, int, tuple[int, ...]]] = []
    for tap in np.ndindex(*taps):
        both = [divmod(gap * k, stride) for gap, k, stride in zip(gaps, tap, strides, strict=True)]
        phase = 0
        for (_, rest), stride in zip(both, strides, strict=True):
            phase = phase * stride + rest
        placed.append((numbers.setdefault(tuple(whole for whole, _ in both), len(numbers)), phase, tap))
    height = out // groups
    split = kernel.reshape(groups, height, channels, *taps)
    matrices = ball.full(0, (groups, len(numbers), height, channels, phases))
    flat_taps = split.reshape(groups, height, channels, -1)
    for number, phase, tap in placed:
        matrices[:, number, :, :, phase] = flat_taps[..., int(np.ravel_multi_index(tap, taps))]
    flat = matrices.reshape(groups, len(numbers), height, channels * phases)
    return np.array(list(numbers)), flat if height >= channels * phases else np.swapaxes(flat, 2, 3)


def _refuse_too_much(torus: Sequence[int], shape: tuple[int, ...]) -> None:
    groups, _, rows, cols = shape
    work = (math.prod(torus) // 2 + 1) * groups * rows * cols * cols
    if work > LARGEST_WORK or 2 * math.lcm(*torus) > LARGEST_TABLE:
        raise Rejected(f"a convolution of {math.prod(torus)} frequencies with {cols} channels is beyond the checker")


def _symbol_norm(offsets: Points, matrices: ball.Balls, torus: Sequence[int], free: Sequence[bool]) -> ball.Ball:
    """A bound of the largest `||H(f)||_2` over all groups and the frequencies of one grid.

    Where nothing wraps around along a dimension, entry (i, j) times `exp(i t (i - j))` makes a matrix of the same norm
    that is the part of another torus' convolution, with frequencies `f + t`. The grid with t = 0 or half a step of
    the smallest norm is taken, group by group.
    """
    top = float(ball.largest(ball.absolute(matrices)).upper())
    if not 0 < top < math.inf:
        return arb.pos_inf()
    shift = KERNEL_BITS - math.frexp(top)[1]
    integers, error = _rounded(matrices, shift)
    grid = np.array(integers, dtype=object).reshape(matrices.shape)
    choices = [Grid(tuple(torus), halves) for halves in itertools.product(*((0, 1) if can else (0,) for can in free))]
    table, root_error = _roots(math.lcm(*(2 * side for side in torus)))
    largest = fmpz(0)
    for group in grid:
        largest = max(largest, _largest_square(offsets, group, choices, table))
    unit = arb(2) ** (-shift)
    moduli = ball.array(ball.absolute(matrices).sum(axis=1))  # bounds of every symbol's entries, but for rounding
    taps, entries = matrices.shape[1], matrices[0, 0].size
    frobenius = ball.largest(np.array([_frobenius(group) for group in moduli], dtype=object))
    off = frobenius * root_error + arb(entries).sqrt() * error * taps * (1 + root_error)
    return (arb(largest).sqrt() * unit * arb(2) ** (-ROOT_BITS) + off).upper()


def _rounded(entries: ball.Balls, shift: int) -> tuple[list[fmpz], ball.Ball]:
    """Integers N and a number e with |A - 2^-shift N| <= e entry by entry."""
    scale = arb(2) ** shift
    integers, error = [], arb(0)
    for entry in entries.reshape(-1):
        scaled = entry * scale
        nearest = _nearest(scaled)
        integers.append(nearest)
        error = error.max(abs(scaled - arb(nearest)))
    return integers, (error.upper() / scale).upper()


def _frobenius(entries: ball.Balls) -> ball.Ball:
    return ball.total(ball.times(entries, entries)).sqrt()


def _roots(order: int) -> tuple[list[tuple[fmpz, fmpz]], ball.Ball]:
    """`2^64 exp(2 pi i j / order)` in integers, and a bound of the moduli of the errors, divided by 2^64."""
    scale, error, table = arb(2) ** ROOT_BITS, arb(0), []
    for j in range(order):
        sine, cosine = arb.sin_cos_pi_fmpq(fmpq(2 * j, order))
        pair = _nearest(cosine * scale), _nearest(sine * scale)
        gaps = cosine * scale - arb(pair[0]), sine * scale - arb(pair[1])
        error = error.max(ball.root_up(ball.square(gaps[0]) + ball.square(gaps[1])))
        table.append(pair)
    return table, (error / scale).upper()


def _nearest(x: ball.Ball) -> fmpz:
    """An integer near a finite ball; how near is the caller's business."""
    whole: fmpz | None = (x.mid() + arb(0.5)).floor().mid().unique_fmpz()
    if whole is None:
        raise Rejected("a number is not finite")
    return whole


@dataclass(frozen=True)
class Grid:
    """The frequencies `(2 f + halves) / (2 torus)`."""

    torus: tuple[int, ...]
    halves: tuple[int, ...]

    def numerators(self) -> Points:
        """`2 f + halves` for one of each pair of opposite frequencies, whose symbols are conjugate."""
        points = np.array(list(np.ndindex(*self.torus)), dtype=np.int64)
        opposite = (-points - np.array(self.halves)) % np.array(self.torus)
        weights = np.array([math.prod(self.torus[k + 1 :]) for k in range(len(self.torus))])
        return np.asarray(2 * points[points @ weights <= opposite @ weights] + np.array(self.halves))

    def turns(self, offsets: Points, order: int) -> Points:
        """Which root of unity of this order each tap takes at each frequency."""
        return np.asarray(self.numerators() @ (offsets * (order // (2 * np.array(self.torus)))).T % order)


def _largest_square(offsets: Points, group: NDArray[Any], choices: list[Grid], table: list[tuple[fmpz, fmpz]]) -> fmpz:
    """An integer that no `||A + i B||_2^2` exceeds, over all frequencies of one of the grids."""
    taps, rows, cols = group.shape
    floats = np.array([float(int(entry)) for entry in group.reshape(-1)]).reshape(taps, rows * cols)
    floats *= 2.0**-KERNEL_BITS
    entries = fmpz_mat(taps, rows * cols, list(group.reshape(-1)))
    count = max(_BATCH // (rows * cols), 1)
    found = []
    for grid in choices:
        turns = grid.turns(offsets, len(table))
        parts_ = [turns[start : start + count] for start in range(0, len(turns), count)]
        tops = [np.linalg.norm(_proposal(part, floats, len(table), rows), 2, axis=(1, 2)).max() for part in parts_]
        found.append((max(map(float, tops)) ** 2, parts_))
    top, batches = min(found, key=lambda pair: pair[0])
    best = fmpz(0)
    for batch in batches:
        proposals = _proposal(batch, floats, len(table), rows)
        parts = [
            fmpz_mat(len(batch), taps, [table[turn][part] for turn in batch.reshape(-1).tolist()]) * entries
            for part in range(2)
        ]
        real, imaginary = (part.entries() for part in parts)
        for number, symbol in enumerate(proposals):
            place = slice(number * rows * cols, (number + 1) * rows * cols)
            pair = fmpz_mat(rows, cols, real[place]), fmpz_mat(rows, cols, imaginary[place])
            best = max(best, _square(*pair, symbol, top))
    return best


def _proposal(turns: Points, kernel: Floats, order: int, rows: int) -> NDArray[np.complex128]:
    """About the symbols, (frequencies, rows, cols)."""
    angles = 2 * np.pi / order * turns
    return np.asarray((np.cos(angles) @ kernel) + 1j * (np.sin(angles) @ kernel)).reshape(len(turns), rows, -1)


def _square(real: fmpz_mat, imaginary: fmpz_mat, proposal: NDArray[np.complex128], top: float) -> fmpz:
    """An integer at least `||A + i B||_2^2`: the first shift above `top` that has a factor, or row sums."""
    cross = real.transpose() * imaginary
    gram = real.transpose() * real + imaginary.transpose() * imaginary, cross - cross.transpose()
    n = real.ncols()
    shifted = top * np.eye(n) - proposal.conj().T @ proposal
    for tiny in (4.0 * n, 40.0 * n, 1e4 * n, 2.0**45):
        bound = _shifted(gram, shifted, top, top * tiny * 2.0**-53)
        if bound is not None:
            return bound
    return max(_row_sums(*gram))


def _shifted(gram: tuple[fmpz_mat, fmpz_mat], shifted: NDArray[np.complex128], top: float, more: float) -> fmpz | None:
    """`T + max_i sum_j |R_ij|`, R = T I - gram - L L^* exactly; None where no factor was found."""
    n = len(shifted)
    try:
        factor = np.linalg.cholesky(shifted + more * np.eye(n))
    except np.linalg.LinAlgError:
        return None
    if not np.isfinite(factor).all():
        return None
    x, y = (_integers(np.asarray(part)) for part in (factor.real, factor.imag))
    cross, scale = y * x.transpose(), fmpz(2) ** (2 * (KERNEL_BITS + ROOT_BITS - FACTOR_BITS))
    level = fmpz(int((top + more) * 2.0**60)) * fmpz(2) ** (2 * (KERNEL_BITS + ROOT_BITS) - 60)
    identity = fmpz_mat(n, n)
    for i in range(n):
        identity[i, i] = level
    real = identity - gram[0] - (x * x.transpose() + y * y.transpose()) * scale
    imaginary = gram[1] + (cross - cross.transpose()) * scale
    return level + max(_row_sums(real, imaginary))


def _integers(part: Floats) -> fmpz_mat:
    n = len(part)
    return fmpz_mat(n, n, [fmpz(int(value * 2.0**FACTOR_BITS)) for value in part.reshape(-1).tolist()])


def _row_sums(real: fmpz_mat, imaginary: fmpz_mat) -> Iterator[fmpz]:
    """`sum_j |Re| + |Im|` for each row: the largest bounds the norm of a Hermitian matrix."""
    n = real.ncols()
    pairs = [abs(a) + abs(b) for a, b in zip(real.entries(), imaginary.entries(), strict=True)]
    return (sum(pairs[i * n : (i + 1) * n], fmpz(0)) for i in range(n))
