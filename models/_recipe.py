"""What `deqops train` asks of an architecture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

from torch import nn

from ._fit import Progress


class Example(NamedTuple):
    """The operator of a trained model, with a state and inputs to export, solve and certify it at."""

    operator: Callable[..., Any]
    state: Any
    inputs: tuple[Any, ...]
    batch_dims: int


class Outcome(Protocol):
    """A trained model."""

    @property
    def model(self) -> nn.Module:
        """In eval mode."""

    @property
    def loss(self) -> tuple[float, ...]:
        """Mean training loss of each epoch."""


class Recipe(ABC):
    """An architecture, its data sets, its training and its measure.

    Attributes:
        name: on the command line.
        datasets: settings of model and training, and of the data, by data set; the first one is the default. Both
            are frozen records of whole numbers, numbers and words, which `--set` changes.
    """

    name: ClassVar[str]
    datasets: ClassVar[Mapping[str, tuple[Any, Any]]]

    @abstractmethod
    def load(self, dataset: str, settings: Any, root: Path, seed: int) -> Any:
        """The data; from `root` where they do not ship with a dependency."""

    @abstractmethod
    def train(
        self,
        data: Any,
        settings: Any,
        *,
        seed: int = 0,
        checkpoint: Path | None = None,
        progress: Progress | None = None,
    ) -> Outcome:
        """Train, or resume from the checkpoint."""

    @abstractmethod
    def example(self, trained: Any, data: Any) -> Example:
        """What is exported."""

    @abstractmethod
    def metrics(self, trained: Any, data: Any) -> dict[str, Any]:
        """How good it is on test data: plain numbers, and under "by_iteration" rows with "iteration" and numbers."""

    @abstractmethod
    def headline(self, metrics: Mapping[str, Any]) -> str:
        """The one figure of the metrics that says how good it is, in a few words."""
