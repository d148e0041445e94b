"""The Picard iterative graph network: node states that solve `Z = f(X) + T(Z)`, T a graph network.

Zappala, Levine, He, Rizvi, Levy, van Dijk: Operator Learning Meets Numerical Analysis, arXiv:2310.01618,
sections 4 and 5 and appendix B.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from deqops import Anderson, EquilibriumLayer, ImplicitAdjoint, OperatorEquation, Solver, Tolerance
from deqops._errors import InputError


class PIGN(nn.Module):
    """Class scores read off the equilibrium of a graph operator.

    `Z = G(Z, X, E) = f(X) + tanh(A(E) Z W^T + b)`, scores `= R Z + r`, with `A(E)` the symmetrically
    normalised adjacency with self loops (computed in the operator, so it is exported with it), f a two-layer
    perceptron. tanh and A have constant 1, so `||W||_2 <= limit < 1` makes G contractive (theorem `picard`).

    Args:
        features: columns of X.
        classes: columns of the scores.
        channels: columns of the state Z.
        limit: target for `||W||_2`, kept by `project_` after every optimiser step. An estimate: what is true
            of the stored weights is for a certificate to say.
        steps: 0 solves to the equilibrium; n > 0 stops after n applications `Z <- G(Z)` from `Z = f(X)`.
        solver: of the equilibrium and of its gradient; None: Anderson, short memory. The paper's smoothing
            factor is `Picard(damping=...)`.
        tolerance: of both; None: relative 1e-3, enough for training and for scores.

    Raises:
        InputError: a number is out of range.
    """

    def __init__(
        self,
        features: int,
        classes: int,
        *,
        channels: int = 32,
        limit: float = 0.9,
        steps: int = 0,
        solver: Solver | None = None,
        tolerance: Tolerance | None = None,
    ) -> None:
        super().__init__()
        _check(channels, limit, steps)
        self.limit, self.steps = limit, steps
        solver, tolerance = solver or Anderson(memory=5), tolerance or Tolerance(relative=1e-3)
        equation = OperatorEquation(GraphStep(channels), f=Encoder(features, channels))
        self.layer = EquilibriumLayer(
            equation,
            solver=solver,
            adjoint=ImplicitAdjoint(solver, tolerance),
            tolerance=tolerance,
            initial=ZeroState(channels),
            batch_dims=0,
        )
        self.readout = nn.Linear(channels, classes)
        self.project_()

    @property
    def operator(self) -> OperatorEquation:
        """G(state, x, edge_index): what is solved, exported and certified."""
        return cast(OperatorEquation, self.layer.operator)

    def state(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """Z: (nodes, channels), the equilibrium, or the state after `steps` applications."""
        if self.steps == 0:
            solved: Tensor = self.layer(x, edge_index)
            return solved
        state: Tensor = self._encoder(x, edge_index)
        for _ in range(self.steps):
            state = self.operator(state, x, edge_index)
        return state

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """Scores: (nodes, classes)."""
        scores: Tensor = self.readout(self.state(x, edge_index))
        return scores

    def initial_state(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """Where the iteration starts: zeros (nodes, channels)."""
        start: Tensor = self.layer.initial_state(x, edge_index)
        return start

    def project_(self) -> None:
        """Bring the graph convolution's weight back to `||W||_2 <= limit`, up to rounding."""
        project_spectral_norm_(self._step.convolution.lin.weight, self.limit)

    @property
    def _encoder(self) -> Encoder:
        return cast(Encoder, self.operator.f)

    @property
    def _step(self) -> GraphStep:
        return cast(GraphStep, self.operator.T)


class Encoder(nn.Module):
    """f of the operator equation: `f(X) = B tanh(A X + a) + b`, the same for every node."""

    def __init__(self, features: int, channels: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(features, channels)
        self.output = nn.Linear(channels, channels)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """f(X): (nodes, channels). An operator's f receives all of its inputs; this one leaves the edges."""
        encoded: Tensor = self.output(torch.tanh(self.hidden(x)))
        return encoded


class GraphStep(nn.Module):
    """T of the operator equation: `T(Z) = tanh(A Z W^T + b)`, one graph convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        from torch_geometric.nn import GCNConv

        self.convolution = GCNConv(channels, channels)
        nn.init.eye_(self.convolution.lin.weight)  # projected: limit * I, plain propagation

    def forward(self, state: Tensor, x: Tensor, edge_index: Tensor) -> Tensor:
        """T(Z): (nodes, channels)."""
        return torch.tanh(self.convolution(state, edge_index))


@dataclass(frozen=True)
class ZeroState:
    """The start of the iteration: zeros for every node."""

    channels: int

    def __call__(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """Zeros (nodes, channels) of the features' dtype and device."""
        return x.new_zeros(x.shape[0], self.channels)


def project_spectral_norm_(weight: Tensor, limit: float) -> None:
    """Replace `weight` in place by the nearest matrix with singular values at most `limit`.

    The singular value decomposition is a floating-point estimate: the result's norm can exceed `limit` by
    rounding. `deqops.verify.spectral_norm_bound` bounds it rigorously.

    Args:
        weight: a matrix, changed without a gradient.
        limit: positive.
    """
    with torch.no_grad():
        left, values, right = torch.linalg.svd(weight.double(), full_matrices=False)
        if bool(values[0] > limit):
            weight.copy_((left * values.clamp(max=limit)) @ right)


def _check(channels: int, limit: float, steps: int) -> None:
    if channels < 1:
        raise InputError(f"channels: got {channels}; choose at least 1")
    if not limit > 0:
        raise InputError(f"limit: got {limit}; choose a positive bound, below 1 for a contraction")
    if steps < 0:
        raise InputError(f"steps: got {steps}; choose 0 for the equilibrium, or a number of applications")
