"""Kernels of neural integral equations: a network with a proven constant, and attention with bounded values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor, nn

from ._nystrom import Rule


class KernelNetwork(nn.Module):
    """`T(y)(t) = integral of K(t, s, y(s)) ds` with `K(t, s, u) = V (g(t, s) * tanh(W u + b(s)))`, g in (-1, 1).

    Values y(s) are themselves functions on a periodic grid, (places, channels), with one place for plain functions of
    time; W sees each place with its neighbours, the same everywhere. g and b are networks of the times. Sums of such
    products are dense in the continuous kernels on compact sets, since products of functions of (t, s) and of u are
    (Stone and Weierstrass). With `constant` below infinity `||V||_inf ||W||_inf <= constant` holds whatever an
    optimiser does, and `constant` bounds kappa in `|K(t, s, u) - K(t, s, v)| <= kappa |u - v|` (maxima over places and
    channels), uniformly in t and s. Where `w_ij = 0` for j >= i, T is strictly causal (T8) whatever the weights are.

    Args:
        channels: of u.
        hidden: entries of g.
        width: of the networks of the times.
        rule: points and weights; the nodes are the points.
        seen: (places, neighbours) what W sees, as `neighbours` gives it.
        constant: as above; `math.inf` leaves V and W free.

    Source: Zappala et al., *Neural Integral Equations*, arXiv:2209.15190 (NIE).
    """

    def __init__(
        self, channels: int, hidden: int, width: int, rule: Rule, seen: Tensor, constant: float = math.inf
    ) -> None:
        super().__init__()
        self.W = nn.Linear(channels * seen.shape[1], hidden, bias=False)
        self.V = nn.Linear(hidden, channels, bias=False)
        self.gate = _network(3, width, hidden)
        self.bias = _network(1, width, hidden)
        self.points: Tensor
        self.weights: Tensor
        self.register_buffer("points", rule.points.clone(), persistent=False)
        self.seen: Tensor
        self.register_buffer("weights", rule.weights.clone(), persistent=False)
        self.register_buffer("seen", seen, persistent=False)
        if constant < math.inf:
            from deqops.verify.contractive import bounded

            bounded(self.W, 1.0, norm="linf")
            bounded(self.V, constant, norm="linf")

    def forward(self, y: Tensor, *inputs: Tensor) -> Tensor:
        """(batch, points, places, channels) of the same."""
        t, s = self.points[:, None, None], self.points[:, None]
        features = self._features(s[:, None], y)
        moments = torch.einsum("ijh,bjxh->bixh", self.weights[..., None] * self._gates(t, s), features)
        result: Tensor = self.V(moments)
        return result

    def kernel(self, t: Tensor, s: Tensor, u: Tensor) -> Tensor:
        """K, as `Kernel`, for functions of time alone: one place."""
        result: Tensor = self.V(self._gates(t, s) * torch.tanh(self.W(u) + self.bias(s)))
        return result

    def _gates(self, t: Tensor, s: Tensor) -> Tensor:
        """g(t, s): (points, nodes, hidden)."""
        lag = t - s
        return torch.tanh(self.gate(torch.cat([t.expand_as(lag), s.expand_as(lag), lag], dim=-1)))

    def _features(self, s: Tensor, y: Tensor) -> Tensor:
        """`tanh(W y(s) + b(s))`: (batch, nodes, places, hidden)."""
        return torch.tanh(self.W(around(y, self.seen)) + self.bias(s))


class Attention(nn.Module):
    """`T(y)(t) = integral of e^a(t, s) v(s) ds / integral of e^a(t, s) ds`, `a(t, s) = q(t) . k(s) / sqrt(d)`.

    q, k and v are linear in `h(t) = tanh(W y(t) + b(t))`, so that all values lie in a box and T(y) in another one. The
    quadrature's weights enter the softmax as `log w_j`: finer nodes approach the same operator.

    Args:
        channels: of y.
        hidden: of h.
        width: of the network of the time.
        heads: of the attention; a divisor of `hidden`.
        rule: points and weights; each row's weights positive.
        seen: as for `KernelNetwork`. Each place attends to itself at all times.

    Source: Zappala et al., *Neural Integral Equations*, arXiv:2209.15190 (ANIE).
    """

    def __init__(self, channels: int, hidden: int, width: int, heads: int, rule: Rule, seen: Tensor) -> None:
        super().__init__()
        self.heads = heads
        self.W = nn.Linear(channels * seen.shape[1], hidden, bias=False)
        self.bias = _network(1, width, hidden)
        self.query, self.key, self.value = (nn.Linear(hidden, hidden, bias=False) for _ in range(3))
        self.V = nn.Linear(hidden, channels, bias=False)
        self.points: Tensor
        self.log_weights: Tensor
        self.seen: Tensor
        self.register_buffer("points", rule.points.clone(), persistent=False)
        self.register_buffer("log_weights", rule.weights.log(), persistent=False)
        self.register_buffer("seen", seen, persistent=False)

    def forward(self, y: Tensor, *inputs: Tensor) -> Tensor:
        """(batch, points, places, channels) of the same."""
        h = torch.tanh(self.W(around(y, self.seen)) + self.bias(self.points[:, None, None]))
        q, k, v = (self._split(layer(h)) for layer in (self.query, self.key, self.value))
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]) + self.log_weights
        mixed = torch.softmax(scores, dim=-1) @ v  # (batch, places, heads, points, hidden / heads)
        result: Tensor = self.V(mixed.permute(0, 3, 1, 2, 4).flatten(-2))
        return result

    def _split(self, h: Tensor) -> Tensor:
        """(batch, places, heads, points, hidden / heads)."""
        return h.reshape(*h.shape[:-1], self.heads, -1).permute(0, 2, 3, 1, 4)


def neighbours(grid: Sequence[int], reach: int) -> Tensor:
    """(places, neighbours): the places at most `reach` steps away in each direction, on a periodic grid.

    Places are counted with the last direction fastest. No direction is gone round more than once: with a reach of
    half the grid each place is seen by every other one, always at the same offset. The grid () has one place.
    """
    places = torch.arange(math.prod(grid)).reshape(tuple(grid))
    steps = [range(-min(reach, (n - 1) // 2), min(reach, n // 2) + 1) for n in grid]
    rolled = [places.roll([-step for step in offset], tuple(range(len(grid)))) for offset in product(*steps) if offset]
    return torch.stack([moved.flatten() for moved in rolled or [places]], dim=1)


def around(y: Tensor, seen: Tensor) -> Tensor:
    """(..., places, channels) to (..., places, neighbours * channels): each place with what it sees."""
    return y if seen.shape[1] == 1 else y[..., seen, :].flatten(-2)


def _network(inputs: int, width: int, outputs: int) -> nn.Sequential:
    """A small network of times."""
    return nn.Sequential(nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, outputs))
