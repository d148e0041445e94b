"""How exported operations are written in the small vocabulary of `_ir.py`: importing this fills the table."""

from __future__ import annotations

from deqops.graph import (
    _rules_activations,
    _rules_attention,
    _rules_cells,
    _rules_complex,
    _rules_contraction,
    _rules_convolution,
    _rules_elementwise,
    _rules_fourier,
    _rules_index,
    _rules_linear,
    _rules_matrix_functions,
    _rules_norms,
    _rules_pooling,
    _rules_reduce,
    _rules_resampling,
    _rules_scatter,
    _rules_shape,
    _rules_sorting,
    _rules_statistics,
    _rules_writes,
)

__all__ = [
    "_rules_activations",
    "_rules_attention",
    "_rules_cells",
    "_rules_complex",
    "_rules_contraction",
    "_rules_convolution",
    "_rules_elementwise",
    "_rules_fourier",
    "_rules_index",
    "_rules_linear",
    "_rules_matrix_functions",
    "_rules_norms",
    "_rules_pooling",
    "_rules_reduce",
    "_rules_resampling",
    "_rules_scatter",
    "_rules_shape",
    "_rules_sorting",
    "_rules_statistics",
    "_rules_writes",
]
