"""The usual graph convolutional network: the baseline."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ._pign import dropped


class GCN(nn.Module):
    """`A relu(A X U + a) V + b`, A the symmetrically normalised adjacency with self loops.

    Args:
        features: columns of X.
        classes: columns of the scores.
        channels: columns of the hidden layer.
        dropout: part of the features and of the hidden layer dropped in training mode.

    Source: Kipf, Welling, *Semi-supervised classification with graph convolutional networks*, 2017.
    """

    def __init__(self, features: int, classes: int, *, channels: int = 64, dropout: float = 0.5) -> None:
        super().__init__()
        from torch_geometric.nn import GCNConv

        self.dropout = dropout
        self.hidden = GCNConv(features, channels)
        self.output = GCNConv(channels, classes)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """Scores: (nodes, classes). X may be a sparse COO tensor."""
        x = dropped(x, self.dropout, training=self.training)
        state = torch.relu(self.hidden(x, edge_index))
        scores: Tensor = self.output(dropped(state, self.dropout, training=self.training), edge_index)
        return scores
