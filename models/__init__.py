"""Equilibrium models that can be certified, and the data they are trained on."""

from __future__ import annotations

from ._curve import by_iteration
from ._digits import digits_graph
from ._fit import Progress, Task, fit, seeded
from ._gcn import GCN
from ._known_integrals import KNOWN_EQUATIONS, ComparedSolution, KnownEquation, collocation_compared, nystrom_compared
from ._navier_stokes import navier_stokes, random_vorticity, vorticity_trajectories
from ._nystrom import Nystrom, Rule, collocation_rule, fredholm_rule, volterra_rule
from ._pign import PIGN, project_spectral_norm_
from ._planetoid import planetoid_graph
from ._recipe import Example, Outcome, Recipe
from ._recipes import RECIPES
from ._train import CITATION, DIGITS, PIGNSettings, Trained, TrainedPIGN, accuracies, train_gcn, train_pign

__all__ = [
    "CITATION",
    "DIGITS",
    "GCN",
    "KNOWN_EQUATIONS",
    "PIGN",
    "RECIPES",
    "ComparedSolution",
    "Example",
    "KnownEquation",
    "Nystrom",
    "Outcome",
    "PIGNSettings",
    "Progress",
    "Recipe",
    "Rule",
    "Task",
    "Trained",
    "TrainedPIGN",
    "accuracies",
    "by_iteration",
    "collocation_compared",
    "collocation_rule",
    "digits_graph",
    "fit",
    "fredholm_rule",
    "navier_stokes",
    "nystrom_compared",
    "planetoid_graph",
    "project_spectral_norm_",
    "random_vorticity",
    "seeded",
    "train_gcn",
    "train_pign",
    "volterra_rule",
    "vorticity_trajectories",
]
