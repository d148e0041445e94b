"""Inverses, exponentials and l2 norms of constant matrices, the last two dimensions of a value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from deqops.graph import Node

from . import _arithmetic as ball
from ._matrix_norm import enclosed_spectral_norm
from ._refusal import Rejected

MATRIX_FUNCTIONS: dict[str, Callable[[ball.Balls], Any]] = {
    "inverse": ball.inverse,
    "matrix_exp": ball.exponential,
    "spectral_norm": enclosed_spectral_norm,
}


def matrix_function(node: Node, matrices: ball.Balls) -> ball.Balls:
    """The function of each matrix, (*batch, m, n): a matrix or a number each.

    Raises:
        Rejected: a matrix is not shown to be nonsingular.
    """
    function, result = MATRIX_FUNCTIONS[node.op], np.empty(tuple(node.shape), dtype=object)
    for place in np.ndindex(*matrices.shape[:-2]):
        try:
            result[place] = function(matrices[place])
        except ZeroDivisionError:
            raise Rejected(f"{node.source}: inverts a matrix that is not shown to be nonsingular") from None
    return result
