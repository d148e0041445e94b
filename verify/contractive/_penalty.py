"""Penalties for training: differentiable estimates of what a certificate bounds. They propose; nothing is proven."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from deqops._errors import InputError
from deqops._numbers import is_count
from deqops._operators import Operator

from ._spectral import top_pair


def norm_penalty_estimate(
    module: nn.Module, rate: float = 0.95, norm: str = "l2", size: int | Sequence[int] | None = None
) -> Tensor:
    """`sum_W max(0, ||W|| - rate)^2` over the matrices and kernels of a module.

    Args:
        module: whose parameters of two dimensions or more are penalised.
        rate: below which nothing is.
        norm: "l2", by singular vectors held fixed in the gradient, or "linf".
        size: the input's spatial size, (N,) or (N1, N2): a kernel then counts as its convolution there, on the torus
            that holds the zero padding, groups and dilation left out. Without it a kernel counts reshaped in l2, which
            may be `sqrt(taps)` times too little: a convolution that is to be certified needs it. Complex weights count
            reshaped in any case.

    Returns:
        A scalar, differentiable in the weights.

    Raises:
        InputError: an unknown norm, a size that is none, or a module without such weights.

    Source: Sedghi, Gupta and Long, *The Singular Values of Convolutional Layers*, ICLR 2019, for the torus.
    """
    if norm not in ("l2", "linf"):
        raise InputError(f"norm: got {norm!r}; choose l2 or linf")
    sides = () if size is None else (size,) if isinstance(size, int) else tuple(size)
    if not all(isinstance(side, int) and side > 0 for side in sides):
        raise InputError(f"size: whole numbers above 0 are needed, got {size!r}")
    weights = [parameter for parameter in module.parameters() if parameter.ndim >= 2]
    if not weights:
        raise InputError(f"module: {type(module).__name__} has no matrix to penalise")
    sizes = torch.stack([_norm(weight, norm, sides) for weight in weights])
    return (sizes - rate).clamp_min(0.0).square().sum()


def _norm(weight: Tensor, norm: str, size: tuple[int, ...]) -> Tensor:
    matrix = weight.flatten(1)
    if norm == "linf":
        return matrix.abs().sum(dim=1).max()
    if weight.is_complex():  # of the same norm, and real
        matrix = torch.cat([torch.cat([matrix.real, -matrix.imag], 1), torch.cat([matrix.imag, matrix.real], 1)])
    elif size and weight.ndim == len(size) + 2:
        return _on_torus(weight, size)
    left, right = top_pair(matrix.detach())
    value: Tensor = left @ matrix @ right
    return value


def _on_torus(kernel: Tensor, size: tuple[int, ...]) -> Tensor:
    """The largest singular value of the symbols; a torus of `size + taps - 1` holds every zero padding."""
    sides = [side + taps - 1 for side, taps in zip(size, kernel.shape[2:], strict=True)]
    wide = kernel.to(torch.promote_types(kernel.dtype, torch.float32))
    symbols = torch.fft.rfftn(wide, s=sides).flatten(2).permute(2, 0, 1)
    largest: Tensor = torch.linalg.matrix_norm(symbols, 2).max()
    return largest.to(kernel.dtype)


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
    if not is_count(samples, 1):
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
