"""Newton's method with GMRES, each problem by itself."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from deqops._equation import Equation
from deqops._errors import InputError
from deqops._numbers import LARGEST_COUNT, is_count, is_number, keep_plain
from deqops._tree import row_norms

from ._gmres import Reduced, gmres

GAMMA = 0.9
"""Eisenstat and Walker's factor of the squared ratio of residuals."""
SAFEGUARD = 0.1
"""The forcing term shrinks no faster than GAMMA times its own square, as long as that is above this."""
SHORTER = (0.1, 0.5)
"""A shortened step is between these times the one before."""
TRIES = 10
"""So many shortened steps; then Picard's."""
LONGEST = 1e6
"""A step is at most this times as long as z or F(z)."""
ENOUGH = 0.5
"""The linear residual need not be below this times the residual that ends the problem."""
ROUNDING = 4.0
"""No linear residual below this many units of rounding of the state is asked for."""


@dataclass(frozen=True)
class NewtonMemory:
    """The last accepted point, the step tried from it, and how that was found; one row per problem."""

    point: Tensor  # (problems, unknowns): z
    residual: Tensor  # (problems, unknowns): F(z) = G(z) - z
    norm: Tensor  # (problems,): ||F(z)||
    step: Tensor  # (problems, unknowns): s, about (I - J)^-1 F
    left: Tensor  # (problems,): ||F - (I - J) s|| / ||F||
    forcing: Tensor  # (problems,): the forcing term
    fraction: Tensor  # (problems,): of s that is being tried
    tries: Tensor  # (problems,) int64: how often s was shortened
    searching: Tensor  # (problems,) bool: the point under way is z + fraction s; else Picard's, taken as it is


@dataclass(frozen=True)
class NewtonKrylov:
    """Inexact Newton steps on `F(z) = G(z) - z`: `z <- z + t s`, `(I - J) s = F` solved roughly by GMRES.

    Jacobian-vector products come from forward differentiation of G, or where that (else a difference of images) says
    the same from two backward passes through one evaluation a step; each counts as an evaluation. GMRES stops at
    a relative residual of the forcing term: `forcing` at first, then `0.9 (||F_k|| / ||F_(k-1)||)^2` with Eisenstat
    and Walker's safeguards, at most `forcing`, and never below the state's rounding. t = 1 is shortened, by the
    parabola through what is known of ||F||^2, until `||F(z + t s)|| <= (1 - decrease t (1 - e)) ||F(z)||`, e GMRES's
    relative residual. After 10 shortened steps, and where GMRES finds nothing, the step is Picard's. No more
    products are computed than evaluations are left. All of this is relative: scaling a problem, z -> c z, changes
    nothing.

    Args:
        krylov: the largest number of products a step, at least 1; up to twice as many vectors like the state are
            kept meanwhile, as they are needed.
        forcing: the first forcing term and the largest, between 0 and 1; small ones make the steps Newton's.
        decrease: of the residual that is asked for, between 0 and 1/2.

    Raises:
        InputError: a setting is out of range; (by the solve) G has an operation without a forward derivative, and
            none that its backward passes give.

    Source: Eisenstat and Walker, *Choosing the Forcing Terms in an Inexact Newton Method*, SIAM J. Sci. Comput. 17,
    1996, choice 2; Kelley, *Iterative Methods for Linear and Nonlinear Equations*, SIAM 1995, chapters 6 and 8. It
    converges superlinearly from near an equilibrium where I - J is regular; from afar no theorem covers it (||F||
    may have minima that are no equilibria): what it finds, the residual judges. An image that is not finite ends its
    problem, in the line search too.
    """

    krylov: int = 40
    forcing: float = 0.1
    decrease: float = 1e-4

    def __post_init__(self) -> None:
        keep_plain(self, "krylov", "forcing", "decrease")
        if not is_count(self.krylov, 1):
            raise InputError(f"krylov: a whole number of at least 1 is needed, got {self.krylov!r}")
        for name, most in (("forcing", 1.0), ("decrease", 0.5)):
            value = getattr(self, name)
            if not (is_number(value) and 0 < value < most):
                raise InputError(f"{name}: a number between 0 and {most:g} is needed, got {value!r}")

    def prepared(self, equation: Equation) -> Newton:
        """The solver with the equation's derivatives."""
        return Newton(self, equation)

    def init(self, z: Tensor) -> Any:
        """Raises InputError: the loop asks the prepared solver."""
        raise InputError("NewtonKrylov: it needs the equation's derivatives; call prepared(equation).init")

    def step(self, memory: Any, z: Tensor, image: Tensor) -> tuple[Tensor, Any]:
        """Raises InputError: the loop asks the prepared solver."""
        raise InputError("NewtonKrylov: it needs the equation's derivatives; call prepared(equation).step")


@dataclass(frozen=True)
class Newton:
    """`NewtonKrylov` for one equation."""

    settings: NewtonKrylov
    equation: Equation

    def init(self, z: Tensor) -> NewtonMemory | None:
        """Nothing is known before the first evaluation."""
        return None

    def step(self, memory: NewtonMemory | None, z: Tensor, image: Tensor) -> tuple[Tensor, NewtonMemory]:
        """A new step where the last one was good enough, a shorter one or Picard's where it was not."""
        point = z.to(torch.promote_types(z.dtype, torch.float32))
        residual = image.to(point.dtype) - point
        norm = row_norms(residual)
        if memory is None:
            memory = _unknown(point, residual, norm, self.settings.forcing)
            accepted = torch.ones_like(memory.searching)
        else:
            accepted = ~memory.searching | (norm <= _promised(memory, self.settings.decrease) * memory.norm)
        new = self._newton(memory, z, residual, norm, accepted, self._floor(z, image, norm))
        new = _chosen(accepted, new, _shortened(memory, norm))
        tried = torch.addcmul(new.point, new.fraction[:, None], new.step)
        proposal = torch.where(new.searching[:, None], tried, new.point + new.residual)
        return proposal.to(z.dtype), new

    def narrowed(self, memory: NewtonMemory, rows: Tensor) -> NewtonMemory:
        """The memory of these problems alone."""
        return NewtonMemory(*(getattr(memory, part.name)[rows] for part in fields(memory)))

    def _newton(
        self, old: NewtonMemory, z: Tensor, residual: Tensor, norm: Tensor, accepted: Tensor, floor: Tensor
    ) -> NewtonMemory:
        """Newton's steps from z, for the problems that accepted it; Picard's where GMRES finds none."""
        point = z.to(residual.dtype)
        forcing = _forcing(old, norm, floor, self.settings.forcing)
        unit = residual / torch.where(norm > 0, norm, 1.0)[:, None]
        usable = accepted & norm.isfinite() & (norm > 0)
        found = gmres(lambda v, used: self.equation.jvp(z, v, used), unit, forcing, self._allowed(usable))
        step = found.step * norm[:, None]
        length = row_norms(step)
        longest = LONGEST * torch.maximum(row_norms(point), norm)
        return NewtonMemory(
            point=point,
            residual=residual,
            norm=norm,
            step=step,
            left=found.left,
            forcing=forcing,
            fraction=torch.where(length > longest, longest / length, 1.0),
            tries=torch.zeros_like(old.tries),
            searching=_useful(found, length),
        )

    def _floor(self, z: Tensor, image: Tensor, norm: Tensor) -> Tensor:
        """The forcing term below which a step gains nothing: the goal is met, or the state's rounding."""
        size, goal = row_norms(image), self.equation.goal
        floor = ROUNDING * torch.finfo(z.dtype).eps * size
        if goal is not None:
            floor = torch.maximum(floor, ENOUGH * goal(size))
        return floor / torch.where(norm > 0, norm, 1.0)

    def _allowed(self, wanted: Tensor) -> Tensor:
        """How many products each problem may have: one evaluation is kept for the next point."""
        most = torch.where(wanted, min(self.settings.krylov, LARGEST_COUNT), 0)
        left = self.equation.left
        return most if left is None else torch.minimum(most, (left - 1).clamp(min=0))


def _unknown(point: Tensor, residual: Tensor, norm: Tensor, forcing: float) -> NewtonMemory:
    none = torch.zeros_like(norm, dtype=torch.int64)
    ones = torch.ones_like(norm)
    searching = torch.zeros_like(norm, dtype=torch.bool)
    unknown = torch.full_like(norm, torch.inf)
    return NewtonMemory(point, residual, unknown, torch.zeros_like(point), ones, forcing * ones, ones, none, searching)


def _promised(memory: NewtonMemory, decrease: float) -> Tensor:
    """The ratio of residuals that accepts the point under way."""
    return 1 - decrease * memory.fraction * (1 - memory.left)


def _useful(found: Reduced, length: Tensor) -> Tensor:
    """Whether a linear problem's step is one at all."""
    room = 1 - 100 * torch.finfo(length.dtype).eps
    return (found.left < room) & (length > 0) & length.isfinite()


def _forcing(old: NewtonMemory, norm: Tensor, floor: Tensor, most: float) -> Tensor:
    """Eisenstat and Walker's second choice; `most` at the first point, whose ratio is unknown."""
    ratio = torch.where(old.norm.isfinite(), norm / torch.where(old.norm > 0, old.norm, 1.0), 1.0)
    chosen = GAMMA * ratio.square()
    before = GAMMA * old.forcing.square()
    chosen = torch.where(before > SAFEGUARD, torch.maximum(chosen, before), chosen)
    return torch.maximum(torch.where(old.norm.isfinite(), chosen, most), floor).nan_to_num(most).clamp(max=most)


def _shortened(old: NewtonMemory, norm: Tensor) -> NewtonMemory:
    """The same step, shortened to the lowest point of a parabola; given up after TRIES.

    GMRES makes (I - J) s orthogonal to what it leaves, so that `||F||^2` starts with the slope
    `-2 (1 - left^2) ||F||^2`.
    """
    slope = -2 * (1 - old.left.square())
    ratio = (norm / torch.where(old.norm > 0, old.norm, 1.0)).square()
    curvature = ratio - 1 - slope * old.fraction
    lowest = (-0.5 * slope * old.fraction.square() / curvature).nan_to_num(0.0, posinf=0.0)
    low, high = (factor * old.fraction for factor in SHORTER)
    shorter = torch.where(curvature > 0, torch.clamp(lowest, low, high), high)
    return NewtonMemory(
        point=old.point,
        residual=old.residual,
        norm=old.norm,
        step=old.step,
        left=old.left,
        forcing=old.forcing,
        fraction=shorter,
        tries=old.tries + 1,
        searching=old.searching & (old.tries < TRIES),
    )


def _chosen(first: Tensor, a: NewtonMemory, b: NewtonMemory) -> NewtonMemory:
    """The rows of a where `first`, of b elsewhere."""
    rows = {
        name: torch.where(first[:, None] if value.ndim == 2 else first, value, getattr(b, name))
        for name, value in vars(a).items()
    }
    return NewtonMemory(**rows)
