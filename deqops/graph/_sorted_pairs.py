"""The largest and the smallest of the same values as one sort, where a graph takes both.

MaxMin activations take `max(a, b)` and `min(a, b)`, or the largest and the smallest along a dimension. Each alone has a
derivative of norm 1; of both together the sum of two such norms says 2, or sqrt 2, and the truth is 1: they are the
entries of a sort. `with_sorted_pairs` puts that sort in their place; the function is the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator

from deqops.graph._ir import Attribute, ConcreteGraph, Node
from deqops.graph._replaced import replaced
from deqops.graph._value_classes import dims_of, value_classes

LONGEST = 64
"""Values of a group up to which they are sorted: what is known of a sort is known for pairs of them."""
_Key = tuple[object, ...]
_Step = tuple[str, tuple[int, ...], dict[str, Attribute]]
_Picks = Callable[[Node, bool], list[Node]]


def with_sorted_pairs(graph: ConcreteGraph) -> ConcreteGraph:
    """The graph with each pair of a largest and a smallest of the same values as entries of a sort.

    The graph itself where there is none. For products of norms, which is where the two lose each other; slopes of
    single pairs say more where they are kept.
    """
    if not any(node.op in ("relu", "amax") for node in graph.nodes):
        return graph
    found: dict[_Key, dict[bool, list[Node]]] = defaultdict(lambda: {True: [], False: []})
    classes = value_classes(graph)
    for node in graph.nodes:
        if node.output in graph.state_dependent:
            for key, is_largest in (*_of_two(graph, classes, node), *_of_group(graph, classes, node)):
                found[key][is_largest].append(node)
    new = _Replacement(graph)
    for both in found.values():
        if both[True] and both[False]:
            new.sort(both)
    return replaced(graph, new.nodes)


def _of_two(graph: ConcreteGraph, classes: dict[int, int], node: Node) -> Iterator[tuple[_Key, bool]]:
    """`b + relu(a - b)` is the larger one of a and b, `a - relu(a - b)` the smaller one."""
    if node.op not in ("add", "sub"):
        return
    one, excess = node.operands
    above = graph.producer.get(excess)
    difference = None if above is None or above.op != "relu" else graph.producer.get(above.operands[0])
    if difference is None or difference.op != "sub":
        return
    a, b = difference.operands
    if not node.shape or any(graph.shape(v) != node.shape or v not in graph.state_dependent for v in (a, b)):
        return
    is_largest = node.op == "add"
    if classes[one] == classes[b if is_largest else a]:
        yield ("two", frozenset((classes[a], classes[b]))), is_largest


def _of_group(graph: ConcreteGraph, classes: dict[int, int], node: Node) -> Iterator[tuple[_Key, bool]]:
    if node.op in ("amax", "amin") and len(dims_of(node)) == 1:
        (dim,) = dims_of(node)
        if 1 < graph.shape(node.operands[0])[dim] <= LONGEST:
            yield ("group", classes[node.operands[0]], dim), node.op == "amax"


class _Replacement:
    """The nodes that take the place of others, by the value they give.

    The sorted values are laid out so that what is picked from them are slices of one dimension, as the values of the
    pair often were before: then a graph that puts them together again says of all of it that it is a permutation.
    """

    def __init__(self, graph: ConcreteGraph) -> None:
        self._graph = graph
        self._unused = 1 + max([*graph.leaves, *graph.producer])
        self.nodes: dict[int, list[Node]] = {}

    def sort(self, both: dict[bool, list[Node]]) -> None:
        """Sort the values of a pair before the first node that takes one of them, and pick from there."""
        first = min(both[True] + both[False], key=self._graph.nodes.index)
        made, picks = self._group(first) if first.op in ("amax", "amin") else self._two(first)
        for is_largest, nodes in both.items():
            for node in nodes:
                self.nodes[node.output] = [*(made if node is first else []), *picks(node, is_largest)]

    def _two(self, node: Node) -> tuple[list[Node], _Picks]:
        """Both tensors after each other along a dimension, as (.., 2, size, ..), sorted, and flat again."""
        producer = self._graph.producer
        pair = producer[producer[node.operands[1]].operands[0]].operands
        dim, shape = self._shared_dim(pair), node.shape
        size = shape[dim]
        flat, split = (*shape[:dim], 2 * size, *shape[dim + 1 :]), (*shape[:dim], 2, size, *shape[dim + 1 :])
        made = self._chain(
            node,
            pair,
            ("cat", flat, {"dim": dim}),
            ("reshape", split, {"shape": split}),
            ("sort", split, {"dim": dim}),
            ("reshape", flat, {"shape": flat}),
        )

        def picks(node: Node, is_largest: bool) -> list[Node]:
            start = size if is_largest else 0
            return [self._sliced(node, made[-1].output, dim, start, start + size, 1)]

        return made, picks

    def _shared_dim(self, pair: tuple[int, ...]) -> int:
        """The dimension that both are slices of, else the last."""
        nodes = [self._graph.producer.get(value) for value in pair]
        dims = {None if node is None or node.op != "slice" else node.attributes["dim"] for node in nodes}
        shared = dims.pop() if len(dims) == 1 else None
        return shared if isinstance(shared, int) else len(self._graph.shape(pair[0])) - 1

    def _group(self, node: Node) -> tuple[list[Node], _Picks]:
        """Along a dimension, then flat with the next one, or with the one before where that counts no problems."""
        (dim,), x = dims_of(node), node.operands
        shape = self._graph.shape(x[0])
        size, rank = shape[dim], len(shape)
        first = dim if dim < rank - 1 else dim - 1
        flat = (*shape[:first], shape[first] * shape[first + 1], *shape[first + 2 :]) if rank > 1 and first else shape
        steps: list[_Step] = [("sort", shape, {"dim": dim})]
        if flat != shape:
            steps.append(("reshape", flat, {"shape": flat}))
        made = self._chain(node, x, *steps)

        def picks(node: Node, is_largest: bool) -> list[Node]:
            index = size - 1 if is_largest else 0
            if node.attributes["keepdim"]:
                return [self._sliced(node, made[0].output, dim, index, index + 1, 1)]
            if flat == shape:
                attributes: dict[str, Attribute] = {"dim": dim, "index": index}
                return [self._node(node, "select", (made[0].output,), node.shape, attributes, node.output)]
            if first == dim:
                return [
                    self._sliced(node, made[-1].output, first, index * shape[dim + 1], (index + 1) * shape[dim + 1], 1)
                ]
            return [self._sliced(node, made[-1].output, first, index, flat[first], size)]

        return made, picks

    def _chain(self, like: Node, operands: tuple[int, ...], *steps: _Step) -> list[Node]:
        """Operations one after the other."""
        made: list[Node] = []
        for op, shape, attributes in steps:
            made.append(self._node(like, op, operands, shape, attributes))
            operands = (made[-1].output,)
        return made

    def _sliced(self, node: Node, value: int, dim: int, start: int, stop: int, step: int) -> Node:
        attributes: dict[str, Attribute] = {"dim": dim, "start": start, "stop": stop, "step": step}
        return self._node(node, "slice", (value,), node.shape, attributes, node.output)

    def _node(
        self,
        like: Node,
        op: str,
        operands: tuple[int, ...],
        shape: tuple[int, ...],
        attributes: dict[str, Attribute],
        output: int | None = None,
    ) -> Node:
        """A node that computes what a node of the graph computed, or a part of it."""
        if output is None:
            output, self._unused = self._unused, self._unused + 1
        return Node(op, operands, attributes, output, shape, like.dtype, like.source, like.inputs)
