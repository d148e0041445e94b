"""The image DEQ as `deqops train image_deq` knows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from ._classifier import classifier_curve
from ._classifier_training import TrainedClassifier
from ._digit_images import DigitImages, digit_images
from ._fit import Progress
from ._image_deq_training import ImageDEQSettings, train_image_deq
from ._monotone_recipe import DigitImagesSettings
from ._recipe import Example, Recipe


class ImageDEQRecipe(Recipe):
    """A convolutional equilibrium model, measured by its test accuracy."""

    name = "image_deq"
    datasets: ClassVar[Mapping[str, tuple[Any, Any]]] = {"digits": (ImageDEQSettings(), DigitImagesSettings())}

    def load(self, dataset: str, settings: Any, root: Path, seed: int) -> DigitImages:
        """Images (1, 8, 8)."""
        return digit_images(**asdict(settings))

    def train(
        self,
        data: DigitImages,
        settings: ImageDEQSettings,
        *,
        seed: int = 0,
        checkpoint: Path | None = None,
        progress: Progress | None = None,
    ) -> TrainedClassifier:
        """As `train_image_deq`."""
        return train_image_deq(data, settings, seed=seed, checkpoint=checkpoint, progress=progress)

    def example(self, trained: TrainedClassifier, data: DigitImages) -> Example:
        """The operator on one test image, from zeros; a certificate of a bounded one holds for every image."""
        x = data.x[data.test_mask][:1]
        return Example(trained.model.operator, trained.model.initial_state(x), (x,), batch_dims=1)

    def metrics(self, trained: TrainedClassifier, data: DigitImages) -> dict[str, Any]:
        """Accuracies, also against the number of Picard's iterations."""
        return {
            "accuracy": trained.accuracy,
            "unsolved": trained.unsolved,
            "by_iteration": classifier_curve(trained.model, data),
        }

    def headline(self, metrics: Mapping[str, Any]) -> str:
        """Test accuracy."""
        return f"test accuracy {metrics['accuracy']['test']:.1%}"
