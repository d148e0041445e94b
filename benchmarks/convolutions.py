"""Norms of 3 x 3 convolutions on 32 x 32 images: the proven bound beside what others compute, in one run.

`python benchmarks/convolutions.py [--large] [--check]` prints, for each number of channels, kernel and padding, each
method's value relative to the norm, its time on one thread relative to float64 FFT + SVD, and who is below the norm.
--large adds 128 and 256 channels, --check the independent checker's value and time.

The norm is known exactly for the kernels `H_1 diag(s) H_2 (x) p p^T` with circular padding: H dyadic orthogonal,
s_1 = 1, p = (1, 2, 1) / 4 whose symbol is largest, and 1, at frequency 0. That of a normally distributed kernel is
FFT + SVD's value, and with zeros around what Lanczos' iteration finds from below, to about 1e-9.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable

import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn
from torch.nn import functional

from deqops.verify import convolution_norm_bound

SIDE = 32


def householder(size: int, generator: torch.Generator) -> Tensor:
    signs = torch.randint(0, 2, (size,), generator=generator).double() * 2 - 1
    return torch.eye(size, dtype=torch.float64) - 2 * torch.outer(signs, signs) / size


def known_kernel(channels: int) -> Tensor:
    """Of exact norm 1 with circular padding; every entry a float64 number."""
    generator = torch.Generator().manual_seed(channels)
    values = torch.randint(0, 250, (channels,), generator=generator).double() / 256
    values[0] = 1.0
    across = householder(channels, generator) @ torch.diag(values) @ householder(channels, generator)
    filter_ = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64) / 4
    return across[:, :, None, None] * torch.outer(filter_, filter_)


def normal_kernel(channels: int) -> Tensor:
    generator = torch.Generator().manual_seed(channels)
    return torch.randn(channels, channels, 3, 3, generator=generator, dtype=torch.float64) / (3 * channels**0.5)


def symbols(kernel: Tensor) -> Tensor:
    return torch.fft.rfft2(kernel, s=(SIDE, SIDE)).permute(2, 3, 0, 1)


def fft_svd(kernel: Tensor) -> float:
    return float(torch.linalg.svdvals(symbols(kernel)).max())


def gram_iteration(kernel: Tensor) -> float:
    """Six rounds of Gram iteration on all symbols (Delattre et al., ICML 2023), in float64."""
    gram = symbols(kernel)
    scale = torch.zeros(gram.shape[:2], dtype=torch.float64)
    for k in range(6):
        size = torch.linalg.matrix_norm(gram).clamp(min=1e-300)
        scale += size.log() / 2**k
        gram = gram / size[..., None, None]
        gram = gram.mH @ gram
    return float((scale.exp() * torch.linalg.matrix_norm(gram) ** (1 / 2**6)).max())


def spectral_norm_divisor(kernel: Tensor) -> float:
    """What torch's spectral_norm divides the kernel by, after twenty power steps."""
    module = nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, bias=False, dtype=torch.float64)
    with torch.no_grad():
        module.weight.copy_(kernel)
        torch.nn.utils.parametrizations.spectral_norm(module, n_power_iterations=20)
        return float(kernel.norm() / module.weight.norm())


def lanczos(kernel: Tensor) -> float:
    """The norm with zeros around the image, from below."""
    channels = kernel.shape[0]

    def gram(x: Tensor) -> Tensor:
        image = torch.as_tensor(x).reshape(1, channels, SIDE, SIDE)
        moved = functional.conv2d(image, kernel, padding=1)
        return functional.conv_transpose2d(moved, kernel, padding=1).reshape(-1)

    size = channels * SIDE**2
    operator = LinearOperator((size, size), matvec=lambda x: gram(x).numpy(), dtype="float64")
    start = torch.randn(size, generator=torch.Generator().manual_seed(0), dtype=torch.float64).numpy()
    return math.sqrt(float(eigsh(operator, k=1, tol=1e-9, v0=start, return_eigenvectors=False)[0]))


def bound(mode: str) -> Callable[[Tensor], float]:
    return lambda kernel: convolution_norm_bound(kernel, (SIDE, SIDE), padding_mode=mode, padding=1)


def checker(mode: str) -> Callable[[Tensor], float]:
    from deqops.verify.checker import _arithmetic as ball
    from deqops.verify.checker._torus import Dimension, torus_norm

    def run(kernel: Tensor) -> float:
        with ball.working_precision():
            dims = [Dimension(SIDE, mode, 1, 1)] * 2
            return float(torus_norm(ball.exact(kernel), dims, (1, 1), (1, 1), 1))

    return run


def timed(method: Callable[[Tensor], float], kernel: Tensor, repeats: int) -> tuple[float, float]:
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        value = method(kernel)
        best = min(best, time.perf_counter() - start)
    return value, best


def table(name: str, kernel: Tensor, mode: str, norm: float, methods: dict[str, Callable[[Tensor], float]]) -> None:
    found = {method: timed(run, kernel, 1 if method == "checker" else 3) for method, run in methods.items()}
    for method, (value, seconds) in found.items():
        ratio = seconds / found["FFT + SVD"][1]
        below = "yes" if value < norm else ""
        over = value / norm - 1
        print(
            f"{kernel.shape[0]:>8} {name:<7} {mode:<9} {method:<22} {over:>12.2e} {ratio:>10.2f}  {below}", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true", help="also 128 and 256 channels")
    parser.add_argument("--check", action="store_true", help="also the checker, up to 64 channels")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    others = {
        "FFT + SVD": fft_svd,
        "FFT + SVD float32": lambda kernel: fft_svd(kernel.float()),
        "Gram iteration": gram_iteration,
        "torch spectral_norm": spectral_norm_divisor,
    }
    heads = f"{'channels':>8} {'kernel':<7} {'padding':<9} {'method':<22}"
    print(f"{heads} {'value/norm-1':>12} {'time/SVD':>10}  below the norm")
    for channels in [16, 64, *([128, 256] if arguments.large else [])]:
        checked = arguments.check and channels <= 64
        for name, kernel in (("known", known_kernel(channels)), ("normal", normal_kernel(channels))):
            for mode in ("circular", "zeros") if name == "normal" else ("circular",):
                norm = 1.0 if name == "known" else fft_svd(kernel) if mode == "circular" else lanczos(kernel)
                own = {"deqops bound": bound(mode)} | ({"checker": checker(mode)} if checked else {})
                table(name, kernel, mode, norm, own | others)


if __name__ == "__main__":
    main()
