"""The spectral norm of M = U V^T + D, D diagonal, from matrices of the size of the rank.

`||M||_2 <= s` if and only if `[[s I, -M^T], [-M, s I]] >= 0`. Write `U = A - B`, `V = A + B` and rotate both sides by
[[I, I], [I, -I]] / sqrt 2: the matrix becomes `K = K_0 - W J W^T` with

    K_0 = diag(s - d, s + d),    W = [[A, B], [B, A]],    J = diag(I, -I).

Let s > max |d|, so that K_0 > 0, and let L be any matrix with

    H = W^T K_0^-1 W <= L L^T    and    L^T J L <= I.

Then K >= 0. Proof: put `w = W^T v`. For every z, `v^T K_0 v >= 2 z^T w - z^T H z >= 2 z^T w - ||L^T z||^2` (complete
the square with K_0^-1 W z). The least upper bound over z of the right side is infinite unless w = L g for some g, which
may be taken orthogonal to the kernel of L, and then it is `||g||^2 >= g^T L^T J L g = w^T J w`. So `v^T K v >= 0`.

H and J have 2k rows. A and B are proposed such that `(A - B) (A + B)^T` is about `U V^T` and its factors about equal,
so that H is as small as can be; the difference is bounded and added. s comes from the secular equation
`lambda_max(J H(s)) = 1` in floats and is then raised until both conditions are verified.

At most k of the |d_i| can exceed ||M||_2 (Weyl); where the secular equation has no root above max |d|, the k largest
d_i are moved into the low-rank part.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from . import _midrad as midrad
from ._definite import lowest_eigenvalue_bound
from ._midrad import MidRad
from ._product import product_bound
from ._rounding import TINY, add_up, div_up, matmul_up, mul_up
from ._rounding import U as UNIT

_STEPS = 60  # of the secular equation's solver


def low_rank_bound(U: MidRad, V: MidRad, d: MidRad) -> float:
    """Proven upper bound of `||U V^T + diag(d)||_2`; infinite where none was found.

    Args:
        U: (n, k), finite.
        V: (n, k), finite.
        d: (n,), finite.
    """
    if not U.mid.numel():
        return float(d.magnitude().max()) if d.mid.numel() else 0.0
    U, V, d, exponent = _scaled_parts(U, V, d)
    bound, is_sharp = _bound(U, V, d)
    if not is_sharp:
        bound = min(bound, _bound(*_with_largest_moved(U, V, d))[0])
    total = float(_times_power(MidRad.exact(torch.tensor(bound, dtype=torch.float64)), exponent).upper())
    return math.inf if math.isnan(total) else total


def _scaled_parts(U: MidRad, V: MidRad, d: MidRad) -> tuple[MidRad, MidRad, MidRad, int]:
    """The same matrix times `2^-exponent`, about of norm 1."""
    left, right = _exponent(U.mid), _exponent(V.mid)
    U, V = _times_power(U, -left), _times_power(V, -right)
    sizes = (d.mid, 0), (_balanced_core(U.mid, V.mid)[1], left + right)
    exponent = max((_exponent(part) + power for part, power in sizes if bool((part != 0).any())), default=0)
    rest = left + right - exponent
    half = rest // 2
    return _times_power(U, half), _times_power(V, rest - half), _times_power(d, -exponent), exponent


def _exponent(x: Tensor) -> int:
    """e with the largest modulus in [2^(e-1), 2^e); 0 for zeros."""
    return math.frexp(float(x.abs().max()))[1]


def _times_power(x: MidRad, exponent: int) -> MidRad:
    """`x 2^exponent`, in steps since 2^exponent may be no float; what underflows is enclosed."""
    while exponent:
        step = max(min(exponent, 900), -900)
        x = midrad.mul(x, MidRad.exact(torch.tensor(2.0**step, dtype=torch.float64)))
        if not bool((x.mid != 0).any()) and step < 0:
            return MidRad(x.mid, x.rad)  # smaller still: the radius, rounded up, stays a bound
        exponent -= step
    return x


def _with_largest_moved(U: MidRad, V: MidRad, d: MidRad) -> tuple[MidRad, MidRad, MidRad]:
    """The same matrix; the k largest `|d_i|` as `e_i (d_i e_i)^T`, their radii left in d."""
    n, k = U.shape
    largest = d.mid.abs().topk(min(k, n)).indices
    units = torch.zeros(n, len(largest), dtype=torch.float64)
    units[largest, torch.arange(len(largest))] = 1.0
    left, right = MidRad.exact(units), MidRad.exact(units * d.mid[largest])
    rest = d.mid.index_fill(0, largest, 0.0)
    return _beside(U, left), _beside(V, right), MidRad(rest, d.rad)


def _beside(A: MidRad, B: MidRad) -> MidRad:
    return MidRad(torch.cat([A.mid, B.mid], dim=1), torch.cat([A.rad, B.rad], dim=1))


def _bound(U: MidRad, V: MidRad, d: MidRad) -> tuple[float, bool]:
    """A bound at scale 1, and whether the secular equation had a root."""
    A, B = _balanced(U.mid, V.mid)
    if not bool(A.isfinite().all() & B.isfinite().all()):
        return math.inf, True
    spread = add_up(_difference_bound(U, V, A, B), d.rad.max())
    W = torch.cat([torch.cat([A, B], dim=1), torch.cat([B, A], dim=1)])
    root = _secular_root(W, d.mid)
    for s in _candidates(float(d.mid.abs().max()), root, 64.0 * W.shape[1] * UNIT):
        if _is_norm_bound(s, W, d.mid):
            return float(add_up(s, spread)), root is not None
    return math.inf, root is not None


def _candidates(least: float, root: float | None, unit: float) -> Iterator[float]:
    """Numbers above the root, farther and farther: a poor estimate costs tightness, in steps, not the bound.

    Close to max |d| the root is known badly, so that there the steps start below it.
    """
    margins = [unit * 8.0**step for step in range(14)]
    if root is None or root - least < 1e-6:
        yield from (least + margin for margin in margins if root is None or least + margin < root)
    if root is not None:
        yield from (root + margin for margin in margins)


def _balanced_core(U: Tensor, V: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """About `(A, sigma, B)` with `U V^T = A diag(sigma) B^T` and orthonormal columns."""
    left, right = torch.linalg.qr(U), torch.linalg.qr(V)
    core = left.R @ right.R.T
    if not bool(core.isfinite().all()):
        core = torch.zeros_like(core)
    X, sigma, Yt = torch.linalg.svd(core)
    return left.Q @ X, sigma, right.Q @ Yt.T


def _balanced(U: Tensor, V: Tensor) -> tuple[Tensor, Tensor]:
    """A and B: the half sum and half difference of two factors whose columns have equal lengths."""
    left, sigma, right = _balanced_core(U, V)
    X, Y = left * sigma.sqrt(), right * sigma.sqrt()
    return (Y + X) / 2, (Y - X) / 2


def _difference_bound(U: MidRad, V: MidRad, A: Tensor, B: Tensor) -> float:
    """Bound of `||U V^T - (A - B) (A + B)^T||_2`, a product of rank 2k."""
    first, second = MidRad.exact(A), MidRad.exact(B)
    left = _beside(U, midrad.sub(second, first))
    right = _beside(V, midrad.add(first, second)).apply_exact(lambda t: t.T.contiguous())
    return product_bound([left, right], [math.inf, math.inf])


def _secular_root(W: Tensor, d: Tensor) -> float | None:
    """About the s with `lambda_max(J H(s)) = 1`; None where there is none above max |d|.

    `1 / lambda_max` grows with s and is close to linear, so that the secant finds its root in few steps (Illinois).
    """
    least = float(d.abs().max())
    low, high = least + 1e-13, least + float(W.square().sum()) + 1e-12
    at_low, at_high = _secular(low, W, d), _secular(high, W, d)
    if not at_low < 0:
        return None
    for _ in range(_STEPS):
        s = high - at_high * (high - low) / (at_high - at_low)
        s = s if low < s < high else (low + high) / 2
        value = _secular(s, W, d)
        if abs(value) <= 4 * len(W.T) * UNIT or high - low <= 4 * UNIT * high:
            return s
        if value < 0:
            low, at_low, at_high = s, value, at_high / 2
        else:
            high, at_high, at_low = s, value, at_low / 2
    return high


def _secular(s: float, W: Tensor, d: Tensor) -> float:
    """About `1 / lambda_max(J H(s)) - 1`."""
    H = W.T @ (W / torch.cat([s - d, s + d])[:, None])
    values, vectors = torch.linalg.eigh(H)
    root = vectors * values.clamp(min=0.0).sqrt()
    largest = float(torch.linalg.eigvalsh(root.T @ _signed(root))[-1])
    return 1 / largest - 1 if largest > 0 else math.inf


def _signed(A: Tensor) -> Tensor:
    """J A."""
    half = A.shape[0] // 2
    return torch.cat([A[:half], -A[half:]])


def _is_norm_bound(s: float, W: Tensor, d: Tensor) -> bool:
    """Whether `||(A - B) (A + B)^T + diag(d)||_2 <= s` is verified, by the lemma above."""
    if not bool((d.abs() < s).all()):
        return False
    size = MidRad.exact(torch.full_like(d, s))
    rest = MidRad(*(torch.cat(parts) for parts in zip(*_ends(size, MidRad.exact(d)), strict=True)))
    H = _weighted(W, midrad.div(MidRad.exact(torch.ones_like(rest.mid)), rest))
    L = _factor_above(H) if H.is_finite() else None
    if L is None:
        return False
    image = midrad.matmul(MidRad.exact(L.T.contiguous()), MidRad.exact(_signed(L)))
    eye = MidRad.exact(torch.eye(len(L), dtype=torch.float64))
    return _is_semidefinite(midrad.sub(eye, image))


def _ends(size: MidRad, d: MidRad) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Enclosures of s - d and s + d."""
    less, more = midrad.sub(size, d), midrad.add(size, d)
    return (less.mid, less.rad), (more.mid, more.rad)


def _factor_above(H: MidRad) -> Tensor | None:
    """L with `H <= L L^T` verified and little between them, in units that make H's diagonal about 1."""
    units = _roots(H.mid.diagonal())
    scaled = _in_units(H, units)
    size = len(units)
    lift = 8.0 * float(scaled.rad.sum(dim=1).max()) + 64.0 * size * size * UNIT
    L, info = torch.linalg.cholesky_ex(scaled.mid + lift * torch.eye(size, dtype=torch.float64))
    if int(info) != 0 or not bool(L.isfinite().all()):
        return None
    above = midrad.sub(midrad.matmul(MidRad.exact(L), MidRad.exact(L.T.contiguous())), scaled)
    result = units[:, None] * L
    is_exact = torch.equal(result / units[:, None], L)  # no entry became subnormal
    return result if is_exact and lowest_eigenvalue_bound(above) >= 0 else None


def _is_semidefinite(A: MidRad) -> bool:
    """Whether every symmetric matrix in an enclosure is shown to be positive semidefinite, in units as above."""
    return lowest_eigenvalue_bound(_in_units(A, _roots(A.mid.diagonal()))) >= 0


def _roots(diagonal: Tensor) -> Tensor:
    """Powers of two near the roots of positive numbers."""
    _, exponents = torch.frexp(diagonal.clamp(min=max(1e-40 * float(diagonal.max()), 1e-200)))
    halves = torch.div(exponents.to(torch.int64), 2, rounding_mode="floor")
    return ((halves + 1023) << 52).view(torch.float64)  # exact, unlike torch.pow


def _in_units(A: MidRad, units: Tensor) -> MidRad:
    """`diag(units)^-1 A diag(units)^-1`."""
    inverse = MidRad.exact(1 / units)
    halfway = midrad.mul(A, inverse.apply_exact(lambda t: t[:, None]))
    return midrad.mul(halfway, inverse.apply_exact(lambda t: t[None, :]))


def _weighted(W: Tensor, weights: MidRad) -> MidRad:
    """Enclosure of `W^T diag(weights) W` for positive weights, block by block.

    `fl(w W)` errs by at most `share |fl(w W)|` and 2^-1073 for every w of an enclosure.
    """
    right = weights.mid[:, None] * W
    share = add_up(mul_up(div_up(weights.rad, weights.mid).max(), 1.0 + 4.0 * UNIT), 2.0 * UNIT)
    left, stack = _in_blocks(W).mT, _in_blocks(right)
    product = midrad.matmul(MidRad.exact(left), MidRad.exact(stack))
    spread = mul_up(matmul_up(left.abs(), stack.abs()), share)
    lost = mul_up(4.0 * TINY * W.shape[0], W.abs().max())
    lost = torch.where(share < 1, lost, math.inf)
    return midrad.sum_(MidRad(product.mid, add_up(add_up(product.rad, spread), lost)), [0], False)


def _in_blocks(A: Tensor) -> Tensor:
    """(blocks, rows, k), zeros added; as many rows as blocks, so that both sums are short and bounded closely."""
    rows = 64
    while rows * rows < A.shape[0]:
        rows *= 2
    missing = -A.shape[0] % rows
    padded = torch.cat([A, A.new_zeros(missing, A.shape[1])]) if missing else A
    return padded.reshape(-1, rows, A.shape[1])
