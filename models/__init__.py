"""Equilibrium models that can be certified, and the data they are trained on."""

from __future__ import annotations

from ._curve import by_iteration
from ._digits import digits_graph
from ._fit import Progress, Task, fit, seeded
from ._gcn import GCN
from ._integral import NIE, PlainOperator
from ._integral_data import FunctionPairs, burgers_functions, flow_functions, fredholm_functions, volterra_functions
from ._integral_training import (
    FREDHOLM,
    TRAJECTORIES,
    VOLTERRA,
    IntegralSettings,
    TrainedIntegral,
    errors_by_iteration,
    train_integral,
    train_plain,
)
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
    "FREDHOLM",
    "GCN",
    "KNOWN_EQUATIONS",
    "NIE",
    "PIGN",
    "RECIPES",
    "TRAJECTORIES",
    "VOLTERRA",
    "ComparedSolution",
    "Example",
    "FunctionPairs",
    "IntegralSettings",
    "KnownEquation",
    "Nystrom",
    "Outcome",
    "PIGNSettings",
    "PlainOperator",
    "Progress",
    "Recipe",
    "Rule",
    "Task",
    "Trained",
    "TrainedIntegral",
    "TrainedPIGN",
    "accuracies",
    "burgers_functions",
    "by_iteration",
    "collocation_compared",
    "collocation_rule",
    "digits_graph",
    "errors_by_iteration",
    "fit",
    "flow_functions",
    "fredholm_functions",
    "fredholm_rule",
    "navier_stokes",
    "nystrom_compared",
    "planetoid_graph",
    "project_spectral_norm_",
    "random_vorticity",
    "seeded",
    "train_gcn",
    "train_integral",
    "train_pign",
    "train_plain",
    "volterra_functions",
    "volterra_rule",
    "vorticity_trajectories",
]
