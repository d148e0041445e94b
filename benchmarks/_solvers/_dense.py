"""Problems made of one dense matrix."""

from __future__ import annotations

import torch
from torch import Tensor

from ._problem import Problem, reference

DOUBLE = torch.float64


def orthogonal(n: int, seed: int) -> Tensor:
    return torch.linalg.qr(randn(n, n, seed=seed))[0]


def randn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def affine(name: str, title: str, matrix: Tensor, b: Tensor, **options: object) -> Problem:
    """`z = z A + b`; the truth is that of the stored numbers."""
    wide = torch.eye(len(matrix), dtype=DOUBLE) - matrix.double()
    truth = torch.linalg.solve(wide, b.double(), left=False)

    def in_jax(jax: object) -> object:
        a, c = matrix.numpy(), b.numpy()
        return lambda z: z @ a + c

    return Problem(name, title, lambda z: z @ matrix + b, torch.zeros_like(b), truth, in_jax, **options)


def linear(quick: bool) -> Problem:
    batch, n = (4, 16) if quick else (64, 512)
    matrix = (0.9 * orthogonal(n, 0)).float()
    return affine("a", f"linear, 0.9 x orthogonal, {batch} x {n}", matrix, randn(batch, n, seed=1).float())


def symmetric(scale: float, quick: bool) -> Problem:
    """A spectrum spread evenly over [-0.95, 0.95], in float64."""
    batch, n = (2, 32) if quick else (32, 512)
    basis = orthogonal(n, 2)
    matrix = basis @ torch.diag(torch.linspace(-0.95, 0.95, n, dtype=DOUBLE)) @ basis.T
    title = f"linear, symmetric, spectrum in [-0.95, 0.95], {batch} x {n}, float64, scale {scale:g}"
    return affine(f"f {scale:g}", title, matrix, scale * randn(batch, n, seed=3), tolerance=1e-8)


def tanh_layer(name: str, title: str, w: Tensor, quick: bool) -> Problem:
    """`z = tanh(z W + b)`."""
    w, b = w.float(), randn(4 if quick else 64, len(w), seed=5).float()

    def in_jax(jax: object) -> object:
        weight, bias = w.numpy(), b.numpy()
        return lambda z: jax.numpy.tanh(z @ weight + bias)

    start = torch.zeros_like(b)
    truth = reference(lambda z: torch.tanh(z @ w.double() + b.double()), start)
    return Problem(name, f"{title}, {len(b)} x {len(w)}", lambda z: torch.tanh(z @ w + b), start, truth, in_jax)


def gaussian(quick: bool) -> Problem:
    n = 16 if quick else 512
    w = randn(n, n, seed=4)
    return tanh_layer("b", "tanh layer, Gaussian of norm 0.95", 0.95 * w / torch.linalg.norm(w, 2), quick)


def hard(quick: bool) -> Problem:
    w = 0.95 * orthogonal(16 if quick else 512, 6)
    return tanh_layer("b-hard", "tanh layer, 0.95 x orthogonal", w, quick)


def slow_sample(quick: bool) -> Problem:
    """`z = r z Q + b`, r = 0.5 for all problems but one, whose rate is 0.99."""
    batch, n = (4, 16) if quick else (64, 512)
    q, b = orthogonal(n, 7).float(), randn(batch, n, seed=8).float()
    rates = torch.full((batch, 1), 0.5)
    rates[batch // 3] = 0.99
    eye = torch.eye(n, dtype=DOUBLE)
    systems = eye - rates.double()[:, :, None] * q.double()
    truth = torch.stack(
        [torch.linalg.solve(s, row[None], left=False) for s, row in zip(systems, b.double(), strict=True)]
    )

    def in_jax(jax: object) -> object:
        matrix, offset, rate = q.numpy(), b.numpy(), rates.numpy()
        return lambda z: rate * (z @ matrix) + offset

    return Problem(
        "g",
        f"linear, {batch - 1} problems of rate 0.5 and one of 0.99, {batch} x {n}",
        lambda z, b, rate: torch.addcmul(b, rate, z @ q),
        torch.zeros_like(b),
        truth[:, 0],
        in_jax,
        inputs=(b, rates),
        batched=("problem", "problem"),
        most=2500,
    )
