"""Values of the operator graph as exact affine functions of the last nonlinear layer's result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from deqops._errors import UnsupportedOperationError
from deqops.graph import Node

from ._dyadic import Array, Dyadic


@dataclass(frozen=True, eq=False)
class Affine:
    """`linear h + constant`, h the values of basis `basis`; the constant is within `radius` of `middle`.

    Attributes:
        basis: 0 for the state, k for the result of the k-th nonlinear layer, None where the value depends on neither.
        linear: (*shape, entries of h), exact; None without a basis.
        middle: (*shape); None where the constant may be anything (it depends on free inputs).
        radius: (*shape); None for an exact constant.
        inputs: positions of the inputs whose values are used up in these numbers.
    """

    shape: tuple[int, ...]
    basis: int | None = None
    linear: Dyadic | None = None
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


def moved(value: Affine, change: Callable[[Array], Array], shape: tuple[int, ...]) -> Affine:
    """Entries in another order, repeated or dropped; `change` acts on leading dimensions."""
    linear, middle, radius = (
        None if part is None else part.rearranged(change) for part in (value.linear, value.middle, value.radius)
    )
    return replace(value, shape=shape, linear=linear, middle=middle, radius=radius)


def _tail(array: Array, ndim: int) -> tuple[int, ...]:
    return tuple(array.shape[ndim:])


def reshape(node: Node, value: Affine) -> Affine:
    """Another shape with the same entries in the same order."""
    ndim = len(value.shape)
    return moved(value, lambda a: a.reshape(*node.shape, *_tail(a, ndim)), node.shape)


def permute(node: Node, value: Affine) -> Affine:
    """Dimensions in another order."""
    dims: Any = node.attributes["dims"]
    return moved(value, lambda a: np.transpose(a, (*dims, *range(len(dims), a.ndim))), node.shape)


def expand(node: Node, value: Affine) -> Affine:
    """Broadcast to a larger shape."""
    return broadcast(value, node.shape)


def broadcast(value: Affine, shape: tuple[int, ...]) -> Affine:
    """By torch's rules."""
    if value.shape == shape:
        return value
    ndim, lead = len(value.shape), (1,) * (len(shape) - len(value.shape))

    def change(a: Array) -> Array:
        return np.broadcast_to(a.reshape(*lead, *a.shape), (*shape, *_tail(a, ndim)))

    return moved(value, change, shape)


def sliced(node: Node, value: Affine) -> Affine:
    """A slice of one dimension."""
    dim, start, stop, step = (node.attributes[name] for name in ("dim", "start", "stop", "step"))
    index: Any = (slice(None),) * int(dim) + (slice(start, stop, step),)  # type: ignore[arg-type]
    return moved(value, lambda a: a[index], node.shape)


def select(node: Node, value: Affine) -> Affine:
    """One place of one dimension."""
    index: Any = (slice(None),) * int(node.attributes["dim"]) + (node.attributes["index"],)  # type: ignore[arg-type]
    return moved(value, lambda a: a[index], node.shape)


def cat(node: Node, *values: Affine) -> Affine:
    """Along one dimension."""
    parts = _with_common_basis(node, *values)
    dim: Any = node.attributes["dim"]
    linear, middle, radius = (
        _concatenated([getattr(part, name) for part in parts], dim) for name in ("linear", "middle", "radius")
    )
    return Affine(node.shape, parts[0].basis, linear, middle, radius, _used(values))


def _concatenated(pieces: list[Dyadic | None], dim: int) -> Dyadic | None:
    known = [piece for piece in pieces if piece is not None]
    if len(known) < len(pieces):
        return None
    exponent = max(piece.exponent for piece in known)
    return Dyadic(np.concatenate([piece.at(exponent) for piece in known], axis=dim), exponent)


def _with_common_basis(node: Node, *values: Affine) -> tuple[Affine, ...]:
    """The same values with a linear part each, and with a radius each where one has one."""
    bases = {value.basis for value in values if value.basis is not None}
    if len(bases) > 1:
        raise UnsupportedOperationError(
            node.source, "joins values of different depth, so this is no composition of layers"
        )
    basis = next(iter(bases), None)
    width = next((v.linear.shape[-1] for v in values if v.linear is not None), 0)
    inexact = any(value.radius is not None for value in values)
    result = []
    for value in values:
        linear = value.linear
        if basis is not None and linear is None:
            linear = Dyadic.zeros((*value.shape, width))
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
    """The product of a value and an exact constant."""
    value, factor = (right, left) if _is_value(right, left) else (left, right)
    exact, shape = _exact_factor(node, factor), node.shape
    value = broadcast(value, shape)
    scale = exact.rearranged(lambda a: np.broadcast_to(a, shape))
    return Affine(
        node.shape,
        value.basis,
        None if value.linear is None else value.linear * scale.rearranged(lambda a: a[..., None]),
        None if value.middle is None else value.middle * scale,
        None if value.radius is None else value.radius * abs(scale),
        _used((left, right)),
    )


def div(node: Node, left: Affine, right: Affine) -> Affine:
    """The quotient by powers of two; other quotients are no dyadic numbers."""
    inverse = _exact_factor(node, right).reciprocal()
    if inverse is None:
        raise UnsupportedOperationError(node.source, "divides by a number that is no power of two")
    return mul(node, left, replace(right, middle=inverse))


def matmul(node: Node, left: Affine, right: Affine) -> Affine:
    """The product of matrices, one of them an exact constant."""
    flip = _is_value(right, left)
    value, factor = (right, left) if flip else (left, right)
    matrix = _exact_factor(node, factor)

    def product(part: Dyadic, by: Dyadic) -> Dyadic:
        if not flip:
            return part @ by
        if len(value.shape) == 1 and part.mantissas.ndim > 1:  # rows of vectors: A x is x A^T
            return part @ by.rearranged(lambda a: a.T)
        return by @ part

    linear = None
    if value.linear is not None:
        spread = max(len(factor.shape) - len(value.shape), 0) if len(value.shape) > 1 else 0
        first = value.linear.rearranged(
            lambda a: np.moveaxis(a, -1, 0).reshape(a.shape[-1], *(1,) * spread, *a.shape[:-1])
        )
        linear = product(first, matrix).rearranged(lambda a: np.moveaxis(a, 0, -1))
    middle = None if value.middle is None else product(value.middle, matrix)
    radius = None if value.radius is None else product(value.radius, abs(matrix))
    return Affine(node.shape, value.basis, linear, middle, radius, _used((left, right)))


def total(node: Node, value: Affine) -> Affine:
    """Sums over dimensions."""
    dims: Any = node.attributes["dims"]
    keep = bool(node.attributes["keepdim"])
    return moved(value, lambda a: np.asarray(a.sum(axis=tuple(dims), keepdims=keep), dtype=object), node.shape)


def same(node: Node, value: Affine) -> Affine:
    """A cast is the identity of the exact map."""
    return value


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
    "cat": cat,
    "add": add,
    "sub": sub,
    "neg": neg,
    "mul": mul,
    "div": div,
    "matmul": matmul,
    "sum": total,
    "cast": same,
}
