"""An eigenvalue of modulus above a number, for every matrix in an enclosure, by Stein's inequality.

If `g^2 P - J^T P J` is positive definite for a symmetric P that is *not* positive definite (`x^T P x < 0` for some x),
then J has an eigenvalue of modulus > g: otherwise every eigenvalue would have modulus < g (one of modulus g, with
eigenvector v, gives `v^* (g^2 P - J^T P J) v = 0`), and `P = sum_k (J^T/g)^k ((g^2 P - J^T P J)/g^2) (J/g)^k` would be
positive definite. Real arithmetic only; complex and multiple eigenvalues need no case of their own.
"""

from __future__ import annotations

import itertools
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import _midrad as midrad
from ._definite import lowest_eigenvalue_bound
from ._midrad import MidRad
from ._rounding import mul_up, sum_up

NARROWEST = 1e-9  # no gap of the spectrum below this is used
MOST_GAPS = 4  # are tried
ROOM = 2.0**-40  # of the inequality's size: left to the checker's own method

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SteinForm:
    """A witness: P, symmetric (n, n), and g >= 1."""

    form: Tensor
    growth: float


def proposed_form(matrix: Tensor) -> SteinForm | None:
    """P and g for a matrix that seems to have an eigenvalue of modulus above 1; None where it does not.

    g splits the moduli above 1 at one of the widest gaps, in ratio: the one whose inequality is best satisfied. With
    `J = X diag(A, B) X^-1`, A the part inside the circle of radius g and B the part outside, P is
    `Q_s^T H Q_s - Q_u^T K Q_u` in the coordinates of the two invariant subspaces, H and K from Stein's equations
    `H - A^T H A / g^2 = I` and `B^T K B / g^2 - K = I`.
    """
    if not bool(matrix.isfinite().all()):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy warns of poor proposals; here they are measured
        return _best_form(matrix.numpy())


def _best_form(values: Array) -> SteinForm | None:
    best, most = None, 0.0
    try:
        for growth in _gaps(np.sort(np.abs(np.linalg.eigvals(values)))):
            form = _form(values, growth)
            share = 0.0 if form is None else _share(values, form, growth)
            if form is not None and share > most:
                best, most = SteinForm(torch.from_numpy(form), growth), share
    except (np.linalg.LinAlgError, ValueError):
        return best
    return best


def _gaps(moduli: Array) -> list[float]:
    """Some g >= 1 with a modulus above and none near, the widest gap first."""
    above, below = moduli[moduli > 1], moduli[moduli <= 1]
    if not len(above):
        return []
    inner = float(below[-1]) if len(below) else 0.0
    first = 1.0 if inner <= 2 - above[0] else float(np.sqrt(above[0]))
    found = [(float(min(first / max(inner, 1e-300), above[0] / first)), first)]
    found += [(float(np.sqrt(b / a)), float(np.sqrt(a * b))) for a, b in itertools.pairwise(above)]
    return [growth for ratio, growth in sorted(found, reverse=True)[:MOST_GAPS] if ratio > 1 + NARROWEST]


def _share(values: Array, form: Array, growth: float) -> float:
    """The lowest eigenvalue of `g^2 P - J^T P J` as computed, by its size; NaN and infinity count as 0."""
    gap = growth**2 * form - values.T @ form @ values
    if not np.isfinite(gap).all():
        return 0.0
    eigenvalues = np.linalg.eigvalsh(gap)
    return float(eigenvalues[0] / max(np.abs(eigenvalues).max(), np.abs(form).sum(axis=1).max()))


def _form(values: Array, growth: float) -> Array | None:
    """P, its largest entry about 1, from the ordered Schur form; None where the spectrum is not split."""
    import scipy.linalg

    n = len(values)
    triangular, basis, inside = scipy.linalg.schur(
        values / growth, output="real", sort=lambda re, im: re * re + im * im < 1
    )
    if inside == n:
        return None
    stable, coupled, free = triangular[:inside, :inside], triangular[:inside, inside:], triangular[inside:, inside:]
    inverse = np.linalg.inv(free)
    outer = scipy.linalg.solve_discrete_lyapunov(inverse.T, inverse.T @ inverse)
    change, middle = basis.T, -outer
    if inside:
        X = scipy.linalg.solve_sylvester(stable, -free, -coupled)  # stable X - X free = -coupled: decouples the parts
        change = basis.T.copy()
        change[:inside] -= X @ basis.T[inside:]
        middle = scipy.linalg.block_diag(scipy.linalg.solve_discrete_lyapunov(stable.T, np.eye(inside)), -outer)
    form = change.T @ middle @ change
    top = np.abs(form).max() if np.isfinite(form).all() else 0.0
    if not top > 0:
        return None
    scaled = form / top
    result: Array = np.ascontiguousarray(np.tril(scaled) + np.tril(scaled, -1).T)
    return result


def eigenvalue_exceeds(matrix: MidRad, witness: SteinForm) -> bool:
    """Whether every J in the enclosure is proven to have an eigenvalue of modulus > g >= 1."""
    form, growth = witness.form, witness.growth
    if not growth >= 1 or not torch.equal(form, form.T) or not matrix.is_finite():
        return False
    P, J = MidRad.exact(form), matrix
    squared = midrad.mul(_scalar(growth), _scalar(growth))
    gap = midrad.sub(midrad.mul(squared, P), midrad.matmul(J.apply_exact(lambda t: t.T), midrad.matmul(P, J)))
    size = float(sum_up(gap.magnitude(), dim=1).max())
    return is_indefinite(form) and lowest_eigenvalue_bound(gap) > float(mul_up(ROOM, size))


def is_indefinite(form: Tensor) -> bool:
    """Whether `x^T P x < 0` is proven for some x, the eigenvector of P's lowest eigenvalue as computed."""
    direction = MidRad.exact(torch.linalg.eigh(form)[1][:, :1].contiguous())
    value = midrad.matmul(direction.apply_exact(lambda t: t.T), midrad.matmul(MidRad.exact(form), direction))
    return bool(value.upper() < 0)


def _scalar(value: float) -> MidRad:
    return MidRad.exact(torch.tensor(value, dtype=torch.float64))
