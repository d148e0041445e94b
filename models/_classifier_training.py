"""Training classifiers of images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from deqops import Result
from deqops._errors import InputError
from deqops._fingerprint import tensor_digest
from deqops._numbers import as_number, is_count

from ._classifier import Classifier, split_accuracies
from ._digit_images import DigitImages
from ._fit import Progress, Task, fit, seeded

BATCH = 100


class Training(Protocol):
    """What a record of settings says of the training."""

    @property
    def epochs(self) -> int:
        """Passes over the training images."""

    @property
    def learning_rate(self) -> float:
        """Of Adam."""

    @property
    def weight_decay(self) -> float:
        """Of Adam."""


@dataclass(frozen=True, eq=False)
class TrainedClassifier:
    """A trained classifier in eval mode, and how well it does.

    Attributes:
        model: the network.
        settings: it was trained with.
        seed: of its initialisation and of the batches.
        accuracy: part of the images classified correctly, under "train", "validation" and "test".
        loss: training loss of each epoch.
        unsolved: images whose equilibrium was not found; they are classified by the state that was reached.
    """

    model: Classifier
    settings: Any
    seed: int
    accuracy: dict[str, float]
    loss: tuple[float, ...]
    unsolved: int


Penalty = Callable[[Classifier, Tensor, Tensor], Tensor]
"""Of the model, a batch's states and its images."""


class ClassifierTask(Task):
    """Cross-entropy of batches of `BATCH` training images, in an order of its own each epoch, and perhaps a penalty."""

    model: Classifier

    def __init__(
        self,
        data: DigitImages,
        build: Callable[[], Classifier],
        settings: Training,
        seed: int,
        penalty: Penalty | None = None,
    ) -> None:
        self.data, self.settings, self.seed, self.penalty = data, settings, seed, penalty
        self.epochs = settings.epochs
        with seeded(seed):
            self.model = build()
        self.optimiser = torch.optim.Adam(
            self.model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )

    def losses(self) -> Iterator[Tensor]:
        """One for each batch."""
        numbers = self.data.train_mask.nonzero()[:, 0]
        for part in torch.split(torch.randperm(len(numbers)), BATCH):
            x, y = self.data.x[numbers[part]], self.data.y[numbers[part]]
            state = self.model.state(x)
            loss = nn.functional.cross_entropy(self.model.scores(state), y)
            yield loss if self.penalty is None else loss + self.penalty(self.model, state, x)

    def identity(self) -> dict[str, Any]:
        """Network, settings, seed and data."""
        names = ("x", "y", "train_mask")
        return {
            "network": type(self.model).__name__,
            "settings": asdict(self.settings),  # type: ignore[call-overload]
            "seed": self.seed,
            "data": [tensor_digest(getattr(self.data, name)) for name in names],
        }

    def result(self, checkpoint: Path | None, progress: Progress | None) -> TrainedClassifier:
        """Train to the end and score."""
        loss = fit(self, checkpoint, progress)
        accuracy, unsolved = self.score()
        return TrainedClassifier(self.model, self.settings, self.seed, accuracy, loss, unsolved)

    def score(self) -> tuple[dict[str, float], int]:
        """Accuracies, and the number of images whose equilibrium was not found."""
        with torch.no_grad():
            if self.model.steps:
                return split_accuracies(self.model(self.data.x), self.data), 0
            solution = self.model.layer.solve(self.data.x, throw=False)
            scores = self.model.scores(solution.value)
        return split_accuracies(scores, self.data), int((solution.result != Result.CONVERGED).sum())


def check_training(settings: Training) -> None:
    """Raises InputError where a number of the training is out of range."""
    if not is_count(settings.epochs, 1):
        raise InputError(f"epochs: got {settings.epochs!r}; choose a whole number of at least 1")
    if not 0 < as_number(settings.learning_rate) < math.inf or not 0 <= as_number(settings.weight_decay) < math.inf:
        raise InputError("learning_rate must be positive and weight_decay not negative; change them")
