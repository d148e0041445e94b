"""The equation a solve is about, for solvers that ask more than one image a step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deqops._derivative import Product, Recorded, Rows, agree, backward_product, difference, forward_product, recorded
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
    records: bool = field(default=False, init=False)
    """The loop is to keep the graph of each evaluation, for products with derivatives; what asks for them sets it."""
    evaluation: Recorded | None = field(default=None, init=False)
    """The loop's last one; None where it has no graph, or not of all rows."""
    _ready: tuple[Tensor, Product | None] | None = field(default=None, init=False)
    _recorded: Recorded | None = field(default=None, init=False)  # what the products that are ready come from
    _is_trusted: bool = field(default=False, init=False)  # products from a graph have been seen to be right

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

        By forward differentiation of one more evaluation, or for a third of its price from the graph of the loop's own
        evaluation of z, once both have said the same; where G has no forward derivative, once a difference of images
        has.

        Args:
            z: (problems, unknowns).
            direction: (problems, unknowns), rounded to z's dtype.
            wanted: the problems whose product is used, (problems,) bool.

        Raises:
            InputError: G has an operation without a forward derivative, or one is being computed already.
        """
        self.charge(wanted)
        product = self._recorded_product(z)
        backward = None if product is None else product(direction)
        if backward is not None and self._is_trusted:
            return backward
        try:
            forward = forward_product(self.image, z, direction)
        except InputError:
            if backward is None or not self._is_about_right(backward, direction):
                raise
            self._is_trusted = True
            return backward
        if product is not None:
            self.records = self._is_trusted = backward is not None and agree(forward, backward, direction)
        return forward

    def _is_about_right(self, backward: Tensor, direction: Tensor) -> bool:
        """Whether a product from the last graph is what the images say, for want of forward differentiation."""
        if self._recorded is None:
            return False
        return agree(difference(self.image, self._recorded, direction), backward, direction, ROUGHLY)

    def _recorded_product(self, z: Tensor) -> Product | None:
        """Products from the graph of the evaluation of z, made ready once; None where there are none.

        Once they are trusted, G is evaluated anew where rows were dropped or replaced since: for less than a product.
        """
        if self._ready is not None and self._ready[0] is z:
            return self._ready[1]
        evaluation, self.evaluation = self.evaluation, None
        if evaluation is None or evaluation.z is not z:
            evaluation = recorded(self.image, z)[1] if self._is_trusted else None
        if evaluation is None:
            return None
        self._recorded, product = evaluation, backward_product(evaluation)
        self.records = product is not None
        self._ready = z, product
        return product
