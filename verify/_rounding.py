"""Directed rounding: everything deqops.verify believes about floating point is in this file.

Assumed of torch on the CPU, and nothing more:

1. float64 is IEEE binary64; elementwise +, -, *, /, sqrt round to nearest, with gradual underflow.
   `check_environment` tests underflow and rounding where bounds are computed.
2. A sum or a product of matrices is evaluated in some order of ordinary operations, fused or not: a sum of k
   products errs by at most `gamma_k` times the sum of their moduli, plus 2^-1074 a product that underflowed
   (Higham, *Accuracy and Stability of Numerical Algorithms*, 3.1). No Strassen-like products, no TF32, no
   emulated float64.

The rounding mode is never changed: other threads would keep their own.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from deqops._errors import DeqopsError, InputError

U = 2.0**-53
"""Unit roundoff of binary64."""
TINY = 2.0**-1074
"""The smallest positive number of binary64."""
_PLUS, _MINUS = (torch.tensor(end, dtype=torch.float64) for end in (math.inf, -math.inf))
_EXACT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

Number = Tensor | float


def check_environment() -> None:
    """Test that this thread's arithmetic underflows gradually and rounds to nearest.

    Raises:
        DeqopsError: it does not (for example after `torch.set_flush_denormal(True)`).
    """
    small = torch.full((8,), 2.0**-1060, dtype=torch.float64)
    if not bool((small * 0.5 > 0).all()):
        raise DeqopsError("arithmetic: subnormal numbers are flushed to zero; call torch.set_flush_denormal(False)")
    one = torch.ones(8, dtype=torch.float64)
    if bool((one + U != 1).any() | (one - U / 4 != 1).any()):
        raise DeqopsError("arithmetic: float64 does not round to nearest here; restore the default rounding mode")


def gamma(k: int) -> float:
    """Upper bound of `k u / (1 - k u)`.

    Raises:
        InputError: k is so large that the bound says nothing.
    """
    if not 0 <= k * U <= 0.25:
        raise InputError(f"rounding: a sum of {k} terms is too long to bound")
    return math.nextafter(k * U / math.nextafter(1 - k * U, 0.0), math.inf)


def exact_float64(tensor: Tensor) -> Tensor:
    """The same numbers in float64.

    Raises:
        InputError: the dtype is not float16, bfloat16, float32 or float64.
    """
    if tensor.dtype not in _EXACT_DTYPES:
        raise InputError(f"tensor: dtype {tensor.dtype} is no real floating dtype; use float32 or float64")
    return tensor.detach().to(device="cpu", dtype=torch.float64)


def next_up(x: Tensor) -> Tensor:
    """The next larger number."""
    return torch.nextafter(x, _PLUS)


def next_down(x: Tensor) -> Tensor:
    """The next smaller number."""
    return torch.nextafter(x, _MINUS)


def two_sum(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """`(s, e)` with s = fl(a + b) and s + e = a + b exactly (Knuth); e is NaN where s overflows."""
    s = a + b
    c = s - a
    e = s - c
    torch.sub(a, e, out=e)  # fresh memory costs as much as the arithmetic
    torch.sub(b, c, out=c)
    return s, e.add_(c)


def _pair(a: Number, b: Number) -> tuple[Tensor, Tensor]:
    return torch.as_tensor(a, dtype=torch.float64), torch.as_tensor(b, dtype=torch.float64)


def add_up(a: Number, b: Number) -> Tensor:
    """Upper bound of a + b; exact where the sum is."""
    s, e = two_sum(*_pair(a, b))
    return torch.where(e <= 0, s, next_up(s))


def add_down(a: Number, b: Number) -> Tensor:
    """Lower bound of a + b; exact where the sum is."""
    s, e = two_sum(*_pair(a, b))
    return torch.where(e >= 0, s, next_down(s))


def plus_up(a: Number, b: Number) -> Tensor:
    """Upper bound of a + b for nonnegative numbers; 0 where both are.

    s = fl(a + b) is exact below 2^-1021. Above, 2^-52 s is one or two units in the last place of s, rounded or not.
    It takes a fifth of the time of `add_up`, whose choices entry by entry no processor can predict.
    """
    s = torch.add(*_pair(a, b))
    return s.add_(s, alpha=2.0**-52)


def times_up(a: Number, b: Number) -> Tensor:
    """Upper bound of a * b for nonnegative numbers; 0 where a factor is, NaN where the other is infinite.

    With p = fl(a b) at least 2^-1021, 2^-52 p is at least a unit in the last place of p. Smaller products that are not
    those of a factor 0 may have underflowed; `mul_up`, which takes three times as long, knows these.
    """
    x, y = _pair(a, b)
    p = x * y
    small = p < 2.0**-1021
    if int(torch.count_nonzero(small)) and bool((small & (x != 0) & (y != 0)).any()):
        return mul_up(x, y)
    return p.add_(p, alpha=2.0**-52)


def sub_up(a: Number, b: Number) -> Tensor:
    """Upper bound of a - b."""
    return add_up(a, -torch.as_tensor(b, dtype=torch.float64))


def sub_down(a: Number, b: Number) -> Tensor:
    """Lower bound of a - b."""
    return add_down(a, -torch.as_tensor(b, dtype=torch.float64))


def _trivial(a: Tensor, b: Tensor) -> Tensor:
    """Where a * b is exact for an obvious reason: a factor 0 or 1; 0 times infinity is NaN, rounded or not."""
    return (a == 0) | (b == 0) | (a == 1) | (b == 1)


def mul_up(a: Number, b: Number) -> Tensor:
    """Upper bound of a * b."""
    x, y = _pair(a, b)
    product = x * y
    return torch.where(_trivial(x, y), product, next_up(product))


def mul_down(a: Number, b: Number) -> Tensor:
    """Lower bound of a * b."""
    x, y = _pair(a, b)
    product = x * y
    return torch.where(_trivial(x, y), product, next_down(product))


def div_up(a: Number, b: Number) -> Tensor:
    """Upper bound of a / b."""
    x, y = _pair(a, b)
    quotient = x / y
    return torch.where((y == 1) | (x == 0), quotient, next_up(quotient))


def div_down(a: Number, b: Number) -> Tensor:
    """Lower bound of a / b."""
    x, y = _pair(a, b)
    quotient = x / y
    return torch.where((y == 1) | (x == 0), quotient, next_down(quotient))


def sqrt_up(a: Number) -> Tensor:
    """Upper bound of the square root."""
    x = torch.as_tensor(a, dtype=torch.float64)
    return torch.where((x == 0) | (x == 1), x, next_up(x.sqrt()))


def sqrt_down(a: Number) -> Tensor:
    """Lower bound of the square root."""
    x = torch.as_tensor(a, dtype=torch.float64)
    return torch.where((x == 0) | (x == 1), x, next_down(x.sqrt()))


def sum_up(x: Tensor, dim: int | tuple[int, ...] | None = None, *, keepdim: bool = False) -> Tensor:
    """Upper bound of the sum of nonnegative numbers, in any order of summation."""
    dims = tuple(range(x.ndim)) if dim is None else dim
    total = x.sum(dim=dims, keepdim=keepdim) if dims != () else x.clone()
    terms = max(x.numel() // max(total.numel(), 1), 1)
    # exact <= fl / (1 - gamma_k) <= fl (1 + 2 gamma_k) since gamma_k <= 1/3
    return total if terms == 1 else mul_up(total, 1.0 + 2.0 * gamma(terms))


def row_lengths_up(x: Tensor) -> Tensor:
    """Upper bound of the l2 norm along dimension 1, which is kept."""
    return sqrt_up(sum_up(mul_up(x, x), dim=1, keepdim=True))


def sum_of_squares_up(x: Tensor) -> Tensor:
    """Upper bound of the sum of x^2 over all entries; NaN or infinity where an entry is."""
    flat = x.reshape(-1)
    total = mul_up(flat @ flat, 1.0 + 2.0 * gamma(flat.numel() + 2))
    return add_up(total, float(flat.numel() + 1) * TINY)


def matmul_up(a: Tensor, b: Tensor) -> Tensor:
    """Upper bound of a product of nonnegative matrices (torch.matmul's shapes)."""
    return _scaled_product_up(a, b, 1.0, 1.0)


def product_error_up(a: Tensor, b: Tensor) -> Tensor:
    """Upper bound of `|fl(A B) - A B|` from the moduli a of A and b of B (torch.matmul's shapes); 0 where all are 0."""
    # TINY a product, in A B and once more, times gamma <= 1/3, in a b
    return _scaled_product_up(a, b, gamma(a.shape[-1] + 2), 2.0)


def _scaled_product_up(a: Tensor, b: Tensor, factor: float, underflows: float) -> Tensor:
    """Upper bound of `factor a b + underflows (k + 1) TINY`, the second part where products may underflow."""
    k = a.shape[-1]
    product = a @ b
    scaled = times_up(product, mul_up(1.0 + 2.0 * gamma(k + 2), factor))
    # k TINY is below 2^-64 of such numbers, and gamma_(k+2) is larger than gamma_k by 2^-52.
    if (product.numel() and float(product.min()) >= 2.0**-960) or _cannot_underflow(a, b):
        return scaled
    return plus_up(scaled, underflows * float(k + 1) * TINY)


def _cannot_underflow(a: Tensor, b: Tensor) -> bool:
    """Whether every product of a nonzero entry of a with one of b is at least 2^-1000."""
    if not a.numel() or not b.numel():
        return True
    infinite = torch.full((), math.inf, dtype=torch.float64)
    least = [torch.where(t > 0, t, infinite).min() for t in (a, b)]
    return bool(least[0] * least[1] >= 2.0**-1000)
