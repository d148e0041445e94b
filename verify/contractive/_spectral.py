"""Weights of l2 norm at most a rate."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from deqops._errors import InputError

from .._rounding import exact_float64, sqrt_up, sum_of_squares_up
from .._spectral import spectral_norm_bound
from ._weight_map import WeightMap, as_it_is, check_rate, largest_factor

SMALL = 64
"""Up to here the direction of the largest singular value is an SVD's, above it that of power iterations."""
STEPS = 30


@dataclass(frozen=True)
class Scaling:
    """By what a weight is multiplied, and the direction in which its norm grows, for gradients alone."""

    factor: float
    left: Tensor  # (m,): u
    right: Tensor  # (n,): v


class L2Bounded(WeightMap):
    """`W -> W min(1, rate / ||W||_2)`: a weight whose l2 norm is proven to be at most `rate / gain`.

    The norm is bounded by `spectral_norm_bound`, and the rounding of the product is in the bound; only the gradient
    of the norm, `u v^T`, is an estimate. A weight below the rate stays as it is.

    Args:
        rate: of what the weight is part of, above 0; below 1 for a contraction.
        gain: the proven l2 norm of the rest of that part, as of a graph's normalised adjacency matrix.

    Raises:
        InputError: a rate or a gain out of range, or (when the weight is read) a weight that is no finite matrix.

    Source: Miyato et al., *Spectral Normalization for Generative Adversarial Networks*, ICLR 2018, for the idea; there
    the norm is an estimate from below. Theorem: T1 `picard`.
    """

    def __init__(self, rate: float = 0.95, gain: float = 1.0) -> None:
        super().__init__()
        self.rate, self.gain = check_rate(rate), check_rate(gain)

    @as_it_is
    def forward(self, W: Tensor) -> Tensor:
        """The weight; differentiable in W."""
        if W.ndim != 2:
            raise InputError(f"W: a matrix is needed, got shape {tuple(W.shape)}; convolutions have ConvolutionBounded")
        return scaled(W, self._known(self._analysed, W))

    def right_inverse(self, W: Tensor) -> Tensor:
        """What is stored when a weight is assigned: that weight."""
        return W

    def extra_repr(self) -> str:
        """The settings."""
        return f"rate={self.rate:g}" + (f", gain={self.gain:g}" if self.gain != 1.0 else "")

    def _analysed(self, W: Tensor) -> Scaling:
        bound = float(spectral_norm_bound(W))
        frobenius = float(sqrt_up(sum_of_squares_up(exact_float64(W))))
        ones = math.sqrt(W.numel()) * (1.0 + 2.0**-50)
        factor = largest_factor(self.rate / self.gain * (1.0 - 2.0**-50), bound, frobenius, ones, W.dtype)
        return Scaling(factor, *top_pair(W))


def scaled(W: Tensor, scaling: Scaling) -> Tensor:
    """`factor W`, with the gradient of `rate W / ||W||_2` where the factor is not 1."""
    if scaling.factor == 1.0:
        return W
    factor = torch.tensor(scaling.factor, dtype=W.dtype, device=W.device)
    if torch.is_grad_enabled() and W.requires_grad:
        norm = scaling.left @ W.reshape(len(scaling.left), -1) @ scaling.right
        if bool((norm != 0) & norm.isfinite()):
            factor = factor * (norm.detach() / norm)  # the quotient is 1, exactly
    return W * factor


def top_pair(W: Tensor) -> tuple[Tensor, Tensor]:
    """Estimates of the singular vectors u, v of the largest singular value; W as (m, n).

    Args:
        W: (m, ...), flattened.
    """
    matrix = W.reshape(len(W), -1)
    wide = matrix.to(torch.promote_types(W.dtype, torch.float32))
    if min(wide.shape) <= SMALL:
        left, _, right = torch.linalg.svd(wide, full_matrices=False)
        return left[:, 0].to(W.dtype), right[0].to(W.dtype)
    v = _unit(wide.abs().sum(dim=0))
    for _ in range(STEPS):
        u = _unit(wide @ v)
        v = _unit(wide.mT @ u)
    return u.to(W.dtype), v.to(W.dtype)


def _unit(vector: Tensor) -> Tensor:
    unit: Tensor = vector / vector.norm().clamp_min(torch.finfo(vector.dtype).tiny)
    return unit
