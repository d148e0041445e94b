"""Verified l2 norms of convolutions.

A convolution on a torus is block-circulant: in the Fourier basis it is one small complex matrix, its symbol
`H(f) = sum_m K_m exp(2 pi i f.m / T)`, per frequency f, and its norm is the largest `||H(f)||_2`. Every other
convolution here is a torus' convolution with rows or columns left out (which cannot raise the norm), after or before a
0/1 matrix that repeats entries (whose norm is the root of the largest number of copies).

Rounding is enclosed throughout: the roots of unity come from ball arithmetic, the symbols from real matrix products
with a-priori bounds, and `lambda_max(H^* H) <= t` from a Cholesky factor whose residual is bounded, as in
`_spectral.py`. Complex products, whose evaluation nobody promises, are written out as real ones.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from flint import arb, ctx, fmpq
from torch import Tensor

from deqops._errors import InputError
from deqops._numbers import is_count

from ._rounding import TINY, U, add_up, check_environment, exact_float64, gamma, mul_up, sqrt_up, sum_up

_CHUNK = 2**18  # numbers of one batch of symbols
_PEAKS, _STEPS = 4, 8  # of the search for a grid of frequencies
_PRECISION = 96  # bits of the balls that the roots of unity are rounded from

Pair = tuple[int, int]
OnTorus = tuple[int, int, int]


@dataclass(frozen=True)
class Axis:
    """One spatial dimension of an input: its size, and how it is padded before and after."""

    mode: str
    size: int
    before: int
    after: int


def convolution_norm_bound(
    kernel: Tensor,
    size: Sequence[int],
    *,
    padding_mode: str,
    padding: int | Sequence[int] | str,
    stride: int | Sequence[int] = 1,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> float:
    """Proven upper bound of `||A||_2` for `(A z)[o, i] = sum_{c, k} K[o, c, k] pad(z)[c, stride i + dilation k]`.

    This is the linear part of torch's convolutions in one and two dimensions. The norm is from l2 to l2 on all
    channels and positions of one sample. A transposed convolution is the adjoint of a convolution and has its norm;
    see `transposed_convolution_norm_bound`.

    Args:
        kernel: (out, in / groups, k) or (out, in / groups, k1, k2), any real floating dtype, taken exactly.
        size: the input's spatial size, (N,) or (N1, N2).
        padding_mode: "circular", "zeros", "reflect" or "replicate".
        padding: entries added on both sides, one integer or one per dimension; or "same" or "valid".
        stride: one integer or one per dimension.
        dilation: one integer or one per dimension.
        groups: of channels.

    Returns:
        The bound. It is the norm up to rounding (about 1e-13) for circular padding where all positions of the
        torus, or of one residue class modulo a stride that divides the size, are put out equally often. For zeros it
        is the norm on the smallest torus that the compression below allows, periodic or antiperiodic, for reflect and
        replicate that of the padded input times the padding's norm.

    Raises:
        InputError: an argument of the wrong shape, type or range, or NaN or infinity in the kernel.

    Source: Sedghi, Gupta and Long, *The Singular Values of Convolutional Layers* (ICLR 2019) for the symbols; Rump,
    *Verification of positive definiteness*, BIT 46 (2006) for the bound of each.
    """
    weights = _checked_kernel(kernel, groups)
    taps = tuple(weights.shape[2:])
    sides = _per_dimension("size", size, len(taps), 1)
    steps = _per_dimension("stride", stride, len(taps), 1)
    gaps = _per_dimension("dilation", dilation, len(taps), 1)
    spans = _spans(taps, gaps)
    pads = _paddings(padding, spans, steps)
    if not isinstance(padding_mode, str) or padding_mode not in _AXES:
        raise InputError(f"padding_mode: got {padding_mode!r}; choose one of {', '.join(_AXES)}")
    _check_extents(padding_mode, sides, spans, pads)
    axes = [Axis(padding_mode, side, *pad) for side, pad in zip(sides, pads, strict=True)]
    return padded_convolution_norm_bound(weights, axes, steps, gaps, groups)


def padded_convolution_norm_bound(
    weights: Tensor, axes: Sequence[Axis], steps: Sequence[int], gaps: Sequence[int], groups: int
) -> float:
    """As `convolution_norm_bound`, for a finite float64 kernel and each dimension padded in its own way."""
    check_environment()
    weights, axes = _without_unread_taps(weights, axes, gaps)
    both = zip(axes, _spans(weights.shape[2:], gaps), steps, strict=True)
    found = [_AXES[axis.mode](axis.size, span, (axis.before, axis.after), step) for axis, span, step in both]
    torus, phases, copies = zip(*found, strict=True)
    free = [axis.mode != "circular" for axis in axes]
    bound = _torus_bound(weights, gaps, torus, phases, groups, free)
    return float(mul_up(bound, sqrt_up(float(math.prod(copies)))))


def transposed_convolution_norm_bound(
    kernel: Tensor,
    size: Sequence[int],
    *,
    padding: int | Sequence[int],
    output_padding: int | Sequence[int] = 0,
    stride: int | Sequence[int] = 1,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> float:
    """Proven upper bound of the l2 norm of a transposed convolution, which torch pads with zeros only.

    It is the adjoint of the convolution with the same kernel from the output's size to the input's, less the rows
    that a large `output_padding` would add there, so that convolution's bound holds.

    Args:
        kernel: (in, out / groups, k) or (in, out / groups, k1, k2), as in `torch.nn.ConvTranspose2d`.
        size: the input's spatial size.
        padding: entries removed from both sides of the output.
        output_padding: entries added to one side of the output.
        stride: of the adjoint convolution.
        dilation: one integer or one per dimension.
        groups: of channels.

    Returns:
        The bound, as `convolution_norm_bound` for zeros.

    Raises:
        InputError: as `convolution_norm_bound`.
    """
    taps = _checked_kernel(kernel, groups).shape[2:]
    sides = _per_dimension("size", size, len(taps), 1)
    steps = _per_dimension("stride", stride, len(taps), 1)
    gaps = _per_dimension("dilation", dilation, len(taps), 1)
    pads = _per_dimension("padding", padding, len(taps), 0)
    extra = _per_dimension("output_padding", output_padding, len(taps), 0)
    outputs = tuple(
        (side - 1) * step - 2 * pad + gap * (count - 1) + 1 + more
        for side, step, pad, gap, count, more in zip(sides, steps, pads, gaps, taps, extra, strict=True)
    )
    if min(outputs) < 1:
        raise InputError(f"padding: got {padding!r}, which leaves an output of size {outputs}; use a smaller one")
    return convolution_norm_bound(
        kernel, outputs, padding_mode="zeros", padding=pads, stride=steps, dilation=gaps, groups=groups
    )


# Arguments


def _checked_kernel(kernel: Tensor, groups: int) -> Tensor:
    """The kernel in float64: three or four dimensions, none empty, out a multiple of groups, all entries finite."""
    check_environment()
    if not isinstance(kernel, Tensor) or kernel.ndim not in (3, 4) or not kernel.numel():
        found = tuple(kernel.shape) if isinstance(kernel, Tensor) else type(kernel).__name__
        raise InputError(f"kernel: a tensor (out, in/groups, k) or (out, in/groups, k1, k2) is needed, got {found}")
    if not kernel.is_floating_point():
        raise InputError(f"kernel: dtype {kernel.dtype} is no real floating dtype; use float32 or float64")
    if not is_count(groups, 1):
        raise InputError(f"groups: got {groups!r}; give 1 integer, at least 1")
    if kernel.shape[0] % groups:
        raise InputError(f"groups: got {groups}; {kernel.shape[0]} kernels need a divisor of their number")
    weights = exact_float64(kernel)
    finite = weights.isfinite()
    if not bool(finite.all()):
        raise InputError(f"kernel: entry {(~finite).nonzero()[0].tolist()} is not finite; remove NaN and infinity")
    return weights


def _per_dimension(name: str, value: int | Sequence[int], dims: int, least: int) -> tuple[int, ...]:
    """One integer for each dimension."""
    values = (value,) * dims if isinstance(value, int) else tuple(value) if isinstance(value, Sequence) else ()
    valid = all(isinstance(v, int) and not isinstance(v, bool) and v >= least for v in values)
    if len(values) != dims or not valid:
        raise InputError(f"{name}: got {value!r}; give {dims} integer{'s' * (dims > 1)}, at least {least}")
    return values


def _spans(taps: Sequence[int], gaps: Sequence[int]) -> list[int]:
    return [gap * (count - 1) + 1 for gap, count in zip(gaps, taps, strict=True)]


def _paddings(padding: int | Sequence[int] | str, spans: Sequence[int], steps: Sequence[int]) -> list[Pair]:
    """(before, after) for each dimension; "same" adds the odd entry after, as torch does."""
    if padding == "valid":
        return [(0, 0)] * len(spans)
    if padding == "same":
        if max(steps) > 1:
            raise InputError(f'padding: got "same" with stride {tuple(steps)}; torch has it for stride 1 only')
        return [((span - 1) // 2, span // 2) for span in spans]
    if isinstance(padding, str):
        raise InputError(f'padding: got {padding!r}; give integers, "same" or "valid"')
    return [(pad, pad) for pad in _per_dimension("padding", padding, len(spans), 0)]


def _check_extents(mode: str, sides: Sequence[int], spans: Sequence[int], pads: Sequence[Pair]) -> None:
    """Refuse what torch refuses: kernels longer than the padded input, padding that wraps around more than once."""
    for side, span, pad in zip(sides, spans, pads, strict=True):
        if side + sum(pad) < span:
            raise InputError(f"size: got {tuple(sides)}; padded to {side + sum(pad)} it is below the kernel's {span}")
        most = {"circular": side, "reflect": side - 1}.get(mode, max(pad))
        if max(pad) > most:
            raise InputError(f"padding: got {max(pad)}; {mode} padding of size {side} allows at most {most}")


def _without_unread_taps(weights: Tensor, axes: Sequence[Axis], gaps: Sequence[int]) -> tuple[Tensor, list[Axis]]:
    """The same convolution without the taps that read zeros only; paddings with zeros may come out negative.

    Outputs begin at `-before <= j <= size + after - span`, and a tap at offset o reads j + o. It meets [0, size)
    only if `span - size - after <= o <= size - 1 + before`.
    """
    left = []
    for dim, (axis, gap) in enumerate(zip(axes, gaps, strict=True), start=2):
        if axis.mode != "zeros":
            left.append(axis)
            continue
        count = weights.shape[dim]
        span = gap * (count - 1) + 1
        first = max(-(-(span - axis.size - axis.after) // gap), 0)
        end = max(min((axis.size - 1 + axis.before) // gap + 1, count), first)
        weights = weights.narrow(dim, first, end - first)
        left.append(replace(axis, before=axis.before - first * gap, after=axis.after - (count - end) * gap))
    return weights, left


# Which torus: each function returns (side of the torus, stride on it, copies of one entry) for one dimension.


def _circular_axis(side: int, span: int, pad: Pair, step: int) -> OnTorus:
    """Output i is position `step i - before` of the torus' convolution.

    Modulo the side these are positions of one residue class modulo `g = gcd(step, side)`. They repeat with period
    `side / g` and not before, so the operator is a 0/1 matrix with at most `copies` ones in a column, and one in each
    row, times the torus' convolution at stride g; of norm at most sqrt(copies) times that one's, with equality where
    the outputs are whole periods.
    """
    common = math.gcd(step, side)
    outputs = (side + sum(pad) - span) // step + 1
    return side, common, -(-outputs * common // side)


def _zeros_axis(side: int, span: int, pad: Pair, step: int) -> OnTorus:
    """The smallest torus, its side a multiple of the stride, that zero padding is a compression of.

    Put the input at positions [0, N) of a torus of side T, zeros elsewhere. An output at j (a multiple of the stride,
    less the padding before) reads positions j to j + span - 1 of the padded input. Outputs with j <= -span or j >= N
    read padding only and are zero; leave them out. What remains lies in -a <= j <= N + b - span with
    `a = min(before, span - 1)`, `b = min(after, span - 1)`, and reads positions in [-a, N + b). With
    `T >= N + max(a, b, 0)`:

    - no position read outside [0, N) falls on one of [0, N) modulo T, so each reads the zero that it should;
    - there are at most `N + a + b - span + 1 <= N + min(a, b) <= T` positions j in a row, so no two agree modulo T.

    Hence these outputs are distinct rows of the torus' convolution, restricted to the columns of [0, N). Where T is a
    multiple of the stride they also lie in one residue class modulo the stride.
    """
    reach = max(min(max(pad), span - 1), 0)
    return -(-(side + reach) // step) * step, step, 1


def _replicate_axis(side: int, span: int, pad: Pair, step: int) -> OnTorus:
    index = torch.arange(-pad[0], side + pad[1]).clamp(0, side - 1)
    return _padded_axis(index, span, step)


def _reflect_axis(side: int, span: int, pad: Pair, step: int) -> OnTorus:
    last = side - 1
    index = last - (last - torch.arange(-pad[0], side + pad[1]).abs()).abs()
    return _padded_axis(index, span, step)


def _padded_axis(index: Tensor, span: int, step: int) -> OnTorus:
    """The padded input's convolution without padding; the map z -> z[index] has orthogonal 0/1 columns."""
    torus, phases, _ = _zeros_axis(len(index), span, (0, 0), step)
    return torus, phases, int(torch.bincount(index).max())


_AXES: dict[str, Callable[[int, int, Pair, int], OnTorus]] = {
    "circular": _circular_axis,
    "zeros": _zeros_axis,
    "reflect": _reflect_axis,
    "replicate": _replicate_axis,
}


# The norm on a torus


def _torus_bound(
    weights: Tensor, gaps: Sequence[int], torus: Sequence[int], phases: Sequence[int], groups: int, free: Sequence[bool]
) -> float:
    """Bound for the convolution on a torus at stride `phases`, which divide its sides; scaled to entries below 1.

    Along the `free` dimensions only the compression to what does not wrap around is meant.
    """
    if not bool(weights.any()):
        return 0.0
    exponent = math.frexp(float(weights.abs().max()))[1]
    half = exponent // 2  # in two steps, since 2^1024 is no float
    down, up = [(math.ldexp(1.0, sign * half), math.ldexp(1.0, sign * (exponent - half))) for sign in (-1, 1)]
    scaled = weights * down[0] * down[1]
    # Each entry that underflowed lost at most 2^-1074, and the norm at most the sum of what all entries lost.
    lost = 0.0 if torch.equal(scaled * up[0] * up[1], weights) else weights.numel() * TINY
    offsets, matrices = _polyphase(scaled, gaps, phases, groups)
    sides = [side // phase for side, phase in zip(torus, phases, strict=True)]
    bound = add_up(_symbol_bound(offsets, matrices, sides, free), lost)
    return float(mul_up(mul_up(bound, up[0]), up[1]))


def _polyphase(weights: Tensor, gaps: Sequence[int], phases: Sequence[int], groups: int) -> tuple[Tensor, Tensor]:
    """The kernel as one of stride 1: offsets (n, d) of its n taps, and a matrix for each, (groups, n, rows, cols).

    With `z_r[j] = z[phase j + r]` and `dilation k = phase m + r`, `sum_k K[k] z[phase i + dilation k]` is
    `sum_{m, r} K[(phase m + r) / dilation] z_r[i + m]`: each remainder r is a channel of its own. Matrices wider than
    high are transposed, which transposes the symbols.
    """
    out, channels, *counts = weights.shape
    positions = _grid(counts) * torch.tensor(gaps)
    step = torch.tensor(phases)
    coarse = torch.div(positions, step, rounding_mode="floor")
    remainder = positions - coarse * step
    offsets, place = torch.unique(coarse, dim=0, return_inverse=True)
    phase = remainder[:, 0] if len(counts) == 1 else remainder[:, 0] * phases[1] + remainder[:, 1]
    split = torch.zeros(len(offsets), math.prod(phases), groups, out // groups, channels, dtype=torch.float64)
    split[place, phase] = weights.reshape(groups, out // groups, channels, -1).permute(3, 0, 1, 2)
    matrices = split.permute(2, 0, 3, 4, 1).flatten(3)
    return offsets, matrices if matrices.shape[2] >= matrices.shape[3] else matrices.mT


def _grid(counts: Sequence[int]) -> Tensor:
    """All points of [0, counts[0]) x .., (points, d), the last coordinate fastest."""
    return torch.stack(torch.meshgrid(*map(torch.arange, counts), indexing="ij"), dim=-1).reshape(-1, len(counts))


def _symbol_bound(offsets: Tensor, matrices: Tensor, torus: Sequence[int], free: Sequence[bool]) -> float:
    """Bound of max over frequencies f of `||sum_m matrices_m exp(2 pi i f.m / torus)||_2`, over all groups.

    Let A be a compression whose rows i and columns j never wrap around. With the diagonal unitary D of the entries
    `exp(2 pi i t.j / T)`, `D A D^*` is that of the kernel `K_m exp(-2 pi i t.m / T)` and has A's norm: along such free
    dimensions the frequencies `f + t` bound it for every real t. t = 0 or 1/2, whichever seems smaller; both keep the
    symbols in conjugate pairs. One threshold serves all batches; it rises where a batch cannot be shown to lie below.
    """
    halves, threshold = _best_halves(offsets, matrices, torus, free)
    grid = Grid(tuple(torus), halves)
    top = 0.0
    for symbols in _symbols(offsets, matrices, grid, grid.points()):
        found, threshold = _eigenvalue_bound(symbols, threshold)
        top = max(top, found)
    return float(add_up(sqrt_up(top), _symbol_error(matrices, _roots(grid.order)[1])))


@dataclass(frozen=True)
class Grid:
    """The frequencies `(f + halves / 2) / torus`, given by their numerators over `torus (1 + halves)`."""

    torus: tuple[int, ...]
    halves: tuple[int, ...]

    @property
    def denominators(self) -> Tensor:
        """Of each dimension."""
        return torch.tensor([side * (1 + half) for side, half in zip(self.torus, self.halves, strict=True)])

    @property
    def order(self) -> int:
        """The common denominator."""
        return math.lcm(*self.denominators.tolist())

    def points(self) -> Tensor:
        """The numerators of one of each pair f, -f: real kernels have `H(-f) = conj H(f)`."""
        strides = torch.tensor([math.prod(self.torus[i + 1 :]) for i in range(len(self.torus))])
        half, index = torch.tensor(self.halves), _grid(self.torus)
        opposite = (-index - half) % torch.tensor(self.torus)
        return self.at(index[(index * strides).sum(1) <= (opposite * strides).sum(1)])

    def at(self, index: Tensor) -> Tensor:
        """The numerators of the frequencies f."""
        half = torch.tensor(self.halves)
        return index * (1 + half) + half


def _best_halves(
    offsets: Tensor, matrices: Tensor, torus: Sequence[int], free: Sequence[bool]
) -> tuple[tuple[int, ...], float]:
    """(2 t, a threshold worth trying), by estimates around the few frequencies of the largest symbols; or 0, 0."""
    plain = Grid(tuple(torus), (0,) * len(torus))
    if not any(free):
        return plain.halves, 0.0
    index, groups = plain.points(), len(matrices)
    sizes = [_power_steps(s).reshape(groups, -1).amax(0) for s in _symbols(offsets, matrices, plain, index)]
    peaks = index[torch.cat(sizes).topk(min(_PEAKS, len(index))).indices]
    best: tuple[float, tuple[int, ...]] = (math.inf, plain.halves)
    for halves in itertools.product(*((0, 1) if can else (0,) for can in free)):
        around = [(-1, 0) if half else (-1, 0, 1) if any(halves) else (0,) for half in halves]
        steps = torch.tensor(list(itertools.product(*around)))
        grid = Grid(tuple(torus), halves)
        near = torch.unique(grid.at((peaks[:, None] + steps).reshape(-1, len(torus))) % grid.denominators, dim=0)
        found = max(_estimate(_gram(s)) for s in _symbols(offsets, matrices, grid, near))
        best = min(best, (found, halves))
    return best[1], best[0] * (1.0 + 4.0 * matrices.shape[3] * U) if 0 < best[0] < math.inf else 0.0


def _power_steps(symbols: Tensor) -> Tensor:
    """About the norm of each symbol, (batch,); too low, which does no harm."""
    h = torch.complex(*symbols.chunk(2, dim=1))
    x = torch.cos(torch.arange(h.shape[2], dtype=torch.float64) ** 2).to(h.dtype).expand(len(h), -1)[..., None]
    for _ in range(_STEPS):
        x = h.mH @ (h @ x)
        x = x / torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp(min=1e-300)
    norms: Tensor = torch.linalg.vector_norm(h @ x, dim=(1, 2))
    return norms


@lru_cache(maxsize=16)
def _roots(order: int) -> tuple[Tensor, float]:
    """cos and sin of `2 pi j / order`, (order, 2), and a bound of the error of each entry (about 2^-54)."""
    before, error = ctx.prec, arb(0)
    values: list[list[float]] = []
    try:
        ctx.prec = _PRECISION
        for j in range(order):
            sine, cosine = arb.sin_cos_pi_fmpq(fmpq(2 * j, order))
            values.append([float(cosine), float(sine)])
            error = error.max(abs(cosine - values[-1][0])).max(abs(sine - values[-1][1]))
        largest = float(error.upper()) * (1 + 2.0**-50)  # whatever the direction in which that was rounded
    finally:
        ctx.prec = before
    return torch.tensor(values, dtype=torch.float64), largest


def _symbols(offsets: Tensor, matrices: Tensor, grid: Grid, points: Tensor) -> Iterator[Tensor]:
    """Batches of the symbols of all groups at the points, real part above imaginary part: (batch, 2 rows, cols)."""
    groups, taps, rows, cols = matrices.shape
    table, _ = _roots(grid.order)
    entries = matrices.reshape(groups, taps, rows * cols)
    turns = (offsets * (grid.order // grid.denominators)).T
    count = max(_CHUNK // (2 * groups * rows * cols + 2 * taps), 1)
    for start in range(0, len(points), count):
        factors = table[(points[start : start + count] @ turns) % grid.order].mT.reshape(-1, taps)
        yield (factors @ entries).reshape(-1, 2 * rows, cols)


def _symbol_error(matrices: Tensor, root_error: float) -> float:
    """Bound of `||computed H(f) - H(f)||_2` for every frequency and group.

    Where `|c - c~| <= e` and |c| <= 1, a part of an entry of `sum_m c_m K_m` errs by at most
    `(gamma_n (1 + e) + e) sum_m |K_m|`, plus 2^-1074 for each product that underflowed; the complex entry by at
    most sqrt(2) times that.
    """
    _, taps, rows, cols = matrices.shape
    moduli = sum_up(matrices.abs(), dim=1)
    frobenius = sqrt_up(_squares_up(moduli)).max()
    factor = add_up(mul_up(gamma(taps + 2), 1.0 + 4.0 * root_error), root_error)
    error = mul_up(mul_up(frobenius, factor), sqrt_up(2.0))
    return float(add_up(error, 4.0 * rows * cols * taps * TINY))


def _eigenvalue_bound(symbols: Tensor, threshold: float) -> tuple[float, float]:
    """(bound of `lambda_max(H^* H)` over the batch, threshold that showed it), starting from a threshold t.

    Where `t I - H^* H` has no usable Cholesky factor, t is raised to an estimate; a poor estimate costs tightness,
    in steps, not the bound. The last resort is the Frobenius norm.
    """
    gram = _gram(symbols)
    squares, error = _gram_error(gram, symbols.shape[1])
    margin, proven = 4.0 * gram.shape[1] * U, 0.0
    while len(gram) and margin < 4.0:
        if threshold > 0:
            upper = add_up(add_up(threshold, _deficits(gram, threshold)), error)
            shown = upper.isfinite()
            proven = max([proven, *upper[shown].tolist()])
            gram, squares, error = gram[~shown], squares[~shown], error[~shown]
        if len(gram):
            threshold = max(threshold, _estimate(gram) * (1.0 + margin))
            margin *= 8.0
    unproven = float(squares.max()) if len(squares) else 0.0
    return max(proven, math.inf if math.isnan(unproven) else unproven), threshold


def _estimate(gram: Tensor) -> float:
    """About the largest eigenvalue of any matrix of the batch; need not be right."""
    try:
        return float(torch.linalg.eigvalsh(gram).max())
    except RuntimeError:  # its iteration did not converge
        return float(gram.real.diagonal(dim1=1, dim2=2).sum(1).max())


def _gram(symbols: Tensor) -> Tensor:
    """fl(H^* H) for `H = X + i Y`: `X^T X + Y^T Y + i (X^T Y - Y^T X)`, (batch, cols, cols)."""
    real, imaginary = symbols.chunk(2, dim=1)
    cross = real.mT @ imaginary
    return torch.complex(symbols.mT @ symbols, cross - cross.mT)


def _gram_error(gram: Tensor, terms: int) -> tuple[Tensor, Tensor]:
    """Bounds of `||H||_F^2` and of `||fl(H^* H) - H^* H||_F`, (batch,); terms is twice the height of H.

    With h_i the columns of H, each part of entry ij is a sum of `terms` products, of moduli whose sum is at most
    `||h_i|| ||h_j||` by Cauchy and Schwarz, and perhaps one subtraction. So the complex entry errs by
    `sqrt(2) gamma ||h_i|| ||h_j||`, and the matrix by `sqrt(2) gamma ||H||_F^2` in the Frobenius norm.
    """
    size = gram.shape[1]
    underflow = 4.0 * terms * size * TINY
    trace = sum_up(gram.real.diagonal(dim1=1, dim2=2), dim=1)
    squares = add_up(mul_up(trace, 1.0 + 2.0 * gamma(terms + 2)), underflow)
    return squares, add_up(mul_up(mul_up(squares, 1.5), gamma(terms + 2)), underflow)


def _deficits(gram: Tensor, t: float) -> Tensor:
    """For each G of the batch a c >= 0 with `||t I - G - B|| <= c` for a positive semidefinite B; or infinity.

    Then `lambda_max <= t + c + ||G - M||` for every Hermitian M. B is `L L^*` for whatever L the Cholesky
    routine leaves, `L = X + i Y`, and the rounding of `X X^T + Y Y^T + i (Y X^T - X Y^T)` is bounded as in
    `_gram_error`. NaN or infinity in L reaches c.
    """
    size = gram.shape[1]
    shifted = -gram
    diagonal = shifted.real.diagonal(dim1=1, dim2=2)
    diagonal += t
    diagonal_error = mul_up(diagonal.abs().amax(dim=1), U)
    factor, info = torch.linalg.cholesky_ex(shifted)
    parts = torch.view_as_real(factor)
    flat = parts.reshape(-1, size, 2 * size)
    cross = parts[..., 1] @ parts[..., 0].mT
    residual = torch.stack((flat @ flat.mT - shifted.real, cross - cross.mT - shifted.imag))
    frobenius = sqrt_up(_squares_up(residual.transpose(0, 1)))
    rounding = mul_up(mul_up(_squares_up(flat), 1.5), gamma(2 * size + 2))
    found = add_up(mul_up(frobenius, 1.0 + 4.0 * U), add_up(rounding, 4.0 * size * size * TINY))
    found = add_up(found, diagonal_error)
    return torch.where((info == 0) & found.isfinite(), found, math.inf)


def _squares_up(x: Tensor) -> Tensor:
    """Upper bound of the sum of squares of each x[i]."""
    terms = x[0].numel()
    flat = x.reshape(len(x), terms)
    total = mul_up((flat * flat).sum(dim=1), 1.0 + 2.0 * gamma(terms + 2))
    return add_up(total, (terms + 1) * TINY)
