"""What the splitting solvers share: W, c and s of the operator, and estimates of its constants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from deqops._equation import Equation
from deqops._errors import InputError
from deqops._graph_layout import Layout
from deqops._prox import prox
from deqops._proximal import ProximalForm, ProximalOperator
from deqops._tree import StateLayout

MARGIN = 16.0
"""Units of rounding, times n and the norm, that the estimates leave to the safe side."""


@dataclass(frozen=True, eq=False)
class Affine:
    """`v(z) = W z + c` and s, for states as (problems, unknowns).

    In float64 whatever the state's dtype: a step's rounding adds up to L/m times itself, which in float32 keeps the
    residual ten times above G's own rounding (||W|| = 27).
    """

    weight: Tensor  # (n, n)
    offset: Tensor  # (problems, unknowns): c
    activation: nn.Module

    def times(self, matrix: Tensor, rows: Tensor) -> Tensor:
        """A matrix, (n, n), along the last dimension of each state; rows do not mix."""
        flat = rows.reshape(-1, matrix.shape[0])
        return (flat @ matrix.mT).reshape(rows.shape)

    def mixed(self, z: Tensor, offset: Tensor, step: float) -> Tensor:
        """`(1 - a) z + a v(z)`: a step down f's companion, `z - a ((I - W) z - c)`."""
        return z + step * (self.times(self.weight, z) + offset - z)

    def prox(self, x: Tensor, step: float) -> Tensor:
        """`prox_(a f)(x)`."""
        return prox(self.activation, x, step)


@dataclass(frozen=True)
class Constants:
    """Of I - W, in the l2 norm: estimates, which only choose a step; each with a margin to the safe side."""

    monotonicity_estimate: float  # m: the smallest eigenvalue of the symmetric part
    lipschitz_estimate: float  # L: the norm


def constants_estimate(weight: Tensor) -> Constants:
    """m and L of I - W, by eigenvalues and singular values in float64; O(n^3)."""
    shifted = torch.eye(len(weight), dtype=torch.float64, device=weight.device) - weight
    norm = float(torch.linalg.matrix_norm(shifted, ord=2))
    margin = MARGIN * len(weight) * torch.finfo(torch.float64).eps * norm
    lowest = float(torch.linalg.eigvalsh((shifted + shifted.mT) / 2)[0])
    return Constants(lowest - margin, norm + margin)


def monotone_constants(weight: Tensor, solver: str) -> Constants:
    """The estimates.

    Raises:
        InputError: I - W is not strongly monotone, as far as the estimate says.
    """
    found = constants_estimate(weight)
    if not found.monotonicity_estimate > 0:
        lowest = found.monotonicity_estimate
        raise InputError(
            f"G: the symmetric part of I - W has an eigenvalue of about {lowest:.3g}, and {solver} chooses its step "
            "where all are above 0; give it step_size=, or use Anderson()"
        )
    return found


def affine_of(equation: Equation, solver: str) -> Affine:
    """W, c and s of the equation's operator.

    Raises:
        InputError: the operator does not say what they are, or they do not fit the state.
    """
    given = equation.given
    if given is None:
        raise InputError(
            f"batch: {solver} needs W and c problem by problem, and graphs have them node by node; leave batch= out "
            "(in s(Wz + c) each node is a problem by itself), or use Anderson()"
        )
    if not isinstance(given.operator, ProximalOperator):
        raise InputError(
            f"G: {solver} solves z = s(Wz + c), and {type(given.operator).__name__} does not say that it is one; use "
            "a ProximalLayer, give it a method proximal_form(*inputs), or use Anderson()"
        )
    shape = _tensor_shape(given.layout, solver)
    with torch.no_grad():
        form = _checked(given.operator.proximal_form(*given.inputs), shape)
        offset = torch.broadcast_to(form.offset, shape).reshape(given.layout.problems, -1)
        return Affine(form.weight.detach().to(torch.float64), offset.detach().to(torch.float64), form.activation)


def _tensor_shape(layout: Layout, solver: str) -> torch.Size:
    if not isinstance(layout, StateLayout) or not layout.spec.is_leaf() or not layout.shapes[0]:
        got = layout.spec if isinstance(layout, StateLayout) else "graphs"
        raise InputError(f"y0: {solver} takes one tensor (.., n) as its state, got {got}; use one, or Anderson()")
    return layout.shapes[0]


def _checked(form: Any, shape: torch.Size) -> ProximalForm:
    """The form, where it fits a state of this shape."""
    if not isinstance(form, ProximalForm):
        raise InputError(f"G: its proximal_form returned a {type(form).__name__}; return a ProximalForm")
    size, weight = shape[-1], form.weight
    if weight.shape != (size, size) or not weight.is_floating_point():
        kind = f"{weight.dtype} of shape {tuple(weight.shape)}"
        raise InputError(f"G: W is {kind} for a state of shape {tuple(shape)}; one floating ({size}, {size}) is needed")
    if not bool(weight.isfinite().all()):
        raise InputError("G: its W holds NaN or infinity; give finite weights")
    try:
        torch.broadcast_to(form.offset, shape)
    except RuntimeError as error:
        got = tuple(form.offset.shape)
        raise InputError(f"G: c has shape {got}, the state {tuple(shape)}; return one that broadcasts") from error
    prox(form.activation, form.weight.new_zeros(1), 1.0)  # raises where it is not known
    return form


def charged(equation: Equation, like: Tensor) -> Tensor:
    """The problems that can pay for one more product besides the next point, (problems,) bool; they are charged."""
    left = equation.left
    able = torch.ones(len(like), dtype=torch.bool, device=like.device) if left is None else left > 1
    equation.charge(able)
    return able
