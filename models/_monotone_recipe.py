"""The monotone operator network as `deqops train monotone` knows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from ._classifier import classifier_curve, picard_curve
from ._classifier_training import TrainedClassifier
from ._digit_images import DigitImages, digit_images
from ._fit import Progress
from ._monotone import MonotoneNetwork
from ._monotone_training import MonotoneSettings, train_monotone
from ._recipe import Example, Recipe


@dataclass(frozen=True)
class DigitImagesSettings:
    """How the digits are split; see `deqops.models.digit_images`."""

    training: int = 1000
    validation: int = 200


class MonotoneRecipe(Recipe):
    """A monotone operator network, measured by its test accuracy."""

    name = "monotone"
    datasets: ClassVar[Mapping[str, tuple[Any, Any]]] = {"digits": (MonotoneSettings(), DigitImagesSettings())}

    def load(self, dataset: str, settings: Any, root: Path, seed: int) -> DigitImages:
        """Images as rows of 64 pixels."""
        return digit_images(**asdict(settings)).flattened()

    def train(
        self,
        data: DigitImages,
        settings: MonotoneSettings,
        *,
        seed: int = 0,
        checkpoint: Path | None = None,
        progress: Progress | None = None,
    ) -> TrainedClassifier:
        """As `train_monotone`."""
        return train_monotone(data, settings, seed=seed, checkpoint=checkpoint, progress=progress)

    def example(self, trained: TrainedClassifier, data: DigitImages) -> Example:
        """The operator on one test image, from zeros; what is certified holds for every image."""
        x = data.x[data.test_mask][:1]
        return Example(trained.model.operator, trained.model.initial_state(x), (x,), batch_dims=1)

    def metrics(self, trained: TrainedClassifier, data: DigitImages) -> dict[str, Any]:
        """Accuracies, also against splitting steps and against plain ones, and the l2 norm of W."""
        from deqops.verify import operator_norm_bound

        assert isinstance(trained.model, MonotoneNetwork)
        weight = trained.model.proximal.W.detach()
        return {
            "accuracy": trained.accuracy,
            "unsolved": trained.unsolved,
            "by_iteration": classifier_curve(trained.model, data),
            "by_plain_iteration": picard_curve(trained.model, data),
            "weight_norm_estimate": float(torch.linalg.matrix_norm(weight.double(), 2)),
            "weight_norm_bound": operator_norm_bound(weight, "l2").upper,
        }

    def headline(self, metrics: Mapping[str, Any]) -> str:
        """Test accuracy and the norm of W."""
        norm = metrics["weight_norm_estimate"]
        return f"test accuracy {metrics['accuracy']['test']:.1%} with a W of norm {norm:.3g}"
