"""The l2 norm of a sparse matrix of slopes from the norms of its blocks, one for each pair of nodes that meet.

A state (nodes, channels) moves by `M dy`. Block (i, j) of `D M D^-1` has a norm of at most N_ij, so that
`||D M D^-1||_2 <= ||N||_2`, and `||N||_2^2 <= max_i (N^T N x)_i / x_i` for any x > 0, as N >= 0. M is written out a few
nodes' columns at a time, zeros left out. A block `B = F + E`, F of binary64 numbers, has `||B|| <= sqrt(t) + ||E||_F`
where `t I - F^T F` is positive definite: by elimination in balls, whose pivots are positive. Floating point proposes
t and x.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from flint import arb

from . import _arithmetic as ball
from ._affine import Source
from ._matrix import Index, Matrix, collected, product
from ._refusal import Rejected
from ._term import Form, Term

LARGEST_TERMS = 2**19  # products of two entries at once: each takes about 100 bytes
LARGEST_WIDTH = 64  # channels of a node
_SLACK = 2.0**-36  # of t, so that rounding does not spoil a pivot


def applies(sources: list[Source], weights: list[ball.Balls] | None, batch_dims: int) -> bool:
    """Whether the state is one leaf (nodes, channels), one problem, and every function acts entry by entry."""
    leaves = [source for source in sources if source.form is None]
    plain = all(source.derivative is None and source.linear is None for source in sources)
    one = len(leaves) == 1 and len(leaves[0].shape) == 2 and 0 < leaves[0].shape[1] <= LARGEST_WIDTH
    return plain and one and batch_dims == 0 and (weights is None or bool(all(w > 0 for w in weights[0].reshape(-1))))


def block_bound(sources: list[Source], output: Form, weights: list[ball.Balls] | None) -> ball.Ball:
    """An upper bound of the constant in l2 with these weights, where `applies`.

    Raises:
        Rejected: the matrix is beyond the checker's means.
    """
    nodes, width = sources[0].shape
    flat = None if weights is None else np.asarray(weights[0]).reshape(-1)
    step = max(1, min(nodes, LARGEST_TERMS * nodes // max(_terms(sources, output), 1)))
    found: list[tuple[Index, Index, ball.Balls]] = []
    for first in range(0, nodes, step):
        chosen = range(first, min(first + step, nodes))
        matrix = _scaled(_columns(sources, output, chosen, width), flat, first * width)
        rows, cols, norms = _block_norms(matrix, width)
        found.append((rows, cols + first, norms))
    rows, cols, norms = (np.concatenate([part[k] for part in found]) for k in range(3))
    return _norm_of(collected(rows, cols, norms, (nodes, nodes)))


def _columns(sources: list[Source], output: Form, nodes: range, width: int) -> Matrix:
    """The columns of M that belong to these nodes."""
    count = len(nodes) * width
    place = np.arange(count)
    values: list[Matrix] = []
    for source in sources:
        if source.form is None:
            start = Matrix(place + nodes.start * width, place, ball.full(1, (count,)), (math.prod(source.shape), count))
            values.append(start)
        else:
            values.append(_sloped(_pushed(source.form, values, count), source))
    return _pushed(output, values, count)


def _pushed(form: Form, values: list[Matrix], count: int) -> Matrix:
    """The rows of a form from those of its sources."""
    parts = [_through(term, values[number]) for number, terms in form.terms.items() for term in terms]
    shape = (math.prod(form.shape), count)
    none = np.zeros(0, dtype=np.int64)
    rows = np.concatenate([none, *(part.rows for part in parts)])
    cols = np.concatenate([none, *(part.cols for part in parts)])
    entries = np.concatenate([ball.full(0, (0,)), *(part.values for part in parts)])
    return collected(rows, cols, entries, shape)


def _sloped(x: Matrix, source: Source) -> Matrix:
    low, high = (np.asarray(end, dtype=object) for end in source.interval)
    if all(end.ndim == 0 and end.item() == 1 for end in (low, high)):
        return x
    slopes = ball.hull(*(np.broadcast_to(end, source.shape) for end in (low, high))).reshape(-1)
    return Matrix(x.rows, x.cols, ball.times(x.values, slopes[x.rows]), x.shape)


def _through(term: Term, x: Matrix) -> Matrix:
    """A term's matrices one after the other, then its dimensions in their new order."""
    sizes = list(term.source_shape)
    for axis, matrix in enumerate(term.matrices):
        if matrix is not None:
            before, after = math.prod(sizes[:axis]), math.prod(sizes[axis + 1 :])
            sizes[axis] = matrix.shape[0]
            x = _multiplied(_repeated(matrix, before, after), x)
    dropped = tuple(axis for axis in range(len(sizes)) if axis not in term.axes)
    order = np.arange(math.prod(sizes)).reshape(sizes).transpose(term.axes + dropped).reshape(-1)
    place = np.argsort(order)
    values = x.values if term.scale == 1 else ball.times(x.values, term.scale)
    return collected(place[x.rows], x.cols, values, (len(order), x.shape[1]))


def _repeated(matrix: Matrix, before: int, after: int) -> Matrix:
    """`I (x) A (x) I`."""
    shape = (before, len(matrix.values), after)
    b, k, a = (np.broadcast_to(index, shape).reshape(-1) for index in np.ogrid[:before, : shape[1], :after])
    rows = (b * matrix.shape[0] + matrix.rows[k]) * after + a
    cols = (b * matrix.shape[1] + matrix.cols[k]) * after + a
    return Matrix(rows, cols, matrix.values[k], (before * matrix.shape[0] * after, before * matrix.shape[1] * after))


def _multiplied(outer: Matrix, inner: Matrix) -> Matrix:
    # Rows of the outer matrix that meet nothing are left out beforehand.
    kept = np.isin(outer.cols, inner.rows)
    result = product(Matrix(outer.rows[kept], outer.cols[kept], outer.values[kept], outer.shape), inner)
    if result is None:
        raise Rejected("the matrix of slopes has too many terms for the checker")
    return result


def _terms(sources: list[Source], output: Form) -> int:
    """About the most terms in one step if all columns were pushed at once: a row meets as many columns as before."""
    width, most = sources[0].shape[1], 1
    forms = [(source.form, source.shape) for source in sources if source.form is not None]
    for form, _ in [*forms, (output, output.shape)]:
        size = sum(_stored(term) for terms in form.terms.values() for term in terms)
        most = max(most, size * width)
    return most


def _stored(term: Term) -> int:
    size = most = math.prod(term.source_shape)
    for matrix in term.matrices:
        if matrix is not None:
            size = size // max(matrix.shape[1], 1) * matrix.shape[0]
            most = max(most, size, math.prod(term.source_shape) // max(matrix.shape[1], 1) * len(matrix.values))
    return most


def _scaled(matrix: Matrix, weights: ball.Balls | None, first: int) -> Matrix:
    if weights is None:
        return matrix
    factors = ball.array(weights[matrix.rows] / weights[matrix.cols + first])
    return Matrix(matrix.rows, matrix.cols, ball.times(matrix.values, factors), matrix.shape)


def _block_norms(matrix: Matrix, width: int) -> tuple[Index, Index, ball.Balls]:
    """Rows, columns and bounds of the norms of the blocks that hold anything."""
    across = matrix.shape[1] // width
    place, number = np.unique(matrix.rows // width * across + matrix.cols // width, return_inverse=True)
    near = np.array([float(entry.mid()) for entry in matrix.values])
    if not bool(np.isfinite(near).all()):
        raise Rejected("a slope on the ball is not bounded")
    blocks = np.zeros((len(place), width, width))
    blocks[number, matrix.rows % width, matrix.cols % width] = near
    apart = ball.full(0, (len(place),))
    for where, entry, middle in zip(number, matrix.values, near, strict=True):
        apart[where] += ball.square(entry - arb(middle))
    tops = np.linalg.norm(blocks, 2, axis=(1, 2)) if len(place) else np.zeros(0)
    norms = ball.full(0, (len(place),))
    for k, (block, top) in enumerate(zip(blocks, tops, strict=True)):
        norms[k] = (_norm(block, float(top)) + ball.root_up(apart[k])).upper()
    return place // across, place % across, norms


def _norm(block: Any, top: float) -> ball.Ball:
    """A bound of a small matrix' norm near the proposal, else its Frobenius norm."""
    if top == 0 and not block.any():
        return arb(0)
    entries = ball.balls(block.reshape(-1).tolist(), block.shape)
    gram = ball.matrix_product(entries.T, entries)
    t = arb(top) ** 2 * (1 + arb(_SLACK))
    shifted = -gram
    for k in range(len(gram)):
        shifted[k, k] += t
    return ball.root_up(t if _is_positive(shifted) else ball.total(ball.times(entries, entries)))


def _is_positive(A: ball.Balls) -> bool:
    """Whether every pivot of a symmetric matrix is positive; the matrix is overwritten."""
    for k in range(len(A)):
        if not A[k, k] > 0:
            return False
        if k + 1 < len(A):
            A[k + 1 :, k + 1 :] -= np.multiply.outer(A[k + 1 :, k] / A[k, k], A[k, k + 1 :])
    return True


def _norm_of(N: Matrix) -> ball.Ball:
    """A bound of the norm of a matrix >= 0."""
    if not len(N.values):
        return arb(0)
    if not ball.all_finite(N.values):
        return arb.pos_inf()
    x = ball.balls(_proposed(N).tolist(), (N.shape[1], 1))
    image = N.transposed().times(N.times(x))
    if not ball.all_finite(image):
        return arb.pos_inf()
    return ball.root_up(ball.largest(ball.array(image / x)))


def _proposed(N: Matrix) -> Any:
    """x > 0 with `N^T N x <= t x` for t a little above N's norm squared: about `(t I - N^T N)^-1 1`, or ones."""
    from scipy.sparse import csr_array
    from scipy.sparse.linalg import LinearOperator, cg, svds

    n, values = N.shape[1], np.array([float(v) for v in N.values])
    size = float(values.max())
    if n < 3 or not 1e-300 < size < math.inf:
        return np.ones(n)
    matrix = csr_array((values / size, (N.rows, N.cols)), shape=N.shape)  # of size 1: squares overflow else
    t = float(svds(matrix, k=1, v0=np.ones(n), return_singular_vectors=False)[0]) ** 2 * (1 + 1e-6)
    operator = LinearOperator((n, n), matvec=lambda v: t * v - matrix.T @ (matrix @ v), dtype=np.float64)
    x = cg(operator, np.ones(n), rtol=1e-10, maxiter=20000)[0]
    top = float(np.max(np.abs(x), initial=0.0))
    return np.maximum(x, 1e-12 * top) if 0 < top < math.inf else np.ones(n)
