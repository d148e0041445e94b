"""Mini-batches of small graphs and an operator that passes messages, for tests."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GCNConv

from deqops.testing import Graph

DOUBLE = torch.float64


def ring(nodes: int, seed: int, size: float = 1.0) -> Data:
    """A ring with a chord, random features (nodes, 4), edge weights and a number for the whole graph."""
    around = torch.arange(nodes)
    source = torch.cat([around, (around + 1) % nodes, torch.tensor([0])])
    target = torch.cat([(around + 1) % nodes, around, torch.tensor([nodes // 2])])
    return featured(nodes, torch.stack([source, target]), seed, size)


def featured(nodes: int, edges: Tensor, seed: int, size: float = 1.0) -> Data:
    """A graph with random features (nodes, 4), positive edge weights and a number for the whole graph."""
    generator = torch.Generator().manual_seed(seed)
    return Data(
        x=size * torch.randn(nodes, 4, generator=generator, dtype=DOUBLE),
        edge_index=edges,
        weight=0.5 + torch.rand(edges.shape[1], generator=generator, dtype=DOUBLE),
        level=torch.randn(1, 4, generator=generator, dtype=DOUBLE),
        num_nodes=nodes,
    )


def mini_batch(*sizes: int) -> Any:
    """PyG's mini-batch of rings of these sizes."""
    return Batch.from_data_list([ring(nodes, seed) for seed, nodes in enumerate(sizes)])


def batch_of(graphs: list[Graph]) -> Any:
    """PyG's mini-batch of graphs that the kit drew, with features."""
    return Batch.from_data_list([featured(graph.nodes, graph.edges, seed) for seed, graph in enumerate(graphs)])


def shuffled(data: Any, seed: int = 9) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, edge_index and batch with the nodes in another order, and that order."""
    order = torch.randperm(data.num_nodes, generator=torch.Generator().manual_seed(seed))
    return data.x[order], order.argsort()[data.edge_index], data.batch[order], order


class Messages(nn.Module):
    """`x + gain tanh(GCNConv(y))`, with weights on the edges."""

    def __init__(self, gain: float = 0.6) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv = GCNConv(4, 4).to(DOUBLE)
        self.gain = gain
        with torch.no_grad():
            self.conv.lin.weight.copy_(torch.linalg.qr(self.conv.lin.weight)[0])

    def forward(self, y: Tensor, x: Tensor, edge_index: Tensor, weight: Tensor | None = None) -> Tensor:
        return x + self.gain * torch.tanh(self.conv(y, edge_index, weight))
