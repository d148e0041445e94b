"""Training an implicit graph neural network on one graph."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deqops._errors import InputError

from ._fit import Progress
from ._ignn import ImplicitGraphNetwork, check_ignn
from ._train import NodeTask, Trained

if TYPE_CHECKING:
    from torch_geometric.data import Data


@dataclass(frozen=True)
class ImplicitGraphSettings:
    """How an `ImplicitGraphNetwork` is built and trained.

    Args:
        epochs: full-graph steps of Adam.
        channels: columns of the state.
        hidden: of the encoder.
        rate: of the operator, in the weighted sup norm.
        norm: "perron" or "linf".
        steps: 0 trains through the equilibrium; n > 0 through n applications of the operator (a baseline).
        learning_rate: of Adam.
        weight_decay: of Adam.
        dropout: as for `ImplicitGraphNetwork`.
        select_every: as in `PIGNSettings`.
    """

    epochs: int = 100
    channels: int = 32
    hidden: int = 64
    rate: float = 0.95
    norm: str = "perron"
    steps: int = 0
    learning_rate: float = 1e-2
    weight_decay: float = 5e-4
    dropout: float = 0.5
    select_every: int = 5

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise InputError(f"epochs: got {self.epochs}; choose at least 1")
        if not 0 < self.learning_rate < math.inf or not 0 <= self.weight_decay < math.inf:
            raise InputError("learning_rate must be positive and weight_decay not negative; change them")
        if self.select_every < 0:
            raise InputError(f"select_every: got {self.select_every}; choose 0, or a number of epochs")
        check_ignn(self.channels, self.hidden, self.rate, self.norm, self.steps, self.dropout)


def train_ignn(
    data: Data,
    settings: ImplicitGraphSettings | None = None,
    *,
    seed: int = 0,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> Trained[ImplicitGraphNetwork]:
    """Train an `ImplicitGraphNetwork` on one graph; as `train_pign`."""
    chosen = settings or ImplicitGraphSettings()

    def build(features: int, classes: int) -> ImplicitGraphNetwork:
        return ImplicitGraphNetwork(
            features,
            classes,
            data.edge_index,
            data.x.shape[0],
            channels=chosen.channels,
            hidden=chosen.hidden,
            rate=chosen.rate,
            norm=chosen.norm,
            steps=chosen.steps,
            dropout=chosen.dropout,
        )

    return NodeTask(data, build, chosen, seed).result(checkpoint, progress)
