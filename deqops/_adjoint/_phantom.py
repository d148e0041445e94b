"""Phantom gradients: those of a few damped applications of G from the equilibrium."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from deqops._adjoint._base import Rows
from deqops._adjoint._carried import carried
from deqops._errors import InputError
from deqops._numbers import is_count
from deqops._solver._picard import check_damping


@dataclass(frozen=True)
class Phantom:
    """Differentiate `steps` damped applications `h <- (1 - b) h + b G(h)` from h = z, z held fixed.

    At an equilibrium that is `b sum_{j < steps} ((1 - b) I + b J)^j dG/dx` in place of `(I - J)^-1 dG/dx`. It is
    biased: where `||J|| <= q < 1` and b <= 1, by at most `(1 - b + b q)^steps ||dG/dx|| / (1 - q)`; a z that is not
    quite the equilibrium adds T14's other terms. The value stays G(z). Derivatives of every order are those of
    the damped applications, not of the equilibrium. The graphs of all `steps` applications are kept.

    Args:
        steps: how many, at least 1; with `Phantom(1, 1.0)` the same as `JacobianFree()`.
        damping: b, above 0.

    Raises:
        InputError: a setting is out of range.

    Source: Geng et al., *On Training Implicit Models*, NeurIPS 2021 (unrolled phantom gradient). Theorem: T14
    `implicit_gradient`.
    """

    steps: int = 5
    damping: float = 0.5

    def __post_init__(self) -> None:
        check_steps(self.steps)
        check_damping(self.damping)

    def attach(self, operator: Rows, point: Tensor) -> Tensor:
        """`G(point)` with the derivatives of the damped applications."""
        h = point.detach()
        value = image = operator(h)
        for _ in range(self.steps - 1):
            h = h + self.damping * (image - h)
            image = operator(h)
        return carried(value, h + self.damping * (image - h))


def check_steps(steps: object) -> None:
    """Raises InputError unless `steps` is a whole number of at least 1."""
    if not is_count(steps, 1):
        raise InputError(f"steps: a whole number of at least 1 is needed, got {steps!r}")
