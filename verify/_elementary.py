"""Enclosures of elementary functions, built from +, -, *, / alone: nothing is assumed of the C library.

Only `exp` is computed from scratch; its relative error constant is derived below. The rest follow from it in
midpoint-radius arithmetic. Monotone functions are evaluated at both ends of an interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from deqops._errors import InputError, UnsupportedOperationError

from . import _midrad as midrad
from ._midrad import MidRad
from ._rounding import (
    TINY,
    U,
    add_down,
    add_up,
    div_down,
    div_up,
    mul_down,
    mul_up,
    next_down,
    next_up,
    sqrt_down,
    sqrt_up,
)

# ln 2 = LN2_HIGH + LN2_LOW + e, |e| < 2^-97; LN2_HIGH has 42 significant bits, so k * LN2_HIGH is exact for |k| < 2048.
LN2_HIGH = float.fromhex("0x1.62e42fefa3800p-1")
LN2_LOW = float.fromhex("0x1.ef35793c76730p-45")

EXP_RELATIVE = 12 * U
"""`|fl_exp(x) - e^x| <= 12 u e^x + 2^-1074` for the polynomial below.

With x = k ln2 + r, |r| <= 0.3466: forming r errs by at most 2 * 0.35 u + |k| 2^-97 + |k LN2_LOW| u < 0.8 u, a factor
of at most e^{0.8u}. The Taylor polynomial of degree 15 leaves less than r^16/16! * 1.5 < 1e-20. It is evaluated as
1 + (r + r^2 q(r)); Horner's rule for q (degree 13, coefficients rounded) errs by at most gamma_28 * 0.6 < 17 u, times
r^2 <= 0.1202: 2.1 u; squaring, the product and the two sums add less than 0.2 u + 0.5 u + 1.5 u. In all below
5.2 u absolutely, and the polynomial is at least 0.707: below 7.4 u + 0.8 u relatively. 12 u leaves room.
"""
_COEFFICIENTS = [1.0 / math.factorial(n) for n in range(2, 16)]

_SQRT_HALF = MidRad(torch.tensor(math.sqrt(0.5), dtype=torch.float64), torch.tensor(2.0**-53, dtype=torch.float64))
_TWO_OVER_SQRT_PI = MidRad(
    torch.tensor(2 / math.sqrt(math.pi), dtype=torch.float64), torch.tensor(2.0**-51, dtype=torch.float64)
)
_SQRT_TWO_OVER_PI = MidRad(
    torch.tensor(math.sqrt(2 / math.pi), dtype=torch.float64), torch.tensor(2.0**-52, dtype=torch.float64)
)
_LN2 = MidRad(torch.tensor(math.log(2.0), dtype=torch.float64), torch.tensor(2.0**-53, dtype=torch.float64))
# SELU's published decimals; the radius covers torch's rounding of them too.
_SELU_SCALE = MidRad(
    torch.tensor(1.0507009873554804934193349852946, dtype=torch.float64), torch.tensor(2.0**-52, dtype=torch.float64)
)
_SELU_ALPHA = MidRad(
    torch.tensor(1.6732632423543772848170429916717, dtype=torch.float64), torch.tensor(2.0**-52, dtype=torch.float64)
)

Ends = tuple[Tensor, Tensor]


def _const(value: float, like: Tensor) -> MidRad:
    return MidRad.exact(torch.full_like(like, value))


def _monotone(x: MidRad, ends: Callable[[Tensor], Ends], *, decreasing: bool = False) -> MidRad:
    """Enclosure of a monotone function from its bounds at points."""
    if x.is_exact():
        return MidRad.from_bounds(*ends(x.mid))
    low, high = (x.upper(), x.lower()) if decreasing else (x.lower(), x.upper())
    lower, upper = ends(torch.stack([low, high]))
    return MidRad.from_bounds(lower[0], upper[1])


# ------------------------------------------------------------------------------------------------- exp and log


def _exp_ends(x: Tensor) -> Ends:
    inner = x.clamp(-745.0, 709.75)
    k = torch.round(inner / LN2_HIGH)
    r = (inner - k * LN2_HIGH) - k * LN2_LOW
    q = torch.full_like(r, _COEFFICIENTS[-1])
    for coefficient in reversed(_COEFFICIENTS[:-1]):
        q = q * r + coefficient
    value = 1.0 + (r + (r * r) * q)
    half = torch.floor(k / 2)
    value = value * _exact_power_of_two(half) * _exact_power_of_two(k - half)
    error = add_up(mul_up(value, EXP_RELATIVE), TINY)
    lower, upper = next_down(value - error).clamp(min=0.0), next_up(value + error)
    upper = torch.where(x > 709.75, math.inf, torch.where(x < -745.0, TINY, upper))
    lower = torch.where(x < -745.0, 0.0, lower)
    return _at_zero(x, 1.0, lower, upper)


def _exact_power_of_two(exponent: Tensor) -> Tensor:
    return ((exponent.to(torch.int64) + 1023) << 52).view(torch.float64)


def _at_zero(x: Tensor, value: float, lower: Tensor, upper: Tensor) -> Ends:
    """Bounds that are exact at 0 and NaN at NaN."""
    lower, upper = torch.where(x == 0, value, lower), torch.where(x == 0, value, upper)
    return torch.where(x.isnan(), x, lower), torch.where(x.isnan(), x, upper)


def exp(x: MidRad) -> MidRad:
    """e^x."""
    return _monotone(x, _exp_ends)


def expm1(x: MidRad) -> MidRad:
    """e^x - 1 (absolute accuracy)."""
    return midrad.sub(exp(x), _const(1.0, x.mid))


def _log_ends(x: Tensor) -> Ends:
    """`log x = e ln2 + y + log(m e^-y)` with x = m 2^e and any y; |log(1+d)| <= |d| / (1 - |d|)."""
    inside = (x > 0) & x.isfinite()
    m, e = torch.frexp(torch.where(inside, x, torch.ones_like(x)))
    y = torch.log(m)  # a proposal
    quotient = midrad.mul(MidRad.exact(m), exp(MidRad.exact(-y)))
    off = midrad.sub(quotient, _const(1.0, m)).magnitude()
    # A proposal as bad as that would prove nothing: the whole line.
    error = torch.where(off <= 0.25, div_up(off, 1.0 - 2 * off.clamp(max=0.25)), math.inf)
    part = MidRad(y, error)
    total = midrad.add(midrad.mul(MidRad.exact(e.double()), _LN2), part)
    nan = torch.full_like(x, math.nan)
    lower, upper = torch.where(inside, total.lower(), nan), torch.where(inside, total.upper(), nan)
    lower, upper = torch.where(x == 1, 0.0, lower), torch.where(x == 1, 0.0, upper)
    lower, upper = torch.where(x == 0, -math.inf, lower), torch.where(x == 0, -math.inf, upper)
    upper = torch.where(x == math.inf, math.inf, upper)
    return torch.where(x == math.inf, 709.78, lower), upper


def log(x: MidRad) -> MidRad:
    """log x; NaN where the interval reaches below 0."""
    return _monotone(x, _log_ends)


def log1p(x: MidRad) -> MidRad:
    """log(1 + x) (absolute accuracy)."""
    return log(midrad.add(x, _const(1.0, x.mid)))


# --------------------------------------------------------------------------------------------- roots and powers


def sqrt(x: MidRad) -> MidRad:
    """The square root; NaN where the interval reaches below 0."""
    return _monotone(x, lambda t: (sqrt_down(t), sqrt_up(t)))


def reciprocal(x: MidRad) -> MidRad:
    """1/x; +-inf at an exact zero as in IEEE arithmetic."""
    result = midrad.div(_const(1.0, x.mid), x)
    zero = (x.mid == 0) & (x.rad == 0)
    return MidRad(torch.where(zero, 1.0 / x.mid, result.mid), torch.where(zero, 0.0, result.rad))


def rsqrt(x: MidRad) -> MidRad:
    """1/sqrt(x); +inf at an exact zero."""

    def ends(t: Tensor) -> Ends:
        low, high = div_down(1.0, sqrt_up(t)), div_up(1.0, sqrt_down(t))
        return torch.where(t == 0, math.inf, low), torch.where(t == 0, math.inf, high)

    result = _monotone(x, ends, decreasing=True)
    exact_zero = (x.mid == 0) & (x.rad == 0)
    open_ = ~exact_zero & ~(x.lower() > 0)
    mid = torch.where(exact_zero, math.inf, torch.where(open_, 0.0, result.mid))
    return MidRad(mid, torch.where(exact_zero, 0.0, torch.where(open_, math.inf, result.rad)))


def square(x: MidRad) -> MidRad:
    """x^2, at least 0."""
    product = midrad.mul(x, x)
    if x.is_exact():
        return product
    low, high = x.mignitude(), x.magnitude()
    lower = torch.where(low == 0, 0.0, next_down(low * low).clamp(min=0))
    return MidRad.from_bounds(lower, mul_up(high, high))


def pow_scalar(x: MidRad, exponent: float | int) -> MidRad:
    """x^exponent for a whole or half-whole exponent of modulus at most 64.

    Raises:
        UnsupportedOperationError: another exponent.
    """
    doubled = 2.0 * float(exponent)
    if doubled != round(doubled) or abs(doubled) > 128:
        raise UnsupportedOperationError("pow", f"with exponent {exponent} has no enclosure rule")
    if doubled < 0:
        return rsqrt(x) if doubled == -1 else reciprocal(pow_scalar(x, -float(exponent)))
    whole, root = divmod(int(doubled), 2)
    result = _whole_power(x, whole)
    return midrad.mul(result, sqrt(x)) if root else result


def _whole_power(x: MidRad, exponent: int) -> MidRad:
    result, factor = _const(1.0, x.mid), x
    while exponent:
        if exponent & 1:
            result = midrad.mul(result, factor)
        factor, exponent = square(factor) if exponent > 1 else factor, exponent >> 1
    return result


# ----------------------------------------------------------------------------------------- sigmoids and the like


def _tanh_ends(x: Tensor) -> Ends:
    a = x.abs()
    inner = MidRad.exact(a.clamp(max=25.0) * 2.0)
    grown = midrad.add(exp(inner), _const(1.0, a))
    value = midrad.sub(_const(1.0, a), midrad.div(_const(2.0, a), grown))
    # Near 0, x - x^3/3 <= tanh x <= x for x >= 0 is sharper.
    cubed = mul_up(mul_up(mul_up(a, a), a), 1.0 / 3.0 + 2.0**-53)
    lower = torch.maximum(value.lower(), next_down(a - cubed)).clamp(min=0.0)
    upper = torch.minimum(torch.where(a > 25.0, 1.0, value.upper()), a).clamp(max=1.0)
    lower, upper = torch.minimum(lower, upper), upper
    low, high = torch.where(x < 0, -upper, lower), torch.where(x < 0, -lower, upper)
    return _at_zero(x, 0.0, low, high)


def tanh(x: MidRad) -> MidRad:
    """The hyperbolic tangent."""
    return _monotone(x, _tanh_ends)


def _sigmoid_ends(x: Tensor) -> Ends:
    grown = midrad.add(exp(MidRad.exact(-x.clamp(-700.0, 700.0))), _const(1.0, x))
    value = midrad.div(_const(1.0, x), grown)
    lower = torch.where(x < -700.0, 0.0, value.lower().clamp(min=0.0))
    upper = torch.where(x > 700.0, 1.0, value.upper().clamp(max=1.0))
    return _at_zero(x, 0.5, lower, upper)


def sigmoid(x: MidRad) -> MidRad:
    """1 / (1 + e^-x)."""
    return _monotone(x, _sigmoid_ends)


def softplus(x: MidRad, beta: float = 1.0, threshold: float = 20.0) -> MidRad:
    """The smooth log(1 + e^(beta x)) / beta; torch's switch to x above the threshold is not part of it."""
    _require_smooth(beta, threshold)

    def ends(t: Tensor) -> Ends:
        z = midrad.mul(MidRad.exact(t), _const(beta, t))
        tail = log1p(exp(midrad.neg(midrad.absolute(z))))
        total = midrad.add(midrad.maximum(z, _const(0.0, t)), tail)
        value = midrad.div(total, _const(beta, t))
        return value.lower().clamp(min=0.0), value.upper()

    return _monotone(x, ends)


def _require_smooth(beta: float, threshold: float) -> None:
    """Refuse torch's softplus where it is further than 2.1e-9 from the smooth function, or none."""
    if not (0 < beta < math.inf and threshold >= 20):
        raise UnsupportedOperationError("softplus", f"with beta {beta}, threshold {threshold} has no rule")


def softsign(x: MidRad) -> MidRad:
    """x / (1 + |x|)."""

    def ends(t: Tensor) -> Ends:
        value = midrad.div(MidRad.exact(t), midrad.add(_const(1.0, t), MidRad.exact(t.abs())))
        return value.lower(), value.upper()

    return _monotone(x, ends)


def elu(x: MidRad, alpha: float = 1.0) -> MidRad:
    """x for x > 0, alpha (e^x - 1) below; alpha >= 0."""
    if not (alpha >= 0 and math.isfinite(alpha)):
        raise UnsupportedOperationError("elu", f"with alpha {alpha} has no rule")

    def ends(t: Tensor) -> Ends:
        below = midrad.mul(expm1(MidRad.exact(t.clamp(max=0.0))), _const(alpha, t))
        return torch.where(t > 0, t, below.lower()), torch.where(t > 0, t, below.upper().clamp(max=0.0))

    return _monotone(x, ends)


def selu(x: MidRad) -> MidRad:
    """1.0507... x for x > 0, 1.0507... * 1.6732... (e^x - 1) below."""

    def ends(t: Tensor) -> Ends:
        below = midrad.mul(expm1(MidRad.exact(t.clamp(max=0.0))), _SELU_ALPHA)
        below = MidRad.from_bounds(below.lower(), below.upper().clamp(max=0.0))
        value = midrad.mul(midrad.where(t > 0, MidRad.exact(t), below), _SELU_SCALE)
        return value.lower(), value.upper()

    return _monotone(x, ends)


def erf(x: MidRad) -> MidRad:
    """The error function, by its series of positive terms `2/sqrt(pi) e^-x^2 sum 2^n x^(2n+1) / (2n+1)!!`."""
    return _monotone(x, _erf_ends)


def _erf_ends(x: Tensor) -> Ends:
    a = x.abs().clamp(max=6.0)
    square_ = midrad.mul(MidRad.exact(a), MidRad.exact(a))
    term, total = a.clone(), a.clone()
    weighted = torch.zeros_like(a)  # sum of n * term, for the accumulated relative errors
    doubled = 2.0 * (a * a)
    for n in range(1, 150):
        term = term * doubled / (2 * n + 1)
        total, weighted = total + term, weighted + n * term
        if n % 8 == 0 and bool(((term <= 2.0**-64 * total) & (doubled <= n / 2)).all()):
            break
    # Each step multiplies three roundings and one of x^2; at most 150 additions of positive terms; the tail is below
    # 2^-60 of the sum for |x| <= 6: ratios under 1/4 from the last term on, which is below 2^-64 of the sum (all of
    # 150 terms: ratios under 0.24, the last below 2^-75).
    error = mul_up(mul_up(add_up(mul_up(weighted, 5.0), mul_up(total, 160.0)), U), 1.0 + 2.0**-20)
    factor = midrad.mul(_TWO_OVER_SQRT_PI, exp(midrad.neg(square_)))
    value = midrad.mul(MidRad(total, add_up(error, TINY)), factor)
    lower, upper = value.lower().clamp(min=0.0), value.upper().clamp(max=1.0)
    far = x.abs() > 6.0
    lower = torch.where(far, torch.maximum(lower, torch.full_like(lower, 1.0 - 2.0**-53)), lower)
    upper = torch.where(far, 1.0, upper)
    lower = torch.minimum(lower, upper)
    low, high = torch.where(x < 0, -upper, lower), torch.where(x < 0, -lower, upper)
    return _at_zero(x, 0.0, low, high)


def _around_center(name: str, x: MidRad, point: Callable[[MidRad], MidRad], attributes: dict[str, object]) -> MidRad:
    """f on an interval that is not monotone there: `f(mid) +- sup |slope| rad`."""
    value = point(MidRad.exact(x.mid))
    if x.is_exact():
        return value
    lower, upper = slope_range(name, attributes, None)
    steepest = max(abs(float(lower)), abs(float(upper)))
    return MidRad(value.mid, add_up(value.rad, mul_up(x.rad, steepest)))


def silu(x: MidRad) -> MidRad:
    """x / (1 + e^-x)."""
    return _around_center("silu", x, lambda t: midrad.mul(t, sigmoid(t)), {})


def mish(x: MidRad) -> MidRad:
    """x tanh(softplus(x))."""
    return _around_center("mish", x, lambda t: midrad.mul(t, tanh(softplus(t))), {})


def gelu(x: MidRad, approximate: str = "none") -> MidRad:
    """x Phi(x), or its tanh form."""

    def point(t: MidRad) -> MidRad:
        half = midrad.mul(t, _const(0.5, t.mid))
        if approximate == "none":
            inner = erf(midrad.mul(t, _SQRT_HALF))
        else:
            coefficient = MidRad.exact(torch.full_like(t.mid, 0.044715))
            cubic = midrad.add(t, midrad.mul(coefficient, midrad.mul(t, midrad.mul(t, t))))
            inner = tanh(midrad.mul(cubic, _SQRT_TWO_OVER_PI))
        return midrad.mul(half, midrad.add(_const(1.0, t.mid), inner))

    return _around_center("gelu", x, point, {"approximate": approximate})


def hardswish(x: MidRad) -> MidRad:
    """x min(max(x + 3, 0), 6) / 6."""

    def point(t: MidRad) -> MidRad:
        gate = relu6(midrad.add(t, _const(3.0, t.mid)))
        return midrad.mul(t, midrad.div(gate, _const(6.0, t.mid)))

    return _around_center("hardswish", x, point, {})


# --------------------------------------------------------------------------------------------- piecewise linear


def relu(x: MidRad) -> MidRad:
    """max(x, 0)."""
    return clamp(x, 0.0, None)


def relu6(x: MidRad) -> MidRad:
    """min(max(x, 0), 6)."""
    return clamp(x, 0.0, 6.0)


def hardtanh(x: MidRad, minimum: float = -1.0, maximum: float = 1.0) -> MidRad:
    """x clamped to [minimum, maximum]."""
    return clamp(x, minimum, maximum)


def clamp(x: MidRad, minimum: float | None = None, maximum: float | None = None) -> MidRad:
    """x clamped; None for an open end. Where minimum > maximum the result is maximum, as in torch."""

    def ends(t: Tensor) -> Ends:
        value = t.clamp(min=minimum) if minimum is not None else t
        value = value.clamp(max=maximum) if maximum is not None else value
        return value, value

    return _kept_where_linear(x, _monotone(x, ends))


def _kept_where_linear(x: MidRad, image: MidRad) -> MidRad:
    """The interval itself where both its ends are fixed points."""
    same = (image.lower() == x.lower()) & (image.upper() == x.upper())
    return midrad.where(same, x, image)


def leaky_relu(x: MidRad, negative_slope: float = 0.01) -> MidRad:
    """x for x > 0, negative_slope * x below."""
    scaled = midrad.mul(x, _const(negative_slope, x.mid))
    if 0 <= negative_slope <= 1:
        return midrad.maximum(x, scaled) if not x.is_exact() else midrad.where(x.mid > 0, x, scaled)
    if x.is_exact():
        return midrad.where(x.mid > 0, x, scaled)
    lower = torch.minimum(torch.minimum(x.lower(), scaled.lower()), torch.zeros_like(x.mid))
    upper = torch.maximum(torch.maximum(x.upper(), scaled.upper()), torch.zeros_like(x.mid))
    return MidRad.from_bounds(lower, upper)


# ------------------------------------------------------------------------------------------------------- slopes

# Slopes over all of R, rounded outwards (extrema of the derivative at +-sqrt(2) for GELU, +-1.41850 for its tanh
# form, +-2.39936 for SiLU, 1.49057 and -2.25638 for Mish).
GLOBAL_SLOPES: dict[str, tuple[float, float]] = {
    "tanh": (0.0, 1.0),
    "relu": (0.0, 1.0),
    "relu6": (0.0, 1.0),
    "hardtanh": (0.0, 1.0),
    "clamp": (0.0, 1.0),
    "softsign": (0.0, 1.0),
    "softplus": (0.0, 1.0),
    "abs": (-1.0, 1.0),
    "sigmoid": (0.0, 0.25),
    "gelu": (-0.1289042, 1.1289042),
    "gelu tanh": (-0.1289931, 1.1289931),
    "silu": (-0.0998394, 1.0998394),
    "mish": (-0.1125262, 1.0884982),
    "erf": (0.0, 1.1283792),
    "hardswish": (-0.5, 1.5),
    "selu": (0.0, 1.7580994),
    "sin": (-1.0, 1.0),
    "cos": (-1.0, 1.0),
}
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
    whole = _global_slopes(operation, values)
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


def _global_slopes(operation: str, values: dict[str, object]) -> tuple[float, float] | None:
    if operation == "leaky_relu":
        slope = _number(values, "negative_slope", 0.01)
        return min(1.0, slope), max(1.0, slope)
    if operation == "elu":
        alpha = _number(values, "alpha", 1.0)
        return (0.0, max(1.0, alpha)) if alpha >= 0 else None
    if operation == "softplus":
        _require_smooth(_number(values, "beta", 1.0), _number(values, "threshold", 20.0))
    if operation == "gelu" and values.get("approximate", "none") != "none":
        return GLOBAL_SLOPES["gelu tanh"]
    return GLOBAL_SLOPES.get(operation)


def _number(values: dict[str, object], name: str, default: float) -> float:
    value = values.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"attribute {name}: a finite number is needed, got {value!r}")
    return float(value)


def _even_decreasing(derivative: Callable[[MidRad], MidRad]) -> Callable[[MidRad, dict[str, object]], Ends]:
    """Slopes where the derivative is even and falls with |x|."""

    def rule(x: MidRad, values: dict[str, object]) -> Ends:
        near, far = MidRad.exact(x.mignitude()), MidRad.exact(x.magnitude())
        return derivative(far).lower(), derivative(near).upper()

    return rule


def _tanh_derivative(x: MidRad) -> MidRad:
    return midrad.sub(_const(1.0, x.mid), square(tanh(x)))


def _sigmoid_derivative(x: MidRad) -> MidRad:
    value = sigmoid(x)
    return midrad.mul(value, midrad.sub(_const(1.0, x.mid), value))


def _softsign_derivative(x: MidRad) -> MidRad:
    return reciprocal(square(midrad.add(_const(1.0, x.mid), midrad.absolute(x))))


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
    slope = sigmoid(midrad.mul(x, _const(_number(values, "beta", 1.0), x.mid)))
    return slope.lower(), slope.upper()


def _elu_slopes(x: MidRad, values: dict[str, object]) -> Ends:
    alpha = _const(_number(values, "alpha", 1.0), x.mid)
    below = midrad.mul(alpha, exp(MidRad.from_bounds(x.lower().clamp(max=0.0), x.upper().clamp(max=0.0))))
    one = torch.ones_like(x.mid)
    negative, positive = x.lower() <= 0, x.upper() >= 0
    lower = torch.where(negative, torch.where(positive, torch.minimum(below.lower(), one), below.lower()), one)
    upper = torch.where(negative, torch.where(positive, torch.maximum(below.upper(), one), below.upper()), one)
    return lower, upper


def _selu_slopes(x: MidRad, values: dict[str, object]) -> Ends:
    unit = _elu_slopes(x, {"alpha": float(_SELU_ALPHA.mid)})
    # Its alpha is known to 2^-52: relatively much less than the 4 u by which the ends are widened.
    low, high = midrad.mul(MidRad.exact(unit[0]), _SELU_SCALE), midrad.mul(MidRad.exact(unit[1]), _SELU_SCALE)
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


def _curved(
    name: str, derivative: Callable[[MidRad], MidRad], curvature: float
) -> Callable[[MidRad, dict[str, object]], Ends]:
    """Slopes from the derivative at the centre and a bound of the second derivative."""

    def rule(x: MidRad, values: dict[str, object]) -> Ends:
        if values.get("approximate", "none") != "none":
            low, high = GLOBAL_SLOPES[f"{name} tanh"]
            return torch.full_like(x.mid, low), torch.full_like(x.mid, high)
        center = derivative(MidRad.exact(x.mid))
        spread = MidRad(center.mid, add_up(center.rad, mul_up(x.rad, curvature)))
        return spread.lower(), spread.upper()

    return rule


def _gelu_derivative(x: MidRad) -> MidRad:
    half = _const(0.5, x.mid)
    cdf = midrad.mul(half, midrad.add(_const(1.0, x.mid), erf(midrad.mul(x, _SQRT_HALF))))
    density = midrad.mul(
        exp(midrad.neg(midrad.mul(half, square(x)))),
        midrad.mul(half, midrad.mul(_TWO_OVER_SQRT_PI, _SQRT_HALF)),
    )
    return midrad.add(cdf, midrad.mul(x, density))


def _silu_derivative(x: MidRad) -> MidRad:
    return midrad.add(sigmoid(x), midrad.mul(x, _sigmoid_derivative(x)))


def _square_slopes(x: MidRad, values: dict[str, object]) -> Ends:
    return 2 * x.lower(), 2 * x.upper()


def _exp_slopes(x: MidRad, values: dict[str, object]) -> Ends:
    value = exp(x)
    return value.lower(), value.upper()


_LOCAL_SLOPES: dict[str, Callable[[MidRad, dict[str, object]], Ends]] = {
    "tanh": _even_decreasing(_tanh_derivative),
    "sigmoid": _even_decreasing(_sigmoid_derivative),
    "softsign": _even_decreasing(_softsign_derivative),
    "relu": lambda x, v: _steps(x, ((0.0, 0.0),), 1.0),
    "abs": lambda x, v: _steps(x, ((0.0, -1.0),), 1.0),
    "relu6": lambda x, v: _clamp_slopes(x, 0.0, 6.0),
    "hardtanh": lambda x, v: _clamp_slopes(x, v.get("minimum", -1.0), v.get("maximum", 1.0)),
    "clamp": lambda x, v: _clamp_slopes(x, v.get("minimum"), v.get("maximum")),
    "leaky_relu": lambda x, v: _steps(x, ((0.0, _number(v, "negative_slope", 0.01)),), 1.0),
    "softplus": _softplus_slopes,
    "elu": _elu_slopes,
    "gelu": _curved("gelu", _gelu_derivative, 0.8),  # |gelu''| <= 2 phi(0) < 0.798
    "silu": _curved("silu", _silu_derivative, 0.5),  # silu''(0) = 1/2 is its largest modulus
    "square": _square_slopes,
    "exp": _exp_slopes,
    "expm1": _exp_slopes,
    "selu": _selu_slopes,
    "hardswish": _hardswish_slopes,
}
