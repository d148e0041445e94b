"""The digits graph: undirected, without self loops, split without overlap."""

from __future__ import annotations

import pytest
import torch

from deqops import InputError
from deqops.models import digits_graph


def test_the_graph_is_undirected_sorted_and_without_self_loops() -> None:
    edges = digits_graph(neighbours=4).edge_index
    keys = edges[0] * 1797 + edges[1]
    assert bool((keys[1:] > keys[:-1]).all())  # sorted, hence no edge twice
    assert bool((edges[0] != edges[1]).all())
    mirrored = (edges[1] * 1797 + edges[0]).sort().values
    assert torch.equal(mirrored, keys)


def test_every_image_is_joined_to_its_nearest_neighbours() -> None:
    data = digits_graph(neighbours=3)
    assert int(torch.bincount(data.edge_index[0], minlength=1797).min()) >= 3
    image = 17
    distances = (data.x.double() - data.x[image].double()).norm(dim=1)
    distances[image] = torch.inf
    nearest = set(distances.topk(3, largest=False).indices.tolist())
    assert nearest <= set(data.edge_index[1][data.edge_index[0] == image].tolist())


def test_features_lie_in_the_unit_interval() -> None:
    x = digits_graph().x
    assert x.shape == (1797, 64)
    assert x.dtype == torch.float32
    assert (float(x.min()), float(x.max())) == (0.0, 1.0)


def test_the_split_is_balanced_disjoint_complete_and_fixed_by_the_seed() -> None:
    data = digits_graph(labels_per_class=7, validation=200)
    assert torch.bincount(data.y[data.train_mask]).tolist() == [7] * 10
    assert int(data.val_mask.sum()) == 200
    assert bool((data.train_mask.int() + data.val_mask.int() + data.test_mask.int() == 1).all())
    assert torch.equal(data.train_mask, digits_graph(labels_per_class=7, validation=200).train_mask)
    assert not torch.equal(data.train_mask, digits_graph(labels_per_class=7, validation=200, seed=1).train_mask)


@pytest.mark.parametrize(
    ("option", "value"),
    [("neighbours", 0), ("neighbours", 1797), ("labels_per_class", 0), ("validation", 1797)],
)
def test_numbers_out_of_range_are_named(option: str, value: int) -> None:
    with pytest.raises(InputError, match=option):
        digits_graph(**{option: value})
