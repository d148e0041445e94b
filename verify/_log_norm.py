"""T5, form (b): the logarithmic norm of `G(z) = s(W z + c)` in l1 and linf, diagonally weighted."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from . import _midrad as midrad
from ._midrad import MidRad
from ._monotone import Layer
from ._norm import Order
from ._rounding import add_up, div_up, mul_up, sum_up

_ROUNDS = 200


@dataclass(frozen=True)
class LogNorm:
    """`mu(M) <= mu` and `M_ii >= least` for every matrix of slopes M = S W."""

    mu: float
    least: float


def log_norm(layer: Layer, order: Order, weights: Tensor) -> LogNorm:
    """Verified bounds over all diagonal S with entries in [a, b], in the norm with these weights.

    linf: `max_i M_ii + sum_{j != i} |M_ij| w_i / w_j`, row by row convex in the slope and so largest at a or b.
    l1: `max_j M_jj + sum_{i != j} |M_ij| w_i / w_j`, each term by itself at most its larger end.

    Args:
        layer: W is (n, n).
        order: "linf" or "l1".
        weights: (n,), positive.
    """
    ends = [_diagonal(layer, end) for end in (layer.lower, layer.upper)]
    least = float(torch.minimum(ends[0].lower(), ends[1].lower()).min())
    apart = mul_up(layer.weight.magnitude(), div_up(weights[:, None], weights[None, :])).fill_diagonal_(0)
    sizes = [float(end.magnitude()) for end in (layer.lower, layer.upper)]
    if order == "linf":
        sums = sum_up(apart, dim=1)
        totals = [add_up(end.upper(), mul_up(sums, size)) for end, size in zip(ends, sizes, strict=True)]
        return LogNorm(float(torch.maximum(*totals).max()), least)
    largest = torch.maximum(ends[0].upper(), ends[1].upper())
    return LogNorm(float(add_up(largest, mul_up(sum_up(apart, dim=0), max(sizes))).max()), least)


def _diagonal(layer: Layer, slope: MidRad) -> MidRad:
    return midrad.mul(layer.weight.apply_exact(torch.diagonal), slope)


def proposed_log_weights(layer: Layer, order: Order) -> Tensor:
    """Weights, (n,), under which the logarithmic norm is nearly smallest: Perron vectors; a proposal.

    The Metzler matrix of the largest entries is shifted to a nonnegative one.
    """
    W, low, high = layer.weight.mid, float(layer.lower.mid), float(layer.upper.mid)
    metzler = (max(abs(low), abs(high)) * W.abs()).fill_diagonal_(0)
    diagonal = torch.maximum(low * W.diagonal(), high * W.diagonal())
    shifted = metzler + torch.diag(diagonal - diagonal.min())
    matrix = shifted if order == "linf" else shifted.T
    x = torch.ones(len(W), dtype=torch.float64)
    for _ in range(_ROUNDS):
        image = matrix @ x + 1e-3 * matrix.max() * x
        top = float(image.max())
        if not 0 < top < float("inf"):
            return torch.ones(len(W), dtype=torch.float64)
        x = (image / top).clamp(min=1e-100)
    return 1 / x if order == "linf" else x
