"""Equilibrium models that can be certified, and the data they are trained on."""

from __future__ import annotations

from ._autoregressive import (
    CharacterModel,
    Decoding,
    decode_sequentially,
    decoder,
    gumbel_noise,
)
from ._autoregressive_training import (
    AutoregressiveSettings,
    TrainedDecoder,
    sweeps,
    train_autoregressive,
)
from ._backbones import (
    Chain,
    synthetic_chains,
)
from ._classifier import (
    Classifier,
    classifier_curve,
    picard_curve,
)
from ._classifier_training import (
    TrainedClassifier,
)
from ._corrupted import (
    Corruption,
    Crops,
    corrupted,
)
from ._curve import (
    by_iteration,
)
from ._debian import (
    debian_graph,
)
from ._diffusion import (
    DiffusionModel,
    Trajectory,
    sample_draws,
    sample_sequentially,
    sampler,
    sampler_steps,
)
from ._diffusion_recipe import (
    by_sweep,
)
from ._diffusion_training import (
    DiffusionSettings,
    TrainedDiffusion,
    train_diffusion,
)
from ._digit_images import (
    DigitImages,
    digit_images,
)
from ._digits import (
    digits_graph,
)
from ._fit import (
    Progress,
    Task,
    fit,
    seeded,
)
from ._gcn import (
    GCN,
)
from ._heterophilous import (
    HETEROPHILOUS,
    heterophilous_graph,
)
from ._ignn import (
    ImplicitGraphNetwork,
)
from ._ignn_training import (
    ImplicitGraphSettings,
    train_ignn,
)
from ._image_deq import (
    ImageDEQ,
)
from ._image_deq_training import (
    ImageDEQSettings,
    train_image_deq,
)
from ._images import (
    Images,
    digit_pixels,
    fashion_images,
)
from ._integral import (
    NIE,
    PlainOperator,
)
from ._integral_data import (
    FunctionPairs,
    burgers_functions,
    flow_functions,
    fredholm_functions,
    volterra_functions,
)
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
from ._known_integrals import (
    KNOWN_EQUATIONS,
    ComparedSolution,
    KnownEquation,
    collocation_compared,
    nystrom_compared,
)
from ._monotone import (
    MonotoneNetwork,
)
from ._monotone_training import (
    MonotoneSettings,
    train_monotone,
)
from ._navier_stokes import (
    navier_stokes,
    random_vorticity,
    vorticity_trajectories,
)
from ._nystrom import (
    Nystrom,
    Rule,
    collocation_rule,
    fredholm_rule,
    volterra_rule,
)
from ._partition import (
    partition,
)
from ._pign import (
    PIGN,
    project_spectral_norm_,
)
from ._planetoid import (
    planetoid_graph,
)
from ._protein_files import (
    structure_chains,
    table_chains,
)
from ._recipe import (
    Example,
    Outcome,
    Recipe,
)
from ._recipes import (
    RECIPES,
)
from ._recycling import (
    Recycler,
    Trunk,
)
from ._recycling_training import (
    ProteinData,
    RecyclingSettings,
    TrainedRecycler,
    by_recycle,
    protein_data,
    train_recycler,
)
from ._restoration import (
    AtLevel,
    Restoration,
    blurring,
    masking,
    plain_denoiser,
)
from ._restoration_training import (
    DenoiserSettings,
    TrainedDenoiser,
    linear_restoration,
    psnr,
    restored_psnr,
    restorer,
    train_denoiser,
)
from ._sample_quality import (
    FeatureModel,
    Quality,
    frechet_distance,
    precision_recall,
    sample_quality,
    train_features,
)
from ._structure_metrics import (
    lddt,
    rmsd,
)
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
from ._transformer import (
    FieldTransformer,
)
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
    "DEBIAN",
    "DIGITS",
    "FREDHOLM",
    "GCN",
    "HETEROPHILOUS",
    "HETEROPHILY",
    "KNOWN_EQUATIONS",
    "NIE",
    "PIGN",
    "RECIPES",
    "TRAJECTORIES",
    "VOLTERRA",
    "AtLevel",
    "AutoregressiveSettings",
    "Chain",
    "CharacterModel",
    "Classifier",
    "ComparedSolution",
    "Corruption",
    "Crops",
    "Decoding",
    "DenoiserSettings",
    "DiffusionModel",
    "DiffusionSettings",
    "DigitImages",
    "Example",
    "FeatureModel",
    "FieldTransformer",
    "FlowSettings",
    "FunctionPairs",
    "ImageDEQ",
    "ImageDEQSettings",
    "Images",
    "ImplicitGraphNetwork",
    "ImplicitGraphSettings",
    "IntegralSettings",
    "KnownEquation",
    "MonotoneNetwork",
    "MonotoneSettings",
    "Nystrom",
    "Outcome",
    "PIGNSettings",
    "PlainOperator",
    "Progress",
    "ProteinData",
    "Quality",
    "Recipe",
    "Recycler",
    "RecyclingSettings",
    "Restoration",
    "Rule",
    "Task",
    "Trained",
    "TrainedClassifier",
    "TrainedDecoder",
    "TrainedDenoiser",
    "TrainedDiffusion",
    "TrainedIntegral",
    "TrainedPIGN",
    "TrainedRecycler",
    "TrainedTransformer",
    "Trajectory",
    "TransformerSettings",
    "Trunk",
    "accuracies",
    "blurring",
    "burgers_functions",
    "by_iteration",
    "by_recycle",
    "by_sweep",
    "classifier_curve",
    "collocation_compared",
    "collocation_rule",
    "corrupted",
    "debian_graph",
    "decode_sequentially",
    "decoder",
    "digit_images",
    "digit_pixels",
    "digits_graph",
    "error_by_iteration",
    "errors_by_iteration",
    "fashion_images",
    "fit",
    "flow_functions",
    "flows_of",
    "frechet_distance",
    "fredholm_functions",
    "fredholm_rule",
    "gumbel_noise",
    "heterophilous_graph",
    "lddt",
    "linear_restoration",
    "masking",
    "navier_stokes",
    "nystrom_compared",
    "partition",
    "picard_curve",
    "plain_denoiser",
    "planetoid_graph",
    "precision_recall",
    "project_spectral_norm_",
    "protein_data",
    "psnr",
    "random_vorticity",
    "restored_psnr",
    "restorer",
    "rmsd",
    "sample_draws",
    "sample_quality",
    "sample_sequentially",
    "sampler",
    "sampler_steps",
    "seeded",
    "structure_chains",
    "sweeps",
    "synthetic_chains",
    "table_chains",
    "train_autoregressive",
    "train_denoiser",
    "train_diffusion",
    "train_features",
    "train_gcn",
    "train_ignn",
    "train_image_deq",
    "train_integral",
    "train_monotone",
    "train_pign",
    "train_plain",
    "train_recycler",
    "train_transformer",
    "volterra_functions",
    "volterra_rule",
    "vorticity_trajectories",
]
