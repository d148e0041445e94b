"""Blocks put together such that one rate can be split over them; `bounded` does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from deqops._errors import InputError

from ._damped import Damped


class Composed(nn.Module):
    """A block of parts. Inputs go to the parts that are composed or damped, the state alone to all others.

    A `Damped` hands them on to its operator: there a layer of torch needs a `Chain` around it.
    """

    @staticmethod
    def applied(part: nn.Module, state: Any, inputs: Sequence[Any]) -> Any:
        """The part's image of the state."""
        return part(state, *inputs) if isinstance(part, Composed | Damped) else part(state)


class Chain(Composed):
    """`z -> T_k(..T_2(T_1(z)))`: the constants multiply. `nn.Sequential` with inputs.

    Args:
        parts: T_1, T_2, ...

    Raises:
        InputError: no part, or one that is no module.
    """

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.parts = _modules(parts)

    def forward(self, state: Any, *inputs: Any) -> Any:
        """The last part's image."""
        for part in self.parts:
            state = self.applied(part, state, inputs)
        return state


class Sum(Composed):
    """`z -> c_1 T_1(z) + c_2 T_2(z) + ..`: the constants, each times the largest |c_i|, add up.

    A gate is a tensor c_i that the state does not change; `Sum(nn.Identity(), T, factors=(1 - b, b))` is a residual
    branch, with a tensor b damped unknown by unknown.

    Args:
        parts: T_1, T_2, ...
        factors: c_1, c_2, ..., numbers or tensors, not 0; None for 1. They are constants: no optimiser changes them.

    Raises:
        InputError: no part, one that is no module, or factors that do not fit.
    """

    def __init__(self, *parts: nn.Module, factors: Sequence[float | Tensor] | None = None) -> None:
        super().__init__()
        self.parts = _modules(parts)
        self.factors = [_factor(c) for c in ([1.0] * len(parts) if factors is None else factors)]
        if len(self.factors) != len(parts):
            raise InputError(f"factors: one for each of {len(parts)} parts is needed, got {len(self.factors)}")

    def forward(self, state: Any, *inputs: Any) -> Any:
        """The sum of the parts' images."""
        images = [self.applied(part, state, inputs) for part in self.parts]
        terms = [image * _beside(c, image) for image, c in zip(images, self.factors, strict=True)]
        return _unspread(sum(terms[1:], terms[0]), *images)

    def extra_repr(self) -> str:
        """The settings."""
        return f"factors={[c if isinstance(c, float) else tuple(c.shape) for c in self.factors]}"


class Injected(Composed):
    """`(z, *inputs) -> T(z) + f(*inputs)`: the constant of T, whatever f is.

    Args:
        operator: T.
        injection: f.

    Raises:
        InputError: one that is no module.
    """

    def __init__(self, operator: nn.Module, injection: nn.Module) -> None:
        super().__init__()
        self.map, self.injection = _modules((operator, injection))

    def forward(self, state: Any, *inputs: Any) -> Any:
        """T(z) + f(*inputs)."""
        image = self.applied(self.map, state, inputs)
        return _unspread(image + self.injection(*inputs), image)


def _unspread(total: Tensor, *images: Tensor) -> Tensor:
    """The total, if no image was expanded for it: copies of an entry have a larger norm than the entry."""
    spread = [tuple(image.shape) for image in images if image.shape != total.shape]
    if spread:
        raise InputError(f"parts: an image of shape {spread[0]} is expanded to {tuple(total.shape)}; give one shape")
    return total


def _modules(parts: Sequence[Any]) -> nn.ModuleList:
    wrong = [type(part).__name__ for part in parts if not isinstance(part, nn.Module)]
    if wrong or not parts:
        raise InputError(f"parts: modules are needed, got {wrong[0] if wrong else 'none'}")
    return nn.ModuleList(parts)


def _factor(value: Any) -> float | Tensor:
    """A finite number, or a tensor of such in float64, of which none is taken for one that learns."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    fixed = isinstance(value, Tensor) and not value.requires_grad and not value.is_complex()
    if not number and not fixed:
        raise InputError(f"factors: numbers, or tensors without gradients, are needed, got {type(value).__name__}")
    exact = torch.as_tensor(value, dtype=torch.float64).detach().clone()
    if not bool(exact.isfinite().all()) or not bool((exact != 0).any()):
        raise InputError("factors: finite numbers other than 0 are needed")
    return float(exact) if number else exact


def _beside(factor: float | Tensor, image: Tensor) -> float | Tensor:
    return factor if isinstance(factor, float) else factor.to(image)
