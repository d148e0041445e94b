"""The order in which Picard's iteration finishes the components of a causal operator (T8)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deqops._errors import UnsupportedOperationError

from ._dependence import Dependence
from ._enclosures import Constants
from ._problem import Problem
from ._rounding import check_environment


@dataclass(frozen=True, eq=False)
class Levels:
    """Level n holds the components that depend only on components of levels < n: they are final after n sweeps.

    Attributes:
        leaves: the level of each component, float64, one tensor per leaf of the state; 0 where there is none.
        depth: the largest level.
        left: the number of components on a cycle of dependencies, or behind one.
        inputs: the inputs whose values were used.
    """

    leaves: tuple[Tensor, ...]
    depth: int
    left: int
    inputs: frozenset[int]


def levels(problem: Problem) -> Levels:
    """The levels, for all values of the floating inputs where these can be found, else for the values at hand.

    Each sweep costs about one evaluation of G, and there are `depth` of them (1 where no component is free).

    Raises:
        UnsupportedOperationError: an operation whose dependences are not understood, by name.
    """
    check_environment()
    graph = problem.written_out
    if not any(graph.leaves[value].tensor.is_floating_point() for value in graph.inputs):
        return _peeled(problem, free=False)
    try:
        found = _peeled(problem, free=True)
    except UnsupportedOperationError:
        return _peeled(problem, free=False)
    return found if found.left == 0 else _peeled(problem, free=False)


def _peeled(problem: Problem, *, free: bool) -> Levels:
    """Sweep by sweep: components that depend on no open component are final, and so no longer open."""
    dependence = Dependence(problem.written_out, Constants(problem.written_out), free)
    open_ = [torch.ones(leaf.shape, dtype=torch.bool) for leaf in problem.example]
    found = [torch.zeros(leaf.shape, dtype=torch.float64) for leaf in problem.example]
    depth, left = 0, _count(open_)
    while left:
        final = [a & ~b for a, b in zip(open_, dependence.moving(open_), strict=True)]
        finished = _count(final)
        if finished == 0:
            break
        depth, left = depth + 1, left - finished
        for leaf, now in zip(found, final, strict=True):
            leaf[now] = float(depth)
        open_ = [a & ~now for a, now in zip(open_, final, strict=True)]
    return Levels(tuple(found), depth, left, dependence.inputs)


def _count(leaves: list[Tensor]) -> int:
    return sum(int(leaf.sum()) for leaf in leaves)
