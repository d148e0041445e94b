"""How exported operations are written in the small vocabulary of `_ir.py`: importing this fills the table."""

from __future__ import annotations

from deqops.graph import (
    _rules_convolution,
    _rules_elementwise,
    _rules_index,
    _rules_linear,
    _rules_norms,
    _rules_reduce,
    _rules_shape,
    _rules_weights,
    _rules_writes,
)

__all__ = [
    "_rules_convolution",
    "_rules_elementwise",
    "_rules_index",
    "_rules_linear",
    "_rules_norms",
    "_rules_reduce",
    "_rules_shape",
    "_rules_weights",
    "_rules_writes",
]
