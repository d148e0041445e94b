"""What a value is while a graph is under construction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

NONE: frozenset[int] = frozenset()


@dataclass(frozen=True, eq=False)
class Known:
    """An exactly known tensor or number, and the inputs whose values it was computed from."""

    value: Any
    inputs: frozenset[int] = NONE


@dataclass(frozen=True, eq=False)
class Dynamic:
    """A value of the graph; `meta` has its shape and dtype, `inputs` what its shape was computed from.

    `before` is the value that was expanded to this one.
    """

    number: int
    meta: Tensor
    inputs: frozenset[int] = NONE
    before: Dynamic | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape."""
        return tuple(self.meta.shape)


Real = Known | Dynamic


@dataclass(frozen=True, eq=False)
class Complex:
    """A complex value: its real and its imaginary part, of the same shape and dtype."""

    real: Real
    imaginary: Real

    @property
    def meta(self) -> Tensor:
        """Its shape and dtype."""
        parts = [part.meta if isinstance(part, Dynamic) else part.value.to("meta") for part in self.parts]
        return torch.complex(*parts)

    @property
    def parts(self) -> tuple[Real, Real]:
        """Both."""
        return self.real, self.imaginary

    @property
    def inputs(self) -> frozenset[int]:
        """The inputs whose values its shape was computed from."""
        return self.real.inputs | self.imaginary.inputs

    @staticmethod
    def known(value: Tensor, inputs: frozenset[int]) -> Complex:
        """Of an exactly known complex tensor."""
        both = torch.view_as_real(value.resolve_conj())
        return Complex(Known(both[..., 0], inputs), Known(both[..., 1], inputs))


Item = Known | Dynamic | Complex
