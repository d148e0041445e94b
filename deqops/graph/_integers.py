"""Integers and conditions that are computed from floating values: where torch's arithmetic is that of real numbers.

A node means its exact-real function. torch adds two conditions to a condition and lets integers wrap around, so that
only operations whose result is the real one are taken; that integers stay within their dtype is seen where they are
enclosed (`limits`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_MOVING = frozenset(("where", "reshape", "permute", "expand", "slice", "select", "cat", "index_select"))
_COMPARING = frozenset(("eq", "ne", "lt", "le", "gt", "ge"))
_CLASSIFYING = frozenset(("logical_not", "logical_and", "logical_or", "isinf", "isnan"))
_ORDERING = frozenset(("maximum", "minimum", "amax", "amin", "sort"))
_CONDITIONS = _MOVING | _COMPARING | _CLASSIFYING | _ORDERING
_INTEGERS = (
    _MOVING
    | _ORDERING
    | frozenset(("add", "sub", "mul", "neg", "abs", "relu", "square", "sign", "clamp", "pow_scalar"))
    | frozenset(("sum", "matmul", "index_add"))
)
_EXACT = 2**53
_BESIDE = {"where": slice(1, None), "index_select": slice(0, 1), "index_add": slice(0, None, 2)}
"""The operands that take part in an operation, where a condition or an index does not."""


def wrong_reason(op: str, operands: Sequence[Tensor], known: Sequence[Tensor | None], result: Tensor) -> str:
    """Why an operation may differ from its exact-real function in the dtypes it has; empty where it does not.

    Args:
        op: of the vocabulary, or an exported name, of which nothing is said.
        operands: with their shapes and dtypes.
        known: their values, where they are literals.
        result: with its shape and dtype.
    """
    dtype = result.dtype
    if op.startswith("aten.") or dtype.is_floating_point or dtype.is_complex:
        return ""
    if op not in (_CONDITIONS if dtype == torch.bool else _INTEGERS):
        kind = "a condition" if dtype == torch.bool else f"{dtype} numbers"
        return f"computes {kind} from floating values in another arithmetic than that of real numbers"
    if op in _CLASSIFYING:
        return ""
    common = torch.result_type(*operands) if op in _COMPARING else dtype
    beside = _BESIDE.get(op, slice(None))
    both = zip(operands[beside], known[beside], strict=True)
    if common.is_floating_point or all(_is_kept(x, value, common) for x, value in both):
        return ""
    return f"takes a number of another dtype into {common}, which changes it"


def _is_kept(operand: Tensor, value: Tensor | None, dtype: torch.dtype) -> bool:
    """Whether an operand is the same number in the dtype of the computation."""
    if value is not None:
        return torch.equal(value.to(dtype).to(value.dtype), value)
    return torch.promote_types(operand.dtype, dtype) == dtype


def limits(dtype: torch.dtype) -> tuple[int, int] | None:
    """The integers of a dtype that are exact in float64 as well; None for dtypes of other numbers."""
    if dtype.is_floating_point or dtype.is_complex:
        return None
    if dtype == torch.bool:
        return 0, 1
    info = torch.iinfo(dtype)
    return max(info.min, -_EXACT), min(info.max, _EXACT)
