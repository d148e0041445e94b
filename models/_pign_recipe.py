"""`deqops train pign`: the graph network on scikit-learn's digits, Cora and CiteSeer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ._curve import by_iteration
from ._debian import debian_graph
from ._digits import digits_graph
from ._fit import Progress
from ._heterophilous import HETEROPHILOUS, heterophilous_graph
from ._planetoid import planetoid_graph
from ._recipe import Example, Recipe
from ._train import CITATION, DEBIAN, DIGITS, HETEROPHILY, PIGNSettings, TrainedPIGN, train_pign

if TYPE_CHECKING:
    from torch_geometric.data import Data


@dataclass(frozen=True)
class DigitsSettings:
    """How the digits graph is built; see `deqops.models.digits_graph`."""

    neighbours: int = 10
    labels_per_class: int = 5
    validation: int = 300


@dataclass(frozen=True)
class CitationSettings:
    """How Cora or CiteSeer is prepared; see `deqops.models.planetoid_graph`."""

    missing: float = 0.0


@dataclass(frozen=True)
class DebianSettings:
    """How the graph of packages is built; see `deqops.models.debian_graph`."""

    sections: int = 20
    columns: int = 256
    labelled: float = 0.02


@dataclass(frozen=True)
class HeterophilousSettings:
    """How a heterophilous graph is split; see `deqops.models.heterophilous_graph`."""

    training: float = 0.48
    validation: float = 0.32


class PIGNRecipe(Recipe):
    """PIGN, measured by its test accuracy."""

    name = "pign"
    datasets: ClassVar[Mapping[str, tuple[Any, Any]]] = {
        "digits": (DIGITS, DigitsSettings()),
        "Cora": (CITATION, CitationSettings()),
        "CiteSeer": (CITATION, CitationSettings()),
        "debian": (DEBIAN, DebianSettings()),
        **{name: (HETEROPHILY, HeterophilousSettings()) for name in HETEROPHILOUS},
    }

    def load(self, dataset: str, settings: Any, root: Path, seed: int) -> Data:
        """The graph; all but the digits lie below `root`, the packages perhaps in apt's index."""
        if dataset == "digits":
            return digits_graph(**asdict(settings))
        if dataset == "debian":
            return debian_graph(root, seed=seed, **asdict(settings))
        if dataset in HETEROPHILOUS:
            return heterophilous_graph(dataset, root, seed=seed, **asdict(settings))
        return planetoid_graph(dataset, root, seed=seed, **asdict(settings))

    def train(
        self,
        data: Data,
        settings: PIGNSettings,
        *,
        seed: int = 0,
        checkpoint: Path | None = None,
        progress: Progress | None = None,
    ) -> TrainedPIGN:
        """As `train_pign`."""
        return train_pign(data, settings, seed=seed, checkpoint=checkpoint, progress=progress)

    def example(self, trained: TrainedPIGN, data: Data) -> Example:
        """The operator on the whole graph, from zeros."""
        inputs = (data.x, data.edge_index)
        return Example(trained.model.operator, trained.model.initial_state(*inputs), inputs, batch_dims=0)

    def metrics(self, trained: TrainedPIGN, data: Data) -> dict[str, Any]:
        """Accuracies, also against the number of iterations."""
        return {"accuracy": trained.accuracy, "by_iteration": by_iteration(trained.model, data)}

    def headline(self, metrics: Mapping[str, Any]) -> str:
        """Test accuracy."""
        return f"test accuracy {metrics['accuracy']['test']:.1%}"
