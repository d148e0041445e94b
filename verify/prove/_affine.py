"""Values of the operator graph as exact affine functions of the last nonlinear layer's result."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from deqops._errors import UnsupportedOperationError
from deqops.graph import Node

from ._dyadic import Array, Dyadic
from ._forms import Forms, Index, from_matrix, sums


@dataclass(frozen=True, eq=False)
class Affine:
    """`linear h + constant`, h the values of basis `basis`; the constant is within `radius` of `middle`.

    Attributes:
        basis: 0 for the state, k for the result of the k-th nonlinear layer, None where the value depends on neither.
        linear: one form for each entry, in row-major order; None without a basis.
        middle: (*shape); None where the constant may be anything (it depends on free inputs).
        radius: (*shape); None for an exact constant.
        inputs: positions of the inputs whose values are used up in these numbers.
    """

    shape: tuple[int, ...]
    basis: int | None = None
    linear: Forms | None = None
    middle: Dyadic | None = None
    radius: Dyadic | None = None
    inputs: frozenset[int] = frozenset()

    @property
    def exact(self) -> bool:
        """Whether the constant is known exactly."""
        return self.middle is not None and self.radius is None


def constant(middle: Dyadic | None, shape: tuple[int, ...], radius: Dyadic | None, inputs: frozenset[int]) -> Affine:
    """A value that depends on no basis."""
    return Affine(shape, middle=middle, radius=None if radius is None or radius.is_zero() else radius, inputs=inputs)


# ------------------------------------------------------------------------------------------------ moving entries


def moved(value: Affine, change: Callable[[Any], Any], shape: tuple[int, ...]) -> Affine:
    """Entries in another order, repeated or dropped; `change` acts on arrays of the value's shape."""
    middle, radius = (None if part is None else part.rearranged(change) for part in (value.middle, value.radius))
    linear = None if value.linear is None else value.linear.moved(change, value.shape)
    return replace(value, shape=shape, linear=linear, middle=middle, radius=radius)


def reshape(node: Node, value: Affine) -> Affine:
    """Another shape with the same entries in the same order."""
    return moved(value, lambda a: a.reshape(node.shape), node.shape)


def permute(node: Node, value: Affine) -> Affine:
    """Dimensions in another order."""
    dims: Any = node.attributes["dims"]
    return moved(value, lambda a: np.transpose(a, dims), node.shape)


def expand(node: Node, value: Affine) -> Affine:
    """Broadcast to a larger shape."""
    return broadcast(value, node.shape)


def broadcast(value: Affine, shape: tuple[int, ...]) -> Affine:
    """By torch's rules."""
    return value if value.shape == shape else moved(value, lambda a: np.broadcast_to(a, shape), shape)


def sliced(node: Node, value: Affine) -> Affine:
    """A slice of one dimension."""
    dim, start, stop, step = (node.attributes[name] for name in ("dim", "start", "stop", "step"))
    index: Any = (slice(None),) * int(dim) + (slice(start, stop, step),)  # type: ignore[arg-type]
    return moved(value, lambda a: a[index], node.shape)


def select(node: Node, value: Affine) -> Affine:
    """One place of one dimension."""
    index: Any = (slice(None),) * int(node.attributes["dim"]) + (node.attributes["index"],)  # type: ignore[arg-type]
    return moved(value, lambda a: a[index], node.shape)


def index_select(node: Node, value: Affine, index: Affine) -> Affine:
    """Places of one dimension."""
    places, dim = _places(node, index), int(node.attributes["dim"])  # type: ignore[arg-type]
    return replace(moved(value, lambda a: np.take(a, places, axis=dim), node.shape), inputs=_used((value, index)))


def cat(node: Node, *values: Affine) -> Affine:
    """Along one dimension: places in a long row of all entries."""
    parts = _with_common_basis(node, *values)
    offsets = np.cumsum([0, *(math.prod(part.shape) for part in parts)])
    pairs = zip(offsets[:-1], parts, strict=True)
    numbers = [first + np.arange(math.prod(part.shape)).reshape(part.shape) for first, part in pairs]
    order = np.concatenate(numbers, axis=int(node.attributes["dim"])).reshape(-1)  # type: ignore[arg-type]
    middle, radius = (_long([getattr(part, name) for part in parts]) for name in ("middle", "radius"))
    linear = None
    for first, part in zip(offsets[:-1], parts, strict=True):
        if part.linear is not None:
            own = replace(part.linear, count=int(offsets[-1]), rows=part.linear.rows + first)
            linear = own if linear is None else linear + own
    middle, radius = (
        None if part is None else part.rearranged(lambda a: a[order].reshape(node.shape)) for part in (middle, radius)
    )
    chosen = None if linear is None else linear.chosen(order)
    return Affine(node.shape, parts[0].basis, chosen, middle, radius, _used(values))


def _long(pieces: list[Dyadic | None]) -> Dyadic | None:
    known = [piece for piece in pieces if piece is not None]
    if len(known) < len(pieces):
        return None
    exponent = max(piece.exponent for piece in known)
    return Dyadic(np.concatenate([piece.at(exponent).reshape(-1) for piece in known]), exponent)


def _with_common_basis(node: Node, *values: Affine) -> tuple[Affine, ...]:
    """The same values, with forms each where one has some, and with a radius each where one has one."""
    bases = {value.basis for value in values if value.basis is not None}
    if len(bases) > 1:
        raise UnsupportedOperationError(
            node.source, "joins values of different depth, so this is no composition of layers"
        )
    basis = next(iter(bases), None)
    width = next((v.linear.width for v in values if v.linear is not None), 0)
    inexact = any(value.radius is not None for value in values)
    result = []
    for value in values:
        linear = value.linear
        if basis is not None and linear is None:
            none: Index = np.zeros(0, dtype=np.int64)
            linear = Forms(math.prod(value.shape), width, none, none, none.astype(object), 0)
        radius = Dyadic.zeros(value.shape) if inexact and value.radius is None else value.radius
        result.append(replace(value, basis=basis, linear=linear, radius=radius))
    return tuple(result)


# ------------------------------------------------------------------------------------------------ arithmetic


def add(node: Node, left: Affine, right: Affine) -> Affine:
    """The sum."""
    a, b = _with_common_basis(node, broadcast(left, node.shape), broadcast(right, node.shape))
    return Affine(
        node.shape,
        a.basis,
        None if a.linear is None or b.linear is None else a.linear + b.linear,
        None if a.middle is None or b.middle is None else a.middle + b.middle,
        None if a.radius is None or b.radius is None else a.radius + b.radius,
        _used((left, right)),
    )


def neg(node: Node, value: Affine) -> Affine:
    """The negative."""
    linear = None if value.linear is None else -value.linear
    return replace(value, linear=linear, middle=None if value.middle is None else -value.middle)


def sub(node: Node, left: Affine, right: Affine) -> Affine:
    """The difference."""
    return add(node, left, neg(node, right))


def mul(node: Node, left: Affine, right: Affine) -> Affine:
    """The product of a value and a constant: an exact one, or one with a relative error that the forms carry."""
    value, factor = (right, left) if _is_value(right, left) else (left, right)
    value, factor = broadcast(value, node.shape), broadcast(factor, node.shape)
    slack = _relative(factor) if value.linear is not None and _vanishes(value) else None
    scale = _exact_factor(node, factor if slack is None else replace(factor, radius=None))
    return Affine(
        node.shape,
        value.basis,
        None if value.linear is None else value.linear.scaled(scale, slack or Fraction(0)),
        None if value.middle is None else value.middle * scale,
        None if value.radius is None else value.radius * abs(scale),
        _used((left, right)),
    )


def _vanishes(value: Affine) -> bool:
    """Whether the constant is exactly 0, so that nothing is lost when a factor is not exact."""
    return value.exact and value.middle is not None and value.middle.is_zero()


def _relative(factor: Affine) -> Fraction | None:
    """The largest relative error of a constant's entries; None where one that is not exact may be 0."""
    if factor.middle is None or factor.radius is None:
        return None
    exponent = max(factor.middle.exponent, factor.radius.exponent)
    pairs = zip(factor.middle.at(exponent).flat, factor.radius.at(exponent).flat, strict=True)
    errors = [(abs(int(m)), int(r)) for m, r in pairs if r]
    if any(m == 0 for m, _ in errors):
        return None
    worst = max((Fraction(r, m) for m, r in errors), default=Fraction(0))
    return Fraction(-(-worst.numerator * 2**60 // worst.denominator), 2**60)


def div(node: Node, left: Affine, right: Affine) -> Affine:
    """The quotient by powers of two; other quotients are no dyadic numbers."""
    inverse = _exact_factor(node, right).reciprocal()
    if inverse is None:
        raise UnsupportedOperationError(node.source, "divides by a number that is no power of two")
    return mul(node, left, replace(right, middle=inverse))


def matmul(node: Node, left: Affine, right: Affine) -> Affine:
    """The product of a value and an exact constant matrix."""
    flip = _is_value(right, left)
    value, factor = (right, left) if flip else (left, right)
    matrix = _exact_factor(node, factor)

    def product(part: Dyadic, by: Dyadic) -> Dyadic:
        return by @ part if flip else part @ by

    linear = None
    if value.linear is not None:
        linear = value.linear.combined(_contraction(node, value.shape, matrix, flip))
    middle = None if value.middle is None else product(value.middle, matrix)
    radius = None if value.radius is None else product(value.radius, abs(matrix))
    return Affine(node.shape, value.basis, linear, middle, radius, _used((left, right)))


def _contraction(node: Node, shape: tuple[int, ...], matrix: Dyadic, flip: bool) -> Forms:
    """The product's entries as forms in the value's entries."""
    if matrix.mantissas.ndim > 2:
        raise UnsupportedOperationError(node.source, "with a constant of more than two dimensions is not read")
    table = matrix.rearranged(lambda a: a.reshape(-1, 1) if a.ndim == 1 and not flip else a)
    table = table.rearranged(lambda a: a[None, :] if a.ndim == 1 else a)
    if flip:  # (p, k) times (.., k, m)
        table = table.rearranged(lambda a: a.T)
    contracted = len(shape) - (2 if flip and len(shape) > 1 else 1)
    places = np.moveaxis(np.arange(math.prod(shape)).reshape(shape), contracted, -1)  # (.., k)
    outer = places.reshape(-1, places.shape[-1])
    forms = from_matrix(table.rearranged(lambda a: a.T))  # row m of these is what makes entry m
    results = np.arange(outer.shape[0] * forms.count).reshape(*places.shape[:-1], forms.count)
    if flip and len(shape) > 1:  # entry (.., p, m) of the result is entry (.., m, p) here
        results = np.empty_like(results)
        target = np.arange(results.size).reshape(*places.shape[:-2], forms.count, places.shape[-2])
        results[...] = np.swapaxes(target, -1, -2)
    flat = results.reshape(-1, forms.count)
    return Forms(
        flat.size,
        math.prod(shape),
        flat[:, forms.rows].reshape(-1),
        outer[:, forms.columns].reshape(-1),
        np.tile(forms.mantissas, outer.shape[0]),
        forms.exponent,
    )


def total(node: Node, value: Affine) -> Affine:
    """Sums over dimensions."""
    dims: Any = node.attributes["dims"]
    kept = tuple(1 if d in dims else size for d, size in enumerate(value.shape))
    places = np.broadcast_to(np.arange(math.prod(kept)).reshape(kept), value.shape).reshape(-1)
    middle, radius = (
        None if part is None else part.rearranged(lambda a: np.asarray(a.sum(axis=tuple(dims))).reshape(node.shape))
        for part in (value.middle, value.radius)
    )
    linear = None if value.linear is None else value.linear.combined(sums(places, math.prod(kept)))
    return replace(value, shape=node.shape, linear=linear, middle=middle, radius=radius)


def index_add(node: Node, base: Affine, index: Affine, source: Affine) -> Affine:
    """`base` with `source[e]` added at place `index[e]` of one dimension."""
    places, dim = _places(node, index), int(node.attributes["dim"])  # type: ignore[arg-type]
    targets = np.take(np.arange(math.prod(node.shape)).reshape(node.shape), places, axis=dim).reshape(-1)
    linear = None if source.linear is None else source.linear.combined(sums(targets, math.prod(node.shape)))

    def scattered(part: Dyadic | None) -> Dyadic | None:
        if part is None:
            return None
        result: Array = np.zeros(math.prod(node.shape), dtype=object)
        np.add.at(result, targets, part.mantissas.reshape(-1))
        return Dyadic(result.reshape(node.shape), part.exponent)

    moved_there = replace(
        source, shape=node.shape, linear=linear, middle=scattered(source.middle), radius=scattered(source.radius)
    )
    return replace(add(node, base, moved_there), inputs=_used((base, index, source)))


def same(node: Node, value: Affine) -> Affine:
    """A cast is the identity of the exact map."""
    return value


def _places(node: Node, index: Affine) -> Index:
    return np.array([int(place) for place in _exact_factor(node, index).mantissas.flat], dtype=np.int64)


def _is_value(one: Affine, other: Affine) -> bool:
    """Whether `one` is what the other multiplies."""
    return one.basis is not None or (other.basis is None and not one.exact)


def _exact_factor(node: Node, factor: Affine) -> Dyadic:
    if factor.basis is not None:
        raise UnsupportedOperationError(node.source, "of two values that depend on the state is no layer")
    if factor.middle is None:
        raise UnsupportedOperationError(
            node.source, "has a factor that depends on free inputs; give --inputs to prove the map for these inputs"
        )
    if factor.radius is not None:
        raise UnsupportedOperationError(node.source, "has a factor that is no exact dyadic number")
    return factor.middle


def _used(values: tuple[Affine, ...]) -> frozenset[int]:
    return frozenset[int]().union(*(value.inputs for value in values))


RULES: dict[str, Callable[..., Affine]] = {
    "reshape": reshape,
    "permute": permute,
    "expand": expand,
    "slice": sliced,
    "select": select,
    "index_select": index_select,
    "cat": cat,
    "add": add,
    "sub": sub,
    "neg": neg,
    "mul": mul,
    "div": div,
    "matmul": matmul,
    "sum": total,
    "index_add": index_add,
    "cast": same,
}
