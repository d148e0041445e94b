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
from ._navier_stokes import navier_stokes, random_vorticity, vorticity_trajectories
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
from ._transformer import FieldTransformer
from ._transformer_training import (
    FlowSettings,
    TrainedTransformer,
    TransformerSettings,
    error_by_iteration,
    flows_of,
    train_transformer,
)

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
    "FieldTransformer",
    "FlowSettings",
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
    "TrainedTransformer",
    "TransformerSettings",
    "Trunk",
    "accuracies",
    "by_iteration",
    "by_recycle",
    "corrupted",
    "decode_sequentially",
    "decoder",
    "digits_graph",
    "error_by_iteration",
    "fit",
    "flows_of",
    "gumbel_noise",
    "lddt",
    "navier_stokes",
    "planetoid_graph",
    "project_spectral_norm_",
    "protein_data",
    "random_vorticity",
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
    "train_transformer",
    "vorticity_trajectories",
]
