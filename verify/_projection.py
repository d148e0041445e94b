"""T7 `projection`: errors of a projected equation and of Nystrom's method, over the continuum.

The equation is `y(t) = f(t) + lambda * integral over [a, b] of K(t, s, y(s)) ds`, K with constant kappa in its last
argument; norms are suprema over [a, b], not over nodes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from deqops._errors import InputError
from deqops._numbers import exact_number, is_count, number_above

from ._rounding import add_up, check_environment, div_up, mul_up, sub_down
from ._theorems import Hypothesis

_ROOT_BITS = 200  # of the enclosures of square roots in Gauss' rules
_LARGEST_PANELS = 2**20


@dataclass(frozen=True)
class ProjectionBound:
    """`||y_P - y*|| <= error`.

    Attributes:
        error: proven; `float()` of this record.
        rate: the constant that is below 1: `|lambda| k ||P||`, or `q = |lambda| kappa (b - a)` for Nystrom's method.
        hypotheses: each with its value.
    """

    error: float
    rate: float
    hypotheses: tuple[Hypothesis, ...]

    def __float__(self) -> float:
        return self.error


def projection_bound(rate: float, projection_norm: float, distance: float) -> ProjectionBound:
    """T7: `||y_P - y*|| <= ||y* - P y*|| / (1 - |lambda| k ||P||)`, all in one norm.

    Args:
        rate: a proven bound of `|lambda| k`, k a constant of T.
        projection_norm: a proven bound of ||P||, P a linear projection.
        distance: a proven bound of `||y* - P y*||`.

    Raises:
        InputError: an argument is negative or not finite, or `|lambda| k ||P|| < 1` is not shown.
    """
    check_environment()
    rate, distance = _nonnegative("rate", rate), _nonnegative("distance", distance)
    projection_norm = _nonnegative("projection_norm", projection_norm)
    q = float(mul_up(rate, projection_norm))
    if not q < 1:
        raise InputError(f"rate: T7 needs |lambda| k ||P|| < 1, got at most {q!r}")
    error = float(div_up(distance, sub_down(1.0, q)))
    hypotheses = (
        Hypothesis("contraction", "|lambda| k ||P|| < 1", q, 1.0, True),
        Hypothesis("distance", "||y* - P y*||", distance, math.inf, True),
    )
    return ProjectionBound(error, q, hypotheses)


# --------------------------------------------------------------------------------------------------- quadrature


@dataclass(frozen=True, eq=False)
class Quadrature:
    """`integral over [a, b] of g ~ sum_j weights[j] g(nodes[j])`: a composite rule as stored in float64.

    Attributes:
        name: "midpoint", "trapezoid", "gauss2" or "gauss3", on each of `panels` equal panels.
        a, b: the interval.
        panels: their number.
        nodes: (n,) float64, in [a, b].
        weights: (n,) float64.
        node_error: how far the farthest stored node is from the rule's.
        weight_error: the sum of the weights' errors.
        weight_sum: bound of the sum of the stored weights' moduli.
    """

    name: str
    a: float
    b: float
    panels: int
    nodes: Tensor
    weights: Tensor
    node_error: float
    weight_error: float
    weight_sum: float

    @property
    def order(self) -> int:
        """p, the order of the derivative in the rule's error term."""
        return _RULES[self.name].order

    def defect_bound(
        self, derivative: float | None = None, *, slope: float | None = None, size: float | None = None
    ) -> float:
        """Proven bound of `|sum_j weights[j] g(nodes[j]) - integral of g|` over [a, b].

        With h = (b - a)/panels the rule's own error is at most `(b - a) c h^p sup|g^(p)|`, c = 1/24 (midpoint, p = 2),
        1/12 (trapezoid, p = 2), 1/4320 (gauss2, p = 4), 1/2016000 (gauss3, p = 6); for Lipschitz g at most
        `(b - a) h/4 sup|g'|` (midpoint, trapezoid). Rounded nodes add `weight_sum * node_error * sup|g'|`, rounded
        weights `weight_error * sup|g|`.

        Args:
            derivative: a bound of `sup |g^(p)|` over [a, b]; None where g is only Lipschitz.
            slope: a bound of g's Lipschitz constant; needed without `derivative`, and where nodes are rounded.
            size: a bound of `sup |g|`; needed where weights are rounded.

        Raises:
            InputError: a bound that is needed is missing, negative or not finite.
        """
        rule = _RULES[self.name]
        check_environment()
        given = {"derivative": derivative, "slope": slope, "size": size}
        derivative, slope, size = (None if v is None else _nonnegative(name, v) for name, v in given.items())
        length = Fraction(self.b) - Fraction(self.a)
        h = length / self.panels
        bounds: list[float] = []
        if derivative is not None:
            bounds.append(_times(_up(length * rule.smooth * h**rule.order), derivative))
        if slope is not None and rule.lipschitz is not None:
            bounds.append(_times(_up(length * rule.lipschitz * h), slope))
        if not bounds:
            needed = "derivative" if rule.lipschitz is None else "derivative or slope"
            raise InputError(f"{needed}: a bound over the interval is needed for the {self.name} rule")
        total = min(bounds)
        for name, value, moved in (
            ("slope", slope, _times(self.weight_sum, self.node_error)),
            ("size", size, self.weight_error),
        ):
            if moved:
                if value is None:
                    raise InputError(f"{name}: a bound is needed, since the stored nodes or weights are rounded")
                total = float(add_up(total, _times(moved, value)))
        return total


@dataclass(frozen=True)
class _Rule:
    """Nodes in [-1, 1] and weights of sum 2, enclosed by rationals; the error's constants and order."""

    points: Callable[[], list[tuple[Fraction, Fraction]]]
    smooth: Fraction
    order: int
    lipschitz: Fraction | None


def _root(value: Fraction) -> Fraction:
    """The square root, below it by less than 2^-_ROOT_BITS."""
    return Fraction(math.isqrt(value.numerator * 4**_ROOT_BITS // value.denominator), 2**_ROOT_BITS)


_ROOT_ERROR = Fraction(1, 2**_ROOT_BITS) * 2
_ONE = Fraction(1)
_RULES = {
    "midpoint": _Rule(lambda: [(Fraction(0), Fraction(2))], Fraction(1, 24), 2, Fraction(1, 4)),
    "trapezoid": _Rule(lambda: [(-_ONE, _ONE), (_ONE, _ONE)], Fraction(1, 12), 2, Fraction(1, 4)),
    "gauss2": _Rule(
        lambda: [(-_root(Fraction(1, 3)), _ONE), (_root(Fraction(1, 3)), _ONE)], Fraction(1, 4320), 4, None
    ),
    "gauss3": _Rule(
        lambda: [
            (-_root(Fraction(3, 5)), Fraction(5, 9)),
            (Fraction(0), Fraction(8, 9)),
            (_root(Fraction(3, 5)), Fraction(5, 9)),
        ],
        Fraction(1, 2016000),
        6,
        None,
    ),
}


def quadrature(name: str, a: float, b: float, panels: int) -> Quadrature:
    """A composite rule, its stored nodes and weights compared with the exact ones in rational arithmetic.

    Args:
        name: "midpoint", "trapezoid", "gauss2" or "gauss3" (two or three points a panel).
        a: left end.
        b: right end.
        panels: the number of equal panels.

    Raises:
        InputError: an unknown rule, an empty or infinite interval, an end that is no float64, or no panel.
    """
    if not isinstance(name, str) or name not in _RULES:
        raise InputError(f"name: got {name!r}; choose one of {', '.join(_RULES)}")
    ends = exact_number(a), exact_number(b)
    if not ends[0] < ends[1] or not math.isfinite(ends[1] - ends[0]):
        raise InputError(f"a, b: got {a!r}, {b!r}; a < b, numbers of float64 a finite distance apart, are needed")
    if not is_count(panels, 1) or panels > _LARGEST_PANELS:
        raise InputError(f"panels: got {panels!r}; 1 to {_LARGEST_PANELS} are allowed")
    left, h = Fraction(ends[0]), (Fraction(ends[1]) - Fraction(ends[0])) / panels
    exact: dict[Fraction, Fraction] = {}
    points = _RULES[name].points()
    for j in range(panels):
        for point, weight in points:
            node = left + h * (j + (1 + point) / 2)
            exact[node] = exact.get(node, Fraction(0)) + h * weight / 2  # panels share the trapezoid's ends
    nodes, weights = [float(x) for x in exact], [float(w) for w in exact.values()]
    spread = max(abs(Fraction(x) - y) for x, y in zip(nodes, exact, strict=True))
    if name.startswith("gauss"):
        spread += h * _ROOT_ERROR
    missed = sum(abs(Fraction(w) - v) for w, v in zip(weights, exact.values(), strict=True))
    total = sum(abs(Fraction(w)) for w in weights)
    return Quadrature(
        name=name,
        a=ends[0],
        b=ends[1],
        panels=panels,
        nodes=torch.tensor(nodes, dtype=torch.float64),
        weights=torch.tensor(weights, dtype=torch.float64),
        node_error=_up(spread),
        weight_error=_up(Fraction(missed)),
        weight_sum=_up(Fraction(total)),
    )


@dataclass(frozen=True)
class KernelBounds:
    """Suprema of moduli of K(t, s, u) and its partial derivatives over t, s in [a, b] and all u that occur.

    Attributes:
        size: |K|.
        t, tt: in the first argument.
        s, ss: in the second.
        u, uu: in the third; u is kappa.
        su: the mixed one.
    """

    size: float
    t: float
    tt: float
    s: float
    ss: float
    u: float
    uu: float
    su: float

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            object.__setattr__(self, name, _nonnegative(name, value))


def kernel_defect(rule: Quadrature, scale: float, kernel: KernelBounds, f_slope: float, f_curvature: float) -> float:
    """Proven defect of a midpoint or trapezoid rule, uniform in t, for `g_t(s) = K(t, s, y_h(s))`.

    `|y_h'| <= |f'| + |lambda| sum|w| |K_t|`, the same with `K_tt` for y_h'', and
    `g'' = K_ss + 2 K_su y_h' + K_uu y_h'^2 + K_u y_h''`.

    Args:
        rule: the quadrature of y_h.
        scale: lambda.
        kernel: suprema of K's derivatives.
        f_slope: a bound of sup |f'| over [a, b].
        f_curvature: a bound of sup |f''| over [a, b].

    Raises:
        InputError: a rule of another order, or a bound that is negative or not finite.
    """
    _check_rule(rule)
    bounds: object = kernel
    if not isinstance(bounds, KernelBounds):
        raise InputError(f"kernel: KernelBounds are needed, got {type(bounds).__name__}")
    if rule.order != 2:
        raise InputError(f"rule: {rule.name} needs derivatives of order {rule.order}; pass them to defect_bound")
    check_environment()
    f_slope, f_curvature = _nonnegative("f_slope", f_slope), _nonnegative("f_curvature", f_curvature)
    share = mul_up(_modulus("scale", scale), rule.weight_sum)
    first = add_up(f_slope, mul_up(share, kernel.t))
    second = add_up(f_curvature, mul_up(share, kernel.tt))
    slope = add_up(kernel.s, mul_up(kernel.u, first))
    mixed = add_up(kernel.ss, mul_up(mul_up(2.0, kernel.su), first))
    curved = add_up(mul_up(kernel.uu, mul_up(first, first)), mul_up(kernel.u, second))
    return rule.defect_bound(float(add_up(mixed, curved)), slope=float(slope), size=kernel.size)


def nystrom_bound(
    rule: Quadrature, scale: float, lipschitz: float, defect: float, node_residual: float = 0.0
) -> ProjectionBound:
    """T7 for Nystrom's method: `sup |y_h - y*| <= |lambda| (defect + kappa sum|w| rho) / (1 - q)`.

    `q = |lambda| kappa (b - a)`, and `y_h(t) = f(t) + lambda sum_j w_j K(t, s_j, Y_j)` is a function on [a, b], made
    of values Y_j. It need not solve the equations at the nodes exactly; rho takes that in.

    Args:
        rule: nodes s_j and weights w_j.
        scale: lambda.
        lipschitz: kappa, `|K(t, s, u) - K(t, s, v)| <= kappa |u - v|` for all t, s in [a, b] and all u, v.
        defect: a proven bound, for all t in [a, b], of `|sum_j w_j g_t(s_j) - integral of g_t|` with
            `g_t(s) = K(t, s, y_h(s))`: `rule.defect_bound` with bounds uniform in t.
        node_residual: rho, a proven bound of `max_j |y_h(s_j) - Y_j|`.

    Raises:
        InputError: an argument is negative or not finite, or q < 1 is not shown.
    """
    _check_rule(rule)
    check_environment()
    lipschitz, defect = _nonnegative("lipschitz", lipschitz), _nonnegative("defect", defect)
    node_residual, size = _nonnegative("node_residual", node_residual), _modulus("scale", scale)
    length = _up(Fraction(rule.b) - Fraction(rule.a))
    q = float(mul_up(mul_up(size, lipschitz), length))
    if not q < 1:
        raise InputError(f"lipschitz: T7 needs q = |lambda| kappa (b - a) < 1, got at most {q!r}")
    moved = mul_up(mul_up(lipschitz, rule.weight_sum), node_residual)
    error = float(div_up(mul_up(size, add_up(defect, moved)), sub_down(1.0, q)))
    hypotheses = (
        Hypothesis("contraction", "q = |lambda| kappa (b - a) < 1", q, 1.0, True),
        Hypothesis("defect", "sup over t of |T_h(y_h) - T(y_h)|", defect, math.inf, True),
        Hypothesis("nodes", "max |y_h(s_j) - Y_j| <= rho", node_residual, math.inf, True),
    )
    return ProjectionBound(error, q, hypotheses)


def _check_rule(rule: object) -> None:
    if not isinstance(rule, Quadrature):
        raise InputError(f"rule: a Quadrature, as quadrature(..) makes it, is needed, got {type(rule).__name__}")


def _nonnegative(name: str, value: object) -> float:
    """An upper bound as a caller gives it, rounded upwards."""
    number = number_above(value)
    if not 0 <= number < math.inf:
        raise InputError(f"{name}: got {value!r}; a finite number that is not negative is needed")
    return number


def _modulus(name: str, value: Any) -> float:
    """Upper bound of the modulus of a number."""
    number = number_above(value), number_above(-value) if math.isfinite(number_above(value)) else math.nan
    if not max(number) < math.inf:
        raise InputError(f"{name}: got {value!r}; a finite number is needed")
    return max(number)


def _times(a: float, b: float) -> float:
    """Upper bound of the product of two numbers that are not negative, `a` perhaps infinite; 0 where one is."""
    return float(mul_up(a, b)) if a and b else 0.0


def _up(value: Fraction) -> float:
    """The nearest float at or above; infinity beyond all."""
    try:
        nearest = float(value)
    except OverflowError:
        return math.inf
    return nearest if Fraction(nearest) >= value else math.nextafter(nearest, math.inf)
