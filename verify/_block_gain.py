"""The l2 norm of a sparse Jacobian from the norms of its blocks: one number for each pair of nodes that meet.

For a state of nodes with a few channels each, `||M||_2 <= ||N||_2` with `N_ij = ||M_ij||_2`, the norm of the block
between node j's channels and node i's: signs and angles within a block count, between blocks they do not. N >= 0 is
sparse, and Collatz and Wielandt bound its norm. For a graph operator `s(A Z W)` with `A >= 0` nothing is lost but what
the nodes' slopes differ by, while moduli of single entries give `rho(|W|)` for `||W||`.

With weights d on nodes `||D N D^-1||_2` comes down to N's spectral radius, for `d = sqrt(y / x)`, `N x <= t x` and
`N^T y <= t y` (Schur's test): attention takes means, whose norm is large in l2 where many nodes attend to one. Weights
on channels change N itself; they are fitted where nodes alone leave little room.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from . import _midrad as midrad
from ._collatz import Moduli, moduli_norm_bound
from ._jacobian import Jacobian, StateLeaf
from ._midrad import MidRad
from ._norm import Norm
from ._rounding import add_up, div_up, mul_up, sqrt_up, sub_down, sum_up
from ._sparse import SparseMatrix
from ._sparse_jacobian import sparse_jacobian

WIDEST = 64
"""Channels of a node, at most."""

ROOM = 1 + 2.0**-20
"""A published bound is this many times the proven one: the checker's balls have radii of 30 bits."""

_CROWDED = 0.97  # spectral radius of N from which the channels are weighted too
_CHANNEL_STEPS = 30
_POWERS = 30
_MIDDLE = 0.5  # where between N's spectral radius and 1 the weights are fitted


def has_nodes(jacobian: Jacobian, batch_dims: int) -> bool:
    """Whether the state is one leaf (nodes, channels) that is one problem."""
    leaves = [basis for basis in jacobian.bases if isinstance(basis, StateLeaf)]
    return batch_dims == 0 and len(leaves) == 1 and len(leaves[0].shape) == 2 and 0 < leaves[0].shape[1] <= WIDEST


def block_gain(jacobian: Jacobian, norm: Norm) -> float:
    """Proven bound of `sup ||M||` in a norm l2, weighted or not, for a state that `has_nodes`.

    Raises:
        UnsupportedOperationError: the Jacobian is not written out sparsely.
    """
    blocks = block_norms(sparse_jacobian(jacobian), jacobian.outputs[0].shape[1], norm.weight(0))
    if not len(blocks.rows):
        return 0.0
    moduli = Moduli.of(blocks.rows, blocks.cols, blocks.values, blocks.shape)
    if not bool(moduli.weights.isfinite().all()):
        return float("inf")
    return moduli_norm_bound(moduli, lambda: _singular_vector(blocks))[0]


def proposed_node_norm(jacobian: Jacobian) -> Norm | None:
    """Weights `d_i e_c` for which `block_gain` is below 1, of largest weight 1; None where none were found.

    The weights e of the channels are all 1 where N's spectral radius then leaves room.

    Raises:
        UnsupportedOperationError: the Jacobian is not written out sparsely.
    """
    shape, matrix = jacobian.outputs[0].shape, sparse_jacobian(jacobian)
    channels = torch.ones(shape[1], dtype=torch.float64)
    blocks = _scipy(block_norms(matrix, shape[1], None))
    radius = _radius_estimate(blocks)
    if _CROWDED < radius < math.inf:
        channels = channel_weights_estimate(matrix, shape[1])
        blocks = _scipy(block_norms(matrix, shape[1], channels.expand(shape)))
        radius = _radius_estimate(blocks)
    if not radius < 1:
        return None
    target = radius + _MIDDLE * (1 - radius)
    right, left = (_resolvent(one, target) for one in (blocks, blocks.T.tocsr()))
    if not (right > 0).all() or not (left > 0).all():
        return None
    weights = torch.from_numpy(np.sqrt(left / right))[:, None] * channels
    return Norm("l2", ((weights / weights.max()).contiguous(),))


def block_norms(matrix: SparseMatrix, width: int, weights: Tensor | None) -> SparseMatrix:
    """Bounds of the blocks' l2 norms, (n / width, n / width), of `D M D^-1`; width divides n."""
    values = matrix.values
    if weights is not None:
        flat = weights.reshape(-1)
        factors = midrad.div(MidRad.exact(flat[matrix.rows]), MidRad.exact(flat[matrix.cols]))
        values = midrad.mul(values, factors)
    nodes = matrix.shape[0] // width
    rows, cols, dense = _blocks(SparseMatrix(matrix.rows, matrix.cols, values, matrix.shape), width)
    return SparseMatrix(rows, cols, MidRad.exact(batched_norm_bounds(dense)), (nodes, nodes))


def _blocks(matrix: SparseMatrix, width: int) -> tuple[Tensor, Tensor, MidRad]:
    """The nodes (i, j) of the blocks that hold anything, and these, (blocks, width, width); no place occurs twice."""
    nodes = matrix.shape[0] // width
    place, number = torch.unique((matrix.rows // width) * nodes + matrix.cols // width, return_inverse=True)
    entries = []
    for part in (matrix.values.mid, matrix.values.rad):
        dense = torch.zeros(len(place), width, width, dtype=torch.float64)
        dense[number, matrix.rows % width, matrix.cols % width] = part
        entries.append(dense)
    return place // nodes, place % nodes, MidRad(*entries)


def batched_norm_bounds(B: MidRad) -> Tensor:
    """Proven bounds of `||B_k||_2` for a batch of small matrices of intervals, (k,).

    With V about the right singular vectors, `||B|| <= ||B V|| ||V^-1||`, where `(B V)^T B V` is nearly diagonal and
    V nearly orthogonal. Never more than the Frobenius norm.
    """
    square = mul_up(B.magnitude(), B.magnitude())
    plain = sqrt_up(sum_up(square, (1, 2)))
    if not B.is_finite() or not B.mid.numel():
        return torch.where(plain.isnan(), torch.inf, plain)
    vectors = torch.linalg.eigh(B.mid.mT @ B.mid).eigenvectors
    turned = midrad.matmul(MidRad.exact(B.mid), MidRad.exact(vectors))
    gram = _row_sum(midrad.matmul(turned.apply_exact(lambda t: t.mT), turned))
    unit = midrad.matmul(MidRad.exact(vectors.mT), MidRad.exact(vectors))
    apart = _row_sum(midrad.sub(unit, MidRad.exact(torch.eye(B.mid.shape[-1], dtype=torch.float64))))
    sharp = sqrt_up(div_up(gram, sub_down(1.0, apart).clamp(min=0)))
    spread = sqrt_up(sum_up(mul_up(B.rad, B.rad), (1, 2)))
    return torch.fmin(plain, add_up(sharp, spread))


def _row_sum(x: MidRad) -> Tensor:
    return sum_up(x.magnitude(), -1).amax(dim=-1)


# ------------------------------------------------------------------------------------------------ proposals only


def _scipy(matrix: SparseMatrix):  # type: ignore[no-untyped-def]
    from scipy.sparse import csr_array

    triples = (matrix.values.mid.numpy(), (matrix.rows.numpy(), matrix.cols.numpy()))
    return csr_array(triples, shape=matrix.shape)


def _radius_estimate(blocks) -> float:  # type: ignore[no-untyped-def]
    """About the spectral radius of a nonnegative matrix, from above: the largest ratio of a vector to its image."""
    x = np.ones(blocks.shape[0])
    best = np.inf
    for _ in range(400):
        image = blocks @ x
        best = min(best, float((image / x).max()))
        if not image.max() > 0 or not np.isfinite(best):
            break
        x = np.maximum(image / image.max() + x / x.max(), 1e-9)
    return best


def channel_weights_estimate(matrix: SparseMatrix, width: int) -> Tensor:
    """Weights e of the channels for which the spectral radius of `N_ij = ||E M_ij E^-1||` is about least, (width,).

    Gradient steps in the logarithms; with Perron vectors x, y the radius is `y^T N x / y^T x`.
    """
    rows, cols, dense = _blocks(matrix, width)
    nodes, blocks = matrix.shape[0] // width, dense.mid
    logarithms = torch.zeros(width, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([logarithms], lr=0.1)
    right, left = (torch.ones(nodes, dtype=torch.float64) for _ in "rl")
    with torch.enable_grad():
        for _ in range(_CHANNEL_STEPS):
            e = logarithms.exp()
            scaled = e[:, None] * blocks / e
            norms = torch.linalg.eigvalsh(scaled.mT @ scaled)[:, -1].clamp(min=1e-200).sqrt()
            for _ in range(_POWERS):
                right = _applied(rows, cols, norms.detach(), right)
                left = _applied(cols, rows, norms.detach(), left)
            radius = (left[rows] * norms * right[cols]).sum() / (left @ right)
            optimizer.zero_grad()
            radius.backward()
            optimizer.step()
    return logarithms.detach().exp()


def _applied(rows: Tensor, cols: Tensor, weights: Tensor, x: Tensor) -> Tensor:
    image = torch.zeros_like(x).index_add(0, rows, weights * x[cols])
    return (image / image.max() + x / x.max()).clamp(min=1e-12)


def _resolvent(matrix, target: float):  # type: ignore[no-untyped-def]
    """About `(target I - N)^-1 1`, for which `N x < target x`."""
    from scipy.sparse import eye_array
    from scipy.sparse.linalg import spsolve

    return spsolve((target * eye_array(matrix.shape[0]) - matrix).tocsc(), np.ones(matrix.shape[0]))


def _singular_vector(blocks: SparseMatrix) -> Tensor:
    """A positive vector x with `N^T N x < t x` for t a little above the square of N's norm, or ones."""
    from scipy.sparse.linalg import ArpackError, cg, svds

    matrix = _scipy(blocks)
    size = float(matrix.max()) if min(matrix.shape) >= 3 else 0.0
    if not 0 < size < math.inf:
        return torch.ones(matrix.shape[1], dtype=torch.float64)
    matrix = matrix / size  # whose squares are numbers
    try:
        return _near_singular(matrix, cg, svds)
    except ArpackError:
        return torch.ones(matrix.shape[1], dtype=torch.float64)


def _near_singular(matrix, cg, svds) -> Tensor:  # type: ignore[no-untyped-def]
    largest = float(svds(matrix, k=1, v0=np.ones(matrix.shape[1]), return_singular_vectors=False)[0]) ** 2
    shifted = lambda x: largest * (1 + 1e-5) * x - matrix.T @ (matrix @ x)  # noqa: E731
    return _solved(cg, shifted, matrix.shape[1])


def _solved(cg, shifted, size: int) -> Tensor:  # type: ignore[no-untyped-def]
    from scipy.sparse.linalg import LinearOperator

    operator = LinearOperator((size, size), matvec=shifted, dtype=np.float64)
    found = torch.from_numpy(cg(operator, np.ones(size), rtol=1e-10, maxiter=5000)[0])
    return found.clamp(min=1e-12 * float(found.abs().max()))
