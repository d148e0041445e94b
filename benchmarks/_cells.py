"""Equilibrium models as papers and their code write them, with weights as their authors make them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Cell:
    """A model `G(z, x)`, and what makes its arguments."""

    name: str
    make: Callable[[], nn.Module]
    state: tuple[int, ...]
    input: tuple[int, ...]
    batch_dims: int = 1


class Shrinkage(nn.Module):
    """LISTA: `sign(v) relu(|v| - theta)`, `v = W_1 y + W_2 z`."""

    def __init__(self, measured: int = 16, n: int = 32) -> None:
        super().__init__()
        rows = torch.linalg.qr(torch.randn(n, n))[0][:measured]
        self.W1, self.W2 = nn.Linear(measured, n, bias=False), nn.Linear(n, n, bias=False)
        self.W1.weight.data, self.W2.weight.data = rows.T.clone(), 0.95 * (torch.eye(n) - rows.T @ rows)
        self.theta = nn.Parameter(torch.full((n,), 0.1))

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        v = self.W1(y) + self.W2(z)
        return torch.sign(v) * F.relu(torch.abs(v) - self.theta)


class ConvolutionalShrinkage(nn.Module):
    """The same of an image, a threshold for each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.conv.weight.data *= 0.3
        self.theta = nn.Parameter(torch.full((1, 4, 1, 1), 0.05))

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        v = self.conv(z) + y
        return v.sign() * torch.clamp(v.abs() - self.theta, min=0)


class OverItsNorm(nn.Module):
    """`tanh(0.9 W z / ||W|| + U x)`."""

    def __init__(self, n: int = 16) -> None:
        super().__init__()
        self.W, self.U = nn.Parameter(torch.randn(n, n)), nn.Linear(8, n)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        W = self.W / torch.linalg.matrix_norm(self.W, ord=2)
        return torch.tanh(0.9 * z @ W.T + self.U(x))


class Cayley(nn.Module):
    """`0.9 relu(Q z + x)`, Q orthogonal by Cayley's transform."""

    def __init__(self, n: int = 16) -> None:
        super().__init__()
        self.A = nn.Parameter(torch.randn(n, n))

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        skew, eye = self.A - self.A.T, torch.eye(len(self.A))
        return 0.9 * F.relu(z @ torch.linalg.solve(eye + skew, eye - skew).T + x)


class Monotone(nn.Module):
    """A step of forward-backward splitting of a monotone operator network, `W = (1 - m) I - A'A + B - B'`."""

    def __init__(self, n: int = 16, m: float = 0.5, step: float = 0.2) -> None:
        super().__init__()
        self.A, self.B = nn.Linear(n, n, bias=False), nn.Linear(n, n, bias=False)
        self.U, self.m, self.step = nn.Linear(8, n), m, step

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        A, B = self.A.weight, self.B.weight
        Wz = (1 - self.m) * z - F.linear(F.linear(z, A), A.T) + F.linear(z, B) - F.linear(z, B.T)
        return F.relu(z - self.step * (z - Wz - self.U(x)))


class MaxMin(nn.Module):
    """Three orthogonal layers with larger and smaller halves between them."""

    def __init__(self, n: int = 16) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.utils.parametrizations.orthogonal(nn.Linear(n, n)) for _ in range(3))

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        for one in self.maps:
            a, b = one(z).chunk(2, dim=1)
            z = torch.cat([torch.max(a, b), torch.min(a, b)], dim=1)
        return 0.9 * z + x


class GroupSort(MaxMin):
    """The same with groups of four in order."""

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        for one in self.maps:
            z = one(z).unflatten(1, (-1, 4)).sort(dim=2).values.flatten(1)
        return 0.9 * z + x


class ImplicitGraph(nn.Module):
    """`relu(A Z W' + B)`, W in a ball of the linf norm, A of spectral radius 1."""

    def __init__(self, nodes: int = 6, n: int = 8) -> None:
        super().__init__()
        A = torch.rand(nodes, nodes)
        A = A + A.T
        self.W = nn.Parameter(torch.randn(n, n))
        self.register_buffer("A", A / A.sum(1).max())

    def forward(self, Z: Tensor, B: Tensor) -> Tensor:
        W = 0.9 * self.W / torch.linalg.norm(self.W, float("inf"))
        return F.relu(self.A @ Z @ W.T + B)


class ConvolutionalGRU(nn.Module):
    """The update of optical flow networks."""

    def __init__(self, n: int = 8) -> None:
        super().__init__()
        self.z, self.r, self.q = (nn.Conv2d(2 * n, n, 3, padding=1) for _ in range(3))

    def forward(self, h: Tensor, x: Tensor) -> Tensor:
        both = torch.cat([h, x], 1)
        z, r = torch.sigmoid(self.z(both)), torch.sigmoid(self.r(both))
        q = torch.tanh(self.q(torch.cat([r * h, x], 1)))
        return (1 - z) * h + z * q


class LeakyByHand(nn.Module):
    """`0.5 V leaky(W z + x)`, the leaky ReLU by `where`."""

    def __init__(self, n: int = 8) -> None:
        super().__init__()
        self.W, self.V = nn.Linear(n, n), nn.Linear(n, n, bias=False)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        v = self.W(z) + x
        return 0.5 * self.V(torch.where(v > 0, v, 0.01 * v))


class Beliefs(nn.Module):
    """Belief propagation of an Ising model on a ring: `atanh(tanh(J) tanh(m + h))`."""

    def __init__(self, n: int = 6) -> None:
        super().__init__()
        self.J = nn.Parameter(0.3 * torch.randn(n))

    def forward(self, m: Tensor, h: Tensor) -> Tensor:
        return torch.atanh(torch.tanh(self.J) * torch.tanh(m.roll(1, -1) + h))


class MedianFilter(nn.Module):
    """The median of each three neighbours, damped."""

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return 0.9 * F.pad(z.unfold(-1, 3, 1).median(-1).values, (1, 1)) + x


class Sinkhorn(nn.Module):
    """Two half steps on potentials, damped."""

    def __init__(self, n: int = 5) -> None:
        super().__init__()
        self.C = nn.Parameter(torch.rand(n, n))

    def forward(self, f: Tensor, x: Tensor) -> Tensor:
        g = -torch.logsumexp(f[:, :, None] - self.C, 1)
        return -0.99 * torch.logsumexp(g[:, None, :] - self.C, 2) + x


class Hopfield(nn.Module):
    """A modern Hopfield network: `softmax(z X') X`."""

    def __init__(self, patterns: int = 10, n: int = 6) -> None:
        super().__init__()
        self.X = nn.Parameter(torch.randn(patterns, n) / 3)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return torch.softmax((z + x) @ self.X.T, -1) @ self.X


class Values(nn.Module):
    """Value iteration: `max_a (r_a + 0.9 P_a v)`."""

    def __init__(self, actions: int = 3, n: int = 8) -> None:
        super().__init__()
        self.P = nn.Parameter(torch.softmax(torch.randn(actions, n, n), -1))
        self.r = nn.Parameter(torch.randn(actions, n))

    def forward(self, v: Tensor, x: Tensor) -> Tensor:
        return (self.r + 0.9 * torch.einsum("aij,bj->bai", self.P, v)).amax(1) + x


class Gradient(nn.Module):
    """A step of gradient descent on `|A z - x|^2 / 2 + |z|^2 / 4`, and a projection."""

    def __init__(self, n: int = 6) -> None:
        super().__init__()
        self.A = nn.Parameter(torch.randn(n, n) / 3)

    def step(self, z: Tensor, x: Tensor) -> Tensor:
        return z - 0.1 * ((z @ self.A.T - x) @ self.A + 0.5 * z)


class OnABall(Gradient):
    """Onto the unit ball of l2."""

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        v = self.step(z, x)
        return v / torch.clamp(v.norm(dim=-1, keepdim=True), min=1.0)


class OnABox(Gradient):
    """Onto a box."""

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        one = torch.ones(z.shape[-1])
        return torch.min(torch.max(self.step(z, x), -one), one)


class ByGroups(Gradient):
    """Soft thresholding of pairs by their lengths."""

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        pairs = self.step(z, x).unflatten(1, (-1, 2))
        length = pairs.norm(dim=-1, keepdim=True).clamp_min(1e-6)
        return (F.relu(1 - 0.05 / length) * pairs).flatten(1)


def cells() -> Iterator[Cell]:
    """All of them."""
    yield Cell("LISTA", Shrinkage, (2, 32), (2, 16))
    yield Cell("LISTA, convolutional", ConvolutionalShrinkage, (1, 4, 32, 32), (1, 4, 32, 32))
    yield Cell("weight over its norm", OverItsNorm, (2, 16), (2, 8))
    yield Cell("Cayley", Cayley, (2, 16), (2, 16))
    yield Cell("monotone operator network", Monotone, (2, 16), (2, 8))
    yield Cell("MaxMin, orthogonal", MaxMin, (2, 16), (2, 16))
    yield Cell("GroupSort, orthogonal", GroupSort, (2, 16), (2, 16))
    yield Cell("implicit graph network", ImplicitGraph, (6, 8), (6, 8), batch_dims=0)
    yield Cell("convolutional GRU", ConvolutionalGRU, (1, 8, 6, 6), (1, 8, 6, 6))
    yield Cell("leaky ReLU by where", LeakyByHand, (2, 8), (2, 8))
    yield Cell("belief propagation", Beliefs, (1, 6), (1, 6))
    yield Cell("median filter", MedianFilter, (1, 10), (1, 10))
    yield Cell("Sinkhorn", Sinkhorn, (1, 5), (1, 5))
    yield Cell("modern Hopfield", Hopfield, (1, 6), (1, 6))
    yield Cell("value iteration", Values, (1, 8), (1, 8))
    yield Cell("projected onto a ball", OnABall, (1, 6), (1, 6))
    yield Cell("projected onto a box", OnABox, (1, 6), (1, 6))
    yield Cell("group soft thresholding", ByGroups, (1, 6), (1, 6))
