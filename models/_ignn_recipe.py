"""The implicit graph network as `deqops train implicit_graph` knows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ._curve import by_iteration
from ._digits import digits_graph
from ._fit import Progress
from ._ignn import ImplicitGraphNetwork
from ._ignn_training import ImplicitGraphSettings, train_ignn
from ._pign_recipe import CitationSettings, DigitsSettings
from ._planetoid import planetoid_graph
from ._recipe import Example, Recipe
from ._train import Trained

if TYPE_CHECKING:
    from torch_geometric.data import Data

_CITATION = (ImplicitGraphSettings(), CitationSettings())


class ImplicitGraphRecipe(Recipe):
    """An implicit graph network, measured by its test accuracy."""

    name = "implicit_graph"
    datasets: ClassVar[Mapping[str, tuple[Any, Any]]] = {
        "digits": (ImplicitGraphSettings(epochs=200, dropout=0.3), DigitsSettings()),
        "Cora": _CITATION,
        "CiteSeer": _CITATION,
    }

    def load(self, dataset: str, settings: Any, root: Path, seed: int) -> Data:
        """The graph; the citation graphs lie below `root`."""
        if dataset == "digits":
            return digits_graph(**asdict(settings))
        return planetoid_graph(dataset, root, seed=seed, **asdict(settings))

    def train(
        self,
        data: Data,
        settings: ImplicitGraphSettings,
        *,
        seed: int = 0,
        checkpoint: Path | None = None,
        progress: Progress | None = None,
    ) -> Trained[ImplicitGraphNetwork]:
        """As `train_ignn`."""
        return train_ignn(data, settings, seed=seed, checkpoint=checkpoint, progress=progress)

    def example(self, trained: Trained[ImplicitGraphNetwork], data: Data) -> Example:
        """The operator on the whole graph, from zeros, with f(X) for its input."""
        model = trained.model
        inputs = (model.encoded(data.x, data.edge_index).detach(), data.edge_index)
        return Example(model.operator, model.initial_state(data.x, data.edge_index), inputs, batch_dims=0)

    def metrics(self, trained: Trained[ImplicitGraphNetwork], data: Data) -> dict[str, Any]:
        """Accuracies, also against the number of iterations."""
        return {"accuracy": trained.accuracy, "by_iteration": by_iteration(trained.model, data)}

    def headline(self, metrics: Mapping[str, Any]) -> str:
        """Test accuracy."""
        return f"test accuracy {metrics['accuracy']['test']:.1%}"
