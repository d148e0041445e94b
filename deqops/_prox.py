"""Activations as proximal maps: `s = prox_f` gives `prox_(a f)` for every a > 0."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import singledispatch

import torch
from torch import Tensor, nn

from deqops._errors import InputError
from deqops._numbers import as_number, is_number
from deqops._tree import at_least_float32, host

NEWTON_STEPS = 80
"""More than any a between 1e-6 and 1e6 takes; each step is monotone, so that fewer would do no harm."""

Slope = Callable[[Tensor], Tensor]


@singledispatch
def prox(activation: nn.Module, x: Tensor, step: float) -> Tensor:
    """`prox_(a f)(x)`, elementwise, where the activation is `s = prox_f`.

    It is `s(v)` at the one v with `(1 - a) s(v) + a v = x`. Known are Identity, ReLU, ReLU6, Hardtanh, LeakyReLU with
    a slope in [0, 1] (in closed form), Tanh and Sigmoid (solved to the rounding of x's dtype times `max(1, a)`).
    `prox.register` adds an activation of your own: s must be elementwise with slopes in [0, 1].

    Args:
        activation: s, one of torch's modules.
        x: where.
        step: a > 0.

    Raises:
        InputError: the activation is not known to be a proximal map.

    Source: Winston and Kolter, *Monotone operator equilibrium networks*, NeurIPS 2020, appendix.
    """
    raise InputError(
        f"activation: {type(activation).__name__} is not known as a proximal map; use one of Identity, ReLU, ReLU6, "
        "Hardtanh, LeakyReLU, Tanh and Sigmoid of torch.nn, or register it with deqops.prox"
    )


@prox.register
def _(activation: nn.Identity, x: Tensor, step: float) -> Tensor:
    return x


@prox.register
def _(activation: nn.ReLU, x: Tensor, step: float) -> Tensor:
    """A projection onto an interval is that of every a."""
    return x.clamp(min=0)


@prox.register
def _(activation: nn.Hardtanh, x: Tensor, step: float) -> Tensor:
    """ReLU6 is one of these."""
    return x.clamp(activation.min_val, activation.max_val)


@prox.register
def _(activation: nn.LeakyReLU, x: Tensor, step: float) -> Tensor:
    """Below 0, `x = ((1 - a) k + a) v` and s(v) = k v, k the slope."""
    slope = activation.negative_slope
    if not 0 <= slope <= 1:
        raise InputError(f"activation: LeakyReLU with slope {slope!r} is no proximal map; give one from 0 to 1")
    return torch.where(x < 0, slope / (slope + step * (1 - slope)) * x, x)


@prox.register
def _(activation: nn.Tanh, x: Tensor, step: float) -> Tensor:
    return _by_newton(torch.tanh, lambda image: 1 - image * image, x, step)


@prox.register
def _(activation: nn.Sigmoid, x: Tensor, step: float) -> Tensor:
    return _by_newton(torch.sigmoid, lambda image: image * (1 - image), x, step)


def _by_newton(s: Slope, slope: Slope, x: Tensor, step: float) -> Tensor:
    """`s(v)` with `h(v) = (1 - a) s(v) + a v = x`, by Newton's method for v; each entry by itself.

    `s - s(0)` is odd and concave above 0, so h is concave there for a <= 1 and convex for a >= 1; either way Newton's
    step from 0 ends on the side from which all further ones are monotone. It is kept in the bracket that h's slopes
    give, between `(x - h(0))/max(a, h'(0))` and `(x - h(0))/min(a, h'(0))`.

    Args:
        s: the activation.
        slope: s' from s's value.
        x: the right-hand side.
        step: a.
    """
    wide = at_least_float32(x)
    middle = s(torch.zeros((), dtype=wide.dtype, device=wide.device))
    steepest = (1 - step) * slope(middle) + step
    v = start = (wide - (1 - step) * middle) / steepest
    end = start * (steepest / step)
    low, high = torch.minimum(start, end), torch.maximum(start, end)
    rounding = 2 * torch.finfo(wide.dtype).eps
    for _ in range(NEWTON_STEPS):
        image = s(v)
        gap = wide - ((1 - step) * image + step * v)
        going = gap.abs() > rounding * (wide.abs() + abs(1 - step) * image.abs() + (step * v).abs())  # False for NaN
        if not host(going.any()).any():
            break
        v = torch.where(going, (v + gap / ((1 - step) * slope(image) + step)).clamp(low, high), v)
    return s(v).to(x.dtype)


def check_step_size(step_size: object) -> None:
    """Raises InputError unless it is None or a finite number above 0."""
    if step_size is not None and not (is_number(step_size) and 0 < as_number(step_size) < math.inf):
        raise InputError(f"step_size: a finite number above 0 or None is needed, got {step_size!r}")
