"""Training the recycling trunk: through its equilibrium, by random recycling as AlphaFold's, or applied once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deqops import Result
from deqops._errors import InputError
from deqops._fingerprint import tensor_digest

from ._backbones import Chain
from ._corrupted import Corruption, Crops, corrupted
from ._fit import Progress, Task, fit, seeded
from ._recycling import Recycler, State
from ._structure_metrics import INCLUSION, lddt, rmsd

TRAININGS = ("equilibrium", "recycled", "once")
_TEST_SHARE = 5  # one chain in five
_BEFORE = 0.1  # angstrom: errors below enter squared


@dataclass(frozen=True)
class RecyclingSettings:
    """How the trunk is built and trained.

    Args:
        training: "equilibrium": the loss is of the equilibrium; "recycled": of the state after a number of passes drawn
            from 1 to `passes`, gradients through the last one alone, as AlphaFold trains; "once": of one pass.
        passes: as above.
        epochs: of `steps` optimiser steps each; the learning rate falls to 0 along a cosine.
        steps: of an epoch.
        batch: crops of a step.
        single: channels of the recycled features of residues.
        pair: of pairs.
        hidden: within the trunk.
        learning_rate: of Adam, at its largest.
        penalty: weight of the Jacobian's estimated mean square at the equilibrium ("equilibrium" only).
        smoothing: the paper's smoothing factor b of the passes that are measured, `y <- (1 - b) y + b G(y)`
            ("equilibrium" only: the others are trained for plain passes, and measured by them).
    """

    training: str = "equilibrium"
    passes: int = 4
    epochs: int = 15
    steps: int = 10
    batch: int = 6
    single: int = 4
    pair: int = 2
    hidden: int = 12
    learning_rate: float = 1e-2
    penalty: float = 2.0
    smoothing: float = 0.4

    def __post_init__(self) -> None:
        if self.training not in TRAININGS:
            raise InputError(f"training: got {self.training!r}; choose from {', '.join(TRAININGS)}")
        for name in ("passes", "epochs", "steps", "batch", "single", "pair", "hidden"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: got {getattr(self, name)}; choose at least 1")
        if not 0 < self.learning_rate < math.inf or not 0 <= self.penalty < math.inf:
            raise InputError("learning_rate must be positive and penalty not negative; change them")
        if not 0 < self.smoothing <= 1:
            raise InputError(f"smoothing: got {self.smoothing}; choose a factor above 0 and at most 1")


@dataclass(frozen=True, eq=False)
class ProteinData:
    """Chains to train on, and test crops from others.

    Attributes:
        chains: for training.
        residues: of a crop.
        corruption: of a crop.
        tests: crops of test chains, drawn once.
        short: test crops of few residues, whose operator is small enough for local certificates.
    """

    chains: tuple[Chain, ...]
    residues: int
    corruption: Corruption
    tests: Crops
    short: Crops


def protein_data(
    chains: Sequence[Chain],
    residues: int = 32,
    tests: int = 64,
    corruption: Corruption | None = None,
    short: int = 8,
) -> ProteinData:
    """Chains split, one in five for tests, in an order drawn once.

    Args:
        chains: of which those with at least `residues` residues are used.
        residues: of a crop.
        tests: test crops.
        corruption: of each crop.
        short: residues of the crops for certificates.

    Raises:
        InputError: too few chains are as long as a crop.
    """
    long = [chain for chain in chains if len(chain) >= residues]
    if len(long) < _TEST_SHARE or not 2 <= short <= residues or tests < 1:
        raise InputError(
            f"residues, tests: got {residues} and {tests}, and {len(long)} of {len(chains)} chains are so long;"
            f" choose at least short={short} residues (2 or more), 1 test crop, and give {_TEST_SHARE} such chains"
        )
    generator, corruption = torch.Generator().manual_seed(0), corruption or Corruption()
    order = [long[place] for place in torch.randperm(len(long), generator=generator)]
    count = len(order) // _TEST_SHARE
    held = corrupted(order[:count], residues, tests, corruption, generator)
    shorter = corrupted(order[:count], short, tests, corruption, generator)
    return ProteinData(tuple(order[count:]), residues, corruption, held, shorter)


@dataclass(frozen=True, eq=False)
class TrainedRecycler:
    """A trained trunk.

    Attributes:
        model: in eval mode.
        settings: it was trained with.
        loss: of each epoch, in angstrom.
    """

    model: Recycler
    settings: RecyclingSettings
    loss: tuple[float, ...]


def train_recycler(
    data: ProteinData,
    settings: RecyclingSettings | None = None,
    *,
    seed: int = 0,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> TrainedRecycler:
    """Train a trunk on crops drawn anew in each step.

    Raises:
        InputError: the loss is not finite, or the checkpoint belongs to another run.
        ModelFileError: the checkpoint is damaged.
        ConvergenceError: the equation of a gradient was not solved.
    """
    chosen = settings or RecyclingSettings()
    task = _Training(data, chosen, seed)
    loss = fit(task, checkpoint, progress)
    return TrainedRecycler(task.model, chosen, loss)


class _Training(Task):
    """Distances and coordinates of crops."""

    model: Recycler

    def __init__(self, data: ProteinData, settings: RecyclingSettings, seed: int) -> None:
        self.data, self.settings, self.seed, self.epochs = data, settings, seed, settings.epochs
        with seeded(seed):
            self.model = Recycler(settings.single, settings.pair, settings.hidden)
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=settings.learning_rate)

    def losses(self) -> Iterator[Tensor]:
        """Errors in angstrom."""
        data, settings = self.data, self.settings
        for _ in range(settings.steps):
            crops = corrupted(data.chains, data.residues, settings.batch, data.corruption)
            state = self.state(crops)
            loss = error(crops.noisy + state[2], crops.true)
            yield loss if settings.training != "equilibrium" else loss + self.penalty(state, crops)

    def state(self, crops: Crops) -> State:
        """Whose coordinates are judged."""
        settings = self.settings
        if settings.training == "equilibrium":
            state: State = self.model.layer.solve(*crops.inputs, throw=False).value
            return state
        passes = 1 + int(torch.randint(settings.passes, ())) if settings.training == "recycled" else 1
        return self.model.recycled(passes, *crops.inputs)

    def penalty(self, state: State, crops: Crops) -> Tensor | float:
        """Keeps the iteration convergent; an estimate."""
        from deqops.verify.contractive import jacobian_penalty_estimate

        weight = self.settings.penalty
        return weight * jacobian_penalty_estimate(self.model.trunk, state, *crops.inputs) if weight else 0.0

    def rate(self, part: float) -> float:
        """Half a cosine, from 1 to 0."""
        return 0.5 * (1 + math.cos(math.pi * part))

    def identity(self) -> dict[str, Any]:
        """Settings, seed and data."""
        data = self.data
        chains = [tensor_digest(part) for chain in data.chains for part in (chain.residue, chain.backbone)]
        return {
            "settings": asdict(self.settings),
            "seed": self.seed,
            "residues": data.residues,
            "corruption": asdict(data.corruption),
            "data": chains,
        }


def error(found: Tensor, true: Tensor) -> Tensor:
    """Mean error of the distances below 15 angstrom plus that of the coordinates, which share the noise's frame."""
    both = [(x[:, :, None] - x[:, None]).square().sum(dim=-1) for x in (found, true)]
    near = (both[1] < INCLUSION**2) & (both[1] > 0)
    distances = [(gaps[near] + _BEFORE**2).sqrt() for gaps in both]
    apart = ((found - true).square().sum(dim=-1) + _BEFORE**2).sqrt()
    return _smooth(distances[0] - distances[1]).mean() + apart.mean()


def _smooth(gap: Tensor) -> Tensor:
    return (gap.square() + _BEFORE**2).sqrt()


def quality(crops: Crops, shift: Tensor) -> dict[str, float]:
    """Mean lDDT and RMSD (angstrom) of the crops' coordinates."""
    x = crops.noisy + shift
    return {"lddt": float(lddt(x, crops.true).mean()), "rmsd": float(rmsd(x, crops.true).mean())}


def by_recycle(model: Recycler, crops: Crops, passes: int = 16, smoothing: float = 1.0) -> list[dict[str, float]]:
    """Quality and residual after 0 to `passes` passes; 0 is the noisy input itself.

    Args:
        model: in eval mode.
        crops: of test chains.
        passes: the last number.
        smoothing: b of `y <- (1 - b) y + b G(y)`.

    Returns:
        list[dict[str, float]]: "iteration", "lddt", "rmsd", and "residual", the mean l2 norm of `G(y) - y` of a crop.
    """
    rows: list[dict[str, float]] = []
    state: State = model.layer.initial_state(*crops.inputs)
    with torch.no_grad():
        for iteration in range(passes + 1):
            image = model.trunk(state, *crops.inputs)
            gaps = torch.cat([(a - b).flatten(1) for a, b in zip(image, state, strict=True)], dim=1)
            residual = float(gaps.norm(dim=1).mean())
            rows.append({"iteration": iteration, **quality(crops, state[2]), "residual": residual})
            state = smoothed(state, image, smoothing)
    return rows


def smoothed(state: State, image: State, smoothing: float) -> State:
    """`(1 - b) y + b G(y)`."""
    single, pair, shift = (torch.lerp(old, new, smoothing) for old, new in zip(state, image, strict=True))
    return single, pair, shift


def at_equilibrium(model: Recycler, crops: Crops) -> dict[str, float]:
    """Quality of what the solver finds, "evaluations" of the trunk (mean) and the share of crops that "converged"."""
    with torch.no_grad():
        solution = model.layer.solve(*crops.inputs, throw=False)
    converged = (solution.result == Result.CONVERGED).double()
    return {
        **quality(crops, solution.value[2]),
        "evaluations": float(solution.evaluations.double().mean()),
        "converged": float(converged.mean()),
    }
