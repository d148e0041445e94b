"""All slope products of a region as one matrix per problem and how far, in l2, any of them is from it.

The matrix of intervals (`_interval_jacobian.py`) forgets signs in each of its radii: through a layer A they grow by
`|A|`, whose norm may be many times A's. Here the deviation is one number, which grows by `||A||_2`:

    M_k = A M_j:        ||M_k - N_k|| <= ||A|| ||M_j - N_j||,             N_k = A N_j;
    M_k = S_k M_j:      ||M_k - N_k|| <= ||S_k|| ||M_j - N_j|| + ||(S_k - T_k) N_j||,   N_k = T_k N_j,

T_k the middle of the slopes S_k. Intervals are taken of one function's slopes at a time, or only the norms of its
blocks: for `||S_i - T_i|| <= d_i` on the blocks i, `||(S - T) N|| <= ||diag(d) N||`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from . import _midrad as midrad
from ._gains import sloped_norm
from ._interval_jacobian import LARGEST_ENTRIES, forward_columns, identity_columns, output_columns, refuse_large
from ._jacobian import Combination, Elementwise, Jacobian, Largest, Normalised, Sorted, StateLeaf, Subtotal
from ._midrad import MidRad
from ._owners import Owners, problems_of_entries
from ._rounding import add_up, mul_up, sqrt_up, sum_up
from ._stack_norm import operator_norm_bound


@dataclass(frozen=True, eq=False)
class Spread:
    """`||M - middle||_2 <= deviation` for every slope product M, problem by problem.

    Attributes:
        middle: (problems, n, n), exact.
        deviation: for all problems.
    """

    middle: Tensor
    deviation: float


def spread(jacobian: Jacobian, batch_dims: int, largest: int = LARGEST_ENTRIES) -> Spread:
    """That of all slopes of an expression.

    Raises:
        UnsupportedOperationError: a matrix on the way would have more than `largest` entries.
    """
    columns = identity_columns(jacobian, batch_dims)
    refuse_large(jacobian, next(iter(columns.values())).mid.shape[-1], largest)
    problems = jacobian.outputs[0].shape[0] if batch_dims else 1
    middles, deviations = list[MidRad](), list[float]()
    for basis, owners in zip(jacobian.bases, problems_of_entries(jacobian, problems), strict=True):
        if isinstance(basis, StateLeaf):
            middles.append(columns[basis.position])
            deviations.append(0.0)
            continue
        middle, own = _sloped(basis, forward_columns(basis.source, middles), owners)
        middles.append(MidRad.exact(middle))
        deviations.append(_plus(_inherited(basis.source, deviations, basis.gain), own))
    parts, total = [], torch.zeros((), dtype=torch.float64)
    for output in jacobian.outputs:
        moved = output_columns(output, middles)
        parts.append(moved.apply_exact(lambda t: t.reshape(problems, -1, t.shape[-1])))
        own = _inherited(output, deviations, 1.0)
        total = add_up(total, mul_up(own, own))
    flat = MidRad(torch.cat([part.mid for part in parts], dim=1), torch.cat([part.rad for part in parts], dim=1))
    return Spread(flat.mid, _plus(float(sqrt_up(total)), _simple_bound(flat.rad)))


Sloped = Elementwise | Normalised | Largest | Sorted | Subtotal


def _sloped(basis: Sloped, x: MidRad, owners: Owners) -> tuple[Tensor, float]:
    """`T x` and a bound of `||S x - T x||` for the slopes S of a basis value, by intervals or by its blocks' norms."""
    whole = basis.columns(x)
    if not whole.mid.numel():
        return whole.mid, 0.0
    entrywise, blocks = _largest([_simple_bound(part) for part in owners.parts(whole.rad)]), _blocks(basis)
    if blocks is None:
        return whole.mid, entrywise
    point, each = blocks
    middle = point.columns(x)
    weighted = midrad.mul(x, MidRad.exact(each[..., None]))
    parts = zip(owners.parts(weighted.mid), owners.parts(weighted.rad), owners.parts(middle.rad), strict=True)
    bounds = [_plus(operator_norm_bound(MidRad(a, b), "l2", None), _simple_bound(rest)) for a, b, rest in parts]
    by_blocks = _largest(bounds)
    return (middle.mid, by_blocks) if by_blocks < entrywise else (whole.mid, entrywise)


def _blocks(basis: Sloped) -> tuple[Elementwise | Normalised, Tensor] | None:
    """The basis value with T for S, and bounds of the norms of the blocks of S - T at the entries they act on."""
    if isinstance(basis, Elementwise):
        slopes = MidRad.from_bounds(*(torch.as_tensor(end, dtype=torch.float64) for end in (basis.lower, basis.upper)))
        return replace(basis, lower=slopes.mid, upper=slopes.mid), slopes.rad.expand(basis.shape)
    if isinstance(basis, Normalised):
        each = basis.slopes.deviation.expand(basis.slopes.value.shape).reshape(basis.shape)
        return replace(basis, slopes=basis.slopes.middle), each
    return None


def _inherited(combination: Combination, deviations: list[float], gain: Tensor | float) -> float:
    total = 0.0
    for k, maps in combination.terms.items():
        for one in maps:
            if deviations[k]:
                total = _plus(total, float(mul_up(sloped_norm(one, gain, None, None), deviations[k])))
    return total


def _plus(a: float, b: float) -> float:
    return float(add_up(a, b))


def _largest(bounds: list[float]) -> float:
    """NaN where any is: Python's own forgets it behind a number."""
    return float(torch.tensor(bounds, dtype=torch.float64).max())


def _simple_bound(radius: Tensor) -> float:
    """The largest min(Frobenius, sqrt(l1 linf)) of nonnegative matrices, (problems, m, n)."""
    if not radius.numel():
        return 0.0
    rows, columns = (sum_up(radius, dim=dim).amax(dim=1) for dim in (2, 1))
    squares = sum_up(mul_up(radius, radius), dim=(1, 2))
    return float(sqrt_up(torch.minimum(mul_up(rows, columns), squares)).max())
