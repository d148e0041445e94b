"""Operations that are not defined for every real operand, and where they are."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from deqops._errors import UnsupportedOperationError
from deqops.graph import Node

from ._enclosures import Enclosed, as_midrad
from ._midrad import MidRad
from ._normalisation import NORMALISATIONS

_EVERYWHERE = frozenset(
    """tanh sigmoid relu relu6 silu softsign abs neg exp expm1 erf atan sin cos square hardswish mish selu leaky_relu
    elu gelu softplus hardtanh clamp softshrink pow_scalar add sub mul maximum minimum matmul conv conv_transpose
    layer_norm rms_norm softmax reshape permute expand slice select cat index_select index_add segment_attention where
    sum mean amax amin sort cast eq ne lt le gt ge logical_not logical_and logical_or""".split()  # noqa: SIM905 - a list that reads as one
)
_Domain = Callable[[MidRad], Tensor]


def require_defined(node: Node, operands: list[Enclosed | None]) -> None:
    """Refuse an operation that may be undefined for some choice of operands.

    Args:
        node: the operation.
        operands: their enclosures; None stands for any real numbers.

    Raises:
        UnsupportedOperationError: the operands are not known to stay in the operation's domain, or there is no rule
            that says where it is defined and an operand may be any number.
    """
    domain = _domain(node)
    if domain is None:
        if node.op in _EVERYWHERE or all(operand is not None for operand in operands):
            return
        raise UnsupportedOperationError(node.source, "is not known to be defined for every state")
    operand = operands[1 if node.op == "div" else 0]
    if operand is None or not bool(domain(as_midrad(operand)).all()):
        raise UnsupportedOperationError(node.source, "is not defined for every state: its operand may leave the domain")


def has_domain(node: Node) -> bool:
    """Whether an operation is not defined for all operands."""
    return _domain(node) is not None


def is_total(node: Node) -> bool:
    """Whether an operation is listed as one that has a finite value wherever `require_defined` passes."""
    return node.op in _EVERYWHERE or _domain(node) is not None


def _domain(node: Node) -> _Domain | None:
    """The test that an operand (of a quotient the second) lies in the domain; None where every number does."""
    if node.op in NORMALISATIONS:
        return None if _number(node, "eps") > 0 else _nowhere
    if node.op == "pow_scalar":
        return _power(_number(node, "exponent"))
    return _DOMAINS.get(node.op)


def _power(exponent: float) -> _Domain | None:
    if exponent.is_integer():
        return None if exponent >= 0 else _nonzero
    return _nonnegative if exponent > 0 else _positive


def _number(node: Node, name: str) -> float:
    value = node.attributes.get(name)
    return float(value) if isinstance(value, int | float) else float("nan")


def _nowhere(x: MidRad) -> Tensor:
    return torch.zeros_like(x.mid, dtype=torch.bool)


def _nonzero(x: MidRad) -> Tensor:
    return x.mignitude() > 0


def _positive(x: MidRad) -> Tensor:
    return x.lower() > 0


def _nonnegative(x: MidRad) -> Tensor:
    return x.lower() >= 0


_DOMAINS: dict[str, _Domain] = {
    "div": _nonzero,
    "log": _positive,
    "log1p": lambda x: x.lower() > -1,
    "sqrt": _nonnegative,
    "rsqrt": _positive,
    "reciprocal": _nonzero,
    "pow": _positive,
}
