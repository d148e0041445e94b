"""Equilibrium models that can be certified, and the data they are trained on."""

from __future__ import annotations

from ._digits import digits_graph
from ._pign import PIGN, project_spectral_norm_
from ._train import PIGNSettings, TrainedPIGN, accuracies, train_pign

__all__ = [
    "PIGN",
    "PIGNSettings",
    "TrainedPIGN",
    "accuracies",
    "digits_graph",
    "project_spectral_norm_",
    "train_pign",
]
