"""Does a graph keep the problems of a batch apart? Established operation by operation, or refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deqops._errors import DeqopsError
from deqops.graph._ir import ConcreteGraph, Node


class MixesProblemsError(DeqopsError):
    """An operation mixes the problems of a batch, or cannot be shown to keep them apart."""

    def __init__(self, operation: str, why: str) -> None:
        super().__init__(f"operation {operation}: {why}")
        self.operation = operation


def check_independent(graph: ConcreteGraph) -> None:
    """Establish that problem b of the result depends on problem b of the state alone.

    For `batch_dims = 1` the position of the batch dimension is followed through every value that depends on the
    state; it must arrive as dimension 0 of every output. `batch_dims = 0` and a batch
    of one problem have nothing to show.

    Raises:
        MixesProblemsError: names the operation that mixes problems or is not known to keep them apart.
    """
    if graph.batch_dims == 0:
        return
    counts = {graph.shape(value)[:1] for value in graph.state}
    if len(counts) != 1 or counts == {()}:
        raise MixesProblemsError("state", "its leaves do not all have the same dimension 0; use batch_dims=0")
    if counts == {(1,)}:
        return
    place = dict.fromkeys(graph.state, 0)  # value -> its batch dimension
    for node in graph.nodes:
        if node.output in graph.state_dependent:
            rule = _RULES.get(node.op)
            if rule is None:
                raise MixesProblemsError(node.source, "is not known to keep the problems of a batch apart")
            place[node.output] = rule(graph, node, place)
    for value in graph.outputs:
        if place.get(value, 0) != 0:
            raise MixesProblemsError("output", "the batch dimension does not come back as dimension 0")


Places = dict[int, int]
Rule = Callable[[ConcreteGraph, Node, Places], int]


def _mixed(node: Node) -> MixesProblemsError:
    return MixesProblemsError(node.source, "mixes the problems of the batch")


def _elementwise(graph: ConcreteGraph, node: Node, place: Places) -> int:
    """All state-dependent operands must have the batch dimension at the same place from the right."""
    found = set()
    for value in node.operands:
        if value in place:
            found.add(place[value] + len(node.shape) - len(graph.shape(value)))
            if graph.shape(value)[place[value]] != node.shape[place[value] + len(node.shape) - len(graph.shape(value))]:
                raise _mixed(node)  # one problem broadcast over many
    if len(found) != 1:
        raise _mixed(node)
    return found.pop()


def _matmul(graph: ConcreteGraph, node: Node, place: Places) -> int:
    a, b = node.operands
    ranks = len(graph.shape(a)), len(graph.shape(b))
    found = set()
    for side, value in enumerate((a, b)):
        if value not in place:
            continue
        rank, at = ranks[side], place[value]
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
        found.add(position)
    if len(found) != 1:
        raise _mixed(node)
    return found.pop()


def _permute(graph: ConcreteGraph, node: Node, place: Places) -> int:
    dims = node.attributes["dims"]
    return tuple(dims).index(place[node.operands[0]])  # type: ignore[arg-type]


def _reshape(graph: ConcreteGraph, node: Node, place: Places) -> int:
    """The batch dimension must survive whole: the same size after the same number of entries."""
    value = node.operands[0]
    before, at = graph.shape(value), place[value]
    lead, product = _product(before[:at]), 1
    for position, size in enumerate(node.shape):
        if product == lead and size == before[at]:
            return position
        product *= size
    raise _mixed(node)


def _product(sizes: tuple[int, ...]) -> int:
    total = 1
    for size in sizes:
        total *= size
    return total


def _expand(graph: ConcreteGraph, node: Node, place: Places) -> int:
    return _elementwise(graph, node, place)


def _other_dim(graph: ConcreteGraph, node: Node, place: Places) -> int:
    """Operations along one named dimension, which must not be the batch."""
    at = {place[value] for value in node.operands if value in place}
    if len(at) != 1 or node.attributes["dim"] in at:
        raise _mixed(node)
    return at.pop()


def _select(graph: ConcreteGraph, node: Node, place: Places) -> int:
    at = _other_dim(graph, node, place)
    return at - 1 if int(node.attributes["dim"]) < at else at  # type: ignore[arg-type]


def _reduction(graph: ConcreteGraph, node: Node, place: Places) -> int:
    given: Any = node.attributes["dims"]
    at, dims = place[node.operands[0]], tuple(int(d) for d in given)
    if at in dims:
        raise _mixed(node)
    return at if node.attributes["keepdim"] else at - sum(1 for d in dims if d < at)


def _normalisation(graph: ConcreteGraph, node: Node, place: Places) -> int:
    at = place[node.operands[0]]
    if at >= len(node.shape) - len(tuple(node.attributes["normalized_shape"])):  # type: ignore[arg-type]
        raise _mixed(node)
    return at


def _convolution(graph: ConcreteGraph, node: Node, place: Places) -> int:
    """Dimension 0 counts what is convolved separately; the kernel must be the same for all problems."""
    x, weight = node.operands
    if weight in place or place[x] != 0:
        raise _mixed(node)
    return 0


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
    "index_select": _other_dim,
    "index_add": _other_dim,
    "softmax": _other_dim,
    "sum": _reduction,
    "mean": _reduction,
    "amax": _reduction,
    "amin": _reduction,
    "layer_norm": _normalisation,
    "rms_norm": _normalisation,
}
