"""States as trees of tensors, and as one row of numbers per problem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from deqops._errors import InputError


@dataclass(frozen=True)
class StateLayout:
    """How a state's leaves lie in a matrix with one row per problem.

    Attributes:
        spec: the tree's structure.
        shapes: of each leaf, with the batch dimension where `batch_dims` is 1.
        dtypes: of each leaf.
        batch_dims: 1 where dimension 0 of every leaf counts independent problems, 0 for one problem.
        problems: how many problems.
    """

    spec: pytree.TreeSpec
    shapes: tuple[torch.Size, ...]
    dtypes: tuple[torch.dtype, ...]
    batch_dims: int
    problems: int

    @staticmethod
    def of(state: Any, batch_dims: int) -> StateLayout:
        """The layout of a state.

        Raises:
            InputError: no tensors, leaves that are not floating tensors, or batches of different sizes.
        """
        if batch_dims not in (0, 1):
            raise InputError(f"batch_dims: got {batch_dims!r}; use 1 for a batch of problems, 0 for one problem")
        leaves, spec = pytree.tree_flatten(state)
        if not leaves:
            raise InputError("state: it holds no tensor; pass a tensor or a tree of tensors")
        for leaf in leaves:
            if not isinstance(leaf, Tensor) or not leaf.is_floating_point():
                what = leaf.dtype if isinstance(leaf, Tensor) else type(leaf).__name__
                raise InputError(f"state: every leaf must be a real floating tensor, got {what}; convert it")
        if batch_dims and any(leaf.ndim == 0 for leaf in leaves):
            raise InputError("state: a leaf has no batch dimension; give it one, or say batch_dims=0")
        sizes = {leaf.shape[0] for leaf in leaves} if batch_dims else {1}
        if len(sizes) != 1:
            raise InputError(f"state: its leaves have batches of different sizes {sorted(sizes)}; make them equal")
        (problems,) = sizes
        if problems == 0 or sum(leaf.numel() for leaf in leaves) == 0:
            raise InputError("state: it holds no numbers; pass at least one problem with one unknown")
        return StateLayout(
            spec, tuple(leaf.shape for leaf in leaves), tuple(leaf.dtype for leaf in leaves), batch_dims, problems
        )

    def rows(self, state: Any) -> Tensor:
        """The state as (problems, unknowns), in the widest dtype of its leaves."""
        leaves = [leaf.reshape(self.problems, -1) for leaf in pytree.tree_leaves(state)]
        return leaves[0] if len(leaves) == 1 else torch.cat(leaves, dim=1)

    def state(self, rows: Tensor) -> Any:
        """The tree of a (problems, unknowns) matrix."""
        sizes = [shape.numel() // self.problems for shape in self.shapes]
        parts = rows.split(sizes, dim=1) if len(sizes) > 1 else (rows,)
        leaves = [p.reshape(s).to(d) for p, s, d in zip(parts, self.shapes, self.dtypes, strict=True)]
        return pytree.tree_unflatten(leaves, self.spec)

    def check_image(self, image: Any) -> None:
        """Raises InputError where an operator changed the structure, a shape or a dtype of the state."""
        leaves, spec = pytree.tree_flatten(image)
        if spec != self.spec:
            raise InputError(f"operator: it maps a state of structure {self.spec} to {spec}; return the same structure")
        for number, (leaf, shape, dtype) in enumerate(zip(leaves, self.shapes, self.dtypes, strict=True)):
            if not isinstance(leaf, Tensor):
                raise InputError(f"operator: leaf {number} of its result is {type(leaf).__name__}, not a tensor")
            if leaf.shape != shape:
                got, expected = tuple(leaf.shape), tuple(shape)
                raise InputError(f"operator: it maps a state of shape {expected} to shape {got}; return {expected}")
            if leaf.dtype != dtype:
                raise InputError(f"operator: it maps a {dtype} state to {leaf.dtype}; return {dtype}")


def row_norms(rows: Tensor) -> Tensor:
    """The l2 norm of each row, accumulated in at least float32, safe from overflow; (problems,)."""
    wide = rows.to(torch.promote_types(rows.dtype, torch.float32))
    return torch.linalg.vector_norm(wide, dim=1)
