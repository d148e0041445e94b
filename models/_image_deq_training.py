"""Training an image DEQ."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from deqops._errors import InputError

from ._classifier import Classifier
from ._classifier_training import ClassifierTask, TrainedClassifier, check_training
from ._digit_images import DigitImages
from ._fit import Progress
from ._image_deq import ImageDEQ, check_image


@dataclass(frozen=True)
class ImageDEQSettings:
    """How an `ImageDEQ` is built and trained.

    Args:
        epochs: passes over the training images.
        channels: of the state.
        rate: of the convolution's norm; inf leaves it free.
        penalty: weight of the penalty on the Jacobian at the equilibrium, which a free convolution needs: without it
            the training comes to operators whose equilibria are not found.
        steps: 0 trains through the equilibrium; n > 0 through n applications of the operator (a baseline).
        learning_rate: of Adam.
        weight_decay: of Adam.
    """

    epochs: int = 15
    channels: int = 8
    rate: float = 0.9
    penalty: float = 0.0
    steps: int = 0
    learning_rate: float = 3e-3
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        check_training(self)
        check_image(self.channels, self.rate, self.steps)
        if not self.penalty >= 0:
            raise InputError(f"penalty: got {self.penalty}; choose 0 or a positive weight")


def train_image_deq(
    data: DigitImages,
    settings: ImageDEQSettings | None = None,
    *,
    seed: int = 0,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> TrainedClassifier:
    """Train an `ImageDEQ` on images with `x` (images, 1, 8, 8); the rest as for `train_pign`."""
    chosen = settings or ImageDEQSettings()

    def build() -> ImageDEQ:
        return ImageDEQ(chosen.channels, chosen.rate, chosen.steps)

    def penalty(model: Classifier, state: Tensor, x: Tensor) -> Tensor:
        from deqops.verify.contractive import jacobian_penalty_estimate

        return chosen.penalty * jacobian_penalty_estimate(model.operator, state, x)

    task = ClassifierTask(data, build, chosen, seed, penalty if chosen.penalty > 0 else None)
    return task.result(checkpoint, progress)
