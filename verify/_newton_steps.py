"""Newton's method for equilibria and cycles in the model's own arithmetic: proposals, nothing more.

The unknowns are p states `y_0, .., y_{p-1}`, the equations `y_{i+1} = F(y_i)` with `F(y) = (1 - b) y + b G(y)`, indices
modulo p. Each problem of a batch takes its own steps, shortened until the residual falls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree

from deqops._errors import InputError

from ._flat import flattened, unflattened
from ._midrad import MidRad
from ._problem import Problem
from ._rounding import exact_float64

STEPS = 25
_SHARES = (1.0, 0.5, 0.2, 0.05, 0.01)  # of a Newton step, the best is taken
_SETTLED = 1e-3  # of the point's size: a residual below this is worth enclosing


class Iterated(Protocol):
    """F on (problems, n) float64 matrices, and its derivative, (problems, n, n)."""

    def __call__(self, flat: Tensor) -> Tensor:
        """F(y)."""

    def jacobian(self, flat: Tensor) -> Tensor:
        """DF(y)."""


class Model:
    """F on states as (problems, n) float64 matrices, evaluated in the model's dtype.

    Args:
        problem: whose G.
        inputs: the operator's inputs.
        damping: b.
    """

    def __init__(self, problem: Problem, inputs: tuple[object, ...], damping: float) -> None:
        self._problem, self._inputs, self._damping = problem, inputs, damping
        self._like = problem.example

    def __call__(self, flat: Tensor) -> Tensor:
        """F(y), (problems, n)."""
        leaves = [x.to(like.dtype) for x, like in zip(unflattened(flat, self._like), self._like, strict=True)]
        with sdpa_kernel(SDPBackend.MATH):  # the others have no rule for many states at once, and say so on stderr
            image = self._problem.operator(pytree.tree_unflatten(leaves, self._problem.tree), *self._inputs)
        rows = [leaf.reshape(len(flat), -1).to(torch.float64) for leaf in pytree.tree_leaves(image)]
        return (1 - self._damping) * flat + self._damping * torch.cat(rows, dim=1)

    def jacobian(self, flat: Tensor) -> Tensor:
        """(problems, n, n), by one batched backward pass: the problems of a batch do not depend on each other."""
        return _jacobian(self, flat)

    def flat(self, leaves: list[Tensor]) -> Tensor:
        """The (problems, n) matrix of a state."""
        return flattened([MidRad.exact(exact_float64(leaf)) for leaf in leaves], self._problem.batch_dims).mid


class Copies:
    """F on several states at once, as (copies problems, n) matrices: one pass through the model for all of them.

    Args:
        model: F on one state.
        count: how many states.
    """

    def __init__(self, model: Model, count: int) -> None:
        self._model, self._count = model, count
        self._together: Callable[[Tensor], Tensor] = torch.func.vmap(model)

    def __call__(self, flat: Tensor) -> Tensor:
        """F of each state."""
        stack = flat.reshape(self._count, -1, flat.shape[1])
        try:
            return self._together(stack).reshape(flat.shape)
        except (InputError, RuntimeError):  # an operation that vmap cannot run; a state at a time then
            self._together = self._one_by_one
            return self._one_by_one(stack).reshape(flat.shape)

    def _one_by_one(self, stack: Tensor) -> Tensor:
        return torch.stack([self._model(state) for state in stack])

    def jacobian(self, flat: Tensor) -> Tensor:
        """The derivative at each state, (copies problems, n, n)."""
        return _jacobian(self, flat)


def _jacobian(model: Iterated, flat: Tensor) -> Tensor:
    with torch.enable_grad():
        x = flat.detach().clone().requires_grad_(True)
        image = model(x)
        n = flat.shape[1]
        rows = torch.eye(n, dtype=torch.float64)[:, None, :].expand(n, len(flat), n)
        (pulled,) = torch.autograd.grad(image, x, rows, is_grads_batched=True)
    return pulled.permute(1, 0, 2)


def proposed_orbit(model: Iterated, points: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Points near a cycle of period p from p starts, each (problems, n).

    Returns:
        (p, problems, n), and which problems seem to have settled, (problems,) bool.
    """
    y = torch.stack(points)
    gaps = _gaps(model, y)
    for _ in range(STEPS):
        size = y.abs().amax(dim=(0, 2)).clamp(min=1.0)
        if bool((_size(gaps) <= 1e-6 * size).all()) or not bool(gaps.isfinite().any()):
            break
        y, gaps = _step(model, y, gaps)
    size = y.abs().amax(dim=(0, 2)).clamp(min=1.0)
    return y, _size(gaps) <= _SETTLED * size


def _gaps(model: Iterated, y: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.stack([model(point) for point in y]) - y.roll(-1, dims=0)


def _size(gaps: Tensor) -> Tensor:
    """The l2 norm of each problem's residual, inf where it is no number."""
    return gaps.square().sum(dim=(0, 2)).sqrt().nan_to_num(torch.inf)


def _step(model: Iterated, y: Tensor, gaps: Tensor) -> tuple[Tensor, Tensor]:
    step = newton_step(torch.stack([model.jacobian(point) for point in y]), gaps).nan_to_num(0.0, 0.0, 0.0)
    best, kept = y, gaps
    for share in _SHARES:
        trial = y + share * step
        moved = _gaps(model, trial)
        better = (_size(moved) < _size(kept))[None, :, None]
        best, kept = torch.where(better, trial, best), torch.where(better, moved, kept)
        if share == 1.0 and bool((_size(moved) < 0.5 * _size(gaps)).all()):
            break
    return best, kept


def newton_step(matrices: Tensor, gaps: Tensor) -> Tensor:
    """The step that solves the linearised equations of each problem, NaN where there is none.

    Args:
        matrices: of DF at each point, (p, problems, n, n).
        gaps: `F(y_i) - y_{i+1}`, (p, problems, n).
    """
    p, problems, n = gaps.shape
    if p == 1:
        whole = torch.eye(n, dtype=torch.float64) - matrices[0]
    else:
        whole = torch.stack([cyclic([matrices[i, k] for i in range(p)]) for k in range(problems)])
    right = gaps.permute(1, 0, 2).reshape(problems, p * n, 1)
    usable = whole.isfinite().reshape(problems, -1).all(dim=1) & right.isfinite().reshape(problems, -1).all(dim=1)
    eye = torch.eye(p * n, dtype=torch.float64)
    solution, info = torch.linalg.solve_ex(torch.where(usable[:, None, None], whole, eye), right.nan_to_num(0.0))
    solution = torch.where((usable & (info == 0))[:, None, None], solution, torch.nan)
    return solution.reshape(problems, p, n).permute(1, 0, 2)


def cyclic(slopes: list[Tensor]) -> Tensor:
    """The derivative of `y_{i+1} - F(y_i)`, (p n, p n): block row i holds `-J_i` at i and I at i + 1."""
    p, n = len(slopes), slopes[0].shape[0]
    whole = torch.zeros(p * n, p * n, dtype=torch.float64)
    for i, slope in enumerate(slopes):
        after = (i + 1) % p
        whole[i * n : (i + 1) * n, after * n : (after + 1) * n] += torch.eye(n, dtype=torch.float64)
        whole[i * n : (i + 1) * n, i * n : (i + 1) * n] -= slope
    return whole
