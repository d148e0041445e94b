"""The least of the proven Lipschitz constants that the strategies give for one expression."""

from __future__ import annotations

from collections.abc import Callable

from ._chain_gain import chain_gain
from ._coupled_gain import coupled_gain
from ._gains import Gain, lipschitz_gain
from ._jacobian import Jacobian
from ._linear_form import LinearForms
from ._norm import Norm
from ._slope_norm import BOUNDED, interval_norm, spread_norm

_WORTHWHILE = 1 - 2.0**-10
"""Of the best constant so far: multipliers are not sought for less. Of one layer the norm is the constant already."""

Strategy = Callable[[Jacobian, Norm, int, float], float | None]


def best_gain(jacobian: Jacobian, norm: Norm, batch_dims: int, forms: LinearForms | None = None) -> Gain:
    """The least constant, by `composition`, `multipliers`, `interval Jacobian`, `slope spread` or `coupled slopes`.

    The parts are those of the composition.

    *Multipliers* (`_chain_gain.py`): plain l2, up to `_chain.LARGEST` unknowns and open slopes of one problem together,
    a few seconds at 512, up to half a minute at 1024. *Interval Jacobian*: the norm of the matrix of intervals that
    holds all slope products, up to the limits `BOUNDED` of `_slope_norm.py`: what is wide or deep has the composition's
    bound alone. *Slope spread*: plain l2, a matrix and the largest distance from it, up to the same limits. *Coupled
    slopes* (`_coupled_gain.py`): plain l2 on a region, where `forms` say how arguments follow the state.
    """
    best = lipschitz_gain(jacobian, norm, batch_dims)
    for name, strategy in _STRATEGIES.items():
        found = strategy(jacobian, norm, batch_dims, best.upper)
        if found is not None and found < best.upper:
            best = Gain(found, best.contributions, name)
    if forms is not None and norm.order == "l2" and norm.weights is None:
        found = coupled_gain(jacobian, forms, batch_dims, best.upper * _WORTHWHILE)
        if found is not None and found < best.upper:
            best = Gain(found, best.contributions, "coupled slopes")
    return best


def _by_interval_jacobian(jacobian: Jacobian, norm: Norm, batch_dims: int, _: float) -> float | None:
    return interval_norm(jacobian, norm, batch_dims, BOUNDED)


def _by_spread(jacobian: Jacobian, norm: Norm, batch_dims: int, _: float) -> float | None:
    return spread_norm(jacobian, norm, batch_dims, BOUNDED)


def _by_multipliers(jacobian: Jacobian, norm: Norm, batch_dims: int, below: float) -> float | None:
    if norm.order != "l2" or norm.weights is not None:
        return None
    found = chain_gain(jacobian, batch_dims, below * _WORTHWHILE)
    return None if found is None else found.upper


_STRATEGIES: dict[str, Strategy] = {
    "interval Jacobian": _by_interval_jacobian,
    "slope spread": _by_spread,
    "multipliers": _by_multipliers,
}
