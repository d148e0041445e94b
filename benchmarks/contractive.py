"""Weights under an optimiser: how far above their rate do normalisations let them go, and what does a step cost?

`python benchmarks/contractive.py` trains one 32 x 32 layer at a high rate, its gradients pushing the norm up, and
prints the largest float64 singular value that each normalisation let through, in train and in eval mode, relative to
its target 0.9; then the time of a training step relative to that of a plain layer, and the same for a graph
convolution. Peers that are missing are named and left out.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from collections.abc import Callable
from importlib import import_module
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from deqops.verify.contractive import SupBounded, bounded

RATE = 0.9
NODES = 2000
GRAPH_NORMS = ("GraphBounded l2", "GraphBounded perron")
Make = Callable[[nn.Linear], tuple[nn.Module, Callable[[], Any], Callable[[], Tensor]]]


def nothing() -> None:
    pass


def plain(layer: nn.Linear) -> tuple[nn.Module, Callable[[], Any], Callable[[], Tensor]]:
    return layer, nothing, lambda: layer.weight


def deqops_l2(layer: nn.Linear) -> tuple[nn.Module, Callable[[], Any], Callable[[], Tensor]]:
    bounded(layer, RATE)
    return layer, nothing, lambda: layer.weight


def deqops_sup(layer: nn.Linear) -> tuple[nn.Module, Callable[[], Any], Callable[[], Tensor]]:
    nn.utils.parametrize.register_parametrization(layer, "weight", SupBounded(RATE))
    return layer, nothing, lambda: layer.weight


class Scaled(nn.Module):
    def forward(self, W: Tensor) -> Tensor:
        return RATE * W


def torchs(layer: nn.Linear) -> tuple[nn.Module, Callable[[], Any], Callable[[], Tensor]]:
    parametrizations.spectral_norm(layer)
    nn.utils.parametrize.register_parametrization(layer, "weight", Scaled())
    return layer, nothing, lambda: layer.weight


def torchdeqs(layer: nn.Linear) -> tuple[nn.Module, Callable[[], Any], Callable[[], Tensor]]:
    norm = import_module("torchdeq.norm")
    wrapped = nn.Sequential(layer)
    norm.apply_norm(wrapped, "spectral_norm", args={"norm_no_scale": True, "norm_target_norm": RATE})
    return wrapped, lambda: norm.reset_norm(wrapped), lambda: wrapped[0].weight


def torchlips(layer: nn.Linear) -> tuple[nn.Module, Callable[[], Any], Callable[[], Tensor]]:
    torchlip = import_module("deel.torchlip")
    theirs = torchlip.SpectralLinear(layer.in_features, layer.out_features)
    nn.utils.parametrize.register_parametrization(theirs, "weight", Scaled())
    return theirs, nothing, lambda: theirs.weight


METHODS: dict[str, Make] = {
    "plain layer": plain,
    "deqops L2Bounded": deqops_l2,
    "deqops SupBounded (its own norm)": deqops_sup,
    "torch spectral_norm, times 0.9": torchs,
    "torchdeq spectral_norm, reset each step": torchdeqs,
    "deel-torchlip SpectralLinear, times 0.9": torchlips,
}


def made(method: Make, size: int) -> tuple[nn.Module, Callable[[], Any], Callable[[], Tensor]]:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return method(nn.Linear(size, size))


def measured(name: str, weight: Tensor) -> float:
    exact = weight.detach().double()
    if not bool(exact.isfinite().all()):
        return math.inf
    if "SupBounded" in name:
        return float(exact.abs().sum(dim=1).max()) / RATE
    return float(torch.linalg.svdvals(exact)[0]) / RATE


def largest(name: str, steps: int) -> tuple[float, float]:
    """The largest norm over all steps relative to the target, in train and in eval mode."""
    module, reset, weight = made(METHODS[name], 32)
    generator = torch.Generator().manual_seed(1)
    optimizer = torch.optim.SGD(module.parameters(), lr=3.0, momentum=0.9)
    train = evaluated = 0.0
    for _ in range(steps):
        module.eval()
        evaluated = max(evaluated, measured(name, weight()))
        module.train()
        reset()
        x = torch.randn(16, 32, generator=generator)
        y = module(x)
        train = max(train, measured(name, weight()))
        optimizer.zero_grad()
        (-(y * (y.detach() + torch.randn(16, 32, generator=generator))).mean()).backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
    return train, evaluated


def step_of(module: nn.Module, reset: Callable[[], Any], *arguments: Tensor) -> Callable[[], None]:
    """A forward pass, a backward pass and an optimiser's step."""
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(3.0)  # so that there is something to bound

    def step() -> None:
        reset()
        optimizer.zero_grad()
        module(*arguments).square().mean().backward()
        optimizer.step()

    return step


def seconds(steps: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """The median time of each, interleaved."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)
    return {name: median(values) for name, values in times.items()}


def seconds_per_step(names: list[str], size: int, repeats: int) -> dict[str, float]:
    x = torch.randn(64, size)
    modules = {name: made(METHODS[name], size) for name in names}
    return seconds({name: step_of(module, reset, x) for name, (module, reset, _) in modules.items()}, repeats)


def seconds_on_a_graph(size: int, repeats: int) -> tuple[dict[str, float], float]:
    """The same for a graph convolution, plain and bounded for its graph; and the seconds that bounding it took."""
    from torch_geometric.nn import GCNConv

    generator = torch.Generator().manual_seed(0)
    one, other = torch.randint(0, NODES, (2, 2 * NODES), generator=generator)
    edges = torch.stack([torch.cat([one, other]), torch.cat([other, one])])
    x = torch.randn(NODES, size, generator=generator)
    layers = {name: GCNConv(size, size) for name in ("plain GCNConv", *GRAPH_NORMS)}
    start = time.perf_counter()
    bounded(layers["GraphBounded l2"], RATE, graph=edges, size=NODES)
    once = time.perf_counter() - start
    bounded(layers["GraphBounded perron"], RATE, norm="perron", graph=edges, size=NODES)
    return seconds({name: step_of(layer, nothing, x, edges) for name, layer in layers.items()}, repeats), once


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000, help="optimiser steps (default 1000)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 256, 512], help="of the timed layers")
    parser.add_argument("--repeats", type=int, default=30, help="timed steps of each")
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = []
    print(f"{options.steps} steps, 32 x 32, SGD lr 3, momentum 0.9, clipped gradients push the norm up; target {RATE}")
    print(f"{'norm / target, largest':42} {'train':>12} {'eval':>12}")
    for name in METHODS:
        try:
            train, evaluated = largest(name, options.steps)
        except ImportError as missing:
            print(f"{name:42} not installed ({missing.name})")
            continue
        names.append(name)
        print(f"{name:42} {train:12.9f} {evaluated:12.9f}")
    print("\ntime of a training step (batch 64, one thread) / that of a plain layer")
    print(f"{'':42}" + "".join(f"{f'n = {size}':>10}" for size in options.sizes))
    ratios = {}
    for size in options.sizes:
        times = seconds_per_step(names, size, options.repeats)
        ratios[size] = {name: value / times["plain layer"] for name, value in times.items()}
    for name in names:
        print(f"{name:42}" + "".join(f"{ratios[size][name]:10.1f}" for size in options.sizes))
    print(f"\nthe same for a graph convolution on {NODES} nodes and {4 * NODES} edges / a plain GCNConv")
    on_graph = {size: seconds_on_a_graph(size, options.repeats) for size in options.sizes}
    for name in GRAPH_NORMS:
        factors = (times[name] / times["plain GCNConv"] for times, _ in on_graph.values())
        print(f"{name:42}" + "".join(f"{factor:10.2f}" for factor in factors))
    print(
        f"{'seconds for the bound of the graph, once':42}" + "".join(f"{once:10.2f}" for _, once in on_graph.values())
    )


if __name__ == "__main__":
    main()
