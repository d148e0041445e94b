"""Training neural integral equations and their baseline, deterministic given the seed, and resumable."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from deqops import Solver, Tolerance
from deqops._errors import InputError
from deqops._fingerprint import tensor_digest

from ._fit import Progress, Task, fit, seeded
from ._integral import NIE, PlainOperator, check_options
from ._integral_data import FunctionPairs


@dataclass(frozen=True)
class IntegralSettings:
    """How a neural integral equation is built and trained.

    Args:
        epochs: passes over the training pairs.
        equation: "fredholm" or "volterra" (strictly causal).
        kernel: "network" or "attention", as for `NIE`.
        channels: columns of the state.
        hidden: of kernel or attention.
        width: of the networks of the times.
        heads: of the attention.
        reach: on a grid of places, as for `NIE`.
        constant: of the kernel network, as for `NIE`.
        steps: 0 trains through the equilibrium; n > 0 through n applications (a baseline).
        learning_rate: of Adam, at the start; it falls to 0 along a cosine.
        batch: pairs a step.
        select_every: 0 keeps the weights of the last epoch; n > 0 the best on the validation pairs among every n-th.
    """

    epochs: int = 25
    equation: str = "fredholm"
    kernel: str = "network"
    channels: int = 4
    hidden: int = 32
    width: int = 16
    heads: int = 2
    reach: int = 2
    constant: float = 0.95
    steps: int = 0
    learning_rate: float = 1e-2
    batch: int = 25
    select_every: int = 1

    def __post_init__(self) -> None:
        for name, value in (("epochs", self.epochs), ("batch", self.batch)):
            if value < 1:
                raise InputError(f"{name}: got {value}; choose at least 1")
        if self.equation not in ("fredholm", "volterra"):
            raise InputError(f"equation: got {self.equation!r}; choose fredholm or volterra")
        if not 0 < self.learning_rate < math.inf:
            raise InputError(f"learning_rate: got {self.learning_rate}; choose a positive number")
        if self.select_every < 0:
            raise InputError(f"select_every: got {self.select_every}; choose 0, or a number of epochs")
        check_options(
            self.kernel,
            self.channels,
            self.hidden,
            self.width,
            self.heads,
            self.reach,
            self.constant,
            self.steps,
        )


FREDHOLM = IntegralSettings()
"""Settings for `fredholm_functions`."""

VOLTERRA = IntegralSettings(equation="volterra", constant=math.inf)
"""Settings for `volterra_functions`: T8 asks for no constant."""

TRAJECTORIES = IntegralSettings(epochs=12, equation="volterra", constant=math.inf)
"""Settings for `burgers_functions` and `flow_functions`."""

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class TrainedIntegral(Generic[Network]):
    """A trained network in eval mode, and how well it does.

    Attributes:
        model: the network.
        settings: it was trained with.
        seed: of its initialisation and of the order of the pairs.
        error: `relative_error` under "train", "validation" and "test".
        loss: training loss of each epoch.
    """

    model: Network
    settings: IntegralSettings
    seed: int
    error: dict[str, float]
    loss: tuple[float, ...]


def train_integral(
    data: FunctionPairs,
    settings: IntegralSettings | None = None,
    *,
    seed: int = 0,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
    solver: Solver | None = None,
    tolerance: Tolerance | None = None,
) -> TrainedIntegral[NIE]:
    """Train an NIE on pairs of functions.

    Args:
        data: the pairs.
        settings: of model and training; None: `FREDHOLM`.
        seed: of initialisation and order; torch's global generator is left alone.
        checkpoint: a file to resume from where it exists, rewritten (atomically) every few epochs.
        progress: called after each epoch.
        solver: of the equilibrium, as for `NIE`.
        tolerance: of the equilibrium, as for `NIE`.

    Raises:
        InputError: the settings do not fit the data, or the checkpoint belongs to another run.
        ModelFileError: the checkpoint is damaged.
        ConvergenceError: an equilibrium was not reached.
    """
    chosen = settings or FREDHOLM

    def build(inputs: int, outputs: int) -> NIE:
        return NIE(
            inputs,
            outputs,
            data.rule(chosen.equation),
            grid=data.grid,
            reach=chosen.reach,
            kernel=chosen.kernel,
            channels=chosen.channels,
            hidden=chosen.hidden,
            width=chosen.width,
            heads=chosen.heads,
            constant=chosen.constant,
            steps=chosen.steps,
            solver=solver,
            tolerance=tolerance,
        )

    return _Training(data, build, chosen, seed).result(checkpoint, progress)


def train_plain(
    data: FunctionPairs,
    settings: IntegralSettings,
    *,
    seed: int = 0,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> TrainedIntegral[PlainOperator]:
    """Train the baseline `PlainOperator` in the same way, with at most as many weights as an NIE of these settings."""

    def build(inputs: int, outputs: int) -> PlainOperator:
        rule = data.rule("fredholm")
        sizes = {name: getattr(settings, name) for name in ("kernel", "channels", "hidden", "width", "heads", "reach")}
        with torch.random.fork_rng(devices=[]):
            weights = count_weights(NIE(inputs, outputs, rule, grid=data.grid, **sizes))
        return PlainOperator(inputs, outputs, data.x.shape[1], rule, weights, data.grid)

    return _Training(data, build, settings, seed).result(checkpoint, progress)


def count_weights(model: nn.Module) -> int:
    """Numbers that are trained."""
    return sum(p.numel() for p in model.parameters())


def relative_error(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean over the pairs of `||found - wanted||_2 / ||wanted||_2`, norms over all points and columns."""
    missed, size = (torch.linalg.vector_norm(part.flatten(1), dim=1) for part in (found - wanted, wanted))
    mean: Tensor = (missed / size).mean()
    return mean


def errors_by_iteration(model: NIE, data: FunctionPairs, iterations: int = 30) -> list[dict[str, float]]:
    """Errors of the read-out after 0 to `iterations` applications from `y = E x`.

    Returns:
        list[dict[str, float]]: "iteration", "train", "validation", "test" (relative errors) and "residual", the mean
        over the test pairs of the l2 norm of `G(y) - y`, of the floating-point program.
    """
    model.eval()
    rows: list[dict[str, float]] = [{"iteration": count} for count in range(iterations + 1)]
    with torch.no_grad():
        for name in ("train", "validation", "test"):
            x, y = data.part(name)
            states = list(islice(model.iterates(x), iterations + 2))
            for row, state, image in zip(rows, states, states[1:], strict=False):
                row[name] = float(relative_error(model.readout(state), y))
                row["residual"] = float((image - state).double().flatten(1).norm(dim=1).mean())
    return rows


class _Training(Task, Generic[Network]):
    """Relative errors of batches in random order."""

    model: Network

    def __init__(
        self, data: FunctionPairs, build: Callable[[int, int], Network], settings: IntegralSettings, seed: int
    ) -> None:
        self.data, self.settings, self.seed = data, settings, seed
        self.epochs, self.select_every = settings.epochs, settings.select_every
        with seeded(seed):
            self.model = build(data.x.shape[-1], data.y.shape[-1])
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=settings.learning_rate)

    def losses(self) -> Iterator[Tensor]:
        """One pass."""
        x, y = self.data.part("train")
        for chosen in torch.randperm(len(x)).split(self.settings.batch):  # type: ignore[no-untyped-call]
            yield relative_error(self.model(x[chosen]), y[chosen])

    def rate(self, part: float) -> float:
        """A cosine."""
        return (1 + math.cos(math.pi * part)) / 2

    def validation(self) -> tuple[float, ...]:
        """Minus the error."""
        return (-self._error("validation"),)

    def identity(self) -> dict[str, Any]:
        """Network, settings, seed and data."""
        return {
            "network": type(self.model).__name__,
            "settings": asdict(self.settings),
            "seed": self.seed,
            "data": [tensor_digest(self.data.x), tensor_digest(self.data.y), self.data.training, self.data.validation],
        }

    def result(self, checkpoint: Path | None, progress: Progress | None) -> TrainedIntegral[Network]:
        """Train to the end and measure."""
        loss = fit(self, checkpoint, progress)
        error = {name: self._error(name) for name in ("train", "validation", "test")}
        return TrainedIntegral(self.model, self.settings, self.seed, error, loss)

    def _error(self, name: str) -> float:
        self.model.eval()
        x, y = self.data.part(name)
        with torch.no_grad():
            return float(relative_error(self.model(x), y))
