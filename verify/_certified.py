"""From a certificate and an operator to the problem it is about, or a refusal that says what does not fit."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.utils import _pytree as pytree

from deqops._errors import InputError
from deqops.graph import OperatorGraph, trace

from ._claim import Verdict
from ._input_box import boxes_of
from ._norm import Norm
from ._problem import Problem
from ._rounding import check_environment
from ._theorems import CONTRACTIONS

if TYPE_CHECKING:
    from ._certificate import Certificate


def certified_problem(certificate: Certificate, G: Any, y: Any, inputs: tuple[Any, ...]) -> Problem:
    """The problem of `G(y, *inputs)`, once the certificate is known to speak of it.

    Raises:
        InputError: the certificate proves nothing, or is for another operator, other shapes or other fixed inputs.
        UnsupportedOperationError: G cannot be traced.
    """
    check_environment()
    check_certificate(certificate)
    if certificate.verdict is not Verdict.CERTIFIED:
        raise InputError(f"certificate: verdict is {certificate.verdict.value}; nothing follows from it")
    _check_state(certificate, pytree.tree_leaves(y))
    operator = certified_operator(certificate, G, y, inputs)
    check_inputs(certificate, pytree.tree_leaves(inputs))
    return Problem(operator, y, inputs)


def certified_operator(certificate: Certificate, G: Any, y: Any, inputs: tuple[Any, ...]) -> OperatorGraph:
    """The operator graph of G, once it is the certified one, with the same notion of a problem.

    The fingerprint is of operations and weights only: whether dimension 0 counts problems is compared here.

    Raises:
        InputError: it is another operator, or an `OperatorGraph` of other `batch_dims`.
        UnsupportedOperationError: G cannot be traced.
    """
    if boxes_of(inputs):
        raise InputError("inputs: got an InputBox; give one value, the certificate says for which its bounds hold")
    wanted = certificate.batch_dims
    if isinstance(G, OperatorGraph) and G.batch_dims != wanted:
        raise InputError(
            f"G: the operator graph has batch_dims={G.batch_dims}, the certificate is for batch_dims={wanted}; "
            f"read the graph's file anew with batch_dims={wanted}, or certify it again"
        )
    operator = trace(G, y, *inputs, batch_dims=wanted)
    if operator.fingerprint != certificate.fingerprint:
        raise InputError("G: its weights or operations differ from the certified ones; certify it again")
    return operator


def check_certificate(certificate: object) -> None:
    """Raises InputError unless it is a certificate."""
    from ._certificate import Certificate

    if not isinstance(certificate, Certificate):
        raise InputError(f"certificate: a Certificate, as certify returns it, is needed, got {certificate!r}")


def check_tensors(name: str, leaves: list[Any]) -> None:
    """Raises InputError unless the leaves of a state are tensors."""
    for leaf in leaves:
        if not isinstance(leaf, Tensor):
            raise InputError(f"{name}: a state of tensors is needed, got {type(leaf).__name__}")


def proven_factor(certificate: Certificate) -> tuple[float, Norm]:
    """kappa of `||y - y*|| <= kappa ||G(y) - y||` and its norm.

    Raises:
        InputError: the certificate gives none.
    """
    factor = certificate.factor
    if factor is None or certificate.norm is None or not math.isfinite(factor):
        raise InputError(f"certificate: theorem {certificate.theorem!r} bounds no error by a residual here")
    return factor, certificate.norm


def contraction_constant(certificate: Certificate) -> tuple[float, Norm]:
    """q < 1, the constant of G itself on the certificate's region, and its norm.

    Raises:
        InputError: the certificate proves no such constant.
    """
    bound = certificate.bound if certificate.theorem in CONTRACTIONS else None
    if bound is None or certificate.norm is None or not bound < 1:
        names = ", ".join(CONTRACTIONS)
        raise InputError(
            f"certificate: theorem {certificate.theorem!r} proves no constant q < 1 of G; certify with one of {names}"
        )
    return bound, certificate.norm


def _check_state(certificate: Certificate, leaves: list[Any]) -> None:
    check_tensors("y", leaves)
    got = [(tuple(leaf.shape), str(leaf.dtype).removeprefix("torch.")) for leaf in leaves]
    expected = [(tuple(shape), dtype) for shape, dtype in certificate.state]
    if [shape for shape, _ in got] != [shape for shape, _ in expected]:
        raise InputError(f"y: the certificate is for states {expected}, got {got}")
    if any(not bool(leaf.isfinite().all()) for leaf in leaves):
        raise InputError("y: holds NaN or infinity")


def check_inputs(certificate: Certificate, leaves: list[Any]) -> None:
    """Raises InputError where the certificate says nothing of these values of the inputs."""
    if len(leaves) != len(certificate.inputs):
        raise InputError(f"inputs: the certificate is for {len(certificate.inputs)}, got {len(leaves)}")
    for record, leaf in zip(certificate.inputs, leaves, strict=True):
        if refusal := record.refusal(leaf):
            raise InputError(refusal)
