"""A real graph that ships with a dependency: nearest neighbours among scikit-learn's handwritten digits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from deqops._errors import InputError
from deqops._numbers import is_count

if TYPE_CHECKING:
    from torch_geometric.data import Data

_IMAGES = 1797
_CLASSES = 10
_BRIGHTEST = 16.0


def digits_graph(*, neighbours: int = 10, labels_per_class: int = 5, validation: int = 300, seed: int = 0) -> Data:
    """The digits as one graph for semi-supervised node classification.

    Two images are joined when either is among the other's nearest neighbours (Euclidean distance of the
    pixels). A few images of each class are labelled for training; all images are seen (transductive).

    Args:
        neighbours: nearest neighbours of each image, before the relation is made symmetric.
        labels_per_class: training images of each of the ten classes.
        validation: validation images; what remains is the test set.
        seed: of the split. The graph does not depend on it.

    Returns:
        Data: `x` (1797, 64) float32 in [0, 1], `edge_index` (2, edges) undirected without self loops and
        sorted, `y` (1797,), and the masks `train_mask`, `val_mask`, `test_mask` (1797,).

    Raises:
        InputError: a number is out of range.
    """
    _check(neighbours, labels_per_class, validation)
    from sklearn.datasets import load_digits
    from torch_geometric.data import Data

    digits = load_digits()
    labels = torch.from_numpy(digits.target).long()
    pixels = torch.from_numpy(digits.data)
    train, val, test = _split(labels, labels_per_class, validation, seed)
    return Data(
        x=(pixels / _BRIGHTEST).float(),
        edge_index=_neighbour_edges(pixels, neighbours),
        y=labels,
        train_mask=train,
        val_mask=val,
        test_mask=test,
    )


def _check(neighbours: int, labels_per_class: int, validation: int) -> None:
    if not is_count(neighbours) or not 1 <= neighbours < _IMAGES:
        raise InputError(f"neighbours: got {neighbours!r}; choose 1 to {_IMAGES - 1}")
    if not is_count(labels_per_class) or not 1 <= labels_per_class <= 100:
        raise InputError(f"labels_per_class: got {labels_per_class!r}; choose 1 to 100")
    if not is_count(validation) or not 1 <= validation < _IMAGES - _CLASSES * labels_per_class:
        raise InputError(f"validation: got {validation!r}; no test images would remain, choose fewer")


def _neighbour_edges(points: Tensor, neighbours: int) -> Tensor:
    """The symmetric neighbour relation as a sorted `edge_index` (2, edges)."""
    from sklearn.neighbors import kneighbors_graph

    directed = kneighbors_graph(points.numpy(), neighbours, include_self=False)
    symmetric = directed.maximum(directed.T).tocoo()
    rows, columns = torch.from_numpy(symmetric.row).long(), torch.from_numpy(symmetric.col).long()
    order = torch.argsort(rows * len(points) + columns)
    return torch.stack([rows[order], columns[order]])


def _split(labels: Tensor, labels_per_class: int, validation: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Masks of a class-balanced training set, a validation set and the rest."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    train = torch.cat([order[labels[order] == c][:labels_per_class] for c in range(_CLASSES)])
    masks = [torch.zeros(len(labels), dtype=torch.bool) for _ in range(3)]
    masks[0][train] = True
    rest = order[~masks[0][order]]
    masks[1][rest[:validation]] = True
    masks[2][rest[validation:]] = True
    return masks[0], masks[1], masks[2]
