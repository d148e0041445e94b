"""Reads layers off an operator graph: exact weights, and shifts that are exact, enclosed, or free."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from deqops._errors import InputError, UnsupportedOperationError
from deqops.graph import ConcreteGraph, Node

from .._enclosures import Constants, as_midrad
from ._affine import RULES, Affine, constant
from ._dyadic import Array, Dyadic
from ._network import Activation, Layer, Network, Shift

LARGEST = 4_000_000
"""Entries of a dense matrix that is read off a graph."""


def recognise(graph: ConcreteGraph, *, known: bool, problem: int = 0) -> Network:
    """The network that a graph computes for one problem of the batch.

    Args:
        graph: the operator at fixed shapes.
        known: whether the inputs have the values that the graph holds; otherwise they may have any.
        problem: which problem of the batch.

    Raises:
        UnsupportedOperationError: G is no composition of layers `phi(A z + c)`; names the operation.
        InputError: the state is no single tensor, or too large, or there is no such problem.
    """
    if len(graph.state) != 1:
        raise InputError(f"state: it has {len(graph.state)} tensors; networks of layers on a single tensor are proven")
    shape = graph.shape(graph.state[0])
    count = shape[0] if graph.batch_dims else 1
    if not 0 <= problem < count:
        raise InputError(f"problem: got {problem}; the batch has {count}")
    reader = _Reader(graph, known)
    chain, used = reader.chain()
    chain = _of_problem(chain, count, problem)
    names = tuple(graph.input_names[position] for position in sorted(used))
    return Network(tuple(_layer(one) for one in chain), graph.fingerprint, names)


@dataclass(frozen=True, eq=False)
class _Wide:
    """A layer before its rows have exponents of their own."""

    activation: Activation
    matrix: Dyadic
    middle: Dyadic | None
    radius: Dyadic | None


class _Reader:
    """Follows the graph node by node."""

    def __init__(self, graph: ConcreteGraph, known: bool) -> None:
        self._graph, self._known = graph, known
        self._enclosed = Constants(graph)
        self._values: dict[int, Affine] = {}
        self._layers: list[_Wide] = []
        self._used: frozenset[int] = frozenset()
        (state,) = graph.state
        self._values[state] = _basis(0, graph.shape(state))

    def chain(self) -> tuple[list[_Wide], frozenset[int]]:
        """The layers, and the inputs whose values are in them."""
        for node in self._graph.nodes:
            if node.output in self._graph.state_dependent:
                self._values[node.output] = self._follow(node)
        (output,) = self._graph.outputs
        last = self._value(output)
        self._used |= last.inputs
        if not self._layers or not _is_basis(last, len(self._layers)):
            self._append(Activation("identity"), last, "output")
        return self._layers, self._used

    def _follow(self, node: Node) -> Affine:
        operands = [self._value(v) for v in node.operands]
        activation = _activation(node)
        if activation is not None:
            return self._append(activation, operands[0], node.source)
        rule = RULES.get(node.op)
        if rule is None:
            raise UnsupportedOperationError(node.source, "is in no layer that the proofs know")
        result = rule(node, *operands)
        self._used |= node.inputs
        if result.linear is not None and result.linear.mantissas.size > LARGEST:
            raise InputError(f"operator: a matrix with over {LARGEST} entries is too large to be read exactly")
        return result

    def _append(self, activation: Activation, source: Affine, name: str) -> Affine:
        depth = len(self._layers)
        if source.basis is None:
            raise InputError("operator: it does not depend on the state, so there is nothing to prove")
        if source.basis != depth or source.linear is None:
            raise UnsupportedOperationError(
                name, "takes a value that skips a layer, so the map is no composition of layers"
            )
        self._used |= source.inputs
        flat = math.prod(source.shape)
        linear = source.linear.rearranged(lambda a: a.reshape(flat, -1))
        middle, radius = (
            None if part is None else part.rearranged(lambda a: a.reshape(flat))
            for part in (source.middle, source.radius)
        )
        self._layers.append(_Wide(activation, linear, middle, radius))
        return _basis(depth + 1, source.shape)

    def _value(self, value: int) -> Affine:
        if value not in self._values:
            self._values[value] = self._constant(value)
        return self._values[value]

    def _constant(self, value: int) -> Affine:
        """A state-independent value: exactly, else enclosed, else free."""
        shape = self._graph.shape(value)
        if value in self._graph.leaves:
            leaf = self._graph.leaves[value]
            own = frozenset({leaf.position}) if leaf.kind == "input" else frozenset()
            used = own | leaf.inputs
            if leaf.ends is not None or (used and not self._known):
                return constant(None, shape, None, frozenset())
            return constant(_exact(leaf.tensor, leaf.name), shape, None, used)
        node = self._graph.producer[value]
        operands = [self._value(v) for v in node.operands]
        used = node.inputs.union(*(operand.inputs for operand in operands))
        rule = RULES.get(node.op)
        if rule is not None and all(operand.exact for operand in operands):
            try:
                return rule(node, *operands)
            except UnsupportedOperationError:
                pass  # a quotient, say: it is enclosed instead
        if any(operand.middle is None for operand in operands) or (used and not self._known):
            return constant(None, shape, None, frozenset())
        box = as_midrad(self._enclosed[value])
        return constant(_exact(box.mid, node.source), shape, _exact(box.rad, node.source), used)


def _exact(tensor: Any, name: str) -> Dyadic:
    try:
        return Dyadic.of(tensor)
    except ValueError as error:
        raise InputError(f"{name}: {error}; nothing is proven of such a map") from None


def _basis(number: int, shape: tuple[int, ...]) -> Affine:
    size = math.prod(shape)
    if size * size > LARGEST:
        raise InputError(
            f"state: {size} numbers make a dense matrix of {size * size} entries, over the {LARGEST} that are read"
        )
    linear = Dyadic.identity(size).rearranged(lambda a: a.reshape(*shape, size))
    return Affine(shape, number, linear, Dyadic.zeros(shape))


def _is_basis(value: Affine, number: int) -> bool:
    if value.basis != number or value.linear is None or not value.exact:
        return False
    matrix = value.linear.mantissas.reshape(math.prod(value.shape), -1)
    exact_identity = matrix.shape[0] == matrix.shape[1] and bool(
        (matrix == np.eye(len(matrix), dtype=object) * (1 << value.linear.exponent)).all()
    )
    return exact_identity and value.middle is not None and value.middle.is_zero()


# ------------------------------------------------------------------------------------------------ activations


def _activation(node: Node) -> Activation | None:
    """The activation of a node, None where it is none that the proofs know."""
    if node.op in ("tanh", "relu", "sigmoid"):
        return Activation(node.op)
    if node.op == "leaky_relu":
        slope = Fraction(_number(node, "negative_slope"))
        if abs(slope) > 1:
            raise UnsupportedOperationError(node.source, f"has slope {float(slope)}; the proofs take at most 1")
        return Activation("leaky_relu", (slope,))
    if node.op == "relu6":
        return Activation("clamp", (Fraction(0), Fraction(6)))
    if node.op in ("hardtanh", "clamp"):
        ends = (node.attributes.get("minimum"), node.attributes.get("maximum"))
        if None in ends:
            raise UnsupportedOperationError(node.source, "is proven with both ends only")
        return Activation("clamp", (Fraction(_number(node, "minimum")), Fraction(_number(node, "maximum"))))
    return None


def _number(node: Node, name: str) -> float:
    value = node.attributes[name]
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise UnsupportedOperationError(node.source, f"has {name} = {value!r}")
    return float(value)


# ------------------------------------------------------------------------------------------------ one problem


def _of_problem(chain: list[_Wide], count: int, problem: int) -> list[_Wide]:
    """The rows and columns of one problem of a batch, found from the last layer backwards.

    Raises:
        InputError: the problem's new state depends on another problem's state.
    """
    if count == 1:
        return chain
    size = chain[-1].matrix.shape[0] // count
    own = np.arange(problem * size, (problem + 1) * size)
    rows, kept = own, []
    for depth in range(len(chain) - 1, -1, -1):
        wide = chain[depth]
        mantissas = wide.matrix.mantissas[rows]
        columns = own if depth == 0 else np.flatnonzero((mantissas != 0).any(axis=0))
        if depth == 0 and bool((np.delete(mantissas, own, axis=1) != 0).any()):
            raise InputError(f"operator: problem {problem} depends on the state of another problem; use batch_dims=0")
        if columns.size == 0:
            columns = np.arange(1)
        kept.append(_selected(wide, rows, mantissas[:, columns]))
        rows = columns
    return kept[::-1]


def _selected(wide: _Wide, rows: Array, mantissas: Array) -> _Wide:
    def pick(part: Dyadic | None) -> Dyadic | None:
        return None if part is None else part.rearranged(lambda a: a[rows])

    return _Wide(wide.activation, Dyadic(mantissas, wide.matrix.exponent), pick(wide.middle), pick(wide.radius))


# ------------------------------------------------------------------------------------------------ rows


def _layer(wide: _Wide) -> Layer:
    exponents, rows = [], []
    for row in wide.matrix.mantissas:
        spare = _spare(row, wide.matrix.exponent)
        exponents.append(wide.matrix.exponent - spare)
        rows.append([int(m) >> spare for m in row])
    mantissas = np.array(rows, dtype=object).reshape(wide.matrix.shape)
    return Layer(wide.activation, tuple(exponents), mantissas, _shift(wide))


def _spare(numbers: Any, exponent: int) -> int:
    """How many factors of two all numbers share, at most the exponent."""
    common = 0
    for number in numbers:
        common |= int(number)
    return exponent if common == 0 else min(exponent, (common & -common).bit_length() - 1)


def _shift(wide: _Wide) -> Shift | None:
    if wide.middle is None:
        return None
    radius = wide.radius or Dyadic.zeros(wide.middle.shape)
    exponent = max(wide.middle.exponent, radius.exponent)
    values, slack = wide.middle.at(exponent), radius.at(exponent)
    spare = [_spare(pair, exponent) for pair in zip(values, slack, strict=True)]
    return Shift(
        tuple(exponent - s for s in spare),
        tuple(int(v) >> s for v, s in zip(values, spare, strict=True)),
        tuple(int(v) >> s for v, s in zip(slack, spare, strict=True)),
    )
