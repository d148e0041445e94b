"""Training any model: deterministic given the seed, resumable bit for bit, careful with what it keeps."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deqops._errors import InputError, ModelFileError

from ._checkpoint import read_checkpoint, write_checkpoint

Progress = Callable[[int, int, float], None]
"""Called after each epoch with the epochs done, the epochs in all and the mean training loss."""

CHECKPOINT_EVERY = 5
"""Epochs between two checkpoints,"""
CHECKPOINT_SECONDS = 20.0
"""or fewer where they take long."""


class Task(ABC):
    """What `fit` trains: a model, its losses, and how good it is.

    A subclass sets `model` and `optimiser` in its constructor (under `seeded(seed)`, so that the global generator
    is left alone) and says the rest.

    Attributes:
        model: the network; `fit` puts it into train mode before an epoch, `validation` may put it into eval mode.
        optimiser: of its weights.
        epochs: to train, at least 1.
        seed: of initialisation and of what an epoch draws from torch's global generator.
        select_every: 0 keeps the weights of the last epoch; n > 0 those of the best `validation` among every n-th.
    """

    model: nn.Module
    optimiser: torch.optim.Optimizer
    epochs: int
    seed: int
    select_every: int = 0

    @abstractmethod
    def losses(self) -> Iterator[Tensor]:
        """One epoch's losses; a step of the optimiser follows each."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What a checkpoint must agree with to belong to this run: plain numbers, strings, lists and dicts."""

    def after_step(self) -> None:  # noqa: B027  most tasks need none
        """What follows a step of the optimiser, as a projection."""

    def rate(self, part: float) -> float:
        """Factor of the learning rate after this part of the epochs, 0 <= part < 1."""
        return 1.0

    def validation(self) -> tuple[float, ...]:
        """How good the weights are, on data kept for that; larger is better, the first number first."""
        raise NotImplementedError


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """A block in which torch's global generator starts from `seed`; afterwards it is as before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def fit(task: Task, checkpoint: Path | None = None, progress: Progress | None = None) -> tuple[float, ...]:
    """Train a task's model to the end and leave it in eval mode, with the weights that are kept.

    With a checkpoint file the training continues where the file says, and the result is the same as without an
    interruption.

    Args:
        task: what is trained.
        checkpoint: a file to resume from where it exists, rewritten (atomically) every few epochs.
        progress: called after each epoch.

    Returns:
        tuple[float, ...]: the mean loss of each epoch.

    Raises:
        InputError: the loss is not finite, or the checkpoint belongs to another run.
        ModelFileError: the checkpoint is damaged.
        OSError: the checkpoint cannot be written.
    """
    return _Fit(task).run(checkpoint, progress)


class _Fit:
    """The state of a training run between epochs."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.rates = [group["lr"] for group in task.optimiser.param_groups]
        self.loss: list[float] = []
        self.best: dict[str, Any] = {}

    def run(self, checkpoint: Path | None, progress: Progress | None) -> tuple[float, ...]:
        if checkpoint is not None and checkpoint.exists():
            self._restore(read_checkpoint(checkpoint))
        epochs, written = self.task.epochs, time.monotonic()
        while len(self.loss) < epochs:
            self._advance()
            done = len(self.loss)
            due = done % CHECKPOINT_EVERY == 0 or done == epochs or time.monotonic() - written > CHECKPOINT_SECONDS
            if checkpoint is not None and due:
                write_checkpoint(checkpoint, self._saved())
                written = time.monotonic()
            if progress is not None:
                progress(done, epochs, self.loss[-1])
        if self.best:
            self.task.model.load_state_dict(self.best["model"])
        self.task.model.eval()
        return tuple(self.loss)

    def _advance(self) -> None:
        """One epoch, then perhaps a look at the validation data."""
        task, done = self.task, len(self.loss)
        factor = task.rate(done / task.epochs)
        for group, rate in zip(task.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        with seeded(1_000_003 * task.seed + done + 1):  # an epoch's own: a resumed run has it too
            task.model.train()
            losses = [self._step(loss) for loss in task.losses()]
        self.loss.append(sum(losses) / len(losses))
        every = task.select_every
        if every and (len(self.loss) % every == 0 or len(self.loss) == task.epochs):
            self._select()

    def _step(self, loss: Tensor) -> float:
        value = float(loss.detach())
        if not bool(loss.detach().isfinite()):
            raise InputError(
                f"settings: the loss is {value} after {len(self.loss)} epochs; choose a smaller learning_rate"
            )
        self.task.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.task.optimiser.step()
        self.task.after_step()
        return value

    def _select(self) -> None:
        """Keep the weights if none before did better on the validation data."""
        value = list(self.task.validation())
        if not self.best or value > self.best["value"]:
            weights = {name: tensor.clone() for name, tensor in self.task.model.state_dict().items()}
            self.best = {"value": value, "model": weights}

    def _saved(self) -> dict[str, Any]:
        """What a checkpoint holds: plain numbers, strings and tensors."""
        return {
            "identity": self.task.identity(),
            "loss": list(self.loss),
            "model": self.task.model.state_dict(),
            "optimiser": self.task.optimiser.state_dict(),
            "best": self.best,
        }

    def _restore(self, saved: dict[str, Any]) -> None:
        """Continue from a checkpoint of the same run."""
        task = self.task
        if saved["identity"] != task.identity():
            raise InputError("checkpoint: it belongs to other settings, seed or data; remove it or choose another name")
        loss, best = saved["loss"], saved["best"]
        try:
            if best:
                task.model.load_state_dict(best["model"])
                [float(value) for value in best["value"]]
            task.model.load_state_dict(saved["model"])
            task.optimiser.load_state_dict(saved["optimiser"])
            self.loss, self.best = [float(value) for value in loss], dict(best)
        except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ModelFileError("checkpoint: it does not fit this run; remove it to train from the start") from error
