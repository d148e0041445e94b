"""Small modules that exercise each rule, with example arguments."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

State = Tensor
Case = tuple[nn.Module, Tensor, tuple[Tensor, ...], int]


class Module(nn.Module):
    """A module from a function of (self, state, *inputs) and its parameters."""

    def __init__(self, function: Callable[..., Tensor], **parameters: Tensor | nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, value in parameters.items():
            setattr(self, name, nn.Parameter(value) if isinstance(value, Tensor) else value)

    def forward(self, z: Tensor, *inputs: Tensor) -> Tensor:
        return self.function(self, z, *inputs)


def randn(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ring(size: int) -> Tensor:
    """A ring with chords, both directions, no self-loops."""
    here = torch.arange(size)
    edges = torch.cat([torch.stack([here, (here + 1) % size]), torch.stack([here, (here + 3) % size])], dim=1)
    return torch.cat([edges, edges.flip(0)], dim=1)


def gcn(size: int, channels: int) -> nn.Module:
    from torch_geometric.nn import GCNConv

    torch.manual_seed(0)
    conv = GCNConv(channels, channels).double()
    return Module(lambda m, z, x, e: torch.tanh(m.conv(z, e)) * 0.5 + x, conv=conv)


def cases() -> dict[str, Case]:
    z, x = randn(3, 6), randn(3, 6, seed=1)
    w, v = randn(6, 6, seed=2, scale=0.2), randn(6, 6, seed=3, scale=0.3)
    return {
        "tanh": (Module(lambda m, z, x: torch.tanh(z @ m.w + x), w=w), z, (x,), 1),
        "two layers": (
            Module(lambda m, z, x: torch.tanh(torch.relu(z @ m.w + x) @ m.v), w=w, v=v),
            z,
            (x,),
            1,
        ),
        "residual": (Module(lambda m, z, x: 0.5 * z + 0.25 * torch.tanh(z @ m.w) + x, w=w), z, (x,), 1),
        "linear sum": (Module(lambda m, z, x: 0.3 * z - z @ m.w + x, w=w), z, (x,), 1),
        "gelu": (Module(lambda m, z, x: nn.functional.gelu(z @ m.w + x), w=w), z, (x,), 1),
        "sigmoid gate": (Module(lambda m, z, x: torch.sigmoid(x) * torch.tanh(z @ m.w), w=w), z, (x,), 1),
        "shapes": (
            Module(lambda m, z, x: torch.cat([torch.tanh(z[:, 3:]), z[:, :3] * 0.5], 1) / 2 + x),
            z,
            (x,),
            1,
        ),
        "permute": (
            Module(lambda m, z, x: torch.tanh(z.reshape(-1, 2, 3).transpose(1, 2).reshape(-1, 6) @ m.w) + x, w=w),
            z,
            (x,),
            1,
        ),
        "left matmul": (
            Module(lambda m, z, x: torch.relu(m.a @ z @ m.w) + x, a=randn(3, 3, seed=5), w=w),
            z,
            (x,),
            0,
        ),
        "mean": (Module(lambda m, z, x: torch.tanh(z - z.mean(1, keepdim=True)) * 0.4 + x), z, (x,), 1),
        "leaky": (Module(lambda m, z, x: nn.functional.leaky_relu(z @ m.w + x, 0.1), w=w), z, (x,), 1),
        "gcn": (gcn(10, 4), randn(10, 4), (randn(10, 4, seed=7), ring(10)), 0),
    }
