"""An operator prepared for certification: its graph at fixed shapes, its constants, its state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from deqops._errors import InputError
from deqops.graph import ConcreteGraph, OperatorGraph, between, recognised, with_sorted_pairs

from . import _jacobian_rules, _product_rules  # noqa: F401  (fill the table of Jacobian rules)
from ._defined import refuse_attributes
from ._enclosures import Constants, enclose_image
from ._expansion import Expansion, expanded
from ._input_box import boxes_of, middles
from ._jacobian import Builder, Jacobian
from ._masks import is_mask, scores
from ._midrad import MidRad, sub
from ._norm import Norm
from ._rounding import check_environment, exact_float64


class Problem:
    """`G(state, *inputs)` at fixed shapes, with everything the theorems ask about it.

    `graph` has attention over segments and written-out norms as one node each; `written_out` is the same function as
    it was exported, `paired` has the largest and the smallest of the same values as a sort (`graph` itself for none).

    Args:
        operator: G.
        state: an example state.
        inputs: one value of each input; an `InputBox` stands for all its values, of which its middle is the example.

    Raises:
        DeqopsError: this thread's arithmetic is not that of IEEE (`check_environment`).
        InputError: a leaf of the state without numbers, or NaN or infinity in weights, state or inputs.
        UnsupportedOperationError: an operation with NaN or infinity among its own numbers.
    """

    def __init__(self, operator: OperatorGraph, state: Any, inputs: tuple[Any, ...]) -> None:
        check_environment()
        leaves = pytree.tree_leaves(state)
        if not any(isinstance(leaf, Tensor) and leaf.numel() for leaf in leaves):
            raise InputError("state: it holds no numbers; pass at least one problem with one unknown")
        empty = [tuple(leaf.shape) for leaf in leaves if isinstance(leaf, Tensor) and not leaf.numel()]
        if empty:
            raise InputError(f"state: a leaf of shape {empty[0]} holds no numbers; leave it out of the state")
        self.operator = operator
        self.boxes = boxes_of(inputs)
        graph = between(operator.concrete(state, *middles(inputs)), self.boxes)
        self.written_out, self.graph = graph, recognised(graph)
        self.paired = with_sorted_pairs(self.graph)
        self.tree = pytree.tree_structure(state)
        self.constants = Constants(replace(graph, leaves=self.graph.leaves))  # of both
        self.batch_dims = graph.batch_dims
        _refuse_nonfinite(graph)
        refuse_attributes(graph)
        refuse_attributes(self.graph)  # what is recognised has attributes of its own

    @property
    def example(self) -> list[Tensor]:
        """The example state's leaves."""
        return [self.graph.leaves[value].tensor for value in self.graph.state]

    @property
    def problem_shapes(self) -> list[tuple[int, ...]]:
        """The shape of each leaf of the state for one problem."""
        return [tuple(leaf.shape[self.batch_dims :]) for leaf in self.example]

    @property
    def size(self) -> int:
        """Unknowns of one problem."""
        return sum(torch.Size(shape).numel() for shape in self.problem_shapes)

    @property
    def slack(self) -> float:
        """A published bound is this many times the proven one: room for a checker's own method.

        More where inputs lie between two ends: a checker's balls are then wide, and their radii have 30 bits.
        """
        return 1 + (2.0**-16 if self.boxes else 2.0**-40)

    @cached_property
    def jacobian(self) -> Jacobian:
        """The Jacobian expression with slopes that hold everywhere."""
        return self.expression(lambda graph, e: Builder(graph, self.constants, expansion=e))

    def expression(self, builder: Callable[[ConcreteGraph, Expansion], Builder]) -> Jacobian:
        """What the builder makes of the graph, and of the one with sorts."""
        paired = None
        if self.paired is not self.graph:
            paired = expanded(lambda expansion: builder(self.paired, expansion).build())
        return replace(expanded(lambda expansion: builder(self.graph, expansion).build()), paired=paired)

    def image(self, state: list[Tensor]) -> list[MidRad]:
        """Enclosure of G at a point."""
        return enclose_image(self.graph, self.constants, [MidRad.exact(exact_float64(leaf)) for leaf in state])

    def residual(self, state: list[Tensor], norm: Norm) -> Tensor:
        """Proven bound of `||G(y) - y||`, per problem."""
        points = [MidRad.exact(exact_float64(leaf)) for leaf in state]
        image = enclose_image(self.graph, self.constants, points)
        gaps = [sub(a, b).magnitude() for a, b in zip(image, points, strict=True)]
        return norm.upper(gaps, self.batch_dims)


def _refuse_nonfinite(graph: ConcreteGraph) -> None:
    masks = scores(graph)
    for value, leaf in graph.leaves.items():
        if leaf.kind == "literal" or not leaf.tensor.is_floating_point():
            continue
        masked = value in masks and leaf.kind != "state" and is_mask(MidRad.exact(leaf.tensor))
        if not bool(leaf.tensor.isfinite().all()) and not masked:
            what = {"state": "state", "input": "input", "parameter": "weight"}[leaf.kind]
            raise InputError(f"{what} {leaf.name!r} holds NaN or infinity; mend the values and try again")
