"""Strategies of graphs: paths, rings, stars, and any graph with isolated nodes, loops, directions and weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor

from ._code import code_of
from ._tensors import tensors

Pairs = list[tuple[int, int]]

SHAPES: dict[str, Callable[[int], Pairs]] = {
    "path": lambda nodes: [(k, k + 1) for k in range(nodes - 1)],
    "ring": lambda nodes: [(k, (k + 1) % nodes) for k in range(nodes)] if nodes > 2 else [(0, 1)][: nodes - 1],
    "star": lambda nodes: [(0, k) for k in range(1, nodes)],
}
"""Undirected graphs by name: the edges, each once."""
GRAPHS = (*SHAPES, "isolated", "directed", "any")


@dataclass(frozen=True, eq=False)
class Graph:
    """A graph and numbers on its edges.

    Attributes:
        nodes: how many.
        edges: (2, edges) of sources and targets; an undirected edge stands twice. No pair stands twice.
        strengths: (edges,), eighths.
    """

    nodes: int
    edges: Tensor
    strengths: Tensor

    def __repr__(self) -> str:
        return f"Graph(nodes={self.nodes}, edges={code_of(self.edges)}, strengths={code_of(self.strengths)})"

    @property
    def adjacency(self) -> Tensor:
        """(nodes, nodes), entry (target, source) the edge's strength."""
        matrix = torch.zeros(self.nodes, self.nodes, dtype=self.strengths.dtype)
        matrix[self.edges[1], self.edges[0]] = self.strengths
        return matrix


@st.composite
def graphs(draw: st.DrawFn, kinds: tuple[str, ...] = GRAPHS, *, least: int = 1, most: int = 6) -> Graph:
    """Small graphs.

    Args:
        kinds: some of `GRAPHS`: paths, rings and stars in both directions; "isolated" has no edge at all; "directed"
            has edges from lower to higher nodes only, no cycle; "any" has all, and loops.
        least: nodes.
        most: nodes.
    """
    kind, nodes = draw(st.sampled_from(kinds)), draw(st.integers(least, most))
    if kind in SHAPES:
        once = SHAPES[kind](nodes)
        pairs = [*once, *((target, source) for source, target in once)]
    else:
        pairs = [] if kind == "isolated" else draw(_pairs(nodes, acyclic=kind == "directed"))
    edges = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T.contiguous()
    return Graph(nodes, edges, draw(tensors(len(pairs), largest=1)))


@st.composite
def rings(draw: st.DrawFn, most: int = 6) -> Tensor:
    """Edges (2, 2 nodes) of a ring of 3 nodes or more, both directions."""
    return draw(graphs(("ring",), least=3, most=most)).edges


@st.composite
def _pairs(draw: st.DrawFn, nodes: int, *, acyclic: bool) -> Pairs:
    every = [(source, target) for source in range(nodes) for target in range(source + 1 if acyclic else 0, nodes)]
    return draw(st.lists(st.sampled_from(every), unique=True, max_size=2 * nodes)) if every else []
