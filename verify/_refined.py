"""A state of a graph's nodes that a few sparse Newton steps have brought nearer to an equilibrium; a proposal."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from deqops._errors import UnsupportedOperationError

from ._block_gain import has_nodes
from ._local import local_jacobian
from ._norm import Norm
from ._problem import Problem
from ._region import Ball
from ._sharpened import scale_of
from ._sparse_jacobian import sparse_jacobian

_STEPS = 3


def refined(problem: Problem, center: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A point with a smaller residual, or the same one: states of float32 carry a residual that leaves balls no room.

    Args:
        problem: the operator; others than those of `has_nodes`, or without a sparse Jacobian, keep their point.
        center: near an equilibrium, float64.
    """
    try:
        jacobian = local_jacobian(problem, Ball(center, 1e-12 * scale_of(center)), Norm("linf"))
        if not has_nodes(jacobian, problem.batch_dims):
            return center
        matrix = sparse_jacobian(jacobian)
    except UnsupportedOperationError:
        return center
    best, size = center[0], _residual(problem, center[0])
    for _ in range(_STEPS):
        gap = (problem.image([best])[0].mid - best).reshape(-1)
        point = best + _step(matrix.rows, matrix.cols, matrix.values.mid, gap).reshape(best.shape)
        found = _residual(problem, point)
        if not found < size:
            break
        best, size = point, found
    return (best,)


def _residual(problem: Problem, point: Tensor) -> float:
    return float(problem.residual([point], Norm("l2")).max()) if bool(point.isfinite().all()) else float("inf")


def _step(rows: Tensor, cols: Tensor, values: Tensor, gap: Tensor) -> Tensor:
    """About `(I - J)^-1 gap`."""
    from scipy.sparse import csr_array, eye_array
    from scipy.sparse.linalg import gmres

    size = len(gap)
    jacobian = csr_array((values.numpy(), (rows.numpy(), cols.numpy())), shape=(size, size))
    found, _ = gmres((eye_array(size) - jacobian).tocsr(), gap.numpy(), rtol=1e-6, restart=60, maxiter=10)
    return torch.from_numpy(np.asarray(found))
