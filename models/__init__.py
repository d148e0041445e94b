"""Equilibrium models that can be certified, and the data they are trained on."""

from __future__ import annotations

from ._autoregressive import CharacterModel, Decoding, decode_sequentially, decoder, gumbel_noise
from ._autoregressive_training import AutoregressiveSettings, TrainedDecoder, sweeps, train_autoregressive
from ._curve import by_iteration
from ._digits import digits_graph
from ._fit import Progress, Task, fit, seeded
from ._gcn import GCN
from ._pign import PIGN, project_spectral_norm_
from ._planetoid import planetoid_graph
from ._recipe import Example, Outcome, Recipe
from ._recipes import RECIPES
from ._train import CITATION, DIGITS, PIGNSettings, Trained, TrainedPIGN, accuracies, train_gcn, train_pign

__all__ = [
    "CITATION",
    "DIGITS",
    "GCN",
    "PIGN",
    "RECIPES",
    "AutoregressiveSettings",
    "CharacterModel",
    "Decoding",
    "Example",
    "Outcome",
    "PIGNSettings",
    "Progress",
    "Recipe",
    "Task",
    "Trained",
    "TrainedDecoder",
    "TrainedPIGN",
    "accuracies",
    "by_iteration",
    "decode_sequentially",
    "decoder",
    "digits_graph",
    "fit",
    "gumbel_noise",
    "planetoid_graph",
    "project_spectral_norm_",
    "seeded",
    "sweeps",
    "train_autoregressive",
    "train_gcn",
    "train_pign",
]
