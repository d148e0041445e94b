"""The slope products of a network as one matrix of intervals per problem, and norms of such matrices.

An interval matrix is a pair of ball arrays, middles and radii, because the radius of an `arb` has 30 bits only:
every product M of the maps with slopes in their intervals satisfies `|M - middle| <= radius` entry by entry. The
identity is pushed forward; with independent problems one column serves the same unknown of all of them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from flint import arb

from . import _arithmetic as ball
from ._affine import Source
from ._interval import Interval
from ._matrix_norm import factored_bound
from ._network import Walk
from ._refusal import Rejected
from ._stack import simple_bound
from ._subject import Subject
from ._term import Form

LARGEST_ENTRIES = 2**19  # of any array of balls on the way: each takes about 100 bytes
LARGEST_MATRICES = 2**21  # entries of the matrices of all problems
LARGEST_ORDER = 1024  # unknowns of one problem


def slope_products(walk: Walk, subject: Subject) -> Interval:
    """Middles and radii of all slope products, (problems, n, n), n unknowns of all leaves in their order.

    As many columns are pushed forward at once as `LARGEST_ENTRIES` allows.

    Raises:
        Rejected: the matrices are beyond the checker's means.
    """
    unknowns = sum(math.prod(shape) for shape in subject.problem_shapes)
    step = _columns_at_once(walk, subject, unknowns)
    parts = [_pushed(walk, subject, range(k, min(k + step, unknowns))) for k in range(0, unknowns, step)]
    middle, radius = (np.concatenate([part[k] for part in parts], axis=2) for k in range(2))
    if not (ball.all_finite(middle) and ball.all_finite(radius)):
        raise Rejected("a slope on the ball is not bounded")
    return Interval(middle, radius)


def _pushed(walk: Walk, subject: Subject, columns: range) -> list[ball.Balls]:
    """Middles and radii of these columns, (problems, n, columns)."""
    values: list[Interval] = []
    for number, source in enumerate(walk.network.sources):
        if source.form is None:
            values.append(identity_columns(subject, number, columns))
        else:
            values.append(sloped_columns(forward_columns(source.form, values, len(columns)), source))
    rows = [forward_columns(form, values, len(columns)) for form in walk.outputs]
    problems = subject.shapes[0][0] if subject.graph.batch_dims else 1
    parts = [[part.reshape(problems, -1, len(columns)) for part in (row.middle, row.radius)] for row in rows]
    return [np.concatenate([part[k] for part in parts], axis=1) for k in range(2)]


def damped_slopes(slopes: Interval, b: Any) -> Interval:
    """`(1 - b) I + b M` for matrices M of a stack."""
    middle = ball.times(slopes.middle, b)
    for k in range(middle.shape[-1]):
        middle[:, k, k] += 1 - b
    return Interval(middle, ball.times(slopes.radius, abs(b)))


def widest_column(walk: Walk, subject: Subject) -> int:
    """The most numbers at hand while one column is pushed forward."""
    forms = [source.form for source in walk.network.sources if source.form is not None] + walk.outputs
    widths = [term.widest() for form in forms for several in form.terms.values() for term in several]
    widths += [source.linear.widest() for source in walk.network.sources if source.linear is not None]
    return max([*widths, *(math.prod(shape) for shape in subject.shapes)])


def _columns_at_once(walk: Walk, subject: Subject, unknowns: int) -> int:
    widest = widest_column(walk, subject)
    problems = subject.shapes[0][0] if subject.graph.batch_dims else 1
    if unknowns > LARGEST_ORDER or problems * unknowns**2 > LARGEST_MATRICES or widest > LARGEST_ENTRIES:
        raise Rejected(
            f"{problems} matrices of {unknowns} unknowns ({widest} numbers on the way to one column) are beyond "
            f"the checker's means: {LARGEST_ORDER} unknowns, {LARGEST_MATRICES} entries, {LARGEST_ENTRIES} numbers"
        )
    return max(1, LARGEST_ENTRIES // max(widest, 1))


def identity_columns(subject: Subject, leaf: int, columns: range) -> Interval:
    """The rows of these columns of the identity that belong to a leaf."""
    shapes, batch = subject.problem_shapes, subject.graph.batch_dims
    sizes = [math.prod(shape) for shape in shapes]
    middle = ball.full(0, (sizes[leaf], len(columns)))
    start = sum(sizes[:leaf])
    for k, column in enumerate(columns):
        if start <= column < start + sizes[leaf]:
            middle[column - start, k] = arb(1)
    full = (*subject.shapes[leaf], len(columns))
    own = middle.reshape(*shapes[leaf], len(columns))
    middle = np.broadcast_to(own[None] if batch else own, full)
    return Interval(middle, ball.full(0, full))


def forward_columns(form: Form, values: list[Interval], count: int) -> Interval:
    """The columns of a form from those of the sources."""
    middle, radius = (ball.full(0, (*form.shape, count)) for _ in range(2))
    for number, terms in form.terms.items():
        for term in terms:
            middle = ball.plus(middle, term.columns(values[number].middle))
            radius = ball.plus(radius, term.magnitude_term().columns(values[number].radius))
    return Interval(middle, radius)


def sloped_columns(columns: Interval, source: Source) -> Interval:
    """The rows times slopes in their intervals: `|m| r + h (|x| + r)` for slopes m +- h."""
    if source.linear is not None:
        columns = source.linear.interval_columns(columns)
    if source.derivative is not None:
        return Interval(*source.derivative.columns(columns.middle, columns.radius))
    shape = (*source.shape, columns.middle.shape[-1])
    middle, radius = columns.middle.reshape(shape), columns.radius.reshape(shape)
    low, high = (ball.array(end) for end in source.interval)
    low, high = (end[..., None] if end.ndim else end for end in (low, high))
    centre, half = ball.array((low + high) / 2), ball.array((high - low) / 2)
    spread = ball.array(ball.absolute(centre) * radius + half * (ball.absolute(middle) + radius))
    return Interval(ball.times(middle, centre), spread)


# ------------------------------------------------------------------------------------------------------ norms


def largest_norm(matrices: Interval, order: str, weights: ball.Balls | None) -> Any:
    """An upper bound of `||D A D^-1||`, D = diag(weights), over all matrices of the stack (problems, n, n)."""
    middle, radius = matrices.middle, matrices.radius
    if weights is not None:
        scales = ball.array(weights[:, None] / weights[None, :])
        middle, radius = ball.times(middle, scales), ball.times(radius, scales)
    magnitude = ball.array(ball.absolute(middle) + radius)
    top = arb(0)
    for problem in range(len(middle)):
        rows, columns = (_largest_sum(magnitude[problem], axis) for axis in (1, 0))
        found = {"linf": rows, "l1": columns, "l2": ball.root_up(rows * columns)}[order]
        if order == "l2" and not found <= top:
            found = found.min(factored_bound(middle[problem]) + simple_bound(radius[problem]))
        top = top.max(found)
    return top.upper()


def _largest_sum(entries: ball.Balls, axis: int) -> Any:
    return ball.largest(ball.array(entries.sum(axis=axis)))
