"""What the certificate is about: the same model, state, inputs and independence as at hand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch.utils import _pytree as pytree

from deqops._errors import DeqopsError
from deqops.graph import (
    ConcreteGraph,
    between,
    check_independent,
    recognised,
    tensor_digest,
    trace,
    with_sorted_pairs,
)

from ._agreement import require_agreement
from ._document import Document
from ._masks import read_by_softmax_alone
from ._refusal import Rejected
from ._witness import Array


@dataclass(frozen=True, eq=False)
class Subject:
    """The graph the certificate speaks of; `free`: positions of inputs whose values must not matter.

    `graph` has attention over segments as one node; where there is any, `spelled_out` is the same function without.
    """

    graph: ConcreteGraph
    free: frozenset[int]
    verified: tuple[str, ...]
    spelled_out: ConcreteGraph | None = None

    @property
    def written_out(self) -> ConcreteGraph:
        """The graph in the operations that the export has."""
        return self.graph if self.spelled_out is None else self.spelled_out

    @cached_property
    def paired(self) -> Subject:
        """The same with the largest and the smallest of the same values as a sort; itself where there are none."""
        graph = with_sorted_pairs(self.graph)
        return self if graph is self.graph else replace(self, graph=graph)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The full shape of each leaf of the state."""
        return [self.graph.shape(value) for value in self.graph.state]

    @property
    def problem_shapes(self) -> list[tuple[int, ...]]:
        """The shape of each leaf for one problem."""
        return [shape[self.graph.batch_dims :] for shape in self.shapes]


def subject(document: Document, G: Any, y0: Any, inputs: tuple[Any, ...]) -> Subject:
    """Compare the operator, state and inputs at hand with those of the certificate.

    Raises:
        Rejected: something differs, or the operator is not one fixed map, or it mixes problems.
    """
    _compare_state(document, pytree.tree_leaves(y0))
    _require_values(inputs)
    try:
        operator = trace(G, y0, *inputs, batch_dims=document.batch_dims)
        graph = operator.concrete(y0, *inputs)
        if operator.impure:
            raise Rejected(f"the operator is not one fixed map: {', '.join(map(str, operator.impure))}")
        check_independent(graph)
    except DeqopsError as error:
        raise Rejected(f"the operator and its arguments: {error}") from error
    _compare_model(document, graph)
    free = _compare_inputs(document, graph)
    _refuse_nonfinite(graph, free)
    require_agreement(operator, graph, y0, inputs)
    try:
        graph = between(graph, _boxes(document))
    except DeqopsError as error:
        raise Rejected(f"inputs: {error}") from error
    fixed = [entry.name for entry in document.inputs if not entry.free]
    lines = (
        f"model: fingerprint {graph.fingerprint}",
        f"state: {', '.join(f'{dtype} {shape}' for shape, dtype in document.state)}",
        f"inputs: fixed {fixed}, free {[entry.name for entry in document.inputs if entry.free]}",
    )
    return Subject(recognised(graph), free, lines, graph)


def _compare_state(document: Document, leaves: list[Any]) -> None:
    found = [_described(leaf) for leaf in leaves]
    if found != list(document.state):
        raise Rejected(f"state: the example state has {found}, the certificate {list(document.state)}"[:300])
    if not leaves or any(leaf.numel() == 0 for leaf in leaves):
        raise Rejected("state: it is empty, nothing can be claimed")
    if document.batch_dims and len({leaf.shape[:1] for leaf in leaves}) != 1:
        raise Rejected("state: with batch_dims = 1 every leaf needs the same dimension 0")
    if document.batch_dims and not leaves[0].ndim:
        raise Rejected("state: with batch_dims = 1 every leaf needs a dimension 0")


def _require_values(inputs: tuple[Any, ...]) -> None:
    for leaf in pytree.tree_leaves(inputs):
        if isinstance(getattr(leaf, "lower", None), torch.Tensor):  # the certifier's `InputBox`
            kind = type(leaf).__name__
            raise Rejected(f"inputs: got {kind}; give one value between its ends, the certificate holds the ends")


def _described(leaf: Any) -> tuple[tuple[int, ...], str] | str:
    if not isinstance(leaf, torch.Tensor):
        return type(leaf).__name__
    return tuple(leaf.shape), _dtype(leaf)


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _compare_model(document: Document, graph: ConcreteGraph) -> None:
    if graph.fingerprint != document.fingerprint:
        raise Rejected("model: its fingerprint differs; the certificate is for other weights or another graph")
    if graph.batch_dims != document.batch_dims:
        raise Rejected(f"batch_dims: the operator has {graph.batch_dims}, the certificate {document.batch_dims}")
    shapes = [graph.shape(value) for value in graph.state]
    if [graph.shape(value) for value in graph.outputs] != shapes or shapes != [shape for shape, _ in document.state]:
        raise Rejected("state: the operator does not map the certificate's states to states of the same shapes")


def _compare_inputs(document: Document, graph: ConcreteGraph) -> frozenset[int]:
    if len(graph.inputs) != len(document.inputs):
        raise Rejected(f"inputs: the operator has {len(graph.inputs)}, the certificate {len(document.inputs)}")
    free = set()
    for entry, value in zip(document.inputs, graph.inputs, strict=True):
        leaf = graph.leaves[value]
        if (entry.name, entry.shape, entry.dtype) != (
            leaf.name,
            tuple(leaf.tensor.shape),
            _dtype(leaf.tensor),
        ):
            raise Rejected(f"inputs: {leaf.name!r} differs in name, shape or dtype from the certificate's")
        if entry.free:
            free.add(leaf.position)
        elif entry.ends is not None:
            if not _lies_between(leaf.tensor, *entry.ends):
                raise Rejected(f"inputs: {leaf.name!r} lies outside of the certificate's two ends")
        elif entry.sha256 != tensor_digest(leaf.tensor):
            raise Rejected(f"inputs: {leaf.name!r} is fixed, and its values differ from the certificate's")
    return frozenset(free)


def _lies_between(value: torch.Tensor, lower: Array, upper: Array) -> bool:
    if not value.is_floating_point():
        return False
    x = value.detach().cpu().double().numpy()
    return bool(((lower <= x) & (x <= upper)).all())


def _boxes(document: Document) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
    """The two ends of each input that has them, by its position."""
    entries = enumerate(document.inputs)
    return {
        number: (torch.from_numpy(entry.ends[0].copy()), torch.from_numpy(entry.ends[1].copy()))
        for number, entry in entries
        if entry.ends is not None
    }


def _refuse_nonfinite(graph: ConcreteGraph, free: frozenset[int]) -> None:
    scores = read_by_softmax_alone(graph)
    for value, leaf in graph.leaves.items():
        skipped = leaf.kind in ("state", "literal") or (leaf.kind == "input" and leaf.position in free)
        if skipped or not leaf.tensor.is_floating_point():
            continue
        bounded = leaf.tensor.isfinite() | ((leaf.tensor == float("-inf")) if value in scores else False)
        if not bool(bounded.all()):
            raise Rejected(f"{leaf.kind} {leaf.name!r} holds NaN or infinity")
