"""A problem to measure solvers on, its operator's counter, and the true error of an answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Operator = Callable[..., Tensor]


Map = Callable[[Tensor], Tensor]
InJax = Callable[[Any], Callable[[Any], Any]]
"""From the module jax, the same operator on its arrays."""


@dataclass(frozen=True, eq=False)
class Problem:
    """`z = G(z, *inputs)` with a known answer.

    Attributes:
        name: as on the command line, with the scale where there are several.
        title: one line.
        operator: G.
        start: where every method starts.
        truth: the equilibrium in float64.
        inputs: of G.
        batched: their roles, for the solvers that drop what has ended.
        batch_dims: 1 where dimension 0 of the state counts problems, 0 where it is one problem.
        in_jax: the same operator for the peers under jax.
        tolerance: of the table, relative.
        most: evaluations that a method may spend.
        in_scipy: whether scipy is measured: it keeps float64 vectors of the whole state.
    """

    name: str
    title: str
    operator: Operator
    start: Tensor
    truth: Tensor
    in_jax: InJax
    inputs: tuple[Tensor, ...] = ()
    batched: tuple[str, ...] | None = None
    batch_dims: int = 1
    tolerance: float = 1e-5
    most: int = 1000
    in_scipy: bool = True

    @property
    def problems(self) -> int:
        return len(self.start) if self.batch_dims else 1

    @property
    def size(self) -> float:
        """`||z||_2` of the answer, for peers that know absolute tolerances only."""
        return float(self.truth.norm())

    def bound(self, operator: Operator | None = None) -> Map:
        """`z -> G(z, *inputs)`, or another operator's."""
        chosen = operator or self.operator
        return (lambda z: chosen(z, *self.inputs)) if self.inputs else chosen

    def error(self, value: Tensor) -> float:
        """The largest of the problems' `||z - truth||_2 / ||truth||_2`; infinite where z is not finite."""
        rows, truth = (t.reshape(self.problems, -1).double() for t in (value, self.truth))
        worst = float(((rows - truth).norm(dim=1) / truth.norm(dim=1)).max())
        return worst if worst < torch.inf else torch.inf


class Counter:
    """G, with its calls and the problems in them counted."""

    def __init__(self, problem: Problem) -> None:
        self.operator, self.by_row = problem.operator, bool(problem.batch_dims)
        self.evaluations = self.rows = 0

    def __call__(self, z: Tensor, *inputs: Tensor) -> Tensor:
        self.evaluations += 1
        self.rows += len(z) if self.by_row else 1
        return self.operator(z, *inputs)


def reference(operator: Map, start: Tensor, most: int = 5000) -> Tensor:
    """The equilibrium in float64 by the plain iteration, which needs no solver of anybody's."""
    z = start.double()
    for _ in range(most):
        image = operator(z)
        if float((image - z).norm()) <= 1e-15 * float(image.norm()):
            return image
        z = image
    return z


def bare(operator: Map, start: Tensor, count: int) -> Tensor:
    """So many applications, and nothing else."""
    z = start
    with torch.no_grad():
        for _ in range(count):
            z = operator(z)
    return z
