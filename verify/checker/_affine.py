"""How each affine operation of the graph acts on forms; `affine` is the registry.

A rule receives the forms of the operands (None for one that does not depend on the state) and may ask for the
values of such constants. Whatever is not affine here is `_network.py`'s business, or refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from flint import arb

from deqops.graph import Node

from . import _arithmetic as ball
from . import _matrix as matrices
from ._convolution import Convolution, attributes_of
from ._extreme import Weights
from ._interval import Interval, exactly, moved
from ._matrix import Matrix
from ._normalisation import Derivative
from ._permutations import Permutations
from ._refusal import Rejected
from ._softmax import Softmax
from ._stack import Stack
from ._term import Form, Shape, Term, identity_form, zero_form
from ._values import Values, dims_of, indices, integer


@dataclass(frozen=True, eq=False)
class Source:
    """A value that forms refer to.

    A leaf of the state (`form` is None), or `s(form)` reshaped to `shape`, the difference quotients of s
    within `slope` in modulus and between the ends of `interval`: each one number, or one per entry of `shape`.
    `moved` marks a mere reshape; `name` is that of the function, "" where the step is affine. Where there is a
    `linear` map, it is applied to the form, and s is the identity. Where there is a `derivative`, s is a normalisation,
    a softmax, an extreme or a sort with these derivatives, and `slope` bounds the l2 norm of each group's at its
    entries; `interval` says nothing then.
    """

    shape: Shape
    form: Form | None = None
    slope: Any = None
    moved: bool = False
    interval: tuple[Any, Any] = (arb(1), arb(1))
    name: str = ""
    linear: Convolution | Stack | None = None
    derivative: Derivative | Softmax | Weights | Permutations | None = None


@dataclass(eq=False)
class Network:
    """The sources so far, in order of computation; the first are the leaves of the state."""

    constants: Values
    scores: frozenset[int] = frozenset()
    sources: list[Source] = field(default_factory=list)

    def add(self, source: Source) -> Form:
        """The new source as a form."""
        self.sources.append(source)
        return identity_form(len(self.sources) - 1, source.shape)

    def require_constant(self, node: Node, value: int) -> None:
        """Refuse a constant that is not finite; scores may be masked by minus infinity."""
        if node.output in self.scores and self.constants.is_known(value):
            self.constants.scores(value)
        else:
            self.constants.must_be_finite(value)

    def along(self, form: Form, dim: int, matrix: Matrix) -> Form:
        """The form, then a matrix along one dimension."""
        shape = (*form.shape[:dim], matrix.shape[0], *form.shape[dim + 1 :])
        result = form.map(lambda term: term.along(dim, matrix), shape)
        if result is not None:
            return result
        return self.along(self.add(Source(form.shape, form, arb(1))), dim, matrix)

    def reshaped(self, form: Form, shape: Shape) -> Form:
        """The form's entries in the same order under another shape."""
        if shape == form.shape:
            return form
        if [n for n in shape if n != 1] == [n for n in form.shape if n != 1]:
            return _mapped(form, lambda term: term.squeezed(shape), shape)
        only = form.only()
        if only is not None and only[1].is_identity():
            before = self.sources[only[0]]
            if before.moved and before.form is not None:
                return self.reshaped(before.form, shape)
        return self.add(Source(shape, form, arb(1), moved=True))

    def expanded(self, form: Form, shape: Shape) -> Form:
        """The form broadcast to a larger shape."""
        result = self.reshaped(form, (1,) * (len(shape) - len(form.shape)) + form.shape)
        for dim, (size, target) in enumerate(zip(result.shape, shape, strict=True)):
            if size not in (1, target):
                raise Rejected(f"a value of shape {form.shape} does not broadcast to {shape}")
            if size != target:
                result = self.along(result, dim, matrices.gather(np.zeros(target, dtype=np.int64), 1))
        return result

    def times(self, form: Form, values: ball.Balls) -> Form:
        """The form times a constant that broadcasts to its shape."""
        shape = (1,) * (len(form.shape) - values.ndim) + values.shape
        varying = [dim for dim, size in enumerate(shape) if size > 1]
        if not ball.all_finite(values):
            raise Rejected("a factor is NaN, infinite or not enclosed")
        if not varying:
            factor = values.reshape(-1)[0] if values.size else arb(0)
            return _mapped(form, lambda term: term.multiplied(factor), form.shape)
        if len(varying) == 1:
            return self.along(form, varying[0], matrices.diagonal(values.reshape(-1)))
        slope = np.broadcast_to(ball.absolute(values), form.shape)
        signed = np.broadcast_to(values, form.shape)
        return self.add(Source(form.shape, form, slope, interval=(signed, signed)))

    def permuted(self, form: Form, order: Shape) -> Form:
        """The form with its dimensions in another order."""
        shape = tuple(form.shape[d] for d in order)
        return _mapped(form, lambda term: term.permuted(order), shape)

    def from_left(self, factor: Interval, form: Form, shape: Shape) -> Form:
        """`A x` as torch.matmul has it, the result under this shape."""
        columns = form.shape if len(form.shape) > 1 else (*form.shape, 1)
        matrices = factor if factor.middle.ndim > 1 else moved(factor, lambda t: t.reshape(1, -1))
        return self.reshaped(self._stacked(self.reshaped(form, columns), matrices), shape)

    def from_right(self, form: Form, factor: Interval, shape: Shape) -> Form:
        """`x B`, which is `(B^T x^T)^T`, the result under this shape."""
        rows = form.shape if len(form.shape) > 1 else (1, *form.shape)
        matrices = factor if factor.middle.ndim > 1 else moved(factor, lambda t: t.reshape(-1, 1))
        batch = np.broadcast_shapes(matrices.middle.shape[:-2], rows[:-2])
        spread = self._turned(self.expanded(self.reshaped(form, rows), (*batch, *rows[-2:])))
        result = self._stacked(spread, moved(matrices, lambda t: np.swapaxes(t, -1, -2)))
        return self.reshaped(self._turned(result), shape)

    def _stacked(self, form: Form, matrices: Interval) -> Form:
        batch = np.broadcast_shapes(matrices.middle.shape[:-2], form.shape[:-2])
        spread = self.expanded(form, (*batch, *form.shape[-2:]))
        wide = moved(matrices, lambda t: np.broadcast_to(t, (*batch, *t.shape[-2:])))
        stage = Stack(wide, form.shape[-1])
        return self.add(Source(stage.out_shape, spread, arb(1), linear=stage))

    def _turned(self, form: Form) -> Form:
        rank = len(form.shape)
        return self.permuted(form, (*range(rank - 2), rank - 1, rank - 2))


Forms = Sequence[Form | None]
Rule = Callable[[Network, Node, Forms], Form]


def affine(network: Network, node: Node, forms: Forms) -> Form | None:
    """The form of a node that is affine in its state-dependent operands; None where it is not affine.

    Raises:
        Rejected: the operation has no rule for these operands.
    """
    rule = _RULES.get(node.op)
    return None if rule is None else rule(network, node, forms)


def refuse(node: Node, why: str) -> Rejected:
    """The reason that names an operation."""
    return Rejected(f"{node.source}: {why}")


def _mapped(form: Form, change: Callable[[Any], Any], shape: Shape) -> Form:
    result = form.map(change, shape)
    if result is None:
        raise Rejected("a linear map is too large to form")
    return result


def _first(node: Node, forms: Forms) -> Form:
    """The form of the first operand, the only one that may depend on the state."""
    first, *rest = forms
    if first is None or any(form is not None for form in rest):
        raise refuse(node, "depends on the state in an operand for which the checker has no rule")
    return first


def _cast(network: Network, node: Node, forms: Forms) -> Form:
    if not node.dtype.is_floating_point:
        raise refuse(node, "rounds the state to integers: a jump, with no Lipschitz constant")
    return _first(node, forms)


def _sum(network: Network, node: Node, forms: Forms) -> Form:
    total = zero_form(node.shape)
    for number, (form, value) in enumerate(zip(forms, node.operands, strict=True)):
        if form is None:
            network.require_constant(node, value)
            continue
        part = network.expanded(form, node.shape)
        sign = -1 if number == 1 and node.op == "sub" else 1
        total = total.plus(_mapped(part, partial(Term.multiplied, factor=sign), node.shape))
    return total


def _factors(network: Network, node: Node, forms: Forms) -> tuple[Form, ball.Balls]:
    a, b = forms
    if a is not None and b is not None:
        raise refuse(node, "of two state-dependent tensors has no rule in the checker")
    if a is not None:
        return a, network.constants.balls(node.operands[1])
    if b is not None:
        return b, network.constants.balls(node.operands[0])
    raise refuse(node, "does not depend on the state")


def _product(network: Network, node: Node, forms: Forms) -> Form:
    form, constant = _factors(network, node, forms)
    return network.times(network.expanded(form, node.shape), constant)


def _quotient(network: Network, node: Node, forms: Forms) -> Form:
    form = _first(node, forms)
    inverse = ball.array(arb(1) / network.constants.balls(node.operands[1]))
    return network.times(network.expanded(form, node.shape), inverse)


def _matmul(network: Network, node: Node, forms: Forms) -> Form:
    form, constant = _factors(network, node, forms)
    shape = tuple(node.shape)
    if constant.ndim > 2:
        known = exactly(constant)
        right = forms[0] is not None
        return network.from_right(form, known, shape) if right else network.from_left(known, form, shape)
    if forms[0] is not None:
        rows = constant.reshape(-1, 1).T if constant.ndim == 1 else constant.T
        dim = len(form.shape) - 1
    else:
        rows = constant.reshape(1, -1) if constant.ndim == 1 else constant
        dim = max(len(form.shape) - 2, 0)
    return network.reshaped(network.along(form, dim, matrices.from_dense(rows)), shape)


def _convolution(network: Network, node: Node, forms: Forms) -> Form:
    form, attributes = _first(node, forms), attributes_of(node)
    copies: tuple[Any, ...] = (None,) * (len(form.shape) - 2)
    if attributes.extra is None:
        form, copies = form.without_copies()
    convolution = Convolution(network.constants.balls(node.operands[1]), attributes, form.shape, copies)
    return network.add(Source(convolution.out_shape, form, arb(1), linear=convolution))


def _reduction(network: Network, node: Node, forms: Forms) -> Form:
    form, count = _first(node, forms), 1
    for dim in dims_of(node):
        size = form.shape[dim]
        count *= size
        form = network.along(form, dim, matrices.scatter(np.zeros(size, dtype=np.int64), 1))
    if node.op == "mean":
        if not count:
            raise refuse(node, "of no entries at all")
        form = _mapped(form, lambda term: term.multiplied(arb(1) / count), form.shape)
    return network.reshaped(form, node.shape)


def _selection(network: Network, node: Node, forms: Forms) -> Form:
    form, dim = _first(node, forms), integer(node, "dim")
    size = form.shape[dim]
    if node.op == "select":
        index = np.array([integer(node, "index")])
    else:
        index = np.arange(size)[integer(node, "start") : integer(node, "stop") : integer(node, "step")]
    return network.reshaped(network.along(form, dim, matrices.gather(indices(index, size), size)), node.shape)


def _index_select(network: Network, node: Node, forms: Forms) -> Form:
    form, dim = _first(node, forms), integer(node, "dim")
    index = network.constants.integers(node.operands[1])
    return network.along(form, dim, matrices.gather(indices(index, form.shape[dim]), form.shape[dim]))


def _index_add(network: Network, node: Node, forms: Forms) -> Form:
    base, index_form, source = forms
    dim, total = integer(node, "dim"), zero_form(node.shape)
    if index_form is not None:
        raise refuse(node, "has an index that depends on the state")
    for form, value in ((base, node.operands[0]), (source, node.operands[2])):
        if form is None:
            network.constants.must_be_finite(value)
    if base is not None:
        total = total.plus(base)
    if source is not None:
        index = indices(network.constants.integers(node.operands[1]), node.shape[dim])
        total = total.plus(network.along(source, dim, matrices.scatter(index, node.shape[dim])))
    return total


def _cat(network: Network, node: Node, forms: Forms) -> Form:
    dim, offset, total = integer(node, "dim"), 0, zero_form(node.shape)
    for form, value in zip(forms, node.operands, strict=True):
        size = network.constants.size(value, dim)
        if form is None:
            network.constants.must_be_finite(value)
        else:
            place = matrices.scatter(np.arange(offset, offset + size), node.shape[dim])
            total = total.plus(network.along(form, dim, place))
        offset += size
    return total


def _where(network: Network, node: Node, forms: Forms) -> Form:
    condition, *branches = forms
    if condition is not None:
        raise refuse(node, "chooses by the state: a jump, with no Lipschitz constant")
    mask = network.constants.integers(node.operands[0]).astype(bool)
    total = zero_form(node.shape)
    for form, value, keep in zip(branches, node.operands[1:], (mask, ~mask), strict=True):
        if form is None:
            network.require_constant(node, value)
        else:
            factor = ball.balls((int(k) for k in keep.reshape(-1)), keep.shape)
            total = total.plus(network.times(network.expanded(form, node.shape), factor))
    return total


_RULES: dict[str, Rule] = {
    "add": _sum,
    "sub": _sum,
    "neg": lambda network, node, forms: _mapped(_first(node, forms), lambda term: term.multiplied(-1), node.shape),
    "cast": _cast,
    "mul": _product,
    "div": _quotient,
    "matmul": _matmul,
    "conv": _convolution,
    "conv_transpose": _convolution,
    "sum": _reduction,
    "mean": _reduction,
    "slice": _selection,
    "select": _selection,
    "index_select": _index_select,
    "index_add": _index_add,
    "cat": _cat,
    "where": _where,
    "reshape": lambda network, node, forms: network.reshaped(_first(node, forms), node.shape),
    "expand": lambda network, node, forms: network.expanded(_first(node, forms), node.shape),
    "permute": lambda network, node, forms: _mapped(
        _first(node, forms), lambda term: term.permuted(dims_of(node)), node.shape
    ),
}
