"""Forward-backward splitting for `z = s(W z + c)`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from deqops._equation import Equation
from deqops._errors import InputError
from deqops._numbers import keep_plain
from deqops._prox import check_step_size

from ._splitting import Affine, affine_of, charged, monotone_constants


@dataclass(frozen=True)
class ForwardBackward:
    """`z <- prox_(a f)((1 - a) z + a (W z + c))` for `G(z) = s(W z + c)`, s = prox_f with slopes in [0, 1].

    With m > 0 the smallest eigenvalue of the symmetric part of I - W, L its norm and 0 < a < 2m/L^2, every step
    brings z nearer to the one equilibrium, by the factor `sqrt(1 - 2am + a^2 L^2)` in l2, whatever ||W|| is; at
    `a = m/L^2` it is `sqrt(1 - m^2/L^2)`. a = 1 is Picard's iteration. G has to say what W, c and s are: a
    `ProximalLayer`, or any `ProximalOperator`. What is judged and returned is G's own image, `||G(z) - z||` and
    G(z). Each step takes a product with W, in float64, which counts as an evaluation besides that of G.

    Args:
        step_size: a > 0; None for `m/L^2` with m and L estimated, O(n^3) once a solve.

    Raises:
        InputError: a is out of range; (by the solve) the operator has not this form, the state is no single tensor,
            `batch=` was given, or m <= 0 and no a.

    Theorem: T5 `monotone`, form (c). m and L are estimates and only choose a; the residual judges.
    """

    step_size: float | None = None

    def __post_init__(self) -> None:
        keep_plain(self, "step_size")
        check_step_size(self.step_size)

    def prepared(self, equation: Equation) -> Forward:
        """The solver of this equation, with its W, c and s."""
        affine = affine_of(equation, "ForwardBackward()")
        if self.step_size is not None:
            return Forward(equation, affine, float(self.step_size))
        found = monotone_constants(affine.weight, "ForwardBackward()")
        return Forward(equation, affine, found.monotonicity_estimate / found.lipschitz_estimate**2)

    def init(self, z: Tensor) -> Any:
        """Raises InputError: the loop asks the prepared solver."""
        raise InputError("ForwardBackward: it needs the equation's W and c; call prepared(equation).init")

    def step(self, memory: Any, z: Tensor, image: Tensor) -> tuple[Tensor, Any]:
        """Raises InputError: the loop asks the prepared solver."""
        raise InputError("ForwardBackward: it needs the equation's W and c; call prepared(equation).step")


@dataclass(frozen=True, eq=False)
class Forward:
    """`ForwardBackward` for one equation; its memory is c, for the rows that are left."""

    equation: Equation
    affine: Affine
    size: float

    def init(self, z: Tensor) -> Tensor:
        """c, (problems, unknowns)."""
        return self.affine.offset

    def step(self, memory: Tensor, z: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """The step; z itself where a problem has no evaluation left to pay for it."""
        able = charged(self.equation, z)
        moved = self.affine.mixed(z.to(torch.float64), memory, self.size)
        proposal = self.affine.prox(moved, self.size).to(z.dtype)
        return torch.where(able[:, None], proposal, z), memory

    def narrowed(self, memory: Tensor, rows: Tensor) -> Tensor:
        """c of these rows alone."""
        return memory[rows]
