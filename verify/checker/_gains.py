"""Upper bounds of a network's Lipschitz constant in l1, l2 and linf, weighted or not.

- linf with weights w: `max_i w_i (N 1/w)_i`, |M| <= N entry by entry for every choice of slopes;
- l1: `max_j (N^T w)_j / w_j`;
- l2: products of norms along the composition, sums by the triangle inequality, `D A D^-1` for weights.

N is applied to one vector, never formed: |M| u is bounded source by source with absolute values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from flint import arb

from . import _arithmetic as ball
from ._affine import Source
from ._matrix import Matrix, identity
from ._matrix_norm import factored_bound, spectral_bound
from ._term import Form, Term

Weights = list[ball.Balls]  # one array per leaf of the state, of the leaf's full shape


def forward(sources: list[Source], outputs: list[Form], state: list[ball.Balls]) -> list[ball.Balls]:
    """Bounds of `N u` for u >= 0 given leaf by leaf."""
    values: list[ball.Balls] = []
    for number, source in enumerate(sources):
        if source.form is None:
            values.append(state[number])
        else:
            values.append(sloped_magnitude(source, magnitude_of(source.form, values)))
    return [magnitude_of(form, values) for form in outputs]


def backward(sources: list[Source], outputs: list[Form], covectors: list[ball.Balls]) -> list[ball.Balls]:
    """Bounds of `N^T v` for v >= 0 given output by output."""
    sums = [ball.full(0, source.shape) for source in sources]
    for form, covector in zip(outputs, covectors, strict=True):
        _spread(form, covector, sums)
    for number in range(len(sources) - 1, -1, -1):
        source = sources[number]
        if source.form is not None:
            covector = _sloped_transposed(source, sums[number])
            if source.linear is not None:
                covector = source.linear.magnitude_transposed(covector)
            _spread(source.form, covector.reshape(source.form.shape), sums)
    return [total for total, source in zip(sums, sources, strict=True) if source.form is None]


def sloped_magnitude(source: Source, value: ball.Balls) -> ball.Balls:
    """The largest slopes, or the magnitudes of a function's derivatives, times a value of the form's shape."""
    if source.linear is not None:
        value = source.linear.magnitude(value)
    if source.derivative is None:
        return ball.times(value.reshape(source.shape), source.slope)
    return source.derivative.magnitude(value).reshape(source.shape)


def _sloped_transposed(source: Source, value: ball.Balls) -> ball.Balls:
    if source.derivative is None:
        return ball.times(value, source.slope)
    return source.derivative.magnitude_transposed(value)


def magnitude_of(form: Form, values: list[ball.Balls]) -> ball.Balls:
    """Bounds of the moduli of a form, from those of the sources."""
    total = ball.full(0, form.shape)
    for number, terms in form.terms.items():
        for term in terms:
            total = ball.plus(total, term.magnitude(values[number]))
    return total


def _spread(form: Form, covector: ball.Balls, sums: list[ball.Balls]) -> None:
    for number, terms in form.terms.items():
        for term in terms:
            sums[number] = ball.plus(sums[number], term.magnitude_transposed(covector).reshape(sums[number].shape))


def lipschitz_bound(sources: list[Source], outputs: list[Form], order: str, weights: Weights | None) -> ball.Ball:
    """A number that `||G(y) - G(z)|| / ||y - z||` never exceeds, in the norm of this order and weights."""
    if order == "l2":
        return _l2_bound(sources, outputs, weights)
    w = weights or [ball.full(1, source.shape) for source in sources if source.form is None]
    if order == "linf":
        image = forward(sources, outputs, [ball.array(arb(1) / leaf) for leaf in w])
        ratios = [ball.times(x, leaf) for x, leaf in zip(image, w, strict=True)]
    else:
        image = backward(sources, outputs, w)
        ratios = [ball.array(x / leaf) for x, leaf in zip(image, w, strict=True)]
    return ball.largest(np.array([ball.largest(ratio) for ratio in ratios], dtype=object)).upper()


# --------------------------------------------------------------------------------------------------------- l2


def _l2_bound(sources: list[Source], outputs: list[Form], weights: Weights | None) -> ball.Ball:
    last = None if weights is None else [_along_last(leaf) for leaf in weights]
    if last is None or all(leaf is not None for leaf in last):
        return Composition(sources, last).norm(outputs)
    plain = Composition(sources, None).norm(outputs)
    ends = [entry for leaf in weights or [] for entry in leaf.reshape(-1)]
    return (plain * max(ends, key=float) / min(ends, key=float)).upper()  # the weights are binary64 numbers


def _along_last(weight: ball.Balls) -> ball.Balls | None:
    """The weights along the last dimension where they vary along no other."""
    if not weight.ndim or not weight.size:
        return None
    rows = weight.reshape(-1, weight.shape[-1])
    return rows[0] if bool((rows == rows[0]).all()) else None


class Composition:
    """The l2 gains of sources from each leaf of the state, in order of computation.

    Args:
        sources: of the network; they may grow while this object lives.
        weights: along the last dimension of each leaf, or None. A source of the first leaf's shape carries
            that leaf's weights and any other none: every choice is sound, and with this one weights cancel
            across elementwise functions and residual branches.
    """

    def __init__(self, sources: list[Source], weights: list[ball.Balls | None] | None) -> None:
        self._sources, self._weights = sources, weights
        self._leaves = [number for number, source in enumerate(sources) if source.form is None]
        self._known: list[ball.Balls] = []

    def norm(self, outputs: list[Form]) -> ball.Ball:
        """An upper bound of the whole map's l2 norm."""
        weights = self._weights or [None] * len(outputs)
        rows = [self.gain(form, weight, None) for form, weight in zip(outputs, weights, strict=True)]
        blocks = np.array(rows, dtype=object).reshape(len(outputs), len(self._leaves))
        return (blocks[0, 0] if blocks.size == 1 else factored_bound(blocks)).upper()

    def gain(self, form: Form, rows: ball.Balls | None, slope: Any) -> ball.Balls:
        """Bounds of `||diag(slope) form||` from each leaf, (leaves,)."""
        self._complete(max(form.terms, default=-1))
        total = ball.full(0, (len(self._leaves),))
        for number, terms in form.terms.items():
            for term in terms:
                total = total + self._known[number] * self._norm(term, number, rows, slope)
        return total

    def _complete(self, needed: int) -> None:
        while len(self._known) <= needed:
            number = len(self._known)
            source = self._sources[number]
            if source.form is None:
                unit = ball.full(0, (len(self._leaves),))
                unit[self._leaves.index(number)] = arb(1)
                self._known.append(unit)
                continue
            if source.linear is not None:
                self._known.append(ball.times(self.gain(source.form, None, None), source.linear.norm))
                continue
            rows = self._weight(number) if source.shape == source.form.shape else None
            self._known.append(self.gain(source.form, rows, inner_slope(source)))

    def _weight(self, number: int) -> ball.Balls | None:
        if self._weights is None:
            return None
        source = self._sources[number]
        if source.form is None:
            return self._weights[self._leaves.index(number)]
        carries = not source.moved and source.linear is None and source.shape == self._sources[self._leaves[0]].shape
        weights = self._weights[0] if carries else None
        varies = weights is not None and any(bool(weight != weights[0]) for weight in weights)
        return None if varies and source.derivative is not None else weights  # it commutes with constant weights only

    def _norm(self, term: Term, number: int, rows: ball.Balls | None, slope: Any) -> ball.Ball:
        return sloped_norm(term, len(self._sources[number].shape), slope, rows, self._weight(number))


def sloped_norm(
    term: Term, ndim: int, slope: Any, rows: ball.Balls | None = None, cols: ball.Balls | None = None
) -> ball.Ball:
    """`||diag(slope) D_rows A D_cols^-1||` for one term of a source with `ndim` dimensions; slope None for ones."""
    plain = weighted_norm(term, ndim, rows, cols)
    if slope is None:
        return plain
    bound = plain * ball.largest(slope)
    matrix = term.last_matrix(ndim)
    if not slope.ndim or matrix is None:
        return bound.upper()
    each_row = ball.array(_largest_along_rows(slope))
    weighted = each_row if rows is None else ball.times(each_row, rows)
    inverse = None if cols is None else ball.array(arb(1) / cols)
    return bound.min(spectral_bound(matrix.scaled(weighted, inverse))).upper()


def inner_slope(source: Source) -> ball.Balls:
    """The largest slopes of a source, one number or one for each entry of its form."""
    slope = np.asarray(source.slope, dtype=object)
    return slope.reshape(source.form.shape) if slope.ndim and source.form is not None else slope


def _largest_along_rows(slope: ball.Balls) -> ball.Balls:
    columns = slope.reshape(-1, slope.shape[-1]).T
    return np.array([ball.largest(column) for column in columns], dtype=object)


def weighted_norm(term: Term, ndim: int, rows: ball.Balls | None, cols: ball.Balls | None) -> ball.Ball:
    """A bound of ||D_rows A D_cols^-1||_2, D on the last dimension of the result and of the source."""
    bound = abs(term.scale)
    for axis, matrix in enumerate(term.matrices):
        row = rows if term.axes and axis == term.axes[-1] else None
        col = cols if axis == ndim - 1 else None
        same = row is not None and col is not None and len(row) == len(col) and bool((row == col).all())
        if matrix is None and ((row is None and col is None) or same):
            continue
        chosen: Matrix = identity(term.source_shape[axis]) if matrix is None else matrix
        bound = bound * spectral_bound(chosen.scaled(row, None if col is None else ball.array(arb(1) / col)))
    return bound.upper()


def row_norms(matrix: Matrix) -> ball.Balls:
    """The Euclidean norm of each row."""
    squares = Matrix(matrix.rows, matrix.cols, ball.times(matrix.values, matrix.values), matrix.shape)
    sums = squares.magnitude_times(ball.full(1, (matrix.shape[1], 1)))[:, 0]
    return ball.each(ball.root_up, sums)
