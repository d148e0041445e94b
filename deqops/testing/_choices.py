"""Where random numbers come from: hypothesis, which shrinks them, or a seeded generator, which is fast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np
from hypothesis import strategies as st

T = TypeVar("T")


class Choices(Protocol):
    """What the constructors of this kit draw from. Smaller numbers are simpler, and no is simpler than yes."""

    def integer(self, least: int, most: int) -> int:
        """A whole number, both ends included."""

    def integers(self, count: int, least: int, most: int) -> list[int]:
        """So many of them."""

    def order(self, count: int) -> list[int]:
        """The numbers from 0 in any order."""

    def chance(self, probability: float) -> bool:
        """Yes with about this probability."""


class Drawn:
    """Choices of a hypothesis strategy.

    Args:
        draw: of the composite strategy that asks.
    """

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw

    def integer(self, least: int, most: int) -> int:
        """A whole number, both ends included; shrinks to 0, or to the end that is nearest to it."""
        return self._draw(st.integers(least, most))

    def integers(self, count: int, least: int, most: int) -> list[int]:
        """So many of them."""
        return self._draw(st.lists(st.integers(least, most), min_size=count, max_size=count))

    def order(self, count: int) -> list[int]:
        """The numbers from 0 in any order; shrinks to their own."""
        return list(self._draw(st.permutations(range(count))))

    def chance(self, probability: float) -> bool:
        """Yes or no, as hypothesis likes; shrinks to no."""
        return self._draw(st.booleans()) if 0 < probability < 1 else probability >= 1


class Seeded:
    """Choices of a seeded generator, for long campaigns.

    Args:
        generator: numpy's, or the seed of one.
    """

    def __init__(self, generator: np.random.Generator | int) -> None:
        self._generator = np.random.default_rng(generator)

    def integer(self, least: int, most: int) -> int:
        """A whole number, both ends included."""
        return int(self._generator.integers(least, most + 1))

    def integers(self, count: int, least: int, most: int) -> list[int]:
        """So many of them."""
        return [int(k) for k in self._generator.integers(least, most + 1, count)]

    def order(self, count: int) -> list[int]:
        """The numbers from 0 in any order."""
        return [int(k) for k in self._generator.permutation(count)]

    def chance(self, probability: float) -> bool:
        """Yes with this probability."""
        return bool(self._generator.random() < probability)


def one_of(choices: Choices, values: Sequence[T]) -> T:
    """One of some values, the simplest first."""
    return values[choices.integer(0, len(values) - 1)]
