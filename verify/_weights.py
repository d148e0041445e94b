"""Search for diagonal weights in which a Jacobian contracts: proposals only, verified by `_gains.py`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ._gains import apply_magnitude, apply_magnitude_transposed
from ._jacobian import Jacobian
from ._norm import Norm, Order

_FLOOR = 1e-6  # keeps weights of unreachable entries away from zero
_ROUNDS = 60

Apply = Callable[[list[Tensor]], list[Tensor]]


def proposed_norm(jacobian: Jacobian, order: Order, batch_dims: int) -> Norm:
    """The weighted norm of the given order in which the Jacobian's entrywise bound N is (nearly) smallest.

    linf: w = 1/x with x the Perron vector of N; l1: w the one of N^T; l2: w = sqrt(y/x) from both, the same
    along every dimension but the last. The result is a proposal: any positive weights are sound.
    """
    shapes = [output.shape for output in jacobian.outputs]

    def times(apply: Apply) -> Apply:
        return lambda x: _largest_problem(apply(_copied(x, shapes, batch_dims)), batch_dims)

    return _fitted(
        order,
        [shape[batch_dims:] for shape in shapes],
        times(lambda x: apply_magnitude(jacobian, x)),
        times(lambda y: apply_magnitude_transposed(jacobian, y)),
    )


def fitted_norm(N: Tensor, order: Order, shapes: Sequence[tuple[int, ...]]) -> Norm:
    """The same for a nonnegative matrix, (n, n), n unknowns of leaves of these shapes."""

    def times(matrix: Tensor) -> Apply:
        return lambda x: _split(matrix @ torch.cat([part.reshape(-1) for part in x]), shapes)

    return _fitted(order, shapes, times(N), times(N.T))


def _fitted(order: Order, shapes: Sequence[tuple[int, ...]], times: Apply, transposed: Apply) -> Norm:
    right = _perron(shapes, times) if order != "l1" else []
    left = _perron(shapes, transposed) if order != "linf" else []
    if order == "linf":
        return Norm(order, tuple(1 / x for x in right))
    if order == "l1":
        return Norm(order, tuple(left))
    return Norm(order, tuple(_last_axis((y / x).sqrt()) for x, y in zip(right, left, strict=True)))


def _copied(x: list[Tensor], shapes: Sequence[tuple[int, ...]], batch_dims: int) -> list[Tensor]:
    """The same vector for each problem."""
    return [part.expand(shape) if batch_dims else part for part, shape in zip(x, shapes, strict=True)]


def _largest_problem(image: list[Tensor], batch_dims: int) -> list[Tensor]:
    return [part.amax(dim=0) if batch_dims else part for part in image]


def _split(flat: Tensor, shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
    parts = torch.split(flat, [math.prod(shape) for shape in shapes])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def _perron(shapes: Sequence[tuple[int, ...]], times: Apply) -> list[Tensor]:
    """A positive vector x, per problem, that nearly minimises `max_i (N x)_i / x_i`."""
    x = [torch.ones(shape, dtype=torch.float64) for shape in shapes]
    best, smallest = x, float("inf")
    for _ in range(_ROUNDS):
        image = times(x)
        ratio = max(float((a / b).max()) for a, b in zip(image, x, strict=True) if b.numel())
        if not ratio < smallest:
            break
        done = ratio > smallest * (1 - 1e-6)
        best, smallest = x, ratio
        if done or ratio == 0:
            break
        top = max(float(part.max()) for part in image if part.numel())
        # Averaging with the last vector makes periodic matrices converge too.
        x = [(a / top + b) / 2 for a, b in zip(image, x, strict=True)]
        top = max(float(part.max()) for part in x if part.numel())
        x = [(part / top).clamp(min=_FLOOR) for part in x]
    return best


def _last_axis(weight: Tensor) -> Tensor:
    if weight.ndim < 2:
        return weight
    mean = weight.log().reshape(-1, weight.shape[-1]).mean(dim=0).exp()
    return mean.expand(weight.shape).contiguous()
