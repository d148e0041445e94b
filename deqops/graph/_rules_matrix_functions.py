"""Inverses, solutions of linear systems and exponentials of matrices: of constants, for whoever bounds them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from deqops._errors import UnsupportedOperationError
from deqops.graph._arguments import Arguments, matmul_of, rank_of, reshaped, shape_of
from deqops.graph._items import Known
from deqops.graph._lowering import Lowering, lowers

LONGEST_POWER = 64


def _of_matrices(low: Lowering, op: str, A: Any, function: Callable[..., torch.Tensor]) -> Any:
    if 0 in shape_of(A):
        raise UnsupportedOperationError(low.source, "is of a matrix without entries")
    return low.emit(op, [A], function)


def _inverse(low: Lowering, A: Any) -> Any:
    return _of_matrices(low, "inverse", A, torch.linalg.inv)


@lowers("matrix_exp", "linalg_matrix_exp")
def _exponential(low: Lowering, a: Arguments) -> Any:
    return _of_matrices(low, "matrix_exp", a["self"], torch.linalg.matrix_exp)


@lowers("linalg_inv", "inverse")
def _inv(low: Lowering, a: Arguments) -> Any:
    return _inverse(low, a["A"] if "A" in a else a["self"])


@lowers("linalg_inv_ex")
def _inv_ex(low: Lowering, a: Arguments) -> Any:
    """The second result says whether LAPACK failed, which is no function of the numbers: it stays unread."""
    result = _inverse(low, a["A"])
    shape = result.shape[:-2]
    return [result, low.emit(low.source, [a["A"]], lambda t: t.new_zeros(shape, dtype=torch.int32), output=1)]


@lowers("linalg_solve")
def _solve(low: Lowering, a: Arguments) -> Any:
    """`A^-1 B`, or `B A^-1`; B one vector where torch takes it for one."""
    A, B, left = a["A"], a["B"], a.get("left", True)
    shape = shape_of(B)
    is_vector = len(shape) == 1 or (len(shape) == rank_of(A) - 1 and shape == shape_of(A)[:-1])
    wide = reshaped(low, B, (*shape, 1) if left else (*shape[:-1], 1, shape[-1]), []) if is_vector else B
    found = matmul_of(low, _inverse(low, A), wide) if left else matmul_of(low, wide, _inverse(low, A))
    return reshaped(low, found, shape, []) if is_vector else found


@lowers("linalg_solve_triangular")
def _solve_triangular(low: Lowering, a: Arguments) -> Any:
    """With what lies in the triangle, its diagonal ones where that is said."""
    A, size = low.as_dynamic(a["self"]), shape_of(a["self"])[-1]
    kept = torch.ones(size, size, dtype=torch.bool)
    kept = kept.triu(1) if a["upper"] else kept.tril(-1)
    is_unit = bool(a.get("unitriangular", False))
    kept = kept if is_unit else kept | torch.eye(size, dtype=torch.bool)
    rest = torch.eye(size, dtype=A.meta.dtype) if is_unit else torch.zeros(size, size, dtype=A.meta.dtype)
    inverse = _inverse(low, low.emit("where", [Known(kept), A, Known(rest)], torch.where))
    first, second = (inverse, a["B"]) if a.get("left", True) else (a["B"], inverse)
    return matmul_of(low, first, second)


@lowers("linalg_matrix_power", "matrix_power")
def _power(low: Lowering, a: Arguments) -> Any:
    """Products of two, from the left, of the matrix or its inverse."""
    A, n = low.as_dynamic(a["A"] if "A" in a else a["self"]), int(a["n"])
    if n == 0 or abs(n) > LONGEST_POWER:
        return NotImplemented
    one = A if n > 0 else _inverse(low, A)
    result = one
    for _ in range(abs(n) - 1):
        result = matmul_of(low, result, one)
    return result
