"""Parts of a graph for training on one at a time: what a random start of a few nodes reaches first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from deqops._errors import InputError

if TYPE_CHECKING:
    from torch_geometric.data import Data


def partition(edge_index: Tensor, nodes: int, parts: int) -> list[Tensor]:
    """Split a graph's nodes by breadth-first search from `parts` nodes at once, drawn from torch's global generator.

    A node that several searches reach in the same round goes to one of them at random; nodes that none reaches go to
    random parts. Neighbours are mostly in one part, though parts differ in size.

    Args:
        edge_index: (2, edges), each edge in both directions.
        nodes: their number.
        parts: wanted, at least 1 and at most `nodes`; parts that stay empty are left out.

    Returns:
        list[Tensor]: the numbers of each part's nodes, ascending; each node is in one part.

    Raises:
        InputError: the number of parts is out of range.
    """
    if not 1 <= parts <= nodes:
        raise InputError(f"parts: got {parts}; choose 1 to {nodes}, the number of nodes")
    owner = torch.full((nodes,), -1, dtype=torch.int64)
    owner[torch.randperm(nodes)[:parts]] = torch.arange(parts)
    source, target = edge_index
    while True:
        reached = (owner[source] >= 0) & (owner[target] < 0)
        edges = reached.nonzero()[:, 0]
        if not len(edges):
            break
        edges = edges[torch.randperm(len(edges))]
        first = torch.full((nodes,), len(edges), dtype=torch.int64)
        first.scatter_reduce_(0, target[edges], torch.arange(len(edges)), "amin")
        new = (first < len(edges)).nonzero()[:, 0]
        owner[new] = owner[source[edges[first[new]]]]
    rest = (owner < 0).nonzero()[:, 0]
    owner[rest] = torch.randint(parts, (len(rest),))
    split = [(owner == part).nonzero()[:, 0] for part in range(parts)]
    return [part for part in split if len(part)]


def subgraph(data: Data, x: Tensor, part: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The features, edges within the part, labels and training mask of some nodes.

    Args:
        data: the graph.
        x: its features, which may be sparse.
        part: numbers of nodes, ascending.
    """
    number = torch.full((data.y.shape[0],), -1, dtype=torch.int64)
    number[part] = torch.arange(len(part))
    edges = number[data.edge_index]
    kept = edges[:, (edges >= 0).all(dim=0)]
    chosen = x.index_select(0, part)
    return chosen.coalesce() if chosen.is_sparse else chosen, kept, data.y[part], data.train_mask[part]


def subgraphs(data: Data, x: Tensor, parts: int) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Those of a new random partition that have training nodes."""
    for part in partition(data.edge_index, data.y.shape[0], parts):
        if bool(data.train_mask[part].any()):
            yield subgraph(data, x, part)
