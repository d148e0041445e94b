"""Norms and Lipschitz constants: the proven bounds beside what others compute, in one run.

    python benchmarks/norms.py [--large] [--graph]

1. Dense spectral norms. Each matrix is `H_1 diag(s) H_2` with dyadic orthogonal H, so that its norm is 1 exactly. Per
   method: its value less 1, its time relative to `torch.linalg.svdvals`, and whether it is below the norm.
2. Two-layer networks `W_2 tanh(W_1 x)`: the proven `lipschitz_bound` beside LipSDP's optimal value as its solver prints
   it, both relative to the largest gain sampled, and whether one is below that gain.
3. `U V^T + diag(d)` never formed, and a Kronecker product.
4. With --graph: a graph of ten million edges, normalised symmetrically in enclosures.

Peers that are missing are named and left out: torchdeq, deel-torchlip and cvxpy are installed by their own names.
"""

from __future__ import annotations

import argparse
import importlib
import math
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from deqops.verify import Kronecker, LowRankPlusDiagonal, MidRad, Product, lipschitz_bound, spectral_norm_bound
from deqops.verify import _elementary as elementary
from deqops.verify import _midrad as midrad
from deqops.verify._sparse import SparseMatrix

Method = Callable[[Tensor], float]
PEERS = {"torchdeq": "torchdeq.norm", "deel-torchlip": "deel.torchlip.normalizers", "cvxpy": "cvxpy"}


def peer(name: str) -> Any:
    """The peer's module, or None where it is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(PEERS[name])
        except ImportError:
            return None


def randn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def timed(method: Callable[[], Any], repeats: int = 1) -> tuple[Any, float]:
    best, value = math.inf, None
    for _ in range(repeats):
        start = time.perf_counter()
        value = method()
        best = min(best, time.perf_counter() - start)
    return value, best


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
    x = torch.ones(w.shape[1], dtype=w.dtype)
    for _ in range(10):
        x = w.T @ (w @ (x / x.norm()))
    return float((w @ (x / x.norm())).norm())


def gram_iteration(w: Tensor) -> float:
    gram, scale = w.T @ w, 0.0
    for k in range(1, 7):
        size = float(gram.norm())
        scale += math.log(size) / 2**k
        gram = (gram / size) @ (gram / size)
    return math.exp(scale) * float(gram.norm()) ** (1 / 2**7)


def layer_of(w: Tensor) -> nn.Linear:
    layer = nn.Linear(*w.shape, bias=False, dtype=w.dtype)
    layer.weight = nn.Parameter(w.clone())
    return layer


def torch_parametrisation(w: Tensor) -> float:
    """The factor that `spectral_norm` divides by, with its defaults, after one training step's forward pass."""
    torch.manual_seed(0)
    with torch.no_grad():
        return float(w.norm() / parametrizations.spectral_norm(layer_of(w)).weight.norm())


def torchdeq_normalisation(w: Tensor) -> float:
    """The factor that torchdeq's `spectral_norm` divides by, after its first `reset_norm`, by defaults."""
    torch.manual_seed(0)
    layer = nn.Sequential(layer_of(w))
    peer("torchdeq").apply_norm(layer, "spectral_norm", args={"norm_no_scale": True})
    peer("torchdeq").reset_norm(layer)
    return float(w.norm() / layer[0].weight.detach().norm())


def torchlip_normalisation(w: Tensor) -> float:
    """deel-torchlip's `spectral_normalization`, with its defaults, from a start in w's dtype."""
    return float(peer("deel-torchlip").spectral_normalization(w.clone(), randn(1, len(w), seed=0))[2])


METHODS: dict[str, Method] = {
    "deqops bound": lambda w: float(spectral_norm_bound(w)),
    "svdvals": lambda w: float(torch.linalg.svdvals(w)[0]),
    "svdvals float32": lambda w: float(torch.linalg.svdvals(w.float())[0]),
    "10 power steps": power_iteration,
    "Gram iteration": gram_iteration,
    "sqrt(l1 linf)": lambda w: float((w.abs().sum(0).max() * w.abs().sum(1).max()).sqrt()),
    "torch spectral_norm": torch_parametrisation,
    "torchdeq": torchdeq_normalisation,
    "deel-torchlip": torchlip_normalisation,
}


def print_dense(sizes: list[int]) -> None:
    methods = {name: m for name, m in METHODS.items() if name not in PEERS or peer(name) is not None}
    print(f"\n{'n':>6} {'method':<20} {'value - 1':>12} {'time / svdvals':>15}  below the exact norm")
    for size in sizes:
        w = matrix(size)
        found = {name: timed(lambda m=m, w=w: m(w), 3) for name, m in methods.items()}
        for name, (value, seconds) in found.items():
            ratio = seconds / found["svdvals"][1]
            print(f"{size:>6} {name:<20} {value - 1:>12.2e} {ratio:>15.2f}  {'yes' if value < 1 else ''}")


class TwoLayers(nn.Module):
    def __init__(self, width: int, seed: int) -> None:
        super().__init__()
        self.inner = nn.Parameter(randn(width, width, seed=seed) / width**0.5)
        self.outer = nn.Parameter(randn(width, width, seed=seed + 1) / width**0.5)

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(z @ self.inner.T) @ self.outer.T


def sampled_gain(net: TwoLayers) -> float:
    """The largest `||J(x)||_2` that a gradient ascent from a few states met: the constant is at least that."""
    x = torch.cat([torch.zeros(1, len(net.inner), dtype=torch.float64), randn(15, len(net.inner), seed=9)])
    x, best = x.requires_grad_(True), 0.0
    optimiser = torch.optim.Adam([x], lr=0.05)
    for _ in range(100):
        slopes = 1 - torch.tanh(x @ net.inner.detach().T).square()
        gains = torch.linalg.matrix_norm(net.outer.detach() * slopes[:, None, :] @ net.inner.detach(), 2)
        best = max(best, float(gains.max().detach()))
        optimiser.zero_grad()
        (-gains.sum()).backward()
        optimiser.step()
    return best


def lipsdp(net: TwoLayers, solver: str) -> float:
    """Fazlyab et al., *Efficient and accurate estimation of Lipschitz constants* (2019), slopes in [0, 1]."""
    cp = peer("cvxpy")
    inner, outer = net.inner.detach().numpy(), net.outer.detach().numpy()
    multipliers, square = cp.Variable(len(inner), nonneg=True), cp.Variable(nonneg=True)
    T = cp.diag(multipliers)
    corner = -square * torch.eye(inner.shape[1], dtype=torch.float64).numpy()
    blocks = cp.bmat([[corner, inner.T @ T], [T @ inner, outer.T @ outer - 2 * T]])
    cp.Problem(cp.Minimize(square), [blocks << 0]).solve(solver=solver)
    return math.sqrt(max(float(square.value), 0.0))


def print_networks(width: int) -> None:
    print(f"\nW_2 tanh(W_1 x), width {width}: value / sampled gain - 1")
    print(f"{'seed':>6} {'method':<20} {'excess':>12} {'seconds':>9}  below the sampled gain")
    for seed in (0, 10, 20):
        net, state = TwoLayers(width, seed), torch.zeros(1, width, dtype=torch.float64)
        bound = lipschitz_bound(net, state)
        gain = max(sampled_gain(net), bound.lower_estimate)
        methods: dict[str, Callable[[], float]] = {
            "deqops bound": lambda net=net, state=state: float(lipschitz_bound(net, state)),
            "deqops estimate": lambda bound=bound: bound.lower_estimate,
        }
        if peer("cvxpy") is not None:
            for solver in set(peer("cvxpy").installed_solvers()) & {"SCS", "CLARABEL"}:
                methods[f"LipSDP, {solver}"] = lambda net=net, solver=solver: lipsdp(net, solver)
        for name, method in sorted(methods.items()):
            value, seconds = timed(method)
            print(f"{seed:>6} {name:<20} {value / gain - 1:>12.2e} {seconds:>9.2f}  {'yes' if value < gain else ''}")


def print_parts() -> None:
    n, k = 20_000, 8
    U, V, d = randn(n, k, seed=1) / n**0.5, 3 * randn(n, k, seed=2) / n**0.5, randn(n, seed=3)
    A = randn(300, 300, seed=4)
    operands = {
        f"U V^T, n = {n}": Product(U, V.T),
        f"U V^T + diag(d), n = {n}": LowRankPlusDiagonal(U, V, d),
        "A (x) A (x) A, n = 27000000": Kronecker(A, A, A),
    }
    print(f"\n{'operand':<30} {'bound':>12} {'bound / estimate - 1':>22} {'seconds':>9}")
    for name, operand in operands.items():
        bound, seconds = timed(lambda operand=operand: spectral_norm_bound(operand))
        print(f"{name:<30} {bound.upper:>12.6g} {bound.upper / bound.lower_estimate - 1:>22.2e} {seconds:>9.2f}")


def random_graph(nodes: int, directed_edges: int) -> Tensor:
    """Both directions of each edge and no self-loop, so that no degree is changed by one."""
    ends = torch.randint(0, nodes, (2, directed_edges // 2), generator=torch.Generator().manual_seed(0))
    return torch.cat([ends, ends.flip(0)], dim=1)


def propagation(edges: Tensor, nodes: int) -> SparseMatrix:
    """`D^-1/2 A D^-1/2`, each entry enclosed."""
    degree = torch.bincount(edges[1], minlength=nodes).double()
    inverse = elementary.pow_scalar(MidRad.exact(degree.clamp(min=1)), -0.5)
    values = midrad.mul(*(inverse.apply_exact(lambda t, end=end: t.index_select(0, end)) for end in edges))
    return SparseMatrix(edges[1], edges[0], values, (nodes, nodes))


def print_graph(nodes: int = 1_000_000, directed_edges: int = 10_000_000) -> None:
    edges = random_graph(nodes, directed_edges)
    operator, building = timed(lambda: propagation(edges, nodes))
    bound, bounding = timed(lambda: operator.norm_bound("l2"))
    print(f"\n{directed_edges} edges between {nodes} nodes: enclosed in {building:.2f} s, bounded in {bounding:.2f} s")
    goal = "at most" if 1 <= bound.upper <= 1 + 1e-12 else "NOT at most"
    print(f"bound 1 + {bound.upper - 1:.2e} ({bound.method}), {goal} 1 + 1e-12; the norm is 1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true", help="also n = 2048 and 4096, and networks of width 32")
    parser.add_argument("--graph", action="store_true", help="only the graph of ten million edges")
    chosen = parser.parse_args()
    if chosen.graph:
        print_graph()
        return
    for name in PEERS:
        print(f"{name}: {'installed' if peer(name) is not None else 'not installed, left out'}")
    print_dense([64, 256, 512, 1024, *([2048, 4096] if chosen.large else [])])
    print_networks(32 if chosen.large else 16)
    print_parts()


if __name__ == "__main__":
    main()
