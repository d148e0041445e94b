"""One matrix per problem near all slope products, and how far in l2 any of them is from it.

With N' = A N for a linear step and N' = T N for slopes S whose middles are T, `|S M - T N|` is at most
`|S| |M - N| + |(S - T) N|`: norms multiply along the network, and intervals serve one step at a time. For block
diagonal S - T with blocks of norms d, `|(S - T) N| <= |diag(d) N|`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from flint import arb

from . import _arithmetic as ball
from ._affine import Source
from ._derivative import forward_columns, identity_columns, largest_norm, sloped_columns, widest_column
from ._gains import inner_slope, sloped_norm
from ._interval import Interval, exactly
from ._network import Walk
from ._normalisation import Derivative
from ._owners import Owners, problems_of_entries
from ._refusal import Rejected
from ._softmax import Softmax
from ._stack import simple_bound
from ._subject import Subject
from ._term import Form

LARGEST_ENTRIES = 2**22  # of any array of balls on the way


@dataclass(frozen=True, eq=False)
class Spread:
    """`|M - middle| <= deviation` in l2 for all slope products M; middles (problems, n, n)."""

    middle: ball.Balls
    deviation: Any


def spread(walk: Walk, subject: Subject) -> Spread:
    """That of all slopes.

    Raises:
        Rejected: the matrices are beyond the checker's means, or a slope is not bounded.
    """
    unknowns = sum(math.prod(shape) for shape in subject.problem_shapes)
    if widest_column(walk, subject) * unknowns > LARGEST_ENTRIES:
        raise Rejected(f"matrices of {unknowns} unknowns are beyond the checker's means")
    problems = subject.shapes[0][0] if subject.graph.batch_dims else 1
    sources, middles, deviations = walk.network.sources, list[Interval](), list[Any]()
    for number, (source, owners) in enumerate(zip(sources, problems_of_entries(sources, problems), strict=True)):
        if source.form is None:
            middles.append(identity_columns(subject, number, range(unknowns)))
            deviations.append(arb(0))
            continue
        moved = forward_columns(source.form, middles, unknowns)
        found = sloped_columns(moved, source)
        middles.append(exactly(found.middle))
        deviations.append((_own(moved, found, source, owners) + _inherited(source, sources, deviations)).upper())
    rows = [forward_columns(form, middles, unknowns).middle.reshape(problems, -1, unknowns) for form in walk.outputs]
    away = [_moved_on(form, sources, deviations, None) for form in walk.outputs]
    middle, deviation = np.concatenate(rows, axis=1), ball.root_up(sum((a * a for a in away), arb(0)))
    if not (ball.all_finite(middle) and deviation.is_finite()):
        raise Rejected("a slope is not bounded")
    return Spread(middle, deviation)


def _own(moved: Interval, found: Interval, source: Source, owners: Owners) -> Any:
    """A bound of `|(S - T) N|`, by intervals or by blocks."""
    top = arb(0)
    for radius in owners.parts(found.radius):
        top = top.max(simple_bound(radius))
    each = _deviations(source)
    if each is None:
        return top
    weighted, by_blocks = ball.times(moved.middle, each[..., None] if each.ndim else each), arb(0)
    for part in owners.parts(weighted):
        by_blocks = by_blocks.max(largest_norm(exactly(part[None]), "l2", None))
    return top.min(by_blocks)


def _deviations(source: Source) -> ball.Balls | None:
    """Norms of the blocks of S - T, one number or at the entries of the form; None where there are no such blocks."""
    if source.linear is not None or source.form is None:
        return None
    if source.derivative is None:
        low, high = (ball.array(end) for end in source.interval)
        half = ball.each(lambda a, b: ((b - a) / 2).upper(), low, high)
        return half.reshape(source.form.shape) if half.ndim else half
    if isinstance(source.derivative, Derivative | Softmax):
        return source.derivative.deviations(source.form.shape)
    return None


def _inherited(source: Source, sources: list[Source], deviations: list[Any]) -> Any:
    """A bound of `|S| |M - N|` for the slopes or the linear map of a source."""
    if source.form is None:
        return arb(0)
    if source.linear is not None:
        return _moved_on(source.form, sources, deviations, None) * source.linear.norm
    return _moved_on(source.form, sources, deviations, inner_slope(source))


def _moved_on(form: Form, sources: list[Source], deviations: list[Any], slope: Any) -> Any:
    total = arb(0)
    for number, terms in form.terms.items():
        if not deviations[number].is_zero():  # NaN is kept
            for term in terms:
                total = total + sloped_norm(term, len(sources[number].shape), slope) * deviations[number]
    return total
