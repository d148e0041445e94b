"""Enclosures of the graph's values: the constants, and everything at a given state.

Each value is a ball array (floating), an integer or boolean numpy array (exact), or `UNKNOWN`: the state
where none is given, a free input, and whatever depends on them. An unknown number may pass through operations
that are defined for every finite real number; one that may leave its domain is refused there, and so is any
use of an unknown value in a bound.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

import numpy as np
from flint import arb

from deqops.graph import ConcreteGraph, Node, limits

from . import _arithmetic as ball
from ._attention import ATTENTION, attention_of
from ._convolution import convolved
from ._elementary import elementary, image_of
from ._masks import numbers_or_masked
from ._matrix_functions import MATRIX_FUNCTIONS, matrix_function
from ._normalisation import normalisation_of
from ._permutations import sorted_at
from ._refusal import Rejected
from ._soft_threshold import soft_threshold
from ._softmax import softmax_at
from ._steps import STEPS, step


class Unknown(Enum):
    """The value nobody may look at."""

    UNKNOWN = "unknown"


UNKNOWN = Unknown.UNKNOWN
Value = Any  # ball array | integer or boolean array | Unknown.UNKNOWN
Rule = Callable[..., Any]


class Values:
    """The values of a graph, node by node.

    Args:
        graph: the operator graph.
        state: a ball array per leaf of the state, or None where the state is unknown.
        free: the positions of the inputs whose values are unknown.
        constants: the values with an unknown state, where they are known already.
        watched: further values to keep; what no bound asks for is forgotten, for messages take much memory.
    """

    def __init__(
        self,
        graph: ConcreteGraph,
        state: list[ball.Balls] | None,
        free: frozenset[int],
        constants: Values | None = None,
        watched: frozenset[int] = frozenset(),
    ) -> None:
        self._graph, self._free, self._state_known = graph, free, state is not None
        self._wide = any(leaf.ends is not None for leaf in graph.leaves.values())
        self._known: dict[int, Value] = {v: self._leaf(v, state) for v in graph.leaves}
        kept = watched | set(graph.outputs) | (_asked_for(graph) if state is None else set())
        last = last_uses(graph)
        for number, node in enumerate(graph.nodes):
            if constants is None or node.output in graph.state_dependent:
                self._known[node.output] = self._evaluate(node)
            elif node.output in constants._known:
                self._known[node.output] = constants._known[node.output]
            for value in last[number] - kept:
                self._known.pop(value, None)

    def __getitem__(self, value: int) -> Value:
        """The enclosure of a value, finite; for use in a bound.

        Raises:
            Rejected: the value is unknown, or not finite.
        """
        known = self._known[value]
        if known is UNKNOWN:
            raise Rejected(
                "the bound depends on an input declared free, or on an operation the checker cannot evaluate"
            )
        if known.dtype == object and not ball.all_finite(known):
            raise Rejected("a value that enters the bound is NaN, infinite or not enclosed")
        return known

    def scores(self, value: int) -> ball.Balls:
        """A value that only a softmax reads, finite or exactly minus infinity entry by entry."""
        known = self._known[value]
        if known is UNKNOWN or known.dtype != object or not numbers_or_masked(known):
            return as_balls(self[value])
        return np.asarray(known)

    def balls(self, value: int) -> ball.Balls:
        """The same as real numbers."""
        return as_balls(self[value])

    def integers(self, value: int) -> np.ndarray[Any, Any]:
        """An exact integer or boolean array."""
        known = self[value]
        if known.dtype == object:
            raise Rejected("an index or a mask is not exact")
        return np.asarray(known)

    def size(self, value: int, dim: int) -> int:
        """The size of one dimension of a value, known or not."""
        return int(self._graph.shape(value)[dim])

    def is_known(self, value: int) -> bool:
        """Whether a value is a known array of real numbers."""
        known = self._known[value]
        return known is not UNKNOWN and known.dtype == object

    def must_be_finite(self, value: int) -> None:
        """Refuse a known value that is not finite (an unknown one is a finite real by assumption)."""
        if self._known[value] is not UNKNOWN:
            self[value]

    def _leaf(self, value: int, state: list[ball.Balls] | None) -> Value:
        leaf = self._graph.leaves[value]
        if leaf.kind == "state":
            return UNKNOWN if state is None else state[leaf.position]
        if leaf.inputs & self._free or (leaf.kind == "input" and leaf.position in self._free):
            return UNKNOWN
        if leaf.ends is not None:
            return ball.hull(*(ball.exact(end) for end in leaf.ends))
        if leaf.tensor.is_floating_point():
            return ball.exact(leaf.tensor)
        return leaf.tensor.detach().cpu().numpy()

    def _evaluate(self, node: Node) -> Value:
        if node.inputs & self._free:
            raise Rejected(f"{node.source}: a size depends on an input that the certificate declares free")
        operands = [self._known[v] for v in node.operands]
        if any(operand is UNKNOWN for operand in operands):
            if self._state_known or node.output not in self._graph.state_dependent:
                must_be_total(node, operands)
            return UNKNOWN
        return _range(node, operands) if self._wide else evaluate(node, operands)


def _range(node: Node, operands: list[Value]) -> Value:
    """The same for wide balls: an elementary function by its range, which arb's own functions overestimate."""
    table = elementary(node.op, node.attributes)
    if table is None:
        return evaluate(node, operands)
    x = as_balls(operands[0])
    ends = (ball.each(lambda entry: entry.lower(), x), ball.each(lambda entry: entry.upper(), x))
    return _held(node, ball.hull(*image_of(table, *ends)))


def last_uses(graph: ConcreteGraph) -> list[set[int]]:
    """For each node the values that no later node uses."""
    last: list[set[int]] = []
    seen: set[int] = set()
    for node in reversed(graph.nodes):
        last.append(set(node.operands) - seen)
        seen.update(node.operands)
    return last[::-1]


def _asked_for(graph: ConcreteGraph) -> set[int]:
    """The operands of state-dependent nodes."""
    return {v for node in graph.nodes if node.output in graph.state_dependent for v in node.operands}


_TOTAL = frozenset(
    """tanh sigmoid relu relu6 silu softsign abs neg exp expm1 erf atan sin cos cos_pi square hardswish mish selu
    leaky_relu elu gelu softplus hardtanh clamp softshrink add sub mul maximum minimum matmul conv conv_transpose
    softmax layer_norm rms_norm reshape permute expand slice select cat index_select index_add segment_attention
    where sum mean amax amin sort cast eq ne lt le gt ge logical_not logical_and logical_or""".split()  # noqa: SIM905 - a list that reads as one
)


def must_be_total(node: Node, operands: list[Value]) -> None:
    """Refuse an unknown operand where the operation is not defined for every finite real number."""
    exponent = node.attributes.get("exponent")
    polynomial = node.op == "pow_scalar" and isinstance(exponent, int | float) and exponent in (1, 2, 3, 4)
    divided = node.op == "div" and operands[1] is not UNKNOWN
    if not (node.op in _TOTAL or polynomial or divided):
        raise Rejected(f"{node.source}: a free input may leave the domain of this operation")
    normalisation_of(node)  # refuses one that is not defined everywhere
    known = [as_balls(operand) for operand in operands if operand is not UNKNOWN]
    if not all(ball.all_finite(operand) for operand in known):
        raise Rejected(f"{node.source}: an operand is NaN, infinite or not enclosed")
    if divided and any(entry.contains(0) for entry in known[0].reshape(-1)):
        raise Rejected(f"{node.source}: divides a free input by a number that may be zero")


def as_balls(value: Value) -> ball.Balls:
    """Real numbers from a ball, integer or boolean array."""
    if value.dtype == object:
        return np.asarray(value)
    return ball.balls((int(v) for v in value.reshape(-1)), value.shape)


def evaluate(node: Node, operands: list[Value]) -> Value:
    """An enclosure of `op(*operands)`.

    Raises:
        Rejected: there is no rule for the operation, or the enclosures do not decide it.
    """
    rule = _RULES.get(node.op)
    if rule is not None:
        result = rule(node, *operands)
    else:
        table = elementary(node.op, node.attributes)
        if table is None:
            raise Rejected(f"{node.source}: the checker has no rule for this operation")
        result = ball.each(_nan_outside(table.at), as_balls(operands[0]))
    if tuple(result.shape) != tuple(node.shape):
        raise Rejected(f"{node.source}: gives shape {tuple(result.shape)}, the graph says {tuple(node.shape)}")
    return _held(node, result)


def _held(node: Node, result: Value) -> Value:
    """A result, which must lie within its dtype where that has integers: beyond, torch wraps around."""
    ends = limits(node.dtype)
    if ends is not None and result.dtype == object and not all(_lies_in(x, *ends) for x in result.reshape(-1)):
        raise Rejected(f"{node.source}: may compute integers that {node.dtype} does not hold")
    return result


def _lies_in(x: Any, least: int, largest: int) -> bool:
    return bool(x >= least) and bool(x <= largest)


def _nan_outside(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """NaN instead of a refusal outside the domain: such entries may be masked away later."""

    def guarded(x: Any) -> Any:
        try:
            return function(x)
        except Rejected:
            return arb.nan()

    return guarded


# ------------------------------------------------------------------------------------------------------ rules


def _arithmetic(operation: Callable[[Any, Any], Any]) -> Rule:
    return lambda node, a, b: ball.array(operation(as_balls(a), as_balls(b)))


def _cast(node: Node, x: Value) -> Value:
    if not node.dtype.is_floating_point:
        raise Rejected(f"{node.source}: the checker has no rule for a cast to {node.dtype}")
    return as_balls(x)


def _power(node: Node, x: Value) -> Value:
    exponent = node.attributes["exponent"]
    return ball.each(lambda base: power(base, exponent), as_balls(x))


def power(base: Any, exponent: Any) -> Any:
    """`base ** exponent`; plus infinity at an exact zero for a negative exponent that is no odd integer."""
    if float(exponent).is_integer():
        if base.is_zero() and exponent < 0:
            return arb.pos_inf() if int(exponent) % 2 == 0 else arb.nan()
        return ball.whole_power(base, int(exponent))
    if base.is_zero():
        return arb.pos_inf() if exponent < 0 else arb(0)
    return base ** arb(exponent) if base > 0 else arb.nan()


def move(node: Node, x: Value) -> Value:
    """Data movement: reshape, permute, expand, slice, select."""
    a: Mapping[str, Any] = node.attributes
    if node.op == "reshape":
        return x.reshape(a["shape"])
    if node.op == "permute":
        return x.transpose(a["dims"])
    if node.op == "expand":
        return np.broadcast_to(x, a["shape"])
    place = (slice(None),) * a["dim"]
    if node.op == "slice":
        return x[(*place, slice(a["start"], a["stop"], a["step"]))]
    return ball.array(x[(*place, a["index"])])


def _index_select(node: Node, x: Value, index: Value) -> Value:
    return np.take(x, indices(index, x.shape[integer(node, "dim")]), axis=integer(node, "dim"))


def _index_add(node: Node, base: Value, index: Value, source: Value) -> Value:
    dim = integer(node, "dim")
    result = np.moveaxis(as_balls(base).copy(), dim, 0)
    np.add.at(result, indices(index, result.shape[0]), np.moveaxis(as_balls(source), dim, 0))
    return np.moveaxis(result, 0, dim)


def indices(index: Value, size: int) -> np.ndarray[Any, Any]:
    """A vector of positions below `size`."""
    integers = index.dtype.kind in "iu" and index.ndim == 1
    if not integers or (index.size and not 0 <= index.min() <= index.max() < size):
        raise Rejected("an index is not a vector of integers within range")
    return np.asarray(index)


def _cat(node: Node, *parts: Value) -> Value:
    return np.concatenate([as_balls(part) for part in parts], axis=integer(node, "dim"))


def _where(node: Node, condition: Value, a: Value, b: Value) -> Value:
    if condition.dtype == object:
        raise Rejected(f"{node.source}: the condition is not exact")
    return ball.each(lambda c, x, y: x if c else y, condition, as_balls(a), as_balls(b))


def _reduce(node: Node, x: Value) -> Value:
    dims, keep = dims_of(node), bool(node.attributes["keepdim"])
    entries, zero = as_balls(x), arb(0)
    result = ball.array(np.add.reduce(entries, axis=dims, keepdims=keep, initial=zero))  # type: ignore[call-overload]
    if node.op == "sum":
        return result
    count = int(np.prod([x.shape[d] for d in dims], dtype=np.int64))
    return ball.array(result / arb(count))


def _extreme(node: Node, x: Value) -> Value:
    pick = (lambda a, b: a.max(b)) if node.op == "amax" else (lambda a, b: a.min(b))
    result = _some(node, x)
    for dim in dims_of(node):
        result = np.frompyfunc(pick, 2, 1).reduce(result, axis=dim, keepdims=True)
    return result.reshape(node.shape)


def _some(node: Node, x: Value) -> ball.Balls:
    if not x.size:
        raise Rejected(f"{node.source}: is over no entries")
    return as_balls(x)


def _compare(node: Node, a: Value, b: Value) -> Value:
    decide = _COMPARISONS[node.op]
    result = ball.each(decide, as_balls(a), as_balls(b))
    if any(entry is None for entry in result.reshape(-1)):
        raise Rejected(f"{node.source}: two values are too close to compare in exact arithmetic")
    return result.astype(bool)


def _equal(a: Any, b: Any) -> bool | None:
    if not (a.is_finite() or b.is_finite()):
        return True if a == b else None if a.is_nan() or b.is_nan() or a == -b else False
    if a.is_nan() or b.is_nan():
        return None
    return True if a == b else (False if a != b else None)


def _ordered(strict: Callable[[Any, Any], bool], opposite: Callable[[Any, Any], bool]) -> Callable[..., bool | None]:
    return lambda a, b: True if strict(a, b) else (False if opposite(a, b) else None)


def _not(decision: bool | None) -> bool | None:
    return None if decision is None else not decision


_COMPARISONS: dict[str, Callable[[Any, Any], bool | None]] = {
    "eq": _equal,
    "ne": lambda a, b: _not(_equal(a, b)),
    "lt": _ordered(lambda a, b: a < b, lambda a, b: a >= b),
    "le": _ordered(lambda a, b: a <= b, lambda a, b: a > b),
    "gt": _ordered(lambda a, b: a > b, lambda a, b: a <= b),
    "ge": _ordered(lambda a, b: a >= b, lambda a, b: a < b),
}


def _classify(node: Node, x: Value) -> Value:
    def decide(entry: Any) -> bool | None:
        if entry.is_finite():
            return False
        known = entry == arb.pos_inf() or entry == arb.neg_inf()
        return (node.op == "isinf") if known else None

    result = ball.each(decide, as_balls(x))
    if any(entry is None for entry in result.reshape(-1)):
        raise Rejected(f"{node.source}: a value is not enclosed")
    return result.astype(bool)


def _logical(node: Node, *operands: Value) -> Value:
    if any(operand.dtype == object for operand in operands):
        raise Rejected(f"{node.source}: an operand is not exact")
    return np.asarray(getattr(np, node.op)(*operands))


def _normalised(node: Node, x: Value) -> Value:
    rule = normalisation_of(node)
    if rule is None:
        raise Rejected(f"{node.source}: is no normalisation")
    return rule.at(as_balls(x))


def integer(node: Node, name: str) -> int:
    """An integer attribute."""
    value = node.attributes[name]
    if not isinstance(value, int):
        raise Rejected(f"{node.source}: attribute {name} is not an integer")
    return value


def dims_of(node: Node) -> tuple[int, ...]:
    """The attribute "dims"."""
    value = node.attributes["dims"]
    if not isinstance(value, tuple):
        raise Rejected(f"{node.source}: attribute dims is not a tuple")
    return value


_RULES: dict[str, Rule] = {
    "add": _arithmetic(lambda a, b: a + b),
    "sub": _arithmetic(lambda a, b: a - b),
    "mul": _arithmetic(lambda a, b: a * b),
    "div": _arithmetic(lambda a, b: a / b),
    "matmul": _arithmetic(ball.matmul),
    "conv": lambda node, x, kernel: convolved(node, as_balls(x), as_balls(kernel)),
    "conv_transpose": lambda node, x, kernel: convolved(node, as_balls(x), as_balls(kernel)),
    "maximum": _arithmetic(np.frompyfunc(lambda a, b: a.max(b), 2, 1)),
    "minimum": _arithmetic(np.frompyfunc(lambda a, b: a.min(b), 2, 1)),
    "pow": _arithmetic(np.frompyfunc(lambda a, b: a**b if a > 0 else arb.nan(), 2, 1)),
    "neg": lambda node, x: ball.array(-as_balls(x)),
    "cos_pi": lambda node, x: ball.each(lambda entry: entry.cos_pi(), as_balls(x)),
    "cast": _cast,
    "pow_scalar": _power,
    "layer_norm": _normalised,
    "rms_norm": _normalised,
    "index_select": _index_select,
    "index_add": _index_add,
    ATTENTION: lambda node, scores, values, index: attention_of(node, index).at(as_balls(scores), as_balls(values)),
    "cat": _cat,
    "where": _where,
    "sum": _reduce,
    "mean": _reduce,
    "softmax": lambda node, x: softmax_at(_some(node, x), integer(node, "dim")),
    "sort": lambda node, x: sorted_at(node, _some(node, x), integer(node, "dim")),
    "softshrink": lambda node, x, t: soft_threshold(node, as_balls(x), as_balls(t)),
    **{op: lambda node, x: matrix_function(node, as_balls(x)) for op in MATRIX_FUNCTIONS},
    "amax": _extreme,
    "amin": _extreme,
    "isinf": _classify,
    "isnan": _classify,
    **dict.fromkeys(("reshape", "permute", "expand", "slice", "select"), move),
    **dict.fromkeys(_COMPARISONS, _compare),
    **dict.fromkeys(STEPS, lambda node, x: step(node.op, as_balls(x), as_balls(x))),
    **dict.fromkeys(("logical_not", "logical_and", "logical_or"), _logical),
}
