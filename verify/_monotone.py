"""T5, forms (c) and (d): one equilibrium of `G(z) = s(W z + c)` from a matrix inequality, where G need not contract."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from . import _midrad as midrad
from ._definite import lowest_eigenvalue_bound
from ._jacobian import Combination, Elementwise, Jacobian, StateLeaf
from ._linear import LinearMap
from ._matrix import Matrix
from ._midrad import MidRad
from ._norm import Norm
from ._rounding import div_up, mul_up, sub_down, sum_up
from ._spectral import spectral_norm_bound

LARGEST = 4096
"""Units of one layer up to which the inequality is tried."""

SLACK = 2.0**-36  # of the matrix' norm: room for a checker's own method


@dataclass(frozen=True, eq=False)
class Layer:
    """`G(z) = s(W z + c)` along the last dimension, difference quotients of s within [lower, upper]."""

    weight: MidRad
    lower: MidRad
    upper: MidRad


@dataclass(frozen=True)
class Monotonicity:
    """`sym((I - a W)^T P (I - b W)) >= mu P` and `||y - y*||_P <= factor ||y - G(y)||_P`; factor where mu > 0."""

    mu: float
    factor: float


def single_layer(jacobian: Jacobian) -> Layer | None:
    """The operator as one layer, or None where it is something else."""
    if len(jacobian.outputs) != 1 or len(jacobian.bases) != 2:
        return None
    leaf, unit = jacobian.bases
    if not isinstance(leaf, StateLeaf) or not isinstance(unit, Elementwise):
        return None
    outer, inner = _only_map(jacobian.outputs[0], 1), _only_map(unit.source, 0)
    if outer is None or inner is None or isinstance(unit.lower, Tensor) or isinstance(unit.upper, Tensor):
        return None
    factor, matrix = outer.as_scaling(), inner.last_axis_matrix()
    if factor is None or matrix is None or not _is_square(matrix) or matrix.shape[0] > LARGEST:
        return None
    ends = [midrad.mul(factor, _scalar(float(end))) for end in (unit.lower, unit.upper)]
    if bool(factor.mid >= factor.rad):
        return Layer(matrix.dense(), ends[0], ends[1])
    return Layer(matrix.dense(), ends[1], ends[0]) if bool(factor.mid <= -factor.rad) else None


def _only_map(combination: Combination, number: int) -> LinearMap | None:
    maps = combination.terms.get(number, ())
    return maps[0] if len(maps) == 1 and set(combination.terms) == {number} else None


def _is_square(matrix: Matrix) -> bool:
    return matrix.shape[0] == matrix.shape[1] and matrix.shape[0] > 0


def _scalar(value: float) -> MidRad:
    return MidRad.exact(torch.tensor(value, dtype=torch.float64))


def last_axis_weights(norm: Norm, size: int) -> Tensor | None:
    """The norm's weights along the last dimension, ones where it has none; None where they vary along another."""
    if norm.weights is None:
        return torch.ones(size, dtype=torch.float64)
    rows = norm.weights[0].reshape(-1, size)
    return rows[0] if bool((rows == rows[0]).all()) else None


def monotonicity(layer: Layer, weights: Tensor) -> Monotonicity:
    """Verified mu and factor for `P = diag(weights)^2`; the factor is infinite where mu is not positive.

    With D = diag(weights) and V = D W D^-1 the condition is `I - (a + b) sym(V) + a b V^T V >= mu I`, and
    `factor = ||2 I - (a + b) V||_2 / mu`.
    """
    V = midrad.mul(layer.weight, midrad.div(MidRad.exact(weights[:, None]), MidRad.exact(weights[None, :])))
    eye = MidRad.exact(torch.eye(len(weights), dtype=torch.float64))
    both, product = midrad.add(layer.lower, layer.upper), midrad.mul(layer.lower, layer.upper)
    symmetric = midrad.mul(midrad.add(V, _transposed(V)), _scalar(0.5))
    H = midrad.sub(eye, midrad.mul(both, symmetric))
    if bool(product.magnitude() != 0):
        H = midrad.add(H, midrad.mul(product, midrad.matmul(_transposed(V), V)))
    size = float(sum_up(H.magnitude(), dim=1).max())
    mu = float(sub_down(lowest_eigenvalue_bound(H), mul_up(SLACK, size)))
    if not (mu > 0 and math.isfinite(mu)):
        return Monotonicity(mu, math.inf)
    spread = spectral_norm_bound(midrad.sub(midrad.mul(eye, _scalar(2.0)), midrad.mul(both, V)))
    return Monotonicity(mu, float(mul_up(div_up(float(spread), mu), 1 + SLACK)))


def _transposed(matrix: MidRad) -> MidRad:
    return matrix.apply_exact(lambda t: t.T)
