"""T14 `implicit_gradient`: how far a computed `dy*/dx` is from the true one, for one smooth layer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from deqops._errors import InputError, UnsupportedOperationError
from deqops._numbers import is_count

from ._certified import certified_problem, contraction_constant
from ._guarantees import error_bound, power_up
from ._input_jacobian import InputJacobian, SharedUnit, input_jacobian, shared_unit, source_gain
from ._matrix import DenseMatrix, row_l2_norms
from ._monotone import Layer, single_layer
from ._norm import Norm
from ._problem import Problem
from ._rounding import add_up, div_up, mul_up, sub_down
from ._spectral import spectral_norm_bound
from ._theorems import Hypothesis

if TYPE_CHECKING:
    from ._certificate import Certificate

CURVATURES: dict[str, Fraction] = {
    "tanh": Fraction(769800358920, 10**12),  # 4 / (3 sqrt 3), at tanh^2 = 1/3
    "sigmoid": Fraction(96225044865, 10**12),  # 1 / (6 sqrt 3), at (1 - 2 sigmoid)^2 = 1/3
    "softplus": Fraction(1, 4),  # sigmoid', times beta
    "gelu": Fraction(797884560803, 10**12),  # 2 phi(0) = sqrt(2 / pi); not of the tanh form
    "silu": Fraction(1, 2),  # at 0
}
"""Upper bounds of `sup |s''|`, rounded outwards in the 12th decimal; derived symbolically in the tests."""


@dataclass(frozen=True, eq=False)
class GradientErrorBound:
    """`||approximation - dy*/dx||_2 <= total`, per problem, for `(I - J_y)^-1 J_x` evaluated at y.

    Attributes:
        total: truncation + evaluation, (problems,) float64.
        truncation: `q^n ||J_x|| / (1 - q)` after n Neumann terms `sum over k < n of J_y^k J_x`; 0 for an exact solve.
        evaluation: `l' eps / (1 - q) + l eps ||J_x|| / (1 - q)^2`, per problem, for `||y - y*||_2 <= eps`.
        eps: proven distance of y to the equilibrium, per problem.
        rate: q >= ||J_y||_2.
        input_norm: the bound of ||J_x||_2.
        curvature: l of `||J_y(y) - J_y(z)|| <= l ||y - z||`.
        input_curvature: l' of the same for J_x.
        input: the input's name.
        per_problem: whether the gradient is by each problem's own row of the input; otherwise by the whole input.
        hypotheses: each with its value.
    """

    total: Tensor
    truncation: float
    evaluation: Tensor
    eps: Tensor
    rate: float
    input_norm: float
    curvature: float
    input_curvature: float
    input: str
    per_problem: bool
    hypotheses: tuple[Hypothesis, ...]


def gradient_error_bound(
    certificate: Certificate, G: Any, y: Any, *inputs: Any, terms: int | None = None, input: int = 0
) -> GradientErrorBound:
    """T14 for one layer `G(y, x) = scale * s(W y + U x + b)` with s twice differentiable, in the plain l2 norm.

    With `J_y = scale * diag(s') W`: `l = scale * sup|s''| ||W||_(2->inf) ||W||_2`, the first norm the largest
    Euclidean norm of a row; l' the same with `||U||_2` last.

    Args:
        certificate: T1, T2 or T4 in the plain l2 norm, q < 1.
        G: the certified operator.
        y: where the gradient is evaluated.
        inputs: the operator's inputs.
        terms: n of the Neumann series; None for an exact solution of the linear system.
        input: the position of x among the inputs' leaves.

    Returns:
        GradientErrorBound: of the exact-real formula; rounding in the program that evaluates it is not part of it.

    Raises:
        InputError: the certificate is in another norm, proves no constant of G, or does not fit; y lies outside a local
            certificate's ball.
        UnsupportedOperationError: another form of G, or an activation that is not smooth (ReLU) or not listed, by name.
    """
    if terms is not None and not is_count(terms):
        raise InputError(f"terms: got {terms!r}; a number of Neumann terms, 0 or more, is needed")
    problem = certified_problem(certificate, G, y, inputs)
    q, norm = contraction_constant(certificate)
    if norm.order != "l2" or norm.weights is not None:
        raise InputError(f'certificate: it is in the {norm.describe()} norm; certify with norm="l2"')
    eps = error_bound(certificate, G, y, inputs).l2
    if not bool(eps.isfinite().all()):
        raise InputError("y: it lies outside the certificate's ball, or its error is not bounded")
    layer, x, unit = _layer(problem, input)
    second = _curvature(problem, unit)
    scale = float(torch.maximum(layer.lower.magnitude(), layer.upper.magnitude()))
    constants = _constants(layer, x, unit, second, _outer(problem))
    gap = sub_down(1.0, q)
    J_x = float(mul_up(scale, constants.input))
    truncation = 0.0 if terms is None else float(div_up(mul_up(power_up(q, terms), J_x), gap))
    first = div_up(mul_up(constants.input_curvature, eps), gap)
    other = div_up(div_up(mul_up(mul_up(constants.curvature, eps), J_x), gap), gap)
    evaluation = add_up(first, other)
    if not (math.isfinite(truncation) and bool(evaluation.isfinite().all())):
        raise UnsupportedOperationError("operator", "has no finite bound of its derivatives here")
    hypotheses = (
        Hypothesis("contraction", "||J_y|| <= q < 1", q, 1.0, True),
        Hypothesis("curvature of s", f"sup |s''| of {unit.name}", second, math.inf, True),
        Hypothesis("J_y in y", "||J_y(y) - J_y(z)|| <= l ||y - z||", constants.curvature, math.inf, True),
        Hypothesis("J_x in y", "||J_x(y) - J_x(z)|| <= l' ||y - z||", constants.input_curvature, math.inf, True),
        Hypothesis("distance", "||y - y*|| <= eps", float(eps.max()) if eps.numel() else 0.0, math.inf, True),
    )
    return GradientErrorBound(
        total=add_up(evaluation, truncation),
        truncation=truncation,
        evaluation=evaluation,
        eps=eps,
        rate=q,
        input_norm=J_x,
        curvature=constants.curvature,
        input_curvature=constants.input_curvature,
        input=certificate.inputs[input].name,
        per_problem=x.per_problem,
        hypotheses=hypotheses,
    )


@dataclass(frozen=True)
class _Constants:
    input: float
    curvature: float
    input_curvature: float


def _constants(layer: Layer, x: InputJacobian, unit: SharedUnit, second: float, outer: float) -> _Constants:
    """`||U||_2`, l and l'."""
    U = source_gain(x, Norm("l2"), unit.source)
    rows = row_l2_norms(DenseMatrix(layer.weight))
    steepest = mul_up(mul_up(outer, second), rows.max() if rows.numel() else 0.0)
    W = float(spectral_norm_bound(layer.weight))
    return _Constants(U, float(mul_up(steepest, W)), float(mul_up(steepest, U)))


def _layer(problem: Problem, input: int) -> tuple[Layer, InputJacobian, SharedUnit]:
    layer = single_layer(problem.jacobian)
    if layer is None:
        raise UnsupportedOperationError("operator", "is not of the form s(W y + U x + b) along the last dimension")
    x = input_jacobian(problem, input)
    unit = shared_unit(problem, x)
    if unit is None or len(x.jacobian.bases) != 2:
        raise UnsupportedOperationError("operator", "does not take this input in the form s(W y + U x + b)")
    return layer, x, unit


def _outer(problem: Problem) -> float:
    """The modulus of the factor behind s."""
    ((maps,),) = [tuple(output.terms.values()) for output in problem.jacobian.outputs]
    factor = maps[0].as_scaling()
    if factor is None:
        raise UnsupportedOperationError("operator", "is not of the form s(W y + U x + b) along the last dimension")
    return float(factor.magnitude())


def _curvature(problem: Problem, unit: SharedUnit) -> float:
    """Upper bound of `sup |s''|`.

    Raises:
        UnsupportedOperationError: s is not twice differentiable, or not listed.
    """
    node = problem.graph.producer[unit.output]
    if unit.name not in CURVATURES or node.op != unit.name:
        raise UnsupportedOperationError(unit.name, "is not smooth, or no bound of its second derivative is known here")
    attributes = node.attributes
    if attributes.get("approximate", "none") != "none":
        raise UnsupportedOperationError(unit.name, "in its tanh form has no bound of its second derivative here")
    known = CURVATURES[unit.name]
    beta: Any = attributes.get("beta", 1.0)
    return _up(known * Fraction(float(beta)) if unit.name == "softplus" else known)


def _up(value: Fraction) -> float:
    nearest = float(value)
    return nearest if Fraction(nearest) >= value else math.nextafter(nearest, math.inf)
