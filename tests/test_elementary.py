"""Enclosures of elementary functions and slopes against 300-bit balls."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from exact import ball, seeded
from flint import arb, ctx
from torch import Tensor

from deqops import UnsupportedOperationError
from deqops.verify import _elementary as elementary
from deqops.verify._arctangent import atan
from deqops.verify._global_slopes import GLOBAL_SLOPES
from deqops.verify._midrad import MidRad
from deqops.verify._slopes import slope_range


def log1pexp(a: arb) -> arb:
    return (1 + a.exp()).log() if a < 600 else a + (-a).exp().log1p()


SELU_SCALE, SELU_ALPHA = arb("1.0507009873554804934193349852946"), arb("1.6732632423543772848170429916717")
TRUTH: dict[str, Callable[[arb], arb]] = {
    "exp": lambda a: a.exp(),
    "expm1": lambda a: a.expm1(),
    "tanh": lambda a: a.tanh(),
    "sigmoid": lambda a: 1 / (1 + (-a).exp()),
    "erf": lambda a: a.erf(),
    "atan": lambda a: a.atan(),
    "softsign": lambda a: a / (1 + abs(a)),
    "softplus": log1pexp,
    "silu": lambda a: a / (1 + (-a).exp()),
    "gelu": lambda a: a / 2 * (1 + (a / arb(2).sqrt()).erf()),
    "mish": lambda a: a * log1pexp(a).tanh(),
    "log": lambda a: a.log(),
    "sqrt": lambda a: a.sqrt(),
    "rsqrt": lambda a: 1 / a.sqrt(),
    "selu": lambda a: SELU_SCALE * (a if a > 0 else SELU_ALPHA * a.expm1()),
    "hardswish": lambda a: a * (0 if a <= -3 else 6 if a >= 3 else a + 3) / 6,
}


def enclosed(name: str) -> Callable[[MidRad], MidRad]:
    found: Callable[[MidRad], MidRad] = atan if name == "atan" else getattr(elementary, name)
    return found


POSITIVE = {"log", "sqrt", "rsqrt"}


def arguments(name: str) -> Tensor:
    scales = (1e-300, 1e-20, 1e-3, 1.0, 5.0, 30.0, 300.0)
    drawn = [torch.randn(40, generator=seeded(n), dtype=torch.float64) * s for n, s in enumerate(scales)]
    special = [1.0, -1.0, 5e-324, 709.7, 709.78, 710, -745, -746, 1e308, -1e308, math.log(2) / 2, 6, -6, 25, 25.01]
    x = torch.cat([*drawn, torch.tensor(special, dtype=torch.float64)])
    return x.abs() if name in POSITIVE else x


@pytest.mark.parametrize("name", sorted(TRUTH))
def test_point_enclosures_contain_the_truth_and_are_narrow(name: str) -> None:
    x = arguments(name)
    found = enclosed(name)(MidRad.exact(x))
    for value, low, high in zip(x.tolist(), found.lower().tolist(), found.upper().tolist(), strict=True):
        truth = TRUTH[name](ball(value))
        assert math.isinf(low) or not ball(low) > truth, value
        assert math.isinf(high) or not truth > ball(high), value
        assert not math.isnan(low), value
        assert not math.isnan(high), value
        if abs(value) < 300 and math.isfinite(high):
            assert (high - low) <= 1e-12 * max(1.0, abs(high)), value


@pytest.mark.parametrize("name", sorted(TRUTH))
def test_interval_enclosures_contain_the_image(name: str) -> None:
    mid = torch.randn(30, generator=seeded(7), dtype=torch.float64) * 3
    mid = mid.abs() + 2 if name in POSITIVE else mid
    rad = torch.rand(30, generator=seeded(8), dtype=torch.float64)
    found = enclosed(name)(MidRad(mid, rad))
    for share in (-1.0, -0.7, 0.0, 0.3, 1.0):
        inner = (mid + share * 0.999999 * rad).tolist()
        for value, low, high in zip(inner, found.lower().tolist(), found.upper().tolist(), strict=True):
            truth = TRUTH[name](ball(value))
            assert not ball(low) > truth
            assert not truth > ball(high)


@pytest.mark.parametrize("name", ["exp", "log", "tanh", "erf"])
def test_nan_is_never_enclosed_by_numbers(name: str) -> None:
    found = enclosed(name)(MidRad.exact(torch.tensor([math.nan], dtype=torch.float64)))
    assert not found.is_finite()


def test_the_inverse_root_of_a_zero_degree_is_infinite_and_of_a_negative_one_open() -> None:
    x = torch.tensor([0.0, 4.0], dtype=torch.float64)
    found = elementary.pow_scalar(MidRad.exact(x), -0.5)
    assert found.mid[0] == math.inf
    assert found.rad[0] == 0
    assert abs(float(found.mid[1]) - 0.5) <= float(found.rad[1]) + 1e-16
    assert not elementary.rsqrt(MidRad(x, torch.ones_like(x))).rad[0].isfinite()


def derivative(name: str, a: arb) -> arb:
    pi = arb.pi()
    sigmoid = 1 / (1 + (-a).exp())
    if name == "gelu":
        return (1 + (a / arb(2).sqrt()).erf()) / 2 + a * (-a * a / 2).exp() / (2 * pi).sqrt()
    if name == "gelu tanh":
        c, k = (arb(2) / pi).sqrt(), ball(0.044715)
        t = (c * (a + k * a**3)).tanh()
        return (1 + t) / 2 + a / 2 * (1 - t * t) * c * (1 + 3 * k * a * a)
    if name == "silu":
        return sigmoid + a * sigmoid * (1 - sigmoid)
    if name == "mish":
        t = log1pexp(a).tanh()
        return t + a * (1 - t * t) * sigmoid
    if name == "tanh":
        return 1 - a.tanh() ** 2
    if name == "sigmoid":
        return sigmoid * (1 - sigmoid)
    if name == "softplus":
        return sigmoid
    if name == "softsign":
        return 1 / (1 + abs(a)) ** 2
    if name == "atan":
        return 1 / (1 + a * a)
    return 2 / pi.sqrt() * (-a * a).exp()  # erf


@pytest.fixture
def coarse_balls() -> Iterator[None]:
    before, ctx.prec = ctx.prec, 80
    yield
    ctx.prec = before


@pytest.mark.usefixtures("coarse_balls")
@pytest.mark.parametrize("name", ["gelu", "gelu tanh", "silu", "mish"])
def test_global_slopes_are_proven_over_the_line(name: str) -> None:
    """Branch and bound in balls over [-12, 12]; beyond, f' is within 38 e^-12 of its limit 0 or 1.

    For |x| >= 12 each f' is S + x D with |S - limit| <= 2 e^-|x| and 0 <= D <= 3 e^-|x|, so it is within
    (2 + 3 |x|) e^-|x| of the limit, which falls.
    """
    low, high = (ball(v) for v in GLOBAL_SLOPES[name])
    tail = 38 * ball(-12).exp()
    assert low < -tail
    assert high > 1 + tail
    pieces = [(-12.0, 12.0)]
    while pieces:
        a, b = pieces.pop()
        middle = (a + b) / 2
        found = derivative(name, arb(middle, (b - a) / 2))
        if not (low <= found and found <= high):
            assert b - a > 1e-9, f"the constant does not cover the slope near {a}"
            pieces += [(a, middle), (middle, b)]


SMOOTH = ["gelu", "gelu tanh", "silu", "mish", "tanh", "sigmoid", "softplus", "softsign", "erf", "atan"]


@pytest.mark.parametrize("name", SMOOTH)
def test_global_slopes_hold_and_are_attained(name: str) -> None:
    """On a fine grid of [-12, 12]; beyond it the derivatives are within 1e-4 of their limits 0 and 1."""
    low, high = GLOBAL_SLOPES[name]
    values = [derivative(name, ball(k / 256)) for k in range(-12 * 256, 12 * 256 + 1)]
    assert all(not v < ball(low) and not v > ball(high) for v in values)
    assert any(v > ball(high) - ball(2e-4) for v in values)
    assert any(v < ball(low) + ball(1e-2) for v in values)


@pytest.mark.parametrize("name", [n for n in SMOOTH if n not in ("erf",)])
@pytest.mark.parametrize("radius", [1e-6, 0.1, 2.0])
def test_local_slopes_contain_the_derivative(name: str, radius: float) -> None:
    operation, attributes = (name.split()[0], {"approximate": "tanh"} if " " in name else {})
    mid = torch.linspace(-6, 6, 25, dtype=torch.float64)
    low, high = slope_range(operation, attributes, MidRad(mid, torch.full_like(mid, radius)))
    assert isinstance(low, Tensor)
    assert isinstance(high, Tensor)
    for share in (-0.999, -0.5, 0.0, 0.5, 0.999):
        for value, a, b in zip((mid + share * radius).tolist(), low.tolist(), high.tolist(), strict=True):
            truth = derivative(name, ball(value))
            assert not truth < ball(a)
            assert not truth > ball(b)
    if radius < 1e-3 and " " not in name and name != "mish":
        assert float((high - low).max()) < 1e-4


@pytest.mark.parametrize(
    ("operation", "attributes", "low", "high", "expected"),
    [
        ("relu", {}, 0.5, 1.0, (1, 1)),
        ("relu", {}, -1.0, -0.5, (0, 0)),
        ("relu", {}, -1.0, 0.5, (0, 1)),
        ("relu", {}, 0.0, 1.0, (0, 1)),
        ("abs", {}, -1.0, 1.0, (-1, 1)),
        ("relu6", {}, 1.0, 5.0, (1, 1)),
        ("relu6", {}, 5.0, 7.0, (0, 1)),
        ("hardtanh", {"minimum": -2.0, "maximum": 2.0}, -1.5, 1.5, (1, 1)),
        ("clamp", {"minimum": None, "maximum": 1.0}, -9.0, 0.5, (1, 1)),
        ("leaky_relu", {"negative_slope": 0.1}, -2.0, -1.0, (0.1, 0.1)),
        ("leaky_relu", {"negative_slope": 3.0}, -2.0, 1.0, (1, 3)),
        ("elu", {"alpha": 2.0}, -0.1, 0.1, (1, 2)),
        ("hardswish", {}, -9.0, 9.0, (-0.5, 1.5)),
        ("hardswish", {}, -9.0, -4.0, (0, 0)),
        ("hardswish", {}, 3.5, 4.0, (1, 1)),
        ("hardswish", {}, 2.9999, 3.0, (1, 1.5)),
        ("hardswish", {}, 3.0, 4.0, (1, 1.5)),
        ("hardswish", {}, -4.0, -3.0, (-0.5, 0)),
    ],
)
def test_piecewise_slopes(
    operation: str, attributes: dict[str, float], low: float, high: float, expected: tuple[float, float]
) -> None:
    ends = [torch.tensor([v], dtype=torch.float64) for v in (low, high)]
    found = slope_range(operation, attributes, MidRad.from_bounds(*ends))
    assert [float(v) for v in found] == list(expected)


def test_selu_slopes_hold_on_both_sides_of_its_kink() -> None:
    mid = torch.tensor([-2.0, -0.05, 0.0, 1.0], dtype=torch.float64)
    low, high = slope_range("selu", {}, MidRad(mid, torch.full_like(mid, 0.1)))
    assert isinstance(low, Tensor)
    assert isinstance(high, Tensor)
    for k, (a, b) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
        for share in (-0.999, -0.4, 0.0, 0.6, 0.999):
            x = float(mid[k]) + 0.1 * share
            truth = SELU_SCALE * (SELU_ALPHA * ball(x).exp() if x < 0 else 1)
            assert not truth < ball(a)
            assert not truth > ball(b)
    assert float(high[3] - low[3]) < 1e-14
    assert slope_range("selu", {}, None)[1] < 1.7581


@pytest.mark.parametrize("operation", ["exp", "square", "softmax", "round", "nonsense"])
def test_functions_without_a_global_constant_are_refused_by_name(operation: str) -> None:
    with pytest.raises(UnsupportedOperationError, match=operation):
        slope_range(operation, {}, None)


def test_a_negative_elu_is_refused() -> None:
    with pytest.raises(UnsupportedOperationError, match="elu"):
        slope_range("elu", {"alpha": -1.0}, None)
