"""An estimate from below of an operator's Lipschitz constant, from its own Jacobian-vector products: no proof."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from deqops._errors import UnsupportedOperationError

from ._flat import unflattened
from ._norm import Norm
from ._problem import Problem
from ._region import Ball, Box, Region
from ._rounding import exact_float64
from ._steepest import steepest_states

_RANDOM_STATES = 2
_ROUNDS = {"l1": 4, "l2": 8, "linf": 4}
_ORDERS = {"l1": 1.0, "l2": 2.0, "linf": math.inf}
_LARGEST_SOLVED = 512  # unknowns up to which the states where activations are steepest are solved for


def gain_estimate(problem: Problem, inputs: tuple[Any, ...], norm: Norm, region: Region) -> float:
    """The largest `||J(y) v|| / ||v||` met at a few states y of the region; 0 where derivatives are not to be had.

    The v come from a few rounds of the power method (l2) or Boyd's (l1, linf), by forward and backward products in the
    model's own arithmetic, at the example, at 0, where activations are steepest, and at random states; on a ball or a
    box at its centre and at random states in it. Everything is seeded.
    """
    model = _FlatModel(problem, inputs, norm)
    best = 0.0
    with contextlib.suppress(RuntimeError, UnsupportedOperationError):  # an operation without derivatives
        for point in _points(problem, model, norm, region):
            found = _gain_at(model, point, norm)
            best = max(best, found) if math.isfinite(found) else best
    return best


def _points(problem: Problem, model: _FlatModel, norm: Norm, region: Region) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(0)
    if isinstance(region, Ball):
        center = model.flat(list(region.leaves))
        own = norm if region.norm is None else region.norm
        yield center
        for _ in range(_RANDOM_STATES if own is norm or own.weights is norm.weights is None else 0):
            step = torch.randn(center.shape, generator=generator, dtype=torch.float64)
            yield center + 0.99 * region.radius * step / _lengths(step, own)[:, None]
        return
    if isinstance(region, Box):
        low, high = (model.flat(list(leaves)) for leaves in region.ends)
        yield model.flat(list(region.middle))
        for _ in range(_RANDOM_STATES):
            yield low + torch.rand(low.shape, generator=generator, dtype=torch.float64) * (high - low)
        return
    example = model.flat(problem.example)
    yield from (example, torch.zeros_like(example))
    if problem.size <= _LARGEST_SOLVED:
        yield from (model.flat(leaves) for leaves in steepest_states(problem))
    for _ in range(_RANDOM_STATES):
        yield torch.randn(example.shape, generator=generator, dtype=torch.float64)


def _gain_at(model: _FlatModel, x: Tensor, norm: Norm) -> float:
    if norm.order == "linf":
        v = torch.ones_like(x)
    else:
        v = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    best = 0.0
    for _ in range(_ROUNDS[norm.order]):
        v = v / _lengths(v, norm)[:, None]
        image = model.push(x, v)
        gain = float(_lengths(image, norm).max())
        if not math.isfinite(gain):
            return best
        best, v = max(best, gain), _next_direction(model, x, image, norm)
    return best


def _next_direction(model: _FlatModel, x: Tensor, image: Tensor, norm: Norm) -> Tensor:
    if norm.order == "l2":
        return model.pull(x, image)
    if norm.order == "linf":
        peak = torch.zeros_like(x).scatter(1, image.abs().argmax(dim=1, keepdim=True), 1.0)
        return torch.where(model.pull(x, peak) < 0, -1.0, 1.0).to(torch.float64)
    slope = model.pull(x, torch.where(image < 0, -1.0, 1.0).to(torch.float64))
    return torch.zeros_like(x).scatter(1, slope.abs().argmax(dim=1, keepdim=True), 1.0)


def _lengths(rows: Tensor, norm: Norm) -> Tensor:
    """The norm of each row, at least a number that may be divided by."""
    lengths: Tensor = torch.linalg.vector_norm(rows, _ORDERS[norm.order], dim=1)
    return lengths.clamp(min=1e-300)


class _FlatModel:
    """`x -> P G(P^-1 x)` on states as (problems, n) float64 matrices, P the norm's weights."""

    def __init__(self, problem: Problem, inputs: tuple[Any, ...], norm: Norm) -> None:
        self._problem, self._inputs, self._like = problem, inputs, problem.example
        self._rows = self._like[0].shape[0] if problem.batch_dims else 1
        self._weights = torch.ones(1, 1, dtype=torch.float64)
        if norm.weights is not None:
            self._weights = torch.cat([weight.reshape(1, -1) for weight in norm.weights], dim=1)

    def flat(self, leaves: list[Tensor]) -> Tensor:
        """A state in the norm's coordinates."""
        return torch.cat([exact_float64(leaf).reshape(self._rows, -1) for leaf in leaves], dim=1) * self._weights

    def push(self, x: Tensor, v: Tensor) -> Tensor:
        """J v by differentiating backward twice, which needs reverse mode only."""
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            image = self._map(x)
            dummy = torch.zeros_like(image, requires_grad=True)
            (pulled,) = torch.autograd.grad(image, x, dummy, create_graph=True)
            (pushed,) = torch.autograd.grad(pulled, dummy, v)
        return pushed.detach()

    def pull(self, x: Tensor, w: Tensor) -> Tensor:
        """J^T w."""
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            (pulled,) = torch.autograd.grad(self._map(x), x, w)
        return pulled

    def _map(self, x: Tensor) -> Tensor:
        parts = unflattened(x / self._weights, self._like)
        leaves = [part.to(leaf.device, leaf.dtype) for part, leaf in zip(parts, self._like, strict=True)]
        image = self._problem.operator(pytree.tree_unflatten(leaves, self._problem.tree), *self._inputs)
        rows = [leaf.reshape(self._rows, -1).to("cpu", torch.float64) for leaf in pytree.tree_leaves(image)]
        return torch.cat(rows, dim=1) * self._weights
