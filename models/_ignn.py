"""The implicit graph neural network: `Z = relu(A Z W^T + f(X))`, well posed by a weighted sup norm.

Gu, Chang, Zhu, Sojoudi, El Ghaoui, *Implicit graph neural networks*, NeurIPS 2020, sections 3 and 4. The paper's
states are columns: its Z, W and A are Z^T, W and A^T here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from deqops import Anderson, EquilibriumLayer, ImplicitAdjoint, Tolerance
from deqops._errors import InputError
from deqops._numbers import as_number, is_count

from ._pign import MAX_EVALUATIONS, SparseEncoder, ZeroState, dropped
from ._propagation import convolved

if TYPE_CHECKING:
    from deqops.verify import Norm

NORMS = ("perron", "linf")


class ImplicitGraphNetwork(nn.Module):
    """Class scores read off the equilibrium of `Z = G(Z, B, E) = relu(A Z W^T + B)`, B = f(X), on one graph.

    A is the symmetrically normalised adjacency with self loops, whose largest absolute row sum may be far above 1
    though its spectral radius is 1. The paper's condition `||W||_inf rho(A) < 1` is that of a contraction in the norm
    `max_ij p_i |Z_ij|`, 1/p about A's Perron vector (theorem T1 `picard`): W is held to
    `||A||_(inf, p) ||W||_inf <= rate`, a proven bound for this graph and these floats.

    Args:
        features: columns of X.
        classes: columns of the scores.
        edge_index: of the graph that the network is for, (2, edges); it refuses every other one.
        nodes: of the graph.
        channels: columns of the state.
        hidden: of the encoder f, `f(X) = D relu(C X)`.
        rate: as above, below 1.
        norm: "perron" for p as above, "linf" for p = 1.
        steps: 0 solves to the equilibrium; n > 0 stops after n applications of G from `Z = f(X)` (a baseline).
        dropout: part dropped in training mode of the features, the hidden layer of f, and the state before the
            read-out; all of it outside of what acts on the state.

    Raises:
        InputError: an option is out of range.
    """

    def __init__(
        self,
        features: int,
        classes: int,
        edge_index: Tensor,
        nodes: int,
        *,
        channels: int = 32,
        hidden: int = 64,
        rate: float = 0.95,
        norm: str = "perron",
        steps: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_ignn(channels, hidden, rate, norm, steps, dropout)
        self.steps, self.dropout = steps, dropout
        self.f = SparseEncoder(features, hidden, channels, dropout)
        step = ImplicitGraphStep(channels)
        step.hold(edge_index, nodes, rate, norm)
        solver, tolerance = Anderson(memory=5), Tolerance(relative=1e-3)
        self.layer = EquilibriumLayer(
            step,
            solver=solver,
            adjoint=ImplicitAdjoint(solver, tolerance, max_evaluations=MAX_EVALUATIONS, derivatives=1),
            tolerance=tolerance,
            initial=ZeroState(channels),
            batch_dims=0,
            max_evaluations=MAX_EVALUATIONS,
        )
        self.readout = nn.Linear(channels, classes)

    @property
    def operator(self) -> ImplicitGraphStep:
        """G(state, encoded, edge_index): what is solved, exported and certified."""
        return cast(ImplicitGraphStep, self.layer.operator)

    def encoded(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """B = f(X): (nodes, channels). X may be a sparse COO tensor."""
        encoded: Tensor = self.f(dropped(x, self.dropout, training=self.training), edge_index)
        return encoded

    def state(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """Z: (nodes, channels), the equilibrium, or the state after `steps` applications."""
        if self.steps == 0:
            solved: Tensor = self.layer(self.encoded(x, edge_index), edge_index)
            return solved
        return next(islice(self.iterates(x, edge_index), self.steps, None))

    def iterates(self, x: Tensor, edge_index: Tensor) -> Iterator[Tensor]:
        """The states `Z <- G(Z)` from `Z = f(X)` on, without end."""
        state = encoded = self.encoded(x, edge_index)
        image_of = self.operator.at_inputs(encoded, edge_index)
        while True:
            yield state
            state = image_of(state)

    def image_of(self, x: Tensor, edge_index: Tensor) -> Callable[[Tensor], Tensor]:
        """`Z -> G(Z)` at these inputs."""
        return self.operator.at_inputs(self.encoded(x, edge_index), edge_index)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """Scores: (nodes, classes)."""
        return self.scores(self.state(x, edge_index))

    def scores(self, state: Tensor) -> Tensor:
        """The read-out of a state."""
        scores: Tensor = self.readout(dropped(state, self.dropout, training=self.training))
        return scores

    def initial_state(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """Where the iteration starts: zeros (nodes, channels)."""
        return x.new_zeros(x.shape[0], self.readout.in_features)

    def state_norm(self) -> Norm:
        """The norm of states in which the rate holds, for `certify`."""
        held = self.operator.convolution.lin.parametrizations.weight[0]
        norm: Norm = held.state_norm(self.readout.in_features)
        return norm


class ImplicitGraphStep(nn.Module):
    """`G(Z, B, E) = relu(A Z W^T + B)`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        from torch_geometric.nn import GCNConv

        self.convolution = GCNConv(channels, channels, bias=False)
        nn.init.eye_(self.convolution.lin.weight)  # held: rate * I, plain propagation

    def hold(self, edge_index: Tensor, nodes: int, rate: float, norm: str) -> None:
        """Bound W for this graph."""
        from deqops.verify.contractive import bounded

        bounded(self.convolution, rate, norm=norm, graph=edge_index, size=nodes)

    def forward(self, state: Tensor, encoded: Tensor, edge_index: Tensor) -> Tensor:
        """(nodes, channels)."""
        return torch.relu(self.convolution(state, edge_index) + encoded)

    def at_inputs(self, encoded: Tensor, edge_index: Tensor) -> Callable[[Tensor], Tensor]:
        """`Z -> G(Z, B, E)` with A built once."""
        image_of = convolved(self.convolution, edge_index)
        return lambda state: torch.relu(image_of(state) + encoded)


def check_ignn(channels: int, hidden: int, rate: float, norm: str, steps: int, dropout: float) -> None:
    """Raises InputError where an option is out of range."""
    for name, value in (("channels", channels), ("hidden", hidden)):
        if not is_count(value, 1):
            raise InputError(f"{name}: got {value!r}; choose a whole number of at least 1")
    if not 0 < as_number(rate) < 1:
        raise InputError(f"rate: got {rate!r}; choose a number between 0 and 1")
    if norm not in NORMS:
        raise InputError(f"norm: got {norm!r}; choose from {', '.join(NORMS)}")
    if not is_count(steps):
        raise InputError(f"steps: got {steps!r}; choose 0 for the equilibrium, or a number of applications")
    if not 0 <= as_number(dropout) < 1:
        raise InputError(f"dropout: got {dropout!r}; choose a part in [0, 1)")
