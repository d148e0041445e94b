"""T8: the highest level among the components of the state that each entry of each value can depend on.

One walk through the graph with three numpy arrays per value: `level` (0 where an entry depends on no component),
`zero` (exactly 0 for every state) and `masked` (exactly minus infinity). All other entries are finite real numbers for
every finite state; an operation that might not keep it so is refused. A term is dropped only where it is multiplied
by an exact zero, or sits at minus infinity in a softmax.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deqops.graph import ConcreteGraph, Leaf, Node

from ._convolution import attributes_of
from ._refusal import Rejected
from ._subject import Subject
from ._values import Values, dims_of, indices, integer, move

Bools = NDArray[np.bool_]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Entries:
    """Level, zero and masked of a value's entries, of one shape; what is known of all entries' sign."""

    level: Numbers
    zero: Bools
    masked: Bools
    sign: int = 0  # 2: all positive; 1: none negative; 0: not known

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.level.shape)

    def each(self, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Entries:
        """The same movement of entries in all three."""
        return Entries(change(self.level), change(self.zero), change(self.masked), self.sign)


def entries(level: Numbers, zero: Any = False, masked: Any = False, sign: int = 0) -> Entries:
    """Entries with levels only where they are neither zero nor masked."""
    shape = level.shape
    zero, masked = (np.broadcast_to(np.asarray(flag, dtype=bool), shape) for flag in (zero, masked))
    return Entries(np.where(zero | masked, 0, level), zero, masked, sign)


class LevelWalk:
    """Levels of all values.

    Args:
        subject: the operator's graph and its free inputs.
        levels: of the components of the state, leaf by leaf.
        folded: whether state-independent results are taken by value, in ball arithmetic; else by structure.

    Raises:
        Rejected: an operation that is not understood, by name.
    """

    def __init__(self, subject: Subject, levels: list[Numbers], folded: bool) -> None:
        self.graph: ConcreteGraph = subject.written_out
        self._subject, self._folded = subject, folded
        self._values: Values | None = None
        self._free = _below_free(subject)
        self._known: dict[int, Entries] = dict(zip(self.graph.state, map(entries, levels), strict=True))
        for node in self.graph.nodes:
            if node.output in self.graph.state_dependent:
                self._known[node.output] = self._visit(node)

    @property
    def outputs(self) -> list[Entries]:
        """Of the leaves of G(y), all finite."""
        found = [self[value] for value in self.graph.outputs]
        if any(leaf.masked.any() for leaf in found):
            raise Rejected("the operator's result holds minus infinity")
        return found

    def __getitem__(self, value: int) -> Entries:
        if value not in self._known:
            self._known[value] = self._constant(value)
        return self._known[value]

    @property
    def values(self) -> Values:
        """The state-independent values in ball arithmetic, computed when they are first needed."""
        if self._values is None:
            kept = frozenset(node.output for node in self.graph.nodes) - self.graph.state_dependent
            self._values = Values(self.graph, None, self._subject.free, watched=kept)
        return self._values

    def condition(self, value: int) -> Bools | None:
        """A fixed condition; None for one that depends on the state or on a free input."""
        if value in self.graph.state_dependent or value in self._free:
            return None
        return self._integers(value).astype(bool)

    def indices(self, value: int, size: int) -> NDArray[Any]:
        """A fixed vector of positions below `size`."""
        if value in self._free:
            raise Rejected("an index depends on an input that the certificate declares free")
        return indices(self._integers(value), size)

    def nowhere_zero(self, value: int) -> bool:
        """Whether a fixed value has no zero entry."""
        if value in self.graph.state_dependent or value in self._free:
            return False
        if value in self.graph.leaves:
            return not self[value].zero.any()
        return not any(entry.contains(0) for entry in self.values.balls(value).reshape(-1))

    def _visit(self, node: Node) -> Entries:
        rule = _RULES.get(node.op)
        if rule is None:
            raise Rejected(f"{node.source}: the checker does not know what it depends on")
        if node.inputs & self._subject.free:
            raise Rejected(f"{node.source}: a size depends on an input that the certificate declares free")
        found = rule(self, node)
        if found.shape != tuple(node.shape):
            raise Rejected(f"{node.source}: gives shape {found.shape}, the graph says {tuple(node.shape)}")
        return found

    def _constant(self, value: int) -> Entries:
        if value in self.graph.leaves:
            return self._leaf(value)
        if value in self._free:
            return self._structure(value)
        first, second = (self._value, self._structure) if self._folded else (self._structure, self._value)
        try:
            return first(value)
        except Rejected:
            return second(value)

    def _structure(self, value: int) -> Entries:
        return self._visit(self.graph.producer[value])

    def _leaf(self, value: int) -> Entries:
        leaf = self.graph.leaves[value]
        if value not in self._free and leaf.ends is None:
            return _of_leaf(leaf)
        if leaf.kind != "input" or not leaf.tensor.is_floating_point():
            raise Rejected("a constant depends on an input that the certificate declares free")
        return entries(np.zeros(tuple(leaf.tensor.shape), dtype=np.int64))

    def _value(self, value: int) -> Entries:
        known = self.values.balls(value)
        zero = np.fromiter((bool(entry == 0) for entry in known.reshape(-1)), dtype=bool, count=known.size)
        sign = min((_ball_sign(entry) for entry in known.reshape(-1)), default=0)
        return entries(np.zeros(known.shape, dtype=np.int64), zero.reshape(known.shape), sign=sign)

    def _integers(self, value: int) -> NDArray[Any]:
        """An exact integer or boolean array."""
        if value not in self.graph.leaves:
            return np.asarray(self.values.integers(value))
        tensor = self.graph.leaves[value].tensor
        if tensor.is_floating_point() or tensor.is_complex():
            raise Rejected("an index or a mask is not exact")
        return np.asarray(tensor.detach().cpu().numpy())


def _below_free(subject: Subject) -> frozenset[int]:
    """The values that depend on an input that the certificate declares free."""
    graph, found = subject.graph, set()
    for value, leaf in graph.leaves.items():
        if leaf.inputs & subject.free or (leaf.kind == "input" and leaf.position in subject.free):
            found.add(value)
    for node in graph.nodes:
        if node.inputs & subject.free or found.intersection(node.operands):
            found.add(node.output)
    return frozenset(found)


def _of_leaf(leaf: Leaf) -> Entries:
    """Zeros of a stored tensor, by its bits: no subnormal number counts as zero."""
    tensor = leaf.tensor.detach().cpu()
    if tensor.is_complex():
        raise Rejected(f"{leaf.kind} {leaf.name!r} is complex")
    if not tensor.is_floating_point():
        return entries(np.zeros(tuple(tensor.shape), dtype=np.int64), tensor.numpy() == 0)
    numbers = np.ascontiguousarray(tensor.double().numpy())
    masked = numbers == -math.inf
    if not (masked | np.isfinite(numbers)).all() or (masked.any() and leaf.kind != "literal"):
        raise Rejected(f"{leaf.kind} {leaf.name!r} holds NaN or infinity")
    zero = (numbers.view(np.uint64) << np.uint64(1)) == 0
    least = float(numbers.min(initial=math.inf))
    sign = 2 if least > 0 and not zero.any() else 1 if least >= 0 else 0
    return entries(np.zeros(numbers.shape, dtype=np.int64), zero, masked, sign)


def _ball_sign(entry: Any) -> int:
    return 2 if entry > 0 else 1 if entry >= 0 else 0


# ------------------------------------------------------------------------------------------------------ rules


def _finite(walk: LevelWalk, node: Node) -> list[Entries]:
    found = [walk[value] for value in node.operands]
    if any(part.masked.any() for part in found):
        raise Rejected(f"{node.source}: meets minus infinity")
    return found


def _highest(node: Node, *parts: Entries) -> Numbers:
    level = np.zeros(tuple(node.shape), dtype=np.int64)
    for part in parts:
        level = np.maximum(level, part.level)
    return level


def _elementwise(walk: LevelWalk, node: Node) -> Entries:
    for name, value in node.attributes.items():
        harmless = (name == "minimum" and value == -math.inf) or (name == "maximum" and value == math.inf)
        if isinstance(value, float) and not math.isfinite(value) and not harmless:
            raise Rejected(f"{node.source}: attribute {name} is {value}")
    if node.op == "softplus" and not node.attributes["beta"]:
        raise Rejected(f"{node.source}: has beta = 0")
    parts = _finite(walk, node)
    sign = {"exp": 2, "sigmoid": 2, "abs": 1, "relu": 1, "square": 1}.get(node.op, 0)
    if node.op == "maximum":
        sign = max(part.sign for part in parts)
    elif node.op == "minimum":
        sign = min(part.sign for part in parts)
    elif node.op == "clamp" and node.attributes["maximum"] is None:
        least: Any = node.attributes["minimum"]
        sign = (least >= 0) + (least > 0) if least is not None else 0
    return entries(_highest(node, *parts), parts[0].zero if node.op in _KEEP_ZERO else False, sign=int(sign))


def _partial(walk: LevelWalk, node: Node) -> Entries:
    """Roots, logarithms and powers: only where all entries are known to lie in the domain."""
    (x,) = _finite(walk, node)
    exponent: Any = node.attributes.get("exponent")
    if node.op == "pow_scalar" and math.isfinite(exponent) and exponent >= 0 and exponent == int(exponent):
        return entries(_highest(node, x), sign=int(exponent % 2 == 0))
    if exponent is not None and not math.isfinite(exponent):
        raise Rejected(f"{node.source}: attribute exponent is {exponent}")
    if x.sign < (1 if node.op in ("sqrt", "log1p") else 2):
        raise Rejected(f"{node.source}: may be outside its domain")
    return entries(_highest(node, x), sign=0 if node.op == "log" else x.sign)


def _cast(walk: LevelWalk, node: Node) -> Entries:
    if not node.dtype.is_floating_point:
        raise Rejected(f"{node.source}: casts to {node.dtype}")
    return walk[node.operands[0]]


def _sum(walk: LevelWalk, node: Node) -> Entries:
    a, b = (walk[value] for value in node.operands)
    if node.op == "sub" and b.masked.any():
        raise Rejected(f"{node.source}: subtracts minus infinity")
    masked = a.masked | b.masked
    sign = max(a.sign, b.sign) if node.op == "add" and a.sign and b.sign else 0
    return entries(_highest(node, a, b), a.zero & b.zero & ~masked, masked, sign)


def _product(walk: LevelWalk, node: Node) -> Entries:
    a, b = _finite(walk, node)
    return entries(_highest(node, a, b), a.zero | b.zero, sign=min(a.sign, b.sign))


def _quotient(walk: LevelWalk, node: Node) -> Entries:
    a, b = _finite(walk, node)
    if b.sign < 2 and not walk.nowhere_zero(node.operands[1]):
        raise Rejected(f"{node.source}: divides by what may be zero")
    return entries(_highest(node, a, b), a.zero, sign=a.sign if b.sign == 2 else 0)


def _matmul(walk: LevelWalk, node: Node) -> Entries:
    """Term by term: `a_ik b_kj` counts unless one of the two is zero."""
    a, b = _finite(walk, node)
    left = a.each(lambda x: x[None, :]) if len(a.shape) == 1 else a
    right = b.each(lambda x: x[:, None]) if len(b.shape) == 1 else b
    batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    level = np.zeros((*batch, left.shape[-2], right.shape[-1]), dtype=np.int64)
    zero = np.ones(level.shape, dtype=bool)
    for k in range(left.shape[-1]):
        apart = left.zero[..., :, k, None] | right.zero[..., k, None, :]
        highest = np.maximum(left.level[..., :, k, None], right.level[..., k, None, :])
        np.maximum(level, np.where(apart, 0, highest), out=level)
        zero &= apart
    return entries(level.reshape(node.shape), zero.reshape(node.shape))


def _taken(x: Entries, place: tuple[Any, ...], shape: tuple[int, ...]) -> Entries:
    return x.each(lambda part: part[place].reshape(shape))


def _convolution(walk: LevelWalk, node: Node) -> Entries:
    """Tap by tap and channel by channel: a product counts unless one of its factors is zero."""
    x, kernel = _finite(walk, node)
    attributes, groups = attributes_of(node), attributes_of(node).groups
    taps, width = kernel.shape[2:], x.shape[1] // groups
    sizes = zip(x.shape[2:], taps, strict=True)
    tables = [attributes.table(dim, size, count) for dim, (size, count) in enumerate(sizes)]
    split = kernel.each(lambda k: k.reshape(groups, -1, *k.shape[1:]))
    if attributes.extra is None:  # (group, in, out, taps...)
        split = split.each(lambda k: np.moveaxis(k, 2, 1))
    level = np.zeros((x.shape[0], groups, split.shape[2], *(table.shape[1] for table in tables)), dtype=np.int64)
    zero = np.ones(level.shape, dtype=bool)
    for tap, group, channel in itertools.product(np.ndindex(*taps), range(groups), range(width)):
        reads = np.ix_(*(table[k] for table, k in zip(tables, tap, strict=True)))
        inside = np.logical_and.reduce(np.broadcast_arrays(*(index >= 0 for index in reads)))
        own = _taken(x, (slice(None), group * width + channel, *reads), (x.shape[0], 1, *inside.shape))
        weight = _taken(split, (group, channel, slice(None), *tap), (split.shape[2], *(1,) * len(taps)))
        apart = own.zero | weight.zero | ~inside
        highest = np.maximum(own.level, weight.level)
        np.maximum(level[:, group], np.where(apart, 0, highest), out=level[:, group])
        zero[:, group] &= apart
    return entries(level.reshape(node.shape), zero.reshape(node.shape))


def _softmax(walk: LevelWalk, node: Node) -> Entries:
    x, dim = walk[node.operands[0]], integer(node, "dim")
    if x.masked.all(axis=dim).any():
        raise Rejected(f"{node.source}: has nothing but minus infinity along its dimension")
    level = np.broadcast_to(x.level.max(axis=dim, keepdims=True, initial=0), x.shape)
    return entries(level, x.masked, sign=1 if x.masked.any() else 2)


def _sort(walk: LevelWalk, node: Node) -> Entries:
    (x,) = _finite(walk, node)
    level = np.broadcast_to(x.level.max(axis=integer(node, "dim"), keepdims=True, initial=0), x.shape)
    return entries(level, False, sign=x.sign)


def _normalisation(walk: LevelWalk, node: Node) -> Entries:
    eps: Any = node.attributes["eps"]
    normalized: Any = node.attributes["normalized_shape"]
    if not 0 < eps < math.inf or not normalized:
        raise Rejected(f"{node.source}: needs eps > 0")
    (x,) = _finite(walk, node)
    axes = tuple(range(len(x.shape) - len(normalized), len(x.shape)))
    level = np.broadcast_to(x.level.max(axis=axes, keepdims=True, initial=0), x.shape)
    return entries(level, x.zero if node.op == "rms_norm" else False)


def _reduce(walk: LevelWalk, node: Node) -> Entries:
    (x,) = _finite(walk, node)
    dims, keep = dims_of(node), bool(node.attributes["keepdim"])
    if node.op != "sum" and any(x.shape[dim] == 0 for dim in dims):
        raise Rejected(f"{node.source}: is over no entries")
    level = np.asarray(x.level.max(axis=dims, keepdims=keep, initial=0))
    empty = any(x.shape[dim] == 0 for dim in dims)
    return entries(level, x.zero.all(axis=dims, keepdims=keep), sign=0 if empty else x.sign)


def _move(walk: LevelWalk, node: Node) -> Entries:
    return walk[node.operands[0]].each(lambda x: np.asarray(move(node, x)))


def _cat(walk: LevelWalk, node: Node) -> Entries:
    parts, dim = [walk[value] for value in node.operands], integer(node, "dim")
    level, zero, masked = (np.concatenate([getattr(p, f) for p in parts], axis=dim) for f in _ARRAYS)
    return Entries(level, zero, masked, min(p.sign for p in parts))


def _index_select(walk: LevelWalk, node: Node) -> Entries:
    x, dim = walk[node.operands[0]], integer(node, "dim")
    rows = walk.indices(node.operands[1], x.shape[dim])
    return x.each(lambda array: np.take(array, rows, axis=dim))


def _index_add(walk: LevelWalk, node: Node) -> Entries:
    base, _, source = _finite(walk, node)
    dim = integer(node, "dim")
    rows = walk.indices(node.operands[1], base.shape[dim])
    level, zero = np.moveaxis(base.level.copy(), dim, 0), np.moveaxis(base.zero.copy(), dim, 0)
    np.maximum.at(level, rows, np.moveaxis(source.level, dim, 0))
    np.logical_and.at(zero, rows, np.moveaxis(source.zero, dim, 0))
    return entries(np.moveaxis(level, 0, dim), np.moveaxis(zero, 0, dim))


def _where(walk: LevelWalk, node: Node) -> Entries:
    chosen = walk.condition(node.operands[0])
    if chosen is None:
        _finite(walk, node)
        c, a, b = (walk[value] for value in node.operands)
        return entries(_highest(node, c, a, b), a.zero & b.zero)
    a, b = (walk[value] for value in node.operands[1:])
    picked = (np.where(chosen, getattr(a, f), getattr(b, f)) for f in _ARRAYS)
    level, zero, masked = (np.broadcast_to(array, tuple(node.shape)) for array in picked)
    return Entries(level, zero, masked, min(a.sign, b.sign))


_ARRAYS = ("level", "zero", "masked")
_KEEP_ZERO = frozenset(["neg", "abs", "relu", "square", "sign", "tanh"])
_TOTAL = (
    "tanh sigmoid relu relu6 silu softsign abs neg exp expm1 erf atan sin cos square sign floor ceil round hardswish "
    "mish selu leaky_relu elu gelu softplus hardtanh clamp softshrink maximum minimum eq ne lt le gt ge logical_not "
    "logical_and logical_or isinf isnan"
)
_RULES: dict[str, Callable[[LevelWalk, Node], Entries]] = {
    **dict.fromkeys(_TOTAL.split(), _elementwise),
    **dict.fromkeys(("add", "sub"), _sum),
    **dict.fromkeys(("sum", "mean", "amax", "amin"), _reduce),
    **dict.fromkeys(("reshape", "permute", "expand", "slice", "select"), _move),
    **dict.fromkeys(("sqrt", "rsqrt", "reciprocal", "log", "log1p", "pow_scalar"), _partial),
    "cast": _cast,
    "mul": _product,
    "div": _quotient,
    "matmul": _matmul,
    "conv": _convolution,
    "conv_transpose": _convolution,
    "softmax": _softmax,
    "sort": _sort,
    "layer_norm": _normalisation,
    "rms_norm": _normalisation,
    "cat": _cat,
    "index_select": _index_select,
    "index_add": _index_add,
    "where": _where,
}
