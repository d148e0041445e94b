"""Dense spectral norms: the proven bound beside what others compute, in one run.

`python benchmarks/norms.py [--large]` prints, per size, each method's value relative to the proven bound's lower
neighbour and its time relative to `torch.linalg.svdvals`, and who is below the true norm (which is known exactly:
the matrix is `H_1 diag(s) H_2` with dyadic orthogonal H, s_1 = 1).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from deqops.verify import spectral_norm_bound


def householder(size: int, generator: torch.Generator) -> Tensor:
    signs = torch.randint(0, 2, (size,), generator=generator).double() * 2 - 1
    return torch.eye(size, dtype=torch.float64) - 2 * torch.outer(signs, signs) / size


def matrix(size: int) -> Tensor:
    """Of exact norm 1."""
    generator = torch.Generator().manual_seed(size)
    values = torch.randint(0, 250, (size,), generator=generator).double() / 256
    values[0] = 1.0
    return householder(size, generator) @ torch.diag(values) @ householder(size, generator)


def power_iteration(w: Tensor) -> float:
    """What torch's spectral_norm parametrisation does in ten steps."""
    x = torch.ones(w.shape[1], dtype=w.dtype)
    for _ in range(10):
        x = w.T @ (w @ (x / x.norm()))
    return float((w @ (x / x.norm())).norm())


def gram_iteration(w: Tensor) -> float:
    gram, scale = w.T @ w, 0.0
    for k in range(1, 7):
        size = float(gram.norm())
        scale += torch.log(torch.tensor(size, dtype=torch.float64)).item() / 2**k
        gram = (gram / size) @ (gram / size)
    return float(torch.exp(torch.tensor(scale, dtype=torch.float64)) * gram.norm() ** (1 / 2**7))


def mixed(w: Tensor) -> float:
    return float((w.abs().sum(0).max() * w.abs().sum(1).max()).sqrt())


METHODS: dict[str, Callable[[Tensor], float]] = {
    "deqops bound": lambda w: float(spectral_norm_bound(w)),
    "svdvals": lambda w: float(torch.linalg.svdvals(w)[0]),
    "svdvals float32": lambda w: float(torch.linalg.svdvals(w.float())[0]),
    "10 power steps": power_iteration,
    "Gram iteration": gram_iteration,
    "sqrt(l1 linf)": mixed,
}


def timed(method: Callable[[Tensor], float], w: Tensor) -> tuple[float, float]:
    method(w)
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        value = method(w)
        best = min(best, time.perf_counter() - start)
    return value, best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true", help="also n = 2048 and 4096")
    sizes = [64, 256, 512, 1024, *([2048, 4096] if parser.parse_args().large else [])]
    print(f"{'n':>6} {'method':<18} {'value - 1':>12} {'time / svdvals':>15}  below the exact norm")
    for size in sizes:
        w = matrix(size)
        found = {name: timed(method, w) for name, method in METHODS.items()}
        for name, (value, seconds) in found.items():
            ratio = seconds / found["svdvals"][1]
            print(f"{size:>6} {name:<18} {value - 1:>12.2e} {ratio:>15.2f}  {'yes' if value < 1 else ''}")


if __name__ == "__main__":
    main()
