"""Equilibrium models that can be certified, and the data they are trained on."""

from __future__ import annotations

from ._curve import by_iteration
from ._digits import digits_graph
from ._fit import Progress, Task, fit, seeded
from ._gcn import GCN
from ._navier_stokes import navier_stokes, random_vorticity, vorticity_trajectories
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
    "Example",
    "Outcome",
    "PIGNSettings",
    "Progress",
    "Recipe",
    "Task",
    "Trained",
    "TrainedPIGN",
    "accuracies",
    "by_iteration",
    "digits_graph",
    "fit",
    "navier_stokes",
    "planetoid_graph",
    "project_spectral_norm_",
    "random_vorticity",
    "seeded",
    "train_gcn",
    "train_pign",
    "vorticity_trajectories",
]
