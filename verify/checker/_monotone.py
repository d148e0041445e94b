"""T5, forms (c) and (d), for `G(z) = s(W z + c)` with slopes of s in [a, b] and P = diag(w)^2.

With `V = diag(w) W diag(w)^-1` the condition `sym((I - a W)^T P (I - b W)) >= mu P` says that
`H = I - (a + b) sym(V) + a b V^T V - mu I` is positive semidefinite.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from flint import arb

from . import _arithmetic as ball
from ._affine import Network, Source
from ._definite import lowest_eigenvalue
from ._matrix import Matrix
from ._matrix_norm import spectral_bound
from ._refusal import Rejected
from ._term import Form, Term


@dataclass(frozen=True, eq=False)
class Layer:
    """`s(W z + c)` along the last dimension, slopes of s within [low, high]."""

    weight: ball.Balls
    low: Any
    high: Any


def single_layer(network: Network, outputs: list[Form]) -> Layer:
    """The operator as one layer.

    Raises:
        Rejected: it is something else.
    """
    unit = network.sources[1] if len(outputs) == 1 and len(network.sources) == 2 else None
    if (
        unit is None
        or unit.moved
        or unit.linear is not None
        or unit.derivative is not None
        or any(isinstance(end, np.ndarray) for end in unit.interval)
    ):
        raise Rejected("theorem monotone: the operator is not of the form s(W z + c)")
    outer, inner = _only(outputs[0], 1), None if unit.form is None else _only(unit.form, 0)
    matrix = None if inner is None else inner.last_matrix(len(network.sources[0].shape))
    if outer is None or matrix is None or matrix.shape[0] != matrix.shape[1] or not _scales(outer, unit):
        raise Rejected("theorem monotone: the operator is not of the form s(W z + c)")
    ends = [outer.scale * end for end in unit.interval]
    low, high = ends[0].min(ends[1]), ends[0].max(ends[1])
    return Layer(matrix.dense(), low, high)


def _only(form: Form, source: int) -> Term | None:
    only = form.only()
    return only[1] if only is not None and only[0] == source else None


def _scales(term: Term, source: Source) -> bool:
    plain = all(matrix is None for matrix in term.matrices)
    return plain and term.axes == tuple(range(len(source.shape))) and term.source_shape == source.shape


def weighted(layer: Layer, weights: ball.Balls | None) -> Layer:
    """The layer with `diag(w) W diag(w)^-1` in W's place."""
    if weights is None:
        return layer
    moved = ball.array(layer.weight * weights[:, None] / weights[None, :])
    return Layer(moved, layer.low, layer.high)


def excess(layer: Layer, mu: float) -> Any:
    """A lower bound of the smallest eigenvalue of `I - (a + b) sym(V) + a b V^T V - mu I`."""
    V, n = layer.weight, layer.weight.shape[0]
    H = ball.array((V + V.T) * (-(layer.low + layer.high) / 2))
    if not (layer.low == 0 or layer.high == 0):
        H = ball.plus(H, ball.times(ball.matrix_product(ball.array(V.T), V), layer.low * layer.high))
    for i in range(n):
        H[i, i] += 1 - arb(mu)
    if not ball.all_finite(H):
        return arb.neg_inf()
    return lowest_eigenvalue(H)


def residual_factor(layer: Layer, mu: float) -> Any:
    """An upper bound of `||2 I - (a + b) V||_2 / mu`."""
    n = layer.weight.shape[0]
    matrix = ball.times(layer.weight, -(layer.low + layer.high))
    for i in range(n):
        matrix[i, i] += 2
    rows, cols = (index.reshape(-1) for index in np.indices((n, n)))
    return (spectral_bound(Matrix(rows, cols, matrix.reshape(-1), (n, n))) / arb(mu)).upper()
