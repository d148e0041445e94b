"""Norms of vectors of balls, per problem, and the weights of a claim in the state's shape."""

from __future__ import annotations

from typing import Any

import numpy as np
from flint import arb

from . import _arithmetic as ball
from ._document import Norm
from ._refusal import Rejected
from ._subject import Subject


def full_weights(norm: Norm, subject: Subject) -> list[ball.Balls] | None:
    """The weights of each leaf, in the leaf's full shape; None for ones.

    Raises:
        Rejected: they do not have the per-problem shapes of the state.
    """
    if norm.weights is None:
        return None
    if [weight.shape for weight in norm.weights] != subject.problem_shapes:
        raise Rejected("norm.weights: their shapes are not those of one problem's state")
    both = zip(norm.weights, subject.shapes, strict=True)
    return [np.broadcast_to(ball.balls(w.reshape(-1).tolist(), w.shape), shape) for w, shape in both]


def powers(norm: Norm, weights: list[ball.Balls] | None, leaves: list[ball.Balls], batch_dims: int) -> list[Any]:
    """The norm of each problem; its square in l2, which needs no root and is exact more often.

    Args:
        norm: of which order.
        weights: in the leaves' shapes, or None.
        leaves: ball arrays, dimension 0 counts problems where `batch_dims` is 1.
    """
    scaled = leaves if weights is None else [ball.times(x, w) for x, w in zip(leaves, weights, strict=True)]
    rows = [x.reshape(x.shape[0] if batch_dims else 1, -1) for x in scaled]
    return [_power(norm.order, row) for row in np.concatenate(rows, axis=1)]


def _power(order: str, entries: ball.Balls) -> Any:
    if order == "l2":
        return ball.total(ball.times(entries, entries))
    magnitudes = ball.absolute(entries)
    return ball.total(magnitudes) if order == "l1" else ball.largest(magnitudes)


def powered(norm: Norm, value: float) -> Any:
    """A number in the units of `powers`."""
    return arb(value) ** 2 if norm.order == "l2" else arb(value)


def largest_norm(norm: Norm, found: list[Any]) -> Any:
    """Upper bound of the norms whose `powers` were found."""
    top = ball.largest(np.array(found, dtype=object))
    return ball.root_up(top) if norm.order == "l2" else top.upper()


def flat_weights(norm: Norm) -> ball.Balls | None:
    """The weights of one problem in a row; None for ones."""
    if norm.weights is None:
        return None
    flat = [value for weight in norm.weights for value in weight.reshape(-1).tolist()]
    return ball.balls(flat, (len(flat),))
