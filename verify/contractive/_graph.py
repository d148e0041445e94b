"""Weights that stand beside a graph's operator: together they are within a rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from deqops._errors import InputError, UnsupportedOperationError
from deqops.graph import trace

from .._gains import lipschitz_gain
from .._norm import Norm
from .._problem import Problem
from .._weights import proposed_norm
from ._spectral import L2Bounded
from ._sup import SupBounded
from ._weight_map import WeightMap, as_it_is

NORMS = ("l2", "linf", "perron")
LEAST_GAIN = 2.0**-64  # of a graph without edges: what remains is no bound at all


class GraphBounded(WeightMap):
    """`W -> W c` such that `||A|| ||W|| <= rate`: with it `z -> s(A z W^T + c(x))` contracts for slopes of s up to 1.

    A is the graph's operator on node states z, (nodes, channels), for instance the normalised adjacency matrix. Its
    norm is bounded for the entries as they are: rounded ones, and edges with a direction, may take it above the 1 that
    exact arithmetic gives an undirected graph. The bound holds for this graph; another one needs a `GraphBounded` of
    its own.

    Args:
        A: (nodes, nodes), a dense or sparse tensor of a real floating dtype; or a map of (nodes, 1) tensors that acts
            alike on every channel, as a layer's message passing without its weights.
        rate: above 0; below 1 for a contraction.
        norm: "l2"; "linf", with `||W||` the largest row sum of moduli; or "perron", the sup norm
            `max_ij p_i |z_ij|` with 1/p about the Perron vector of |A|, in which ||A|| is about its spectral radius.
        nodes: the number of nodes, where A is a map.
        dtype: of the states, where A is a map.

    Attributes:
        gain: the proven bound of ||A||.
        node_weights: p, (nodes,) float64; None for 1.

    Raises:
        InputError: an argument out of range, an A that is no square matrix, or no finite bound of it.
        UnsupportedOperationError: a map with an operation without a Lipschitz rule, by name.

    Source: Gu et al., *Implicit Graph Neural Networks*, NeurIPS 2020, for the Perron-Frobenius condition. Theorem: T1
    `picard`.
    """

    def __init__(
        self,
        A: Tensor | Callable[[Tensor], Tensor],
        rate: float = 0.95,
        norm: str = "l2",
        *,
        nodes: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        if norm not in NORMS:
            raise InputError(f"norm: got {norm!r}; choose l2, linf or perron")
        if isinstance(A, Tensor):
            operator: Any = _Messages(A)
            nodes, dtype = A.shape[0], A.dtype
        elif callable(A) and nodes is not None:
            operator = A
        else:
            raise InputError("A: a square matrix, or a map with nodes= the number of nodes, is needed")
        self.norm = norm
        self.gain, self.node_weights = _gain(operator, torch.zeros(nodes, 1, dtype=dtype), norm)
        self.bound = L2Bounded(rate, self.gain) if norm == "l2" else SupBounded(rate, gain=self.gain)

    @property
    def rate(self) -> float:
        """The rate of both together."""
        return self.bound.rate

    @as_it_is
    def forward(self, W: Tensor) -> Tensor:
        """The weight, (channels, channels); differentiable in W."""
        weight: Tensor = self.bound(W)
        return weight

    def right_inverse(self, W: Tensor) -> Tensor:
        """What is stored when a weight is assigned: that weight."""
        return W

    def state_norm(self, channels: int) -> Norm:
        """The norm of states (nodes, channels) in which the rate holds, for `certify`."""
        if self.node_weights is None:
            return Norm("l2" if self.norm == "l2" else "linf")
        return Norm("linf", (self.node_weights[:, None].repeat(1, channels),))

    def extra_repr(self) -> str:
        """The settings."""
        return f"rate={self.rate:g}, norm={self.norm}, gain={self.gain:.9g}"


class _Messages(nn.Module):
    """`z -> A z`, entry by entry."""

    rows: Tensor
    cols: Tensor
    values: Tensor

    def __init__(self, A: Tensor) -> None:
        super().__init__()
        if A.ndim != 2 or A.shape[0] != A.shape[1] or not A.dtype.is_floating_point:
            raise InputError(f"A: a square matrix of floats is needed, got {A.dtype} of shape {tuple(A.shape)}")
        triples = (
            A.detach().cpu().to_sparse(layout=torch.sparse_coo) if A.layout != torch.sparse_coo else A.detach().cpu()
        )
        rows, cols = triples._indices()  # of a tensor that may hold a place twice
        for name, values in (("rows", rows), ("cols", cols), ("values", triples._values())):
            self.register_buffer(name, values)

    def forward(self, z: Tensor) -> Tensor:
        return torch.zeros_like(z).index_add(0, self.rows, self.values[:, None] * z.index_select(0, self.cols))


def _gain(operator: Any, state: Tensor, norm: str) -> tuple[float, Tensor | None]:
    """A proven bound of ||A||, and the node weights of its norm."""
    graph = trace(operator, state, batch_dims=0)
    if graph.impure:
        raise UnsupportedOperationError(graph.impure[0], "the graph's operator is not one fixed map")
    jacobian = Problem(graph, state, ()).jacobian
    plain = Norm("l2") if norm == "l2" else Norm("linf")
    chosen = proposed_norm(jacobian, "linf", 0) if norm == "perron" else plain
    gain = lipschitz_gain(jacobian, chosen, 0).upper
    if not gain < math.inf:
        raise InputError("A: no finite bound of its norm was found; give finite entries of moderate size")
    weights = None if chosen.weights is None else chosen.weights[0].reshape(-1)
    return max(gain, LEAST_GAIN), weights
