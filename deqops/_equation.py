"""The equation a solve is about, for solvers that ask more than one image a step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deqops._derivative import Product, Rows, agree, backward_product, difference, forward_product
from deqops._errors import InputError
from deqops._graph_layout import Layout

ROUGHLY = 0.05
"""How far a difference of images may be from a product with the derivative, relative: its steps are finite."""


class Progress(Protocol):
    """What a loop knows of a solve under way."""

    @property
    def left(self) -> Tensor:
        """As `Equation.left`."""

    @property
    def lengths(self) -> NDArray[np.float64]:
        """As `Equation.lengths`."""

    @property
    def replaced(self) -> NDArray[np.bool_] | None:
        """As `Equation.replaced`."""


@dataclass(frozen=True, eq=False)
class Given:
    """The operator as the caller gave it, for solvers that ask for its structure."""

    operator: object
    inputs: tuple[Any, ...]
    layout: Layout
    """How its states lie as (problems, unknowns)."""


@dataclass(eq=False)
class Equation:
    """`z = G(z)` on (problems, unknowns).

    Args:
        image: G.
        given: G as the caller gave it; None where its terms do not lie problem by problem.
        goal: the residual that ends a problem, from `||G(z)||`, (problems,); None where more is asked than that.
    """

    image: Rows
    given: Given | None = None
    goal: Callable[[Tensor], Tensor] | None = None
    extra: Tensor | None = field(default=None, init=False)
    """Evaluations beyond the loop's own since the solve began, (problems,) int64; None where there are none."""
    progress: Progress | None = field(default=None, init=False)
    """The loop's own; None where a solver is used without one."""
    _seen: tuple[Tensor, Tensor, Tensor] | None = field(default=None, init=False)  # z, v, J v: the last forward product
    _ready: tuple[Tensor, Product | None] | None = field(default=None, init=False)  # z, and products from its graph
    _graphs: bool | None = field(default=None, init=False)  # whether such products are right; None where not known

    @property
    def left(self) -> Tensor | None:
        """Evaluations each problem may still spend, that of its next point included, (problems,) int64.

        0 where a problem has ended; None where there is no limit.
        """
        return None if self.progress is None else self.progress.left

    @property
    def lengths(self) -> NDArray[np.float64] | None:
        """`||G(z) - z||` of the point at hand, (problems,), on the host; None where it is not known."""
        return None if self.progress is None else self.progress.lengths

    @property
    def replaced(self) -> NDArray[np.bool_] | None:
        """Whose last proposal overflowed, so that the point is the image before it, (problems,); None for nobody's."""
        return None if self.progress is None else self.progress.replaced

    def charge(self, problems: Tensor) -> None:
        """Count one more evaluation of these problems, (problems,) bool."""
        counted = problems.to(torch.int64)
        self.extra = counted if self.extra is None else self.extra + counted

    def jvp(self, z: Tensor, direction: Tensor, wanted: Tensor) -> Tensor:
        """`J(z) direction`; one evaluation for each wanted problem.

        The first is by forward differentiation of one more evaluation. If another at the same z is wanted, both come
        from the graph of one more evaluation too, for a third of the price; where they said the same the first time,
        products go on like that. Where G has no forward derivative, a difference of images has to say it, for three
        evaluations that are not counted.

        Args:
            z: (problems, unknowns).
            direction: (problems, unknowns), rounded to z's dtype.
            wanted: the problems whose product is used, (problems,) bool.

        Raises:
            InputError: G has an operation without a forward derivative, or one is being computed already.
        """
        self.charge(wanted)
        if self._graphs is None and self._seen is not None and self._seen[0] is z:
            _, before, seen = self._seen
            self._graphs = self._confirmed(z, before, seen, None)
        product = self._from_graph(z, direction) if self._graphs else None
        if product is not None:
            return product
        try:
            product = forward_product(self.image, z, direction)
        except InputError:
            if self._graphs is not None or not self._confirmed(z, direction, None, ROUGHLY):
                raise
            self._graphs, product = True, self._from_graph(z, direction)
            if product is None:
                raise
            return product
        self._seen = z, direction, product
        return product

    def _confirmed(self, z: Tensor, direction: Tensor, known: Tensor | None, accuracy: float | None) -> bool:
        """Whether products from a graph are what is known, or about what images say."""
        product = self._from_graph(z, direction)
        if product is None:
            return False
        known = difference(self.image, z, direction) if known is None else known
        return agree(known, product, direction, accuracy)

    def _from_graph(self, z: Tensor, direction: Tensor) -> Tensor | None:
        """The product from the graph of z, made ready once; None where there is none."""
        if self._ready is None or self._ready[0] is not z:
            self._ready = None  # its graph goes before the next is made
            self._ready = z, backward_product(self.image, z)
        product = self._ready[1]
        return None if product is None else product(direction)
