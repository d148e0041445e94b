"""Equilibrium models that can be certified, and the data they are trained on."""

from __future__ import annotations

from ._autoregressive import CharacterModel, Decoding, decode_sequentially, decoder, gumbel_noise
from ._autoregressive_training import AutoregressiveSettings, TrainedDecoder, sweeps, train_autoregressive
from ._backbones import Chain, synthetic_chains
from ._corrupted import Corruption, Crops, corrupted
from ._curve import by_iteration
from ._digits import digits_graph
from ._fit import Progress, Task, fit, seeded
from ._gcn import GCN
from ._pign import PIGN, project_spectral_norm_
from ._planetoid import planetoid_graph
from ._protein_files import structure_chains, table_chains
from ._recipe import Example, Outcome, Recipe
from ._recipes import RECIPES
from ._recycling import Recycler, Trunk
from ._recycling_training import (
    ProteinData,
    RecyclingSettings,
    TrainedRecycler,
    by_recycle,
    protein_data,
    train_recycler,
)
from ._structure_metrics import lddt, rmsd
from ._train import CITATION, DIGITS, PIGNSettings, Trained, TrainedPIGN, accuracies, train_gcn, train_pign

__all__ = [
    "CITATION",
    "DIGITS",
    "GCN",
    "PIGN",
    "RECIPES",
    "AutoregressiveSettings",
    "Chain",
    "CharacterModel",
    "Corruption",
    "Crops",
    "Decoding",
    "Example",
    "Outcome",
    "PIGNSettings",
    "Progress",
    "ProteinData",
    "Recipe",
    "Recycler",
    "RecyclingSettings",
    "Task",
    "Trained",
    "TrainedDecoder",
    "TrainedPIGN",
    "TrainedRecycler",
    "Trunk",
    "accuracies",
    "by_iteration",
    "by_recycle",
    "corrupted",
    "decode_sequentially",
    "decoder",
    "digits_graph",
    "fit",
    "gumbel_noise",
    "lddt",
    "planetoid_graph",
    "project_spectral_norm_",
    "protein_data",
    "rmsd",
    "seeded",
    "structure_chains",
    "sweeps",
    "synthetic_chains",
    "table_chains",
    "train_autoregressive",
    "train_gcn",
    "train_pign",
    "train_recycler",
]
