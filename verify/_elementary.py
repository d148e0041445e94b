"""Enclosures of elementary functions, built from +, -, *, / alone: nothing is assumed of the C library.

Only `exp` is computed from scratch; its relative error constant is derived below. The rest follow from it in
midpoint-radius arithmetic. Monotone functions are evaluated at both ends of an interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from deqops._errors import UnsupportedOperationError

from . import _hull as hull
from . import _midrad as midrad
from ._global_slopes import require_smooth
from ._midrad import MidRad
from ._rounding import (
    TINY,
    U,
    add_up,
    div_down,
    div_up,
    mul_up,
    next_down,
    next_up,
    sqrt_down,
    sqrt_up,
)
from ._turning import SHAPES, Turn, range_over

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

SQRT_HALF = MidRad(torch.tensor(math.sqrt(0.5), dtype=torch.float64), torch.tensor(2.0**-53, dtype=torch.float64))
TWO_OVER_SQRT_PI = MidRad(
    torch.tensor(2 / math.sqrt(math.pi), dtype=torch.float64), torch.tensor(2.0**-51, dtype=torch.float64)
)
SQRT_TWO_OVER_PI = MidRad(
    torch.tensor(math.sqrt(2 / math.pi), dtype=torch.float64), torch.tensor(2.0**-52, dtype=torch.float64)
)
GELU_CUBIC = 0.044715
_LN2 = MidRad(torch.tensor(math.log(2.0), dtype=torch.float64), torch.tensor(2.0**-53, dtype=torch.float64))
# SELU's published decimals; the radius covers torch's rounding of them too.
SELU_SCALE = MidRad(
    torch.tensor(1.0507009873554804934193349852946, dtype=torch.float64), torch.tensor(2.0**-52, dtype=torch.float64)
)
SELU_ALPHA = MidRad(
    torch.tensor(1.6732632423543772848170429916717, dtype=torch.float64), torch.tensor(2.0**-52, dtype=torch.float64)
)

Ends = tuple[Tensor, Tensor]


def constant(value: float, like: Tensor) -> MidRad:
    """A number in the shape of a tensor."""
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
    return midrad.sub(exp(x), constant(1.0, x.mid))


def _log_ends(x: Tensor) -> Ends:
    """`log x = e ln2 + y + log(m e^-y)` with x = m 2^e and any y; |log(1+d)| <= |d| / (1 - |d|)."""
    inside = (x > 0) & x.isfinite()
    m, e = torch.frexp(torch.where(inside, x, torch.ones_like(x)))
    y = torch.log(m)  # a proposal
    quotient = midrad.mul(MidRad.exact(m), exp(MidRad.exact(-y)))
    off = midrad.sub(quotient, constant(1.0, m)).magnitude()
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
    return log(midrad.add(x, constant(1.0, x.mid)))


# --------------------------------------------------------------------------------------------- roots and powers


def sqrt(x: MidRad) -> MidRad:
    """The square root; NaN where the interval reaches below 0."""
    return _monotone(x, lambda t: (sqrt_down(t), sqrt_up(t)))


def reciprocal(x: MidRad) -> MidRad:
    """1/x; +-inf at an exact zero as in IEEE arithmetic."""
    result = hull.div(constant(1.0, x.mid), x)
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
    """x^exponent, for an exponent that is not whole where x >= 0 alone.

    Raises:
        UnsupportedOperationError: a whole exponent beyond 64, an infinite one or NaN.
    """
    doubled = 2.0 * float(exponent)
    if not math.isfinite(doubled) or (doubled / 2 == round(doubled / 2) and abs(doubled) > 128):
        raise UnsupportedOperationError("pow", f"with exponent {exponent} has no enclosure rule")
    if doubled != round(doubled) or abs(doubled) > 128:
        return range_over(x, lambda t: _real_power_of_points(t, float(exponent)))
    if doubled < 0:
        return rsqrt(x) if doubled == -1 else reciprocal(pow_scalar(x, -float(exponent)))
    whole, root = divmod(int(doubled), 2)
    if not root:
        return _whole_power(x, whole)
    return range_over(x, lambda t: midrad.mul(_power_of_points(t, whole), sqrt(t)))


def _whole_power(x: MidRad, exponent: int) -> MidRad:
    """Odd powers rise; even ones turn at 0."""
    turns = (Turn((0.0, 0.0), (0.0, 0.0)),) if exponent and not exponent & 1 else ()
    return range_over(x, lambda t: _power_of_points(t, exponent), turns)


def _real_power_of_points(x: MidRad, exponent: float) -> MidRad:
    """e^(p log x) at points x > 0; 0 at 0 for p > 0, and NaN elsewhere."""
    inside = x.mid > 0
    value = exp(midrad.mul(constant(exponent, x.mid), log(MidRad.exact(torch.where(inside, x.mid, 1.0)))))
    outside = torch.where(x.mid == 0, 0.0, math.nan) if exponent > 0 else torch.full_like(x.mid, math.nan)
    ends = (torch.where(inside, end, outside) for end in (value.lower().clamp(min=0.0), value.upper()))
    return MidRad.from_bounds(*ends)


def _power_of_points(x: MidRad, exponent: int) -> MidRad:
    result, factor = constant(1.0, x.mid), x
    while exponent:
        if exponent & 1:
            result = midrad.mul(result, factor)
        factor, exponent = square(factor) if exponent > 1 else factor, exponent >> 1
    return result


# ----------------------------------------------------------------------------------------- sigmoids and the like


def _tanh_ends(x: Tensor) -> Ends:
    a = x.abs()
    inner = MidRad.exact(a.clamp(max=25.0) * 2.0)
    grown = midrad.add(exp(inner), constant(1.0, a))
    value = midrad.sub(constant(1.0, a), midrad.div(constant(2.0, a), grown))
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
    grown = midrad.add(exp(MidRad.exact(-x.clamp(-700.0, 700.0))), constant(1.0, x))
    value = midrad.div(constant(1.0, x), grown)
    lower = torch.where(x < -700.0, 0.0, value.lower().clamp(min=0.0))
    upper = torch.where(x > 700.0, 1.0, value.upper().clamp(max=1.0))
    return _at_zero(x, 0.5, lower, upper)


def sigmoid(x: MidRad) -> MidRad:
    """1 / (1 + e^-x)."""
    return _monotone(x, _sigmoid_ends)


def softplus(x: MidRad, beta: float = 1.0, threshold: float = 20.0) -> MidRad:
    """The smooth log(1 + e^(beta x)) / beta; torch's switch to x above the threshold is not part of it."""
    require_smooth(beta, threshold)

    def ends(t: Tensor) -> Ends:
        z = midrad.mul(MidRad.exact(t), constant(beta, t))
        tail = log1p(exp(midrad.neg(midrad.absolute(z))))
        total = midrad.add(midrad.maximum(z, constant(0.0, t)), tail)
        value = midrad.div(total, constant(beta, t))
        return value.lower().clamp(min=0.0), value.upper()

    return _monotone(x, ends)


def softsign(x: MidRad) -> MidRad:
    """x / (1 + |x|)."""

    def ends(t: Tensor) -> Ends:
        value = midrad.div(MidRad.exact(t), midrad.add(constant(1.0, t), MidRad.exact(t.abs())))
        return value.lower(), value.upper()

    return _monotone(x, ends)


def elu(x: MidRad, alpha: float = 1.0) -> MidRad:
    """x for x > 0, alpha (e^x - 1) below; alpha >= 0."""
    if not (alpha >= 0 and math.isfinite(alpha)):
        raise UnsupportedOperationError("elu", f"with alpha {alpha} has no rule")

    def ends(t: Tensor) -> Ends:
        below = midrad.mul(expm1(MidRad.exact(t.clamp(max=0.0))), constant(alpha, t))
        return torch.where(t > 0, t, below.lower()), torch.where(t > 0, t, below.upper().clamp(max=0.0))

    return _monotone(x, ends)


def selu(x: MidRad) -> MidRad:
    """1.0507... x for x > 0, 1.0507... * 1.6732... (e^x - 1) below."""

    def ends(t: Tensor) -> Ends:
        below = midrad.mul(expm1(MidRad.exact(t.clamp(max=0.0))), SELU_ALPHA)
        below = MidRad.from_bounds(below.lower(), below.upper().clamp(max=0.0))
        value = midrad.mul(midrad.where(t > 0, MidRad.exact(t), below), SELU_SCALE)
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
    factor = midrad.mul(TWO_OVER_SQRT_PI, exp(midrad.neg(square_)))
    value = midrad.mul(MidRad(total, add_up(error, TINY)), factor)
    lower, upper = value.lower().clamp(min=0.0), value.upper().clamp(max=1.0)
    far = x.abs() > 6.0
    lower = torch.where(far, torch.maximum(lower, torch.full_like(lower, 1.0 - 2.0**-53)), lower)
    upper = torch.where(far, 1.0, upper)
    lower = torch.minimum(lower, upper)
    low, high = torch.where(x < 0, -upper, lower), torch.where(x < 0, -lower, upper)
    return _at_zero(x, 0.0, low, high)


def silu(x: MidRad) -> MidRad:
    """x / (1 + e^-x)."""
    return range_over(x, lambda t: midrad.mul(t, sigmoid(t)), SHAPES["silu"].function)


def mish(x: MidRad) -> MidRad:
    """x tanh(softplus(x))."""
    return range_over(x, lambda t: midrad.mul(t, tanh(softplus(t))), SHAPES["mish"].function)


def gelu(x: MidRad, approximate: str = "none") -> MidRad:
    """x Phi(x), or its tanh form."""

    def point(t: MidRad) -> MidRad:
        near = MidRad.exact(t.mid.clamp(-1e50, 1e50))  # beyond, tanh is 1 to within its enclosure, and cubes overflow
        inner = erf(midrad.mul(t, SQRT_HALF)) if approximate == "none" else tanh(gelu_argument(near))
        return midrad.mul(midrad.mul(t, constant(0.5, t.mid)), midrad.add(constant(1.0, t.mid), inner))

    return range_over(x, point, SHAPES["gelu" if approximate == "none" else "gelu tanh"].function)


def gelu_argument(x: MidRad) -> MidRad:
    """sqrt(2/pi) (x + 0.044715 x^3), of GELU's tanh form."""
    coefficient = constant(GELU_CUBIC, x.mid)
    cubic = midrad.add(x, midrad.mul(coefficient, midrad.mul(x, midrad.mul(x, x))))
    return midrad.mul(cubic, SQRT_TWO_OVER_PI)


def hardswish(x: MidRad) -> MidRad:
    """x min(max(x + 3, 0), 6) / 6."""

    def point(t: MidRad) -> MidRad:
        gate = relu6(midrad.add(t, constant(3.0, t.mid)))
        return midrad.mul(t, midrad.div(gate, constant(6.0, t.mid)))

    return range_over(x, point, SHAPES["hardswish"].function)


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
    scaled = midrad.mul(x, constant(negative_slope, x.mid))
    if 0 <= negative_slope <= 1:
        return midrad.maximum(x, scaled) if not x.is_exact() else midrad.where(x.mid > 0, x, scaled)
    if x.is_exact():
        return midrad.where(x.mid > 0, x, scaled)
    lower = torch.minimum(torch.minimum(x.lower(), scaled.lower()), torch.zeros_like(x.mid))
    upper = torch.maximum(torch.maximum(x.upper(), scaled.upper()), torch.zeros_like(x.mid))
    return MidRad.from_bounds(lower, upper)
