"""Training a monotone operator network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ._classifier_training import ClassifierTask, TrainedClassifier, check_training
from ._digit_images import CLASSES, DigitImages
from ._fit import Progress
from ._monotone import MonotoneNetwork, check_monotone


@dataclass(frozen=True)
class MonotoneSettings:
    """How a `MonotoneNetwork` is built and trained.

    Args:
        epochs: passes over the training images.
        width: entries of the state.
        margin: m of `I - W >= m I`.
        steps: 0 trains through the equilibrium; n > 0 through n applications of the operator (a baseline).
        learning_rate: of Adam.
        weight_decay: of Adam.
    """

    epochs: int = 20
    width: int = 64
    margin: float = 0.1
    steps: int = 0
    learning_rate: float = 1e-2
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        check_training(self)
        check_monotone(self.width, self.margin, self.steps)


def train_monotone(
    data: DigitImages,
    settings: MonotoneSettings | None = None,
    *,
    seed: int = 0,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> TrainedClassifier:
    """Train a `MonotoneNetwork` on images with `x` (images, pixels); the rest as for `train_pign`."""
    chosen = settings or MonotoneSettings()

    def build() -> MonotoneNetwork:
        return MonotoneNetwork(data.x.shape[1], CLASSES, width=chosen.width, margin=chosen.margin, steps=chosen.steps)

    return ClassifierTask(data, build, chosen, seed).result(checkpoint, progress)
