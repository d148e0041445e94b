"""The networks that proofs are about: layers `phi(A z + c)` with exact weights, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from ._dyadic import Array

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Activation:
    """An elementwise function that the proofs know.

    Args:
        name: as in the operator graph; "identity" for none.
        numbers: exact parameters (the slope of leaky_relu, the ends of a clamp).
    """

    name: str
    numbers: tuple[Fraction, ...] = ()

    @property
    def slope(self) -> Fraction:
        """Its Lipschitz constant as the proofs bound it."""
        return Fraction(1, 4) if self.name == "sigmoid" else Fraction(1)

    @property
    def coq(self) -> str:
        """The term of type `activation`."""
        return _TERMS[self.name](self.numbers)

    @property
    def located(self) -> bool:
        """Whether fixed points of layers with it can be located."""
        return self.name != "clamp"

    def __call__(self, x: Vector) -> Vector:
        """Its values in floats, which only propose."""
        return _VALUES[self.name](x, self.numbers)


def _ratio(number: Fraction, denominator: int) -> int:
    return number.numerator * (denominator // number.denominator)


def _clamp_term(ends: tuple[Fraction, ...]) -> str:
    denominator = max(end.denominator for end in ends)
    lower, upper = (_ratio(end, denominator) for end in ends)
    return f"Clamp ({lower}) ({upper}) {denominator}"


_TERMS: dict[str, Callable[[tuple[Fraction, ...]], str]] = {
    "identity": lambda numbers: "Identity",
    "relu": lambda numbers: "Relu",
    "tanh": lambda numbers: "Tanh",
    "sigmoid": lambda numbers: "Sigmoid",
    "leaky_relu": lambda numbers: f"Leaky ({numbers[0].numerator}) {numbers[0].denominator}",
    "clamp": _clamp_term,
}
_VALUES: dict[str, Callable[[Vector, tuple[Fraction, ...]], Vector]] = {
    "identity": lambda x, numbers: x,
    "relu": lambda x, numbers: np.maximum(x, 0.0),
    "tanh": lambda x, numbers: np.tanh(x),
    "sigmoid": lambda x, numbers: 1.0 / (1.0 + np.exp(-x)),
    "leaky_relu": lambda x, numbers: np.where(x >= 0, x, float(numbers[0]) * x),
    "clamp": lambda x, numbers: np.clip(x, float(numbers[0]), float(numbers[1])),
}


@dataclass(frozen=True)
class Shift:
    """`c` of a layer: entry i is within `slack[i]` of `values[i]`, both over `2**places[i]`."""

    places: tuple[int, ...]
    values: tuple[int, ...]
    slack: tuple[int, ...]

    @property
    def exact(self) -> bool:
        """Whether c is known exactly."""
        return not any(self.slack)

    def floats(self) -> Vector:
        """Its values in floats, which only propose."""
        return np.array([v / (1 << p) for v, p in zip(self.values, self.places, strict=True)], dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Layer:
    """`phi(A z + c)`: row i of A is `mantissas[i] / 2**exponents[i]`; c is None where it may be anything.

    With `slack` the true A is only known to be within that of these numbers, relative to each.
    """

    activation: Activation
    exponents: tuple[int, ...]
    mantissas: Array  # (rows, columns) of Python integers
    shift: Shift | None
    slack: Fraction = Fraction(0)

    def floats(self) -> Vector:
        """A in floats, which only propose."""
        result = np.zeros(self.mantissas.shape)
        for place, (row, exponent) in enumerate(zip(self.mantissas, self.exponents, strict=True)):
            present = np.flatnonzero(row)
            result[place, present] = [int(m) / (1 << exponent) for m in row[present]]
        return result


@dataclass(frozen=True, eq=False)
class Network:
    """Layers, the first applied first, that map R^n into itself.

    `inputs` names the inputs whose values were used up in the layers' numbers; `fingerprint` is the model's. It is one
    of `count` maps that the model is made of: a "problem" of a batch, or a "column" of the state.
    """

    layers: tuple[Layer, ...]
    fingerprint: str
    inputs: tuple[str, ...]
    count: int = 1
    kind: str = ""

    @property
    def exact(self) -> bool:
        """Whether every matrix is known exactly."""
        return not any(layer.slack for layer in self.layers)

    @property
    def size(self) -> int:
        """n."""
        return int(self.layers[0].mantissas.shape[1])

    @property
    def shifted(self) -> bool:
        """Whether every c is known, exactly or within slack."""
        return all(layer.shift is not None for layer in self.layers)
