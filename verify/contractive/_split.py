"""One rate for a whole block, split over its layers: products along a chain, sums over branches. In rationals."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from deqops._errors import InputError

from .._lipschitz import lipschitz_bound
from ._compose import Chain, Injected, Sum
from ._damped import Damped

Size = tuple[int, ...] | None
Leaf = Callable[[nn.Module, float, Size], None]
"""Bounds one layer's weight by a rate, for inputs of a spatial size."""

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)
KNOWN = (*LAYERS, nn.Sequential, Chain, Sum, Injected, Damped)
ENTRYWISE = (
    nn.Identity, nn.Flatten, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus,
    nn.Tanh, nn.Sigmoid, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid,
)  # fmt: skip
"""Modules without weights, whose constant is that of one entry."""


def split(module: nn.Module, rate: Fraction, size: Size, leaf: Leaf) -> Size:
    """Bound every layer of a block such that the block's constant is at most the rate.

    Args:
        module: of the types here, put together in any depth.
        rate: above 0.
        size: the spatial size of its input; None where it is not needed.
        leaf: bounds one layer.

    Returns:
        The spatial size of its image.

    Raises:
        InputError: another type of module, or a rate that its fixed parts leave nothing of.
    """
    kind = parametrize.type_before_parametrizations(module)
    if kind not in KNOWN:  # a subclass may compute something else
        known = ", ".join(kind.__name__ for kind in KNOWN)
        raise InputError(f"layer: no rate can be split over a {kind.__name__}; only over {known}")
    if module._forward_hooks or module._forward_pre_hooks:
        raise InputError(f"layer: this {kind.__name__} has hooks, which may compute anything; remove them first")
    if isinstance(module, LAYERS):
        leaf(module, _down(rate), size)
        return _size_after(module, size)
    if isinstance(module, nn.Sequential | Chain):
        return _chain(list(module.parts if isinstance(module, Chain) else module), rate, size, leaf)
    if isinstance(module, Sum):
        return _branches(list(module.parts), [_largest(c) for c in module.factors], rate, size, leaf)
    if isinstance(module, Damped):
        parts: list[Any] = [nn.Identity(), module.damped]
        return _branches(parts, [_largest(1.0 - module.damping), _largest(module.damping)], rate, size, leaf)
    return split(module.map, rate, size, leaf)  # type: ignore[arg-type]  # of an Injected


def _chain(parts: list[nn.Module], rate: Fraction, size: Size, leaf: Leaf) -> Size:
    """Equal rates whose product, with the constants of what has no weights, is the rate."""
    layers = [part for part in parts if type(part) not in ENTRYWISE]
    _check_in_place(itertools.takewhile(lambda part: type(part) in ENTRYWISE, parts))
    fixed = math.prod((_constant(part) for part in parts if type(part) in ENTRYWISE), start=Fraction(1))
    if not layers:
        raise InputError("layer: a chain without a layer has no weight to bound")
    share = _root(rate / fixed, len(layers))
    for part in layers:
        size = split(part, share, size, leaf)
    return size


def _branches(parts: list[nn.Module], factors: Sequence[Fraction], rate: Fraction, size: Size, leaf: Leaf) -> Size:
    """Equal shares of what the branches without weights leave of the rate."""
    pairs = list(zip(parts, factors, strict=True))
    layers = [(part, c) for part, c in pairs if type(part) not in ENTRYWISE]
    _check_in_place(part for part in parts if type(part) in ENTRYWISE)
    left = rate - sum(c * _constant(part) for part, c in pairs if type(part) in ENTRYWISE)
    if not layers:
        raise InputError("layer: a sum without a layer has no weight to bound")
    if left <= 0:
        taken = float(rate - left)
        raise InputError(f"rate: the branches without weights have constant {taken:g} already; ask for more")
    sizes = [split(part, left / (len(layers) * c), size, leaf) for part, c in layers if c]
    return sizes[0]


def _check_in_place(parts: Iterable[nn.Module]) -> None:
    """Functions of the state itself, which other branches read as well."""
    for part in parts:
        if getattr(part, "inplace", False):
            kind = type(part).__name__
            raise InputError(f"layer: a {kind} changes the state that other branches read; use inplace=False")


def _constant(part: nn.Module) -> Fraction:
    """The proven constant of an entrywise function."""
    plain = copy.copy(part)
    if hasattr(plain, "inplace"):
        plain.inplace = False  # type: ignore[assignment]
    return Fraction(lipschitz_bound(plain, torch.zeros(1, 1, dtype=torch.float64), norm="linf").upper)


def _largest(factor: float | Tensor) -> Fraction:
    return Fraction(abs(factor) if isinstance(factor, float) else float(factor.abs().max()))


def _root(product: Fraction, count: int) -> Fraction:
    """A number of which `count` make no more than the product, nearly the largest."""
    root = float(product) ** (1.0 / count)
    while Fraction(root) ** count > product:
        root = math.nextafter(root, 0.0)
    return Fraction(root)


def _down(rate: Fraction) -> float:
    near = float(rate)
    return near if Fraction(near) <= rate else math.nextafter(near, 0.0)


def _size_after(layer: nn.Module, size: Size) -> Size:
    if size is None or not isinstance(layer, nn.Conv1d | nn.Conv2d) or layer.padding == "same":
        return size
    padding = (0,) * len(size) if isinstance(layer.padding, str) else layer.padding
    geometry = zip(size, padding, layer.dilation, layer.kernel_size, layer.stride, strict=True)
    return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, p, d, k, s in geometry)
