"""The operator as forms over sources: what the norms bound.

Lemma `slopes`: a composition of affine maps and elementwise functions with difference quotients in verified
intervals satisfies `G(y) - G(z) = M (y - z)` for a product M of the maps with slopes in those intervals. The
walk below writes every state-dependent value as a `Form`; a nonlinear elementwise function makes a new
source. Over the whole space its slope is the function's global bound; over a ball it is the bound on an
interval that contains the pre-activation for every state in the ball.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

from flint import arb

from deqops.graph import ConcreteGraph, Node

from . import _arithmetic as ball
from ._affine import Network, Source, affine, refuse
from ._attention import ATTENTION
from ._elementary import elementary, image_of, slopes_of
from ._extreme import EXTREMES
from ._interval import Interval, between, exactly
from ._masks import read_by_softmax_alone
from ._normalisation import NORMALISATIONS, Near, Normalisation, normalisation_of
from ._products import attention, largest, product, shrunk, softmax, sorted_values
from ._ranges import PRODUCTS, extremum_range, moved_range, node_range, result_range, varies
from ._refusal import Rejected
from ._scores import gone_after, require_a_number
from ._term import Form, zero_form
from ._values import Values, last_uses


def is_nonlinear(node: Node) -> bool:
    """Whether the node may apply a function that is not affine: the intervals of its operands count."""
    known = NORMALISATIONS | EXTREMES | PRODUCTS | {ATTENTION}
    return (
        node.op in known
        or node.op in ("softmax", "sort", "softshrink")
        or elementary(node.op, node.attributes) is not None
    )


MOST_TERMS = 8
_MULTIPLYING = ("matmul", "conv", "conv_transpose")


class Refine(Protocol):
    """What more is known of values over a ball."""

    def __call__(self, network: Network, value: int, form: Form, interval: Interval, /) -> Interval:
        """The interval of a pre-activation, given its form, or a part of it."""

    def near(self, network: Network, value: int, form: Form, /) -> Near | None:
        """How far the value is from its value at the centre; None where that is not bounded."""


class Walk:
    """Forms, and over a ball intervals, of all state-dependent values.

    Args:
        graph: the operator graph.
        constants: the state-independent values.
        intervals: of the state's leaves, or None for slopes that hold everywhere.
        refine: narrows the intervals of pre-activations.
        gather: take a sum that a matrix multiplies, and a sum of more than `MOST_TERMS`, as a source of its own.

    Attributes:
        gathered: whether a sum was.
    """

    def __init__(
        self,
        graph: ConcreteGraph,
        constants: Values,
        intervals: list[Interval] | None = None,
        refine: Refine | None = None,
        gather: bool = False,
    ) -> None:
        self.network = Network(constants, read_by_softmax_alone(graph))
        self._graph, self._constants, self._refine = graph, constants, refine
        self._gather, self.gathered = gather, False
        self._forms: dict[int, Form] = {}
        self._gone: dict[int, Any] = {}
        self._everywhere: dict[int, Interval | None] | None = None
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

    def depends(self, value: int) -> bool:
        """Whether a value depends on the state."""
        return value in self._graph.state_dependent

    def form(self, value: int) -> Form:
        """The form of a state-dependent value."""
        return self._forms[value]

    def narrowed(self, value: int) -> Interval | None:
        """The interval of a state-dependent value over the ball, narrowed; None where slopes hold everywhere."""
        return None if self._intervals is None else self._narrowed(value, self._forms[value])

    def enclose(self, node: Node, interval: Callable[[], Interval]) -> None:
        """Note the interval of a node's results where intervals are followed."""
        if self._intervals is not None:
            self._intervals[node.output] = interval()

    def range_of(self, node: Node, value: int) -> Interval:
        """The interval of an operand, over the ball or over all states.

        Raises:
            Rejected: it is not bounded.
        """
        if not self.depends(value):
            return exactly(self._constants.balls(value))
        known = self.narrowed(value)
        if known is None:
            known = self._ranges_everywhere()[value]
        if known is None or not all(ball.all_finite(end) for end in known.ends):
            raise refuse(node, "of two state-dependent tensors that are not both bounded")
        return known

    def integers(self, value: int) -> Any:
        """An exact integer array."""
        return self._constants.integers(value)

    def _ranges_everywhere(self) -> dict[int, Interval | None]:
        if self._everywhere is None:
            known: dict[int, Interval | None] = dict.fromkeys(self._graph.state)
            for node in self._graph.nodes:
                if self.depends(node.output):
                    known[node.output] = node_range(self._graph, self._constants, node, known, self.network.scores)
            self._everywhere = known
        return self._everywhere

    def _visit(self, node: Node) -> None:
        _must_be_numbers(node)
        self._mask(node)
        if node.op in _MULTIPLYING:
            for value in node.operands:
                self._gather_terms(value, 1)
        forms = [self._forms.get(value) for value in node.operands]
        form = product(self, node) if varies(self._graph, node) else affine(self.network, node, forms)
        if form is None:
            form = self._nonlinear(node)
        elif self._intervals is not None and node.output not in self._intervals:
            self._intervals[node.output] = moved_range(node, self._constants, self._intervals, self.network.scores)
        if form.shape != tuple(node.shape):
            raise refuse(node, f"gives shape {form.shape}, the graph says {tuple(node.shape)}")
        self._forms[node.output] = form
        self._gather_terms(node.output, MOST_TERMS)

    def _gather_terms(self, value: int, most: int) -> None:
        """Make a form with more terms than this a source; it is left as it is where sums are not gathered."""
        form = self._forms.get(value)
        if self._gather and form is not None and sum(map(len, form.terms.values())) > most:
            self._forms[value] = self.network.add(Source(form.shape, form, arb(1)))
            self.gathered = True

    def _mask(self, node: Node) -> None:
        """Follow minus infinity among scores; a softmax of nothing else is refused."""
        if node.op == "softmax":
            require_a_number(node, self._gone.get(node.operands[0]))
        elif node.output in self.network.scores:
            found = gone_after(self._graph, self._constants, node, self._gone)
            if found is not None:
                self._gone[node.output] = found

    def _forget(self, values: set[int]) -> None:
        for value in values:
            if self._intervals is not None:
                self._intervals.pop(value, None)

    def _nonlinear(self, node: Node) -> Form:
        if node.op in ("maximum", "minimum"):
            return self._extremum(node)
        if node.op == "softmax":
            return softmax(self, node)
        if node.op == ATTENTION:
            return attention(self, node)
        if node.op in EXTREMES:
            return largest(self, node)
        if node.op == "sort":
            return sorted_values(self, node)
        if node.op == "softshrink":
            return shrunk(self, node)
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
            value = node.operands[0]
            near = None if self._refine is None else self._refine.near(self.network, value, form)
            derivative = rule.over(*self._narrowed(value, form).ends, near)
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
