"""How near a set of generated images is to real ones, in the features of a classifier trained on the spot."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from deqops._errors import InputError
from deqops._fingerprint import tensor_digest

from ._fit import Task, fit, seeded
from ._images import Images

CLASSES = 10


class FeatureModel(nn.Module):
    """A two-layer classifier; its features are the hidden values before the last layer.

    Args:
        size: pixels of an image.
        features: how many.
    """

    def __init__(self, size: int, features: int = 32) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Linear(size, 128), nn.ReLU(), nn.Linear(128, features), nn.ReLU())
        self.scores = nn.Linear(features, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Scores (images, 10)."""
        scores: Tensor = self.scores(self.features(x))
        return scores


class Quality(NamedTuple):
    """Of generated images, against real ones.

    Attributes:
        frechet: squared Fréchet distance of two normal distributions with the features' means and covariances.
        precision: part of the generated images that lie in a real one's neighbourhood.
        recall: part of the real images that lie in a generated one's neighbourhood.
    """

    frechet: float
    precision: float
    recall: float


class _Training(Task):
    """Cross-entropy with a little noise on the pixels."""

    def __init__(self, images: Images, epochs: int, seed: int) -> None:
        self.images, self.epochs, self.seed = images, epochs, seed
        with seeded(seed):
            self.model = FeatureModel(images.size)
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=2e-3)

    def losses(self) -> Iterator[Tensor]:
        """Batches of 128."""
        x, y = self.images.train, self.images.train_labels
        for chosen in torch.split(torch.randperm(len(x)), 128):
            yield nn.functional.cross_entropy(self.model(x[chosen] + 0.1 * torch.randn_like(x[chosen])), y[chosen])

    def identity(self) -> dict[str, Any]:
        """Epochs, seed and images."""
        return {"epochs": self.epochs, "seed": self.seed, "data": [tensor_digest(self.images.train)]}


def train_features(images: Images, epochs: int = 40, *, seed: int = 0) -> FeatureModel:
    """A `FeatureModel` of the training images, in eval mode."""
    task = _Training(images, epochs, seed)
    fit(task)
    assert isinstance(task.model, FeatureModel)
    return task.model


def sample_quality(model: FeatureModel, generated: Tensor, real: Tensor, neighbours: int = 3) -> Quality:
    """`frechet_distance` and `precision_recall` of the features of images (images, size)."""
    with torch.no_grad():
        ours, theirs = model.features(generated).double(), model.features(real).double()
    return Quality(frechet_distance(ours, theirs), *precision_recall(ours, theirs, neighbours))


def frechet_distance(x: Tensor, y: Tensor) -> float:
    """`|m_x - m_y|^2 + tr(C_x + C_y - 2 (C_x^1/2 C_y C_x^1/2)^1/2)` of points (points, features).

    An estimate from finite samples, which is biased upwards: compare sets of the same sizes.

    Raises:
        InputError: fewer than two points, or different numbers of features.

    Source: Dowson and Landau, 1982; Heusel et al., *GANs trained by a two time-scale update rule*, 2017.
    """
    if x.shape[1:] != y.shape[1:] or min(len(x), len(y)) < 2:
        raise InputError(f"points: got {tuple(x.shape)} and {tuple(y.shape)}; two sets of as many features are needed")
    x, y = x.double(), y.double()
    root = _root(torch.cov(x.T).reshape(x.shape[1], -1))
    other = torch.cov(y.T).reshape(y.shape[1], -1)
    mixed = torch.linalg.eigvalsh(root @ other @ root).clamp(min=0).sqrt().sum()
    means = (x.mean(0) - y.mean(0)).square().sum()
    return float(means + root.square().sum() + other.trace() - 2 * mixed)


def _root(matrix: Tensor) -> Tensor:
    """The symmetric square root of a positive semidefinite matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root


def precision_recall(generated: Tensor, real: Tensor, neighbours: int = 3) -> tuple[float, float]:
    """Parts of one set within the other's neighbourhoods: balls that reach to a point's k-th nearest neighbour.

    Raises:
        InputError: a set has no k-th neighbour.

    Source: Kynkäänniemi et al., *Improved precision and recall metric for assessing generative models*, 2019.
    """
    if not 1 <= neighbours < min(len(generated), len(real)):
        raise InputError(f"neighbours: got {neighbours} for {len(generated)} and {len(real)} points; choose fewer")
    return _covered(generated, real, neighbours), _covered(real, generated, neighbours)


def _covered(points: Tensor, centres: Tensor, neighbours: int) -> float:
    """Part of the points within any centre's ball."""
    radii = torch.cdist(centres, centres).kthvalue(neighbours + 1, dim=1).values  # the nearest one is itself
    return float((torch.cdist(points, centres) <= radii).any(dim=1).double().mean())
