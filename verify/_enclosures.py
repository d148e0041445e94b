"""Enclosures of the operator graph's values: for constants, at points and over boxes.

`enclose_node` maps enclosed operands to an enclosure of a node's exact-real result. Floating values are
`MidRad`; integers and booleans are exact tensors. One entry of the registry per operation; third parties
add theirs with `register_enclosure`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from deqops._errors import InputError, UnsupportedOperationError
from deqops.graph import ConcreteGraph, Leaf, Node, limits

from . import _elementary as elementary
from . import _hull as hull
from . import _midrad as midrad
from . import _waves as waves
from ._arctangent import atan
from ._conv_map import Settings, convolve
from ._extreme import largest, smallest
from ._inverse import enclosed_inverse
from ._matrix_functions import enclosed_exponential, enclosed_spectral_norm
from ._midrad import MidRad
from ._normalisation import Normalisation
from ._permutations import in_order
from ._rounding import exact_float64
from ._segment_attention import Segments
from ._softmax import softmax_over

Enclosed = MidRad | Tensor
Rule = Callable[..., Enclosed]
_RULES: dict[str, Rule] = {}


def register_enclosure(*operations: str) -> Callable[[Rule], Rule]:
    """Register `rule(node, *operands) -> enclosure` for operations of the graph's vocabulary."""

    def register(rule: Rule) -> Rule:
        for operation in operations:
            _RULES[operation] = rule
        return rule

    return register


def enclose_leaf(leaf: Leaf) -> Enclosed:
    """The exact value of a parameter, input or literal; the interval of an input between two ends."""
    if leaf.ends is not None:
        lower, upper = (exact_float64(end) for end in leaf.ends)
        return MidRad.from_bounds(lower, upper)
    return MidRad.exact(exact_float64(leaf.tensor)) if leaf.tensor.is_floating_point() else leaf.tensor


def enclose_node(node: Node, operands: list[Enclosed]) -> Enclosed:
    """An enclosure of the node's result for every choice of operands in theirs.

    Raises:
        UnsupportedOperationError: there is no rule for the operation, or it is not decided by the enclosures.
    """
    rule = _RULES.get(node.op)
    if rule is None:
        raise UnsupportedOperationError(node.source, "has no enclosure rule")
    result, held = rule(node, *operands), limits(node.dtype)
    if held is not None and isinstance(result, MidRad) and not _lies_in(result, *held):
        raise UnsupportedOperationError(node.source, f"may compute integers that {node.dtype} does not hold")
    return result


def _lies_in(box: MidRad, least: int, largest_: int) -> bool:
    return bool(((box.lower() >= least) & (box.upper() <= largest_)).all())


class Constants:
    """The state-independent values of a graph, folded in enclosures when asked for.

    `touched` collects the positions of the inputs whose values entered anything asked for so far: the others
    are free in whatever was concluded.
    """

    def __init__(self, graph: ConcreteGraph) -> None:
        self._graph = graph
        self._known: dict[int, Enclosed] = {}
        self._inputs: dict[int, frozenset[int]] = {}
        self.touched: set[int] = set()

    def __getitem__(self, value: int) -> Enclosed:
        """The enclosure of a value that does not depend on the state."""
        for node in self._needed(value):
            self._known[node.output] = enclose_node(node, [self._operand(v) for v in node.operands])
            below = [self._inputs[v] for v in node.operands]
            self._inputs[node.output] = node.inputs.union(*below)
        result = self._operand(value)
        self.touched |= self._inputs[value]
        return result

    def of(self, graph: ConcreteGraph) -> Constants:
        """Those of a graph with the same values and further constants; what it touches is noted here as well."""
        other = Constants(graph)
        other._known, other._inputs, other.touched = dict(self._known), dict(self._inputs), self.touched
        return other

    @contextmanager
    def untouched(self) -> Iterator[None]:
        """Run a block whose use of values is not noted in `touched`: its conclusions name their inputs themselves."""
        before = set(self.touched)
        try:
            yield
        finally:
            self.touched = before

    def floating(self, value: int) -> MidRad:
        """The enclosure of a floating value; integers count as the exact reals they are."""
        return as_midrad(self[value])

    def _operand(self, value: int) -> Enclosed:
        if value not in self._known:
            leaf = self._graph.leaves[value]
            self._known[value] = enclose_leaf(leaf)
            own = {leaf.position} if leaf.kind == "input" else set()
            self._inputs[value] = leaf.inputs | own
        return self._known[value]

    def _needed(self, value: int) -> list[Node]:
        wanted, stack = set(), [value]
        while stack:
            current = stack.pop()
            if current in wanted or current in self._known or current in self._graph.leaves:
                continue
            wanted.add(current)
            stack.extend(self._graph.producer[current].operands)
        for current in wanted:
            for operand in self._graph.producer[current].operands:
                if operand in self._graph.leaves:
                    self._operand(operand)
        return [node for node in self._graph.nodes if node.output in wanted]


def enclose_values(graph: ConcreteGraph, constants: Constants, state: Mapping[int, MidRad]) -> dict[int, Enclosed]:
    """Enclosures of every state-dependent value, for states in the given boxes (keyed by the state's values)."""
    values: dict[int, Enclosed] = dict(state)
    for node in graph.nodes:
        if node.output in graph.state_dependent:
            operands = [values[v] if v in graph.state_dependent else constants[v] for v in node.operands]
            values[node.output] = enclose_node(node, operands)
    return values


def enclose_image(graph: ConcreteGraph, constants: Constants, state: list[MidRad]) -> list[MidRad]:
    """Enclosures of the leaves of G(state, inputs)."""
    values = enclose_values(graph, constants, dict(zip(graph.state, state, strict=True)))
    return [as_midrad(values[v] if v in graph.state_dependent else constants[v]) for v in graph.outputs]


def as_midrad(value: Enclosed) -> MidRad:
    """A floating enclosure; integers and booleans become the exact reals they are."""
    if isinstance(value, MidRad):
        return value
    if value.dtype == torch.int64 and value.numel() and bool((value.abs() > 2**53).any()):
        raise InputError("an integer constant is beyond 2^53 and not exact in float64; use smaller integers")
    return MidRad.exact(value.to(torch.float64))


def as_exact(node: Node, value: Enclosed) -> Tensor:
    """An exact integer or boolean tensor."""
    if isinstance(value, MidRad):
        raise UnsupportedOperationError(node.source, "needs an exact integer or boolean operand")
    return value


# ---------------------------------------------------------------------------------------------------- rules

_UNARY = [
    "tanh",
    "sigmoid",
    "relu",
    "relu6",
    "silu",
    "softsign",
    "exp",
    "expm1",
    "log",
    "log1p",
    "sqrt",
    "rsqrt",
    "reciprocal",
    "erf",
    "square",
    "mish",
    "selu",
    "hardswish",
]


@register_enclosure(*_UNARY)
def _unary(node: Node, x: Enclosed) -> MidRad:
    function = getattr(elementary, node.op, None)
    if function is None:
        raise UnsupportedOperationError(node.source, "has no enclosure rule")
    result: MidRad = function(as_midrad(x))
    return result


@register_enclosure("sin", "cos")
def _wave(node: Node, x: Enclosed) -> MidRad:
    result: MidRad = getattr(waves, node.op)(as_midrad(x))
    return result


@register_enclosure("atan")
def _arctangent(node: Node, x: Enclosed) -> MidRad:
    return atan(as_midrad(x))


@register_enclosure("cos_pi")
def _cosine_of_turns(node: Node, x: Enclosed) -> MidRad:
    """`cos(pi x)`: of constants, no slopes are asked of it."""
    return waves.cos(midrad.mul(as_midrad(x), waves.pi(as_midrad(x).mid)))


@register_enclosure("leaky_relu", "elu", "gelu", "softplus", "hardtanh", "clamp", "pow_scalar")
def _with_attributes(node: Node, x: Enclosed) -> MidRad:
    result: MidRad = getattr(elementary, node.op)(as_midrad(x), **node.attributes)
    return result


_STEPS: dict[str, Callable[[Tensor], Tensor]] = {
    "sign": lambda x: torch.where(x.isnan(), x, torch.sign(x)),
    "floor": torch.floor,
    "ceil": torch.ceil,
    "round": torch.round,
}


@register_enclosure(*_STEPS)
def _step(node: Node, x: Enclosed) -> MidRad:
    """Steps that rise: exact at both ends."""
    box, rise = as_midrad(x), _STEPS[node.op]
    return MidRad.exact(rise(box.mid)) if box.is_exact() else MidRad.from_bounds(rise(box.lower()), rise(box.upper()))


_OF_MATRICES = {
    "inverse": (enclosed_inverse, "inverts a matrix that is not shown to be nonsingular"),
    "matrix_exp": (enclosed_exponential, "is not enclosed: its argument is too large, or not finite"),
}


@register_enclosure(*_OF_MATRICES)
def _matrix_function(node: Node, x: Enclosed) -> MidRad:
    function, why = _OF_MATRICES[node.op]
    found = function(as_midrad(x))
    if found is None:
        raise UnsupportedOperationError(node.source, why)
    return found


@register_enclosure("spectral_norm")
def _spectral_norm(node: Node, x: Enclosed) -> MidRad:
    return enclosed_spectral_norm(as_midrad(x))


@register_enclosure("softshrink")
def _soft_threshold(node: Node, x: Enclosed, t: Enclosed) -> MidRad:
    """`relu(x - t) - relu(-x - t)`, of which one is 0."""
    box, threshold = as_midrad(x), as_midrad(t)
    if not bool((threshold.lower() >= 0).all()):
        raise UnsupportedOperationError(node.source, "jumps where its threshold may be negative")
    above, below = midrad.sub(box, threshold), midrad.sub(midrad.neg(box), threshold)
    return midrad.sub(elementary.relu(above), elementary.relu(below))


@register_enclosure("abs")
def _absolute(node: Node, x: Enclosed) -> MidRad:
    return midrad.absolute(as_midrad(x))


@register_enclosure("neg")
def _negative(node: Node, x: Enclosed) -> MidRad:
    return midrad.neg(as_midrad(x))


@register_enclosure("add", "sub", "matmul", "maximum", "minimum")
def _binary(node: Node, a: Enclosed, b: Enclosed) -> MidRad:
    result: MidRad = getattr(midrad, node.op)(as_midrad(a), as_midrad(b))
    return result


@register_enclosure("mul", "div")
def _product(node: Node, a: Enclosed, b: Enclosed) -> MidRad:
    result: MidRad = getattr(hull, node.op)(as_midrad(a), as_midrad(b))
    return result


@register_enclosure("conv", "conv_transpose")
def _convolution(node: Node, x: Enclosed, weight: Enclosed) -> MidRad:
    return convolve(as_midrad(x), as_midrad(weight), Settings.of(node))


@register_enclosure("layer_norm", "rms_norm")
def _normalisation(node: Node, x: Enclosed) -> MidRad:
    rule = Normalisation.of(node)
    return rule.over(rule.grouped(as_midrad(x))).value.apply_exact(lambda t: t.reshape(node.shape))


@register_enclosure("sum", "mean")
def _reduction(node: Node, x: Enclosed) -> MidRad:
    reduce = midrad.sum_ if node.op == "sum" else midrad.mean
    return reduce(as_midrad(x), node.attributes["dims"], bool(node.attributes["keepdim"]))


@register_enclosure("softmax")
def _softmax(node: Node, x: Enclosed) -> MidRad:
    dim, box = _dim(node), _some(node, x)
    last = box.apply_exact(lambda t: t.movedim(dim, -1))
    rows = last.apply_exact(lambda t: t.reshape(-1, t.shape[-1]))
    return softmax_over(rows).value.apply_exact(lambda t: t.reshape(last.shape).movedim(-1, dim))


@register_enclosure("amax", "amin")
def _extreme(node: Node, x: Enclosed) -> MidRad:
    pick = largest if node.op == "amax" else smallest
    dims: Any = node.attributes["dims"]
    return pick(_some(node, x), dims, bool(node.attributes["keepdim"]))


@register_enclosure("sort")
def _sort(node: Node, x: Enclosed) -> MidRad:
    return in_order(as_midrad(x), _dim(node))


def _some(node: Node, x: Enclosed) -> MidRad:
    """The operand, where it has entries."""
    if not x.shape.numel():
        raise UnsupportedOperationError(node.source, "is over no entries")
    return as_midrad(x)


@register_enclosure("cast")
def _cast(node: Node, x: Enclosed) -> MidRad:
    return as_midrad(x)


def move(node: Node, x: Tensor) -> Tensor:
    """The data movement of a shape operation."""
    a: dict[str, Any] = dict(node.attributes)
    moves: dict[str, Callable[[], Tensor]] = {
        "reshape": lambda: x.reshape(a["shape"]),
        "permute": lambda: x.permute(a["dims"]),
        "expand": lambda: x.expand(a["shape"]),
        "select": lambda: x.select(a["dim"], a["index"]),
        "slice": lambda: x[(slice(None),) * a["dim"] + (slice(a["start"], a["stop"], a["step"]),)],
    }
    return moves[node.op]()


def _dim(node: Node) -> int:
    dim: Any = node.attributes["dim"]
    return int(dim)


@register_enclosure("reshape", "permute", "expand", "slice", "select")
def _movement(node: Node, x: Enclosed) -> Enclosed:
    return x.apply_exact(lambda t: move(node, t)) if isinstance(x, MidRad) else move(node, x)


@register_enclosure("index_select")
def _index_select(node: Node, x: Enclosed, index: Enclosed) -> Enclosed:
    rows, dim = as_exact(node, index), _dim(node)
    if isinstance(x, MidRad):
        return x.apply_exact(lambda t: t.index_select(dim, rows))
    return x.index_select(dim, rows)


@register_enclosure("index_add")
def _index_add(node: Node, base: Enclosed, index: Enclosed, source: Enclosed) -> MidRad:
    rows = as_exact(node, index)
    return midrad.index_add(as_midrad(base), _dim(node), rows, as_midrad(source))


@register_enclosure("segment_attention")
def _segment_attention(node: Node, scores: Enclosed, values: Enclosed, index: Enclosed) -> MidRad:
    segments, x = segments_of(node, as_exact(node, index)), as_midrad(values)
    return segments.value(spread_over(segments.weights_over(as_midrad(scores)), x.mid.ndim), x)


def segments_of(node: Node, index: Tensor) -> Segments:
    """The segments of a node of attention."""
    epsilon: Any = node.attributes["epsilon"]
    return Segments(index, node.shape[0], float(epsilon))


def spread_over(weights: MidRad, rank: int) -> MidRad:
    """Weights with further dimensions of size 1."""
    return weights.apply_exact(lambda t: t.reshape(*t.shape, *(1,) * (rank - t.ndim)))


@register_enclosure("cat")
def _cat(node: Node, *parts: Enclosed) -> MidRad:
    pieces, dim = [as_midrad(part) for part in parts], _dim(node)
    return MidRad(torch.cat([p.mid for p in pieces], dim), torch.cat([p.rad for p in pieces], dim))


@register_enclosure("where")
def _where(node: Node, condition: Enclosed, a: Enclosed, b: Enclosed) -> MidRad:
    return midrad.where(as_exact(node, condition), as_midrad(a), as_midrad(b))


@register_enclosure("eq", "ne", "lt", "le", "gt", "ge")
def _comparison(node: Node, a: Enclosed, b: Enclosed) -> Tensor:
    decided, truth = midrad.compare(node.op, as_midrad(a), as_midrad(b))
    if not bool(decided.all()):
        raise UnsupportedOperationError(node.source, "compares values too close to decide in exact arithmetic")
    return truth


@register_enclosure("isinf", "isnan")
def _classified(node: Node, x: Enclosed) -> Tensor:
    value = as_midrad(x)
    if bool(value.mid.isnan().any() | ~value.rad.isfinite().all()):
        raise UnsupportedOperationError(node.source, "asks about a value that is not enclosed")
    return value.mid.isinf() if node.op == "isinf" else torch.zeros_like(value.mid, dtype=torch.bool)


@register_enclosure("logical_not", "logical_and", "logical_or")
def _logical(node: Node, *operands: Enclosed) -> Tensor:
    exact = [as_exact(node, operand) for operand in operands]
    result: Tensor = getattr(torch, node.op)(*exact)
    return result
