"""Sums of products over named indices: einsum and the bilinear form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from deqops._errors import UnsupportedOperationError
from deqops.graph._arguments import (
    Arguments,
    combined,
    dim_of,
    matmul_of,
    permuted,
    rank_of,
    reduced,
    reshaped,
    selected,
)
from deqops.graph._items import Dynamic, Known
from deqops.graph._lowering import Lowering, lowers
from deqops.graph._rules_shape import diagonal_of


@dataclass(frozen=True, eq=False)
class Term:
    """A tensor and the names of its dimensions."""

    item: Dynamic
    names: str

    def size(self, names: str) -> int:
        """The product of the sizes of named dimensions."""
        return math.prod(self.item.shape[self.names.index(name)] for name in names)

    def sizes(self, names: str) -> tuple[int, ...]:
        """The sizes of named dimensions."""
        return tuple(self.size(name) for name in names)


# -------------------------------------------------------------------------------------------------------- names


_DOTS = "9876543210"  # the dimensions that "..." stands for, aligned on the right


def _parsed(low: Lowering, equation: str, items: list[Any]) -> tuple[list[Term], str]:
    """The terms and the names of the result; without an arrow these are the names that occur once, in order."""
    inputs, arrow, result = equation.replace(" ", "").partition("->")
    given, tensors = inputs.split(","), [low.as_dynamic(item) for item in items]
    if len(given) != len(tensors):
        raise UnsupportedOperationError(low.source, f"has {len(given)} terms for {len(tensors)} tensors")
    terms, dots = [], ""
    for text, tensor in zip(given, tensors, strict=True):
        own = _DOTS[len(_DOTS) - max(rank_of(tensor) - len(text) + 3, 0) :] if "..." in text else ""
        dots = max(dots, own, key=len)
        terms.append(Term(tensor, text.replace("...", own)))
    if not arrow:
        once = sorted(n for n in set(inputs) if n.isalpha() and inputs.count(n) == 1)
        result = "..." + "".join(once)
    names = result.replace("...", dots)
    if any(len(term.names) != rank_of(term.item) for term in terms):
        raise UnsupportedOperationError(low.source, f"reads tensors of other ranks as {equation!r:.40}")
    terms = [_on_diagonals(low, term) for term in terms]
    if len(set(names)) != len(names) or not set(names) <= set("".join(term.names for term in terms)):
        raise UnsupportedOperationError(low.source, f"gives {names!r:.40}")
    return terms, names


def _on_diagonals(low: Lowering, term: Term) -> Term:
    """A name that a tensor has twice stands for its diagonal."""
    for name in term.names:
        while term.names.count(name) > 1:
            first = term.names.index(name)
            second = term.names.index(name, first + 1)
            others = [k for k in range(len(term.names)) if k not in (first, second)]
            item = diagonal_of(low, term.item, first, second)
            term = Term(item, "".join(term.names[k] for k in others) + name)
    return term


def _arranged(low: Lowering, term: Term, order: str) -> Any:
    dims = tuple(term.names.index(name) for name in order)
    return term.item if dims == tuple(range(len(dims))) else permuted(low, term.item, dims)


def _summed(low: Lowering, term: Term, kept: str) -> Term:
    """The sum over the names that nobody asks for."""
    gone = tuple(d for d, name in enumerate(term.names) if name not in kept)
    if not gone:
        return term
    return Term(reduced(low, "sum", term.item, gone, keepdim=False), "".join(n for n in term.names if n in kept))


def _same_sizes(low: Lowering, a: Term, b: Term) -> tuple[Term, Term]:
    """Shared names must have one size; a dimension of size 1 beside another is summed away, as torch broadcasts it."""
    for name in set(a.names) & set(b.names):
        if a.size(name) != b.size(name):
            a, b = (_summed(low, t, t.names.replace(name, "")) if t.size(name) == 1 else t for t in (a, b))
    return a, b


# ----------------------------------------------------------------------------------------------------- products


def _product(low: Lowering, a: Term, b: Term, kept: str) -> Term:
    """Two terms in one, with the names that are `kept`."""
    a, b = _same_sizes(low, a, b)
    a, b = _summed(low, a, kept + b.names), _summed(low, b, kept + a.names)
    shared = [name for name in a.names if name in b.names]
    batch = "".join(name for name in shared if name in kept)
    inner = "".join(name for name in shared if name not in kept)
    left, right = ("".join(n for n in t.names if n not in shared) for t in (a, b))
    if not inner:
        return _outer(low, a, b, batch, left, right)
    if not batch and low.depends(b.item) and not low.depends(a.item):
        a, b, left, right = b, a, right, left
    return _contracted(low, a, b, batch, inner, left, right)


def _outer(low: Lowering, a: Term, b: Term, batch: str, left: str, right: str) -> Term:
    first = reshaped(low, _arranged(low, a, batch + left), a.sizes(batch + left) + (1,) * len(right), [])
    second = _arranged(low, b, batch + right)
    if left:
        second = reshaped(low, second, b.sizes(batch) + (1,) * len(left) + b.sizes(right), [])
    return Term(combined(low, "mul", first, second), batch + left + right)


def _contracted(low: Lowering, a: Term, b: Term, batch: str, inner: str, left: str, right: str) -> Term:
    """A product of matrices; beside one constant matrix the left names stay dimensions of their own."""
    shape_b = (*b.sizes(batch), b.size(inner), b.size(right))
    second = reshaped(low, _arranged(low, b, batch + inner + right), shape_b, [])
    rows = (*a.sizes(left),) if not batch else (a.size(left),)
    first = reshaped(low, _arranged(low, a, batch + left + inner), (*a.sizes(batch), *rows, a.size(inner)), [])
    result = matmul_of(low, first, second)
    shape = a.sizes(batch) + a.sizes(left) + b.sizes(right)
    return Term(reshaped(low, result, shape, []), batch + left + right)


@lowers("einsum")
def _einsum(low: Lowering, a: Arguments) -> Any:
    """From the left, two tensors at a time."""
    terms, names = _parsed(low, str(a["equation"]), list(a["tensors"]))
    total = terms[0]
    for position, term in enumerate(terms[1:], start=2):
        total = _product(low, total, term, names + "".join(later.names for later in terms[position:]))
    return _arranged(low, _summed(low, total, names), names)


@lowers("bilinear")
def _bilinear(low: Lowering, a: Arguments) -> Any:
    """sum_ij x_i W_kij y_j + b_k over the last dimension."""
    x, y, weight = (low.as_dynamic(a[name]) for name in ("input1", "input2", "weight"))
    outputs, first, second = weight.shape
    matrix = reshaped(low, permuted(low, weight, (1, 0, 2)), (first, outputs * second), [])
    forms = reshaped(low, matmul_of(low, x, matrix), (*x.shape[:-1], outputs, second), [])
    column = reshaped(low, y, (*y.shape, 1), [])
    result = reshaped(low, matmul_of(low, forms, column), (*x.shape[:-1], outputs), [])
    return result if a.get("bias") is None else combined(low, "add", result, a["bias"])


@lowers("_trilinear")
def _trilinear(low: Lowering, a: Arguments) -> Any:
    """The product of three tensors with further dimensions of size 1, summed over some."""
    parts = []
    for number in ("1", "2", "3"):
        part: Any = low.as_dynamic(a["i" + number])
        for dim in sorted(a["expand" + number]):
            part = reshaped(low, part, part.meta.unsqueeze(int(dim)).shape, [])
        parts.append(part)
    product = combined(low, "mul", combined(low, "mul", *parts[:2]), parts[2])
    dims = tuple(dim_of(dim, rank_of(product)) for dim in a["sumdim"])
    return reduced(low, "sum", product, dims, keepdim=False) if dims else product


@lowers("tensordot", "inner", "outer")
def _tensordot(low: Lowering, a: Arguments) -> Any:
    """As einsum: over listed pairs of dimensions, over the last ones, over none."""
    first, second = (low.as_dynamic(a[key]) for key in ("self", "vec2" if "vec2" in a else "other"))
    left, right = rank_of(first), rank_of(second)
    if low.source == "aten.tensordot.default":
        pairs = [(dim_of(i, left), dim_of(j, right)) for i, j in zip(a["dims_self"], a["dims_other"], strict=True)]
    else:
        pairs = [(left - 1, right - 1)] if low.source == "aten.inner.default" and left and right else []
    names = [chr(ord("a") + k) for k in range(left + right)]
    one, two = names[:left], names[left:]
    for i, j in pairs:
        two[j] = one[i]
    summed = {one[i] for i, _ in pairs}
    result = "".join(n for n in [*one, *two] if n not in summed)
    equation = f"{''.join(one)},{''.join(two)}->{result}"
    return _einsum(low, {"equation": equation, "tensors": [first, second]})


@lowers("linalg_cross")
def _cross(low: Lowering, a: Arguments) -> Any:
    """a_1 b_2 - a_2 b_1 and so on around."""
    x, y = low.as_dynamic(a["self"]), low.as_dynamic(a["other"])
    if rank_of(x) != rank_of(y):
        return NotImplemented
    dim = dim_of(a.get("dim", -1), rank_of(x))
    around = [Known(torch.arange(3).roll(-k)) for k in (1, 2)]
    turned = [[selected(low, t, dim, index) for index in around] for t in (x, y)]
    forward = combined(low, "mul", turned[0][0], turned[1][1])
    return combined(low, "sub", forward, combined(low, "mul", turned[0][1], turned[1][0]))
