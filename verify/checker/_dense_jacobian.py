"""The slope matrix of one problem, written out entry by entry over a box.

Each source's derivative by the problem's unknowns is a ball array (*shape, n): a leaf's is a unit block, an
elementwise function's is its slopes' interval times that of its argument.
"""

from __future__ import annotations

import math

import numpy as np
from flint import arb

from . import _arithmetic as ball
from ._affine import Source
from ._matrix import Matrix
from ._network import Interval, Walk
from ._refusal import Rejected
from ._subject import Subject
from ._term import Form, Term
from ._values import Values

LARGEST_ENTRIES = 2**22

ANALYTIC = frozenset(
    ("tanh", "sigmoid", "silu", "gelu", "softplus", "mish", "exp", "expm1", "erf", "square", "sin", "cos")
)
"""Elementwise functions that are real-analytic on the whole line."""


def walk_over_box(subject: Subject, constants: Values, point: list[ball.Balls], radius: float) -> Walk:
    """The network with slopes that hold where every entry is within `radius` of the point's."""
    intervals = [Interval(middle, ball.full(arb(radius), middle.shape)) for middle in point]
    return Walk(subject.graph, constants, intervals)


def slope_matrix(subject: Subject, walk: Walk, problem: int) -> ball.Balls:
    """(n, n) balls that hold every slope matrix of one problem: its new state's n numbers by its state's.

    Raises:
        Rejected: it would be too large, or a slope is not enclosed.
    """
    sizes = [math.prod(shape) for shape in subject.problem_shapes]
    columns, batched = sum(sizes), bool(subject.graph.batch_dims)
    if any(columns * math.prod(source.shape) > LARGEST_ENTRIES for source in walk.network.sources):
        raise Rejected(f"the operator has too many unknowns ({columns}) for a dense Jacobian")
    derivatives: list[ball.Balls] = []
    start, leaf = 0, 0
    for source in walk.network.sources:
        if source.form is None:
            derivatives.append(_unit(source.shape, start, columns, problem if batched else None))
            start, leaf = start + sizes[leaf], leaf + 1
        else:
            derivatives.append(_with_slopes(source, _derivative(source.form, derivatives, columns), columns))
    rows = []
    for form in walk.outputs:
        whole = _derivative(form, derivatives, columns)
        rows.append((whole[problem] if batched else whole).reshape(-1, columns))
    result = np.concatenate(rows)
    if not ball.all_finite(result):
        raise Rejected("a slope is not enclosed")
    return result


def _unit(shape: tuple[int, ...], start: int, columns: int, problem: int | None) -> ball.Balls:
    whole = ball.full(0, (*shape, columns))
    block = whole if problem is None else whole[problem]
    flat = block.reshape(-1, columns)  # a view: the block is contiguous
    for i in range(len(flat)):
        flat[i, start + i] = arb(1)
    return whole


def _with_slopes(source: Source, inner: ball.Balls, columns: int) -> ball.Balls:
    if source.ends is None:
        raise Rejected("a slope's sign is not known")
    low, high = source.ends
    slopes = ball.each(lambda a, b: a.union(b), low, high)
    factor = slopes if slopes.ndim == 0 else slopes[..., None]
    return ball.times(inner, factor).reshape((*source.shape, columns))


def _derivative(form: Form, derivatives: list[ball.Balls], columns: int) -> ball.Balls:
    total = ball.full(0, (*form.shape, columns))
    for number, terms in form.terms.items():
        for term in terms:
            total = ball.plus(total, _applied(term, derivatives[number], columns))
    return total


def _applied(term: Term, x: ball.Balls, columns: int) -> ball.Balls:
    """The term applied to each column, with signs."""
    x = x.reshape((*term.source_shape, columns))
    for axis, matrix in enumerate(term.matrices):
        x = x if matrix is None else _along(matrix, x, axis)
    dropped = tuple(axis for axis in range(len(term.source_shape)) if axis not in term.axes)
    moved = x.transpose((*term.axes, *dropped, len(term.source_shape)))
    return ball.times(moved.reshape((*term.shape, columns)), term.scale)


def _along(matrix: Matrix, x: ball.Balls, axis: int) -> ball.Balls:
    moved = np.moveaxis(x, axis, 0)
    flat = moved.reshape(moved.shape[0], math.prod(moved.shape[1:]))
    image = _product(matrix, flat)
    return np.moveaxis(image.reshape((image.shape[0], *moved.shape[1:])), 0, axis)


def _product(matrix: Matrix, x: ball.Balls) -> ball.Balls:
    if matrix.full:
        return ball.matrix_product(matrix.dense(), x)
    result = ball.full(0, (matrix.shape[0], x.shape[1]))
    if len(matrix.values) and x.shape[1]:
        starts = np.flatnonzero(np.r_[True, matrix.rows[1:] != matrix.rows[:-1]])
        for start in range(0, x.shape[1], 16):
            block = matrix.values[:, None] * x[matrix.cols, start : start + 16]
            result[matrix.rows[starts], start : start + 16] = np.add.reduceat(block, starts, axis=0)
    return result


def is_analytic(subject: Subject) -> bool:
    """Whether G is a composition of affine maps and analytic functions."""
    graph = subject.graph
    for node in graph.nodes:
        if node.output not in graph.state_dependent or node.op in ANALYTIC:
            continue
        pole = node.op == "div" and node.operands[1] in graph.state_dependent
        if node.op not in _AFFINE or pole or not node.dtype.is_floating_point:
            return False
    return True


_AFFINE = frozenset(
    """neg cast add sub mul div matmul reshape permute expand slice select index_select index_add cat where
    sum mean""".split()  # noqa: SIM905 - a list that reads as one
)


def is_differentiable(walk: Walk) -> bool:
    """Whether G is differentiable on the walk's box: a function that is not analytic has one slope there."""
    for source in walk.network.sources:
        if not source.name or source.name in ANALYTIC:
            continue
        if source.ends is None or not bool(ball.each(lambda a, b: bool(a == b), *source.ends).all()):
            return False
    return True
