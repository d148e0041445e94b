"""Small models with certificates, for the tests of `deqops prove`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from deqops._tensorfile import TensorFile
from deqops.graph import OperatorGraph, trace
from deqops.verify import Certificate, certify

needs_coq = pytest.mark.skipif(
    shutil.which("coqc") is None, reason="no Coq compiler: apt-get install coq libcoq-interval"
)
SIZE = 5


class Model(nn.Module):
    """`phi(W z + U x + b)`, or two such layers where `hidden` is given."""

    def __init__(self, phi: Callable[[Tensor], Tensor], hidden: int = 0, scale: float = 0.5, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)

        def matrix(rows: int, columns: int, size: float) -> nn.Parameter:
            return nn.Parameter(size * torch.randn(rows, columns, generator=generator) / columns)

        self.phi = phi
        self.first = matrix(hidden or SIZE, SIZE, 1.0 if hidden else scale)
        self.second = matrix(SIZE, hidden, scale) if hidden else None
        self.inner = matrix(SIZE, 3, 1.0)
        self.bias = nn.Parameter(torch.randn(SIZE, generator=generator))

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """The new state."""
        shift = x @ self.inner.T + self.bias
        if self.second is None:
            return self.phi(z @ self.first.T + shift)
        return torch.tanh(self.phi(z @ self.first.T) @ self.second.T + shift)


def case(model: nn.Module, norm: str = "linf", batch: int = 1) -> tuple[Certificate, OperatorGraph, TensorFile]:
    """A model's certificate, its graph, and inputs."""
    generator = torch.Generator().manual_seed(7)
    z, x = torch.zeros(batch, SIZE), torch.randn(batch, 3, generator=generator)
    graph = trace(model, z, x)
    return certify(graph, z, x, norm=norm), graph, TensorFile(z, (x,))


def saved(folder: Path, model: nn.Module) -> list[str]:
    """Arguments of `deqops prove` for a model's files."""
    from deqops._tensorfile import write_tensors
    from deqops.graph import export, read_model

    z, x = torch.zeros(1, SIZE), torch.ones(1, 3)
    export(folder / "model.pt2", model, z, x)
    write_tensors(folder / "inputs.safetensors", z, (x,))
    certify(read_model(folder / "model.pt2"), z, x, norm="linf").save(folder / "certificate.json")
    return [str(folder / "certificate.json"), "--model", str(folder / "model.pt2")]
