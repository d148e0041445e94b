"""What `train` and `demo` share: data, training, and the exported operator with its inputs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import click

from deqops._tensorfile import write_tensors
from deqops.models import RECIPES, Outcome, Progress, Recipe

from ._exit import writing
from ._progress import Advance, stage
from ._run_folder import RunFolder, claimed_folder
from ._settings import settings_named

MOST_SEED = 10**12
"""An epoch draws from a generator whose seed, of 64 bits, is a million times as large."""

runs_option = click.option(
    "--runs",
    type=click.Path(path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="The folder that holds the runs.",
)
seed_option = click.option("--seed", type=click.IntRange(0, MOST_SEED), default=0, show_default=True)
MODELS = tuple(RECIPES)


@dataclass(frozen=True)
class TrainingRun:
    """A run asked for on the command line."""

    model: str
    dataset: str
    seed: int
    settings: Any
    data: Any

    @property
    def recipe(self) -> Recipe:
        """The model's."""
        return RECIPES[self.model]

    def folder(self, runs: Path, name: str) -> AbstractContextManager[RunFolder]:
        """The run's own folder, for the time of a block."""
        return claimed_folder(runs, name, asdict(self))

    def load(self, root: Path) -> Any:
        """The data, from `root` where the data set does not ship with a dependency."""
        names = {field.name for field in fields(self.data)}
        with stage(f"loading {self.dataset}"), settings_named(names):
            return self.recipe.load(self.dataset, self.data, root, self.seed)

    def train(self, data: Any, folder: RunFolder) -> Outcome:
        """Train, or resume from the folder's checkpoint."""
        with stage(f"training {self.model}") as advance, one_thread(), writing(folder.checkpoint):
            return self.recipe.train(
                data, self.settings, seed=self.seed, checkpoint=folder.checkpoint, progress=epochs(advance)
            )

    def export(self, trained: Outcome, data: Any, folder: RunFolder) -> None:
        """Write the operator and its inputs into the run's folder."""
        from deqops import export

        operator, state, inputs, batch_dims = self.recipe.example(trained, data)
        with stage("exporting"):
            with writing(folder.model):
                export(folder.model, operator, state, *inputs, batch_dims=batch_dims)
            with writing(folder.inputs):
                write_tensors(folder.inputs, state, inputs)

    def metrics(self, trained: Outcome, data: Any) -> dict[str, Any]:
        """What the recipe measures, and the training loss."""
        with stage("measuring"), one_thread():
            measured = self.recipe.metrics(trained, data)
        return {**measured, "loss": trained.loss[-1], "epochs": len(trained.loss)}


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


def epochs(advance: Advance) -> Progress:
    """Moves a bar after each epoch."""
    return lambda done, total, loss: advance(done, total, f"epoch {done}/{total}, loss {loss:.3f}")
