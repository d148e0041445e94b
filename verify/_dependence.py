"""Which components of the state can a component of G(y) depend on? Decided by the structure of the graph alone.

Every value of the graph is followed with two exact facts per entry, `zero` and `masked` (minus infinity); every other
entry is a finite real number for every finite state, which each rule below preserves or refuses. An entry then
depends at most on the components that its operands depend on, and not at all where it is 0 or minus infinity
whatever the state: a stored zero times a finite number, a strictly triangular mask, `exp(-inf)` in a softmax. Nothing
else removes a dependence: -1e9 added to a score does not, nor does `y - y`. Neither continuity nor a Lipschitz
constant is needed, so jumps (`floor`, comparisons of the state) are understood.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from deqops._errors import UnsupportedOperationError
from deqops.graph import ConcreteGraph, Node

from ._conv_map import Settings, counted
from ._enclosures import Constants, Enclosed, as_exact, as_midrad, move

Shape = tuple[int, ...]
Moving = Tensor | None  # which entries depend on the components asked about; None: none of them
Flow = Callable[..., Tensor]  # from the operands' `Moving` to that of the result


@dataclass(frozen=True, eq=False)
class Facts:
    """Of a value's entries, for every state: which are exactly 0, which are exactly minus infinity.

    `sign` is 2 where all entries are positive, 1 where none is negative, 0 where nothing is known.
    """

    zero: Tensor
    masked: Tensor
    sign: int = 0

    @property
    def nonzero(self) -> Tensor:
        """1.0 where an entry may differ from 0."""
        return (~self.zero).to(torch.float32)


def _none(shape: Shape) -> Tensor:
    return torch.zeros((), dtype=torch.bool).expand(shape)


def _plain(shape: Shape, sign: int = 0) -> Facts:
    """Finite numbers of which no more is known."""
    return Facts(_none(shape), _none(shape), sign)


class Dependence:
    """The dependence structure of one graph.

    Args:
        graph: the operator graph.
        constants: its state-independent values.
        free: whether floating inputs may take any values; else the values at hand count.

    Raises:
        UnsupportedOperationError: an operation without a rule, or one that is not defined for every finite state.
    """

    def __init__(self, graph: ConcreteGraph, constants: Constants, free: bool) -> None:
        self._graph, self._constants = graph, constants
        self._unvalued = _below_inputs(graph) if free else frozenset()
        self._sizes: set[int] = set()
        self._facts: dict[int, Facts] = {value: _plain(graph.shape(value)) for value in graph.state}
        self._steps: list[tuple[Node, Flow]] = []
        for node in graph.nodes:
            if node.output in graph.state_dependent:
                self._facts[node.output], flow = self._apply(node)
                self._steps.append((node, flow))
        for value in graph.outputs:
            if bool(self.facts(value).masked.any()):
                raise UnsupportedOperationError("output", "holds minus infinity")

    @property
    def inputs(self) -> frozenset[int]:
        """The inputs whose values were used."""
        return frozenset(self._constants.touched | self._sizes)

    def moving(self, leaves: list[Tensor]) -> list[Tensor]:
        """Which entries of each leaf of G(y) may depend on the components marked in `leaves`."""
        found: dict[int, Moving] = dict(zip(self._graph.state, leaves, strict=True))
        for node, flow in self._steps:
            found[node.output] = flow(*(found.get(value) for value in node.operands))
        results = [(found.get(value), self._graph.shape(value)) for value in self._graph.outputs]
        return [_none(shape) if result is None else result for result, shape in results]

    # ------------------------------------------------------------------------------------------- for the rules

    def facts(self, value: int) -> Facts:
        """What is known of a value.

        Raises:
            UnsupportedOperationError: it does not depend on the state, and may be NaN or infinite.
        """
        if value not in self._facts:
            self._facts[value] = self._constant(value)
        return self._facts[value]

    def finite(self, node: Node) -> list[Facts]:
        """The operands' facts, none of them minus infinity anywhere."""
        found = [self.facts(value) for value in node.operands]
        if any(bool(facts.masked.any()) for facts in found):
            raise UnsupportedOperationError(node.source, "meets minus infinity")
        return found

    def known(self, value: int) -> Enclosed | None:
        """The enclosure of a value that depends on nothing free; None for others."""
        if value in self._graph.state_dependent or value in self._unvalued:
            return None
        return self._constants[value]

    def indices(self, node: Node, value: int) -> Tensor:
        """An exact integer tensor."""
        known = self.known(value)
        if known is None:
            raise UnsupportedOperationError(node.source, "has an index that is not fixed")
        return as_exact(node, known)

    def shape(self, value: int) -> Shape:
        """The shape of a value."""
        return self._graph.shape(value)

    # -------------------------------------------------------------------------------------------------- inside

    def _apply(self, node: Node) -> tuple[Facts, Flow]:
        rule = _RULES.get(node.op)
        if rule is None:
            raise UnsupportedOperationError(node.source, "has no rule that says what it depends on")
        self._sizes |= node.inputs
        facts, flow = rule(self, node)
        if tuple(facts.zero.shape) != node.shape or tuple(facts.masked.shape) != node.shape:
            raise UnsupportedOperationError(node.source, "has another shape than its rule expects")
        return facts, flow

    def _constant(self, value: int) -> Facts:
        if value not in self._unvalued:
            try:
                return _of_enclosure(self._constants[value])
            except UnsupportedOperationError:
                if value in self._graph.leaves:
                    raise
        if value in self._graph.leaves:
            return _plain(self._graph.shape(value))  # a free input: finite numbers
        return self._apply(self._graph.producer[value])[0]


def _below_inputs(graph: ConcreteGraph) -> frozenset[int]:
    """The values that are computed from floating inputs' values."""
    found = {v for v, leaf in graph.leaves.items() if leaf.kind == "input" and leaf.tensor.is_floating_point()}
    for node in graph.nodes:
        if found.intersection(node.operands):
            found.add(node.output)
    return frozenset(found)


def _of_enclosure(value: Enclosed) -> Facts:
    known = as_midrad(value)
    exact = known.rad == 0
    masked = exact & (known.mid == -math.inf)
    if not bool((masked | (known.mid.isfinite() & known.rad.isfinite())).all()):
        raise UnsupportedOperationError("constant", "may be NaN or infinite")
    lower = known.lower()
    sign = 2 if bool((lower > 0).all()) else 1 if bool((lower >= 0).all()) else 0
    return Facts(exact & (known.mid == 0), masked, sign)


# ---------------------------------------------------------------------------------------------------- rules

Rule = Callable[[Dependence, Node], tuple[Facts, Flow]]
_RULES: dict[str, Rule] = {}


def _register(*operations: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        for operation in operations:
            _RULES[operation] = rule
        return rule

    return register


def _union(shape: Shape, *moving: Moving) -> Tensor:
    """Entries that depend on any operand, broadcast."""
    result = _none(shape)
    for part in moving:
        if part is not None:
            result = result | part
    return result


def _refuse_odd_attributes(node: Node) -> None:
    """Numbers of an activation are finite; a clamp may be open at its own end."""
    for name, number in node.attributes.items():
        open_ended = {"minimum": -math.inf, "maximum": math.inf}.get(name)
        if isinstance(number, float) and not math.isfinite(number) and number != open_ended:
            raise UnsupportedOperationError(node.source, f"has {name} = {number}")
    if node.op == "softplus" and node.attributes["beta"] == 0:
        raise UnsupportedOperationError(node.source, "has beta = 0")


@_register(
    *[
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
        "erf",
        "atan",
        "sin",
        "cos",
    ],
    *["square", "sign", "floor", "ceil", "round", "hardswish", "mish", "selu", "leaky_relu", "elu", "gelu"],
    *["softplus", "hardtanh", "clamp", "softshrink", "maximum", "minimum", "eq", "ne", "lt", "le", "gt", "ge"],
    *["logical_not", "logical_and", "logical_or", "isinf", "isnan"],
)
def _elementwise(dependence: Dependence, node: Node) -> tuple[Facts, Flow]:
    """Defined for all finite numbers, entry by entry."""
    _refuse_odd_attributes(node)
    found = dependence.finite(node)
    zero = found[0].zero if node.op in ("neg", "abs", "relu", "square", "sign", "tanh") else _none(node.shape)
    facts = Facts(zero, _none(node.shape), _sign(node, [part.sign for part in found]))
    return facts, lambda *moving: _union(node.shape, *moving)


def _sign(node: Node, signs: list[int]) -> int:
    """Of an elementwise function's values."""
    if node.op in ("maximum", "minimum"):
        return max(signs) if node.op == "maximum" else min(signs)
    if node.op == "clamp":
        lowest, highest = (node.attributes[name] for name in ("minimum", "maximum"))
        known = isinstance(lowest, float) and highest is None and lowest >= 0
        return 0 if not known else 1 if lowest == 0 else 2
    return 2 if node.op in ("exp", "sigmoid") else 1 if node.op in ("abs", "relu", "square") else 0


@_register("sqrt", "rsqrt", "reciprocal", "log", "log1p", "pow_scalar")
def _in_domain(dependence: Dependence, node: Node) -> tuple[Facts, Flow]:
    """Functions that are not defined everywhere: the sign must be known where that matters."""
    (x,) = dependence.finite(node)
    exponent = node.attributes.get("exponent", -1.0)
    if not isinstance(exponent, float) or not math.isfinite(exponent):
        raise UnsupportedOperationError(node.source, f"has exponent {exponent}")
    if node.op == "pow_scalar" and exponent >= 0 and exponent.is_integer():
        needed, sign = 0, 1 if exponent % 2 == 0 else 0
    elif node.op in ("sqrt", "log1p"):
        needed, sign = 1, x.sign
    else:
        needed, sign = 2, 0 if node.op == "log" else 2
    if x.sign < needed:
        raise UnsupportedOperationError(node.source, "is not shown to be defined for every state")
    return _plain(node.shape, sign), lambda moving: _union(node.shape, moving)


@_register("cast")
def _cast(dependence: Dependence, node: Node) -> tuple[Facts, Flow]:
    if not node.dtype.is_floating_point:
        raise UnsupportedOperationError(node.source, f"casts to {node.dtype}")
    return dependence.facts(node.operands[0]), lambda x: _union(node.shape, x)


@_register("add", "sub")
def _sum(dependence: Dependence, node: Node) -> tuple[Facts, Flow]:
    """Minus infinity plus anything stays what it is."""
    a, b = (dependence.facts(value) for value in node.operands)
    if node.op == "sub" and bool(b.masked.any()):
        raise UnsupportedOperationError(node.source, "meets minus infinity")
    masked = a.masked | b.masked
    sign = max(a.sign, b.sign) if node.op == "add" and min(a.sign, b.sign) > 0 else 0
    return Facts(a.zero & b.zero & ~masked, masked, sign), lambda x, y: _union(node.shape, x, y) & ~masked


@_register("mul")
def _product(dependence: Dependence, node: Node) -> tuple[Facts, Flow]:
    """0 times a finite number is 0."""
    a, b = dependence.finite(node)
    zero = a.zero | b.zero
    return Facts(zero, _none(node.shape), min(a.sign, b.sign)), lambda x, y: _union(node.shape, x, y) & ~zero


@_register("div")
def _quotient(dependence: Dependence, node: Node) -> tuple[Facts, Flow]:
    """By what is positive, or by a constant that is nowhere 0."""
    a, b = dependence.finite(node)
    divisor = dependence.known(node.operands[1]) if b.sign < 2 else None
    apart = divisor is not None and bool((as_midrad(divisor).mignitude() > 0).all())
    if not (b.sign == 2 or apart):
        raise UnsupportedOperationError(node.source, "divides by what may be 0")
    zero = a.zero.expand(node.shape)
    return Facts(zero, _none(node.shape), a.sign if b.sign == 2 else 0), lambda x, y: _union(node.shape, x, y) & ~zero


@_register("matmul")
def _matmul(dependence: Dependence, node: Node) -> tuple[Facts, Flow]:
    """The k-th term depends on both factors unless one is 0; float32 sums of numbers >= 0 are 0 only if all are."""
    a, b = (facts.nonzero for facts in dependence.finite(node))

    def flow(x: Moving, y: Moving) -> Tensor:
        result = _none(node.shape)
        if x is not None:
            result = result | (torch.matmul(x.to(torch.float32), b) > 0)
        if y is not None:
            result = result | (torch.matmul(a, y.to(torch.float32)) > 0)
        return result

    return Facts(torch.matmul(a, b) == 0, _none(node.shape)), flow


@_register("conv", "conv_transpose")
def _convolution(dependence: Dependence, node: Node) -> tuple[Facts, Flow]:
    """As a product: every tap's product counts unless one of its factors is 0."""
    x, weight = (facts.nonzero for facts in dependence.finite(node))
    settings = Settings.of(node)

    def flow(moving: Moving, kernel: Moving) -> Tensor:
        result = _none(node.shape)
        if moving is not None:
            result = result | (counted(moving.to(torch.float32), weight, settings) > 0)
        if kernel is not None:
            result = result | (counted(x, kernel.to(torch.float32), settings) > 0)
        return result

    return Facts(counted(x, weight, settings) == 0, _none(node.shape)), flow


@_register("softmax")
def _softmax(dependence: Dependence, node: Node) -> tuple[Facts, Flow]:
    """Couples the entries of its dimension, but for those at minus infinity, which give 0."""
    masked, dim = dependence.facts(node.operands[0]).masked, _int(node, "dim")
    if bool(masked.all(dim=dim).any()):
        raise UnsupportedOperationError(node.source, "has nothing but minus infinity along its dimension")

    def flow(x: Moving) -> Tensor:
        return _union(node.shape) if x is None else x.any(dim=dim, keepdim=True).expand(node.shape) & ~masked

    return Facts(masked, _none(node.shape), 1 if bool(masked.any()) else 2), flow


@_register("sort")
def _sort(dependence: Dependence, node: Node) -> tuple[Facts, Flow]:
    (x,), dim = dependence.finite(node), _int(node, "dim")

    def flow(moving: Moving) -> Tensor:
        return _none(node.shape) if moving is None else moving.any(dim=dim, keepdim=True).expand(node.shape)

    return Facts(_none(node.shape), _none(node.shape), x.sign), flow


@_register("layer_norm", "rms_norm")
def _normalisation(dependence: Dependence, node: Node) -> tuple[Facts, Flow]:
    eps, normalized = node.attributes["eps"], node.attributes["normalized_shape"]
    if not isinstance(eps, float) or not 0 < eps < math.inf or not isinstance(normalized, tuple) or not normalized:
        raise UnsupportedOperationError(node.source, "needs eps > 0")
    (x,) = dependence.finite(node)
    zero = x.zero if node.op == "rms_norm" else _none(node.shape)  # no mean is taken from an exact 0 there
    dims = tuple(range(len(node.shape) - len(normalized), len(node.shape)))

    def flow(moving: Moving) -> Tensor:
        coupled = _none(node.shape) if moving is None else _over(moving, dims, torch.any, keepdim=True)
        return coupled.expand(node.shape) & ~zero

    return Facts(zero, _none(node.shape)), flow


def _over(x: Tensor, dims: tuple[int, ...], reduce: Callable[..., Tensor], *, keepdim: bool) -> Tensor:
    """`any` or `all` over dimensions, the last first."""
    for dim in sorted(dims, reverse=True):
        x = reduce(x, dim=dim, keepdim=keepdim)
    return x


@_register("sum", "mean", "amax", "amin")
def _reduction(dependence: Dependence, node: Node) -> tuple[Facts, Flow]:
    (x,) = dependence.finite(node)
    dims, keepdim = _ints(node, "dims"), bool(node.attributes["keepdim"])
    if node.op != "sum" and any(x.zero.shape[dim] == 0 for dim in dims):
        raise UnsupportedOperationError(node.source, "is over no entries")
    zero = _over(x.zero, dims, torch.all, keepdim=keepdim)
    sign = min(x.sign, 1) if any(x.zero.shape[dim] == 0 for dim in dims) else x.sign

    def flow(moving: Moving) -> Tensor:
        return _none(node.shape) if moving is None else _over(moving, dims, torch.any, keepdim=keepdim)

    return Facts(zero, _none(node.shape), sign), flow


@_register("reshape", "permute", "expand", "slice", "select")
def _movement(dependence: Dependence, node: Node) -> tuple[Facts, Flow]:
    x = dependence.facts(node.operands[0])

    def flow(moving: Moving) -> Tensor:
        return _none(node.shape) if moving is None else move(node, moving)

    return Facts(move(node, x.zero), move(node, x.masked), x.sign), flow


@_register("cat")
def _cat(dependence: Dependence, node: Node) -> tuple[Facts, Flow]:
    dim, shapes = _int(node, "dim"), [dependence.shape(value) for value in node.operands]
    parts = [dependence.facts(value) for value in node.operands]

    def flow(*moving: Moving) -> Tensor:
        return torch.cat([_none(s) if m is None else m for m, s in zip(moving, shapes, strict=True)], dim)

    sign = min(p.sign for p in parts)
    return Facts(torch.cat([p.zero for p in parts], dim), torch.cat([p.masked for p in parts], dim), sign), flow


@_register("index_select")
def _index_select(dependence: Dependence, node: Node) -> tuple[Facts, Flow]:
    x, rows, dim = dependence.facts(node.operands[0]), dependence.indices(node, node.operands[1]), _int(node, "dim")

    def flow(moving: Moving, _: Moving) -> Tensor:
        return _none(node.shape) if moving is None else moving.index_select(dim, rows)

    return Facts(x.zero.index_select(dim, rows), x.masked.index_select(dim, rows), x.sign), flow


@_register("index_add")
def _index_add(dependence: Dependence, node: Node) -> tuple[Facts, Flow]:
    base, _, source = dependence.finite(node)
    rows, dim = dependence.indices(node, node.operands[1]), _int(node, "dim")

    def added(a: Tensor, b: Tensor) -> Tensor:
        return a.to(torch.float32).index_add(dim, rows, b.to(torch.float32)) > 0

    def flow(x: Moving, _: Moving, y: Moving) -> Tensor:
        first = _none(base.zero.shape) if x is None else x
        return added(first, _none(source.zero.shape) if y is None else y)

    return Facts(~added(~base.zero, ~source.zero), _none(node.shape)), flow


@_register("where")
def _where(dependence: Dependence, node: Node) -> tuple[Facts, Flow]:
    """A fixed condition chooses; one that depends on the state, or on a free input, may choose either."""
    a, b = (dependence.facts(value) for value in node.operands[1:])
    condition = dependence.known(node.operands[0])
    if condition is not None:
        mask = as_exact(node, condition)

        def chosen(_: Moving, x: Moving, y: Moving) -> Tensor:
            nothing = torch.zeros((), dtype=torch.bool)
            return torch.where(mask, nothing if x is None else x, nothing if y is None else y).expand(node.shape)

        sign = min(a.sign, b.sign)
        return Facts(torch.where(mask, a.zero, b.zero), torch.where(mask, a.masked, b.masked), sign), chosen
    dependence.finite(node)
    return Facts((a.zero & b.zero).expand(node.shape), _none(node.shape)), lambda *m: _union(node.shape, *m)


def _int(node: Node, name: str) -> int:
    value = node.attributes[name]
    if not isinstance(value, int):
        raise UnsupportedOperationError(node.source, f"has attribute {name} = {value!r}, an integer is needed")
    return value


def _ints(node: Node, name: str) -> tuple[int, ...]:
    value = node.attributes[name]
    if not isinstance(value, tuple):
        raise UnsupportedOperationError(node.source, f"has attribute {name} = {value!r}, integers are needed")
    return value
