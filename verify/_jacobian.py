"""The Jacobian of the operator graph as an expression of linear maps and elementwise slopes.

Lemma `slopes`: where G is a composition of affine maps and elementwise functions whose difference quotients
lie in verified intervals, `G(y) - G(z) = M (y - z)` with M a product of the layers with slopes taken in those
intervals. Every value v of the graph is written as `v = constant + sum_k A_k u_k` with A_k linear maps and the
u_k *basis values*: the leaves of the state, and results of elementwise functions and of normalisations of such
combinations. Norm strategies (`_gains.py`) bound M from this expression; the rules for operations are in
`_jacobian_rules.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from deqops._errors import UnsupportedOperationError
from deqops.graph import ConcreteGraph, Node

from . import _midrad as midrad
from ._defined import Defined
from ._enclosures import Constants, Enclosed, as_midrad, enclose_node
from ._expansion import Expansion
from ._extreme import Weights, weights_everywhere, weights_over
from ._linear import LinearMap
from ._masks import Masks
from ._matrix import DenseMatrix
from ._midrad import MidRad
from ._normalisation import Near, Normalisation, Slopes
from ._permutations import Permutations, permutations_over
from ._ranges import ranges_over
from ._rounding import mul_up
from ._slopes import slope_range
from ._softmax import SoftmaxSlopes, softmax_over, softmax_slopes
from ._sparse import SparseMatrix

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class StateLeaf:
    """A leaf of the state, the variable of the Jacobian."""

    position: int
    shape: Shape


@dataclass(frozen=True, eq=False)
class Function:
    """Which function an elementwise value is of which value of the graph."""

    operation: str
    attributes: Mapping[str, object]
    argument: int


@dataclass(frozen=True, eq=False)
class Elementwise:
    """`u = s(v)` entrywise, difference quotients of s within [lower, upper] (floats, or entry by entry).

    `function` says what s and v are; None for a factor that is known by its range alone.
    """

    name: str
    source: Combination
    shape: Shape
    lower: Tensor | float
    upper: Tensor | float
    function: Function | None = None

    @property
    def gain(self) -> Tensor | float:
        """The largest modulus of a slope, per entry where slopes differ."""
        if isinstance(self.lower, Tensor) and isinstance(self.upper, Tensor):
            return torch.maximum(self.lower.abs(), self.upper.abs())
        return max(abs(float(self.lower)), abs(float(self.upper)))

    def magnitude_times(self, x: Tensor) -> Tensor:
        """Upper bound of `|S| x` for x >= 0 and every diagonal matrix S of slopes."""
        return mul_up(x, torch.as_tensor(self.gain, dtype=torch.float64))

    magnitude_transposed_times = magnitude_times

    def columns(self, x: MidRad) -> MidRad:
        """Enclosure of `S x`, column by column: x of shape (*shape, columns)."""
        lower, upper = (torch.as_tensor(end, dtype=torch.float64) for end in (self.lower, self.upper))
        slopes = MidRad.from_bounds(lower, upper)
        return midrad.mul(x, slopes.apply_exact(lambda t: t[..., None] if t.ndim else t))


@dataclass(frozen=True, eq=False)
class Normalised:
    """`u = layer_norm(v)`, `rms_norm(v)` or `softmax(v)` over groups of the last dimensions, with its derivatives.

    `u(v) - u(v')` is the average of J over the segment from v' to v, times `v - v'`. The segment lies in the box of
    pre-activations; the average itself need not be a `s (C - h h^T / n)`. But it is in every convex set that contains
    these: a ball of the l2 norm, a matrix of intervals. Only such sets are given here, and M of Lemma `slopes` is a
    product with one such average in this place. T5's single layers need a diagonal matrix here and do not match it.
    """

    name: str
    source: Combination
    shape: Shape
    slopes: Slopes | SoftmaxSlopes

    @property
    def gain(self) -> Tensor:
        """Bound of the l2 norm of each group's matrix, at each of its entries."""
        return self.slopes.gain.expand(self._grouped).reshape(self.shape)

    def magnitude_times(self, x: Tensor) -> Tensor:
        """Upper bound of `|J| x` for x >= 0."""
        return self.slopes.magnitude_times(x.reshape(self._grouped)).reshape(self.shape)

    magnitude_transposed_times = magnitude_times  # J is symmetric

    def columns(self, x: MidRad) -> MidRad:
        """Enclosure of `J x`, column by column: x of shape (*shape, columns)."""
        grouped = x.apply_exact(lambda t: t.reshape(*self._grouped, -1))
        return self.slopes.columns(grouped).apply_exact(lambda t: t.reshape(x.shape))

    @property
    def _grouped(self) -> Shape:
        return tuple(self.slopes.value.shape)


@dataclass(frozen=True, eq=False)
class Largest:
    """`u = max_j v_j` of each row of v, (groups, n), with the weights that its derivative may have."""

    name: str
    source: Combination
    shape: Shape
    weights: Weights

    @property
    def gain(self) -> float:
        """Bound of the l2 norm."""
        return 1.0

    def magnitude_times(self, x: Tensor) -> Tensor:
        """Upper bound of `C x` for x >= 0 and every choice of weights C."""
        return self.weights.magnitude_times(x)

    def magnitude_transposed_times(self, y: Tensor) -> Tensor:
        """Upper bound of `C^T y` for y >= 0."""
        return self.weights.magnitude_transposed_times(y)

    def columns(self, x: MidRad) -> MidRad:
        """Enclosure of `C x`, column by column: x of shape (groups, n, columns)."""
        return self.weights.columns(x)


@dataclass(frozen=True, eq=False)
class Sorted:
    """`u = sort(v)` of each row of v, (groups, n), with the derivatives that it may have."""

    name: str
    source: Combination
    shape: Shape
    permutations: Permutations

    @property
    def gain(self) -> float:
        """Bound of the l2 norm."""
        return 1.0

    def magnitude_times(self, x: Tensor) -> Tensor:
        """Upper bound of `C x` for x >= 0 and every derivative C."""
        return self.permutations.magnitude_times(x)

    def magnitude_transposed_times(self, y: Tensor) -> Tensor:
        """Upper bound of `C^T y` for y >= 0."""
        return self.permutations.magnitude_transposed_times(y)

    def columns(self, x: MidRad) -> MidRad:
        """Enclosure of `C x`, column by column: x of shape (groups, n, columns)."""
        return self.permutations.columns(x)


@dataclass(frozen=True, eq=False)
class Subtotal:
    """`u = v`: a combination as a value of its own, so that a matrix multiplies it and not each of its terms."""

    name: str
    source: Combination
    shape: Shape

    @property
    def gain(self) -> float:
        """That of the identity."""
        return 1.0

    def magnitude_times(self, x: Tensor) -> Tensor:
        """x itself."""
        return x

    magnitude_transposed_times = magnitude_times

    def columns(self, x: MidRad) -> MidRad:
        """The columns themselves."""
        return x


@dataclass(frozen=True, eq=False)
class Combination:
    """`sum over k of A_k u_k` (the constant part is left out): maps per number of the basis value."""

    shape: Shape
    terms: Mapping[int, tuple[LinearMap, ...]] = field(default_factory=dict)

    def mapped(self, change: Callable[[LinearMap], LinearMap], shape: Shape) -> Combination:
        """Every map followed by the same linear map."""
        terms = {k: tuple(change(a) for a in maps) for k, maps in self.terms.items()}
        return Combination(shape, terms)

    @property
    def maps(self) -> tuple[LinearMap, ...]:
        """All maps, whatever they act on."""
        return tuple(one for several in self.terms.values() for one in several)

    def plus(self, other: Combination) -> Combination:
        """The sum; maps of one basis value are added where their sum is again a simple map."""
        terms = {k: list(maps) for k, maps in self.terms.items()}
        for k, maps in other.terms.items():
            for new in maps:
                _add_map(terms.setdefault(k, []), new)
        return Combination(self.shape, {k: tuple(maps) for k, maps in terms.items()})


Basis = StateLeaf | Elementwise | Normalised | Largest | Sorted | Subtotal


@dataclass(frozen=True, eq=False)
class Jacobian:
    """The expression: basis values in order of computation, and the leaves of the new state over them.

    `paired` is that of the same function with the largest and the smallest of the same values as a sort, for products
    of norms; None where there are none.
    """

    bases: tuple[Basis, ...]
    outputs: tuple[Combination, ...]
    paired: Jacobian | None = None


def _add_map(maps: list[LinearMap], new: LinearMap) -> None:
    for number, old in enumerate(maps):
        total = old.plus(new)
        if total is not None:
            maps[number] = total
            return
    maps.append(new)


Rule = Callable[["Builder", Node], Combination]
_RULES: dict[str, Rule] = {}


def register_jacobian(*operations: str) -> Callable[[Rule], Rule]:
    """Register `rule(builder, node) -> Combination` for operations of the graph's vocabulary."""

    def register(rule: Rule) -> Rule:
        for operation in operations:
            _RULES[operation] = rule
        return rule

    return register


class Refine(Protocol):
    """What narrows the enclosures of pre-activations while an expression is built."""

    def __call__(self, builder: Builder, value: int, combination: Combination, box: MidRad, /) -> MidRad:
        """The enclosure of a value with this combination, or a narrower one."""

    def near(self, builder: Builder, value: int, combination: Combination, /) -> Near | None:
        """How far the value is from its value at a centre, in l2; None where that is not known."""


class Builder:
    """Builds the expression node by node.

    Args:
        graph: the operator graph.
        constants: its state-independent values; notes which inputs were used.
        boxes: enclosures of the state's leaves for local slopes, or None for slopes that hold everywhere.
        refine: narrows enclosures of pre-activations.
        expansion: which sums become values of their own; None for none.
    """

    def __init__(
        self,
        graph: ConcreteGraph,
        constants: Constants,
        boxes: list[MidRad] | None = None,
        refine: Refine | None = None,
        expansion: Expansion | None = None,
    ) -> None:
        self.graph, self.constants, self._defined = graph, constants, Defined(graph, constants)
        self._expansion = expansion or Expansion()
        self.bases: list[Basis] = []
        self.combinations: dict[int, Combination] = {}
        self._refine = refine
        self._masks = Masks(graph, constants)
        self._everywhere: dict[int, Enclosed | None] | None = None
        self._boxes: dict[int, Enclosed] | None = None if boxes is None else {}
        for position, value in enumerate(graph.state):
            shape = graph.shape(value)
            self.combinations[value] = self._basis_value(StateLeaf(position, shape), shape)
            if boxes is not None and self._boxes is not None:
                self._boxes[value] = boxes[position]

    def build(self) -> Jacobian:
        """The whole expression.

        Raises:
            UnsupportedOperationError: a state-dependent operation without a rule, by name; a constant that is not a
                finite number.
        """
        for node in self.graph.nodes:
            if node.output not in self.graph.state_dependent:
                continue
            rule = _RULES.get(node.op)
            if rule is None:
                raise UnsupportedOperationError(node.source, "has no Lipschitz rule")
            for value in node.operands:
                if not self.depends(value) and not self._masks.allows(node, value):
                    self._defined.require(value)
            self._masks.follow(node)
            self.combinations[node.output] = rule(self, node)
            if self._expansion.gathers_sum(self.combinations[node.output].maps):
                self._gather(node.output)
            self.constants.touched |= node.inputs  # inputs that sizes and indices were computed from
            self._enclose(node)
        for value in self.graph.outputs:
            if not self.depends(value):
                self._defined.require(value)
        outputs = tuple(
            self.combinations.get(value, Combination(self.graph.shape(value))) for value in self.graph.outputs
        )
        return Jacobian(tuple(self.bases), outputs)

    def depends(self, value: int) -> bool:
        """Whether a value depends on the state."""
        return value in self.graph.state_dependent

    def factor(self, value: int, cost: Callable[[LinearMap], float]) -> Combination:
        """The combination of a value that is about to be multiplied, at this cost for each of its maps."""
        if self._expansion.gathers_factor(self.combinations[value].maps, cost):
            self._gather(value)
        return self.combinations[value]

    def elementwise(self, node: Node, name: str, attributes: Mapping[str, object]) -> Combination:
        """A new basis value `s(v)`, its slopes taken over v's enclosure where there is one."""
        value = node.operands[0]
        source = self.combinations[value]
        enclosure = self._box(value, source)
        lower, upper = slope_range(name, attributes, enclosure)
        function = Function(name, attributes, value)
        return self._basis_value(Elementwise(name, source, node.shape, lower, upper, function), node.shape)

    def sloped(self, node: Node, value: int, lower: Tensor | float, upper: Tensor | float, name: str) -> Combination:
        """A new basis value with slopes in a known range, from a value that broadcasts to the node's shape."""
        source = self.broadcast(self.combinations[value], node.shape)
        ends = [end.expand(node.shape) if isinstance(end, Tensor) else end for end in (lower, upper)]
        return self._basis_value(Elementwise(name, source, node.shape, ends[0], ends[1]), node.shape)

    def weighted(self, source: Combination, slopes: MidRad, name: str) -> Combination:
        """A new basis value: what broadcasts to the slopes' shape, times slopes in these ranges."""
        shape = tuple(slopes.shape)
        source = self.broadcast(source, shape)
        return self._basis_value(Elementwise(name, source, shape, slopes.lower(), slopes.upper()), shape)

    def box_of(self, value: int) -> MidRad | None:
        """The enclosure of a state-dependent value on the region; None where the region is all states."""
        return self._box(value, self.combinations[value])

    def range_of(self, node: Node, value: int) -> MidRad:
        """An enclosure of a state-dependent operand of a node, on the region or for every state.

        Raises:
            UnsupportedOperationError: the operand is not bounded.
        """
        if self._boxes is not None:
            known: Enclosed | None = self._box(value, self.combinations[value])
        else:
            if self._everywhere is None:
                self._everywhere = ranges_over(self.graph, self.constants, dict.fromkeys(self.graph.state))
            known = self._everywhere[value]
        box = None if known is None else as_midrad(known)
        if box is None or not box.is_finite():
            why = "of two state-dependent tensors has no Lipschitz constant unless both are bounded; give a region"
            raise UnsupportedOperationError(node.source, why)
        return box

    def normalised(self, node: Node) -> Combination:
        """A new basis value `layer_norm(v)` or `rms_norm(v)`, its derivatives over v's box where there is one."""
        value, rule = node.operands[0], Normalisation.of(node)
        source = self.combinations[value]
        box = self._box(value, source)
        if box is None:
            slopes = rule.everywhere(math.prod(node.shape) // rule.size)
        else:
            slopes = rule.over(
                rule.grouped(box), None if self._refine is None else self._refine.near(self, value, source)
            )
        return self._basis_value(Normalised(node.op, source, node.shape, slopes), node.shape)

    def softmax(self, node: Node, dims: tuple[int, ...]) -> Combination:
        """A new basis value `softmax(v)`; `dims` is the order in which its dimension comes last."""
        value, shape = node.operands[0], tuple(node.shape[d] for d in dims)
        source = self.combinations[value].mapped(lambda a: a.permuted(dims), shape)
        box, size = self._box(value, self.combinations[value]), shape[-1]
        if box is None:
            slopes = softmax_slopes(math.prod(shape[:-1]), size)
        else:
            slopes = softmax_over(box.apply_exact(lambda t: t.permute(dims).reshape(-1, size)))
        return self._basis_value(Normalised(node.op, source, shape, slopes), shape)

    def largest(self, node: Node, dims: tuple[int, ...], size: int, sign: float) -> Combination:
        """A new basis value `max_j sign v_j` over rows of `size` entries of v with its dimensions in this order."""
        value, shape = node.operands[0], tuple(self.graph.shape(node.operands[0])[d] for d in dims)
        rows, factor = (math.prod(shape) // size, size), MidRad.exact(torch.tensor(sign, dtype=torch.float64))
        moved = self.combinations[value].mapped(lambda a: a.permuted(dims).reshaped(rows).scaled(factor), rows)
        box = self._box(value, self.combinations[value])
        if box is None:
            weights = weights_everywhere(rows)
        else:
            ordered = box.apply_exact(lambda t: t.permute(dims).reshape(rows))
            weights = weights_over(MidRad(sign * ordered.mid, ordered.rad))
        return self._basis_value(Largest(node.op, moved, rows[:1], weights), rows[:1])

    def sorted(self, node: Node, dims: tuple[int, ...]) -> Combination:
        """A new basis value `sort(v)`; `dims` is the order in which its dimension comes last."""
        value, shape = node.operands[0], tuple(node.shape[d] for d in dims)
        rows = (math.prod(shape[:-1]), shape[-1])
        moved = self.combinations[value].mapped(lambda a: a.permuted(dims).reshaped(rows), rows)
        box = self._box(value, self.combinations[value])
        known = None if box is None else box.apply_exact(lambda t: t.permute(dims).reshape(rows))
        choices = Permutations(None) if known is None else permutations_over(known)
        result = self._basis_value(Sorted(node.op, moved, rows, choices), rows)
        return result.mapped(lambda a: a.reshaped(shape), shape)

    def broadcast(self, combination: Combination, shape: Shape) -> Combination:
        """The combination expanded to a larger shape by torch's broadcasting rules."""
        if combination.shape == shape:
            return combination
        lead = (1,) * (len(shape) - len(combination.shape))
        padded = lead + combination.shape
        result = combination.mapped(lambda a: a.reshaped(padded), padded)
        for axis, (size, target) in enumerate(zip(padded, shape, strict=True)):
            if size != target:
                copies = SparseMatrix.from_index_select(torch.zeros(target, dtype=torch.int64), 1)
                result = along(result, axis, copies)
        return result

    def _basis_value(self, basis: Basis, shape: Shape) -> Combination:
        self.bases.append(basis)
        return Combination(shape, {len(self.bases) - 1: (LinearMap(shape),)})

    def _gather(self, value: int) -> None:
        source = self.combinations[value]
        self.combinations[value] = self._basis_value(Subtotal("sum", source, source.shape), source.shape)

    def _box(self, value: int, source: Combination) -> MidRad | None:
        if self._boxes is None:
            return None
        box = as_midrad(self._boxes[value])
        if self._refine is not None:
            box = self._refine(self, value, source, box)
            self._boxes[value] = box
        return box

    def _enclose(self, node: Node) -> None:
        if self._boxes is None:
            return
        operands = [self._boxes[v] if self.depends(v) else self.constants[v] for v in node.operands]
        self._boxes[node.output] = enclose_node(node, operands)


def along(combination: Combination, axis: int, matrix: DenseMatrix | SparseMatrix) -> Combination:
    """A matrix applied along one dimension."""
    shape = (*combination.shape[:axis], matrix.shape[0], *combination.shape[axis + 1 :])
    return combination.mapped(lambda a: a.along(axis, matrix), shape)


def integer(node: Node, name: str) -> int:
    """An integer attribute."""
    value = node.attributes[name]
    if not isinstance(value, int):
        raise UnsupportedOperationError(node.source, f"has attribute {name} = {value!r}, an integer is needed")
    return value


def integers(node: Node, name: str) -> tuple[int, ...]:
    """An attribute that is a tuple of integers."""
    value = node.attributes[name]
    if not isinstance(value, tuple):
        raise UnsupportedOperationError(node.source, f"has attribute {name} = {value!r}, integers are needed")
    return value
