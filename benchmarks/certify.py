"""What a certificate and its independent check cost beside one `torch.linalg.svdvals` of the same weights, in one run.

`python benchmarks/certify.py [--large]` prints, for layers tanh(W z + x) of norm 0.9 (theorem `picard`) and monotone
layers relu(W z + x) of norm 27 (theorem `monotone`), the two times relative to `svdvals`, the verdict, what the
checker said, and the verdict on the claim that the layer contracts in l2.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from deqops.verify import certify, check


class Layer(nn.Module):
    """`s(W z + x)`."""

    def __init__(self, weight: Tensor, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.W = nn.Parameter(weight)
        self.activation = activation

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return self.activation(z @ self.W.T + x)


def contractive(size: int) -> Tensor:
    weight = torch.randn(size, size, generator=torch.Generator().manual_seed(size), dtype=torch.float64)
    return (0.9 * weight / torch.linalg.matrix_norm(weight, 2)).float()


def monotone(size: int) -> Tensor:
    """`(1 - m) I - A^T A + B - B^T` in the balanced coordinates of Winston and Kolter, scaled to a norm near 27."""
    a, b = torch.randn(2, size, size, generator=torch.Generator().manual_seed(size), dtype=torch.float64) / size**0.5
    rest = b - b.T - a.T @ a
    return 0.9 * torch.eye(size, dtype=torch.float64) + 26 * rest / torch.linalg.matrix_norm(rest, 2)


def seconds(run: Callable[[], object]) -> tuple[object, float]:
    start = time.perf_counter()
    return run(), time.perf_counter() - start


def row(theorem: str, weight: Tensor, activation: Callable[[Tensor], Tensor]) -> str:
    layer, state = Layer(weight, activation), torch.zeros(1, len(weight), dtype=weight.dtype)
    _, reference = seconds(lambda: torch.linalg.svdvals(weight.double()))
    certificate, first = seconds(lambda: certify(layer, state, state, theorem=theorem, norm="l2"))
    report, second = seconds(lambda: check(certificate, layer, state, state))
    verdict, accepted = getattr(certificate, "verdict").value, getattr(report, "accepted")  # noqa: B009
    checked = "accepted" if accepted else "not accepted"
    ratios = f"{first / reference:>18.2f} {second / reference:>16.2f}"
    contraction = certify(layer, state, state, theorem="picard", norm="l2").verdict.value
    head = f"{theorem:<10} {len(weight):>6} {len(weight) ** 2:>12,}"
    return f"{head} {ratios}  {verdict + ', ' + checked:<22} {contraction}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true", help="also n = 2048")
    large = parser.parse_args().large
    head = f"{'theorem':<10} {'n':>6} {'parameters':>12} {'certify / svdvals':>18} {'check / svdvals':>16}"
    print(f"{head}  {'verdict, check':<22} contraction")
    row("picard", contractive(16), torch.tanh)  # what is loaded once
    for size in (64, 256, 512, 1024, *([2048] if large else [])):
        print(row("picard", contractive(size), torch.tanh), flush=True)
    for size in (20, 100, 200, 400):
        print(row("monotone", monotone(size), torch.relu), flush=True)


if __name__ == "__main__":
    main()
