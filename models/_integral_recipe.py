"""`deqops train integral`: neural integral equations on equations with known solutions and on trajectories."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from ._fit import Progress
from ._integral import NIE
from ._integral_data import FunctionPairs, burgers_functions, flow_functions, fredholm_functions, volterra_functions
from ._integral_training import (
    FREDHOLM,
    TRAJECTORIES,
    VOLTERRA,
    IntegralSettings,
    TrainedIntegral,
    errors_by_iteration,
    train_integral,
)
from ._recipe import Example, Recipe


@dataclass(frozen=True)
class FredholmData:
    """See `deqops.models.fredholm_functions`."""

    count: int = 1000
    panels: int = 8
    scale: float = 0.9


@dataclass(frozen=True)
class VolterraData:
    """See `deqops.models.volterra_functions`."""

    count: int = 1000
    panels: int = 16
    scale: float = 3.0


@dataclass(frozen=True)
class BurgersData:
    """See `deqops.models.burgers_functions`."""

    training: int = 900
    validation: int = 100


@dataclass(frozen=True)
class FlowData:
    """See `deqops.models.flow_functions`."""

    count: int = 400
    size: int = 8
    frames: int = 8
    interval: float = 0.5
    viscosity: float = 2e-2


class IntegralRecipe(Recipe):
    """NIE, measured by the relative error of its functions."""

    name = "integral"
    datasets: ClassVar[Mapping[str, tuple[Any, Any]]] = {
        "fredholm": (FREDHOLM, FredholmData()),
        "volterra": (VOLTERRA, VolterraData()),
        "burgers": (TRAJECTORIES, BurgersData()),
        "navier-stokes": (TRAJECTORIES, FlowData()),
    }

    def load(self, dataset: str, settings: Any, root: Path, seed: int) -> FunctionPairs:
        """The pairs; Burgers' trajectories lie below `root`, the others are computed."""
        if dataset == "burgers":
            return burgers_functions(root, **asdict(settings))
        if dataset == "navier-stokes":
            return flow_functions(seed=seed, **asdict(settings))
        make = fredholm_functions if dataset == "fredholm" else volterra_functions
        return make(seed=seed, **asdict(settings))

    def train(
        self,
        data: FunctionPairs,
        settings: IntegralSettings,
        *,
        seed: int = 0,
        checkpoint: Path | None = None,
        progress: Progress | None = None,
    ) -> TrainedIntegral[NIE]:
        """As `train_integral`."""
        return train_integral(data, settings, seed=seed, checkpoint=checkpoint, progress=progress)

    def example(self, trained: TrainedIntegral[NIE], data: FunctionPairs) -> Example:
        """The operator for the first test pair, from zeros."""
        x = data.part("test")[0][:1]
        return Example(trained.model.operator, trained.model.layer.initial_state(x), (x,), batch_dims=1)

    def metrics(self, trained: TrainedIntegral[NIE], data: FunctionPairs) -> dict[str, Any]:
        """Relative errors, also against the number of iterations."""
        # Not under the names of splits alone: reports draw those as accuracies.
        renamed = {"train": "train_error", "validation": "validation_error", "test": "test_error"}
        rows = [
            {renamed.get(name, name): value for name, value in row.items()}
            for row in errors_by_iteration(trained.model, data)
        ]
        return {"error": trained.error, "by_iteration": rows}

    def headline(self, metrics: Mapping[str, Any]) -> str:
        """Test error."""
        return f"relative test error {metrics['error']['test']:.2%}"
