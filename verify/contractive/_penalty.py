"""Penalties for training: differentiable estimates of what a certificate bounds. They propose; nothing is proven."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from deqops._errors import InputError
from deqops._operators import Operator

from ._spectral import top_pair


def norm_penalty_estimate(module: nn.Module, rate: float = 0.95, norm: str = "l2") -> Tensor:
    """`sum_W max(0, ||W|| - rate)^2` over the matrices and kernels of a module; a kernel counts reshaped.

    Args:
        module: whose parameters of two dimensions or more are penalised.
        rate: below which nothing is.
        norm: "l2", by singular vectors held fixed in the gradient, or "linf".

    Returns:
        A scalar, differentiable in the weights.

    Raises:
        InputError: an unknown norm, or a module without such weights.
    """
    if norm not in ("l2", "linf"):
        raise InputError(f"norm: got {norm!r}; choose l2 or linf")
    weights = [parameter for parameter in module.parameters() if parameter.ndim >= 2]
    if not weights:
        raise InputError(f"module: {type(module).__name__} has no matrix to penalise")
    sizes = torch.stack([_norm(weight.flatten(1), norm) for weight in weights])
    return (sizes - rate).clamp_min(0.0).square().sum()


def _norm(matrix: Tensor, norm: str) -> Tensor:
    if norm == "linf":
        return matrix.abs().sum(dim=1).max()
    left, right = top_pair(matrix.detach())
    size: Tensor = left @ matrix @ right
    return size


def jacobian_penalty_estimate(
    G: Operator, state: Any, *inputs: Any, samples: int = 1, generator: torch.Generator | None = None
) -> Tensor:
    """Hutchinson's estimate of `||J||_F^2 / unknowns`, J = dG/dy at the state: `mean ||J^T v||^2`, v normal.

    `||J||_F` is at least `||J||_2`, which a contraction needs below 1.

    Args:
        G: the operator.
        state: where, usually the equilibrium; no gradient passes to it.
        inputs: of G.
        samples: vectors v.
        generator: of their random numbers.

    Returns:
        A scalar, differentiable in the weights and inputs.

    Raises:
        InputError: no samples, or a state without numbers.

    Source: Bai, Koltun and Kolter, *Stabilizing Equilibrium Models by Jacobian Regularization*, ICML 2021.
    """
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
        raise InputError(f"samples: a whole number of at least 1 is needed, got {samples!r}")
    leaves, spec = pytree.tree_flatten(state)
    points = [leaf.detach().requires_grad_() for leaf in leaves]
    unknowns = sum(point.numel() for point in points)
    if not unknowns:
        raise InputError("state: it holds no numbers")
    images = pytree.tree_leaves(G(pytree.tree_unflatten(points, spec), *inputs))
    total = torch.zeros((), dtype=points[0].dtype, device=points[0].device)
    for _ in range(samples):
        vectors = [torch.randn(i.shape, generator=generator, dtype=i.dtype, device=i.device) for i in images]
        products = torch.autograd.grad(images, points, vectors, create_graph=True, allow_unused=True)
        total = total + sum((p.square().sum() for p in products if p is not None), torch.zeros_like(total))
    mean: Tensor = total / (samples * unknowns)
    return mean
