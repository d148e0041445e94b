"""`operator_norm_bound`: proven operator norms in l1, l2 and linf, diagonally weighted, and in quadratic norms."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor

from deqops._errors import InputError

from . import _midrad as midrad
from ._bound import Bound
from ._lyapunov import Form, form_contraction, form_sizes
from ._midrad import MidRad
from ._newton import LARGEST, proposed_inverse
from ._norm import Norm, Order
from ._norm_estimate import norm_estimate
from ._operand import Operand, as_operand, enclosure
from ._product import Product
from ._rounding import check_environment, div_up, mul_up

_NAMES = "'l1', 'l2', 'linf', a Norm with one weight a coordinate, or a QuadraticNorm"


@dataclass(frozen=True, eq=False)
class QuadraticNorm:
    """`||R y||_2` for an invertible matrix R.

    Args:
        root: R, (n, n), of a real floating dtype, taken exactly. That it is invertible is verified where it is used.

    Raises:
        InputError: not a square matrix of at least one row, or an entry that is not finite.
    """

    root: Tensor

    def __post_init__(self) -> None:
        root = enclosure(self.root, "root").mid
        if root.ndim != 2 or root.shape[0] != root.shape[1] or not root.numel():
            raise InputError(f"root: a square matrix is needed, got shape {tuple(root.shape)}")
        object.__setattr__(self, "root", root)


def operator_norm_bound(A: Any, norm: str | Norm | QuadraticNorm = "l2") -> Bound:
    """Proven upper bound of `sup ||A y|| / ||y||`.

    Args:
        A: (m, n), what `as_operand` knows: a tensor, dense or sparse, a `MidRad`, a `Product`, a `Kronecker`, a
            `LowRankPlusDiagonal`, a `Convolution`, another `Operand`.
        norm: "l1", "l2" or "linf"; a `Norm`, whose weights w are one (n,) tensor, for a square A: the norm of
            `diag(w) A diag(w)^-1`; a `QuadraticNorm`, for a square A: `||R A R^-1||_2`.

    Returns:
        Bound: `upper` is proven; infinite where nothing finite was found (an overflow). `lower_estimate` comes from
        sums of the entries, singular values, Lanczos' or Hager's method, in floats.

    Raises:
        InputError: an argument of another type or shape, or not finite; R is not shown to be invertible.
    """
    check_environment()
    operand = as_operand(A, "A")
    if isinstance(norm, str) and norm in get_args(Order):
        return operand.norm_bound(norm)  # type: ignore[arg-type]
    if not isinstance(norm, Norm | QuadraticNorm):
        raise InputError(f"norm: got {norm!r}; choose {_NAMES}")
    if isinstance(norm, Norm) and norm.weights is None:
        return operand.norm_bound(norm.order)
    if operand.shape[0] != operand.shape[1]:
        raise InputError(f"A: got shape {operand.shape}; this norm needs a square matrix")
    return _quadratic_bound(operand, norm) if isinstance(norm, QuadraticNorm) else _weighted_bound(operand, norm)


def _weighted_bound(A: Operand, norm: Norm) -> Bound:
    weights = _checked_weights(A, norm)
    inverse = midrad.div(MidRad.exact(torch.ones_like(weights)), MidRad.exact(weights))
    scaled = A.scaled(MidRad.exact(weights), inverse) if inverse.is_finite() else None
    if scaled is not None:
        return scaled.norm_bound(norm.order)
    plain = A.norm_bound(norm.order)
    largest = float(mul_up(plain.upper, div_up(weights.max(), weights.min()))) if weights.numel() else 0.0
    return Bound(math.inf if math.isnan(largest) else largest, 0.0, f"{plain.method}, times the weights' ratio")


def _checked_weights(A: Operand, norm: Norm) -> Tensor:
    weights = norm.weights or ()
    shapes = [tuple(weight.shape) for weight in weights]
    if shapes != [A.shape[:1]]:
        raise InputError(f"norm: weights of shapes {shapes}; one tensor of shape {A.shape[:1]} is needed")
    return weights[0]


def _quadratic_bound(A: Operand, norm: QuadraticNorm) -> Bound:
    """`||R A S (R S)^-1||_2 <= ||R A S||_2 / (1 - ||I - R S||_2)` for S about R^-1."""
    n = A.shape[0]
    if norm.root.shape[0] != n:
        raise InputError(f"norm: R has shape {tuple(norm.root.shape)}; {(n, n)} is needed")
    values = A.entries() if n <= LARGEST else None
    if values is None:
        raise InputError(f"A: {n} rows are too many to be written out for a quadratic norm; use at most {LARGEST}")
    form = Form(norm.root[None], proposed_inverse(norm.root[None]))
    if not form_sizes(form, 1.0)[1] < math.inf:
        raise InputError("norm: R is not shown to be invertible; use one that is better conditioned")
    upper = form_contraction(form, values.apply_exact(lambda t: t[None]), 1.0)
    estimate = norm_estimate(Product(form.root[0], A, form.inverse[0]), "l2")
    return Bound(upper, min(estimate, upper), "R A R^-1 written out")
