"""T10 `sensitivity`: how far an equilibrium moves when an input does."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deqops._errors import InputError, UnsupportedOperationError
from deqops._numbers import is_count

from ._certified import certified_problem, proven_factor
from ._input_jacobian import InputJacobian, input_gain, input_jacobian, shared_unit, source_gain
from ._monotone import single_layer
from ._norm import Norm, Order, as_norm
from ._problem import Problem
from ._region import Global
from ._rounding import div_up, mul_up
from ._theorems import Hypothesis

if TYPE_CHECKING:
    from ._certificate import Certificate


@dataclass(frozen=True)
class SensitivityBound:
    """`||y*(x) - y*(x')|| <= bound ||x - x'||` for all values x, x' of one input.

    Attributes:
        bound: proven; `float()` of this record.
        input_constant: L of `||G(y, x) - G(y, x')|| <= L ||x - x'||` for every y; for the resolvent form of T5 that of
            the pre-activation.
        factor: what multiplies it, `1 / (1 - q)` for a contraction.
        norm: of the equilibria, the certificate's.
        input_norm: of the input, "l1", "l2" or "linf", unweighted.
        input: the input's name.
        per_problem: the bound is for each problem's equilibrium and its own row of the input; otherwise for each
            problem's equilibrium and the whole input.
        fixed: names of the other inputs for whose given values alone this holds.
        hypotheses: each with its value.
    """

    bound: float
    input_constant: float
    factor: float
    norm: Norm
    input_norm: Order
    input: str
    per_problem: bool
    fixed: tuple[str, ...]
    hypotheses: tuple[Hypothesis, ...]

    def __float__(self) -> float:
        return self.bound


def sensitivity_bound(
    certificate: Certificate, G: Any, y0: Any, *inputs: Any, input: int = 0, norm: Order | None = None
) -> SensitivityBound:
    """T10: `||y*(x) - y*(x')|| <= kappa L_x ||x - x'||`, where `||y - y*|| <= kappa ||G(y) - y||` for every y and x.

    It bounds the equilibrium alone: an encoder before it and a read-out behind it multiply. With T5's resolvent form,
    `G = s(W y + c(x))` and slopes of s in [0, b], it is `b L_c / mu` where that is smaller.

    Args:
        certificate: global, with the chosen input free.
        G: the certified operator.
        y0: a state of the certified shapes; its values do not enter.
        inputs: the operator's inputs; the chosen one's value does not enter.
        input: the position of the chosen input among the inputs' leaves.
        norm: of the input, "l1", "l2" or "linf"; None for the order of the certificate's norm.

    Returns:
        SensitivityBound: rounded upwards.

    Raises:
        InputError: the certificate is local, holds for one value of this input alone, or does not fit the operator.
        UnsupportedOperationError: no constant L_x holds for every state, or an operation has no rule, by name.
    """
    problem = certified_problem(certificate, G, y0, inputs)
    factor, state_norm = proven_factor(certificate)
    name = _free_input(certificate, input)
    order = state_norm.order if norm is None else as_norm(norm).order
    x = input_jacobian(problem, input)
    constant = input_gain(x, state_norm, order)
    bound = float(mul_up(factor, constant))
    resolvent = _resolvent(certificate, problem, x, state_norm, order)
    if resolvent is not None and float(mul_up(*resolvent)) < bound:
        factor, constant = resolvent
        bound = float(mul_up(factor, constant))
    if not bound < math.inf:
        raise UnsupportedOperationError("operator", "has no bounded constant in this input that holds for every state")
    return SensitivityBound(
        bound=bound,
        input_constant=constant,
        factor=factor,
        norm=state_norm,
        input_norm=order,
        input=name,
        per_problem=x.per_problem,
        fixed=_fixed(certificate, x),
        hypotheses=(
            Hypothesis("residual", "||y - y*|| <= kappa ||G(y) - y|| for all y and x", factor, math.inf, True),
            Hypothesis("input", "||G(y, x) - G(y, x')|| <= L ||x - x'|| for all y", constant, math.inf, True),
        ),
    )


def _free_input(certificate: Certificate, position: int) -> str:
    if not isinstance(certificate.region, Global):
        raise InputError(
            "certificate: it speaks of a ball, and no bound says that the other equilibrium lies in it; "
            'certify globally (region=Global() or theorem="picard")'
        )
    if not is_count(position) or position >= len(certificate.inputs):
        raise InputError(f"input: got {position!r}, the operator has {len(certificate.inputs)} inputs, counted from 0")
    record = certificate.inputs[position]
    if not record.free:
        raise InputError(
            f"input {record.name}: the certificate used its value and holds for no other; "
            "G's constant depends on it, so no sensitivity follows"
        )
    return record.name


def _fixed(certificate: Certificate, x: InputJacobian) -> tuple[str, ...]:
    used = {number for number, record in enumerate(certificate.inputs) if not record.free} | x.touched
    return tuple(certificate.inputs[number].name for number in sorted(used))


def _resolvent(
    certificate: Certificate, problem: Problem, x: InputJacobian, norm: Norm, order: Order
) -> tuple[float, float] | None:
    """`(b / mu, L_c)` for `G = s(W y + c(x))`, slopes of s in [0, b]; None for another form or theorem.

    With d = dy, e = dc, V = W d + e: `d = S V`, S in [0, b], so `d^T P (d - b V) <= 0` and
    `mu |d|^2 <= d^T P (I - b W) d <= b d^T P e`.
    """
    mu, layer = certificate.monotonicity, single_layer(problem.jacobian)
    kind = None if certificate.evidence is None else certificate.evidence.kind
    if kind != "monotone" or mu is None or layer is None or not mu > 0 or order == "linf":
        return None
    if not (float(layer.lower.mid) == 0 and float(layer.lower.rad) == 0):
        return None
    unit = shared_unit(problem, x)
    if unit is None:
        return None
    return float(div_up(float(layer.upper.magnitude()), mu)), source_gain(x, norm, unit.source)
