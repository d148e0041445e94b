"""Elementwise functions as tables of monotone pieces.

On each piece both the function and its derivative are monotone, so the range of either over an interval is
the hull of its values at the ends of the interval and at the breakpoints inside. Difference quotients lie in
the convex hull of the derivatives of the pieces met (mean value theorem, piece by piece). The breakpoints of
the smooth functions are roots of their first and second derivatives, enclosed by bisection.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from flint import arb

from ._arithmetic import Ball, Balls, each
from ._refusal import Rejected

Real = Callable[[Ball], Ball]


@dataclass(frozen=True)
class Elementary:
    """`f` with derivative `d`, piece by piece: `pieces[k]` holds between `breaks[k-1]` and `breaks[k]`.

    `tails` are the limits of d at minus and plus infinity, None where d is unbounded there. `low` is the
    open lower end of the domain, None for the whole line.
    """

    pieces: tuple[tuple[Real, Real], ...]
    breaks: tuple[Ball, ...] = ()
    tails: tuple[Ball | None, Ball | None] = (None, None)
    low: Ball | None = None

    def image(self, low: Ball, high: Ball) -> tuple[Ball, Ball]:
        """Lower and upper bound of f over [low, high]."""
        values = [f(x) for (f, _), *ends in self._met(low, high) for x in ends]
        return _hull(values)

    def slopes(self, low: Ball, high: Ball) -> tuple[Ball, Ball]:
        """Lower and upper bound of the difference quotients over [low, high]."""
        return _hull([d(x) for (_, d), *ends in self._met(low, high) for x in ends])

    def global_slopes(self) -> tuple[Ball, Ball] | None:
        """Bounds of the difference quotients on the whole line, or None where there are none."""
        left, right = self.tails
        if left is None or right is None or self.low is not None:
            return None
        near = [d(x) for k, x in enumerate(self.breaks) for _, d in self._pieces()[k : k + 2]]
        return _hull([left, right, *near])

    def at(self, x: Ball) -> Ball:
        """The value at a point (an enclosure where the ball meets a breakpoint)."""
        if len(self.pieces) == 1 and self.low is None:
            return self.pieces[0][0](x)
        low, high = self.image(x, x)
        return low.union(high)

    def _met(self, low: Ball, high: Ball) -> list[tuple[tuple[Real, Real], Ball, Ball]]:
        if self.low is not None and not low > self.low:
            raise Rejected("an elementary function is met outside its domain")
        met = []
        ends = (None, *self.breaks, None)
        for piece, left, right in zip(self._pieces(), ends[:-1], ends[1:], strict=True):
            if (left is not None and high < left) or (right is not None and low > right):
                continue
            inner = low if left is None else low.max(left)
            outer = high if right is None else high.min(right)
            met.append((piece, inner, outer))
        return met

    def _pieces(self) -> tuple[tuple[Real, Real], ...]:
        return self.pieces if len(self.pieces) > 1 else self.pieces * (len(self.breaks) + 1)


@dataclass(frozen=True)
class Wave:
    """`sin(x + quarters pi/2)`: sin for 0, cos for 1."""

    quarters: int

    def image(self, low: Ball, high: Ball) -> tuple[Ball, Ball]:
        """Lower and upper bound of f over [low, high]: its values at the ends, and the extremes between them."""
        if not (low.is_finite() and high.is_finite()):
            return arb(-1), arb(1)
        bottom, top = _hull([self.at(low), self.at(high)])
        met = self._extremes(low, high)
        bottom = arb(-1) if any(n % 2 for n in met) else bottom.max(-1)
        return bottom.lower(), (arb(1) if any(n % 2 == 0 for n in met) else top.min(1)).upper()

    def slopes(self, low: Ball, high: Ball) -> tuple[Ball, Ball]:
        """Lower and upper bound of the difference quotients: the derivative leads by a quarter turn."""
        return Wave(self.quarters + 1).image(low, high)

    def global_slopes(self) -> tuple[Ball, Ball] | None:
        """Bounds of the difference quotients."""
        return arb(-1), arb(1)

    def at(self, x: Ball) -> Ball:
        """The value at a point."""
        return (x.sin, x.cos, lambda: -x.sin())[self.quarters]()

    def _extremes(self, low: Ball, high: Ball) -> range:
        """Numbers of the extremes that may lie in [low, high], two at most: maxima are even, minima odd.

        They are where `x/pi + (quarters - 1)/2` is whole.
        """
        first, last = (x / arb.pi() + arb(self.quarters - 1) / 2 for x in (low, high))
        start, stop = first.lower().ceil().unique_fmpz(), last.upper().floor().unique_fmpz()
        return range(2) if start is None or stop is None else range(int(start), int(min(stop, start + 1)) + 1)


@dataclass(frozen=True)
class Pole:
    """1/x on either side of 0."""

    def image(self, low: Ball, high: Ball) -> tuple[Ball, Ball]:
        """Lower and upper bound of 1/x over [low, high]."""
        self._apart(low, high)
        return (1 / high).lower(), (1 / low).upper()

    def slopes(self, low: Ball, high: Ball) -> tuple[Ball, Ball]:
        """Lower and upper bound of the difference quotients over [low, high]."""
        self._apart(low, high)
        return _hull([-1 / (low * low), -1 / (high * high)])

    def global_slopes(self) -> tuple[Ball, Ball] | None:
        """There are none."""
        return None

    def at(self, x: Ball) -> Ball:
        """The value at a point."""
        return 1 / x

    def _apart(self, low: Ball, high: Ball) -> None:
        if not (low > 0 or high < 0):
            raise Rejected("a reciprocal is met at 0")


Table = Elementary | Wave | Pole


def _hull(values: list[Ball]) -> tuple[Ball, Ball]:
    low, high = values[0].lower(), values[0].upper()
    for value in values[1:]:
        low, high = low.min(value.lower()), high.max(value.upper())
    return low, high


def root(function: Real, left: Ball, right: Ball) -> Ball:
    """A ball around a root of a function that is negative at one end and positive at the other."""
    rising = bool(function(left) < 0)
    for _ in range(140):
        middle = ((left + right) / 2).mid()
        value = function(middle)
        if not (value < 0 or value > 0):
            break
        if bool(value < 0) == rising:
            left = middle
        else:
            right = middle
    return left.union(right)


# ---------------------------------------------------------------------------------------------- the functions


def _sigmoid(x: Ball) -> Ball:
    return 1 / (1 + (-x).exp())


def _sech2(x: Ball) -> Ball:
    return 1 / x.cosh() ** 2


def _softplus(x: Ball) -> Ball:
    # log(1 + e^x), written so that a large |x| neither overflows nor loses the result
    return x + (-x).exp().log1p() if x > 0 else x.exp().log1p()


def _constant(value: Any) -> Real:
    return lambda x: arb(value)


def _identity(x: Ball) -> Ball:
    return x


def _scaled(slope: Any) -> Real:
    return lambda x: arb(slope) * x


ZERO: tuple[Real, Real] = (_constant(0), _constant(0))
LINE: tuple[Real, Real] = (_identity, _constant(1))


def _gelu() -> Elementary:
    """x Phi(x); the derivative Phi + x phi turns where x^2 = 2."""
    half_root = arb(2).sqrt()

    def cdf(x: Ball) -> Ball:
        return (-x / half_root).erfc() / 2

    def density(x: Ball) -> Ball:
        return (-x * x / 2).exp() / (2 * arb.pi()).sqrt()

    def slope(x: Ball) -> Ball:
        return cdf(x) + x * density(x)

    turn = root(slope, arb(-1), arb(0))
    return Elementary(((lambda x: x * cdf(x), slope),), (-half_root, turn, half_root), (arb(0), arb(1)))


def _gelu_tanh() -> Elementary:
    """x (1 + tanh u) / 2 with u = sqrt(2/pi) (x + 0.044715 x^3); d(x) + d(-x) = 1."""
    k, a = (2 / arb.pi()).sqrt(), arb(0.044715)  # the constant of the program is this binary64 number

    def u(x: Ball) -> Ball:
        return k * (x + a * x**3)

    def du(x: Ball) -> Ball:
        return k * (1 + 3 * a * x * x)

    def slope(x: Ball) -> Ball:
        return _sigmoid(2 * u(x)) + x * _sech2(u(x)) * du(x) / 2

    def bend(x: Ball) -> Ball:  # has the sign of the second derivative
        return 1 + 3 * a * x * x / (1 + 3 * a * x * x) - x * du(x) * u(x).tanh()

    turn, bent = root(slope, arb(-1), arb(0)), root(bend, arb(1), arb(2))
    return Elementary(((lambda x: x * _sigmoid(2 * u(x)), slope),), (-bent, turn, bent), (arb(0), arb(1)))


def _silu() -> Elementary:
    """x sigmoid(x); the derivative turns where x tanh(x/2) = 2."""

    def slope(x: Ball) -> Ball:
        s = _sigmoid(x)
        return s + x * s * (1 - s)

    turn = root(slope, arb(-2), arb(-1))
    bent = root(lambda x: x * (x / 2).tanh() - 2, arb(2), arb(3))
    return Elementary(((lambda x: x * _sigmoid(x), slope),), (-bent, turn, bent), (arb(0), arb(1)))


def _mish() -> Elementary:
    """x tanh(softplus(x)); with t = tanh(softplus(x)), s = sigmoid(x): t' = s (1 - t^2)."""

    def t(x: Ball) -> Ball:
        return _softplus(x).tanh()

    def slope(x: Ball) -> Ball:
        return t(x) + x * _sigmoid(x) * (1 - t(x) ** 2)

    def bend(x: Ball) -> Ball:  # second derivative over t'
        s = _sigmoid(x)
        return 2 + x * (1 - s - 2 * s * t(x))

    turn, left = root(slope, arb(-2), arb(-1)), root(bend, arb(-3), arb(-2))
    right = root(bend, arb(1), arb(2))
    return Elementary(((lambda x: x * t(x), slope),), (left, turn, right), (arb(0), arb(1)))


def _selu() -> Elementary:
    alpha, scale = arb(1.6732632423543772), arb(1.0507009873554805)
    return _elu(alpha, scale)


def _elu(alpha: Ball, scale: Ball) -> Elementary:
    left = (lambda x: scale * alpha * x.expm1(), lambda x: scale * alpha * x.exp())
    return Elementary((left, (_scaled(scale), _constant(scale))), (arb(0),), (arb(0), abs(scale)))


def _clamp(low: Any, high: Any) -> Elementary:
    pieces, breaks = [LINE], []
    if low is not None:
        pieces, breaks = [(_constant(low), _constant(0)), LINE], [arb(low)]
    if high is not None:
        pieces, breaks = [*pieces, (_constant(high), _constant(0))], [*breaks, arb(high)]
    if len(breaks) == 2 and not breaks[0] <= breaks[1]:
        raise Rejected("clamp: the minimum exceeds the maximum")
    return Elementary(tuple(pieces), tuple(breaks), (arb(1), arb(1)))


def _softplus_of(beta: float, threshold: float) -> Elementary:
    """log(1 + exp(beta x)) / beta: the smooth function, of which torch's is the same up to 2.1e-9."""
    b = arb(beta)
    if not (b > 0 and threshold >= 20):
        raise Rejected("softplus: only beta > 0 with a threshold of at least 20 has a Lipschitz constant here")
    return Elementary(((lambda x: _softplus(b * x) / b, lambda x: _sigmoid(b * x)),), (), (arb(0), arb(1)))


def _power_of(exponent: Any) -> Elementary:
    """x^p: for a whole p >= 1 on the line, for another where x > 0."""
    p = float(exponent)
    if p.is_integer() and p >= 1:
        n = int(p)
        return Elementary(((lambda x: x**n, lambda x: n * x ** (n - 1)),), (arb(0),))
    q = arb(p)
    return Elementary(((lambda x: x**q, lambda x: q * x ** (q - 1)),), low=arb(0))


_HARDSWISH = Elementary(
    (
        ZERO,
        (lambda x: x * (x + 3) / 6, lambda x: (2 * x + 3) / 6),
        (lambda x: x * (x + 3) / 6, lambda x: (2 * x + 3) / 6),
        LINE,
    ),
    (arb(-3), arb(-1.5), arb(3)),
    (arb(0), arb(1)),
)

_PLAIN: dict[str, Callable[[], Table]] = {
    "sin": lambda: Wave(0),
    "cos": lambda: Wave(1),
    "tanh": lambda: Elementary(((lambda x: x.tanh(), _sech2),), (arb(0),), (arb(0), arb(0))),
    "sigmoid": lambda: Elementary(((_sigmoid, lambda x: _sigmoid(x) * _sigmoid(-x)),), (arb(0),), (arb(0), arb(0))),
    "relu": lambda: Elementary((ZERO, LINE), (arb(0),), (arb(0), arb(1))),
    "relu6": lambda: _clamp(0, 6),
    "abs": lambda: Elementary(((_scaled(-1), _constant(-1)), LINE), (arb(0),), (arb(-1), arb(1))),
    "softsign": lambda: Elementary(
        (
            (lambda x: x / (1 - x), lambda x: 1 / (1 - x) ** 2),
            (lambda x: x / (1 + x), lambda x: 1 / (1 + x) ** 2),
        ),
        (arb(0),),
        (arb(0), arb(0)),
    ),
    "silu": _silu,
    "mish": _mish,
    "selu": _selu,
    "hardswish": lambda: _HARDSWISH,
    "erf": lambda: Elementary(
        ((lambda x: x.erf(), lambda x: 2 * (-x * x).exp() / arb.pi().sqrt()),), (arb(0),), (arb(0), arb(0))
    ),
    "atan": lambda: Elementary(((lambda x: x.atan(), lambda x: 1 / (1 + x * x)),), (arb(0),), (arb(0), arb(0))),
    "square": lambda: Elementary(((lambda x: x * x, lambda x: 2 * x),), (arb(0),)),
    "exp": lambda: Elementary(((lambda x: x.exp(), lambda x: x.exp()),)),
    "expm1": lambda: Elementary(((lambda x: x.expm1(), lambda x: x.exp()),)),
    "log": lambda: Elementary(((lambda x: x.log(), lambda x: 1 / x),), low=arb(0)),
    "log1p": lambda: Elementary(((lambda x: x.log1p(), lambda x: 1 / (1 + x)),), low=arb(-1)),
    "sqrt": lambda: Elementary(((lambda x: x.sqrt(), lambda x: 1 / (2 * x.sqrt())),), low=arb(0)),
    "rsqrt": lambda: Elementary(((lambda x: x.rsqrt(), lambda x: -x.rsqrt() / (2 * x)),), low=arb(0)),
    "reciprocal": Pole,
}

_WITH_ATTRIBUTES: dict[str, Callable[..., Elementary]] = {
    "leaky_relu": lambda negative_slope: Elementary(
        ((_scaled(negative_slope), _constant(negative_slope)), LINE),
        (arb(0),),
        (arb(negative_slope), arb(1)),
    ),
    "elu": lambda alpha: _elu(arb(alpha), arb(1)),
    "gelu": lambda approximate: {"none": _gelu, "tanh": _gelu_tanh}[approximate](),
    "softplus": _softplus_of,
    "pow_scalar": _power_of,
    "hardtanh": lambda minimum, maximum: _clamp(minimum, maximum),
    "clamp": lambda minimum, maximum: _clamp(minimum, maximum),
}


def elementary(op: str, attributes: Mapping[str, Any]) -> Table | None:
    """The table of an operation of the graph's vocabulary, or None for one that has none."""
    try:
        return _table(op, tuple(sorted(attributes.items())))
    except (TypeError, KeyError, ValueError):
        raise Rejected(f"operation {op}: its attributes {dict(attributes)} are unknown to the checker") from None


@cache
def _table(op: str, attributes: tuple[tuple[str, Any], ...]) -> Table | None:
    if op in _PLAIN:
        return _PLAIN[op]()
    return _WITH_ATTRIBUTES[op](**dict(attributes)) if op in _WITH_ATTRIBUTES else None


def image_of(table: Table, low: Balls, high: Balls) -> tuple[Balls, Balls]:
    """Entrywise bounds of the function's values over the intervals [low, high]."""
    both = each(table.image, low, high)
    return each(lambda pair: pair[0], both), each(lambda pair: pair[1], both)


def slopes_of(table: Table, low: Balls, high: Balls) -> tuple[Balls, Balls]:
    """Entrywise bounds of the difference quotients over the intervals [low, high]."""
    both = each(table.slopes, low, high)
    return each(lambda pair: pair[0], both), each(lambda pair: pair[1], both)
