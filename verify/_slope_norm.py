"""Lipschitz constants from all slope products, written out: one matrix of intervals, or one near all, per problem.

Lemma `slopes`: `G(y) - G(z) = M (y - z)` with M among the slope products, so that q = sup ||M|| is a constant where the
slopes hold. The composition multiplies norms and so forgets signs; the matrix of intervals (`_interval_jacobian.py`)
keeps what the layers cancel of each other, at the price of n columns pushed through the network, and so does a matrix
near all of them (`_spread.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from deqops._errors import UnsupportedOperationError

from ._interval_jacobian import interval_jacobian, work
from ._jacobian import Jacobian, StateLeaf
from ._midrad import MidRad
from ._norm import Norm, Order
from ._rounding import add_up
from ._spread import spread
from ._stack_norm import flat_weights, operator_norm_bound
from ._weights import fitted_norm


@dataclass(frozen=True)
class Limits:
    """Up to where matrices of intervals are written out.

    Attributes:
        unknowns: of one problem.
        entries: numbers over all problems, and in any matrix on the way.
        work: multiplications that push all unknowns forward.
    """

    unknowns: int
    entries: int
    work: float


BOUNDED = Limits(1024, 2**22, 2.0**33)
"""For a bound: a few seconds."""
CERTIFIED = Limits(256, 2**20, 2.0**31)
"""For a certificate: about a second, and the checker, which is slower, does it as well."""


def slope_matrices(jacobian: Jacobian, batch_dims: int, limits: Limits) -> MidRad | None:
    """The matrices, (problems, n, n), remembered with the expression; None beyond the limits."""
    if not _is_within(jacobian, batch_dims, limits):
        return None
    kept = jacobian.__dict__.setdefault("_slope_matrices", {})
    if limits not in kept:
        try:
            kept[limits] = interval_jacobian(jacobian, batch_dims, limits.entries)
        except UnsupportedOperationError:  # too large on the way
            kept[limits] = None
    found: MidRad | None = kept[limits]
    return found


def slope_norm(jacobian: Jacobian, norm: Norm, batch_dims: int, limits: Limits) -> float | None:
    """The less of `interval_norm` and `spread_norm`; None where neither is known."""
    found = [one(jacobian, norm, batch_dims, limits) for one in (interval_norm, spread_norm)]
    return min((bound for bound in found if bound is not None), default=None)


def interval_norm(jacobian: Jacobian, norm: Norm, batch_dims: int, limits: Limits) -> float | None:
    """Proven bound of `sup ||M||` over all slopes, for every problem of a batch; None beyond the limits."""
    found = slope_matrices(jacobian, batch_dims, limits)
    return None if found is None else operator_norm_bound(found, norm.order, flat_weights(norm))


def spread_norm(jacobian: Jacobian, norm: Norm, batch_dims: int, limits: Limits) -> float | None:
    """`||T||_2 + d` for the slope products within d of T (`_spread.py`); None beyond the limits and in other norms."""
    if norm.order != "l2" or norm.weights is not None or not _is_within(jacobian, batch_dims, limits):
        return None
    try:
        around = spread(jacobian, batch_dims, limits.entries)
    except UnsupportedOperationError:  # too large on the way
        return None
    middle = operator_norm_bound(MidRad.exact(around.middle), "l2", None)
    return float(add_up(middle, around.deviation))


def _is_within(jacobian: Jacobian, batch_dims: int, limits: Limits) -> bool:
    leaves = [basis.shape for basis in jacobian.bases if isinstance(basis, StateLeaf)]
    unknowns = sum(math.prod(shape[batch_dims:]) for shape in leaves)
    problems = leaves[0][0] if batch_dims else 1
    large = unknowns > limits.unknowns or problems * unknowns**2 > limits.entries
    return not large and unknowns * work(jacobian) <= limits.work


def fitted_norms(jacobian: Jacobian, orders: tuple[Order, ...], batch_dims: int, limits: Limits) -> Iterator[Norm]:
    """For each order the weights in which the matrices are (nearly) smallest: proposals, any are sound."""
    found = slope_matrices(jacobian, batch_dims, limits) if orders else None
    if found is None or not found.is_finite():
        return
    magnitude: Tensor = found.magnitude().amax(dim=0)
    leaves = sorted((b for b in jacobian.bases if isinstance(b, StateLeaf)), key=lambda leaf: leaf.position)
    shapes = [leaf.shape[batch_dims:] for leaf in leaves]
    for order in orders:
        yield fitted_norm(magnitude, order, shapes)
