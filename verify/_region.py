"""Where a claim holds: everywhere, in a ball, or in a box."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from deqops._errors import InputError
from deqops._numbers import number_above

from ._norm import Norm
from ._rounding import TINY, exact_float64


@dataclass(frozen=True)
class Global:
    """All of X: every state of the stated shapes."""

    def describe(self) -> str:
        """The region in words."""
        return "everywhere"


@dataclass(frozen=True, eq=False)
class Ball:
    """The closed ball `{y : ||y - center|| <= radius}`, for each problem its own.

    Args:
        center: one tensor per leaf of the state, of the full state's shape; a single tensor for one leaf.
        radius: positive; the same for every problem. The next float above where no float is that number.
        norm: a `Norm`, or "l1", "l2", "linf"; None for the norm of the claim.

    Raises:
        InputError: no tensors, a radius that is no positive number, or an unknown norm.
    """

    center: Tensor | tuple[Tensor, ...]
    radius: float
    norm: Norm | None = None

    def __post_init__(self) -> None:
        radius, norm = number_above(self.radius), self.norm
        if not (radius > 0 and math.isfinite(radius)):
            raise InputError(f"region: the radius of a Ball must be positive and finite, got {self.radius!r}")
        object.__setattr__(self, "center", _leaves(self.center, "the centre of a Ball"))
        object.__setattr__(self, "radius", radius)
        object.__setattr__(self, "norm", norm if norm is None or isinstance(norm, Norm) else Norm(norm))

    @property
    def leaves(self) -> tuple[Tensor, ...]:
        """The centre's leaves."""
        return self.center  # type: ignore[return-value]  # a tuple since `__post_init__`

    def core(self) -> Ball:
        """A ball that is next to nothing of this one, of no particular norm."""
        return Ball(self.center, max(1e-12 * self.radius, TINY))

    def describe(self) -> str:
        """The region in words."""
        return f"in a ball of radius {self.radius:.6g}"


@dataclass(frozen=True, eq=False)
class Box:
    """The closed box `{y : lower <= y <= upper}` entry by entry, for each problem its own.

    Args:
        lower: one tensor per leaf of the state, of the full state's shape; a single tensor for one leaf.
        upper: the same, nowhere below `lower`.

    Raises:
        InputError: the ends differ in shape, are not finite, or cross.
    """

    lower: Tensor | tuple[Tensor, ...]
    upper: Tensor | tuple[Tensor, ...]

    def __post_init__(self) -> None:
        for name in ("lower", "upper"):
            leaves = _leaves(getattr(self, name), "an end of a Box")
            object.__setattr__(self, name, tuple(exact_float64(leaf) for leaf in leaves))
        a, b = self.ends
        shapes = [tuple(leaf.shape) for leaf in a], [tuple(leaf.shape) for leaf in b]
        if shapes[0] != shapes[1]:
            raise InputError(f"region: the ends of a Box need the same shapes, got {shapes[0]} and {shapes[1]}")
        if not all(bool(leaf.isfinite().all()) for leaf in (*a, *b)):
            raise InputError("region: an end of the Box is NaN or infinite; give finite ends")
        if not all(bool((low <= high).all()) for low, high in zip(a, b, strict=True)):
            raise InputError("region: the lower end of the Box is above the upper one somewhere; exchange them")

    @property
    def ends(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The leaves of `lower` and of `upper`, float64."""
        return self.lower, self.upper  # type: ignore[return-value]  # tuples since `__post_init__`

    @property
    def middle(self) -> tuple[Tensor, ...]:
        """A point in the box, near its middle, leaf by leaf."""
        ends = zip(*self.ends, strict=True)
        return tuple(torch.maximum(low, torch.minimum(low / 2 + high / 2, high)) for low, high in ends)

    @property
    def width(self) -> float:
        """About the largest distance from the middle to an end."""
        return max((float((b / 2 - a / 2).max()) for a, b in zip(*self.ends, strict=True) if a.numel()), default=0.0)

    def describe(self) -> str:
        """The region in words."""
        return f"in a box of half-width up to {self.width:.6g}"


Region = Global | Ball | Box


@dataclass(frozen=True, eq=False)
class Around:
    """A ball of the certifier's choice: the largest it finds around a state, in a norm of its choice too.

    Args:
        center: one tensor per leaf of the state; None for the equilibrium that a solver computes.
    """

    center: Tensor | tuple[Tensor, ...] | None = None

    def __post_init__(self) -> None:
        if self.center is not None:
            object.__setattr__(self, "center", _leaves(self.center, "the state of Around"))

    @property
    def leaves(self) -> tuple[Tensor, ...] | None:
        """The centre's leaves, float64."""
        return None if self.center is None else tuple(exact_float64(leaf) for leaf in self.center)


def _leaves(given: object, what: str) -> tuple[Tensor, ...]:
    leaves = given if isinstance(given, tuple) else (given,)
    if not leaves or not all(isinstance(leaf, Tensor) for leaf in leaves):
        kinds = ", ".join(type(leaf).__name__ for leaf in leaves) or "nothing"
        raise InputError(f"region: {what} is a tensor, or a tuple of one per leaf of the state; got {kinds}")
    return leaves


def check_kind(region: object, *, around: bool = False) -> None:
    """Raises InputError unless it is None or a region, which `Around()` is where the certifier may choose one."""
    kinds = (Global, Ball, Box, Around) if around else (Global, Ball, Box)
    if region is not None and not isinstance(region, kinds):
        got = f"the class {region.__name__}" if isinstance(region, type) else type(region).__name__
        names = "Global(), Ball(center, radius), Box(lower, upper)" + (", Around()" if around else "")
        raise InputError(f"region: one of {names} is needed, got {got}")


def stated(region: Region | None, norm: Norm) -> Region:
    """The region of a claim: everywhere where none was asked for, a ball with its norm."""
    if isinstance(region, Ball):
        return Ball(region.center, region.radius, region.norm or norm)
    return region or Global()
