"""Whether a network has a Lipschitz constant of at most a claimed number: the cheapest way that shows it.

1. The composition of `_gains.py` with every sum that a matrix multiplies taken as a value of its own: a network costs
   what its layers cost.
2. The same with sums multiplied out, tighter: `||A B|| <= ||A|| ||B||`; a residual block then meets all earlier ones.
   Both, where the largest and the smallest of the same values are taken, with these as a sort, whose norm is 1, first.
3. The norm of the matrices that hold all slope products, which also know signs (Lemma `slopes`).
4. In plain l2, the norm of one matrix near all of them and the largest distance from it (`_spread.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flint import arb

from ._derivative import largest_norm, slope_products
from ._document import Norm
from ._gains import Weights, lipschitz_bound
from ._interval import exactly
from ._network import Walk
from ._refusal import Rejected
from ._spread import spread
from ._subject import Subject
from ._vector_norm import flat_weights

Walks = Callable[[Subject, bool], Walk]


def constant_below(walks: Walks, subject: Subject, norm: Norm, weights: Weights | None, claimed: float) -> Any:
    """A bound of the constant that is at most the claimed one, or the best that was found.

    Args:
        walks: makes the network of a graph, with sums gathered or not.
        subject: the operator's graph.
        norm: whose order and weights the constant is in.
        weights: the norm's, leaf by leaf in the leaves' full shapes.
        claimed: where the search may end.
    """
    best = arb.pos_inf()
    for graph in (subject,) if subject.paired is subject else (subject.paired, subject):
        walk = walks(graph, True)
        best = best.min(_composed(walk, norm, weights))
        if not best <= arb(claimed) and walk.gathered:
            walk = walks(graph, False)
            best = best.min(_composed(walk, norm, weights))
        if best <= arb(claimed):
            return best
    best = best.min(_by_slope_products(walk, subject, norm))
    return best if best <= arb(claimed) else best.min(_by_spread(walk, subject, norm))


def _composed(walk: Walk, norm: Norm, weights: Weights | None) -> Any:
    return lipschitz_bound(walk.network.sources, walk.outputs, norm.order, weights)


def _by_slope_products(walk: Walk, subject: Subject, norm: Norm) -> Any:
    """Infinite where the matrices are beyond the checker's means."""
    try:
        products = slope_products(walk, subject)
    except Rejected:
        return arb.pos_inf()
    return largest_norm(products, norm.order, flat_weights(norm))


def _by_spread(walk: Walk, subject: Subject, norm: Norm) -> Any:
    """Infinite in other norms than plain l2, and where the matrices are beyond the checker's means."""
    if norm.order != "l2" or norm.weights is not None:
        return arb.pos_inf()
    try:
        around = spread(walk, subject)
    except Rejected:
        return arb.pos_inf()
    return (largest_norm(exactly(around.middle), "l2", None) + around.deviation).upper()
