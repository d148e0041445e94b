"""Local claims: slopes on a ball or a box, and how far G moves a ball's centre."""

from __future__ import annotations

from typing import Any

import numpy as np
from flint import arb

from . import _arithmetic as ball
from ._affine import Network
from ._decided import decided
from ._document import Ball, Box, Norm
from ._gains import Composition, row_norms
from ._interval import Interval, between, intersected
from ._network import Walk, is_nonlinear
from ._normalisation import Near
from ._refusal import Rejected
from ._subject import Subject
from ._term import Form
from ._values import Values
from ._vector_norm import largest_norm, powers
from ._witness import Array


def centre_of(region: Ball) -> list[ball.Balls]:
    """The ball's centre, leaf by leaf."""
    return [_balls(leaf) for leaf in region.center]


def walk_over_ball(
    subject: Subject,
    constants: Values,
    region: Ball,
    norm: Norm,
    weights: list[ball.Balls] | None,
    gather: bool = False,
) -> Walk:
    """The network with slopes that hold on the ball, its sums gathered or not.

    In each of the three norms `|y_i - c_i| <= r / w_i`. In the unweighted l2 norm a pre-activation
    `M (y - c)` moves by at most the Euclidean norm of M's row times r, which is narrower.
    """
    radius = arb(region.radius)
    intervals = []
    for number, middle in enumerate(centre_of(region)):
        width = ball.full(radius, middle.shape) if weights is None else ball.array(radius / weights[number])
        intervals.append(Interval(middle, width))
    graph, constants = decided(subject.graph, constants, intervals, subject.free)
    if norm.order != "l2" or weights is not None:
        return Walk(graph, constants, intervals, gather=gather)
    watched = frozenset(v for node in graph.nodes if is_nonlinear(node) for v in node.operands)
    at_centre = Values(graph, centre_of(region), subject.free, constants, watched)
    return Walk(graph, constants, intervals, _Euclidean(at_centre, radius), gather)


class _Euclidean:
    """Narrows the interval of a pre-activation by its l2 gain from the state."""

    def __init__(self, at_centre: Values, radius: Any) -> None:
        self._at_centre, self._radius = at_centre, radius
        self._composition: Composition | None = None

    def __call__(self, network: Network, value: int, form: Form, interval: Interval) -> Interval:
        deviation = ball.times(self._gain(network, form), self._radius)
        known = self._at_centre.scores(value) if value in network.scores else self._at_centre.balls(value)
        return intersected(interval, known, deviation)

    def near(self, network: Network, value: int, form: Form) -> Near | None:
        """`|v - v(c)| <= gain r` in l2."""
        distance = self._whole_gain(network, form) * self._radius
        return Near(self._at_centre.balls(value), distance) if distance.is_finite() else None

    def _gain(self, network: Network, form: Form) -> ball.Balls:
        only = form.only()
        if only is not None and network.sources[only[0]].form is None:
            matrix = only[1].last_matrix(len(network.sources[only[0]].shape))
            if matrix is not None:
                return row_norms(matrix)
        return ball.array(self._whole_gain(network, form))

    def _whole_gain(self, network: Network, form: Form) -> Any:
        if self._composition is None:
            self._composition = Composition(network.sources, None)
        gains = self._composition.gain(form, None, None)
        return ball.root_up(ball.total(ball.times(gains, gains)))


def ends_of(region: Box) -> list[tuple[ball.Balls, ball.Balls]]:
    """The lower and the upper end, leaf by leaf."""
    pairs = zip(region.lower, region.upper, strict=True)
    return [(_balls(low), _balls(high)) for low, high in pairs]


def require_fitting_box(region: Box, subject: Subject) -> None:
    """Refuse a box that has not the state's shapes."""
    if [leaf.shape for leaf in region.lower] != subject.shapes:
        raise Rejected("region: the ends of the box are not of the state's shape")


def walk_over_box(subject: Subject, constants: Values, region: Box, gather: bool = False) -> Walk:
    """The network with slopes that hold on the box, its sums gathered or not."""
    require_fitting_box(region, subject)
    intervals = [between(*ends) for ends in ends_of(region)]
    return Walk(*decided(subject.graph, constants, intervals, subject.free), intervals, gather=gather)


def _balls(leaf: Array) -> ball.Balls:
    return ball.balls(leaf.reshape(-1).tolist(), leaf.shape)


def residual_bound(
    subject: Subject, constants: Values, region: Ball, norm: Norm, weights: list[ball.Balls] | None
) -> Any:
    """Upper bound of `||G(c) - c||` over all problems."""
    centre = centre_of(region)
    gaps = moved(subject, constants, centre)
    return largest_norm(
        norm,
        powers(
            norm,
            weights,
            [ball.array(g - c) for g, c in zip(gaps, centre, strict=True)],
            subject.graph.batch_dims,
        ),
    )


def moved(subject: Subject, constants: Values, state: list[ball.Balls]) -> list[ball.Balls]:
    """Enclosures of G(state), leaf by leaf."""
    values = Values(subject.graph, state, subject.free, constants)
    shapes = zip(subject.graph.outputs, subject.shapes, strict=True)
    return [np.broadcast_to(values.balls(value), shape) for value, shape in shapes]
