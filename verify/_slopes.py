"""Slopes of elementwise functions over intervals: verified bounds of every difference quotient there."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from deqops._errors import UnsupportedOperationError

from . import _midrad as midrad
from ._elementary import (
    GELU_CUBIC,
    SELU_ALPHA,
    SELU_SCALE,
    SQRT_HALF,
    SQRT_TWO_OVER_PI,
    TWO_OVER_SQRT_PI,
    Ends,
    constant,
    erf,
    exp,
    gelu_argument,
    pow_scalar,
    reciprocal,
    rsqrt,
    sigmoid,
    softplus,
    square,
    tanh,
)
from ._global_slopes import global_slopes, number_of
from ._midrad import MidRad
from ._rounding import U, add_down, add_up, div_down, div_up, mul_down, mul_up
from ._turning import SHAPES, range_over
from ._waves import cos, sin

Slopes = tuple[Tensor | float, Tensor | float]


def slope_range(operation: str, attributes: object, x: MidRad | None) -> Slopes:
    """Verified bounds (lower, upper) of all difference quotients of an elementwise function.

    Args:
        operation: its name in the graph's vocabulary.
        attributes: its attributes, a mapping.
        x: where: an enclosure of the arguments, or None for all of R.

    Raises:
        UnsupportedOperationError: the function is not listed, or has no such bound on R.
    """
    values = dict(attributes)  # type: ignore[call-overload]
    whole = global_slopes(operation, values)
    if x is None:
        if whole is None:
            raise UnsupportedOperationError(operation, "has no Lipschitz constant on all of R, or none is known here")
        return whole
    rule = _LOCAL_SLOPES.get(operation)
    if rule is None:
        if whole is None:
            raise UnsupportedOperationError(operation, "has no slope rule")
        return torch.full_like(x.mid, whole[0]), torch.full_like(x.mid, whole[1])
    lower, upper = rule(x, values)
    unbounded = ~(x.mid.isfinite() & x.rad.isfinite())
    low, high = whole if whole is not None else (-math.inf, math.inf)
    lower = torch.where(unbounded | lower.isnan(), low, lower.clamp(min=low))
    upper = torch.where(unbounded | upper.isnan(), high, upper.clamp(max=high))
    return lower, upper


def _even_decreasing(derivative: Callable[[MidRad], MidRad]) -> Callable[[MidRad, dict[str, object]], Ends]:
    """Slopes where the derivative is even and falls with |x|."""

    def rule(x: MidRad, values: dict[str, object]) -> Ends:
        near, far = MidRad.exact(x.mignitude()), MidRad.exact(x.magnitude())
        return derivative(far).lower(), derivative(near).upper()

    return rule


def _tanh_derivative(x: MidRad) -> MidRad:
    return midrad.sub(constant(1.0, x.mid), square(tanh(x)))


def _sigmoid_derivative(x: MidRad) -> MidRad:
    value = sigmoid(x)
    return midrad.mul(value, midrad.sub(constant(1.0, x.mid), value))


def _softsign_derivative(x: MidRad) -> MidRad:
    return reciprocal(square(midrad.add(constant(1.0, x.mid), midrad.absolute(x))))


def _steps(x: MidRad, breaks: tuple[tuple[float, float], ...], last: float) -> Ends:
    """Slopes of a piecewise linear function: slope s_i up to break b_i, `last` beyond; both sides at a break."""
    lower, upper = torch.full_like(x.mid, math.inf), torch.full_like(x.mid, -math.inf)
    start = -math.inf
    for end, slope in (*breaks, (math.inf, last)):
        touches = (x.upper() >= start) & (x.lower() <= end)
        lower = torch.where(touches, lower.clamp(max=slope), lower)
        upper = torch.where(touches, upper.clamp(min=slope), upper)
        start = end
    return lower, upper


def _clamp_slopes(x: MidRad, minimum: object, maximum: object) -> Ends:
    low = -math.inf if minimum is None else float(minimum)  # type: ignore[arg-type]
    high = math.inf if maximum is None else float(maximum)  # type: ignore[arg-type]
    return _steps(x, ((low, 0.0), (max(low, high), 1.0)), 0.0)


def _softplus_slopes(x: MidRad, values: dict[str, object]) -> Ends:
    slope = sigmoid(midrad.mul(x, constant(number_of(values, "beta", 1.0), x.mid)))
    return slope.lower(), slope.upper()


def _elu_slopes(x: MidRad, values: dict[str, object]) -> Ends:
    alpha = constant(number_of(values, "alpha", 1.0), x.mid)
    below = midrad.mul(alpha, exp(MidRad.from_bounds(x.lower().clamp(max=0.0), x.upper().clamp(max=0.0))))
    one = torch.ones_like(x.mid)
    negative, positive = x.lower() <= 0, x.upper() >= 0
    lower = torch.where(negative, torch.where(positive, torch.minimum(below.lower(), one), below.lower()), one)
    upper = torch.where(negative, torch.where(positive, torch.maximum(below.upper(), one), below.upper()), one)
    return lower, upper


def _selu_slopes(x: MidRad, values: dict[str, object]) -> Ends:
    unit = _elu_slopes(x, {"alpha": float(SELU_ALPHA.mid)})
    # Its alpha is known to 2^-52: relatively much less than the 4 u by which the ends are widened.
    low, high = midrad.mul(MidRad.exact(unit[0]), SELU_SCALE), midrad.mul(MidRad.exact(unit[1]), SELU_SCALE)
    return mul_down(low.lower(), 1.0 - 4 * U), mul_up(high.upper(), 1.0 + 4 * U)


def _hardswish_slopes(x: MidRad, values: dict[str, object]) -> Ends:
    """(2x + 3)/6 within [-3, 3], where it grows; 0 and 1 outside."""
    low, high = x.lower(), x.upper()
    lower = div_down(add_down(2 * low.clamp(-3.0, 3.0), 3.0), 6.0)
    upper = div_up(add_up(2 * high.clamp(-3.0, 3.0), 3.0), 6.0)
    for touches, beyond, slope in ((low <= -3.0, high < -3.0, 0.0), (high >= 3.0, low > 3.0, 1.0)):
        lower = torch.where(beyond, slope, torch.where(touches, lower.clamp(max=slope), lower))
        upper = torch.where(beyond, slope, torch.where(touches, upper.clamp(min=slope), upper))
    return lower, upper


def _turning(name: str, derivative: Callable[[MidRad], MidRad]) -> Callable[[MidRad, dict[str, object]], Ends]:
    """The derivative at both ends and where it turns."""
    turns = SHAPES[name].derivative

    def rule(x: MidRad, values: dict[str, object]) -> Ends:
        slope = range_over(x, derivative, turns)
        return slope.lower(), slope.upper()

    return rule


def _gelu_slopes(x: MidRad, values: dict[str, object]) -> Ends:
    exact = values.get("approximate", "none") == "none"
    rule = _turning("gelu", _gelu_derivative) if exact else _turning("gelu tanh", _gelu_tanh_derivative)
    return rule(x, values)


def _gelu_derivative(x: MidRad) -> MidRad:
    half = constant(0.5, x.mid)
    cdf = midrad.mul(half, midrad.add(constant(1.0, x.mid), erf(midrad.mul(x, SQRT_HALF))))
    density = midrad.mul(
        exp(midrad.neg(midrad.mul(half, square(x)))),
        midrad.mul(half, midrad.mul(TWO_OVER_SQRT_PI, SQRT_HALF)),
    )
    return midrad.add(cdf, midrad.mul(x, density))


def _gelu_tanh_derivative(x: MidRad) -> MidRad:
    """(1 + t) / 2 + x u' (1 - t^2) / 2, t = tanh u."""
    one = constant(1.0, x.mid)
    t = tanh(gelu_argument(x))
    inner = midrad.add(one, midrad.mul(constant(3.0, x.mid), midrad.mul(constant(GELU_CUBIC, x.mid), square(x))))
    steep = midrad.mul(midrad.mul(SQRT_TWO_OVER_PI, inner), midrad.sub(one, square(t)))
    return midrad.mul(constant(0.5, x.mid), midrad.add(midrad.add(one, t), midrad.mul(x, steep)))


def _silu_derivative(x: MidRad) -> MidRad:
    return midrad.add(sigmoid(x), midrad.mul(x, _sigmoid_derivative(x)))


def _square_slopes(x: MidRad, values: dict[str, object]) -> Ends:
    return 2 * x.lower(), 2 * x.upper()


def _exp_slopes(x: MidRad, values: dict[str, object]) -> Ends:
    value = exp(x)
    return value.lower(), value.upper()


def _wave_slopes(derivative: Callable[[MidRad], MidRad]) -> Callable[[MidRad, dict[str, object]], Ends]:
    """The derivative's range, which knows its own turns."""

    def rule(x: MidRad, values: dict[str, object]) -> Ends:
        slope = derivative(x)
        return slope.lower(), slope.upper()

    return rule


def _where_positive(derivative: Callable[[MidRad], MidRad], above: float = 0.0) -> Callable[..., Ends]:
    """The derivative, monotone where the function is defined and smooth, beyond `above`; no number elsewhere."""

    def rule(x: MidRad, values: dict[str, object]) -> Ends:
        slope, inside = range_over(x, derivative), x.lower() > above
        return torch.where(inside, slope.lower(), math.nan), torch.where(inside, slope.upper(), math.nan)

    return rule


def _reciprocal_slopes(x: MidRad, values: dict[str, object]) -> Ends:
    """-1/x^2, on either side of 0."""
    slope, apart = midrad.neg(reciprocal(square(x))), x.mignitude() > 0
    return torch.where(apart, slope.lower(), math.nan), torch.where(apart, slope.upper(), math.nan)


def _rsqrt_derivative(x: MidRad) -> MidRad:
    return midrad.mul(constant(-0.5, x.mid), midrad.mul(rsqrt(x), reciprocal(x)))


def _erf_derivative(x: MidRad) -> MidRad:
    return midrad.mul(TWO_OVER_SQRT_PI, exp(midrad.neg(square(x))))


def _atan_derivative(x: MidRad) -> MidRad:
    return reciprocal(midrad.add(constant(1.0, x.mid), square(x)))


def _power_slopes(x: MidRad, values: dict[str, object]) -> Ends:
    """p x^(p-1): for a whole p > 0 everywhere, for another where x > 0."""
    exponent = number_of(values, "exponent", 1.0)
    slope = midrad.mul(constant(exponent, x.mid), pow_scalar(x, exponent - 1.0))
    inside = x.lower() > (-math.inf if exponent >= 1 and exponent == round(exponent) else 0.0)
    return torch.where(inside, slope.lower(), math.nan), torch.where(inside, slope.upper(), math.nan)


def _mish_derivative(x: MidRad) -> MidRad:
    """t + x sigmoid(x) (1 - t^2), t = tanh(softplus(x))."""
    t = tanh(softplus(x))
    falling = midrad.sub(constant(1.0, x.mid), square(t))
    return midrad.add(t, midrad.mul(x, midrad.mul(sigmoid(x), falling)))


_LOCAL_SLOPES: dict[str, Callable[[MidRad, dict[str, object]], Ends]] = {
    "tanh": _even_decreasing(_tanh_derivative),
    "sigmoid": _even_decreasing(_sigmoid_derivative),
    "softsign": _even_decreasing(_softsign_derivative),
    "relu": lambda x, v: _steps(x, ((0.0, 0.0),), 1.0),
    "abs": lambda x, v: _steps(x, ((0.0, -1.0),), 1.0),
    "relu6": lambda x, v: _clamp_slopes(x, 0.0, 6.0),
    "hardtanh": lambda x, v: _clamp_slopes(x, v.get("minimum", -1.0), v.get("maximum", 1.0)),
    "clamp": lambda x, v: _clamp_slopes(x, v.get("minimum"), v.get("maximum")),
    "leaky_relu": lambda x, v: _steps(x, ((0.0, number_of(v, "negative_slope", 0.01)),), 1.0),
    "softplus": _softplus_slopes,
    "elu": _elu_slopes,
    "gelu": _gelu_slopes,
    "silu": _turning("silu", _silu_derivative),
    "square": _square_slopes,
    "exp": _exp_slopes,
    "expm1": _exp_slopes,
    "selu": _selu_slopes,
    "hardswish": _hardswish_slopes,
    "mish": _turning("mish", _mish_derivative),
    "erf": _even_decreasing(_erf_derivative),
    "atan": _even_decreasing(_atan_derivative),
    "sin": _wave_slopes(cos),
    "cos": _wave_slopes(lambda x: midrad.neg(sin(x))),
    "log": _where_positive(reciprocal),
    "log1p": _where_positive(lambda x: reciprocal(midrad.add(constant(1.0, x.mid), x)), above=-1.0),
    "sqrt": _where_positive(lambda x: midrad.mul(constant(0.5, x.mid), rsqrt(x))),
    "rsqrt": _where_positive(_rsqrt_derivative),
    "reciprocal": _reciprocal_slopes,
    "pow_scalar": _power_slopes,
}
