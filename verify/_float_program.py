"""How far the floating-point program of a graph may stray from the exact function, uniformly over a box.

A running error analysis (Higham, *Accuracy and Stability of Numerical Algorithms*, 3): every value v of the graph has
an enclosure over the box and a radius E with `|v^ - v| <= E` for the value v^ that torch computes on the CPU from the
same state. Per operation `E = (how the operands' errors pass through) + (the operation's own rounding)`.

Proven of IEEE arithmetic in the node's dtype (unit roundoff u): one rounding each of +, -, *, / and sqrt; sums of k
terms in any order, fused or not, err by `gamma_k` times the sum of moduli; a bias may enter the sum at any place.
ASSUMED, not proven: a library function (tanh, exp, ...) errs by at most `ulps` units in the last place. What underflows
is covered by a multiple of the smallest normal number, whether it is flushed to zero or not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from deqops._errors import InputError, UnsupportedOperationError
from deqops.graph import OF_COMPLEX, ConcreteGraph, Node

from . import _elementary as elementary
from . import _midrad as midrad
from ._enclosures import Enclosed, as_exact, as_midrad, enclose_leaf, enclose_node, move
from ._midrad import MidRad
from ._rounding import add_up, div_up, matmul_up, mul_up, sub_up, sum_up
from ._slopes import slope_range

_FORMATS = {torch.float32: (2.0**-24, 2.0**-126), torch.float64: (2.0**-53, 2.0**-1022)}
_SPARE = 8  # roundings of scale factors and the like, beside those of a sum


@dataclass(frozen=True, eq=False)
class Tracked:
    """An enclosure of the exact value and `|computed - exact| <= error`.

    Attributes:
        exact: the enclosure, or an exact integer or boolean tensor.
        error: float64, of the value's shape.
        dtype: as computed, or a coarser one.
        terms: the length of the sums in a matrix product, 0 for any other value.
        weak: maybe a Python number, which takes the dtype of the tensors beside it.
    """

    exact: Enclosed
    error: Tensor
    dtype: torch.dtype
    terms: int = 0
    weak: bool = False

    @property
    def computed(self) -> MidRad:
        """An enclosure of the computed value."""
        x = as_midrad(self.exact)
        return MidRad(x.mid, add_up(x.rad, self.error))


@dataclass(frozen=True)
class Format:
    """Unit roundoff and smallest normal number of a dtype, and the assumed accuracy of library functions."""

    dtype: torch.dtype
    u: float
    tiny: float
    largest: float
    ulps: float

    def gamma(self, terms: int) -> float:
        """Upper bound of `k u / (1 - k u)` with room for a few more roundings."""
        k = terms + _SPARE
        if not k * self.u <= 0.25:
            raise InputError(f"rounding: a sum of {terms} terms is too long to bound in this dtype")
        return k * self.u * (1 + 2 * k * self.u)


@dataclass(frozen=True)
class ProgramError:
    """`|G^(y) - G(y)|` per entry of each leaf, and the library functions about which something was assumed."""

    leaves: list[Tensor]
    assumed: tuple[str, ...]


def program_error(graph: ConcreteGraph, boxes: list[MidRad], ulps: float) -> ProgramError:
    """Bounds of `|G^(y) - G(y)|` for every state y in the boxes that the program's dtype holds.

    Raises:
        UnsupportedOperationError: an operation whose algorithm in torch is not known here, by name.
    """
    values: dict[int, Tracked] = {}
    for value, leaf in graph.leaves.items():
        exact = boxes[leaf.position] if leaf.kind == "state" else enclose_leaf(leaf)
        weak = leaf.kind == "literal" and leaf.tensor.ndim == 0
        zeros = torch.zeros(leaf.tensor.shape, dtype=torch.float64)
        values[value] = Tracked(exact, zeros, leaf.tensor.dtype, weak=weak)
    assumed: dict[str, None] = {}
    for node in graph.nodes:
        operands = [values[v] for v in node.operands]
        if node.op in _LIBRARY:
            assumed[node.op] = None
        values[node.output] = _tracked(node, operands, ulps)
    return ProgramError([values[v].error for v in graph.outputs], tuple(assumed))


def _tracked(node: Node, operands: list[Tracked], ulps: float) -> Tracked:
    exact = enclose_node(node, [t.exact for t in operands])
    if not isinstance(exact, MidRad):
        return _decided(node, _compared(node, operands, ulps), exact)
    rule = _RULES.get(node.op)
    if rule is None:
        raise UnsupportedOperationError(node.source, "has no rounding error rule")
    if node.source.endswith(OF_COMPLEX):
        raise UnsupportedOperationError(node.source, "is computed by torch in a way not known here")
    if node.op not in _ROUNDING_FREE and _base(node) not in _SOURCES.get(node.op, (node.op,)):
        raise UnsupportedOperationError(node.source, "is computed by torch in a way not known here")
    if not node.dtype.is_floating_point:
        return _decided(node, operands, exact)
    dtype = _computing_dtype(node, operands)
    format_ = _format(node, dtype, ulps)
    error = rule(node, [_in_dtype(dtype, t, format_) for t in operands], exact, format_)
    return Tracked(exact, _checked(exact, error.expand(node.shape), format_), dtype, _terms(node, operands))


def _base(node: Node) -> str:
    """ "linear" of "aten.linear.default"."""
    return node.source.split(".")[1]


def _terms(node: Node, operands: list[Tracked]) -> int:
    """Of a matrix product, also where a scale factor of it is a node of its own."""
    if node.op == "matmul":
        return as_midrad(operands[0].exact).shape[-1]
    return max(t.terms for t in operands) if node.op == "mul" else 0


def _computing_dtype(node: Node, operands: list[Tracked]) -> torch.dtype:
    """The operation's dtype or a coarser one: the coarsest of its tensors, float32 where all are numbers or integers.

    The graph's own dtype may be finer than torch's where all operands have dimension 0, since numbers are literals
    there. A coarser dtype only rounds more.
    """
    if node.op == "cast":
        return node.dtype
    found = {t.dtype for t in operands if t.dtype.is_floating_point and not t.weak}
    return max(found or {torch.float32}, key=lambda dtype: torch.finfo(dtype).eps)


def _format(node: Node, dtype: torch.dtype, ulps: float) -> Format:
    if dtype not in _FORMATS or torch.get_default_dtype() not in _FORMATS:
        raise UnsupportedOperationError(node.source, f"computes in {dtype}; only float32 and float64 are known")
    u, tiny = _FORMATS[dtype]
    return Format(dtype, u, tiny, torch.finfo(dtype).max / 4, ulps)


def _decided(node: Node, operands: list[Tracked], exact: Enclosed) -> Tracked:
    """Integers and conditions: the computed operands must give the same ones."""
    rounded = [bool((t.error != 0).any()) for t in operands]
    if any(rounded):
        again = enclose_node(node, [t.computed if r else t.exact for t, r in zip(operands, rounded, strict=True)])
        if isinstance(again, MidRad) or isinstance(exact, MidRad) or not torch.equal(again, exact):
            raise UnsupportedOperationError(node.source, "may be decided by rounding errors")
    return Tracked(exact, torch.zeros(node.shape, dtype=torch.float64), node.dtype)


def _compared(node: Node, operands: list[Tracked], ulps: float) -> list[Tracked]:
    """Floating numbers as torch compares them, in one dtype."""
    if not any(t.dtype.is_floating_point for t in operands):
        return operands
    dtype = _computing_dtype(node, operands)
    return [_in_dtype(dtype, t, _format(node, dtype, ulps)) for t in operands]


def _in_dtype(dtype: torch.dtype, operand: Tracked, f: Format) -> Tracked:
    """The operand as the operation's dtype holds it: torch casts numbers, integers and wider operands first."""
    kept = not operand.weak and (operand.dtype == dtype or (operand.dtype, dtype) == (torch.float32, torch.float64))
    if kept or operand.dtype == torch.bool:
        return operand
    x = as_midrad(operand.exact)
    same = x.is_exact() and bool((x.mid.to(dtype).to(torch.float64) == x.mid).all())
    if same and not bool((operand.error != 0).any()):
        return operand
    rounding = add_up(mul_up(operand.computed.magnitude(), f.u), f.tiny)
    return Tracked(operand.exact, add_up(operand.error, rounding), dtype, operand.terms)


def _checked(exact: MidRad, error: Tensor, f: Format) -> Tensor:
    """Infinite where the program may overflow or nothing is known; 0 where both are the same infinity."""
    size = add_up(exact.magnitude(), error)
    infinite = exact.mid.isinf() & (exact.rad == 0) & (error == 0)
    unknown = error.isnan() | ~(size <= f.largest)
    return torch.where(unknown & ~infinite, math.inf, error)


Rule = Callable[[Node, list[Tracked], MidRad, Format], Tensor]
_RULES: dict[str, Rule] = {}
_PRODUCTS = ("linear", "addmm", "baddbmm", "addmv")
_SOURCES: dict[str, tuple[str, ...]] = {
    "add": ("add", *_PRODUCTS),
    "sub": ("sub", "subtract", "rsub"),
    "mul": ("mul", "multiply", "add", "sub", "subtract", "rsub", *_PRODUCTS),
    "div": ("div", "divide", "true_divide"),
    "matmul": ("matmul", "mm", "bmm", "mv", "dot", "vdot", *_PRODUCTS),
    "sum": ("sum",),
    "mean": ("mean",),
    "index_add": ("index_add", "scatter_add"),
    "pow_scalar": ("pow",),
}
_MOVEMENTS = ("reshape", "permute", "expand", "slice", "select", "index_select", "cat", "where", "cast")
_ROUNDING_FREE = frozenset((*_MOVEMENTS, "maximum", "minimum", "neg", "abs", "relu", "relu6", "hardtanh", "clamp"))


def _rule(*operations: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        for operation in operations:
            _RULES[operation] = rule
        return rule

    return register


# -------------------------------------------------------------------------------------------------- arithmetic


@_rule("add", "sub")
def _sum_of_two(node: Node, operands: list[Tracked], exact: MidRad, f: Format) -> Tensor:
    a, b = operands
    passed = add_up(a.error, b.error)
    rounding = mul_up(add_up(exact.magnitude(), passed), f.u)
    if _base(node) in _PRODUCTS:
        # The bias may enter the product's sum at any place: gamma (|A^||B^| + |b|), of which `_matmul` has the first.
        size = add_up(a.computed.magnitude(), b.computed.magnitude())
        rounding = add_up(rounding, mul_up(size, f.gamma(max(a.terms, b.terms) + 1)))
    return add_up(passed, rounding)


@_rule("mul")
def _product(node: Node, operands: list[Tracked], exact: MidRad, f: Format) -> Tensor:
    a, b = operands
    x, y = as_midrad(a.exact).magnitude(), b.computed.magnitude()
    passed = add_up(mul_up(x, b.error), mul_up(a.error, y))
    rounding = mul_up(add_up(exact.magnitude(), passed), f.u)
    return add_up(passed, add_up(rounding, f.tiny))


@_rule("div")
def _quotient(node: Node, operands: list[Tracked], exact: MidRad, f: Format) -> Tensor:
    """`a^/b^ - a/b = (a^ - a)/b^ - (a/b) (b^ - b)/b^`; torch may multiply by the rounded reciprocal."""
    a, b = operands
    passed = div_up(add_up(a.error, mul_up(exact.magnitude(), b.error)), b.computed.mignitude())
    passed = torch.where(b.computed.mignitude() > 4 * f.tiny, passed, math.inf)  # nor does the reciprocal overflow
    rounding = mul_up(add_up(exact.magnitude(), passed), 4 * f.u)
    return add_up(passed, add_up(rounding, mul_up(add_up(a.computed.magnitude(), 1.0), f.tiny)))


@_rule("matmul")
def _matmul(node: Node, operands: list[Tracked], exact: MidRad, f: Format) -> Tensor:
    """`|A^B^ - AB| <= |A| EB + EA |B^|`, and `gamma_k |A^||B^|` for any order of summation."""
    a, b = operands
    x, y = as_midrad(a.exact).magnitude(), b.computed.magnitude()
    passed = add_up(matmul_up(x, b.error), matmul_up(a.error, y))
    terms = x.shape[-1]
    total = matmul_up(a.computed.magnitude(), y)
    rounding = add_up(mul_up(total, f.gamma(terms + 1)), 2.0 * (terms + 1) * f.tiny)
    error = add_up(passed, rounding)
    return torch.where(total <= f.largest, error, math.inf)


@_rule("sum", "mean")
def _reduction(node: Node, operands: list[Tracked], exact: MidRad, f: Format) -> Tensor:
    (x,) = operands
    dims: tuple[int, ...] = tuple(node.attributes["dims"])  # type: ignore[arg-type]
    keepdim = bool(node.attributes["keepdim"])
    if not dims:
        return x.error
    size, passed = x.computed.magnitude(), sum_up(x.error, dims, keepdim=keepdim)
    total = sum_up(size, dims, keepdim=keepdim)
    terms = max(size.numel() // max(total.numel(), 1), 1)
    error = add_up(passed, mul_up(total, f.gamma(terms)))
    error = torch.where(total <= f.largest, error, math.inf)
    return error if node.op == "sum" else add_up(div_up(error, float(terms)), f.tiny)


@_rule("index_add")
def _index_add(node: Node, operands: list[Tracked], exact: MidRad, f: Format) -> Tensor:
    base, index, source = operands
    rows, dim = as_exact(node, index.exact), int(node.attributes["dim"])  # type: ignore[arg-type]

    def gathered(a: Tensor, b: Tensor) -> Tensor:
        return midrad.index_add(MidRad.exact(a), dim, rows, MidRad.exact(b)).magnitude()

    additions = int(torch.bincount(rows).max()) if rows.numel() else 0
    total = gathered(base.computed.magnitude(), source.computed.magnitude())
    error = add_up(gathered(base.error, source.error), mul_up(total, f.gamma(additions + 1)))
    return torch.where(total <= f.largest, error, math.inf)


@_rule("cast")
def _cast(node: Node, operands: list[Tracked], exact: MidRad, f: Format) -> Tensor:
    return operands[0].error  # rounded by `_in_dtype`


# ---------------------------------------------------------------------------------------------- no rounding


@_rule("reshape", "permute", "expand", "slice", "select")
def _movement(node: Node, operands: list[Tracked], exact: MidRad, f: Format) -> Tensor:
    return move(node, operands[0].error)


@_rule("index_select")
def _index_select(node: Node, operands: list[Tracked], exact: MidRad, f: Format) -> Tensor:
    rows, dim = as_exact(node, operands[1].exact), int(node.attributes["dim"])  # type: ignore[arg-type]
    return operands[0].error.index_select(dim, rows)


@_rule("cat")
def _cat(node: Node, operands: list[Tracked], exact: MidRad, f: Format) -> Tensor:
    return torch.cat([t.error for t in operands], int(node.attributes["dim"]))  # type: ignore[arg-type]


@_rule("where")
def _where(node: Node, operands: list[Tracked], exact: MidRad, f: Format) -> Tensor:
    return torch.where(as_exact(node, operands[0].exact), operands[1].error, operands[2].error)


@_rule("maximum", "minimum")
def _extremum(node: Node, operands: list[Tracked], exact: MidRad, f: Format) -> Tensor:
    return torch.maximum(operands[0].error, operands[1].error)


@_rule("neg", "abs", "relu")
def _exact(node: Node, operands: list[Tracked], exact: MidRad, f: Format) -> Tensor:
    return operands[0].error


@_rule("relu6", "hardtanh", "clamp")
def _clamped(node: Node, operands: list[Tracked], exact: MidRad, f: Format) -> Tensor:
    """The ends are rounded to the dtype."""
    ends = [abs(float(v)) for v in node.attributes.values() if isinstance(v, int | float) and math.isfinite(v)]
    return add_up(operands[0].error, add_up(mul_up(max(ends, default=0.0), f.u), f.tiny if ends else 0.0))


# ------------------------------------------------------------------------------------------ elementary functions

_LIBRARY = {
    "tanh": 1,
    "sigmoid": 1,
    "silu": 1,
    "exp": 1,
    "expm1": 1,
    "log": 1,
    "log1p": 1,
    "erf": 1,
    "atan": 1,
    "gelu": 1,
    "elu": 1,
    "selu": 1,
    "softplus": 2,
    "mish": 3,
    "pow_scalar": 1,
}
"""Library calls in a row that torch's kernel makes; each is assumed to err by at most `ulps` ulp of its result."""
_ARITHMETIC = ("sqrt", "rsqrt", "reciprocal", "square", "leaky_relu", "hardswish")


@_rule(*_LIBRARY, *_ARITHMETIC)
def _elementary(node: Node, operands: list[Tracked], exact: MidRad, f: Format) -> Tensor:
    """`slope E` or the spread of values, and relative errors of the result, and absolute ones where terms cancel."""
    (x,) = operands
    computed = x.computed
    image = as_midrad(enclose_node(node, [computed]))
    relative = (2.0 * f.ulps * _LIBRARY.get(node.op, 0) + _SPARE) * f.u
    own = add_up(mul_up(image.magnitude(), relative), 1024.0 * f.tiny)
    own = add_up(own, mul_up(_cancelling(node, computed), relative))
    if node.op == "softplus":
        own = add_up(own, _jump(node, computed, f))
    if node.op == "pow_scalar":
        own = add_up(own, _of_exponent(node, computed, image, f))
    own = torch.where(computed.magnitude() <= f.largest * 2.0**-20, own, math.inf)  # no intermediate overflows
    same = (exact.mid == image.mid) & exact.mid.isinf() & (exact.rad == 0) & (image.rad == 0)
    return torch.where(same, 0.0, add_up(_passed(node, x, exact, image), own))


def _passed(node: Node, x: Tracked, exact: MidRad, image: MidRad) -> Tensor:
    """`|f(x^) - f(x)|`: the steepest slope between them times the error, or all that f's enclosures leave."""
    none = torch.zeros_like(x.error)
    if not bool((x.error != 0).any()):
        return none
    spread = torch.maximum(sub_up(image.upper(), exact.lower()), sub_up(exact.upper(), image.lower())).clamp(min=0)
    try:
        lower, upper = slope_range(node.op, node.attributes, x.computed)
    except UnsupportedOperationError:
        return torch.where(x.error == 0, none, spread)
    steepest = torch.maximum(torch.as_tensor(lower).abs(), torch.as_tensor(upper).abs()).to(torch.float64)
    passed = mul_up(x.error, steepest)
    return torch.where(x.error == 0, none, torch.where(passed < spread, passed, spread))


def _cancelling(node: Node, x: MidRad) -> Tensor:
    """The magnitude of terms that may cancel in the result, whose errors are then absolute."""
    size = x.magnitude()
    if node.op == "gelu":  # x/2 (1 + erf): the sum cancels for x < 0
        return size
    if node.op in ("elu", "selu"):  # a (e^x - 1)
        alpha = 1.7581 if node.op == "selu" else abs(float(node.attributes["alpha"]))  # type: ignore[arg-type]
        return torch.where(x.lower() < 0, alpha, 0.0).to(torch.float64)
    if node.op == "softplus" and node.attributes["beta"] != 1.0:  # the product beta x is rounded
        return size
    return torch.zeros_like(size)


def _jump(node: Node, x: MidRad, f: Format) -> Tensor:
    """torch returns x above the threshold: `log(1 + e^(beta x)) / beta - x <= e^(-beta x) / beta`."""
    beta, threshold = (float(node.attributes[name]) for name in ("beta", "threshold"))  # type: ignore[arg-type]
    if not threshold <= math.log(f.largest) - 2:
        raise UnsupportedOperationError("softplus", f"with threshold {threshold} lets its exponential overflow")
    slack = abs(threshold) * 2.0**-20  # the comparison is of rounded numbers
    edge = MidRad.exact(torch.tensor([threshold - slack], dtype=torch.float64))
    height = float(div_up(elementary.exp(midrad.neg(edge)).upper(), beta))
    reached = mul_up(x.upper(), beta) >= threshold - 2 * slack
    return torch.where(reached, height, 0.0).to(torch.float64)


def _of_exponent(node: Node, x: MidRad, image: MidRad, f: Format) -> Tensor:
    """torch rounds the exponent: `|x^r - x^p| <= |r - p| |log x| max(x^p, x^r)`, and `x^p |log x| < 1/p` for x <= 1."""
    p: float = float(node.attributes["exponent"])  # type: ignore[arg-type]
    gap = abs(float(torch.tensor(p, dtype=f.dtype)) - p)
    if gap == 0:
        return torch.zeros_like(x.mid)
    positive = x.lower() > 0
    logarithm = elementary.log(MidRad.exact(torch.where(positive, x.lower(), 1.0))).magnitude()
    logarithm = torch.maximum(logarithm, elementary.log(MidRad.exact(x.upper().clamp(min=1.0))).magnitude())
    drift = mul_up(logarithm, gap)
    moved = torch.where(drift <= 1.0, mul_up(mul_up(drift, 2.0), image.magnitude()), math.inf)
    return torch.where(positive, moved, add_up(moved, div_up(gap, p) if p > 0 else math.inf))
