"""The three models of `certified_training.py`: digits classified, digits denoised, Cora's papers classified.

Each task says how its model is built for a kind of training, what a step minimises and how well the model does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from deqops import Result, Solution
from deqops.models import CITATION, PIGN, accuracies, digit_images, planetoid_graph
from deqops.models._digit_images import SIDE
from deqops.models._image_deq import ImageStep, image_layer
from deqops.models._pign import dropped
from deqops.verify import operator_norm_bound
from deqops.verify.contractive import (
    Damped,
    bounded,
    jacobian_penalty_estimate,
    norm_penalty_estimate,
)

STRENGTH = 10.0
"""Of the norm penalties."""
BELOW = 0.98
"""The penalties pull below `BELOW * rate`: they end a little above where they pull to."""


class Score(NamedTuple):
    """How well a model does on test data, and what its equilibria cost."""

    value: float
    evaluations: float  # of the operator, mean over the problems
    unsolved: int  # problems that did not converge


def score(solution: Solution, value: float) -> Score:
    """With what the solution says."""
    unsolved = int((solution.result != Result.CONVERGED).sum())
    return Score(value, float(solution.evaluations.double().mean()), unsolved)


class Task:
    """What the tasks share; `kinds` names the trainings, of which "free" is the one without a constraint."""

    name = ""
    title = ""
    metric = "accuracy"
    free = "free"
    kinds: tuple[str, ...] = ()

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def model(self, kind: str, rate: float) -> Any:
        """A new model, from torch's global generator; its `layer` is what is certified."""
        model = self.plain(kind, rate)
        if kind.startswith(("bounded", "damped")):
            self.hold(model, kind, rate)
        return model

    def plain(self, kind: str, rate: float) -> Any:
        """Without parametrisations."""
        raise NotImplementedError

    def hold(self, model: Any, kind: str, rate: float) -> None:
        """Parametrise what acts on the state, in place."""
        raise NotImplementedError

    def to_equilibrium(self, model: Any) -> None:
        """Have a model that was trained by unrolled steps solve for the equilibrium."""

    def norm(self, kind: str) -> str:
        """In which the model is certified."""
        return "linf" if kind.endswith("linf") else "l2"

    def optimiser(self, model: nn.Module) -> torch.optim.Optimizer:
        """Of all weights."""
        return torch.optim.Adam(model.parameters(), lr=3e-3)

    def losses(self, model: Any, kind: str, rate: float) -> Iterator[Tensor]:
        """One epoch's losses, one at a time, penalty included."""
        raise NotImplementedError

    def validation(self, model: Any, epoch: int) -> float | None:
        """Where weights are selected: how well these do."""
        return None

    def score(self, model: Any) -> Score:
        """On test data."""
        raise NotImplementedError

    def example(self) -> tuple[Tensor, ...]:
        """Inputs of the layer, for `certify`; the certificates hold for all values of them."""
        raise NotImplementedError


class Classifier(nn.Module):
    """Scores `R z + r` of the equilibrium `z = tanh(K z + U x + b)`, K and U convolutions of 3 x 3."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.layer = image_layer(ImageStep(channels), channels)
        self.head = nn.Linear(channels * math.prod(SIDE), 10)

    def forward(self, solution: Solution) -> Tensor:
        """Scores (batch, 10)."""
        scores: Tensor = self.head(solution.value.flatten(1))
        return scores


class Images(Task):
    """An image DEQ on the digits."""

    name, title = "digits", "Image DEQ on the digits"
    kinds = ("free", "jacobian", "penalty", "penalty linf", "bounded", "bounded linf", "repair", "repair linf", "tuned")

    def __init__(self, epochs: int = 15, training: int = 1200) -> None:
        super().__init__(epochs)
        images = digit_images(training=1200)
        self.x, self.y = images.x, images.y
        self.training = training

    def plain(self, kind: str, rate: float) -> Classifier:
        """The same for every kind."""
        return Classifier()

    def hold(self, model: Classifier, kind: str, rate: float) -> None:
        """K's norm on 8 x 8."""
        bounded(model.layer.operator.state, rate, norm=self.norm(kind), size=SIDE)

    def losses(self, model: Classifier, kind: str, rate: float) -> Iterator[Tensor]:
        """Cross-entropy of batches of 100."""
        for chosen in torch.randperm(self.training).split(100):
            solution = model.layer.solve(self.x[chosen], throw=False)
            loss = nn.functional.cross_entropy(model(solution), self.y[chosen])
            yield loss + self.penalty(model, solution, self.x[chosen], kind, rate)

    def penalty(self, model: Classifier, solution: Solution, x: Tensor, kind: str, rate: float) -> Tensor | float:
        """Of the norm or of the Jacobian."""
        step = model.layer.operator
        if kind == "jacobian":
            return jacobian_penalty_estimate(step, solution.value, x)
        if not kind.startswith("penalty"):
            return 0.0
        return STRENGTH * norm_penalty_estimate(step.state, BELOW * rate, self.norm(kind), size=SIDE)

    def score(self, model: Classifier) -> Score:
        """Accuracy."""
        with torch.no_grad():
            solution = model.layer.solve(self.x[1200:], throw=False)
            right = model(solution).argmax(dim=1) == self.y[1200:]
        return score(solution, float(right.double().mean()))

    def example(self) -> tuple[Tensor, ...]:
        """One image."""
        return (self.x[:1],)


class Denoiser(nn.Module):
    """`D(z) = K3 relu(K2 relu(K1 z))`, convolutions of 3 x 3 with biases."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        sizes = ((1, channels), (channels, channels), (channels, 1))
        self.kernels = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in sizes)

    def forward(self, z: Tensor) -> Tensor:
        """(batch, 1, 8, 8)."""
        first, second, third = self.kernels
        result: Tensor = third(torch.relu(second(torch.relu(first(z)))))
        return result


class RestorationStep(nn.Module):
    """`x -> d - (1/2) (d - y)`, d = D(x): a denoiser, then a step towards the data."""

    def __init__(self, denoiser: nn.Module) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(batch, 1, 8, 8)."""
        return 0.5 * self.denoiser(x) + 0.5 * y


class Restoration(nn.Module):
    """What a denoiser makes of the equilibrium of plug-and-play restoration."""

    def __init__(self, denoiser: nn.Module) -> None:
        super().__init__()
        self.layer = image_layer(RestorationStep(denoiser), 1)

    def forward(self, solution: Solution) -> Tensor:
        """Images (batch, 1, 8, 8)."""
        restored: Tensor = self.layer.operator.denoiser(solution.value)
        return restored


class Denoising(Task):
    """Digits with normal noise of one level.

    Source: Gilton, Ongie and Willett, *Deep Equilibrium Architectures for Inverse Problems in Imaging*, 2021, for the
    training through the equilibrium.
    """

    name, title, metric = "denoiser", "Plug-and-play denoiser on the digits", "PSNR in dB"
    kinds = ("free", "penalty", "bounded", "damped", "repair", "tuned")
    sigma = 0.2

    def __init__(self, epochs: int = 25, training: int = 1200) -> None:
        super().__init__(epochs)
        self.x = digit_images(training=1200).x
        self.training = training
        noise = torch.randn(self.x[1200:].shape, generator=torch.Generator().manual_seed(1))
        self.noisy = self.x[1200:] + self.sigma * noise

    def plain(self, kind: str, rate: float) -> Restoration:
        """Kind "damped" is D = (z + C(z)) / 2."""
        return Restoration(Damped(Denoiser(), 0.5) if kind == "damped" else Denoiser())

    def hold(self, model: Restoration, kind: str, rate: float) -> None:
        """The three norms alike."""
        for kernel in [part for part in model.modules() if isinstance(part, nn.Conv2d)]:
            bounded(kernel, self._constant(kind, rate) ** (1 / 3), size=SIDE)

    def losses(self, model: Restoration, kind: str, rate: float) -> Iterator[Tensor]:
        """Squared errors of batches of 100."""
        for chosen in torch.randperm(self.training).split(100):
            x = self.x[chosen]
            solution = model.layer.solve(x + self.sigma * torch.randn_like(x), throw=False)
            loss = nn.functional.mse_loss(model(solution), x)
            if kind == "penalty":
                target = (BELOW * self._constant(kind, rate)) ** (1 / 3)
                loss = loss + STRENGTH * norm_penalty_estimate(model, target, size=SIDE)
            yield loss

    def score(self, model: Restoration) -> Score:
        """Peak signal-to-noise ratio of all test images together."""
        with torch.no_grad():
            solution = model.layer.solve(self.noisy, throw=False)
            return score(solution, self.psnr(model(solution)))

    def psnr(self, images: Tensor) -> float:
        """In dB, of images in [0, 1]; that of `noisy` itself is what doing nothing gives."""
        return -10 * math.log10(float((images - self.x[1200:]).double().square().mean()))

    def example(self) -> tuple[Tensor, ...]:
        """One noisy image."""
        return (self.noisy[:1],)

    @staticmethod
    def _constant(kind: str, rate: float) -> float:
        """What the product of the norms may be: `(1/2) (1/2 + c/2) = rate`, or `c / 2 = rate`."""
        return 4 * rate - 1 if kind == "damped" else 2 * rate


class Papers(Task):
    """PIGN on Cora, `Z = f(X) + tanh(A Z W^T + b)`, with the settings of `experiments/pign.py`."""

    name, title = "pign", "PIGN on Cora"
    free = "unrolled"
    kinds = ("unrolled", "free", "penalty", "bounded", "propagation", "repair", "tuned")
    settings = replace(CITATION, operator="convolution", channels=32, dropout=0.5, weight_decay=1e-3, limit=math.inf)

    def __init__(self, root: Path, epochs: int = 150) -> None:
        super().__init__(epochs)
        self.data = planetoid_graph("Cora", root)
        self.x = self.data.x.to_sparse().coalesce()
        self.gain = self._graph_norm()

    def plain(self, kind: str, rate: float) -> PIGN:
        """Kind "unrolled" takes 15 steps with smoothing factor 0.5; "propagation" is `Z = f(X) + rate A Z`."""
        chosen = replace(CITATION, limit=rate / self.gain) if kind == "propagation" else self.settings
        steps, smoothing = (15, 0.5) if kind == "unrolled" else (0, 1.0)
        return PIGN(
            self.data.x.shape[1],
            int(self.data.y.max()) + 1,
            operator=chosen.operator,
            channels=chosen.channels,
            limit=chosen.limit,
            steps=steps,
            smoothing=smoothing,
            dropout=chosen.dropout,
        )

    def hold(self, model: PIGN, kind: str, rate: float) -> None:
        """W, the graph's matrix being its gain."""
        bounded(self._convolution(model), rate, gain=self.gain)

    def to_equilibrium(self, model: PIGN) -> None:
        """No steps, no smoothing."""
        model.steps, model.smoothing = 0, 1.0

    def optimiser(self, model: nn.Module) -> torch.optim.Optimizer:
        """That of `train_pign`."""
        decay = CITATION.weight_decay if not isinstance(model.readout, nn.Linear) else self.settings.weight_decay
        return torch.optim.Adam(model.parameters(), lr=self.settings.learning_rate, weight_decay=decay)

    def losses(self, model: PIGN, kind: str, rate: float) -> Iterator[Tensor]:
        """Cross-entropy on the training nodes, full graph."""
        mask = self.data.train_mask
        scores, _ = self._scores(model)
        loss = nn.functional.cross_entropy(scores[mask], self.data.y[mask])
        if kind == "penalty":
            target = BELOW * rate / self.gain
            loss = loss + STRENGTH * norm_penalty_estimate(self._convolution(model), target)
        yield loss

    def validation(self, model: PIGN, epoch: int) -> float | None:
        """Accuracy on the validation nodes, every fifth epoch."""
        if (epoch + 1) % CITATION.select_every and epoch + 1 != self.epochs:
            return None
        with torch.no_grad():
            scores, _ = self._scores(model.eval())
        return accuracies(scores, self.data)["validation"]

    def score(self, model: PIGN) -> Score:
        """Accuracy on the test nodes."""
        with torch.no_grad():
            scores, solution = self._scores(model.eval())
        accuracy = accuracies(scores, self.data)["test"]
        return Score(accuracy, float(model.steps), 0) if solution is None else score(solution, accuracy)

    def example(self) -> tuple[Tensor, ...]:
        """The whole graph: shapes and edges are part of the claim."""
        return self.data.x, self.data.edge_index

    def _scores(self, model: PIGN) -> tuple[Tensor, Solution | None]:
        """Also of an equilibrium that was not reached; None where the model takes its steps."""
        if model.steps:
            return model(self.x, self.data.edge_index), None
        x = dropped(self.x, model.dropout, training=model.training)
        solution = model.layer.solve(x, self.data.edge_index, throw=False)
        return model.scores(solution.value), solution

    @staticmethod
    def _convolution(model: PIGN) -> nn.Module:
        return cast(nn.Module, model.operator.T.convolution.lin)  # type: ignore[union-attr]

    def _graph_norm(self) -> float:
        """Proven, of the normalised adjacency matrix as float32 holds it."""
        from torch_geometric.nn.conv.gcn_conv import gcn_norm

        nodes = len(self.x)
        edges, weights = gcn_norm(self.data.edge_index, num_nodes=nodes, dtype=torch.float32)
        matrix = torch.sparse_coo_tensor(edges, weights, (nodes, nodes), check_invariants=True)
        return float(operator_norm_bound(matrix, "l2").upper)
