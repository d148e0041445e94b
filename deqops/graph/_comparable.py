"""How closely a graph's exact-real values and torch's can be compared, and how much that takes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from deqops.graph._ir import ConcreteGraph, Node


def entries(graph: ConcreteGraph) -> int:
    """Numbers in all of a graph's values, its weights and inputs among them: what an evaluation holds and computes."""
    leaves = sum(leaf.tensor.numel() for leaf in graph.leaves.values())
    return leaves + sum(math.prod(node.shape) for node in graph.nodes)


def coarsest_eps(graph: ConcreteGraph, results: Sequence[Tensor]) -> float:
    """The unit roundoff of the coarsest floating dtype among a graph's tensors, its values and these results.

    An integer or a condition beside a Python number makes a number of torch's default dtype, which a graph does not
    have: its numbers are exact.
    """
    given = [leaf.tensor.dtype for leaf in graph.leaves.values() if leaf.kind != "literal"]
    dtypes = {*given, *(node.dtype for node in graph.nodes), *(result.dtype for result in results)}
    if any(_makes_numbers(graph, node) for node in graph.nodes):
        dtypes.add(torch.float32)
    return coarsest_of(dtypes)


def coarsest_of(dtypes: Iterable[torch.dtype]) -> float:
    """The coarsest unit roundoff of these dtypes' floating or complex numbers; 0 where they have none."""
    return max((torch.finfo(dtype).eps for dtype in dtypes if dtype.is_floating_point or dtype.is_complex), default=0.0)


def moved_a_little(leaves: Sequence[Tensor]) -> list[Tensor]:
    """A state beside an example, always the same: at a state of zeros many a function agrees with another.

    Entries move away from 0, into the side of it that they are on; those that are 0 into either.
    """
    generator = torch.Generator().manual_seed(0)

    def moved(leaf: Tensor) -> Tensor:
        steps = torch.empty(leaf.shape).uniform_(0.1, 0.5, generator=generator).to(leaf)
        either = torch.randint(2, leaf.shape, generator=generator).to(leaf) * 2 - 1
        return leaf + torch.where(leaf == 0, either, leaf.sign()) * (1 + leaf.abs()) * steps

    return [moved(leaf.detach()) for leaf in leaves]


_CHOOSING = ("where", "index_select", "index_add", "segment_attention")


def _makes_numbers(graph: ConcreteGraph, node: Node) -> bool:
    """Whether a node computes floating numbers from integers or conditions."""
    if not node.dtype.is_floating_point or node.op in _CHOOSING:
        return False
    return not all(_dtype(graph, value).is_floating_point for value in node.operands)


def _dtype(graph: ConcreteGraph, value: int) -> torch.dtype:
    leaf = graph.leaves.get(value)
    return graph.producer[value].dtype if leaf is None else leaf.tensor.dtype
