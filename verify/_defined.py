"""Whether what does not depend on the state is a finite real number: `tanh(z) + log(x)` is no map where x < 0.

Bounds never look at an additive constant, so that the inputs it comes from stay free. It must be defined all the same:
for every value of those inputs, or, where an operation on the way is not defined everywhere, for the values given.
"""

from __future__ import annotations

from deqops._errors import UnsupportedOperationError
from deqops.graph import ConcreteGraph, Node

from ._domains import is_total, require_defined
from ._enclosures import Constants, Enclosed
from ._midrad import MidRad

Known = Enclosed | None  # None: some finite real number, whatever the inputs


class Defined:
    """The state-independent values of a graph, as far as it takes to show that they are finite.

    Args:
        graph: the operator graph.
        constants: its enclosures; inputs whose values had to be looked at are noted there.
    """

    def __init__(self, graph: ConcreteGraph, constants: Constants) -> None:
        self._graph, self._constants = graph, constants
        self._known: dict[int, Known] = {}

    def require(self, value: int) -> None:
        """Refuse a value that is not shown to be finite.

        Raises:
            UnsupportedOperationError: it may be NaN, infinite or undefined, or has no enclosure.
        """
        for node in self._needed(value):
            self._known[node.output] = self._status(node)
        if not is_finite(self._operand(value)):
            raise UnsupportedOperationError(self._name(value), "is NaN, infinite or not shown to be finite")

    def _needed(self, value: int) -> list[Node]:
        """The nodes that a value is computed from and that were not looked at, in order."""
        wanted, stack = set[int](), [value]
        while stack:
            current = stack.pop()
            if current not in wanted and current not in self._known and current in self._graph.producer:
                wanted.add(current)
                stack.extend(self._graph.producer[current].operands)
        return [node for node in self._graph.nodes if node.output in wanted] if wanted else []

    def _status(self, node: Node) -> Known:
        operands = [self._operand(value) for value in node.operands]
        total = all(is_finite(operand) for operand in operands) and _is_defined(node, operands)
        if total and any(operand is None for operand in operands):
            return None
        try:
            found = self._constants[node.output]
        except UnsupportedOperationError:
            if total:
                return None
            raise
        if is_finite(found) and node.op not in _CHOOSING and not all(_is_enclosed(operand) for operand in operands):
            raise UnsupportedOperationError(node.source, "is of what is not shown to be a number")
        return found

    def _operand(self, value: int) -> Known:
        if value in self._known:
            return self._known[value]
        leaf = self._graph.leaves.get(value)
        if leaf is not None and leaf.kind == "input":
            return None
        return self._constants[value]

    def _name(self, value: int) -> str:
        leaf = self._graph.leaves.get(value)
        return self._graph.producer[value].source if leaf is None else f"constant {leaf.name}"


_CHOOSING = frozenset(("where", "index_select", "slice", "select", "reshape", "permute", "expand", "cat"))
"""What may leave out an entry that is no number; anything else that makes one finite, as tanh would, only hides it."""


def _is_enclosed(known: Known) -> bool:
    """Whether a value is known to within a finite radius, be it infinite itself."""
    return not isinstance(known, MidRad) or bool((known.rad.isfinite() & ~known.mid.isnan()).all())


def _is_defined(node: Node, operands: list[Known]) -> bool:
    try:
        require_defined(node, operands)
    except UnsupportedOperationError:
        return False
    return is_total(node)


def is_finite(known: Known) -> bool:
    """Whether a value is known to be a finite real number, or an integer."""
    return not isinstance(known, MidRad) or known.is_finite()


def refuse_attributes(graph: ConcreteGraph) -> None:
    """Refuse NaN and infinity among the operations' own numbers, but for the open ends of a clamp.

    Raises:
        UnsupportedOperationError: the operation by name.
    """
    for node in graph.nodes:
        for name, number in node.attributes.items():
            if isinstance(number, float) and not _means_something(name, number):
                raise UnsupportedOperationError(node.source, f"has {name} = {number}: it gives no real number")


def _means_something(name: str, number: float) -> bool:
    open_end = {"minimum": float("-inf"), "maximum": float("inf")}.get(name)
    return number == open_end or abs(number) < float("inf")
