"""Training node classifiers, a PIGN through its equilibrium, deterministic given the seed, and resumable."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from deqops._errors import InputError
from deqops._fingerprint import tensor_digest
from deqops._numbers import as_number, is_count

from ._fit import Progress, Task, fit, seeded
from ._gcn import GCN
from ._partition import subgraphs
from ._pign import PIGN, check_options

if TYPE_CHECKING:
    from torch_geometric.data import Data

    from deqops import Solver, Tolerance


@dataclass(frozen=True)
class PIGNSettings:
    """How a PIGN is built and trained; `DIGITS` and `CITATION` hold what suits these graphs.

    Args:
        epochs: full-graph steps of Adam.
        operator: "convolution", "propagation", "sage" or "attention", as for `PIGN`.
        channels: columns of the state, or of f's hidden layer.
        limit: of the operator's constant, as for `PIGN`.
        steps: 0 trains through the equilibrium; n > 0 through n applications of the operator (a baseline).
        smoothing: the smoothing factor of the iteration.
        learning_rate: of Adam.
        weight_decay: of Adam.
        dropout: part of the features, and of the state before the read-out, dropped in training. Both lie
            outside the operator, which stays one deterministic map.
        select_every: 0 keeps the weights of the last epoch; n > 0 those that did best on the validation set
            among every n-th epoch (accuracy first, then cross-entropy).
        parts: 1 trains on the whole graph; n > 1 on one part after the other of a random partition into n, a new one
            in each epoch, each part by itself. The equilibrium is the whole graph's in all that is measured.
    """

    epochs: int = 80
    operator: str = "convolution"
    channels: int = 32
    limit: float = 0.9
    steps: int = 0
    smoothing: float = 1.0
    learning_rate: float = 1e-2
    weight_decay: float = 5e-3
    dropout: float = 0.5
    select_every: int = 0
    parts: int = 1

    def __post_init__(self) -> None:
        if not is_count(self.epochs, 1):
            raise InputError(f"epochs: got {self.epochs!r}; choose a whole number of at least 1")
        if not 0 < as_number(self.learning_rate) < math.inf or not 0 <= as_number(self.weight_decay) < math.inf:
            raise InputError("learning_rate must be positive and weight_decay not negative; change them")
        if not is_count(self.select_every):
            raise InputError(f"select_every: got {self.select_every!r}; choose 0, or a number of epochs")
        if not is_count(self.parts, 1):
            raise InputError(f"parts: got {self.parts!r}; choose 1 for the whole graph, or a number of parts")
        check_options(self.operator, self.channels, self.limit, self.steps, self.smoothing, self.dropout)


DIGITS = PIGNSettings(operator="propagation", channels=64, limit=0.9, weight_decay=5e-4, dropout=0.3)
"""Settings for the digits."""

CITATION = PIGNSettings(epochs=150, operator="propagation", channels=64, limit=0.95, dropout=0.7, select_every=5)
"""Settings for Cora and CiteSeer."""

DEBIAN = PIGNSettings(epochs=15, operator="propagation", channels=64, weight_decay=1e-4, dropout=0.2, parts=8)
"""Settings for Debian's packages."""

HETEROPHILY = PIGNSettings(epochs=150, operator="sage", channels=32, weight_decay=5e-4, select_every=5)
"""Settings for graphs whose neighbours differ."""

Network = TypeVar("Network", bound=nn.Module)


class NodeSettings(Protocol):
    """What a record of settings says of the training of a network of nodes; see `PIGNSettings`."""

    @property
    def epochs(self) -> int:
        """Full-graph steps of Adam."""

    @property
    def learning_rate(self) -> float:
        """Of Adam."""

    @property
    def weight_decay(self) -> float:
        """Of Adam."""

    @property
    def select_every(self) -> int:
        """Epochs between two looks at the validation set, or 0."""


@dataclass(frozen=True, eq=False)
class Trained(Generic[Network]):
    """A trained network in eval mode, and how well it does.

    Attributes:
        model: the network.
        settings: it was trained with.
        seed: of its initialisation and dropout.
        accuracy: part of the nodes classified correctly, under "train", "validation" and "test".
        loss: training loss of each epoch.
    """

    model: Network
    settings: Any
    seed: int
    accuracy: dict[str, float]
    loss: tuple[float, ...]


TrainedPIGN = Trained[PIGN]


def train_pign(
    data: Data,
    settings: PIGNSettings | None = None,
    *,
    seed: int = 0,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
    solver: Solver | None = None,
    tolerance: Tolerance | None = None,
) -> TrainedPIGN:
    """Train a PIGN on one graph.

    With a checkpoint file the training continues where the file says, and the result is the same as without
    an interruption.

    Args:
        data: `x`, `edge_index`, `y`, `train_mask`, `val_mask`, `test_mask`, as `digits_graph` returns.
        settings: of model and training.
        seed: of initialisation and dropout; torch's global generator is left alone.
        checkpoint: a file to resume from where it exists, rewritten (atomically) every few epochs.
        progress: called after each epoch.
        solver: of the equilibrium, as for `PIGN`.
        tolerance: of the equilibrium, as for `PIGN`.

    Returns:
        Trained: in eval mode.

    Raises:
        InputError: the data lack a part, or the checkpoint belongs to other settings, seed or data.
        ModelFileError: the checkpoint is damaged.
        ConvergenceError: an equilibrium was not reached.
    """
    chosen = settings or PIGNSettings()

    def build(features: int, classes: int) -> PIGN:
        return PIGN(
            features,
            classes,
            operator=chosen.operator,
            channels=chosen.channels,
            limit=chosen.limit,
            steps=chosen.steps,
            smoothing=chosen.smoothing,
            dropout=chosen.dropout,
            solver=solver,
            tolerance=tolerance,
        )

    return NodeTask(data, build, chosen, seed, chosen.parts).result(checkpoint, progress)


def train_gcn(
    data: Data,
    settings: PIGNSettings,
    *,
    seed: int = 0,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> Trained[GCN]:
    """Train the baseline `GCN` in the same way; `operator`, `limit`, `steps` and `smoothing` do not matter."""

    def build(features: int, classes: int) -> GCN:
        return GCN(features, classes, channels=settings.channels, dropout=settings.dropout)

    return NodeTask(data, build, settings, seed, settings.parts).result(checkpoint, progress)


def accuracies(scores: Tensor, data: Data) -> dict[str, float]:
    """Part of the nodes classified correctly by their scores in the training, validation and test set."""
    right = (scores.argmax(dim=1) == data.y).double()
    masks = {"train": data.train_mask, "validation": data.val_mask, "test": data.test_mask}
    return {name: float(right[mask].mean()) for name, mask in masks.items()}


class NodeTask(Task, Generic[Network]):
    """Steps on the full graph, one an epoch, or on its parts; then a PIGN's projection."""

    model: Network

    def __init__(
        self, data: Data, build: Callable[[int, int], Network], settings: NodeSettings, seed: int, parts: int = 1
    ) -> None:
        _check_data(data)
        self.data, self.settings, self.seed, self.parts = data, settings, seed, parts
        self.epochs, self.select_every = settings.epochs, settings.select_every
        self.x = data.x.to_sparse().coalesce() if _is_sparse(data.x) else data.x
        with seeded(seed):
            self.model = build(data.x.shape[1], int(data.y.max()) + 1)
        self.optimiser = torch.optim.Adam(
            self.model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )

    def losses(self) -> Iterator[Tensor]:
        """Cross-entropy on the labelled nodes."""
        if self.parts > 1:
            for x, edges, y, mask in subgraphs(self.data, self.x, self.parts):
                yield nn.functional.cross_entropy(self.model(x, edges)[mask], y[mask])
            return
        scores = self.model(self.x, self.data.edge_index)
        yield nn.functional.cross_entropy(scores[self.data.train_mask], self.data.y[self.data.train_mask])

    def after_step(self) -> None:
        """Keep the operator's weight within its limit."""
        if isinstance(self.model, PIGN):
            self.model.project_()

    def validation(self) -> tuple[float, ...]:
        """Accuracy first, then cross-entropy."""
        scores, mask = self._scores(), self.data.val_mask
        entropy = float(nn.functional.cross_entropy(scores[mask], self.data.y[mask]))
        return accuracies(scores, self.data)["validation"], -entropy

    def identity(self) -> dict[str, Any]:
        """Network, settings, seed and data."""
        names = ("x", "edge_index", "y", "train_mask", "val_mask")
        return {
            "network": type(self.model).__name__,
            "settings": asdict(self.settings),  # type: ignore[call-overload]
            "seed": self.seed,
            "data": [tensor_digest(self.data[name]) for name in names],
        }

    def result(self, checkpoint: Path | None, progress: Progress | None) -> Trained[Network]:
        """Train to the end and score."""
        loss = fit(self, checkpoint, progress)
        return Trained(self.model, self.settings, self.seed, accuracies(self._scores(), self.data), loss)

    def _scores(self) -> Tensor:
        model = self.model.eval()
        with torch.no_grad():
            scores: Tensor = model(self.x, self.data.edge_index)
        return scores


def _is_sparse(x: Tensor) -> bool:
    """Bag-of-words features: a sparse product is then many times faster."""
    return x.numel() > 100_000 and float((x != 0).double().mean()) < 0.05


def _check_data(data: Data) -> None:
    for name in ("x", "edge_index", "y", "train_mask", "val_mask", "test_mask"):
        if not isinstance(data.get(name), Tensor):
            raise InputError(f"data: it has no tensor {name!r}; pass a graph as digits_graph() returns")
    if not bool(data.x.isfinite().all()):
        raise InputError("data: x holds NaN or infinity; clean it")
