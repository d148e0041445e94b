"""Proven bounds of a Jacobian expression's norm: the strategies.

- l2: the product of the linear maps' norms and the largest slopes (or norms of normalisations), sums by the
  triangle inequality.
- linf (weights w): `max_i w_i (N 1/w)_i` where N bounds |M| entrywise; N is applied, never formed.
- l1 (weights w): `max_j (N^T w)_j / w_j`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ._jacobian import Basis, Combination, Jacobian, Largest, Normalised, Sorted, StateLeaf, Subtotal
from ._linear import LinearMap
from ._matrix import norm_bound, scaled
from ._norm import Norm
from ._rounding import add_up, div_up, mul_up, sum_up
from ._spectral import spectral_norm_bound


@dataclass(frozen=True)
class Gain:
    """A proven bound of the Lipschitz constant, what each part contributed to it, and by which strategy it is."""

    upper: float
    contributions: tuple[tuple[str, float], ...] = ()
    method: str = "composition"


def lipschitz_gain(jacobian: Jacobian, norm: Norm, batch_dims: int) -> Gain:
    """Proven bound of `sup ||M||` over all slopes, in the given norm; for every problem of a batch."""
    plain = _gain(jacobian, norm, batch_dims)
    if jacobian.paired is None:
        return plain
    paired = _gain(jacobian.paired, norm, batch_dims)
    return paired if paired.upper < plain.upper else plain  # NaN is below nothing


def _gain(jacobian: Jacobian, norm: Norm, batch_dims: int) -> Gain:
    if norm.order == "l2":
        return _l2_gain(jacobian, norm, batch_dims)
    weights = leaf_weights(jacobian, norm, batch_dims)
    if norm.order == "linf":
        inverse = [div_up(torch.ones_like(w), w) for w in weights]
        image = apply_magnitude(jacobian, inverse)
        return Gain(_largest([mul_up(x, w) for x, w in zip(image, weights, strict=True)]))
    image = apply_magnitude_transposed(jacobian, weights)
    return Gain(_largest([div_up(x, w) for x, w in zip(image, weights, strict=True)]))


def leaf_weights(jacobian: Jacobian, norm: Norm, batch_dims: int) -> list[Tensor]:
    """The norm's weights in the shape of each leaf of the state."""
    weights = []
    for leaf in _leaves(jacobian):
        weight = norm.weight(leaf.position)
        ones = torch.ones(leaf.shape, dtype=torch.float64)
        weights.append(ones if weight is None else weight[None].expand(leaf.shape) if batch_dims else weight)
    return weights


def apply_magnitude(jacobian: Jacobian, state: list[Tensor]) -> list[Tensor]:
    """Upper bound of `N x` for x >= 0 given leaf by leaf, where |M| <= N for all slopes."""
    values: list[Tensor] = []
    for basis in jacobian.bases:
        if isinstance(basis, StateLeaf):
            values.append(state[basis.position])
        else:
            values.append(basis.magnitude_times(forward_magnitude(basis.source, values)))
    return [forward_magnitude(output, values) for output in jacobian.outputs]


def apply_magnitude_transposed(jacobian: Jacobian, state: list[Tensor]) -> list[Tensor]:
    """Upper bound of `N^T y` for y >= 0 given leaf by leaf."""
    sums: list[Tensor] = [torch.zeros(basis.shape, dtype=torch.float64) for basis in jacobian.bases]
    for output, value in zip(jacobian.outputs, state, strict=True):
        _backward(output, value, sums)
    for number in range(len(jacobian.bases) - 1, -1, -1):
        basis = jacobian.bases[number]
        if not isinstance(basis, StateLeaf):
            _backward(basis.source, basis.magnitude_transposed_times(sums[number]), sums)
    return [sums[number] for number, basis in enumerate(jacobian.bases) if isinstance(basis, StateLeaf)]


def forward_magnitude(combination: Combination, values: list[Tensor]) -> Tensor:
    """Upper bound of the moduli of a combination, from those of the basis values."""
    total = torch.zeros(combination.shape, dtype=torch.float64)
    for k, maps in combination.terms.items():
        for one in maps:
            total = add_up(total, one.abs_apply(values[k]))
    return total


def _backward(combination: Combination, value: Tensor, sums: list[Tensor]) -> None:
    for k, maps in combination.terms.items():
        for one in maps:
            sums[k] = add_up(sums[k], one.abs_apply_transposed(value))


def _leaves(jacobian: Jacobian) -> list[StateLeaf]:
    return [basis for basis in jacobian.bases if isinstance(basis, StateLeaf)]


def _largest(parts: list[Tensor]) -> float:
    found = [part.max() for part in parts if part.numel()]
    return float(torch.stack(found).max()) if found else 0.0


# -------------------------------------------------------------------------------------------------------- l2


def _l2_gain(jacobian: Jacobian, norm: Norm, batch_dims: int) -> Gain:
    if norm.weights is None:
        return l2_composition(jacobian, None)
    lasts = [_last_axis_weight(norm, leaf, batch_dims) for leaf in _leaves(jacobian)]
    if all(last is not None for last in lasts):
        return l2_composition(jacobian, [last for last in lasts if last is not None])
    plain = l2_composition(jacobian, None)
    largest = max(float(w.max()) for w in norm.weights)
    smallest = min(float(w.min()) for w in norm.weights)
    return Gain(float(mul_up(plain.upper, div_up(largest, smallest))), plain.contributions)


def _last_axis_weight(norm: Norm, leaf: StateLeaf, batch_dims: int) -> Tensor | None:
    """The weights along the last dimension where they vary along no other; None where they do."""
    weight = norm.weight(leaf.position)
    if weight is None or weight.ndim == 0 or len(leaf.shape) == 0:
        return None
    rows = weight.reshape(-1, weight.shape[-1])
    return rows[0] if bool((rows == rows[0]).all()) else None


def l2_composition(jacobian: Jacobian, weights: list[Tensor] | None) -> Gain:
    """The product-of-norms bound; `weights` along each leaf's last dimension, or None.

    A value inside the graph whose shape is that of the first leaf carries that leaf's weights, any other none:
    any choice is sound, this one makes weights cancel across elementwise functions and residual branches. A
    normalisation commutes with constant weights only, and carries no others.
    """
    walk = _Composition(jacobian, weights)
    rows = []
    for output, leaf in zip(jacobian.outputs, walk.leaves, strict=True):
        row = weights[leaf.position] if weights is not None else None
        rows.append(walk.gain(output, row, 1.0))
    blocks = torch.stack(rows)  # (leaves out, leaves in)
    upper = float(blocks[0, 0]) if blocks.numel() == 1 else float(spectral_norm_bound(blocks))
    return Gain(upper, tuple(walk.contributions))


class L2Gains:
    """l2 gains of the values of an expression that grows: those of earlier values are computed once.

    Args:
        bases: of the expression; they may be appended to.
    """

    def __init__(self, bases: list[Basis]) -> None:
        self._bases = bases
        self._walk = _Composition(Jacobian(tuple(bases), ()), None)

    def of(self, combination: Combination) -> float:
        """Proven bound of `||dv||_2 / r` for a value v of the graph while every leaf moves by at most r in l2."""
        self._walk.extend(self._bases)
        return float(sum_up(self._walk.gain(combination, None, 1.0)))


class _Composition:
    """Gains of the basis values from each leaf of the state, in order."""

    def __init__(self, jacobian: Jacobian, weights: list[Tensor] | None) -> None:
        self._bases: list[Basis] = []
        self._weights = weights
        self.leaves = _leaves(jacobian)
        self.contributions: list[tuple[str, float]] = []
        self._gains: list[Tensor] = []
        self.extend(jacobian.bases)

    def extend(self, bases: Sequence[Basis]) -> None:
        """Go on with the bases that have been added to those known; none of them is a leaf of the state."""
        for basis in bases[len(self._bases) :]:
            self._bases.append(basis)
            if isinstance(basis, StateLeaf):
                self._gains.append(torch.eye(len(self.leaves), dtype=torch.float64)[basis.position])
            else:
                self._gains.append(self.gain(basis.source, self._weight(basis), basis.gain))
                if not isinstance(basis, Subtotal):
                    self.contributions.append((basis.name, _top(basis.gain)))

    def gain(self, combination: Combination, row: Tensor | None, slope: Tensor | float) -> Tensor:
        """Bounds of `||diag(slope) sum A_k M_k||` from each leaf of the state, (leaves,)."""
        total = torch.zeros(len(self.leaves), dtype=torch.float64)
        for k, maps in combination.terms.items():
            for one in maps:
                bound = sloped_norm(one, slope, row, self._weight(self._bases[k]))
                if one.stages and one.norm_bound("l2") != 1.0:
                    self.contributions.append(("linear map", one.norm_bound("l2", row, self._weight(self._bases[k]))))
                total = add_up(total, mul_up(self._gains[k], torch.full_like(self._gains[k], bound)))
        return total

    def _weight(self, basis: Basis) -> Tensor | None:
        if self._weights is None:
            return None
        if isinstance(basis, StateLeaf):
            return self._weights[basis.position]
        return carried(basis, self._weights[0]) if basis.shape == self.leaves[0].shape else None


def carried(basis: Basis, weights: Tensor | None) -> Tensor | None:
    """The weights that a value inside the graph carries: `D J D^-1` is bounded as J where D commutes with J."""
    if isinstance(basis, Largest):
        return None  # its argument has another shape
    varies = weights is not None and weights.numel() > 1 and not bool((weights == weights[0]).all())
    return None if isinstance(basis, Normalised | Sorted) and varies else weights


def _top(slope: Tensor | float) -> float:
    if not isinstance(slope, Tensor):
        return float(slope)
    return float(slope.max()) if slope.numel() else 0.0


def sloped_norm(map_: LinearMap, slope: Tensor | float, row: Tensor | None, col: Tensor | None) -> float:
    """Proven l2 bound of `diag(slope) A` in the weights, each slope at its own row where A acts on one dimension.

    It bounds `J A` as well for block diagonal J whose blocks have norms of at most the (equal) slopes of their rows.
    """
    largest = _top(slope)
    bound = float(mul_up(map_.norm_bound("l2", row, col), largest))
    if not isinstance(slope, Tensor) or not slope.ndim or bool((slope == largest).all()):
        return bound
    matrix = map_.last_axis_matrix()
    if matrix is None:
        return bound
    per_row = slope.reshape(-1, slope.shape[-1]).amax(dim=0)
    weighted = per_row if row is None else mul_up(per_row, row)
    return min(bound, norm_bound(scaled(matrix, weighted, col), "l2"))
