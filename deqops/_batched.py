"""Which inputs carry the batch: told by the caller, never guessed from sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from deqops._errors import InputError
from deqops._graph_layout import GraphLayout, Layout
from deqops._tree import StateLayout

Role = Literal["problem", "node", "edge", "edge_index", "batch"]

Roles = tuple[Role | None, ...]
"""One role per input: what dimension 0 of its tensors counts; None for an input that all problems share."""

GRAPH_ROLES = ("node", "edge", "edge_index", "batch")


def check_roles(batched: object) -> None:
    """Raises InputError unless `batched` is None or a tuple of roles."""
    if batched is None:
        return
    if not isinstance(batched, tuple):
        raise InputError(f"batched: a tuple with one role per input is needed, got {type(batched).__name__}")
    for number, role in enumerate(batched):
        if role is not None and role not in get_args(Role):
            known = ", ".join(get_args(Role))
            raise InputError(f"batched: input {number} has role {role!r}; use one of {known} or None")
    if batched.count("edge_index") > 1:
        raise InputError("batched: two inputs have role 'edge_index'; one numbers the edges of the others")
    if "edge" in batched and "edge_index" not in batched:
        raise InputError("batched: role 'edge' needs an input of role 'edge_index', the ends of the edges")


def checked_roles(batched: object, inputs: Sequence[Any], layout: Layout) -> Roles | None:
    """The roles of the inputs, None where none are declared.

    Args:
        batched: a tuple with one entry per input, or None: "problem", "node" or "edge" for tensors whose
            dimension 0 counts these; "edge_index", the nodes each edge leaves and enters, (2, edges) int64;
            "batch", the graph of each node; None for an input all problems share. A role holds for every tensor
            of a tree.
        inputs: the operator's.
        layout: of the state.

    Raises:
        InputError: an unknown role, one that needs graphs where there are none, an input of another size, or an
            edge between two graphs.
    """
    check_roles(batched)
    if not isinstance(batched, tuple):
        return None
    if len(batched) != len(inputs):
        raise InputError(f"batched: a role for each of the {len(inputs)} inputs is needed, got {len(batched)}")
    if isinstance(layout, StateLayout):
        _check_without_graphs(batched, layout)
    edges = inputs[batched.index("edge_index")] if "edge_index" in batched else None
    if "edge_index" in batched and isinstance(layout, GraphLayout):
        _check_edges(edges, layout)
    for number, (given, role) in enumerate(zip(inputs, batched, strict=True)):
        if role is not None:
            _check_input(number, given, role, layout, edges)
    return batched


def narrowed(inputs: Sequence[Any], batched: Roles, kept: Tensor, layout: Layout) -> tuple[Any, ...]:
    """The inputs of some problems only; their nodes and edges keep their order.

    Args:
        inputs: the operator's.
        batched: their roles, checked.
        kept: different problems, (kept problems,) int64; problem kept[k] becomes problem k.
        layout: of the state these inputs belong to; `layout.narrowed(kept)` is that of the narrowed ones.
    """
    chosen: dict[str, Tensor] = {"problem": kept}
    replaced: dict[str, Tensor] = {}
    if isinstance(layout, GraphLayout):
        chosen["node"], replaced["batch"] = layout.kept_nodes(kept)
        if "edge_index" in batched:
            ends = inputs[batched.index("edge_index")]
            chosen["edge"], replaced["edge_index"] = _kept_edges(ends, chosen["node"], layout)

    def part(given: Any, role: Role | None) -> Any:
        if role is None:
            return given
        if role in replaced:
            return replaced[role]
        return pytree.tree_map(lambda leaf: leaf.index_select(0, chosen[role]), given)

    return tuple(part(given, role) for given, role in zip(inputs, batched, strict=True))


def _kept_edges(ends: Tensor, nodes: Tensor, layout: GraphLayout) -> tuple[Tensor, Tensor]:
    """The edges between these nodes, and their ends numbered anew."""
    number = torch.full(layout.batch.shape, -1, device=nodes.device)
    number[nodes] = torch.arange(len(nodes), device=nodes.device)
    new = number[ends]
    edges = (new[0] >= 0).nonzero()[:, 0]  # an edge lies within one graph: its source decides
    return edges, new.index_select(1, edges)


def _check_without_graphs(batched: Roles, layout: StateLayout) -> None:
    for number, role in enumerate(batched):
        if role in GRAPH_ROLES:
            raise InputError(
                f"batched: input {number} has role {role!r}, there are no graphs; pass batch= or 'problem'"
            )
        if role is not None and not layout.batch_dims:
            raise InputError(f"batched: input {number} has role {role!r}, batch_dims=0 is one problem; use None")


def _check_edges(ends: object, layout: GraphLayout) -> None:
    if not isinstance(ends, Tensor) or ends.dtype != torch.int64 or ends.ndim != 2 or ends.shape[0] != 2:
        got = f"{ends.dtype} of shape {tuple(ends.shape)}" if isinstance(ends, Tensor) else type(ends).__name__
        raise InputError(f"batched: an 'edge_index' is a torch.int64 tensor of shape (2, edges), got {got}")
    if ends.device != layout.batch.device:
        raise InputError(f"batched: 'edge_index' is on {ends.device} and batch= on {layout.batch.device}; move one")
    nodes = len(layout.batch)
    lowest, highest = (int(ends.min()), int(ends.max())) if ends.numel() else (0, 0)
    if lowest < 0 or highest >= nodes:
        raise InputError(f"batched: 'edge_index' has ends from {lowest} to {highest}; number the {nodes} nodes from 0")
    source, target = layout.batch[ends]
    if not torch.equal(source, target):
        edge = int((source != target).nonzero()[0])
        graphs = f"{int(source[edge])} and {int(target[edge])}"
        raise InputError(f"batched: edge {edge} joins graphs {graphs}; make them one graph, or drop the edge")


def _check_input(number: int, given: Any, role: Role, layout: Layout, edges: Tensor | None) -> None:
    if role == "edge_index":
        return
    counts = {"problem": layout.problems}
    if isinstance(layout, GraphLayout):
        if role == "batch":
            _check_same_batch(number, given, layout)
            return
        counts |= {"node": len(layout.batch), "edge": 0 if edges is None else edges.shape[1]}
    for leaf in pytree.tree_leaves(given):
        if not isinstance(leaf, Tensor):
            raise InputError(f"batched: input {number} has role {role!r} and holds a {type(leaf).__name__}; use None")
        if leaf.ndim == 0 or leaf.shape[0] != counts[role]:
            shape = tuple(leaf.shape)
            raise InputError(f"batched: input {number} has role {role!r}, {counts[role]} of them, and shape {shape}")


def _check_same_batch(number: int, given: Any, layout: GraphLayout) -> None:
    batch = layout.batch
    same = isinstance(given, Tensor) and given.dtype == batch.dtype and given.device == batch.device
    if not (same and torch.equal(given, batch)):
        raise InputError(f"batched: input {number} has role 'batch' and differs from batch=; pass the same vector")
