"""Weights W of which `I - W` is strongly monotone."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from deqops._errors import InputError

from .._definite import lowest_eigenvalue_bound
from .._midrad import MidRad, add, sub
from .._rounding import exact_float64
from ._weight_map import WeightMap, as_it_is, check_rate

TRIES = 8


class MonotoneWeight(WeightMap):
    """`W = (1 - m) I - A^T A + B - B^T - shift I`, so that `I - W >= m I`: T5's margin, proven for W as it is rounded.

    Then `z = s(W z + U x + b)` has one equilibrium for each x, for the componentwise activations s of T5, whatever
    `||W||` is. In exact numbers `shift` is 0; in floats it is what `lowest_eigenvalue_bound` asks for, some units of
    rounding. Stored are A and B; a weight that is assigned becomes the nearest W of this form.

    Args:
        margin: m, above 0 and below 1.

    Raises:
        InputError: the margin is out of range, or (when the weight is read) no square matrix, or none that is finite.

    Source: Winston and Kolter, *Monotone operator equilibrium networks*, NeurIPS 2020. Theorem: T5 `monotone`.
    """

    def __init__(self, margin: float = 0.05) -> None:
        super().__init__()
        self.margin = check_rate(margin)
        if self.margin >= 1:
            raise InputError(f"margin: a number between 0 and 1 is needed, got {margin!r}")

    @as_it_is
    def forward(self, A: Tensor, B: Tensor) -> Tensor:
        """The weight, (n, n); differentiable in A and B, (n, n) each."""
        return self._weight(A, B, self._known(self._analysed, A, B))

    def right_inverse(self, W: Tensor) -> tuple[Tensor, Tensor]:
        """A and B of the nearest W of this form."""
        if W.ndim != 2 or W.shape[0] != W.shape[1]:
            raise InputError(f"W: a square matrix is needed, got shape {tuple(W.shape)}")
        wide = W.detach().double()
        values, basis = torch.linalg.eigh((1.0 - self.margin) * torch.eye(len(W)).to(wide) - (wide + wide.mT) / 2)
        A = values.clamp_min(0.0).sqrt()[:, None] * basis.mT
        return A.to(W.dtype), ((wide - wide.mT) / 4).to(W.dtype)

    def extra_repr(self) -> str:
        """The settings."""
        return f"margin={self.margin:g}"

    def _weight(self, A: Tensor, B: Tensor, shift: float) -> Tensor:
        identity = torch.eye(A.shape[0], dtype=A.dtype, device=A.device)
        return (1.0 - self.margin - shift) * identity - A.mT @ A + B - B.mT

    def _analysed(self, A: Tensor, B: Tensor) -> float:
        """The shift that proves the margin for the weight of floats."""
        shift = 0.0
        for _ in range(TRIES):
            missing = self.margin - margin_bound(self._weight(A, B, shift))
            if missing <= 0:
                return shift
            size = float((A.square().sum() + B.abs().sum() + 1.0).double())
            shift += 2.0 * missing + torch.finfo(A.dtype).eps * size
            if not shift < float("inf"):
                break
        raise InputError("weight: its stored tensors give no finite weight; they hold NaN, infinity or huge numbers")


def margin_bound(W: Tensor) -> float:
    """A proven m with `I - (W + W^T) / 2 >= m I`, for W as it is; minus infinity where none is found."""
    exact = exact_float64(W)
    twice = add(MidRad.exact(exact), MidRad.exact(exact.mT.contiguous()))
    identity = MidRad.exact(2.0 * torch.eye(len(exact), dtype=torch.float64))
    return math.nextafter(lowest_eigenvalue_bound(sub(identity, twice)) / 2, -math.inf)
