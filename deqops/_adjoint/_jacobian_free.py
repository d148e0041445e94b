"""Jacobian-free gradients: those of one application of G at the equilibrium."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from deqops._adjoint._base import Rows


@dataclass(frozen=True)
class JacobianFree:
    """Differentiate one application of G: the implicit gradient with `(I - J)^-1` replaced by I.

    Cheap and biased; a descent direction under the conditions of Fung et al., *JFB: Jacobian-Free
    Backpropagation for Implicit Networks*, AAAI 2022. Use `ImplicitAdjoint` where gradients must be right.
    """

    def attach(self, operator: Rows, point: Tensor) -> Tensor:
        """`G(point)`, differentiated once."""
        return operator(point.detach())
