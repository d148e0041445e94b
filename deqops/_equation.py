"""The equation a solve is about, for solvers that ask more than one image a step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import forward_ad

from deqops._errors import InputError
from deqops._graph_layout import Layout
from deqops._transforms import dual_level

Rows = Callable[[Tensor], Tensor]


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
        """`J(z) direction`, by forward differentiation; one evaluation for each wanted problem.

        Args:
            z: (problems, unknowns). G gets a copy, for it may write into its argument.
            direction: (problems, unknowns), rounded to z's dtype.
            wanted: the problems whose product is used, (problems,) bool.

        Raises:
            InputError: G has an operation without a forward derivative, or one is being computed already.
        """
        with dual_level():
            dual = forward_ad.make_dual(z.clone(), direction.to(z.dtype, copy=True))  # type: ignore[no-untyped-call]
            try:
                image = self.image(dual)
            except NotImplementedError as error:
                reason = " ".join(str(error).split())[:200]
                raise InputError(f"G: it has no forward derivative ({reason}); use Broyden() or Anderson()") from error
            tangent = forward_ad.unpack_dual(image).tangent  # type: ignore[no-untyped-call]
        self.charge(wanted)
        return torch.zeros_like(z) if tangent is None else tangent
