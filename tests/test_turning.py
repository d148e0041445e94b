"""Ranges of functions that turn, of powers, products and quotients over wide intervals: right, and the narrowest."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import product

import pytest
import torch
from exact import ball, seeded
from flint import arb, ctx
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from deqops.verify import _elementary as elementary
from deqops.verify import _hull as hull
from deqops.verify._midrad import MidRad
from deqops.verify._slopes import slope_range
from deqops.verify._turning import SHAPES, Turn
from deqops.verify.checker._arithmetic import working_precision
from deqops.verify.checker._elementary import elementary as table_of

Function = Callable[[arb], arb]
SMOOTH = ["gelu", "gelu tanh", "mish", "silu"]
WIDE = [(-3.0, -1.0), (-1.0, 2.5), (0.1, 2.0), (0.5, 1.0), (1.0, 5.0), (2.0, 20.0), (-20.0, -0.5), (-1e3, 1e3)]
ATTRIBUTES: dict[str, dict[str, object]] = {"gelu": {"approximate": "none"}, "gelu tanh": {"approximate": "tanh"}}


@pytest.fixture(autouse=True)
def _precise():
    before, ctx.prec = ctx.prec, 200
    yield
    ctx.prec = before


def sigmoid(a: arb) -> arb:
    return 1 / (1 + (-a).exp())


def tanh_softplus(a: arb) -> arb:
    """tanh(log(1 + e^a)) = (w^2 - 1) / (w^2 + 1), w = 1 + e^a."""
    w = (1 + a.exp()) ** 2
    return (w - 1) / (w + 1)


def gelu_argument(a: arb) -> arb:
    return (2 / arb.pi()).sqrt() * (a + ball(0.044715) * a**3)


FUNCTIONS: dict[str, Function] = {
    "silu": lambda a: a * sigmoid(a),
    "gelu": lambda a: a * (-a / arb(2).sqrt()).erfc() / 2,
    "gelu tanh": lambda a: a * sigmoid(2 * gelu_argument(a)),
    "mish": lambda a: a * tanh_softplus(a),
}


def slope(name: str, a: arb) -> arb:
    if name == "silu":
        s = sigmoid(a)
        return s + a * s * (1 - s)
    if name == "gelu":
        return (-a / arb(2).sqrt()).erfc() / 2 + a * (-a * a / 2).exp() / (2 * arb.pi()).sqrt()
    if name == "gelu tanh":
        u, k = gelu_argument(a), ball(0.044715)
        s = sigmoid(2 * u)
        return s + a * 2 * s * (1 - s) * (2 / arb.pi()).sqrt() * (1 + 3 * k * a * a)
    t = tanh_softplus(a)
    return t + a * sigmoid(a) * (1 - t * t)


def bend(name: str, a: arb) -> arb:
    """Of the sign of the second derivative."""
    if name == "silu":
        return 2 - a * (a / 2).tanh()
    if name == "gelu":
        return 2 - a * a
    if name == "gelu tanh":
        k = ball(0.044715)
        du = (2 / arb.pi()).sqrt() * (1 + 3 * k * a * a)
        return 1 + 3 * k * a * a / (1 + 3 * k * a * a) - a * du * gelu_argument(a).tanh()
    return 2 + a * (1 - sigmoid(a) - 2 * sigmoid(a) * tanh_softplus(a))


def has_sign(function: Function, low: float, high: float, sign: int) -> bool:
    """Whether a function has one sign on a closed interval: branch and bound in balls, the halves exact."""
    pieces = [(ball(low), ball(high))]
    while pieces:
        a, b = pieces.pop()
        found = sign * function(a.union(b))
        if not found > 0:
            if found < 0 or b - a < ball(1e-25):
                return False
            middle = ((a + b) / 2).mid()
            pieces += [(a, middle), (middle, b)]
    return True


@pytest.mark.parametrize("name", SMOOTH)
def test_derivatives_turn_twice_and_functions_once(name: str) -> None:
    """d' < 0, > 0, < 0 up to the brackets of the turns: in balls within [-12, 12].

    Beyond, a times its factor is above 2 in modulus: for |a| >= 12 the factors are tanh(6) > 0.9, 12, u' tanh u > 0.7,
    and 1 - s - 2 s t: above 0.9 on the left, where s and t are below e^-11, and below -0.9 on the right, where both are
    above 0.99.
    """
    left, right = SHAPES[name].derivative
    for low, high, sign in ((-12.0, left.at[0], -1), (left.at[1], right.at[0], 1), (right.at[1], 12.0, -1)):
        assert has_sign(lambda a: bend(name, a), low, high, sign)
    for turn in (left, right):
        contains(turn, lambda a: slope(name, a))
        assert abs(bend(name, ball(turn.at[0]).union(ball(turn.at[1])))) < 1e-12
    (lowest,) = SHAPES[name].function
    assert left.at[1] < lowest.at[0]
    assert lowest.at[1] < right.at[0]
    assert slope(name, ball(lowest.at[0])) < 0 < slope(name, ball(lowest.at[1]))
    contains(lowest, FUNCTIONS[name])


def contains(turn: Turn, function: Function) -> None:
    """At both ends of the bracket, with room for what changes between: less than 1e-11 times the bracket's width.

    The derivative of what turns, a factor below 4 times what is below 1e-12 there, is that small.
    """
    low, high = turn.at
    assert high - low <= 1e-15 * max(1.0, abs(low))
    room = ball(1e-25)
    for value in (function(ball(low)), function(ball(high))):
        assert ball(turn.value[0]) + room < value < ball(turn.value[1]) - room
    assert turn.value[1] - turn.value[0] <= 1e-15


def truth(function: Function, low: float, high: float, turns: tuple[Turn, ...]) -> tuple[float, float]:
    """The ends of the range, by values at the ends and at the turns between."""
    inner = [ball(sum(turn.at) / 2) for turn in turns if low < turn.at[0] and turn.at[1] < high]
    values = [float(function(a).mid()) for a in (ball(low), ball(high), *inner)]
    return min(values), max(values)


@pytest.mark.parametrize(("name", "ends"), list(product(SMOOTH, WIDE)))
def test_wide_ranges_are_those_of_the_function(name: str, ends: tuple[float, float]) -> None:
    low, high = ends
    x = MidRad.from_bounds(*(torch.tensor([end], dtype=torch.float64) for end in ends))
    value = getattr(elementary, name.split()[0])(x, **ATTRIBUTES.get(name, {}))
    slopes = slope_range(name.split()[0], ATTRIBUTES.get(name, {}), x)
    for (least, most), function, turns in (
        ((value.lower(), value.upper()), FUNCTIONS[name], SHAPES[name].function),
        (slopes, lambda a: slope(name, a), SHAPES[name].derivative),
    ):
        assert isinstance(least, Tensor)
        assert isinstance(most, Tensor)
        bottom, top = truth(function, low, high, turns)
        room = 1e-11 * max(1.0, abs(low), abs(high))
        if most is slopes[1]:
            room = 1e-6  # the constants for the whole line have seven digits
        assert bottom - room <= float(least) <= bottom + 1e-15
        assert top - 1e-15 * max(1.0, abs(top)) <= float(most) <= top + room


@pytest.mark.parametrize("name", ["gelu", "gelu tanh", "mish", "silu", "hardswish"])
def test_random_ranges_contain_the_function(name: str) -> None:
    mid = torch.randn(60, generator=seeded(1), dtype=torch.float64) * 3
    rad = torch.rand(60, generator=seeded(2), dtype=torch.float64) * 4
    x = MidRad(mid, rad)
    value = getattr(elementary, name.split()[0])(x, **ATTRIBUTES.get(name, {}))
    low, high = slope_range(name.split()[0], ATTRIBUTES.get(name, {}), x)
    assert isinstance(low, Tensor)
    assert isinstance(high, Tensor)
    for share in torch.linspace(-1, 1, 41).tolist():
        for k, a in enumerate((mid + share * rad).tolist()):
            if not x.lower()[k] <= a <= x.upper()[k]:
                continue
            if name == "hardswish":
                y = Fraction(a) * min(max(Fraction(a) + 3, Fraction(0)), Fraction(6)) / 6
                assert Fraction(float(value.lower()[k])) <= y <= Fraction(float(value.upper()[k]))
                continue
            y, d = FUNCTIONS[name](ball(a)), slope(name, ball(a))
            assert not y < ball(float(value.lower()[k]))
            assert not y > ball(float(value.upper()[k]))
            assert not d < ball(float(low[k]))
            assert not d > ball(float(high[k]))


@pytest.mark.parametrize("name", SMOOTH)
def test_far_arguments_have_the_slopes_of_the_line(name: str) -> None:
    x = MidRad.from_bounds(*(torch.tensor([a, b], dtype=torch.float64) for a, b in ((-1e300, 40.0), (-50.0, 1e300))))
    low, high = slope_range(name.split()[0], ATTRIBUTES.get(name, {}), x)
    assert isinstance(low, Tensor)
    assert isinstance(high, Tensor)
    for k, limit in enumerate((0.0, 1.0)):
        assert float(low[k]) <= limit <= float(high[k])
    value = getattr(elementary, name.split()[0])(x, **ATTRIBUTES.get(name, {}))
    assert float(value.lower()[0]) <= -1e-30
    assert float(value.upper()[1]) >= 1e300


POWERS = [-3, -2, -1, -1.5, -0.5, 0, 0.5, 1, 1.5, 2, 3, 4, 5]


@pytest.mark.parametrize(("exponent", "ends"), list(product(POWERS, [(0.5, 3.0), (-3.0, -0.5), (-2.0, 3.0)])))
def test_powers_over_wide_ranges(exponent: float, ends: tuple[float, float]) -> None:
    """x^p and p x^(p-1) are monotone on either side of 0."""
    low, high = ends
    whole = exponent == round(exponent)
    if low < 0 and not (whole and (exponent >= 0 or high < 0)):
        return
    x = MidRad.from_bounds(*(torch.tensor([end], dtype=torch.float64) for end in ends))
    value = elementary.pow_scalar(x, exponent)
    inside = [0.0] if low < 0 < high else []
    images = [a**exponent for a in (low, high, *inside)]
    assert is_near((value.lower(), value.upper()), images)
    if low > 0 or exponent >= 1:
        slopes = [exponent * a ** (exponent - 1) for a in (low, high, *inside)]
        assert is_near(slope_range("pow_scalar", {"exponent": exponent}, x), slopes)


def is_near(found: tuple[Tensor | float, Tensor | float], values: list[float]) -> bool:
    """Whether bounds are the least and the largest of these, up to a part of the largest modulus."""
    room = 1e-12 * max(map(abs, values))
    ends = zip(found, (min(values), max(values)), strict=True)
    return all(abs(float(bound) - value) <= room for bound, value in ends)


@pytest.mark.parametrize(
    ("operation", "derivative"),
    [
        ("log", lambda a: 1 / a),
        ("log1p", lambda a: 1 / (1 + a)),
        ("sqrt", lambda a: 0.5 / a**0.5),
        ("rsqrt", lambda a: -0.5 / a**1.5),
        ("reciprocal", lambda a: -1 / a**2),
    ],
)
def test_monotone_derivatives_are_taken_at_the_ends(operation: str, derivative: Callable[[float], float]) -> None:
    x = MidRad.from_bounds(*(torch.tensor([a], dtype=torch.float64) for a in (0.1, 20.0)))
    assert is_near(slope_range(operation, {}, x), [derivative(0.1), derivative(20.0)])


NUMBERS = st.floats(-1e3, 1e3, allow_subnormal=False)
RANGES = st.tuples(NUMBERS, NUMBERS).map(sorted)


@given(RANGES, RANGES)
def test_products_and_quotients_are_the_hull_of_the_corners(first: list[float], second: list[float]) -> None:
    a, b = (MidRad.from_bounds(*(torch.tensor([e], dtype=torch.float64) for e in ends)) for ends in (first, second))
    low, high = ([Fraction(float(end)) for end in (x.lower(), x.upper())] for x in (a, b))
    corners = [x * y for x in low for y in high]
    found = hull.mul(a, b)
    assert Fraction(float(found.lower())) <= min(corners)
    assert max(corners) <= Fraction(float(found.upper()))
    room = Fraction(2) ** -50 * max(map(abs, corners)) + Fraction(2) ** -1000
    assert Fraction(float(found.upper())) - Fraction(float(found.lower())) <= max(corners) - min(corners) + 2 * room
    if high[0] > 0 or high[1] < 0:
        quotients = [x / y for x in low for y in high]
        found = hull.div(a, b)
        assert Fraction(float(found.lower())) <= min(quotients)
        assert max(quotients) <= Fraction(float(found.upper()))
        if min(map(abs, high)) > 1e-3:
            room = Fraction(2) ** -50 * max(map(abs, quotients)) + Fraction(2) ** -1000
            width = Fraction(float(found.upper())) - Fraction(float(found.lower()))
            assert width <= max(quotients) - min(quotients) + 2 * room
    else:
        assert not math.isfinite(float(hull.div(a, b).rad))


@pytest.mark.parametrize("name", [*SMOOTH, "hardswish"])
def test_the_checker_knows_the_same_ranges(name: str) -> None:
    """Otherwise it refuses certificates that are right."""
    table = table_of(name.split()[0], ATTRIBUTES.get(name, {}))
    assert table is not None
    with working_precision():
        for low, high in WIDE:
            x = MidRad.from_bounds(*(torch.tensor([end], dtype=torch.float64) for end in (low, high)))
            own = slope_range(name.split()[0], ATTRIBUTES.get(name, {}), x)
            for mine, its in zip(own, table.slopes(ball(low), ball(high)), strict=True):
                assert abs(float(mine) - float(its.mid())) < 1e-6


def test_every_shape_is_tried_above() -> None:
    assert set(SHAPES) == {*SMOOTH, "hardswish"}


@pytest.mark.parametrize("name", [*SMOOTH, "hardswish"])
def test_what_is_no_number_has_no_range(name: str) -> None:
    x = MidRad(torch.tensor([math.nan, 0.0], dtype=torch.float64), torch.tensor([1.0, math.nan], dtype=torch.float64))
    assert not getattr(elementary, name.split()[0])(x, **ATTRIBUTES.get(name, {})).rad.isfinite().any()
