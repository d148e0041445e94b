"""Extrema of the first and second derivatives of the elementwise functions.

Where the critical points have a closed form the extrema are exact expressions (`EXACT_SLOPES`, `EXACT_CURVATURES`).
For SiLU, Mish and GELU's tanh form they have none: sympy derives the derivatives, `slope_range` encloses their range
by branch and bound in ball arithmetic on an interval, and a derived bound holds beyond it.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import NamedTuple

import sympy
from flint import arb

x, w = sympy.symbols("x w", real=True)
E = sympy.exp(x)
SIGMOID = 1 / (1 + sympy.exp(-x))
NORMAL = sympy.exp(-(x**2) / 2) / sympy.sqrt(2 * sympy.pi)
CUBIC = sympy.Rational(*(0.044715).as_integer_ratio())
"""The coefficient in GELU's tanh form as programs hold it: a binary64 number."""
INNER = sympy.sqrt(2 / sympy.pi) * (x + CUBIC * x**3)

FUNCTIONS: dict[str, sympy.Expr] = {
    "tanh": sympy.tanh(x),
    "sigmoid": SIGMOID,
    "softplus": sympy.log(1 + E),
    "erf": sympy.erf(x),
    "atan": sympy.atan(x),
    "gelu": x * (1 + sympy.erf(x / sympy.sqrt(2))) / 2,
    "silu": x * SIGMOID,
    "mish": x * ((1 + E) ** 2 - 1) / ((1 + E) ** 2 + 1),  # x tanh(softplus(x))
    "gelu tanh": x * (1 + sympy.tanh(INNER)) / 2,
}


class Range(NamedTuple):
    """Infimum and supremum; exact expressions."""

    lower: sympy.Expr
    upper: sympy.Expr


def _of_polynomial(polynomial: sympy.Expr, low: int, high: int) -> Range:
    """The range of a polynomial in w on [low, high]: its values where the derivative vanishes, and at the ends."""
    critical = [root for root in sympy.solve(sympy.diff(polynomial, w), w) if low <= root <= high]
    values = [sympy.simplify(polynomial.subs(w, point)) for point in (*critical, low, high)]
    return Range(sympy.Min(*values), sympy.Max(*values))


def tanh_derivatives() -> tuple[sympy.Expr, sympy.Expr]:
    """tanh' and tanh'' as polynomials in w = tanh x, which lies in (-1, 1)."""
    first = 1 - w**2
    return first, sympy.expand(sympy.diff(first, w) * first)


def sigmoid_derivatives() -> tuple[sympy.Expr, sympy.Expr]:
    """sigmoid' and sigmoid'' as polynomials in w = sigmoid x, which lies in (0, 1)."""
    first = w * (1 - w)
    return first, sympy.expand(sympy.diff(first, w) * first)


def gelu_slopes() -> Range:
    """gelu'' = phi(x) (2 - x^2) vanishes at +-sqrt 2; gelu' tends to 0 and 1, between its two values there."""
    first = sympy.diff(FUNCTIONS["gelu"], x)
    assert sympy.simplify(sympy.diff(first, x) - NORMAL * (2 - x**2)) == 0
    low, high = (sympy.simplify(first.subs(x, point)) for point in (-sympy.sqrt(2), sympy.sqrt(2)))
    assert sympy.limit(first, x, -sympy.oo) == 0
    assert sympy.limit(first, x, sympy.oo) == 1
    return Range(low, high)


def hardswish_slopes() -> Range:
    """x (x + 3) / 6 between -3 and 3, 0 left of it, x right of it: its slope is (2x + 3) / 6 inside, so its ends."""
    inside = sympy.diff(x * (x + 3) / 6, x)
    ends = [inside.subs(x, -3), inside.subs(x, 3)]
    return Range(sympy.Min(*ends, 0), sympy.Max(*ends, 1))


def elu_slopes(alpha: sympy.Expr, scale: sympy.Expr) -> Range:
    """scale (x or alpha (e^x - 1)): slopes scale right of 0, between 0 and scale alpha left of it."""
    return Range(sympy.Integer(0), sympy.Max(scale, scale * alpha))


SELU = (
    sympy.Rational(*(1.0507009873554805).as_integer_ratio()),
    sympy.Rational(*(1.6732632423543772).as_integer_ratio()),
)
"""Scale and alpha of SELU as programs hold them."""


def silu_curvature() -> sympy.Expr:
    """silu'' = p' (2 - x tanh(x/2)), p = sigmoid: at most 2 p' <= 1/2, met at 0; at least -x p' >= -x e^-x >= -1/e."""
    second, first = sympy.diff(FUNCTIONS["silu"], x, 2), sympy.diff(SIGMOID, x)
    assert sympy.simplify((second - first * (2 - x * sympy.tanh(x / 2))).rewrite(sympy.exp)) == 0
    (peak,) = sympy.solve(sympy.diff(x * sympy.exp(-x), x), x)
    assert (x * sympy.exp(-x)).subs(x, peak) < sympy.Rational(1, 2)
    return sympy.simplify(second.subs(x, 0))


EXACT_SLOPES: dict[str, Range] = {
    "tanh": _of_polynomial(tanh_derivatives()[0], -1, 1),
    "sigmoid": _of_polynomial(sigmoid_derivatives()[0], 0, 1),
    "softplus": Range(sympy.Integer(0), sympy.Integer(1)),  # softplus' = sigmoid
    "softsign": Range(sympy.Integer(0), sympy.Integer(1)),  # 1 / (1 + |x|)^2
    "erf": Range(sympy.Integer(0), 2 / sympy.sqrt(sympy.pi)),  # 2 exp(-x^2) / sqrt(pi), largest at 0
    "atan": Range(sympy.Integer(0), sympy.Integer(1)),  # 1 / (1 + x^2)
    "gelu": gelu_slopes(),
    "hardswish": hardswish_slopes(),
    "selu": elu_slopes(SELU[1], SELU[0]),
    "sin": Range(sympy.Integer(-1), sympy.Integer(1)),
    "cos": Range(sympy.Integer(-1), sympy.Integer(1)),
    "abs": Range(sympy.Integer(-1), sympy.Integer(1)),
    **{name: Range(sympy.Integer(0), sympy.Integer(1)) for name in ("relu", "relu6", "hardtanh", "clamp")},
}

EXACT_CURVATURES: dict[str, sympy.Expr] = {
    "tanh": _of_polynomial(tanh_derivatives()[1], -1, 1).upper,
    "sigmoid": _of_polynomial(sigmoid_derivatives()[1], 0, 1).upper,
    "softplus": _of_polynomial(sigmoid_derivatives()[0], 0, 1).upper,  # softplus'' = sigmoid'
    "gelu": 2 * NORMAL.subs(x, 0),  # phi (2 - x^2) has its extrema at 0 and +-2
    "silu": silu_curvature(),
}
"""Suprema of |s''|."""

# ------------------------------------------------------------------------------------- by balls, where none is closed

REACH = 24
"""Beyond +-REACH the derivatives are bounded by `tail_bound`."""

BY_BALLS = ("silu", "mish", "gelu tanh")


def tail_bound(name: str) -> sympy.Expr:
    """A bound of `|s'(x) - (0 or 1)|` for |x| >= REACH, 0 on the left, 1 on the right; decreasing in |x|.

    SiLU: s' - 1 = -(1 - p) + x p (1 - p) with p = sigmoid x, 1 - p <= e^-x, and s'(x) + s'(-x) = 1.
    GELU's tanh form: s' - 1 = -(1 - tanh u)/2 + x u' sech^2(u)/2, 1 - tanh u <= 2 e^-2u, sech^2 u <= 4 e^-2u, again
    symmetric.
    Mish, right: s' - 1 = (E^2 (4x - 2) + E (4x - 4) - 4) / (E^2 + 2E + 2)^2 <= 4 x e^-2x; left, with E = e^x:
    |s'| <= E (4 |x| + 15) / 4. The larger of all, in |x|, is what is returned.
    """
    if name == "silu":
        return (1 + x) * sympy.exp(-x)
    if name == "gelu tanh":
        return sympy.exp(-2 * INNER) * (1 + 2 * x * sympy.diff(INNER, x))
    return sympy.exp(-x) * (4 * x + 15) / 4


def slope_range(name: str, tolerance: float = 3e-8) -> tuple[arb, arb]:
    """Balls, no wider than about `tolerance`, that hold the infimum and the supremum of s' over R."""
    first = sympy.diff(FUNCTIONS[name], x)
    return -_supremum(-first, name, tolerance), _supremum(first, name, tolerance)


def _supremum(expression: sympy.Expr, name: str, tolerance: float) -> arb:
    """Branch and bound on [-REACH, REACH] by mean values; the tails are smaller than what is found inside."""
    value, slope = _in_balls(expression), _in_balls(sympy.diff(expression, x))
    queue: list[tuple[float, float, float]] = []
    best = arb(-10)

    def examine(low: float, high: float) -> None:
        nonlocal best
        middle, whole = arb((low + high) / 2), arb((low + high) / 2, (high - low) / 2)
        best = best.max(value(middle))
        above = value(middle) + slope(whole) * (whole - middle)
        bound = float(above.abs_upper()) if above > 0 else float((above + 10).abs_upper()) - 10
        heapq.heappush(queue, (-bound, low, high))

    pieces = 4 * REACH
    for piece in range(pieces):
        examine(-REACH + 2 * REACH * piece / pieces, -REACH + 2 * REACH * (piece + 1) / pieces)
    while -queue[0][0] > float(best.lower()) + tolerance:
        _, low, high = heapq.heappop(queue)
        middle = (low + high) / 2
        examine(low, middle)
        examine(middle, high)
    tail = _in_balls(tail_bound(name))(arb(REACH)).abs_upper()
    limits = [arb(int(sympy.limit(expression, x, end))) for end in (-sympy.oo, sympy.oo)]
    assert all(limit + tail < best for limit in limits), "the supremum is not inside"
    return best.lower().union(arb(-queue[0][0]))


def _in_balls(expression: sympy.Expr) -> Callable[[arb], arb]:
    """The expression as a function of balls."""
    return lambda t: _evaluated(expression, t)


def _evaluated(expression: sympy.Expr, t: arb) -> arb:
    """The expression at x = t: numbers are exact or balls, every operation is a ball's."""
    if expression == x:
        return t
    if isinstance(expression, sympy.Rational):
        return arb(int(expression.p)) / arb(int(expression.q))
    if expression is sympy.pi:
        return arb.pi()
    parts = [_evaluated(part, t) for part in expression.args]
    if isinstance(expression, sympy.Add):
        return sum(parts[1:], parts[0])
    if isinstance(expression, sympy.Mul):
        return math.prod(parts[1:], start=parts[0])
    if isinstance(expression, sympy.Pow):
        return _power(parts[0], expression.exp)
    return {sympy.exp: arb.exp, sympy.tanh: arb.tanh}[expression.func](parts[0])


def _power(base: arb, exponent: sympy.Expr) -> arb:
    if isinstance(exponent, sympy.Integer):
        return base ** int(exponent)
    root = base.sqrt()
    return {sympy.Rational(1, 2): root, -sympy.Rational(1, 2): 1 / root}[exponent]
