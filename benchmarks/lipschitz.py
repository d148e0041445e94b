"""Lipschitz constants of trained networks in l2: proven bounds beside sampled lower bounds and what others compute.

    python benchmarks/lipschitz.py [--activations tanh relu gelu silu] [--wide] [--slow] [--threads N]

Networks of two and three linear maps with tanh or ReLU between them, of width 64 (256 with --wide), trained here for a
few hundred steps: to tell scikit-learn's digits apart ("digits", 64 pixels, ten numbers and zeros), or on a smooth map
of R^64 ("map"). GELU and SiLU, which no peer bounds here, where they are asked for. Each value is divided by a gain
that was met: the largest `||J(x)||_2` that gradient ascent over states found (with ReLU's step made soft, softer at
first).

1. Global: `lipschitz_bound`, the product of norms in it, LipSDP by cvxpy (SCS; CLARABEL with --slow), ECLipsE and
   ECLipsE-Fast.
2. Local: boxes of half-width 0.01 and 0.1 around a datum, and the l2 balls around these boxes, which is what
   ECLipsE-Gen-Local knows.

Peers that are missing are named and left out: cvxpy and eclipse-nn are installed by their own names. A value below the
gain that was met is marked: it is no bound. Times are of the processor, in seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import itertools
import math
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from deqops.verify import Ball, Norm, lipschitz_bound

DOUBLE = torch.float64
PEERS = {"cvxpy": "cvxpy", "eclipse-nn": "eclipse_nn"}


def peer(name: str) -> Any:
    """The peer's module, or None where it is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(PEERS[name])
        except ImportError:
            return None


def _silu_slope(pre: Tensor) -> Tensor:
    s = torch.sigmoid(pre)
    return s + pre * s * (1 - s)


def _gelu_slope(pre: Tensor) -> Tensor:
    density = torch.exp(-pre.square() / 2) / math.sqrt(2 * math.pi)
    return (1 + torch.erf(pre * math.sqrt(0.5))) / 2 + pre * density


SMOOTH: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "tanh": (torch.tanh, lambda pre: 1 - torch.tanh(pre).square()),
    "gelu": (nn.functional.gelu, _gelu_slope),
    "silu": (nn.functional.silu, _silu_slope),
}
KNOWN_TO_PEERS = ("tanh", "relu")


class Net(nn.Module):
    """Linear maps with an activation between them, from R^n to R^n."""

    def __init__(self, sizes: tuple[int, ...], activation: str) -> None:
        super().__init__()
        pairs = itertools.pairwise(sizes)
        self.activation = activation
        self.maps = nn.ModuleList([nn.Linear(m, n, dtype=DOUBLE) for m, n in pairs])

    def forward(self, y: Tensor) -> Tensor:
        *inner, last = self.maps
        for one in inner:
            y = self.s(one(y))
        out: Tensor = last(y)
        return out

    def s(self, pre: Tensor) -> Tensor:
        return SMOOTH[self.activation][0](pre) if self.activation in SMOOTH else torch.relu(pre)

    def slope(self, pre: Tensor, softness: float = 0.0) -> Tensor:
        """Of the activation; ReLU's with its step made soft, where asked."""
        if self.activation in SMOOTH:
            return SMOOTH[self.activation][1](pre)
        return torch.sigmoid(pre / softness) if softness else (pre > 0).to(DOUBLE)

    def weights(self) -> list[Tensor]:
        return [one.weight.detach() for one in self.maps]  # type: ignore[union-attr, operator]

    def biases(self) -> list[Tensor]:
        return [one.bias.detach() for one in self.maps]  # type: ignore[union-attr, operator]


def data(task: str) -> tuple[Tensor, Tensor]:
    """Inputs and targets, (samples, 64)."""
    if task == "digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        return torch.tensor(digits.data / 16, dtype=DOUBLE), torch.tensor(digits.target)
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(2000, 64, generator=generator, dtype=DOUBLE)
    mixing = torch.randn(64, 64, generator=generator, dtype=DOUBLE) / 8
    return x, torch.sin(x @ mixing) + 0.3 * x.roll(1, dims=1)


def trained(task: str, layers: int, width: int, activation: str) -> tuple[Net, Tensor]:
    """A network after 600 steps of Adam, and a datum, (1, 64)."""
    torch.manual_seed(layers)
    x, target = data(task)
    net = Net((64, *[width] * (layers - 1), 64), activation)
    if task == "digits":  # the other numbers are zeros, of no norm
        with torch.no_grad():
            for part in (net.maps[-1].weight, net.maps[-1].bias):
                part[10:] = 0  # type: ignore[index, operator]
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(600):
        rows = torch.randint(len(x), (128,))
        optimiser.zero_grad()
        out = net(x[rows])
        if task == "digits":
            loss = nn.functional.cross_entropy(out[:, :10], target[rows])
        else:
            loss = (out - target[rows]).square().mean()
        loss.backward()
        optimiser.step()
    return net.requires_grad_(False), x[:1]


def jacobians(net: Net, x: Tensor, softness: float = 0.0) -> Tensor:
    """(states, n, n) at states (states, n)."""
    first, *rest = net.maps
    pre = first(x)
    J = first.weight.expand(len(x), -1, -1)  # type: ignore[operator]
    for one in rest:
        J = one.weight @ (net.slope(pre, softness)[:, :, None] * J)
        pre = one(net.s(pre))
    return J


def sampled_gain(net: Net, x: Tensor, radius: float = math.inf, order: float = math.inf) -> float:
    """The largest `||J||_2` of gradient ascent from 16 states: anywhere, or inside a box or ball around x.

    ReLU's Jacobian has no gradient: one with softer and softer steps is climbed, and its own is met on the way.
    """
    generator = torch.Generator().manual_seed(9)
    best = float(torch.linalg.matrix_norm(jacobians(net, x), 2).max())
    for softness in (0.0,) if net.activation in SMOOTH else (1.0, 0.1, 0.01):
        best = max(best, _ascent(net, x, radius, order, generator, softness))
    return best


def _ascent(net: Net, x: Tensor, radius: float, order: float, generator: torch.Generator, softness: float) -> float:
    spread, best = 1.0 if radius == math.inf else radius / (1 if order == math.inf else math.sqrt(x.shape[1])), 0.0
    offset = spread * torch.randn(16, x.shape[1], generator=generator, dtype=DOUBLE)
    offset[0] = 0
    offset = _inside(offset, radius, order).requires_grad_(True)
    center = x if radius < math.inf else torch.zeros_like(x)
    optimiser = torch.optim.Adam([offset], lr=0.05 * spread)
    for step in range(200):
        soft = softness * 0.5 ** (step / 25)
        gains = torch.linalg.matrix_norm(jacobians(net, center + offset, soft), 2)
        with torch.no_grad():
            met = torch.linalg.matrix_norm(jacobians(net, center + offset), 2) if softness else gains
            best = max(best, float(met.max()))
        optimiser.zero_grad()
        (-gains.sum()).backward()
        optimiser.step()
        with torch.no_grad():
            offset.copy_(_inside(offset, radius, order))
    return best


def _inside(offset: Tensor, radius: float, order: float) -> Tensor:
    if radius == math.inf:
        return offset
    if order == math.inf:
        return offset.clamp(-radius, radius)
    return offset * (radius / offset.norm(dim=1, keepdim=True).clamp(min=radius))


def timed(method: Callable[[], float]) -> tuple[float, float]:
    start = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = method()
    return value, time.process_time() - start


def lipsdp(net: Net, solver: str) -> float:
    """Fazlyab et al. (2019), one multiplier a neuron, slopes in [0, 1]."""
    cp = peer("cvxpy")
    weights = [w.numpy() for w in net.weights()]
    sizes = [weights[0].shape[1], *(len(w) for w in weights[:-1])]
    square, T = cp.Variable(nonneg=True), [cp.Variable(n, nonneg=True) for n in sizes[1:]]
    blocks: list[list[Any]] = [[cp.Constant(torch.zeros(m, n).numpy()) for n in sizes] for m in sizes]
    blocks[0][0] = -square * torch.eye(sizes[0], dtype=DOUBLE).numpy()
    for k, t in enumerate(T):
        blocks[k + 1][k + 1] = -2 * cp.diag(t)
        blocks[k + 1][k] = cp.diag(t) @ weights[k]
        blocks[k][k + 1] = blocks[k + 1][k].T
    blocks[-1][-1] = blocks[-1][-1] + weights[-1].T @ weights[-1]
    cp.Problem(cp.Minimize(square), [cp.bmat(blocks) << 0]).solve(solver=solver)
    return math.sqrt(max(float(square.value), 0.0)) if square.value is not None else math.nan


def eclipse(net: Net, method: str) -> float:
    return float(peer("eclipse-nn").LipConstEstimator(weights=net.weights()).estimate(method))


def eclipse_local(net: Net, x: Tensor, radius: float, variant: str) -> float:
    biases = [b.reshape(-1, 1) for b in net.biases()]
    estimator = peer("eclipse-nn").LipConstEstimator(weights=net.weights(), biases=biases)
    return float(estimator.estimate_gen_local(x.reshape(-1, 1).numpy(), radius, net.activation, variant)[0])


def product_of_norms(net: Net) -> float:
    return math.prod(float(torch.linalg.matrix_norm(w, 2)) for w in net.weights())


def report(case: str, gain: float, methods: dict[str, Callable[[], float]]) -> None:
    for name, method in methods.items():
        value, seconds = timed(method)
        low = "below the gain met" if value < gain * (1 - 1e-9) else ""
        print(f"{case:<32} {gain:>9.4f} {name:<26} {value / gain:>9.4f} {seconds:>8.2f}  {low}", flush=True)


def print_global(net: Net, x: Tensor, case: str, slow: bool) -> None:
    methods: dict[str, Callable[[], float]] = {
        "deqops": lambda: float(lipschitz_bound(net, x)),
        "product of norms": lambda: product_of_norms(net),
    }
    quick, known = slow or len(net.weights()[0]) <= 64, net.activation in KNOWN_TO_PEERS
    if peer("cvxpy") is not None and quick and known:
        methods["LipSDP, SCS"] = lambda: lipsdp(net, "SCS")
        if slow:
            methods["LipSDP, CLARABEL"] = lambda: lipsdp(net, "CLARABEL")
    if peer("eclipse-nn") is not None and known:
        methods["ECLipsE-Fast"] = lambda: eclipse(net, "ECLipsE_Fast")
        if quick:
            methods["ECLipsE"] = lambda: eclipse(net, "ECLipsE")
    report(case, sampled_gain(net, x), methods)


def print_local(net: Net, x: Tensor, case: str, half: float) -> None:
    box, radius = Ball(x, half, Norm("linf")), half * math.sqrt(x.shape[1])
    ours: dict[str, Callable[[], float]] = {"deqops": lambda: float(lipschitz_bound(net, x, region=box))}
    report(f"{case}, box {half}", sampled_gain(net, x, half), ours)
    methods: dict[str, Callable[[], float]] = {
        "deqops": lambda: float(lipschitz_bound(net, x, region=Ball(x, radius, Norm("l2"))))
    }
    if peer("eclipse-nn") is not None and net.activation in KNOWN_TO_PEERS:
        for variant in ("Acc", "Fast", "CF"):
            methods[f"ECLipsE-Gen-Local {variant}"] = lambda v=variant: eclipse_local(net, x, radius, v)  # type: ignore[misc]
    report(f"{case}, ball {radius:.2g}", sampled_gain(net, x, radius, 2), methods)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--activations", nargs="+", choices=(*SMOOTH, "relu"), default=["tanh", "relu"], metavar="NAME")
    parser.add_argument("--wide", action="store_true", help="width 256 as well, globally")
    parser.add_argument("--slow", action="store_true", help="CLARABEL, and every method at width 256")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for name in PEERS:
        if peer(name) is None:
            print(f"{name} is not installed; it is left out")
    print(f"{'network, region':<32} {'gain met':>9} {'method':<26} {'/ gain':>9} {'seconds':>8}")
    for task, activation, layers in itertools.product(("digits", "map"), arguments.activations, (2, 3)):
        for width in (64, 256) if arguments.wide else (64,):
            net, x = trained(task, layers, width, activation)
            case = f"{task}, {activation}, {layers} x {width}"
            print_global(net, x, case, arguments.slow)
            for half in (0.01, 0.1) if width == 64 else ():
                print_local(net, x, case, half)


if __name__ == "__main__":
    main()
