"""Weights of weighted sup norm at most a rate."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deqops._errors import InputError

from .._rounding import div_up, exact_float64, mul_up, sum_up
from ._weight_map import WeightMap, as_it_is, check_rate, largest_factors


class SupBounded(WeightMap):
    """Each row of W is multiplied by `min(1, rate / row sum)`: `||W||_inf <= rate` in the norm `max_i p_i |x_i|`.

    The row sum is `sum_j p_i |W_ij| / p_j`, with p = 1 that of moduli. For a convolution the row is all that an output
    channel is made of, and the bound holds for every padding; that of a transposed one has no such rows.

    Args:
        rate: above 0; below 1 for a contraction.
        weights: p, one positive number for each unknown, for square matrices, or for each channel; None for 1.
        gain: the proven norm of the rest of the part, as in `L2Bounded`.

    Raises:
        InputError: an argument out of range, or (when the weight is read) a weight that does not fit.

    Theorem: T1 `picard`.
    """

    def __init__(self, rate: float = 0.95, weights: Sequence[float] | Tensor | None = None, gain: float = 1.0) -> None:
        super().__init__()
        self.rate, self.gain = check_rate(rate), check_rate(gain)
        self.weights = None if weights is None else _checked(weights)

    @as_it_is
    def forward(self, W: Tensor) -> Tensor:
        """The weight; differentiable in W."""
        if W.ndim < 2:
            raise InputError(f"W: a matrix or a convolution's kernel is needed, got shape {tuple(W.shape)}")
        if self.weights is not None and not W.shape[0] == W.shape[1] == len(self.weights):
            raise InputError(f"W: weights for {len(self.weights)} unknowns do not fit shape {tuple(W.shape)}")
        factors = self._known(self._analysed, W)
        if bool((factors == 1.0).all()):
            return W
        factor = factors.to(W)
        if torch.is_grad_enabled() and W.requires_grad:
            sums = self._moduli(W, self._ratios(W)).sum(dim=tuple(range(1, W.ndim)))
            usable = (factors < 1.0).to(W.device) & (sums > 0) & sums.isfinite()
            safe = torch.where(usable, sums, 1.0)
            factor = factor * torch.where(usable, safe.detach() / safe, 1.0)  # the quotient is 1, exactly
        result: Tensor = W * factor.reshape(-1, *[1] * (W.ndim - 1))
        return result

    def right_inverse(self, W: Tensor) -> Tensor:
        """What is stored when a weight is assigned: that weight."""
        return W

    def extra_repr(self) -> str:
        """The settings."""
        return f"rate={self.rate:g}, weighted={self.weights is not None}"

    def _analysed(self, W: Tensor) -> Tensor:
        """The rows' factors, (rows,) float64."""
        exact = exact_float64(W)
        if not bool(exact.isfinite().all()):
            raise InputError("W: it holds NaN or infinity; give finite numbers")
        moduli, ones = exact.abs(), torch.ones_like(exact)
        if self.weights is not None:
            p = self.weights.reshape(-1, *[1] * (W.ndim - 1)), self.weights.reshape(1, -1, *[1] * (W.ndim - 2))
            moduli, ones = (div_up(mul_up(part, p[0]), p[1]) for part in (moduli, ones))
        axes = tuple(range(1, W.ndim))
        sums, spreads = sum_up(moduli, axes), sum_up(ones, axes)
        return largest_factors(self.rate / self.gain * (1.0 - 2.0**-50), sums, sums, spreads, W.dtype)

    def _ratios(self, W: Tensor) -> Tensor | None:
        if self.weights is None:
            return None
        return (self.weights[:, None] / self.weights[None, :]).reshape(*W.shape[:2], *[1] * (W.ndim - 2)).to(W)

    @staticmethod
    def _moduli(W: Tensor, ratios: Tensor | None) -> Tensor:
        return W.abs() if ratios is None else W.abs() * ratios


def _checked(weights: Sequence[float] | Tensor) -> Tensor:
    values = torch.as_tensor(weights, dtype=torch.float64).detach().clone()
    if values.ndim != 1 or not bool((values > 0).all() & values.isfinite().all()):
        raise InputError("weights: one positive finite number for each unknown is needed")
    return values
