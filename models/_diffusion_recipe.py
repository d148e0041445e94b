"""`deqops train diffusion`: images sampled by sweeps, of scikit-learn's digits or Fashion-MNIST."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from ._diffusion import Trajectory, sample_draws, sample_sequentially, sampler
from ._diffusion_training import DiffusionSettings, TrainedDiffusion, train_diffusion
from ._fit import Progress
from ._images import Images, digit_pixels, fashion_images
from ._recipe import Example, Recipe
from ._sample_quality import sample_quality, train_features

COMPARED = 1000
"""Images of a test set, at most, that samples are compared with, and as many samples."""


@dataclass(frozen=True)
class DigitSettings:
    """Which digits are for training; see `deqops.models.digit_pixels`."""

    training: int = 1200


@dataclass(frozen=True)
class FashionSettings:
    """How Fashion-MNIST is read; see `deqops.models.fashion_images`."""

    side: int = 14
    training: int = 60_000


class DiffusionRecipe(Recipe):
    """A diffusion model, measured by its samples and by the sweeps that they take."""

    name = "diffusion"
    datasets: ClassVar[Mapping[str, tuple[Any, Any]]] = {
        "digits": (DiffusionSettings(), DigitSettings()),
        "fashion": (DiffusionSettings(width=256, blocks=3), FashionSettings()),
    }

    def load(self, dataset: str, settings: Any, root: Path, seed: int) -> Images:
        """The images; Fashion-MNIST's four files lie in `root`."""
        if dataset == "digits":
            return digit_pixels(**asdict(settings))
        return fashion_images(root, **asdict(settings))

    def train(
        self,
        data: Images,
        settings: DiffusionSettings,
        *,
        seed: int = 0,
        checkpoint: Path | None = None,
        progress: Progress | None = None,
    ) -> TrainedDiffusion:
        """As `train_diffusion`."""
        return train_diffusion(data, settings, seed=seed, checkpoint=checkpoint, progress=progress)

    def example(self, trained: TrainedDiffusion, data: Images) -> Example:
        """Two trajectories, from their noise."""
        settings = trained.settings
        layer = sampler(trained.model, settings.steps, settings.noise)
        draws = sample_draws(2, settings.steps, data.size, 0)
        return Example(layer.operator, layer.initial_state(draws), (draws,), batch_dims=1)

    def metrics(self, trained: TrainedDiffusion, data: Images) -> dict[str, Any]:
        """Quality of samples, sweeps, and how near the sweeps come to sequential sampling."""
        real, settings = data.test[:COMPARED], trained.settings
        features = train_features(data, max(2, 40 * 1200 // len(data.train)))
        draws = sample_draws(len(real), settings.steps, data.size, 0)
        images = sample_sequentially(trained.model, draws, settings.noise)[:, -1]
        with torch.no_grad():
            solution = sampler(trained.model, settings.steps, settings.noise).solve(draws[:16])
        return {
            "quality": sample_quality(features, images, real)._asdict(),
            "sweeps": solution.evaluations.tolist(),
            "by_iteration": by_sweep(trained.model, draws[:16], settings.noise),
        }

    def headline(self, metrics: Mapping[str, Any]) -> str:
        """Sweeps and the Fréchet distance."""
        sweeps, steps = metrics["sweeps"], metrics["by_iteration"][-1]["iteration"]
        distance = metrics["quality"]["frechet"]
        return f"{sum(sweeps) / len(sweeps):.1f} sweeps for {steps} steps, Fréchet distance {distance:.1f}"


def by_sweep(model: Any, draws: Tensor, noise: float = 0.0, form: str = "cumulative") -> list[dict[str, float]]:
    """How near the image after n Picard sweeps is to the sequential one, n = 0 to N.

    Args:
        model: a `DiffusionModel` in eval mode.
        draws: (batch, N + 1, size).
        noise: as for `sampler_steps`.
        form: as for `Trajectory`.

    Returns:
        list[dict[str, float]]: "iteration"; "distance", of all images together, relative in l2; "trajectory", the same
        of whole trajectories.
    """
    goal, layer = sample_sequentially(model, draws, noise), sampler(model, draws.shape[1] - 1, noise, form=form)
    state, rows = layer.initial_state(draws), []
    assert isinstance(layer.operator, Trajectory)
    with torch.no_grad():
        for iteration in range(draws.shape[1]):
            distance, whole = _relative(state[:, -1], goal[:, -1]), _relative(state, goal)
            rows.append({"iteration": iteration, "distance": distance, "trajectory": whole})
            state = layer.operator(state, draws)
    return rows


def _relative(x: Tensor, goal: Tensor) -> float:
    return float((x - goal).double().norm() / goal.double().norm())
