"""The operator as forms over sources: what the norms bound.

Lemma `slopes`: a composition of affine maps and elementwise functions with difference quotients in verified
intervals satisfies `G(y) - G(z) = M (y - z)` for a product M of the maps with slopes in those intervals. The
walk below writes every state-dependent value as a `Form`; a nonlinear elementwise function makes a new
source. Over the whole space its slope is the function's global bound; over a ball it is the bound on an
interval that contains the pre-activation for every state in the ball.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from flint import arb

from deqops.graph import ConcreteGraph, Node

from . import _arithmetic as ball
from ._affine import Network, Source, affine, refuse
from ._elementary import elementary, image_of, slopes_of
from ._gains import forward
from ._normalisation import NORMALISATIONS, Derivative, Normalisation, normalisation_of
from ._refusal import Rejected
from ._term import Form, zero_form
from ._values import Values, evaluate, last_uses


@dataclass(frozen=True, eq=False)
class Interval:
    """`|v - middle| <= radius` entry by entry."""

    middle: ball.Balls
    radius: ball.Balls

    @property
    def ends(self) -> tuple[ball.Balls, ball.Balls]:
        """The lower and the upper ends, outwards: numbers, however wide the middle is."""
        return outwards(ball.array(self.middle - self.radius), ball.array(self.middle + self.radius))


def between(low: ball.Balls, high: ball.Balls) -> Interval:
    """The interval with the given ends."""
    low, high = outwards(low, high)
    return Interval(ball.array((low + high) / 2), ball.array((high - low) / 2))


def outwards(low: ball.Balls, high: ball.Balls) -> tuple[ball.Balls, ball.Balls]:
    """The least of the lower ends and the largest of the upper ones, entry by entry."""
    return ball.each(lambda x: x.lower(), low), ball.each(lambda x: x.upper(), high)


def is_nonlinear(node: Node) -> bool:
    """Whether the node applies a nonlinear function, entry by entry or a normalisation."""
    return node.op in NORMALISATIONS or elementary(node.op, node.attributes) is not None


Refine = Callable[[Network, int, Form, Interval], Interval]


class Walk:
    """Forms, and over a ball intervals, of all state-dependent values.

    Args:
        graph: the operator graph.
        constants: the state-independent values.
        intervals: of the state's leaves, or None for slopes that hold everywhere.
        refine: may narrow the interval of a pre-activation, given its form.
    """

    def __init__(
        self,
        graph: ConcreteGraph,
        constants: Values,
        intervals: list[Interval] | None = None,
        refine: Refine | None = None,
    ) -> None:
        self.network = Network(constants)
        self._graph, self._constants, self._refine = graph, constants, refine
        self._forms: dict[int, Form] = {}
        self._intervals: dict[int, Interval] | None = None if intervals is None else {}
        for position, value in enumerate(graph.state):
            self._forms[value] = self.network.add(Source(graph.shape(value)))
            if self._intervals is not None and intervals is not None:
                self._intervals[value] = intervals[position]
        for node, finished in zip(graph.nodes, last_uses(graph), strict=True):
            if node.output in graph.state_dependent:
                self._visit(node)
            self._forget(finished)

    @property
    def outputs(self) -> list[Form]:
        """The forms of the new state's leaves."""
        for value in self._graph.outputs:
            if value not in self._forms:
                self._constants.must_be_finite(value)
        return [self._forms.get(value, zero_form(self._graph.shape(value))) for value in self._graph.outputs]

    def _visit(self, node: Node) -> None:
        _must_be_numbers(node)
        forms = [self._forms.get(value) for value in node.operands]
        form = affine(self.network, node, forms)
        if form is None:
            form = self._nonlinear(node)
        elif self._intervals is not None:
            self._intervals[node.output] = moved_range(node, self._constants, self._intervals)
        if form.shape != tuple(node.shape):
            raise refuse(node, f"gives shape {form.shape}, the graph says {tuple(node.shape)}")
        self._forms[node.output] = form

    def _forget(self, values: set[int]) -> None:
        for value in values:
            if self._intervals is not None:
                self._intervals.pop(value, None)

    def _nonlinear(self, node: Node) -> Form:
        if node.op in ("maximum", "minimum"):
            return self._extremum(node)
        rule = normalisation_of(node)
        if rule is not None:
            return self._normalised(node, rule)
        table = elementary(node.op, node.attributes)
        if table is None:
            raise refuse(node, "has no Lipschitz rule in the checker")
        form = self._forms[node.operands[0]]
        ends: tuple[Any, Any] | None
        if self._intervals is None:
            ends = table.global_slopes()
            if ends is None:
                raise refuse(node, "has no Lipschitz constant on the whole space")
            slope = abs(ends[0]).max(abs(ends[1])).upper()
        else:
            low, high = self._narrowed(node.operands[0], form).ends
            ends = slopes_of(table, low, high)
            slope = ball.each(lambda a, b: abs(a).max(abs(b)).upper(), *ends)
            self._intervals[node.output] = between(*image_of(table, low, high))
        return self.network.add(Source(form.shape, form, slope, interval=ends, name=node.op))

    def _normalised(self, node: Node, rule: Normalisation) -> Form:
        form = self._forms[node.operands[0]]
        if self._intervals is None:
            derivative = rule.everywhere(math.prod(form.shape) // rule.size)
        else:
            derivative = rule.over(*self._narrowed(node.operands[0], form).ends)
            self._intervals[node.output] = result_range(node, derivative)
        slope = derivative.norms(form.shape)
        return self.network.add(Source(form.shape, form, slope, name=node.op, derivative=derivative))

    def _extremum(self, node: Node) -> Form:
        """The larger or smaller of a state-dependent value and a constant: slopes within [0, 1]."""
        a, b = node.operands
        if a in self._forms and b in self._forms:
            raise refuse(node, "of two state-dependent tensors has no rule in the checker")
        self._constants.must_be_finite(b if a in self._forms else a)
        form = self.network.expanded(self._forms[a if a in self._forms else b], tuple(node.shape))
        if self._intervals is not None:
            self._intervals[node.output] = extremum_range(node, self._constants, self._intervals)
        return self.network.add(Source(form.shape, form, arb(1), interval=(arb(0), arb(1)), name=node.op))

    def _narrowed(self, value: int, form: Form) -> Interval:
        if self._intervals is None:
            raise Rejected("an interval was asked for outside a ball")
        if self._refine is not None:
            self._intervals[value] = self._refine(self.network, value, form, self._intervals[value])
        return self._intervals[value]


def _must_be_numbers(node: Node) -> None:
    """Refuse NaN and infinity among an operation's own numbers; a clamp may be open on either side."""
    for name, number in node.attributes.items():
        is_open = (name, number) in (("minimum", float("-inf")), ("maximum", float("inf")))
        if isinstance(number, float) and not is_open and not abs(number) < float("inf"):
            raise refuse(node, f"has {name} = {number}")


def intersected(interval: Interval, centre: ball.Balls, deviation: Any) -> Interval:
    """The part of an interval within `deviation` of `centre`."""
    low, high = interval.ends
    low = ball.each(lambda a, b: a.max(b), low, ball.array(centre - deviation))
    high = ball.each(lambda a, b: a.min(b), high, ball.array(centre + deviation))
    return between(low, np.broadcast_to(high, low.shape))


def moved_range(node: Node, constants: Values, ranges: Mapping[int, Interval]) -> Interval:
    """The interval of an affine node: its value at the middles, and |A| times the radii.

    Args:
        node: affine in the operands that have a range.
        constants: the other operands.
        ranges: of the state-dependent operands.
    """
    step = Network(constants)
    inputs: list[Form | None] = []
    values, radii = [], []
    for value in node.operands:
        if value not in ranges:
            inputs.append(None)
            values.append(constants[value])
            continue
        inputs.append(step.add(Source(ranges[value].middle.shape)))
        values.append(ranges[value].middle)
        radii.append(ranges[value].radius)
    form = affine(step, node, inputs)
    if form is None:
        raise refuse(node, "is not affine")
    return Interval(evaluate(node, values), forward(step.sources, [form], radii)[0])


def result_range(node: Node, derivative: Derivative) -> Interval:
    """The interval of a normalisation's results."""
    return between(derivative.bottom.reshape(node.shape), derivative.top.reshape(node.shape))


def extremum_range(node: Node, constants: Values, ranges: Mapping[int, Interval]) -> Interval:
    """The interval of the larger or smaller of a state-dependent value and a constant."""
    a, b = node.operands
    value, constant = (a, b) if a in ranges else (b, a)
    limit = constants.balls(constant)
    pick = (lambda x, y: x.max(y)) if node.op == "maximum" else (lambda x, y: x.min(y))
    low, high = ranges[value].ends
    return between(ball.each(pick, low, limit), ball.each(pick, high, limit))
