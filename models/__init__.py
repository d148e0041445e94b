"""Equilibrium models that can be certified, and the data they are trained on."""

from __future__ import annotations

from ._classifier import Classifier, classifier_curve, picard_curve
from ._classifier_training import TrainedClassifier
from ._curve import by_iteration
from ._debian import debian_graph
from ._digit_images import DigitImages, digit_images
from ._digits import digits_graph
from ._fit import Progress, Task, fit, seeded
from ._gcn import GCN
from ._heterophilous import HETEROPHILOUS, heterophilous_graph
from ._ignn import ImplicitGraphNetwork
from ._ignn_training import ImplicitGraphSettings, train_ignn
from ._image_deq import ImageDEQ
from ._image_deq_training import ImageDEQSettings, train_image_deq
from ._monotone import MonotoneNetwork
from ._monotone_training import MonotoneSettings, train_monotone
from ._partition import partition
from ._pign import PIGN, project_spectral_norm_
from ._planetoid import planetoid_graph
from ._recipe import Example, Outcome, Recipe
from ._recipes import RECIPES
from ._train import (
    CITATION,
    DEBIAN,
    DIGITS,
    HETEROPHILY,
    PIGNSettings,
    Trained,
    TrainedPIGN,
    accuracies,
    train_gcn,
    train_pign,
)

__all__ = [
    "CITATION",
    "DEBIAN",
    "DIGITS",
    "GCN",
    "HETEROPHILOUS",
    "HETEROPHILY",
    "PIGN",
    "RECIPES",
    "Classifier",
    "DigitImages",
    "Example",
    "ImageDEQ",
    "ImageDEQSettings",
    "ImplicitGraphNetwork",
    "ImplicitGraphSettings",
    "MonotoneNetwork",
    "MonotoneSettings",
    "Outcome",
    "PIGNSettings",
    "Progress",
    "Recipe",
    "Task",
    "Trained",
    "TrainedClassifier",
    "TrainedPIGN",
    "accuracies",
    "by_iteration",
    "classifier_curve",
    "debian_graph",
    "digit_images",
    "digits_graph",
    "fit",
    "heterophilous_graph",
    "partition",
    "picard_curve",
    "planetoid_graph",
    "project_spectral_norm_",
    "seeded",
    "train_gcn",
    "train_ignn",
    "train_image_deq",
    "train_monotone",
    "train_pign",
]
