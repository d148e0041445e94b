"""Convolution kernels whose l2 norm on a given size is at most a rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from deqops._errors import InputError

from .._convolution import convolution_norm_bound
from .._rounding import exact_float64, mul_up, sqrt_up, sum_of_squares_up
from ._spectral import Scaling, scaled, top_pair
from ._weight_map import WeightMap, as_it_is, check_rate, largest_factor


class ConvolutionBounded(WeightMap):
    """`K -> K min(1, rate / ||K||)`: a kernel whose convolution's l2 norm is proven to be at most the rate.

    `||K||` is bounded by `convolution_norm_bound` on the given size. The norm of the reshaped kernel, which spectral
    normalisation divides by, is no bound of it; here it only proposes the gradient's direction.

    Args:
        size: the input's spatial size, (N,) or (N1, N2).
        rate: above 0; below 1 for a contraction.
        padding_mode: "zeros" or "circular".
        padding: as torch's.
        stride: as torch's.
        dilation: as torch's.
        groups: as torch's.

    Raises:
        InputError: an argument out of range, another padding (`SupBounded` takes all), or (when the weight is read) a
            kernel that does not fit.

    Theorem: T1 `picard`.
    """

    def __init__(
        self,
        size: int | Sequence[int],
        rate: float = 0.95,
        *,
        padding_mode: str = "zeros",
        padding: int | Sequence[int] | str = 0,
        stride: int | Sequence[int] = 1,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        if padding_mode not in ("zeros", "circular"):
            raise InputError(f"padding_mode: got {padding_mode!r}; use zeros or circular, or SupBounded for any other")
        self.rate = check_rate(rate)
        self.size = (size,) if isinstance(size, int) else tuple(size)
        self.geometry: dict[str, Any] = {
            "padding_mode": padding_mode,
            "padding": padding,
            "stride": stride,
            "dilation": dilation,
            "groups": groups,
        }

    @as_it_is
    def forward(self, K: Tensor) -> Tensor:
        """The kernel; differentiable in K."""
        return scaled(K, self._known(self._analysed, K))

    def right_inverse(self, K: Tensor) -> Tensor:
        """What is stored when a kernel is assigned: that kernel."""
        return K

    def extra_repr(self) -> str:
        """The settings."""
        return f"size={self.size}, rate={self.rate:g}, {self.geometry}"

    def _analysed(self, K: Tensor) -> Scaling:
        bound = convolution_norm_bound(K, self.size, **self.geometry)
        # A convolution is a sum over its taps of matrices, each of at most the Frobenius norm of its tap; with circular
        # padding, which is at most a whole size on each side, a tap may read an entry up to three times.
        spread = math.sqrt(math.prod(K.shape[2:])) * 2.0 ** (K.ndim - 2)
        frobenius = float(mul_up(sqrt_up(sum_of_squares_up(exact_float64(K))), spread))
        ones = math.sqrt(K.numel()) * spread * (1.0 + 2.0**-50)
        factor = largest_factor(self.rate, bound, frobenius, ones, K.dtype)
        return Scaling(factor, *top_pair(K))
