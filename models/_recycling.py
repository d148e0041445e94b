"""Recycling: a trunk as in AlphaFold whose single and pair representations and coordinates solve `y = G(y)`.

The state is (single, pair, shift): features of residues and of pairs of residues, and by how much the coordinates
x = noisy + shift differ from the noisy ones that are given. AlphaFold runs its trunk a few times, each time on what the
last one made of them; the paper reads this as Picard's iteration.

G commutes with rigid motions of x and of the noisy coordinates together, so with these given there is no orbit of
equilibria: the frame is theirs. AlphaFold bins the recycled distances; a jump has no Lipschitz constant, so here they
enter by smooth bumps.

Zappala, Levine, He, Rizvi, Levy, van Dijk: Operator Learning Meets Numerical Analysis, arXiv:2310.01618, section 4;
Jumper and others: Highly accurate protein structure prediction with AlphaFold, Nature 596 (2021) 583, algorithms 2
(recycling), 11 (triangle multiplication), 7 and 22 (attention by pairs and points).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from deqops import Anderson, EquilibriumLayer, ImplicitAdjoint, Tolerance

from ._backbones import KINDS
from ._corrupted import PAIR_FEATURES

MAX_EVALUATIONS = 200
State = tuple[Tensor, Tensor, Tensor]
"""Single (crops, residues, s), pair (crops, residues, residues, p), shift (crops, residues, 3) in angstrom."""

_BUMPS = (3.0, 5.0, 7.0, 10.0, 14.0)  # angstrom
_WIDTH = 3.0
_SOFT = 1.0


class Trunk(nn.Module):
    """G: one pass over the pairs, the residues and the coordinates.

    With d = distances of x, e those of the noisy coordinates, all functions of pairs written with i, j:

        z = tanh(A pair + B bumps(d) + C bumps(e) + D pairs + l(single)_i + r(single)_j)
        z <- tanh(E z + F sum_k tanh(a z)_ik tanh(b z)_jk / residues)               triangle multiplication
        w = softmax_j(q_i . k_j / sqrt(c) + u z_ij - g d_ij^2 / 100), g > 0          attention by pairs and points
        s = tanh(H sequence + K single + V sum_j w_ij (z_ij, v_j))
        m = softmax_j(t z_ij), h = sigmoid(o s)
        shift <- keep shift + h_i sum_j m_ij (target_ij - d_ij) (x_i - x_j) / d_ij,  target = e + R z
        single <- tanh(S s), pair <- tanh(P z)

    Each pair of residues thus proposes a distance, and each residue moves towards those that it trusts, while `keep`,
    in (0, 1), draws it back to where the noise left it. Distances are softened, `d = sqrt(1 + |x_i - x_j|^2)`.

    Args:
        single: channels s of the recycled features of residues.
        pair: channels p of those of pairs.
        hidden: channels c within the pass.
    """

    def __init__(self, single: int = 8, pair: int = 2, hidden: int = 12) -> None:
        super().__init__()
        bumps = len(_BUMPS)
        self.single, self.pair = single, pair
        self.pair_in = nn.Linear(pair + 2 * bumps + PAIR_FEATURES, hidden)
        self.left, self.right = (nn.Linear(single + KINDS, hidden, bias=False) for _ in range(2))
        self.triangle_a, self.triangle_b, self.triangle_out = (nn.Linear(hidden, hidden) for _ in range(3))
        self.transition = nn.Linear(hidden, hidden)
        self.single_in = nn.Linear(single + KINDS, hidden)
        self.query, self.key, self.value = (nn.Linear(hidden, hidden, bias=False) for _ in range(3))
        self.by_pair = nn.Linear(hidden, 1, bias=False)
        self.by_point = nn.Parameter(torch.zeros(()))
        self.attended = nn.Linear(2 * hidden, hidden)
        self.target, self.trust = nn.Linear(hidden, 1), nn.Linear(hidden, 1, bias=False)
        self.step, self.keep = nn.Linear(hidden, 1), nn.Parameter(torch.zeros(()))
        self.single_out, self.pair_out = nn.Linear(hidden, single), nn.Linear(hidden, pair)
        with torch.no_grad():
            self.target.weight.mul_(0.1)
            self.target.bias.zero_()

    def forward(self, state: State, sequence: Tensor, pairs: Tensor, noisy: Tensor) -> State:
        """The new state, of the state's shapes; inputs as in `Crops`."""
        single, pair, shift = state
        gaps, d = distances(noisy + shift)
        e = distances(noisy)[1]
        residues = torch.cat([single, sequence], dim=-1)
        z = self.pairs_pass(torch.cat([pair, bumps(d), bumps(e), pairs], dim=-1), residues)
        s = self.residues_pass(z, d, residues)
        target = e + 10 * self.target(z)
        pull = torch.softmax(self.trust(z), dim=2) * (target - d) / d
        shift = torch.sigmoid(self.keep) * shift + torch.sigmoid(self.step(s)) * (pull * gaps).sum(dim=2)
        return torch.tanh(self.single_out(s)), torch.tanh(self.pair_out(z)), shift

    def pairs_pass(self, features: Tensor, residues: Tensor) -> Tensor:
        """z: (crops, residues, residues, hidden)."""
        z = torch.tanh(self.pair_in(features) + self.left(residues)[:, :, None] + self.right(residues)[:, None])
        a, b = torch.tanh(self.triangle_a(z)), torch.tanh(self.triangle_b(z))
        triangles = (a.permute(0, 3, 1, 2) @ b.permute(0, 3, 2, 1)).permute(0, 2, 3, 1) / z.shape[1]
        return torch.tanh(self.transition(z) + self.triangle_out(triangles))

    def residues_pass(self, z: Tensor, d: Tensor, residues: Tensor) -> Tensor:
        """s: (crops, residues, hidden)."""
        s = torch.tanh(self.single_in(residues))
        scores = self.query(s) @ self.key(s).transpose(1, 2) / math.sqrt(s.shape[-1])
        points = nn.functional.softplus(self.by_point) * d[..., 0].square() / 100
        weights = torch.softmax(scores + self.by_pair(z)[..., 0] - points, dim=2)
        about = torch.cat([(weights[..., None] * z).sum(dim=2), weights @ self.value(s)], dim=-1)
        return torch.tanh(s + self.attended(about))


def distances(x: Tensor) -> tuple[Tensor, Tensor]:
    """Differences x_i - x_j (crops, residues, residues, 3) and softened distances (crops, residues, residues, 1)."""
    gaps = x[:, :, None] - x[:, None]
    return gaps, (gaps.square().sum(dim=-1, keepdim=True) + _SOFT**2).sqrt()


def bumps(d: Tensor) -> Tensor:
    """`exp(-((d - c) / w)^2)` for several c: (crops, residues, residues, bumps)."""
    return torch.exp(-((d - d.new_tensor(_BUMPS)) / _WIDTH).square())


class Recycler(nn.Module):
    """Coordinates read off the equilibrium of a `Trunk`, or off a number of passes.

    Args:
        single: as for `Trunk`.
        pair: likewise.
        hidden: likewise.
    """

    def __init__(self, single: int = 8, pair: int = 2, hidden: int = 12) -> None:
        super().__init__()
        solver, tolerance = Anderson(memory=5), Tolerance(relative=1e-3)
        adjoint = ImplicitAdjoint(solver, tolerance, max_evaluations=MAX_EVALUATIONS, derivatives=1)
        trunk = Trunk(single, pair, hidden)
        self.layer = EquilibriumLayer(
            trunk, solver, adjoint, tolerance, Start(single, pair), max_evaluations=MAX_EVALUATIONS
        )

    @property
    def trunk(self) -> Trunk:
        """G(state, sequence, pairs, noisy)."""
        trunk: Trunk = self.layer.operator  # type: ignore[assignment]
        return trunk

    def recycled(self, count: int, sequence: Tensor, pairs: Tensor, noisy: Tensor) -> State:
        """The state after `count` >= 1 passes; gradients go through the last one alone, as AlphaFold's do."""
        state: State = self.layer.initial_state(sequence, pairs, noisy)
        with torch.no_grad():
            for _ in range(count - 1):
                state = self.trunk(state, sequence, pairs, noisy)
        last: State = self.trunk(state, sequence, pairs, noisy)
        return last


class Start:
    """Where the iteration starts: zeros, and so the noisy coordinates."""

    def __init__(self, single: int, pair: int) -> None:
        self.single, self.pair = single, pair

    def __call__(self, sequence: Tensor, pairs: Tensor, noisy: Tensor) -> State:
        """Of the inputs' dtype and device."""
        crops, residues, _ = noisy.shape
        single, pair = (crops, residues, self.single), (crops, residues, residues, self.pair)
        return noisy.new_zeros(single), noisy.new_zeros(pair), torch.zeros_like(noisy)
