"""Local certificates of trained models that nothing constrains: what share of inputs, how large a ball, how long.

Trains, without any bound on the weights, an image DEQ on scikit-learn's digits (a convolution, 512 unknowns) and,
where Cora's files are at hand, PIGNs on Cora with GCN and GAT operators (with a penalty on the Jacobian at the
equilibrium, else their training loses it); takes a transformer block as torch starts it
(1,024 unknowns); then certifies each at its equilibria
(`theorem="auto"`: everywhere first, then around the computed equilibrium). A line for each model: inputs asked and
certified, theorems, median radius and range, seconds of processor time an input, the same relative to a solve. On Cora,
whose graph is one input, each seed trains a model of its own; the certificates are given to the checker, and a line for
each seed says rate, radius, and how far the ball's centre is from the equilibrium.

    python benchmarks/local_certificates.py [--images 20] [--graph-seeds 5] [--root ../shared/planetoid]
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import GATConv, GCNConv

from deqops import Anderson, ConvergenceError, EquilibriumLayer, ImplicitAdjoint, Tolerance
from deqops.models import digit_images, planetoid_graph
from deqops.models._classifier import ZerosOf
from deqops.models._digit_images import SIDE
from deqops.models._image_deq import ImageStep
from deqops.verify import Ball, Certificate, Verdict, certify, check
from deqops.verify.contractive import jacobian_penalty_estimate

CHANNELS, WIDTH = 8, 8


class GraphStep(nn.Module):
    """`tanh(conv(Z)) + f(X)`; f(X) is given."""

    def __init__(self, conv: nn.Module, edges: Tensor) -> None:
        super().__init__()
        self.conv = conv
        self.register_buffer("edges", edges)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(self.conv(z, self.edges)) + x


class TransformerStep(nn.Module):
    """A post-norm block of the width 64 with 4 heads that reads x again at each step; its weights are torch's first."""

    def __init__(self, width: int = 64, heads: int = 4) -> None:
        super().__init__()
        self.heads, self.first, self.second = heads, nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        batch, tokens, _width = z.shape
        q, k, v = (
            layer(z).reshape(batch, tokens, self.heads, -1).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(z.shape)
        inner = self.first(x + self.out(mixed) / 2)
        result: Tensor = self.second(x + self.mlp(inner) / 2)
        return result


def equilibrium(step: nn.Module, initial: Callable[..., Tensor], batch_dims: int) -> EquilibriumLayer:
    adjoint = ImplicitAdjoint(tolerance=Tolerance(relative=1e-3))
    return EquilibriumLayer(
        step,
        solver=Anderson(),
        adjoint=adjoint,
        tolerance=Tolerance(relative=1e-3),
        initial=initial,
        batch_dims=batch_dims,
    )


@dataclass
class Line:
    """What is said of one model."""

    name: str
    accuracy: float
    seconds: float = 0.0
    solving: float = 0.0
    found: list[Certificate] = field(default_factory=list)

    def ask(self, layer: EquilibriumLayer, x: Tensor, checked: bool = False) -> None:
        start = time.process_time()
        with torch.no_grad():
            layer.solve(x, throw=False)
        middle = time.process_time()
        self.found.append(certify(layer, x))
        self.solving += middle - start
        self.seconds += time.process_time() - middle
        if checked:
            self._check(layer, x)

    def _check(self, layer: EquilibriumLayer, x: Tensor) -> None:
        certificate, start = self.found[-1], time.process_time()
        if certificate.verdict is not Verdict.CERTIFIED or not isinstance(certificate.region, Ball):
            print(f"    {certificate.verdict.value}: {certificate.reason[:150]}", flush=True)
            return
        report = check(certificate, layer, layer.initial_state(x), x)
        accepted = "accepted" if report.accepted else f"rejected: {report.reasons}"
        print(
            f"    {certificate.norm.describe()}, q = {certificate.rate}, radius {certificate.region.radius:.3g}, "
            f"centre within {certificate.center_error:.2g}, {accepted} in {time.process_time() - start:.1f} s",
            flush=True,
        )

    def show(self) -> None:
        good = [c for c in self.found if c.verdict is Verdict.CERTIFIED]
        radii = [c.region.radius for c in good if isinstance(c.region, Ball)]
        spread = (
            f"{median(radii):.2g} ({min(radii):.2g} to {max(radii):.2g})" if radii else "everywhere" if good else "-"
        )
        theorems = ", ".join(f"{count} {name}" for name, count in Counter(str(c.theorem) for c in good).items())
        accuracy = "not trained" if math.isnan(self.accuracy) else f"accuracy {self.accuracy:.3f}"
        print(
            f"{self.name:28s} {accuracy}, certified {len(good)} of {len(self.found)} ({theorems}), "
            f"radius {spread}, {self.seconds / len(self.found):.1f} s an input, "
            f"{self.seconds / max(self.solving, 1e-9):.0f} solves",
            flush=True,
        )
        for certificate in self.found:
            if certificate.verdict is not Verdict.CERTIFIED:
                print(f"    {certificate.verdict.value}: {certificate.reason[:150]}")
                break


def digits(epochs: int) -> tuple[EquilibriumLayer, Tensor, float]:
    images = digit_images(training=1200)
    x, y = images.x, images.y
    layer, head = equilibrium(ImageStep(CHANNELS), ZerosOf((CHANNELS, *SIDE)), 1), nn.Linear(64 * CHANNELS, 10)
    optimizer = torch.optim.Adam([*layer.parameters(), *head.parameters()], lr=3e-3)
    for _ in range(epochs):
        for chosen in torch.randperm(1200).split(100):
            optimizer.zero_grad()
            value = layer.solve(x[chosen], throw=False).value
            try:
                nn.functional.cross_entropy(head(value.flatten(1)), y[chosen]).backward()
            except ConvergenceError:  # a step whose gradient has no solution is left out
                continue
            optimizer.step()
    with torch.no_grad():
        right = head(layer.solve(x[1200:], throw=False).value.flatten(1)).argmax(1) == y[1200:]
    return layer.eval(), x[1200:], float(right.double().mean())


def cora(conv: nn.Module, data: Any, epochs: int, penalty: float) -> tuple[EquilibriumLayer, Tensor, float]:
    encoder, head = nn.Linear(data.x.shape[1], WIDTH), nn.Linear(WIDTH, int(data.y.max()) + 1)
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.mul_(0.5)  # a start that converges
    layer = equilibrium(GraphStep(conv, data.edge_index), torch.zeros_like, 0)
    parameters = [*encoder.parameters(), *layer.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-2, weight_decay=5e-4)
    features = data.x.to_sparse()

    def scores(training: bool) -> tuple[Tensor, Tensor, Tensor]:
        x = torch.tanh(torch.sparse.mm(features, encoder.weight.T) + encoder.bias)
        dropped = nn.functional.dropout(x, 0.5, training)
        z = layer.solve(dropped, throw=False).value
        steep = jacobian_penalty_estimate(layer.operator, z, dropped) if training else z.new_zeros(())
        return head(nn.functional.dropout(z, 0.5, training)), x, steep

    for _ in range(epochs):
        optimizer.zero_grad()
        result, _, steep = scores(True)
        try:
            (nn.functional.cross_entropy(result[data.train_mask], data.y[data.train_mask]) + penalty * steep).backward()
        except ConvergenceError:
            continue
        optimizer.step()
    layer.eval()
    with torch.no_grad():
        result, x, _ = scores(False)
    right = (result.argmax(1) == data.y)[data.test_mask]
    return layer, x.detach(), float(right.double().mean())


def models(options: argparse.Namespace) -> Iterator[Line]:
    torch.manual_seed(0)
    if options.images:
        layer, images, accuracy = digits(options.epochs)
        line = Line("convolutional DEQ, digits", accuracy)
        for number in range(options.images):
            line.ask(layer, images[number : number + 1])
        yield line
    if options.tokens:
        layer = equilibrium(TransformerStep(), torch.zeros_like, 1).eval()
        line = Line(f"transformer, {options.tokens} tokens", math.nan)
        line.ask(layer, torch.randn(1, options.tokens, 64))
        yield line
    if not options.graph_seeds:
        return
    if not options.root.is_dir():
        print(f"{options.root}: no such folder; Cora is left out (--root)")
        return
    data = planetoid_graph("Cora", options.root)
    for name in ("GCN", "GAT"):
        line, accuracies = Line(f"PIGN with {name}, Cora", math.nan), []
        for seed in range(options.graph_seeds):
            torch.manual_seed(seed)
            conv = GCNConv(WIDTH, WIDTH) if name == "GCN" else GATConv(WIDTH, WIDTH // 2, heads=2)
            layer, x, accuracy = cora(conv, data, options.graph_epochs, options.penalty)
            accuracies.append(accuracy)
            line.ask(layer, x, checked=True)
        line.accuracy = sum(accuracies) / max(len(accuracies), 1)
        yield line


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--images", type=int, default=20, help="test images to certify; 0 leaves the digits out")
    parser.add_argument("--epochs", type=int, default=12, help="on the digits")
    parser.add_argument("--graph-epochs", type=int, default=100, help="on Cora")
    parser.add_argument("--graph-seeds", type=int, default=5, help="models of each kind on Cora; 0 leaves it out")
    parser.add_argument("--penalty", type=float, default=4.0, help="weight of the penalty on the Jacobian, on Cora")
    parser.add_argument("--tokens", type=int, default=16, help="of the transformer block; 0 leaves it out")
    parser.add_argument("--root", type=Path, default=Path("../shared/planetoid"), help="where Cora/raw is")
    warnings.filterwarnings("ignore")
    for line in models(parser.parse_args()):
        line.show()


if __name__ == "__main__":
    main()
