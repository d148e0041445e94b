"""States as trees of tensors, and as one row of numbers per problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils import _pytree as pytree

from deqops._errors import InputError

FLOATING = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
"""The dtypes that a state's leaves may have."""


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
        """The layout of a start y0.

        Raises:
            InputError: no tensors, leaves that are not real floating tensors, or batches of different sizes.
        """
        check_batch_dims(batch_dims)
        leaves, spec = pytree.tree_flatten(state)
        for leaf in leaves:
            _check_leaf(leaf, batch_dims)
        return StateLayout(
            spec=spec,
            shapes=tuple(leaf.shape for leaf in leaves),
            dtypes=tuple(leaf.dtype for leaf in leaves),
            batch_dims=batch_dims,
            problems=_problems(leaves, batch_dims),
        )

    @property
    def unit(self) -> float:
        """The unit of rounding of the coarsest leaf."""
        return max(torch.finfo(dtype).eps for dtype in self.dtypes)

    @property
    def is_uniform(self) -> bool:
        """All leaves have the same dtype."""
        return len(set(self.dtypes)) == 1

    @cached_property
    def _is_tensor(self) -> bool:
        return self.spec.is_leaf()

    def rows(self, state: Any) -> Tensor:
        """The state as (problems, unknowns), in a dtype that holds every leaf exactly."""
        if isinstance(state, Tensor):
            return state if state.ndim == 2 and self.batch_dims else state.reshape(self.problems, -1)
        leaves = zip(pytree.tree_leaves(state), self._widths, strict=True)
        parts = [leaf.reshape(self.problems, width) for leaf, width in leaves]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def state(self, rows: Tensor) -> Any:
        """The tree of a (problems, unknowns) matrix; entries are rounded to their leaf's dtype."""
        if self._is_tensor:
            shaped = rows if rows.shape == self.shapes[0] else rows.reshape(self.shapes[0])
            return shaped if shaped.dtype == self.dtypes[0] else shaped.to(self.dtypes[0])
        parts = torch.split_with_sizes(rows, self._widths, dim=1)
        leaves = [p.reshape(s).to(d) for p, s, d in zip(parts, self.shapes, self.dtypes, strict=True)]
        return pytree.tree_unflatten(leaves, self.spec)

    def representable(self, rows: Tensor) -> Tensor:
        """Rows rounded to what the leaves' dtypes can hold, so that a residual belongs to the very point."""
        return rows if self.is_uniform else self.rows(self.state(rows))

    def check_image(self, image: Any) -> None:
        """Raises InputError where an operator changed the structure, a shape or a dtype of the state."""
        if self._is_tensor and isinstance(image, Tensor):
            if image.shape == self.shapes[0] and image.dtype == self.dtypes[0] and image.layout == torch.strided:
                return
            leaves, spec = [image], self.spec
        else:
            leaves, spec = pytree.tree_flatten(image)
        if spec != self.spec and _is_reordered(pytree.tree_unflatten(range(len(self.shapes)), self.spec), image):
            raise InputError(
                "G: it returns the state's keys in another order; build its dict in the order of the state's"
            )
        if spec != self.spec:
            raise InputError(f"G: it maps a state of structure {self.spec} to {spec}; return the same structure")
        for leaf, shape, dtype in zip(leaves, self.shapes, self.dtypes, strict=True):
            if not isinstance(leaf, Tensor):
                raise InputError(f"G: it returned a {type(leaf).__name__} where a tensor is expected; return one")
            if leaf.shape != shape:
                got, expected = tuple(leaf.shape), tuple(shape)
                raise InputError(f"G: it maps a state of shape {expected} to shape {got}; return {expected}")
            if leaf.dtype != dtype:
                raise InputError(f"G: it maps a {dtype} state to {leaf.dtype}; return {dtype}")
            if leaf.layout != torch.strided:
                raise InputError(f"G: it returned a tensor of layout {leaf.layout}; return a dense one, as to_dense()")

    def narrowed(self, kept: Tensor) -> StateLayout:
        """The layout of these problems only: its rows are `rows[kept]`.

        Args:
            kept: different problems, (kept problems,) int64; problem kept[k] becomes problem k.
        """
        if not self.batch_dims:
            return self
        count = len(kept)
        return replace(self, shapes=tuple(torch.Size([count, *shape[1:]]) for shape in self.shapes), problems=count)

    @property
    def _widths(self) -> list[int]:
        return [shape.numel() // self.problems for shape in self.shapes]


def _is_reordered(state: Any, image: Any) -> bool:
    """Whether two trees, leaves apart, differ in the order of keys alone."""
    if isinstance(state, dict) and isinstance(image, dict):
        return state.keys() == image.keys() and all(_is_reordered(state[key], image[key]) for key in state)
    if isinstance(state, list | tuple) and type(state) is type(image):
        return len(state) == len(image) and all(map(_is_reordered, state, image))
    return not isinstance(state, dict | list | tuple) and not isinstance(image, dict | list | tuple)


def check_batch_dims(batch_dims: object) -> None:
    """Raises InputError unless `batch_dims` is 0 or 1."""
    if isinstance(batch_dims, bool) or not isinstance(batch_dims, int) or batch_dims not in (0, 1):
        raise InputError(f"batch_dims: got {batch_dims!r}; use 1 for a batch of problems, 0 for one problem")


def _check_leaf(leaf: object, batch_dims: int) -> None:
    if not isinstance(leaf, Tensor):
        raise InputError(f"y0: every leaf must be a tensor, got {type(leaf).__name__}; make it one or drop it")
    if leaf.dtype not in FLOATING:
        raise InputError(f"y0: every leaf must hold real floating numbers, got {leaf.dtype}; convert it")
    holds_none = leaf.is_meta and type(leaf) in (Tensor, torch.nn.Parameter)  # other classes may keep theirs elsewhere
    if leaf.layout != torch.strided or leaf.is_nested or holds_none:
        kind = "a nested one" if leaf.is_nested else f"layout {leaf.layout} on device {leaf.device}"
        raise InputError(f"y0: every leaf must be a dense tensor that holds numbers, got {kind}; make it one")
    if batch_dims and leaf.ndim == 0:
        raise InputError("y0: a leaf of shape () has no batch dimension; give it one, or say batch_dims=0")


def _problems(leaves: Sequence[Tensor], batch_dims: int) -> int:
    if sum(leaf.numel() for leaf in leaves) == 0:
        raise InputError("y0: it holds no numbers; pass at least one problem with one unknown")
    sizes = {leaf.shape[0] for leaf in leaves} if batch_dims else {1}
    if len(sizes) != 1:
        raise InputError(f"y0: its leaves have batches of different sizes {sorted(sizes)}; make them equal")
    return sizes.pop()


@cache
def ordinary_range(dtype: torch.dtype) -> tuple[float, float]:
    """Between these a norm's squares neither overflow nor lose digits in `dtype`, at least float32."""
    least = torch.finfo(torch.promote_types(dtype, torch.float32)).tiny ** 0.25
    return least, 1 / least


def at_least_float32(rows: Tensor) -> Tensor:
    """The same numbers in float32 or wider."""
    return rows if rows.dtype in (torch.float32, torch.float64) else rows.to(torch.float32)


def plain_row_norms(rows: Tensor) -> Tensor:
    """The l2 norm of each row in at least float32; right only within `ordinary_range`; (problems,)."""
    norms: Tensor = torch.linalg.vector_norm(at_least_float32(rows), dim=1)
    return norms


def row_norms(rows: Tensor) -> Tensor:
    """The l2 norm of each row in at least float32, without overflow or underflow on the way; (problems,)."""
    return known_row_norms(rows)[0]


def known_row_norms(rows: Tensor) -> tuple[Tensor, NDArray[np.float64]]:
    """`row_norms`, and the same numbers on the host."""
    plain = plain_row_norms(rows)
    least, most = ordinary_range(plain.dtype)
    near = on_host(plain)
    numbers: NDArray[np.float64] = near.numpy().astype(np.float64)
    smallest, largest = near.aminmax()
    if smallest.item() > least and largest.item() < most:  # false for NaN
        return plain, numbers
    # Each row decides by its own size, so companions do not change its bits.
    extreme = ~((plain > least) & (plain < most))
    wide = rows.to(plain.dtype)
    largest = torch.linalg.vector_norm(wide, torch.inf, dim=1)
    scale = torch.where((largest > 0) & largest.isfinite(), largest, torch.ones_like(largest))
    scaled = scale * torch.linalg.vector_norm(wide / scale[:, None], dim=1)
    norms = torch.where(extreme, scaled, plain)
    return norms, host(norms)


def host(numbers: Tensor) -> NDArray[np.float64]:
    """A small tensor's numbers as float64 on the host."""
    array: NDArray[np.float64] = on_host(numbers).numpy().astype(np.float64)
    return array


def on_host(numbers: Tensor) -> Tensor:
    """The same numbers on the host, without gradients."""
    # detach() and cpu() do nothing to most tensors, and take three quarters of the time.
    return numbers if numbers.is_cpu and not numbers.requires_grad else numbers.detach().cpu()
