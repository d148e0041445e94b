"""Which modules get a verdict: torch.nn, PyG, torchdeq-style cells and transformers, as `torch.export` gives them.

Each module is made an operator G(z, x) with small seeded weights and certified as it is (`theorem="auto"`: everywhere
first, then around its equilibrium); with `--check` the independent checker reads each certificate as well. The last
line counts the verdicts; "unknown" comes with the operation that is in the way. With `--cells` they are equilibrium
models as papers write them, with their own weights. With `--transformers` or `--neuraloperator` the modules are layers
of these libraries, with the weights that they come with, as `z -> 0.2 layer(z) + x`, x standard normal.

    python benchmarks/coverage.py [--check] [--cells | --transformers | --neuraloperator] [part of a name ...]
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch_geometric.nn as pyg
from _cells import cells as cells_of_papers
from torch import Tensor, nn
from torch.nn import functional as F

from deqops.verify import Ball, Certificate, certify, check

WIDTH, SHRINK = 8, 0.2
LIBRARIES = {"transformers": "_transformers_layers", "neuralop": "_neural_operators"}
EDGES = torch.tensor([[0, 1, 2, 3, 4, 5, 0, 2], [1, 2, 3, 4, 5, 0, 3, 5]])
FLAT, SEQUENCE, IMAGE, NODES = (2, WIDTH), (2, 4, WIDTH), (2, 3, 4, 4), (6, WIDTH)


@dataclass(frozen=True)
class Case:
    """A module with the shape of its state."""

    name: str
    module: nn.Module
    shape: tuple[int, ...]
    batch_dims: int = 1
    size: float = 0.1  # of the input
    input: tuple[int, ...] | None = None  # its shape; None for the state's


class Injected(nn.Module):
    """`z -> m(z) + x`."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        result: Tensor = self.module(z) + x
        return result


class Written(nn.Module):
    """`z -> f(layers, z) + x` for a function written out here."""

    def __init__(self, function: Callable[[nn.ModuleList, Tensor], Tensor], *layers: nn.Module) -> None:
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(layers)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return self.function(self.layers, z) + x


class OnGraph(nn.Module):
    """`z -> tanh(conv(z, edges)) + x`."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(self.conv(z, EDGES)) + x


class Recurrent(nn.Module):
    """A cell whose hidden state is z and whose input is x."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        result: Tensor = self.cell(x, (z, z))[0] if isinstance(self.cell, nn.LSTMCell) else self.cell(x, z)
        return result


class SelfAttention(nn.Module):
    """`nn.MultiheadAttention` of z with itself."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)

    def forward(self, z: Tensor) -> Tensor:
        result: Tensor = self.attention(z, z, z, need_weights=False)[0]
        return result


def _linear(width: int = WIDTH) -> nn.Linear:
    return nn.Linear(WIDTH, width)


def _conv(channels: int = 3, **settings: object) -> nn.Conv2d:
    return nn.Conv2d(3, channels, 3, padding=1, **settings)  # type: ignore[arg-type]


def activations() -> list[Case]:
    """An affine map and each activation."""
    kinds: list[nn.Module] = [
        *[nn.ReLU(), nn.LeakyReLU(), nn.ELU(), nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.Softplus(), nn.Tanh()],
        *[nn.Sigmoid(), nn.Softsign(), nn.Mish(), nn.Hardtanh(), nn.SELU(), nn.CELU(), nn.Hardswish()],
        *[nn.Hardsigmoid(), nn.LogSigmoid(), nn.Softshrink(), nn.Tanhshrink(), nn.Softmax(-1), nn.PReLU(), nn.ReLU6()],
    ]
    return [Case(repr(kind), Injected(nn.Sequential(_linear(), kind)), FLAT) for kind in kinds]


def dense() -> list[Case]:
    """Normalisations, gates, products and cells on vectors."""
    sequential = {
        "layer norm": [_linear(), nn.LayerNorm(WIDTH), _linear()],
        "RMS norm": [_linear(), nn.RMSNorm(WIDTH), _linear()],
        "batch norm": [_linear(), nn.BatchNorm1d(WIDTH), nn.ReLU()],
        "GLU": [_linear(2 * WIDTH), nn.GLU()],
    }
    written: dict[str, tuple[Callable[[nn.ModuleList, Tensor], Tensor], list[nn.Module]]] = {
        "SwiGLU": (lambda m, z: m[2](F.silu(m[0](z)) * m[1](z)), [_linear(), _linear(), _linear()]),
        "highway": (lambda m, z: z.lerp(torch.tanh(m[1](z)), torch.sigmoid(m[0](z))), [_linear(), _linear()]),
        "residual": (lambda m, z: 0.5 * z + m[1](torch.relu(m[0](z))), [_linear(), _linear()]),
        "dense skips": (lambda m, z: m[1](torch.cat([z, m[0](z).relu()], -1)), [_linear(), nn.Linear(16, WIDTH)]),
        "bilinear": (lambda m, z: m[0](z, z), [nn.Bilinear(WIDTH, WIDTH, WIDTH)]),
        "quotient": (lambda m, z: m[0](z) / (1 + z.square()), [_linear()]),
        "normalised": (lambda m, z: F.normalize(m[0](z) + 1, dim=-1), [_linear()]),
        "logsumexp": (lambda m, z: z * 0.1 + m[0](z).logsumexp(-1, keepdim=True), [_linear()]),
        "cumulative sum": (lambda m, z: m[0](z).cumsum(-1), [_linear()]),
        "maximum": (lambda m, z: torch.maximum(m[0](z), m[1](z)), [_linear(), _linear()]),
        "flip and roll": (lambda m, z: m[0](z).flip(-1) + m[0](z).roll(1, -1), [_linear()]),
        "standard deviation": (lambda m, z: m[0](z) / (1 + z.std(-1, keepdim=True)), [_linear()]),
        "einsum": (lambda m, z: torch.einsum("bd,ed->be", z, m[0].weight).tanh(), [_linear()]),  # type: ignore[arg-type]
    }
    cells = {"RNN cell": nn.RNNCell, "GRU cell": nn.GRUCell, "LSTM cell": nn.LSTMCell}
    return [
        *[Case(name, Injected(nn.Sequential(*parts)), FLAT) for name, parts in sequential.items()],
        *[Case(name, Written(function, *layers), FLAT) for name, (function, layers) in written.items()],
        *[Case(name, Recurrent(cell(WIDTH, WIDTH)), FLAT) for name, cell in cells.items()],
    ]


def images() -> list[Case]:
    """Convolutions, pooling, resampling, normalisations on images."""
    kinds: dict[str, list[nn.Module]] = {
        "convolution": [_conv(), nn.BatchNorm2d(3), nn.ReLU()],
        **{f"{mode} padding": [_conv(padding_mode=mode), nn.ReLU()] for mode in ("circular", "reflect", "replicate")},
        "group norm": [_conv(), nn.GroupNorm(3, 3), nn.Conv2d(3, 3, 1)],
        "instance norm": [_conv(), nn.InstanceNorm2d(3), nn.Conv2d(3, 3, 1)],
        "max pooling": [_conv(), nn.MaxPool2d(3, 1, 1)],
        "average pooling": [_conv(), nn.AvgPool2d(3, 1, 1)],
        "nearest upsampling": [nn.AvgPool2d(2), nn.Upsample(scale_factor=2), _conv(), nn.Tanh()],
        "bilinear upsampling": [nn.MaxPool2d(2), nn.Upsample(scale_factor=2, mode="bilinear"), _conv(), nn.Tanh()],
        "transposed convolution": [nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.ConvTranspose2d(6, 3, 2, 2)],
        "pixel shuffle": [nn.Conv2d(3, 12, 2, 2), nn.PixelShuffle(2)],
        "adaptive pooling": [_conv(), nn.AdaptiveAvgPool2d(2), nn.Upsample(scale_factor=2)],
    }
    return [Case(name, Injected(nn.Sequential(*parts)), IMAGE) for name, parts in kinds.items()]


def transformers() -> list[Case]:
    """Attention, plain, multi-headed and in torch's own layers."""

    def plain(m: nn.ModuleList, z: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(m[0](z), m[1](z), m[2](z))

    def causal(m: nn.ModuleList, z: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(m[0](z), m[1](z), m[2](z), is_causal=True)

    return [
        Case("attention", Written(plain, _linear(), _linear(), _linear()), SEQUENCE),
        Case("causal attention", Written(causal, _linear(), _linear(), _linear()), SEQUENCE),
        Case("multi-head attention", Injected(SelfAttention()), SEQUENCE),
        *[
            Case(f"transformer layer, norm {where}", Injected(_layer(where == "first")), SEQUENCE)
            for where in ("first", "last")
        ],
    ]


def fourier() -> list[Case]:
    """Transforms, written as Fourier neural operators and FNet write them."""

    def spectral(m: nn.ModuleList, z: Tensor) -> Tensor:
        return F.gelu(m[0](z) + m[1](z))

    def mixing(m: nn.ModuleList, z: Tensor) -> Tensor:
        return m[0](torch.fft.fft(torch.fft.fft(z, dim=-1), dim=-2).real).tanh()

    def turned(m: nn.ModuleList, z: Tensor) -> Tensor:
        pairs = torch.view_as_complex(m[0](z).reshape(*z.shape[:-1], -1, 2))
        angles = torch.view_as_complex(m[1].weight[: WIDTH // 2, :2].contiguous())  # type: ignore[union-attr,index]
        return torch.view_as_real(pairs * angles).reshape(z.shape).tanh()

    return [
        Case("Fourier layer, 1d", Written(spectral, Spectral(WIDTH, (3,)), nn.Conv1d(WIDTH, WIDTH, 1)), (2, WIDTH, 12)),
        Case("Fourier layer, 2d", Written(spectral, Spectral(3, (2, 3)), nn.Conv2d(3, 3, 1)), (2, 3, 6, 6)),
        Case("Fourier mixing", Written(mixing, _linear()), SEQUENCE),
        Case("complex product", Written(turned, _linear(), _linear()), FLAT),
    ]


class Spectral(nn.Module):
    """The first modes of a real transform, times complex matrices, and back."""

    def __init__(self, channels: int, modes: tuple[int, ...]) -> None:
        super().__init__()
        self.modes = modes
        self.weight = nn.Parameter(torch.randn(channels, channels, *modes, dtype=torch.cfloat) / channels)

    def forward(self, z: Tensor) -> Tensor:
        dims = tuple(range(2, z.dim()))
        modes = torch.fft.rfftn(z, dim=dims)
        kept = (..., *(slice(size) for size in self.modes))
        out = torch.zeros_like(modes)
        out[kept] = torch.einsum("bi...,io...->bo...", modes[kept], self.weight)
        result: Tensor = torch.fft.irfftn(out, s=z.shape[2:], dim=dims)
        return result


def _layer(norm_first: bool) -> nn.Module:
    return nn.TransformerEncoderLayer(WIDTH, 2, 16, batch_first=True, norm_first=norm_first)


def graphs() -> list[Case]:
    """PyG's convolutions on a graph of six nodes."""
    w = WIDTH
    kinds: dict[str, nn.Module] = {
        "GCN": pyg.GCNConv(w, w),
        "SAGE, mean": pyg.SAGEConv(w, w),
        "SAGE, max": pyg.SAGEConv(w, w, aggr="max"),
        "GIN": pyg.GINConv(nn.Sequential(_linear(), nn.ReLU(), _linear())),
        "GAT": pyg.GATConv(w, w),
        "GAT, two heads": pyg.GATConv(w, w // 2, heads=2),
        "GATv2": pyg.GATv2Conv(w, w),
        "transformer": pyg.TransformerConv(w, w),
        "GraphConv": pyg.GraphConv(w, w),
        "Cheb": pyg.ChebConv(w, w, 2),
        "SG": pyg.SGConv(w, w),
        "TAG": pyg.TAGConv(w, w),
        "ARMA": pyg.ARMAConv(w, w),
        "Edge": pyg.EdgeConv(nn.Linear(2 * w, w)),
        "APPNP": pyg.APPNP(3, 0.1),
        "gated": pyg.GatedGraphConv(w, 2),
        "residual gated": pyg.ResGatedGraphConv(w, w),
        "cluster GCN": pyg.ClusterGCNConv(w, w),
        "GEN": pyg.GENConv(w, w),
        "LE": pyg.LEConv(w, w),
        "FiLM": pyg.FiLMConv(w, w),
        "FeaSt": pyg.FeaStConv(w, w),
    }
    return [Case(f"PyG {name}", OnGraph(conv), NODES, 0) for name, conv in kinds.items()]


def cases() -> list[Case]:
    """All of them, with seeded and shrunk weights, in eval mode."""
    torch.manual_seed(0)
    found = [*activations(), *dense(), *images(), *transformers(), *fourier(), *graphs()]
    for case in found:
        case.module.eval()
        with torch.no_grad():
            for parameter in case.module.parameters():
                parameter.mul_(SHRINK if parameter.dim() > 1 else 1.0)
    return found


class Damped(nn.Module):
    """`z -> SHRINK m(z) + x`."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        result: Tensor = SHRINK * self.module(z) + x
        return result


def layers_of(library: str) -> list[Case]:
    """Layers of another library, in eval mode."""
    layers = importlib.import_module(LIBRARIES[library]).layers
    torch.manual_seed(0)
    return [Case(one.name, Damped(one.make()).eval(), one.shape, size=1.0) for one in layers()]


def own_cells() -> list[Case]:
    """Equilibrium models, in eval mode."""
    torch.manual_seed(0)
    made = ((one, one.make().eval()) for one in cells_of_papers())
    return [Case(one.name, module, one.state, one.batch_dims, 0.3, one.input) for one, module in made]


def verdict_of(case: Case) -> tuple[Certificate, tuple[Tensor, Tensor]]:
    """The certificate of one module, and its arguments."""
    generator = torch.Generator().manual_seed(1)
    arguments = torch.zeros(case.shape), case.size * torch.randn(case.input or case.shape, generator=generator)
    return certify(case.module, *arguments, batch_dims=case.batch_dims), arguments


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("names", nargs="*", help="parts of names; all modules without any")
    parser.add_argument("--check", action="store_true", help="let the independent checker read each certificate")
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--cells", action="store_true", help="equilibrium models as papers write them instead")
    for option, module in (("transformers", "transformers"), ("neuraloperator", "neuralop")):
        text = "layers of that library instead, if installed"
        other.add_argument(f"--{option}", dest="library", action="store_const", const=module, help=text)
    options = parser.parse_args()
    if options.library and importlib.util.find_spec(options.library) is None:
        option = "neuraloperator" if options.library == "neuralop" else options.library
        parser.error(f"--{option}: the library is not installed; pip install {option}")
    warnings.filterwarnings("ignore")
    tally: Counter[str] = Counter()
    print(f"{'module':32s} {'verdict':10s} {'theorem':18s} {'rate':>7s} {'radius':>9s} {'s':>5s}")
    for case in own_cells() if options.cells else layers_of(options.library) if options.library else cases():
        if options.names and not any(name in case.name for name in options.names):
            continue
        start = time.perf_counter()
        certificate, arguments = verdict_of(case)
        took, verdict = time.perf_counter() - start, certificate.verdict.value
        tally[verdict] += 1
        rate = "" if certificate.rate is None else f"{certificate.rate:7.4f}"
        radius = f"{certificate.region.radius:9.2g}" if isinstance(certificate.region, Ball) else ""
        line = f"{case.name[:32]:32s} {verdict:10s} {certificate.theorem or '':18s} {rate:>7s} {radius:>9s} {took:5.1f}"
        if options.check and verdict != "unknown":
            report = check(certificate, case.module, *arguments)
            tally["checked"] += report.accepted
            line += "  checked" if report.accepted else f"  NOT CHECKED: {'; '.join(report.reasons)[:100]}"
        print(line + ("" if verdict != "unknown" else f"  {certificate.reason[:120]}"), flush=True)
    print(", ".join(f"{count} {name}" for name, count in sorted(tally.items())))


if __name__ == "__main__":
    main()
