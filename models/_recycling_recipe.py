"""`deqops train recycling`: the trunk on chains built from torsion angles, the TS50 set, or a user's own structures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ._backbones import synthetic_chains
from ._corrupted import Corruption
from ._fit import Progress
from ._protein_files import structure_chains, table_chains
from ._recipe import Example, Recipe
from ._recycling_training import (
    ProteinData,
    RecyclingSettings,
    TrainedRecycler,
    at_equilibrium,
    by_recycle,
    protein_data,
    train_recycler,
)


@dataclass(frozen=True)
class CropSettings:
    """What the task is.

    Args:
        residues: of a crop.
        short: residues of the crops for certificates, at most as many.
        tests: test crops.
        noise: as for `Corruption`.
        missing: likewise.
        false: likewise.
    """

    residues: int = 32
    short: int = 8
    tests: int = 64
    noise: float = 2.0
    missing: float = 0.2
    false: float = 0.02


class RecyclingRecipe(Recipe):
    """A recycling trunk, measured by lDDT and RMSD against the passes."""

    name = "recycling"
    datasets: ClassVar[Mapping[str, tuple[Any, Any]]] = {
        "synthetic": (RecyclingSettings(), CropSettings()),
        "ts50": (RecyclingSettings(), CropSettings()),
        "structures": (RecyclingSettings(), CropSettings()),
    }

    def load(self, dataset: str, settings: CropSettings, root: Path, seed: int) -> ProteinData:
        """Chains: generated, of `ts50.npz` in `root`, or of the PDB and mmCIF files below it."""
        corruption = Corruption(settings.noise, settings.missing, settings.false)
        if dataset == "synthetic":
            chains = synthetic_chains()
        else:
            chains = table_chains(root / "ts50.npz") if dataset == "ts50" else structure_chains(root)
        return protein_data(chains, settings.residues, settings.tests, corruption, settings.short)

    def train(
        self,
        data: ProteinData,
        settings: RecyclingSettings,
        *,
        seed: int = 0,
        checkpoint: Path | None = None,
        progress: Progress | None = None,
    ) -> TrainedRecycler:
        """As `train_recycler`."""
        return train_recycler(data, settings, seed=seed, checkpoint=checkpoint, progress=progress)

    def example(self, trained: TrainedRecycler, data: ProteinData) -> Example:
        """The trunk on one short test crop, from zeros: few enough unknowns for a local certificate."""
        inputs = tuple(part[:1] for part in data.short.inputs)
        return Example(trained.model.trunk, trained.model.layer.initial_state(*inputs), inputs, batch_dims=1)

    def metrics(self, trained: TrainedRecycler, data: ProteinData) -> dict[str, Any]:
        """On the test crops."""
        settings = trained.settings
        smoothing = settings.smoothing if settings.training == "equilibrium" else 1.0
        return {
            "equilibrium": at_equilibrium(trained.model, data.tests),
            "by_iteration": by_recycle(trained.model, data.tests, smoothing=smoothing),
        }

    def headline(self, metrics: Mapping[str, Any]) -> str:
        """lDDT before, and at the equilibrium."""
        found, noisy = metrics["equilibrium"], metrics["by_iteration"][0]
        return f"test lDDT {found['lddt']:.3f}, RMSD {found['rmsd']:.2f} angstrom (input {noisy['lddt']:.3f})"
