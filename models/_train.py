"""Training a PIGN through its equilibrium, deterministic given the seed, and resumable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from deqops._errors import InputError
from deqops._fingerprint import tensor_digest

from ._checkpoint import read_checkpoint, write_checkpoint
from ._pign import PIGN

if TYPE_CHECKING:
    from torch_geometric.data import Data

    from deqops import Solver, Tolerance

Progress = Callable[[int, int, float], None]
"""Called after each epoch with the epochs done, the epochs in all and the training loss."""

CHECKPOINT_EVERY = 5
"""Epochs between two checkpoints."""


@dataclass(frozen=True)
class PIGNSettings:
    """How a PIGN is built and trained.

    Args:
        epochs: full-graph steps of Adam.
        channels: columns of the state.
        limit: target for `||W||_2`, by projection after every step.
        steps: 0 trains through the equilibrium; n > 0 through n applications of the operator (a baseline).
        learning_rate: of Adam.
        weight_decay: of Adam.
        dropout: part of the features, and of the state before the read-out, dropped in training. Both lie
            outside the operator, which stays one deterministic map.
    """

    epochs: int = 80
    channels: int = 32
    limit: float = 0.9
    steps: int = 0
    learning_rate: float = 1e-2
    weight_decay: float = 5e-3
    dropout: float = 0.5

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise InputError(f"epochs: got {self.epochs}; choose at least 1")
        if not self.learning_rate > 0 or not self.weight_decay >= 0:
            raise InputError("learning_rate must be positive and weight_decay not negative; change them")
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout: got {self.dropout}; choose a part in [0, 1)")


@dataclass(frozen=True, eq=False)
class TrainedPIGN:
    """A trained network in eval mode, and how well it does.

    Attributes:
        model: the network.
        settings: it was trained with.
        seed: of its initialisation and dropout.
        accuracy: part of the images classified correctly, under "train", "validation" and "test".
        loss: training loss of each epoch.
    """

    model: PIGN
    settings: PIGNSettings
    seed: int
    accuracy: dict[str, float]
    loss: tuple[float, ...]


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
        TrainedPIGN: in eval mode.

    Raises:
        InputError: the data lack a part, or the checkpoint belongs to other settings, seed or data.
        ModelFileError: the checkpoint is damaged.
        ConvergenceError: an equilibrium was not reached.
    """
    training = _Training(data, settings or PIGNSettings(), seed, solver, tolerance)
    if checkpoint is not None and checkpoint.exists():
        training.restore(read_checkpoint(checkpoint))
    while len(training.loss) < training.settings.epochs:
        training.advance()
        done = len(training.loss)
        if checkpoint is not None and (done % CHECKPOINT_EVERY == 0 or done == training.settings.epochs):
            write_checkpoint(checkpoint, training.saved())
        if progress is not None:
            progress(done, training.settings.epochs, training.loss[-1])
    return training.result()


def accuracies(model: PIGN, data: Data) -> dict[str, float]:
    """Part of the nodes classified correctly in the training, validation and test set."""
    model.eval()
    with torch.no_grad():
        right = (model(data.x, data.edge_index).argmax(dim=1) == data.y).double()
    masks = {"train": data.train_mask, "validation": data.val_mask, "test": data.test_mask}
    return {name: float(right[mask].mean()) for name, mask in masks.items()}


class _Training:
    """The state of a training run between epochs."""

    def __init__(
        self,
        data: Data,
        settings: PIGNSettings,
        seed: int,
        solver: Solver | None,
        tolerance: Tolerance | None,
    ) -> None:
        _check_data(data)
        self.data, self.settings, self.seed = data, settings, seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = PIGN(
                data.x.shape[1],
                int(data.y.max()) + 1,
                channels=settings.channels,
                limit=settings.limit,
                steps=settings.steps,
                solver=solver,
                tolerance=tolerance,
            )
        self.generator = torch.Generator().manual_seed(seed)
        self.optimiser = torch.optim.Adam(
            self.model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.loss: list[float] = []

    def advance(self) -> None:
        """One epoch: one full-graph step, then the projection."""
        data, model = self.data, self.model.train()
        state = model.state(self._dropped(data.x), data.edge_index)
        scores = model.readout(self._dropped(state))
        loss = nn.functional.cross_entropy(scores[data.train_mask], data.y[data.train_mask])
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        model.project_()
        self.loss.append(float(loss.detach()))

    def _dropped(self, values: Tensor) -> Tensor:
        """Inverted dropout drawn from the run's own generator, which a checkpoint can save."""
        keep = 1 - self.settings.dropout
        mask = torch.rand(values.shape, generator=self.generator) < keep
        return values * mask.to(values) / keep

    def saved(self) -> dict[str, Any]:
        """What a checkpoint holds: plain numbers, strings and tensors."""
        return {
            "identity": self._identity(),
            "loss": list(self.loss),
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Continue from a checkpoint of the same run."""
        if saved["identity"] != self._identity():
            raise InputError("checkpoint: it belongs to other settings, seed or data; remove it or choose another name")
        self.model.load_state_dict(saved["model"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.generator.set_state(saved["generator"])
        self.loss = list(saved["loss"])

    def _identity(self) -> dict[str, Any]:
        names = ("x", "edge_index", "y", "train_mask")
        return {
            "settings": asdict(self.settings),
            "seed": self.seed,
            "data": [tensor_digest(self.data[name]) for name in names],
        }

    def result(self) -> TrainedPIGN:
        """The network with its accuracies."""
        model = self.model.eval()
        return TrainedPIGN(model, self.settings, self.seed, accuracies(model, self.data), tuple(self.loss))


def _check_data(data: Data) -> None:
    for name in ("x", "edge_index", "y", "train_mask", "val_mask", "test_mask"):
        if not isinstance(data.get(name), Tensor):
            raise InputError(f"data: it has no tensor {name!r}; pass a graph as digits_graph() returns")
    if not bool(data.x.isfinite().all()):
        raise InputError("data: x holds NaN or infinity; clean it")
