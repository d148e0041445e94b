"""States of mini-batches of graphs, as one row of numbers per graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from deqops._errors import InputError
from deqops._tree import StateLayout


@dataclass(frozen=True, eq=False)
class GraphLayout:
    """How the nodes of several graphs lie in a matrix with one row per graph.

    A row holds its graph's nodes one after the other, all leaves of a node together, and zeros up to the size of
    the largest graph. The zeros are zeros of every image and gradient too, so that no norm and no scalar product
    of rows is changed by them; no operator sees them. The memory is that of problems * largest nodes.

    Attributes:
        nodes: the layout of the same state with one row per node.
        batch: the graph of each node, (nodes,) int64, on the state's device.
        problems: how many graphs.
        largest: nodes a row has room for.
        slots: where each node lies in the (problems * largest) nodes of the matrix, (nodes,) int64; None where
            the nodes lie in this order already and fill all rows.
    """

    nodes: StateLayout
    batch: Tensor
    problems: int
    largest: int
    slots: Tensor | None

    @staticmethod
    def of(state: Any, batch: object, batch_dims: int) -> GraphLayout:
        """The layout of a start y0 whose dimension 0 counts nodes.

        Args:
            state: tensors of the same length, one entry per node.
            batch: the graph of each node, in any order; the graphs are numbered 0, 1, .. without gaps.
            batch_dims: of `solve`; 1.

        Raises:
            InputError: `batch` is no int64 vector of that length and numbering, or the state does not fit.
        """
        if batch_dims != 1:
            raise InputError(f"batch: it makes each graph a problem, batch_dims={batch_dims!r} does not; leave one out")
        nodes = StateLayout.of(state, 1)
        vector = _checked_batch(batch, nodes.problems, pytree.tree_leaves(state)[0].device)
        sizes = torch.bincount(vector)
        if not bool((sizes > 0).all()):
            empty = int((sizes == 0).nonzero()[0])
            raise InputError(f"batch: graph {empty} of {len(sizes)} has no nodes; number the graphs without gaps")
        return _laid_out(nodes, vector, len(sizes), int(sizes.max()))

    @property
    def unit(self) -> float:
        """The unit of rounding of the coarsest leaf."""
        return self.nodes.unit

    @property
    def is_uniform(self) -> bool:
        """All leaves have the same dtype."""
        return self.nodes.is_uniform

    def rows(self, state: Any) -> Tensor:
        """The state as (problems, unknowns), with zeros behind the nodes of smaller graphs."""
        entries = self.nodes.rows(state)
        if self.slots is not None:
            padded = entries.new_zeros(self.problems * self.largest, entries.shape[1])
            entries = padded.index_copy(0, self.slots, entries)
        return entries.reshape(self.problems, -1)

    def state(self, rows: Tensor) -> Any:
        """The tree of a (problems, unknowns) matrix, without the padding; rounded to the leaves' dtypes."""
        entries = rows.reshape(self.problems * self.largest, -1)
        return self.nodes.state(entries if self.slots is None else entries.index_select(0, self.slots))

    def representable(self, rows: Tensor) -> Tensor:
        """Rows rounded to what the leaves' dtypes can hold, so that a residual belongs to the very point."""
        return rows if self.is_uniform else self.rows(self.state(rows))

    def check_image(self, image: Any) -> None:
        """Raises InputError where an operator changed the structure, a shape or a dtype of the state."""
        self.nodes.check_image(image)

    def kept_nodes(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        """The nodes of some graphs, in their order, and the graphs' new numbers; both (nodes of these graphs,).

        Args:
            kept: different graphs, (kept problems,) int64; graph kept[k] becomes graph k.
        """
        number = torch.full((self.problems,), -1, device=self.batch.device)
        number[kept] = torch.arange(len(kept), device=self.batch.device)
        of_node = number[self.batch]
        nodes = (of_node >= 0).nonzero()[:, 0]
        return nodes, of_node[nodes]

    def narrowed(self, kept: Tensor) -> GraphLayout:
        """The layout of these graphs only: its rows are `rows[kept]`, of the same length.

        Args:
            kept: different graphs, (kept problems,) int64; graph kept[k] becomes graph k.
        """
        nodes, batch = self.kept_nodes(kept)
        return _laid_out(self.nodes.narrowed(nodes), batch, len(kept), self.largest)


Layout = StateLayout | GraphLayout
"""How a state's numbers lie in rows, one per problem."""


def layout_of(state: Any, batch: object, batch_dims: int) -> Layout:
    """The layout of a start y0: one problem per graph of `batch`, else as `batch_dims` says.

    Raises:
        InputError: `batch` or the state does not fit.
    """
    return StateLayout.of(state, batch_dims) if batch is None else GraphLayout.of(state, batch, batch_dims)


def _checked_batch(batch: object, nodes: int, device: torch.device) -> Tensor:
    if not isinstance(batch, Tensor):
        raise InputError(f"batch: a tensor with the graph of each node is needed, got {type(batch).__name__}")
    if batch.dtype != torch.int64:
        raise InputError(f"batch: the graph of each node as torch.int64 is needed, got {batch.dtype}; convert it")
    if batch.shape != (nodes,):
        raise InputError(f"batch: one number for each of the {nodes} nodes is needed, got shape {tuple(batch.shape)}")
    if batch.device != device:
        raise InputError(f"batch: it is on {batch.device} and the state on {device}; move one of them")
    lowest, highest = int(batch.min()), int(batch.max())
    if lowest < 0:
        raise InputError(f"batch: it holds {lowest}; number the graphs 0, 1, ..")
    if highest >= nodes:  # counting would take memory for graphs that cannot all have nodes
        raise InputError(f"batch: it holds {highest}, for {nodes} nodes; number the graphs without gaps")
    return batch


def _laid_out(nodes: StateLayout, batch: Tensor, problems: int, largest: int) -> GraphLayout:
    """A node lies behind the earlier nodes of its graph."""
    order = torch.argsort(batch, stable=True)
    sizes = torch.bincount(batch, minlength=problems)
    first = sizes.cumsum(0) - sizes
    slots = torch.empty_like(batch)
    slots[order] = torch.arange(len(batch), device=batch.device) + (
        torch.arange(problems, device=batch.device) * largest - first
    ).repeat_interleave(sizes)
    full = len(batch) == problems * largest and bool((slots.diff() == 1).all())
    return GraphLayout(nodes, batch, problems, largest, None if full else slots)
