"""Adjoints: how gradients pass through an equilibrium."""

from ._base import Adjoint
from ._implicit import ImplicitAdjoint
from ._jacobian_free import JacobianFree

__all__ = ["Adjoint", "ImplicitAdjoint", "JacobianFree"]
