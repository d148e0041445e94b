"""Does a graph keep the problems of a batch apart? Established operation by operation, or refused by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from deqops._errors import DeqopsError
from deqops.graph._ir import ConcreteGraph, Node


class MixesProblemsError(DeqopsError):
    """An operation mixes the problems of a batch, or cannot be shown to keep them apart."""

    def __init__(self, operation: str, why: str) -> None:
        super().__init__(f"operation {operation}: {why}")
        self.operation = operation


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value holds the batch: the entry at index i of dimension `dim` belongs to problem `i // inner % count`.

    `count` problems are one factor of that dimension's size, with `inner` entries within each and any number of
    repetitions outside: views that merge the batch with heads or with positions keep it so.
    """

    dim: int
    count: int
    inner: int = 1

    def at(self, dim: int) -> Place:
        """The same factor at another dimension."""
        return Place(dim, self.count, self.inner)


def check_independent(graph: ConcreteGraph) -> None:
    """Establish that problem b of the result depends on problem b of the state alone.

    For `batch_dims = 1` the batch is followed through every value that depends on the state, as a factor of one
    dimension (`Place`); it must arrive as dimension 0 of every output. `batch_dims = 0` and a batch
    of one problem have nothing to show.

    Raises:
        MixesProblemsError: names the operation that mixes problems or is not known to keep them apart.
    """
    if graph.batch_dims == 0:
        return
    counts = {graph.shape(value)[:1] for value in graph.state}
    if len(counts) != 1 or counts == {()}:
        raise MixesProblemsError("state", "its leaves do not all have the same dimension 0; use batch_dims=0")
    ((count,),) = counts
    if count <= 1:
        return
    place = dict.fromkeys(graph.state, Place(0, count))
    for node in graph.nodes:
        if node.output in graph.state_dependent:
            rule = _RULES.get(node.op)
            if rule is None:
                raise MixesProblemsError(node.source, "is not known to keep the problems of a batch apart")
            place[node.output] = _checked(node, rule(graph, node, place))
    for value in graph.outputs:
        if value in place and (place[value] != Place(0, count) or graph.shape(value)[0] != count):
            raise MixesProblemsError("output", "the batch dimension does not come back as dimension 0")


Places = dict[int, Place]
Rule = Callable[[ConcreteGraph, Node, Places], Place]


def _mixed(node: Node) -> MixesProblemsError:
    return MixesProblemsError(node.source, "mixes the problems of the batch")


def _checked(node: Node, place: Place) -> Place:
    """The place, where the result has such a dimension."""
    if not 0 <= place.dim < len(node.shape) or node.shape[place.dim] % (place.count * place.inner):
        raise _mixed(node)
    return place


def _elementwise(graph: ConcreteGraph, node: Node, place: Places) -> Place:
    """All state-dependent operands must have the batch at the same place from the right."""
    found = set()
    for value in node.operands:
        if value in place:
            mine = place[value].at(place[value].dim + len(node.shape) - len(graph.shape(value)))
            if graph.shape(value)[place[value].dim] != node.shape[mine.dim]:
                raise _mixed(node)  # one problem broadcast over many
            found.add(mine)
    if len(found) != 1:
        raise _mixed(node)
    return found.pop()


def _matmul(graph: ConcreteGraph, node: Node, place: Places) -> Place:
    a, b = node.operands
    ranks = len(graph.shape(a)), len(graph.shape(b))
    found = set()
    for side, value in enumerate((a, b)):
        if value not in place:
            continue
        rank, at = ranks[side], place[value].dim
        contracted = rank - 1 if side == 0 else max(rank - 2, 0)
        if at == contracted:
            raise _mixed(node)
        from_right = rank - at
        if from_right <= 2:  # the free matrix dimension: rows of a, columns of b
            other = ranks[1 - side]
            position = (
                len(node.shape) - (from_right if other > 1 else from_right - 1) if side == 0 else len(node.shape) - 1
            )
        else:
            dropped = 1 if ranks[1 - side] == 1 else 0
            position = at + len(node.shape) - (rank - dropped)
        if graph.shape(value)[at] != node.shape[position]:
            raise _mixed(node)
        found.add(place[value].at(position))
    if len(found) != 1:
        raise _mixed(node)
    return found.pop()


def _permute(graph: ConcreteGraph, node: Node, place: Places) -> Place:
    dims: Any = node.attributes["dims"]
    mine = place[node.operands[0]]
    return mine.at(tuple(dims).index(mine.dim))


def _reshape(graph: ConcreteGraph, node: Node, place: Places) -> Place:
    """The batch is one digit of an entry's place in row-major order; it must be a digit of one new dimension.

    With `stride` entries within each problem the digit is `place // stride % count`. Where the entries after a new
    dimension divide `stride`, and those from it on are a multiple of `count stride`, it is that dimension's.
    """
    value = node.operands[0]
    before, mine = graph.shape(value), place[value]
    stride = mine.inner * math.prod(before[mine.dim + 1 :])
    for dim, size in enumerate(node.shape):
        after = math.prod(node.shape[dim + 1 :])
        if after and stride and stride % after == 0 and size * after % (stride * mine.count) == 0:
            return Place(dim, mine.count, stride // after)
    raise _mixed(node)


def _expand(graph: ConcreteGraph, node: Node, place: Places) -> Place:
    return _elementwise(graph, node, place)


def _other_dim(graph: ConcreteGraph, node: Node, place: Places) -> Place:
    """Operations along one named dimension, which must not be the batch."""
    found = {place[value] for value in node.operands if value in place}
    if len(found) != 1 or node.attributes["dim"] in {mine.dim for mine in found}:
        raise _mixed(node)
    return found.pop()


def _indexed(graph: ConcreteGraph, node: Node, place: Places) -> Place:
    """As `_other_dim`, with an index that is the same for all problems."""
    if node.operands[1] in place:
        raise _mixed(node)
    return _other_dim(graph, node, place)


def _select(graph: ConcreteGraph, node: Node, place: Places) -> Place:
    mine = _other_dim(graph, node, place)
    return mine.at(mine.dim - 1 if int(node.attributes["dim"]) < mine.dim else mine.dim)  # type: ignore[arg-type]


def _reduction(graph: ConcreteGraph, node: Node, place: Places) -> Place:
    given: Any = node.attributes["dims"]
    mine, dims = place[node.operands[0]], tuple(int(d) for d in given)
    if mine.dim in dims:
        raise _mixed(node)
    return mine if node.attributes["keepdim"] else mine.at(mine.dim - sum(1 for d in dims if d < mine.dim))


def _normalisation(graph: ConcreteGraph, node: Node, place: Places) -> Place:
    mine = place[node.operands[0]]
    if mine.dim >= len(node.shape) - len(tuple(node.attributes["normalized_shape"])):  # type: ignore[arg-type]
        raise _mixed(node)
    return mine


def _convolution(graph: ConcreteGraph, node: Node, place: Places) -> Place:
    """Dimension 0 counts what is convolved separately; the kernel must be the same for all problems."""
    x, weight = node.operands
    if weight in place or place[x].dim != 0:
        raise _mixed(node)
    return place[x]


_RULES: dict[str, Rule] = dict.fromkeys(
    [
        "tanh",
        "sigmoid",
        "relu",
        "relu6",
        "silu",
        "softsign",
        "abs",
        "neg",
        "exp",
        "expm1",
        "log",
        "log1p",
        "sqrt",
        "rsqrt",
        "reciprocal",
        "erf",
        "atan",
        "sin",
        "cos",
        "square",
        "sign",
        "floor",
        "ceil",
        "round",
        "hardswish",
        "mish",
        "selu",
        "leaky_relu",
        "elu",
        "gelu",
        "softplus",
        "hardtanh",
        "clamp",
        "pow_scalar",
        "add",
        "sub",
        "mul",
        "div",
        "pow",
        "maximum",
        "minimum",
        "where",
        "eq",
        "ne",
        "lt",
        "le",
        "gt",
        "ge",
        "logical_not",
        "logical_and",
        "logical_or",
        "isinf",
        "isnan",
        "cast",
    ],
    _elementwise,
)
_RULES |= {
    "matmul": _matmul,
    "conv": _convolution,
    "conv_transpose": _convolution,
    "permute": _permute,
    "reshape": _reshape,
    "expand": _expand,
    "slice": _other_dim,
    "select": _select,
    "cat": _other_dim,
    "index_select": _indexed,
    "index_add": _indexed,
    "softmax": _other_dim,
    "sort": _other_dim,
    "sum": _reduction,
    "mean": _reduction,
    "amax": _reduction,
    "amin": _reduction,
    "layer_norm": _normalisation,
    "rms_norm": _normalisation,
}
