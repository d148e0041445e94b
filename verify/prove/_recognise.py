"""Reads layers off an operator graph: exact weights, and shifts that are exact, enclosed, or free."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from deqops._errors import InputError, UnsupportedOperationError
from deqops.graph import ConcreteGraph, Node

from .._enclosures import Constants, as_midrad
from ._affine import RULES, Affine, constant
from ._dyadic import Dyadic
from ._forms import LARGEST, Forms, Index
from ._network import Activation, Layer, Network, Shift


def recognise(graph: ConcreteGraph, *, known: bool, problem: int = 0) -> Network:
    """The network that a graph computes for one problem of the batch.

    Args:
        graph: the operator at fixed shapes.
        known: whether the inputs have the values that the graph holds; otherwise they may have any.
        problem: which problem of the batch; without a batch, which column of a state whose columns are separate
            problems with the same matrices (every linear graph network).

    Raises:
        UnsupportedOperationError: G is no composition of layers `phi(A z + c)`; names the operation.
        InputError: the state is no single tensor, or too large, or there is no such problem.
    """
    if len(graph.state) != 1:
        raise InputError(f"state: it has {len(graph.state)} tensors; networks of layers on a single tensor are proven")
    chain, used = _Reader(graph, known).chain()
    chain, count, kind = _one_of(chain, graph.shape(graph.state[0]), graph.batch_dims, problem)
    names = tuple(graph.input_names[position] for position in sorted(used))
    return Network(tuple(_layer(one) for one in chain), graph.fingerprint, names, count, kind)


def term_sizes(graph: ConcreteGraph, problem: int) -> list[Fraction]:
    """For a single layer, the moduli of the terms that make up each entry of the shift, added up."""
    chain, _ = _Reader(graph, known=True, moduli=True).chain()
    chain, _, _ = _one_of(chain, graph.shape(graph.state[0]), graph.batch_dims, problem)
    middle = chain[0].middle
    if len(chain) != 1 or middle is None:
        raise InputError("operator: it is no single layer with a known shift")
    return [Fraction(int(m), 1 << middle.exponent) for m in middle.mantissas]


@dataclass(frozen=True, eq=False)
class _Wide:
    """A layer before its rows have exponents of their own."""

    activation: Activation
    matrix: Forms
    middle: Dyadic | None
    radius: Dyadic | None


class _Reader:
    """Follows the graph node by node; with `moduli`, every number and every difference counts by its modulus."""

    def __init__(self, graph: ConcreteGraph, known: bool, moduli: bool = False) -> None:
        self._graph, self._known, self._moduli = graph, known, moduli
        self._rules = RULES | {"neg": RULES["cast"], "sub": RULES["add"]} if moduli else RULES
        self._enclosed = Constants(graph)
        self._values: dict[int, Affine] = {}
        self._free: set[int] = set()
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
        rule = self._rules.get(node.op)
        if rule is None:
            raise UnsupportedOperationError(node.source, "is in no layer that the proofs know")
        result = rule(node, *operands)
        self._used |= node.inputs
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
        middle, radius = (
            None if part is None else part.rearranged(lambda a: a.reshape(flat))
            for part in (source.middle, source.radius)
        )
        self._layers.append(_Wide(activation, source.linear, middle, radius))
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
                self._free.add(value)
                return constant(None, shape, None, frozenset())
            finite = bool(leaf.tensor.isfinite().all())  # the infinities that a `where` leaves out are no numbers
            number = Dyadic.of(leaf.tensor) if finite else None
            return constant(abs(number) if number is not None and self._moduli else number, shape, None, used)
        node = self._graph.producer[value]
        operands = [self._value(v) for v in node.operands]
        used = node.inputs.union(*(operand.inputs for operand in operands))
        if self._free.intersection(node.operands) or (used and not self._known):
            self._free.add(value)
            return constant(None, shape, None, frozenset())
        rule = self._rules.get(node.op)
        if rule is not None and all(operand.exact for operand in operands):
            try:
                return replace(rule(node, *operands), inputs=used)
            except UnsupportedOperationError:
                pass  # a quotient, say: it is enclosed instead
        box = as_midrad(self._enclosed[value])
        return constant(_exact(box.mid, node.source), shape, _exact(box.rad, node.source), used)


def _exact(tensor: Any, name: str) -> Dyadic:
    try:
        return Dyadic.of(tensor)
    except ValueError as error:
        raise InputError(f"{name}: {error}; nothing is proven of such a map") from None


def _basis(number: int, shape: tuple[int, ...]) -> Affine:
    return Affine(shape, number, Forms.identity(math.prod(shape)), Dyadic.zeros(shape))


def _is_basis(value: Affine, number: int) -> bool:
    if value.basis != number or value.linear is None or value.middle is None:
        return False
    return value.exact and value.middle.is_zero() and value.linear.is_identity()


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


def _one_of(chain: list[_Wide], shape: tuple[int, ...], batch_dims: int, problem: int) -> tuple[list[_Wide], int, str]:
    """The layers of one problem of a batch, or of one column; of how many, and what they are."""
    size, count, kind = math.prod(shape), 1, ""
    if batch_dims and shape[0] > 1:
        count, kind = shape[0], "problem"
    elif math.prod(shape[batch_dims:-1]) > 1 and shape[-1] > 1 and _columns_apart(chain, shape[-1]):
        count, kind = shape[-1], "column"
    if not 0 <= problem < count:
        raise InputError(f"problem: got {problem}; there are {count}")
    if count == 1:
        return chain, 1, ""
    places = np.arange(size)
    own = (
        places[problem::count] if kind == "column" else places[problem * size // count : (problem + 1) * size // count]
    )
    return _selected_chain(chain, own, kind), count, kind


def _columns_apart(chain: list[_Wide], count: int) -> bool:
    """Whether the layers treat every column by itself, and all by the same matrices."""
    for wide in chain:
        forms = wide.matrix
        if forms.count % count or forms.width % count or bool((forms.rows % count != forms.columns % count).any()):
            return False
        tables = [_column(forms, number, count) for number in range(count)]
        if any(table != tables[0] for table in tables[1:]):
            return False
    return True


def _column(forms: Forms, number: int, count: int) -> dict[tuple[int, int], int]:
    own = np.flatnonzero(forms.rows % count == number)
    places = zip((forms.rows[own] // count).tolist(), (forms.columns[own] // count).tolist(), strict=True)
    return dict(zip(places, forms.mantissas[own].tolist(), strict=True))


def _selected_chain(chain: list[_Wide], own: Index, kind: str) -> list[_Wide]:
    """The rows that matter to the entries `own` of the result, found from the last layer backwards.

    Raises:
        InputError: the new state of one problem depends on another problem's state.
    """
    rows, kept = own, []
    for depth in range(len(chain) - 1, -1, -1):
        wide = chain[depth]
        forms = wide.matrix.chosen(rows)
        columns = own if depth == 0 else np.unique(forms.columns)
        if not np.isin(forms.columns, columns).all():
            raise InputError(f"operator: a {kind} depends on the state of another one; use batch_dims=0")
        if columns.size == 0:
            raise InputError("operator: it does not depend on the state, so there is nothing to prove")
        forms = replace(forms, width=len(columns), columns=np.searchsorted(columns, forms.columns))
        parts = (_picked(part, rows) for part in (wide.middle, wide.radius))
        kept.append(_Wide(wide.activation, forms, *parts))
        rows = columns
    return kept[::-1]


def _picked(part: Dyadic | None, rows: Index) -> Dyadic | None:
    return None if part is None else part.rearranged(lambda a: a[rows])


# ------------------------------------------------------------------------------------------------ rows


def _layer(wide: _Wide) -> Layer:
    if wide.matrix.count * wide.matrix.width > LARGEST:
        raise InputError(
            f"operator: a layer with {wide.matrix.count} rows and {wide.matrix.width} columns is over the {LARGEST} "
            "entries that are proven"
        )
    mantissas = wide.matrix.dense()
    exponents = []
    for row in mantissas:
        present = np.flatnonzero(row)
        spare = _spare(row[present], wide.matrix.exponent)
        exponents.append(wide.matrix.exponent - spare)
        row[present] = row[present] >> spare
    return Layer(wide.activation, tuple(exponents), mantissas, _shift(wide), wide.matrix.slack)


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
