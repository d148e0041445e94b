"""The least of the proven Lipschitz constants that the strategies give for one expression."""

from __future__ import annotations

import math
from collections.abc import Callable

from deqops._errors import UnsupportedOperationError

from ._chain_gain import chain_gain
from ._gains import Gain, lipschitz_gain
from ._interval_jacobian import interval_jacobian, work
from ._jacobian import Jacobian, StateLeaf
from ._newton import flat_weights, operator_norm_bound
from ._norm import Norm

LARGEST_WRITTEN = 1024
"""Unknowns of one problem up to which the matrix of intervals is written out."""
LARGEST_ENTRIES = 2**22
"""Numbers in it, over all problems, and in any matrix on the way."""
LARGEST_WORK = 2.0**33
"""Multiplications that push all unknowns forward: a few seconds. What is deeper has the composition's bound alone."""
_WORTHWHILE = 1 - 2.0**-10
"""Of the best constant so far: multipliers are not sought for less. Of one layer the norm is the constant already."""

Strategy = Callable[[Jacobian, Norm, int, float], float | None]


def best_gain(jacobian: Jacobian, norm: Norm, batch_dims: int) -> Gain:
    """The least constant, by `composition`, `multipliers` or `interval Jacobian`; parts as of the composition.

    *Multipliers* (`_chain_gain.py`): plain l2, up to `_chain.LARGEST` unknowns and open slopes of one problem together,
    a few seconds at 512. *Interval Jacobian*: the norm of the matrix of intervals that holds all slope products,
    up to `LARGEST_WORK`.
    """
    best = lipschitz_gain(jacobian, norm, batch_dims)
    for name, strategy in _STRATEGIES.items():
        found = strategy(jacobian, norm, batch_dims, best.upper)
        if found is not None and found < best.upper:
            best = Gain(found, best.contributions, name)
    return best


def _by_interval_jacobian(jacobian: Jacobian, norm: Norm, batch_dims: int, _: float) -> float | None:
    leaves = [basis.shape for basis in jacobian.bases if isinstance(basis, StateLeaf)]
    unknowns = sum(math.prod(shape[batch_dims:]) for shape in leaves)
    problems = leaves[0][0] if batch_dims else 1
    if unknowns > LARGEST_WRITTEN or problems * unknowns**2 > LARGEST_ENTRIES:
        return None
    if unknowns * work(jacobian) > LARGEST_WORK:
        return None
    try:
        return operator_norm_bound(
            interval_jacobian(jacobian, batch_dims, LARGEST_ENTRIES), norm.order, flat_weights(norm)
        )
    except UnsupportedOperationError:  # too large on the way
        return None


def _by_multipliers(jacobian: Jacobian, norm: Norm, batch_dims: int, below: float) -> float | None:
    if norm.order != "l2" or norm.weights is not None:
        return None
    found = chain_gain(jacobian, batch_dims, below * _WORTHWHILE)
    return None if found is None else found.upper


_STRATEGIES: dict[str, Strategy] = {"interval Jacobian": _by_interval_jacobian, "multipliers": _by_multipliers}
