"""Peaceman-Rachford splitting for `z = s(W z + c)`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from deqops._equation import Equation
from deqops._errors import InputError
from deqops._numbers import keep_plain
from deqops._prox import check_step_size
from deqops._tree import host

from ._splitting import Affine, affine_of, charged, monotone_constants


@dataclass(frozen=True)
class PeacemanRachford:
    """`h = (I + a(I - W))^-1 (2z - u + a c)`, `u <- u - 2z + 2h`, `z = prox_(a f)(u)` for `G(z) = s(W z + c)`.

    s = prox_f has slopes in [0, 1]. With m > 0 the smallest eigenvalue of the symmetric part of I - W and L its norm,
    it converges for every a > 0; at a = 1/L each step brings u nearer to its limit by the factor
    `sqrt((L - m)/(L + m))` in l2, and z is no farther from the equilibrium than u from its limit. It starts from
    `u = (1 - a) z + a (W z + c)`. The inverse is computed once a solve, O(n^3); its condition is at most 2 at a = 1/L.
    All of this is float64. G has to say what W, c and s are: a `ProximalLayer`, or any `ProximalOperator`. What is
    judged and returned is G's own image, `||G(z) - z||` and G(z). Each step takes a product with the inverse, which
    counts as an evaluation besides that of G.

    Args:
        step_size: a > 0; None for 1/L, L estimated.

    Raises:
        InputError: a is out of range; (by the solve) the operator has not this form, the state is no single tensor,
            `batch=` was given, or m <= 0 and no a.

    Theorem: T5 `monotone`, form (c); Ryu and Boyd, *A primer on monotone operator methods*, 2016; Winston and Kolter,
    NeurIPS 2020. m and L are estimates and only choose a; the residual judges.
    """

    step_size: float | None = None

    def __post_init__(self) -> None:
        keep_plain(self, "step_size")
        check_step_size(self.step_size)

    def prepared(self, equation: Equation) -> Reflected:
        """The solver of this equation, with its W, c and s."""
        affine = affine_of(equation, "PeacemanRachford()")
        size = self.step_size
        if size is None:
            size = 1 / monotone_constants(affine.weight, "PeacemanRachford()").lipschitz_estimate
        return Reflected(equation, affine, float(size), _resolvent(affine.weight, float(size)))

    def init(self, z: Tensor) -> Any:
        """Raises InputError: the loop asks the prepared solver."""
        raise InputError("PeacemanRachford: it needs the equation's W and c; call prepared(equation).init")

    def step(self, memory: Any, z: Tensor, image: Tensor) -> tuple[Tensor, Any]:
        """Raises InputError: the loop asks the prepared solver."""
        raise InputError("PeacemanRachford: it needs the equation's W and c; call prepared(equation).step")


def _resolvent(weight: Tensor, step: float) -> Tensor:
    """`(I + a (I - W))^-1`, by which rows are multiplied: a product of rows never mixes them."""
    eye = torch.eye(len(weight), dtype=weight.dtype, device=weight.device)
    inverse: Tensor
    inverse, info = torch.linalg.inv_ex(eye + step * (eye - weight))
    if int(info) or not bool(inverse.isfinite().all()):
        raise InputError(f"step_size: I + a(I - W) is singular at a = {step!r}; give another, or use Anderson()")
    return inverse


@dataclass(frozen=True, eq=False)
class ReflectedMemory:
    """c, u and z = prox(u), with z as it was proposed; None before the first step."""

    offset: Tensor  # (problems, unknowns): c
    u: Tensor | None = None  # (problems, unknowns)
    z: Tensor | None = None  # (problems, unknowns), float64
    proposal: Tensor | None = None  # (problems, unknowns): z in the state's dtype


@dataclass(frozen=True, eq=False)
class Reflected:
    """`PeacemanRachford` for one equation."""

    equation: Equation
    affine: Affine
    size: float
    resolvent: Tensor  # (n, n)

    def init(self, z: Tensor) -> ReflectedMemory:
        """c alone."""
        return ReflectedMemory(self.affine.offset)

    def step(self, memory: ReflectedMemory, z: Tensor, image: Tensor) -> tuple[Tensor, ReflectedMemory]:
        """The step; z itself where a problem has no evaluation left to pay for it."""
        able = charged(self.equation, z)
        u = self._next(memory, z, able)
        point = self.affine.prox(u, self.size)
        proposal = torch.where(able[:, None], point.to(z.dtype), z)
        return proposal, replace(memory, u=u, z=point, proposal=proposal)

    def narrowed(self, memory: ReflectedMemory, rows: Tensor) -> ReflectedMemory:
        """The memory of these rows alone."""
        u, z, proposal = (None if part is None else part[rows] for part in (memory.u, memory.z, memory.proposal))
        return ReflectedMemory(memory.offset[rows], u, z, proposal)

    def _next(self, memory: ReflectedMemory, z: Tensor, able: Tensor) -> Tensor:
        """u of the next point; begun anew where z is not the point that was proposed."""
        if memory.u is None or memory.z is None or memory.proposal is None:
            return self.affine.mixed(z.to(torch.float64), memory.offset, self.size)
        reflected = 2 * memory.z - memory.u
        h = self.affine.times(self.resolvent, reflected + self.size * memory.offset)
        u = 2 * h - reflected
        if z is memory.proposal:
            return u
        replaced = (z != memory.proposal).any(dim=1) & able
        if not host(replaced.any()).any():
            return u
        return torch.where(replaced[:, None], self.affine.mixed(z.to(torch.float64), memory.offset, self.size), u)
