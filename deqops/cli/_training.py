"""What `train` and `demo` share: data, training, and the exported operator with its inputs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deqops._tensorfile import write_tensors
from deqops.models import PIGNSettings, TrainedPIGN, by_iteration, digits_graph, planetoid_graph, train_pign

from ._exit import writing
from ._progress import Advance, stage
from ._run_folder import RunFolder, claimed_folder
from ._settings import DataSettings

if TYPE_CHECKING:
    from torch_geometric.data import Data

runs_option = click.option(
    "--runs",
    type=click.Path(path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="The folder that holds the runs.",
)
seed_option = click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
MODELS = ("pign",)


@dataclass(frozen=True)
class TrainingRun:
    """A run asked for on the command line."""

    model: str
    dataset: str
    seed: int
    settings: PIGNSettings
    data: DataSettings

    def folder(self, runs: Path, name: str) -> AbstractContextManager[RunFolder]:
        """The run's own folder, for the time of a block."""
        return claimed_folder(runs, name, asdict(self))

    def load(self, root: Path) -> Data:
        """The data, from `root` where the data set does not ship with a dependency."""
        with stage(f"building the {self.dataset} graph"):
            if self.dataset == "digits":
                return digits_graph(**asdict(self.data))
            return planetoid_graph(self.dataset, root, seed=self.seed, **asdict(self.data))

    def train(self, data: Data, folder: RunFolder) -> TrainedPIGN:
        """Train, or resume from the folder's checkpoint."""
        with stage(f"training {self.model}") as advance, one_thread(), writing(folder.checkpoint):
            return train_pign(
                data, self.settings, seed=self.seed, checkpoint=folder.checkpoint, progress=_epochs(advance)
            )

    def baseline(self, data: Data) -> TrainedPIGN:
        """The same network and training without iteration: the operator applied once, to f(X)."""
        with stage("training the same network without iteration") as advance, one_thread():
            return train_pign(data, replace(self.settings, steps=1), seed=self.seed, progress=_epochs(advance))


def export_run(trained: TrainedPIGN, data: Data, folder: RunFolder) -> None:
    """Write the operator and its inputs into the run's folder."""
    from deqops import export

    model, inputs = trained.model, (data.x, data.edge_index)
    start = model.initial_state(*inputs)
    with stage("exporting"):
        with writing(folder.model):
            export(folder.model, model.operator, start, *inputs, batch_dims=0)
        with writing(folder.inputs):
            write_tensors(folder.inputs, start, inputs)


def training_metrics(trained: TrainedPIGN, data: Data) -> dict[str, Any]:
    """Accuracy, also against the number of iterations, and loss."""
    with stage("measuring"):
        curve = by_iteration(trained.model, data)
    return {
        "accuracy": trained.accuracy,
        "loss": trained.loss[-1],
        "epochs": len(trained.loss),
        "by_iteration": curve,
    }


@contextmanager
def one_thread() -> Iterator[None]:
    """Train on one thread: the tensors are small, so more threads mostly wait for each other."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _epochs(advance: Advance) -> Any:
    return lambda done, total, loss: advance(done, total, f"epoch {done}/{total}, loss {loss:.3f}")
