"""Plug-and-play restoration: a denoiser as the fixed-point map of an inverse problem.

Of an image z only b = A z is known (A leaves pixels out, or blurs). With a denoiser D and a step a > 0

    G(z, b) = D(z - a A^T (A z - b)),

a step towards the data, then the denoiser. If D is q-Lipschitz and `||I - a A^T A|| <= 1`, G is too: with q < 1
Picard's iteration converges to one restored image from everywhere (theorem `picard`, T1), however long it runs. A
denoiser that nothing constrains promises nothing of the kind.

Venkatakrishnan, Bouman, Wohlberg: Plug-and-Play Priors for Model Based Reconstruction, 2013; Ryu et al.: Plug-and-Play
Methods Provably Converge with Properly Trained Denoisers, ICML 2019; Gilton, Ongie, Willett: Deep Equilibrium
Architectures for Inverse Problems in Imaging, 2021, for training through the equilibrium.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from deqops._errors import InputError

from ._diffusion import DiffusionModel, embedded


class Restoration(nn.Module):
    """G of the equation.

    Args:
        denoiser: D, of flattened images (batch, size).
        degradation: A, (measured, size), with `||A||_2 <= 1`.
        step: a, above 0 and at most 2.

    Raises:
        InputError: an argument does not fit.
    """

    kept: Tensor  # I - a A^T A, (size, size)
    data: Tensor  # a A, (measured, size)

    def __init__(self, denoiser: nn.Module, degradation: Tensor, step: float = 1.0) -> None:
        super().__init__()
        if degradation.ndim != 2 or not degradation.is_floating_point():
            raise InputError(f"degradation: a matrix is needed, got {degradation.dtype} {tuple(degradation.shape)}")
        if not 0 < step <= 2:
            raise InputError(f"step: got {step}; choose above 0 and at most 2")
        self.denoiser, wide = denoiser, degradation.double()
        kept = torch.eye(wide.shape[1], dtype=torch.float64) - step * wide.T @ wide
        self.register_buffer("kept", kept.to(degradation.dtype))
        self.register_buffer("data", (step * wide).to(degradation.dtype))

    def forward(self, z: Tensor, b: Tensor) -> Tensor:
        """(batch, size), from z (batch, size) and b (batch, measured)."""
        restored: Tensor = self.denoiser(z @ self.kept + b @ self.data)
        return restored


class AtLevel(nn.Module):
    """A diffusion model as the denoiser of `z = x + sigma e`: the angle is `arctan(sigma)`, its image `cos(t) z`.

    Args:
        model: the diffusion model.
        sigma: standard deviation of the noise.
    """

    level: Tensor

    def __init__(self, model: DiffusionModel, sigma: float) -> None:
        super().__init__()
        self.model = model
        level = embedded(torch.tensor(math.atan(sigma), dtype=torch.float64))
        self.register_buffer("level", level.to(model.inward.weight))

    def forward(self, z: Tensor) -> Tensor:
        """The denoised images (batch, size)."""
        denoised: Tensor = self.model(self.level[:1] * z, self.level)
        return denoised


def plain_denoiser(size: int, hidden: int = 128, rate: float = math.inf) -> nn.Sequential:
    """`D(z) = W_2 relu(W_1 z + b_1) + b_2`, with `||W_2|| ||W_1|| <= rate` whatever an optimiser does.

    Args:
        size: pixels of an image.
        hidden: rows of W_1.
        rate: of D in the 2-norm, below 1 for a contraction; infinity leaves the weights free.

    Raises:
        InputError: an argument is out of range.
    """
    if size < 1 or hidden < 1:
        raise InputError(f"hidden: got {hidden} for {size} pixels; choose at least 1")
    network = nn.Sequential(nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, size))
    if rate == math.inf:
        return network
    from deqops.verify.contractive import bounded

    return bounded(network, rate)


def masking(size: int, share: float = 0.5, seed: int = 0) -> Tensor:
    """A of inpainting, (kept, size): a share of the pixels, drawn once, is missing.

    Raises:
        InputError: no pixel would be missing, or none left.
    """
    missing = round(share * size)
    if not 0 < missing < size:
        raise InputError(f"share: got {share} of {size} pixels; choose one that leaves some and takes some")
    kept = torch.randperm(size, generator=torch.Generator().manual_seed(seed))[missing:].sort().values
    return torch.eye(size)[kept]


def blurring(side: int) -> Tensor:
    """A of deblurring, (side^2, side^2): in each direction a pixel's quarter goes to either neighbour, dark outside.

    Symmetric, with singular values in (0, 1).

    Raises:
        InputError: there is no pixel.
    """
    if side < 1:
        raise InputError(f"side: got {side}; choose at least 1")
    line = 0.5 * torch.eye(side) + 0.25 * (torch.eye(side).roll(1, 0).tril() + torch.eye(side).roll(-1, 0).triu())
    return torch.kron(line, line)
