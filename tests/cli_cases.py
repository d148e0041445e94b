"""Small operators and files for the tests of the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import deqops
from deqops._tensorfile import write_tensors
from deqops.testing import signed


class Layer(nn.Module):
    """`tanh(W z + x)` with W = gain * I, on states (batch, 3)."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3, bias=False)
        with torch.no_grad():
            self.linear.weight.copy_(gain * torch.eye(3))

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(self.linear(z) + x)


class Sorting(nn.Module):
    """An operator with an operation that has no rule: places in order jump."""

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return 0.1 * torch.argsort(z, dim=1).to(z.dtype) + x


class Narrowing(nn.Module):
    """An operator that changes the shape of the state."""

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return (z + x)[:, :2]


class Splitting(nn.Module):
    """An operator that changes the structure of the state."""

    def forward(self, z: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        return z + x, z


def arguments() -> tuple[Tensor, Tensor]:
    return torch.zeros(2, 3), torch.tensor([[0.1, 0.2, 0.3], [0.0, -0.5, 1.0]])


def write_model(path: Path, module: nn.Module) -> Path:
    state, x = arguments()
    deqops.export(path, module, state, x)
    return path


def write_inputs(path: Path, *, state: Any = None, x: Tensor | None = None) -> Path:
    zero, ones = arguments()
    write_tensors(path, zero if state is None else state, (ones if x is None else x,))
    return path


def edit_certificate(path: Path, **changes: Any) -> Path:
    """A copy with changed entries and a digest that is right again, as a forger would write it."""
    document = json.loads(path.read_text())
    document = signed(document | changes)
    edited = path.with_name(f"edited-{path.name}")
    edited.write_text(json.dumps(document))
    return edited
