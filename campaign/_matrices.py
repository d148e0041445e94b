"""Small matrices: every norm and eigenvalue bound against exact integers, and how far above the truth it is."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from flint import fmpq, fmpz_mat
from torch import Tensor

from deqops.verify._definite import lowest_eigenvalue_bound
from deqops.verify._midrad import MidRad
from deqops.verify._sparse import SparseMatrix
from deqops.verify._spectral import inf_norm_bound, one_norm_bound, spectral_norm_bound

from ._drawing import Random, nearly_orthogonal, one_of, reflection, signed_permutation, signs
from ._exact import Floats, gram, integers, is_semidefinite, rational, shifted
from ._section import Section, Tally

LARGEST = 8


def case(seed: int, number: int) -> Tally:
    """One matrix of some kind."""
    rng = np.random.default_rng([seed, 1, number])
    kind = list(KINDS)[number % len(KINDS)]
    rows, cols = (int(n) for n in rng.integers(1, LARGEST + 1, 2))
    matrix = np.ascontiguousarray(KINDS[kind](rng, rows, cols))
    tally = Tally()
    tally.count(kind)
    exact, exponent = integers(matrix)
    W = torch.from_numpy(matrix)
    _spectral(tally, W, exact, exponent)
    _sums(tally, W, exact, exponent)
    if number % 3 == 0:
        _eigenvalue(tally, matrix, rng)
    if number % 5 == 0:
        _spread(tally, matrix, rng)
    if number % 40 == 0:
        _sparse(tally, W, exact, exponent)
    return tally


# ---------------------------------------------------------------------------------------------------- bounds


def is_norm_bound(exact: fmpz_mat, exponent: int, upper: float) -> bool:
    """Whether `||M 2^exponent||_2 <= upper`, exactly."""
    if math.isinf(upper):
        return upper > 0
    return is_semidefinite(shifted(rational(upper) ** 2, gram(exact), 2 * exponent))


def overshoot(exact: fmpz_mat, exponent: int, upper: float) -> float:
    """At least `upper / ||M 2^exponent||_2 - 1`: the norm is at least `||M v|| / ||v||`, exactly, for a guessed v."""
    size = max((abs(int(entry)).bit_length() for entry in exact.entries()), default=0)
    if not size:
        return 0.0
    floats = np.array([[math.ldexp(int(x) >> max(size - 64, 0), -64) for x in row] for row in exact.tolist()])
    guess = np.linalg.svd(floats)[2][0]
    vector, _ = integers(guess[:, None])
    image = exact * vector
    ratio = fmpq((image.transpose() * image)[0, 0], (vector.transpose() * vector)[0, 0])
    if ratio == 0:
        return math.inf
    square = rational(upper) ** 2 / ratio * fmpq(2) ** (-2 * exponent)
    return _as_float(square - 1) / 2


def _as_float(value: fmpq) -> float:
    try:
        return int(value.p) / int(value.q)
    except OverflowError:
        return math.inf


def _spectral(tally: Tally, W: Tensor, exact: fmpz_mat, exponent: int) -> None:
    upper = spectral_norm_bound(W).upper
    if not is_norm_bound(exact, exponent, upper):
        tally.violations.append(f"spectral_norm_bound {upper.hex()} is below the norm of {_shown(W)}")
    elif math.isfinite(upper) and upper > 2.0**-1000:
        tally.peak("overshoot of the l2 bound", overshoot(exact, exponent, upper))
    tally.count("l2 bounds")


def _sums(tally: Tally, W: Tensor, exact: fmpz_mat, exponent: int) -> None:
    table = [[abs(x) for x in row] for row in exact.tolist()]
    sums = {one_norm_bound: [sum(col) for col in zip(*table, strict=True)], inf_norm_bound: [sum(r) for r in table]}
    for bound, exact_sums in sums.items():
        upper, largest = bound(W), fmpq(max(exact_sums)) * fmpq(2) ** exponent
        if math.isfinite(upper) and rational(upper) < largest:
            tally.violations.append(f"{bound.__name__} {upper.hex()} is below the norm of {_shown(W)}")
        if largest > 0 and math.isfinite(upper) and upper > 2.0**-1000:
            tally.peak("overshoot of the l1 and linf bounds", _as_float(rational(upper) / largest - 1))
        tally.count("l1 and linf bounds")


def _eigenvalue(tally: Tally, matrix: Floats, rng: Random) -> None:
    """`H - bound I` is semidefinite for a symmetric H: the lower triangle, or `t I - W W^T` nearly singular."""
    size = min(matrix.shape)
    H = np.tril(matrix[:size, :size])
    if rng.random() < 0.5 and float(np.abs(matrix).max()) < 1e100:
        product = matrix @ matrix.T
        H = np.tril(np.diag(np.diag(product).max() * np.ones(len(product))) - product)
    lower = lowest_eigenvalue_bound(MidRad.exact(torch.from_numpy(H)))
    tally.count("eigenvalue bounds")
    if math.isinf(lower) and lower < 0:
        tally.count("eigenvalue bounds that are infinite")
        return
    whole, exponent = integers(H + np.tril(H, -1).T)
    if not is_semidefinite(shifted(-rational(lower), -whole, exponent)):
        tally.violations.append(f"lowest_eigenvalue_bound {lower.hex()} exceeds one of {_shown(torch.from_numpy(H))}")


def _spread(tally: Tally, matrix: Floats, rng: Random) -> None:
    """Enclosures: the bound holds for a matrix at the ends of the intervals."""
    radius = np.abs(matrix) * 2.0 ** -float(rng.integers(1, 53)) * rng.integers(0, 2, matrix.shape)
    exact, exponent = _at_the_ends(matrix, radius * signs(rng, *matrix.shape))
    upper = spectral_norm_bound(MidRad(torch.from_numpy(matrix), torch.from_numpy(radius))).upper
    if not is_norm_bound(exact, exponent, upper):
        tally.violations.append(f"spectral_norm_bound {upper.hex()} of {_shown(torch.from_numpy(matrix))} and a radius")
    tally.count("l2 bounds of enclosures")


def _at_the_ends(matrix: Floats, offset: Floats) -> tuple[fmpz_mat, int]:
    """matrix + offset, exactly."""
    (first, here), (second, there) = integers(matrix), integers(offset)
    least = min(here, there)
    return first * (1 << (here - least)) + second * (1 << (there - least)), least


def _sparse(tally: Tally, W: Tensor, exact: fmpz_mat, exponent: int) -> None:
    place = W.nonzero()
    rows, cols = place[:, 0], place[:, 1]
    values = MidRad.exact(W[rows, cols])
    upper = float(SparseMatrix(rows, cols, values, (W.shape[0], W.shape[1])).norm_bound("l2"))
    if not is_norm_bound(exact, exponent, upper):
        tally.violations.append(f"SparseMatrix.norm_bound {upper.hex()} is below the norm of {_shown(W)}")
    tally.count("l2 bounds of sparse matrices")


def _shown(W: Tensor) -> str:
    return str([[value.hex() for value in row] for row in W.tolist()])


# ----------------------------------------------------------------------------------------------------- kinds


def _random(rng: Random, rows: int, cols: int) -> Floats:
    return rng.standard_normal((rows, cols))


def _rank_one(rng: Random, rows: int, cols: int) -> Floats:
    return np.outer(rng.standard_normal(rows), rng.standard_normal(cols))


def _orthogonal(rng: Random, rows: int, cols: int) -> Floats:
    """Orthogonal up to rounding, times 1 or nearly 1."""
    size = max(rows, cols)
    return nearly_orthogonal(rng, size)[:rows, :cols] * (1 + float(rng.integers(-2, 3)) * 2.0**-52)


def _scaled_columns(rng: Random, rows: int, cols: int) -> Floats:
    return rng.standard_normal((rows, cols)) * 10.0 ** rng.uniform(-60, 60, cols)


def _extreme(rng: Random, rows: int, cols: int) -> Floats:
    """Every exponent from 1e-308 to 1e300, in one matrix or around one size."""
    center = rng.uniform(-300, 290)
    spread = one_of(rng, [0.0, 5.0, 300.0])
    exponents = np.clip(center + rng.uniform(-spread, spread, (rows, cols)), -307, 300)
    return rng.standard_normal((rows, cols)) * 10.0**exponents


def _subnormal(rng: Random, rows: int, cols: int) -> Floats:
    whole = rng.integers(-1000, 1001, (rows, cols)).astype(np.float64)
    return np.ldexp(whole, -int(rng.integers(1040, 1075)))


def _integers(rng: Random, rows: int, cols: int) -> Floats:
    return rng.integers(-3, 4, (rows, cols)).astype(np.float64)


def _permutation(rng: Random, rows: int, cols: int) -> Floats:
    """Norm 1 exactly: a signed permutation, some of its rows and columns left out."""
    size = max(rows, cols)
    return signed_permutation(rng, size)[:rows, :cols]


def _householder(rng: Random, rows: int, cols: int) -> Floats:
    """Orthogonal with dyadic entries, norm 1 exactly, or a dyadic number near 1."""
    size = 1 << int(rng.integers(0, 4))
    product: Floats = reflection(rng, size) @ reflection(rng, size)
    return product * (1 + float(rng.integers(-1, 2)) * math.ldexp(1.0, -int(rng.integers(1, 47))))


def _clustered(rng: Random, rows: int, cols: int) -> Floats:
    """Several singular values within rounding of the largest, exact or not."""
    size = max(rows, cols)
    left, right = (nearly_orthogonal(rng, size) for _ in "lr")
    values = 1 - rng.choice([0.0, 2.0**-52, 1e-12, 1e-6, 1.0], size)
    matrix: Floats = ((left * values) @ right)[:rows, :cols]
    return matrix


def _sparse_entries(rng: Random, rows: int, cols: int) -> Floats:
    return rng.standard_normal((rows, cols)) * (rng.random((rows, cols)) < 0.3)


def _single_precision(rng: Random, rows: int, cols: int) -> Floats:
    return rng.standard_normal((rows, cols)).astype(np.float32).astype(np.float64)


KINDS: dict[str, Callable[[Random, int, int], Floats]] = {
    "random": _random,
    "rank one": _rank_one,
    "nearly orthogonal": _orthogonal,
    "columns scaled by 1e-60 to 1e60": _scaled_columns,
    "extreme exponents": _extreme,
    "subnormal": _subnormal,
    "small integers": _integers,
    "signed permutations": _permutation,
    "dyadic orthogonal": _householder,
    "clustered singular values": _clustered,
    "sparse": _sparse_entries,
    "single precision": _single_precision,
}

MATRICES = Section("matrices", "matrices up to 8 x 8 in exact integers", 1_000_000, 500, case)
