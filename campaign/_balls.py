"""Larger matrices against ball arithmetic: `upper^2 I - W^T W` is shown semidefinite by an enclosed LDL^T."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from flint import arb, arb_mat, ctx

from deqops.verify._definite import lowest_eigenvalue_bound
from deqops.verify._midrad import MidRad
from deqops.verify._spectral import spectral_norm_bound

from ._exact import Floats, integers, is_semidefinite, rational, shifted
from ._matrices import KINDS, is_norm_bound
from ._section import Section, Tally

LARGEST = 64
PRECISIONS = (160, 640, 2560)


def case(seed: int, number: int) -> Tally:
    """One matrix, at least 9 on its longer side."""
    rng = np.random.default_rng([seed, 2, number])
    kind = list(KINDS)[number % len(KINDS)]
    rows, cols = int(rng.integers(9, LARGEST + 1)), int(rng.integers(1, LARGEST + 1))
    matrix = np.ascontiguousarray(KINDS[kind](rng, rows, cols))
    tally = Tally()
    tally.count(kind)
    _spectral(tally, matrix, f"{kind} {rows} x {cols}")
    if number % 2 == 0:
        _eigenvalue(tally, matrix, f"{kind} {rows} x {cols}")
    return tally


def _spectral(tally: Tally, matrix: Floats, label: str) -> None:
    upper = spectral_norm_bound(torch.from_numpy(matrix)).upper
    tally.count("l2 bounds")
    if not is_bound(matrix, upper):
        tally.violations.append(f"spectral_norm_bound {upper.hex()} is below the norm of a {label} matrix")


def _eigenvalue(tally: Tally, matrix: Floats, label: str) -> None:
    size = min(matrix.shape)
    H = np.tril(matrix[:size, :size])
    lower = lowest_eigenvalue_bound(MidRad.exact(torch.from_numpy(H)))
    tally.count("eigenvalue bounds")
    if math.isinf(lower):
        tally.count("eigenvalue bounds that are infinite")
        return

    whole = H + np.tril(H, -1).T
    holds = _decide(lambda: enclosed(whole) - lower * enclosed(np.eye(size)))
    if holds is None:
        matrix_, exponent = integers(whole)
        tally.count("eigenvalue bounds that are ties, decided in integers")
        holds = is_semidefinite(shifted(-rational(lower), -matrix_, exponent))
    if not holds:
        tally.violations.append(f"lowest_eigenvalue_bound {lower.hex()} exceeds one of a {label} matrix")


def is_bound(matrix: Floats, upper: float) -> bool:
    """Whether `||W||_2 <= upper`, by integers where balls leave it open (a tie)."""
    if math.isinf(upper):
        return upper > 0
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T

    def difference() -> Any:
        W = enclosed(tall)
        return arb(upper) ** 2 * enclosed(np.eye(tall.shape[1])) - W.transpose() * W

    holds = _decide(difference)
    return is_norm_bound(*integers(matrix), upper) if holds is None else holds


def enclosed(matrix: Floats) -> Any:
    """The matrix as balls of radius 0."""
    rows, cols = matrix.shape
    return arb_mat(rows, cols, [arb(float(value)) for value in matrix.reshape(-1)])


def _decide(difference: Any) -> bool | None:
    before = ctx.prec
    try:
        for precision in PRECISIONS:
            ctx.prec = precision
            sign = definiteness(difference())
            if sign is not None:
                return sign
    finally:
        ctx.prec = before
    return None


def definiteness(matrix: Any) -> bool | None:
    """True: positive definite; False: some eigenvalue is negative; None: a pivot's ball contains 0."""
    rows = matrix.tolist()
    size = len(rows)
    for k in range(size):
        pivot = rows[k][k]
        if pivot < 0:
            return False
        if not pivot > 0:
            return None
        for i in range(k + 1, size):
            factor = rows[i][k] / pivot
            row, top = rows[i], rows[k]
            for j in range(k + 1, i + 1):
                row[j] -= factor * top[j]
            for j in range(k + 1, i + 1):
                rows[j][i] = row[j]
    return True


BALLS = Section("balls", "matrices up to 64 x 64 in ball arithmetic", 10_000, 50, case)
