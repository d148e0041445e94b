"""Training denoisers for restoration: by what they denoise, or through the equilibrium that they restore to."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deqops import Anderson, EquilibriumLayer, ImplicitAdjoint, Tolerance
from deqops._errors import InputError
from deqops._fingerprint import tensor_digest

from ._fit import Progress, Task, fit, seeded
from ._images import Images
from ._restoration import Restoration, plain_denoiser


@dataclass(frozen=True)
class DenoiserSettings:
    """How a denoiser is built and trained.

    Args:
        epochs: of `updates` optimiser steps each; the learning rate falls to 0 along a cosine.
        updates: of an epoch.
        batch: images of an optimiser step.
        hidden: of `plain_denoiser`.
        rate: of the denoiser in the 2-norm; infinity leaves it free.
        sigma: standard deviation of the noise on images in [-1, 1].
        measured: standard deviation of the noise in b, where b is restored.
        learning_rate: of Adam, at its largest.
    """

    epochs: int = 10
    updates: int = 50
    batch: int = 128
    hidden: int = 128
    rate: float = 0.95
    sigma: float = 0.5
    measured: float = 0.1
    learning_rate: float = 2e-3

    def __post_init__(self) -> None:
        for name in ("epochs", "updates", "batch", "hidden"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: got {getattr(self, name)}; choose at least 1")
        for name, most in (("rate", math.inf), ("sigma", sys.float_info.max), ("learning_rate", sys.float_info.max)):
            if not 0 < getattr(self, name) <= most:
                raise InputError(f"{name}: got {getattr(self, name)}; choose a positive number")
        if not 0 <= self.measured < math.inf:
            raise InputError(f"measured: got {self.measured}; choose 0 or a positive number")


@dataclass(frozen=True, eq=False)
class TrainedDenoiser:
    """A trained denoiser.

    Attributes:
        model: in eval mode.
        settings: it was trained with.
        loss: mean squared error of each epoch.
    """

    model: nn.Module
    settings: DenoiserSettings
    loss: tuple[float, ...]


class _Training(Task):
    """Of what is asked: noisy images, or degraded ones."""

    def __init__(self, images: Tensor, settings: DenoiserSettings, degradation: Tensor | None, seed: int) -> None:
        self.images, self.settings, self.seed, self.epochs = images, settings, seed, settings.epochs
        self.degradation = degradation
        with seeded(seed):
            self.model = plain_denoiser(images.shape[1], settings.hidden, settings.rate)
        self.layer = None if degradation is None else restorer(Restoration(self.model, degradation))
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=settings.learning_rate)

    def losses(self) -> Iterator[Tensor]:
        """Squared errors of what is denoised, or restored."""
        for _ in range(self.settings.updates):
            x = self.images[torch.randint(len(self.images), (self.settings.batch,))]
            if self.layer is None or self.degradation is None:
                result = self.model(x + self.settings.sigma * torch.randn_like(x))
            else:
                b = x @ self.degradation.T
                result = self.layer(b + self.settings.measured * torch.randn_like(b))
            yield (result - x).square().mean()

    def rate(self, part: float) -> float:
        """Half a cosine, from 1 to 0."""
        return 0.5 * (1 + math.cos(math.pi * part))

    def identity(self) -> dict[str, Any]:
        """Settings, seed, images and the degradation."""
        data = [tensor_digest(part) for part in (self.images, self.degradation) if part is not None]
        settings = {name: str(value) for name, value in asdict(self.settings).items()}  # a rate may be infinite
        return {"settings": settings, "seed": self.seed, "data": data}


def restorer(operator: Restoration) -> EquilibriumLayer:
    """The layer that restores b: (batch, measured) to (batch, size), from `a A^T b`."""
    solver, tolerance = Anderson(memory=5), Tolerance(relative=1e-3)
    adjoint = ImplicitAdjoint(solver, tolerance, max_evaluations=200, derivatives=1)
    return EquilibriumLayer(operator, solver, adjoint, tolerance, Backprojected(operator), max_evaluations=200)


class Backprojected:
    """Where restoration starts: `a A^T b`."""

    def __init__(self, operator: Restoration) -> None:
        self.data = operator.data

    def __call__(self, b: Tensor) -> Tensor:
        """(batch, size)."""
        return b @ self.data


def train_denoiser(
    images: Images,
    settings: DenoiserSettings | None = None,
    *,
    degradation: Tensor | None = None,
    seed: int = 0,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> TrainedDenoiser:
    """Train a denoiser on the training images.

    Args:
        images: the data.
        settings: of model and training.
        degradation: None to denoise; a matrix A to restore from `A x` and noise through the equilibrium of
            `Restoration`, which needs a rate below 1 to be sure of one.
        seed: of initialisation and noise.
        checkpoint: a file to resume from where it exists.
        progress: called after each epoch.

    Raises:
        InputError: a setting is out of range, or the checkpoint belongs to another run.
        ModelFileError: the checkpoint is damaged.
        ConvergenceError: an equilibrium was not reached.
    """
    chosen = settings or DenoiserSettings()
    task = _Training(images.train, chosen, degradation, seed)
    loss = fit(task, checkpoint, progress)
    return TrainedDenoiser(task.model, chosen, loss)


def restored_psnr(operator: Restoration, b: Tensor, images: Tensor, counts: tuple[int, ...]) -> list[dict[str, float]]:
    """How good Picard's iterates are, from `a A^T b` on.

    Args:
        operator: G.
        b: measured, (batch, measured).
        images: the truth, (batch, size), in [-1, 1].
        counts: increasing numbers of iterations to look at.

    Returns:
        list[dict[str, float]]: "iteration"; "psnr" in dB, of all images together; "step", the l2 norm of the step
        that follows relative to that of the iterate, all images together. It ends where an iterate is not finite.
    """
    rows, z, done = [], Backprojected(operator)(b), 0
    with torch.no_grad():
        for count in counts:
            for _ in range(count - done):
                z = operator(z, b)
            done = count
            step = float((operator(z, b) - z).double().norm() / z.double().norm().clamp(min=1e-300))
            if not (bool(z.isfinite().all()) and math.isfinite(step)):
                break
            rows.append({"iteration": count, "psnr": psnr(z, images), "step": step})
    return rows


def psnr(z: Tensor, images: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of images in [-1, 1] (a range of 2), all together; infinity if equal."""
    error = float((z - images).double().square().mean())
    return math.inf if error == 0 else -10 * math.log10(error / 4)


def linear_restoration(images: Tensor, degradation: Tensor, b: Tensor, measured: float) -> Tensor:
    """The best affine restoration for normal images of the training images' mean and covariance: the baseline.

    `m + C A^T (A C A^T + s^2 I)^-1 (b - A m)`, s the standard deviation of the noise in b, above 0.
    """
    x, A = images.double(), degradation.double()
    mean, covariance = x.mean(0), torch.cov(x.T)
    seen = A @ covariance @ A.T + measured**2 * torch.eye(len(A), dtype=torch.float64)
    gain = torch.linalg.solve(seen, A @ covariance)
    restored: Tensor = (mean + (b.double() - A @ mean) @ gain).to(images.dtype)
    return restored
