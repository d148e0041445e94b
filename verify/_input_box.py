"""An input of which only two ends are known: what is proven holds for every value between them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from deqops._errors import InputError

from ._rounding import exact_float64


@dataclass(frozen=True, eq=False)
class InputBox:
    """Every value x of an input with `lower <= x <= upper` entry by entry; takes a tensor's place among the inputs.

    Args:
        lower: of the input's shape and dtype.
        upper: the same, nowhere below `lower`.

    Raises:
        InputError: the ends differ in shape or dtype, are not floating or not finite, or cross.
    """

    lower: Tensor
    upper: Tensor

    def __post_init__(self) -> None:
        a, b = self.lower, self.upper
        if not isinstance(a, Tensor) or not isinstance(b, Tensor) or a.shape != b.shape or a.dtype != b.dtype:
            raise InputError("input: the ends of an InputBox must be two tensors of one shape and one dtype")
        if not a.is_floating_point():
            raise InputError(f"input: the ends of an InputBox are {a.dtype}; only floating inputs lie between two ends")
        if not bool((a.isfinite() & b.isfinite() & (a <= b)).all()):
            raise InputError("input: the ends of an InputBox must be finite, the lower nowhere above the upper")

    @property
    def middle(self) -> Tensor:
        """A value in the box, near its middle, in its dtype."""
        return torch.maximum(self.lower, torch.minimum(self.lower / 2 + self.upper / 2, self.upper))


def middles(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The inputs with the middle in the place of each box."""
    return tuple(pytree.tree_map(lambda x: x.middle if isinstance(x, InputBox) else x, given) for given in inputs)


def places_in(inputs: tuple[Any, ...]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Values of the inputs at three places of all their boxes, each with its name: the middle and the two ends."""
    yield "in the middle of the box of inputs", middles(inputs)
    for end in ("lower", "upper"):
        chosen = (pytree.tree_map(lambda x, end=end: _end(x, end), given) for given in inputs)
        yield f"at the {end} end of the box of inputs", tuple(chosen)


def _end(leaf: Any, end: str) -> Any:
    return getattr(leaf, end) if isinstance(leaf, InputBox) else leaf


def boxes_of(inputs: tuple[Any, ...]) -> dict[int, tuple[Tensor, Tensor]]:
    """The ends of each box, by the position of the input among all leaves."""
    leaves = enumerate(pytree.tree_leaves(inputs))
    return {number: (leaf.lower, leaf.upper) for number, leaf in leaves if isinstance(leaf, InputBox)}


def lies_between(value: Tensor, ends: tuple[Tensor, Tensor]) -> bool:
    """Whether a value is in the box with these ends."""
    x, (lower, upper) = exact_float64(value), (exact_float64(end) for end in ends)
    return bool(((lower <= x) & (x <= upper)).all())
