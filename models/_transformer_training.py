"""Training the field transformer, and `deqops train transformer`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from deqops._errors import InputError
from deqops._fingerprint import tensor_digest
from deqops.verify.contractive import jacobian_penalty_estimate

from ._fit import Progress, Task, fit, seeded
from ._navier_stokes import navier_stokes
from ._recipe import Example, Recipe
from ._transformer import FieldTransformer


@dataclass(frozen=True)
class TransformerSettings:
    """How a field transformer is built and trained.

    Args:
        epochs: over all training pairs; the learning rate falls to 0 along a cosine.
        batch: pairs of a step.
        width: of a patch's state.
        heads: of attention.
        patch: side of a patch.
        steps: as for `FieldTransformer`.
        smoothing: as for `FieldTransformer`.
        tied: 1, or 0 for blocks of their own in each step.
        penalty: times the mean square of the Jacobian's entries at the equilibrium (steps = 0), in the loss.
        learning_rate: of Adam, at its largest.
    """

    epochs: int = 30
    batch: int = 32
    width: int = 32
    heads: int = 4
    patch: int = 4
    steps: int = 0
    smoothing: float = 1.0
    tied: int = 1
    penalty: float = 0.1
    learning_rate: float = 3e-3

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "width", "heads", "patch"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: got {getattr(self, name)}; choose at least 1")
        if self.width % self.heads:
            raise InputError(f"heads: got {self.heads}; choose a divisor of width={self.width}")
        if self.steps < 0 or (self.steps == 0 and not self.tied):
            raise InputError(
                f"steps: got {self.steps}; choose a number of steps, or 0 for the equilibrium of tied blocks"
            )
        if not 0 < self.smoothing <= 1:
            raise InputError(f"smoothing: got {self.smoothing}; choose a factor above 0 and at most 1")
        if not 0 < self.learning_rate < math.inf or not 0 <= self.penalty < math.inf:
            raise InputError("learning_rate must be positive and penalty not negative; change them")


@dataclass(frozen=True)
class FlowSettings:
    """Which Navier-Stokes flows are simulated; see `deqops.models.navier_stokes`.

    Args:
        trajectories: in all; a fifth is for tests.
        side: of the fields.
        viscosity: of the flow.
        horizon: time between the two fields of a pair.
        pairs: of one trajectory, one after the other.
    """

    trajectories: int = 300
    side: int = 16
    viscosity: float = 1e-3
    horizon: float = 0.5
    pairs: int = 8

    def __post_init__(self) -> None:
        if self.trajectories < 5:
            raise InputError(f"trajectories: got {self.trajectories}; choose at least 5")
        if self.pairs < 1:
            raise InputError(f"pairs: got {self.pairs}; choose at least 1")
        if not self.horizon > 0:
            raise InputError(f"horizon: got {self.horizon}; choose a positive time")


class Flows(NamedTuple):
    """Pairs of fields (pairs, side, side), the later one `horizon` after the earlier; scaled to unit mean square."""

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def flows_of(settings: FlowSettings) -> Flows:
    """Flows from random fields, the same whenever they are simulated, on a grid twice as fine as what is kept."""
    frames = navier_stokes(
        settings.trajectories,
        size=2 * settings.side,
        frames=settings.pairs,
        interval=settings.horizon,
        viscosity=settings.viscosity,
        modes=min(5, settings.side - 1),
    )[:, :, ::2, ::2]
    frames = (frames / frames.square().mean().sqrt()).contiguous()
    kept = settings.trajectories // 5
    return Flows(_pairs(frames[kept:]), _pairs(frames[:kept]))


def _pairs(frames: Tensor) -> tuple[Tensor, Tensor]:
    """Consecutive frames of all trajectories."""
    return frames[:, :-1].flatten(0, 1), frames[:, 1:].flatten(0, 1)


@dataclass(frozen=True, eq=False)
class TrainedTransformer:
    """A trained field transformer.

    Attributes:
        model: in eval mode.
        settings: it was trained with.
        loss: mean of each epoch.
        error: relative l2 error on test pairs, mean over the pairs.
    """

    model: FieldTransformer
    settings: TransformerSettings
    loss: tuple[float, ...]
    error: float


class _Training(Task):
    """Relative l2 error of the later field; a batch whose equilibrium is not found counts with the state reached."""

    model: FieldTransformer

    def __init__(self, flows: Flows, settings: TransformerSettings, seed: int) -> None:
        self.flows, self.settings, self.seed, self.epochs = flows, settings, seed, settings.epochs
        side = flows.train[0].shape[-1]
        if side % settings.patch:
            raise InputError(f"patch: got {settings.patch}; choose a divisor of side={side}")
        with seeded(seed):
            self.model = FieldTransformer(
                side,
                settings.patch,
                settings.width,
                settings.heads,
                steps=settings.steps,
                smoothing=settings.smoothing,
                tied=bool(settings.tied),
            )
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=settings.learning_rate)

    def losses(self) -> Iterator[Tensor]:
        """One pass over the training pairs in a new order."""
        earlier, later = self.flows.train
        for rows in torch.split(torch.randperm(len(earlier)), self.settings.batch):
            field, target = symmetric(earlier[rows], later[rows])
            state = self.model.state(field)
            loss = relative_errors(self.model.read(field, state), target).mean()
            if self.settings.penalty and self.settings.steps == 0:
                loss = loss + self.settings.penalty * jacobian_penalty_estimate(self.model.operator, state, field)
            yield loss

    def rate(self, part: float) -> float:
        """Half a cosine, from 1 to 0."""
        return 0.5 * (1 + math.cos(math.pi * part))

    def identity(self) -> dict[str, Any]:
        """Settings, seed and data."""
        return {
            "settings": asdict(self.settings),
            "seed": self.seed,
            "data": [tensor_digest(field) for field in self.flows.train],
        }


def symmetric(earlier: Tensor, later: Tensor) -> tuple[Tensor, Tensor]:
    """Another flow for each batch of pairs: shifted on the torus, perhaps reflected, where vorticity changes sign."""
    side = earlier.shape[-1]
    across, along, reflected = (int(number) for number in torch.randint(side, (3,)))
    pairs = [torch.roll(field, (across, along), dims=(1, 2)) for field in (earlier, later)]
    return (-pairs[0].mT, -pairs[1].mT) if reflected % 2 else (pairs[0], pairs[1])


def relative_errors(found: Tensor, truth: Tensor) -> Tensor:
    """`||found - truth|| / ||truth||` of each field, (batch,)."""
    errors: Tensor = (found - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)
    return errors


def train_transformer(
    flows: Flows,
    settings: TransformerSettings | None = None,
    *,
    seed: int = 0,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> TrainedTransformer:
    """Train a field transformer on pairs of fields.

    Raises:
        InputError: the patch does not divide the field, or the checkpoint belongs to another run.
        ModelFileError: the checkpoint is damaged.
        ConvergenceError: an equilibrium was not reached.
    """
    chosen = settings or TransformerSettings()
    task = _Training(flows, chosen, seed)
    loss = fit(task, checkpoint, progress)
    earlier, later = flows.test
    with torch.no_grad():
        error = float(relative_errors(task.model(earlier), later).double().mean())
    return TrainedTransformer(task.model, chosen, loss, error)


def error_by_iteration(model: FieldTransformer, flows: Flows, iterations: int = 30) -> list[dict[str, float]]:
    """Relative test error and residual after 0 to `iterations` steps from `Z = f(X)`."""
    earlier, later = flows.test
    rows = []
    with torch.no_grad():
        image_of = model.operator.at_inputs(earlier)
        for count, state in enumerate(model.iterates(earlier)):
            error = float(relative_errors(model.read(earlier, state), later).double().mean())
            residual = float((image_of(state) - state).double().flatten(1).norm(dim=1).mean())
            rows.append({"iteration": count, "error": error, "residual": residual})
            if count == iterations:
                return rows
    return rows


class TransformerRecipe(Recipe):
    """A field transformer, measured by the relative l2 error of the later field."""

    name = "transformer"
    datasets: ClassVar[Mapping[str, tuple[Any, Any]]] = {"navier-stokes": (TransformerSettings(), FlowSettings())}

    def load(self, dataset: str, settings: FlowSettings, root: Path, seed: int) -> Flows:
        """Simulated flows; the seed is of training only, so that all seeds see the same flows."""
        return flows_of(settings)

    def train(
        self,
        data: Flows,
        settings: TransformerSettings,
        *,
        seed: int = 0,
        checkpoint: Path | None = None,
        progress: Progress | None = None,
    ) -> TrainedTransformer:
        """As `train_transformer`."""
        return train_transformer(data, settings, seed=seed, checkpoint=checkpoint, progress=progress)

    def example(self, trained: TrainedTransformer, data: Flows) -> Example:
        """The operator at one test field, from zeros."""
        field = data.test[0][:1]
        return Example(trained.model.operator, trained.model.layer.initial_state(field), (field,), batch_dims=1)

    def metrics(self, trained: TrainedTransformer, data: Flows) -> dict[str, Any]:
        """Errors, also against the number of iterations, and that of predicting no change."""
        earlier, later = data.test
        unchanged = float(relative_errors(earlier, later).double().mean())
        return {
            "error": trained.error,
            "error_unchanged": unchanged,
            "by_iteration": error_by_iteration(trained.model, data),
        }

    def headline(self, metrics: Mapping[str, Any]) -> str:
        """Relative error."""
        return f"relative test error {metrics['error']:.1%} ({metrics['error_unchanged']:.1%} for no change)"
