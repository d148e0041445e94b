"""Adjoints: how gradients pass through an equilibrium."""

from ._base import Adjoint
from ._implicit import ImplicitAdjoint
from ._jacobian_free import JacobianFree
from ._phantom import Phantom
from ._unrolled import Unrolled

__all__ = ["Adjoint", "ImplicitAdjoint", "JacobianFree", "Phantom", "Unrolled"]
