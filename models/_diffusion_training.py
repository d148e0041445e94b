"""Training the denoiser of a diffusion model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deqops._errors import InputError
from deqops._fingerprint import tensor_digest

from ._diffusion import DiffusionModel, embedded, sampler_steps
from ._fit import Progress, Task, fit, seeded
from ._images import Images


@dataclass(frozen=True)
class DiffusionSettings:
    """How a diffusion model is built, trained and asked to sample.

    Args:
        epochs: of `updates` optimiser steps each; the learning rate falls to 0 along a cosine.
        updates: of an epoch.
        batch: images of an optimiser step.
        width: of the hidden states.
        blocks: of the network.
        learning_rate: of Adam, at its largest.
        steps: of the sampler.
        noise: of the sampler, 0 (DDIM) to 1 (DDPM).
    """

    epochs: int = 24
    updates: int = 200
    batch: int = 128
    width: int = 192
    blocks: int = 2
    learning_rate: float = 3e-3
    steps: int = 32
    noise: float = 0.0

    def __post_init__(self) -> None:
        for name in ("epochs", "updates", "batch", "width", "blocks"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: got {getattr(self, name)}; choose at least 1")
        if not 0 < self.learning_rate < math.inf:
            raise InputError(f"learning_rate: got {self.learning_rate}; choose a positive number")
        sampler_steps(self.steps, self.noise)


@dataclass(frozen=True, eq=False)
class TrainedDiffusion:
    """A trained diffusion model.

    Attributes:
        model: in eval mode.
        settings: it was trained with.
        loss: mean squared error of v in each epoch.
    """

    model: DiffusionModel
    settings: DiffusionSettings
    loss: tuple[float, ...]


class _Training(Task):
    """Images, noise and angles drawn anew for every step; the angle is uniform on [0, pi/2]."""

    model: DiffusionModel

    def __init__(self, images: Tensor, settings: DiffusionSettings, seed: int) -> None:
        self.images, self.settings, self.seed, self.epochs = images, settings, seed, settings.epochs
        with seeded(seed):
            self.model = DiffusionModel(images.shape[1], settings.width, settings.blocks)
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=settings.learning_rate)

    def losses(self) -> Iterator[Tensor]:
        """Squared errors of v."""
        for _ in range(self.settings.updates):
            chosen = self.images[torch.randint(len(self.images), (self.settings.batch,))]
            yield velocity_error(self.model, chosen, math.pi / 2 * torch.rand(len(chosen)), torch.randn_like(chosen))

    def rate(self, part: float) -> float:
        """Half a cosine, from 1 to 0."""
        return 0.5 * (1 + math.cos(math.pi * part))

    def identity(self) -> dict[str, Any]:
        """What the weights depend on: settings without the sampler's, seed and images."""
        settings = {name: value for name, value in asdict(self.settings).items() if name not in ("steps", "noise")}
        return {"settings": settings, "seed": self.seed, "data": [tensor_digest(self.images)]}


def velocity_error(model: DiffusionModel, images: Tensor, angles: Tensor, noise: Tensor) -> Tensor:
    """Mean of `(v(x, t) - (cos(t) e - sin(t) x_0))^2` at `x = cos(t) x_0 + sin(t) e`."""
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    velocity = model.velocity(cos * images + sin * noise, embedded(angles))
    return (velocity - (cos * noise - sin * images)).square().mean()


def train_diffusion(
    images: Images,
    settings: DiffusionSettings | None = None,
    *,
    seed: int = 0,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> TrainedDiffusion:
    """Train a diffusion model on the training images.

    Raises:
        InputError: a setting is out of range, or the checkpoint belongs to another run.
        ModelFileError: the checkpoint is damaged.
    """
    chosen = settings or DiffusionSettings()
    task = _Training(images.train, chosen, seed)
    loss = fit(task, checkpoint, progress)
    return TrainedDiffusion(task.model, chosen, loss)
