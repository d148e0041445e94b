"""The Picard iterative graph network: node states that solve `Z = f(X) + T(Z)`, T a graph network.

Zappala, Levine, He, Rizvi, Levy, van Dijk: Operator Learning Meets Numerical Analysis, arXiv:2310.01618,
sections 4 and 5 and appendix B.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import cast

import torch
from torch import Tensor, nn

from deqops import Anderson, EquilibriumLayer, ImplicitAdjoint, OperatorEquation, Picard, Solver, Tolerance
from deqops._errors import InputError
from deqops._numbers import as_number, is_count
from deqops._operators import bound

from ._propagation import Propagation, convolved

MAX_EVALUATIONS = 500
OPERATORS = ("convolution", "propagation", "sage", "attention")


class PIGN(nn.Module):
    """Class scores read off the equilibrium of a graph operator `Z = G(Z, X, E) = f(X) + T(Z, E)`.

    With `A(E)` the symmetrically normalised adjacency with self loops, computed in the operator and so exported
    with it (`||A||_2 <= 1`), `operator` chooses

    - "convolution": `T(Z) = tanh(A Z W^T + b)`, scores `= R Z + r`. `||W||_2 <= limit < 1` makes G contractive
      (theorem `picard`); `limit=inf` leaves W free, and nothing is promised.
    - "sage": `T(Z) = tanh(M Z V^T + Z W^T + b)`, M the mean over the neighbours, scores as before. `||V||_inf` and
      `||W||_inf` are held to `limit / 2` each, and M's rows sum to 1 on every graph: contractive in the sup norm.
    - "attention": `T(Z)_i = tanh(sum_j a_ij V tanh(Z_j) + b)`, the weights a_ij of a graph attention layer that
      scores the neighbours by `V tanh(Z_j)`, scores as before. `||V||_inf <= limit / 2` and the scores' vectors have
      l1 norm at most `1 / (2 limit)` each, so the softmax adds no more than V does; the inner tanh bounds what is
      scored (theorem `absorbing`). `limit=inf` leaves these two free as well.
    - "propagation": `T(Z) = limit A Z`, scores `= Z`. Contractive with rate `limit` whatever f is, so f can be
      trained freely; f(0) = 0, so a node without features is described by its neighbours alone.

    Args:
        features: columns of X.
        classes: columns of the scores.
        operator: as above.
        channels: columns of the state, or of f's hidden layer ("propagation").
        limit: as above. For "convolution" `project_` keeps it after every optimiser step. An estimate: what is
            true of the stored weights is for a certificate to say. "sage" and "attention" are parametrised.
        steps: 0 solves to the equilibrium; n > 0 stops after n applications `Z <- (1 - b) Z + b G(Z)` from
            `Z = f(X)`.
        smoothing: the paper's smoothing factor b, 0 < b <= 1 (theorem `damped`).
        dropout: part dropped in training mode of the features and of the state before R, both outside of the
            operator, and of f's hidden layer ("propagation").
        solver: of the equilibrium and of its gradient; None: Anderson with a short memory, or `Picard(b)` where
            b < 1.
        tolerance: of both; None: relative 1e-3, enough for training and for scores.

    Raises:
        InputError: a number is out of range.
    """

    def __init__(
        self,
        features: int,
        classes: int,
        *,
        operator: str = "convolution",
        channels: int = 32,
        limit: float = 0.9,
        steps: int = 0,
        smoothing: float = 1.0,
        dropout: float = 0.0,
        solver: Solver | None = None,
        tolerance: Tolerance | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("features", features), ("classes", classes)):
            if not is_count(value, 1):
                raise InputError(f"{name}: got {value!r}; choose a whole number of at least 1")
        check_options(operator, channels, limit, steps, smoothing, dropout)
        self.features = features
        self.limit, self.steps, self.smoothing, self.dropout = limit, steps, smoothing, dropout
        self.readout: nn.Module
        if operator == "propagation":
            self.width = classes
            equation = OperatorEquation(GraphPropagation(limit), f=SparseEncoder(features, channels, classes, dropout))
            self.readout = nn.Identity()
        else:
            self.width = channels
            equation = OperatorEquation(graph_step(operator, channels, limit), f=Encoder(features, channels))
            self.readout = nn.Linear(channels, classes)
        solver = solver or (Anderson(memory=5) if smoothing == 1 else Picard(damping=smoothing))
        tolerance = tolerance or Tolerance(relative=1e-3)
        self.layer = EquilibriumLayer(
            equation,
            solver=solver,
            adjoint=ImplicitAdjoint(solver, tolerance, max_evaluations=MAX_EVALUATIONS, derivatives=1),
            tolerance=tolerance,
            initial=ZeroState(self.width),
            batch_dims=0,
            max_evaluations=MAX_EVALUATIONS,
        )
        self.project_()

    @property
    def operator(self) -> OperatorEquation:
        """G(state, x, edge_index): what is solved, exported and certified."""
        return cast(OperatorEquation, self.layer.operator)

    def state(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """Z: (nodes, width), the equilibrium, or the state after `steps` applications."""
        self._check_features(x)
        if self.steps == 0:
            solved: Tensor = self.layer(x, edge_index)
            return solved
        states = self.iterates(x, edge_index)
        return next(islice(states, self.steps, None))

    def iterates(self, x: Tensor, edge_index: Tensor) -> Iterator[Tensor]:
        """The states `Z <- (1 - b) Z + b G(Z)` from `Z = f(X)` on, without end."""
        self._check_features(x)
        state = encoded = self.operator.f(x, edge_index)  # type: ignore[operator, misc]
        image_of = bound(self.operator.T, x, edge_index)
        while True:
            yield state
            state = torch.lerp(state, encoded + image_of(state), self.smoothing)

    def image_of(self, x: Tensor, edge_index: Tensor) -> Callable[[Tensor], Tensor]:
        """`Z -> G(Z)` at these inputs."""
        return self.operator.at_inputs(x, edge_index)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """Scores: (nodes, classes)."""
        state = self.state(dropped(x, self.dropout, training=self.training), edge_index)
        return self.scores(state)

    def scores(self, state: Tensor) -> Tensor:
        """The read-out of a state."""
        if isinstance(self.readout, nn.Linear):
            state = dropped(state, self.dropout, training=self.training)
        scores: Tensor = self.readout(state)
        return scores

    def initial_state(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """Where the iteration starts: zeros (nodes, width)."""
        start: Tensor = self.layer.initial_state(x, edge_index)
        return start

    def _check_features(self, x: Tensor) -> None:
        if x.ndim != 2 or x.shape[1] != self.features:
            needed = f"(nodes, {self.features})"
            raise InputError(f"x: got shape {tuple(x.shape)}; this model takes features of shape {needed}")

    def project_(self) -> None:
        """Bring a convolution's weight back to `||W||_2 <= limit`, up to rounding."""
        step = self.operator.T
        if isinstance(step, GraphConvolution):
            project_spectral_norm_(step.convolution.lin.weight, self.limit)


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


class SparseEncoder(nn.Module):
    """`f(X) = B relu(A X)`: no biases, so f(0) = 0. X may be a sparse COO tensor."""

    def __init__(self, features: int, hidden: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.hidden = nn.Parameter(nn.init.xavier_normal_(torch.empty(features, hidden)))
        self.output = nn.Linear(hidden, classes, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """f(X): (nodes, classes)."""
        encoded: Tensor = self.output(self.dropout(torch.relu(x @ self.hidden)))
        return encoded


class GraphConvolution(nn.Module):
    """T of the operator equation: `T(Z) = tanh(A Z W^T + b)`, one graph convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        from torch_geometric.nn import GCNConv

        self.convolution = GCNConv(channels, channels)
        nn.init.eye_(self.convolution.lin.weight)  # projected: limit * I, plain propagation

    def forward(self, state: Tensor, x: Tensor, edge_index: Tensor) -> Tensor:
        """T(Z): (nodes, channels)."""
        return torch.tanh(self.convolution(state, edge_index))

    def at_inputs(self, x: Tensor, edge_index: Tensor) -> Callable[[Tensor], Tensor]:
        """`Z -> T(Z)` with A built once."""
        image_of = convolved(self.convolution, edge_index)
        return lambda state: torch.tanh(image_of(state))


class GraphSage(nn.Module):
    """T of the operator equation: `T(Z) = tanh(M Z V^T + Z W^T + b)`, one layer of GraphSAGE."""

    def __init__(self, channels: int, limit: float) -> None:
        super().__init__()
        from torch_geometric.nn import SAGEConv

        self.convolution = SAGEConv(channels, channels)
        nn.init.eye_(self.convolution.lin_l.weight)
        hold(self.convolution.lin_l, "weight", limit / 2)
        hold(self.convolution.lin_r, "weight", limit / 2)

    def forward(self, state: Tensor, x: Tensor, edge_index: Tensor) -> Tensor:
        """T(Z): (nodes, channels)."""
        return torch.tanh(self.convolution(state, edge_index))


class GraphAttention(nn.Module):
    """T of the operator equation: `T(Z)_i = tanh(sum_j a_ij V tanh(Z_j) + b)`, one layer of graph attention."""

    def __init__(self, channels: int, limit: float) -> None:
        super().__init__()
        from torch_geometric.nn import GATConv

        self.convolution = GATConv(channels, channels)
        nn.init.eye_(self.convolution.lin.weight)
        hold(self.convolution.lin, "weight", limit / 2)
        hold(self.convolution, "att_src", 1 / (2 * limit))
        hold(self.convolution, "att_dst", 1 / (2 * limit))

    def forward(self, state: Tensor, x: Tensor, edge_index: Tensor) -> Tensor:
        """T(Z): (nodes, channels)."""
        return torch.tanh(self.convolution(torch.tanh(state), edge_index))


def graph_step(operator: str, channels: int, limit: float) -> nn.Module:
    """T of the name."""
    if operator == "sage":
        return GraphSage(channels, limit)
    return GraphAttention(channels, limit) if operator == "attention" else GraphConvolution(channels)


def hold(layer: nn.Module, name: str, limit: float) -> None:
    """Keep each row of a weight to an absolute sum of at most `limit` from now on, unless it is 0 or infinite."""
    from deqops.verify.contractive import bounded

    if 0 < limit < math.inf:
        bounded(layer, limit, norm="linf", name=name)


class GraphPropagation(nn.Module):
    """T of the operator equation: `T(Z) = gain A Z`, no weights."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = gain

    def forward(self, state: Tensor, x: Tensor, edge_index: Tensor) -> Tensor:
        """T(Z): (nodes, classes)."""
        from torch_geometric.nn.conv.gcn_conv import gcn_norm

        (source, target), weight = gcn_norm(edge_index, num_nodes=state.shape[0], dtype=state.dtype)
        messages = state.index_select(0, source) * weight[:, None]
        return self.gain * torch.zeros_like(state).index_add(0, target, messages)

    def at_inputs(self, x: Tensor, edge_index: Tensor) -> Callable[[Tensor], Tensor]:
        """`Z -> T(Z)` with A built once."""
        product = Propagation(edge_index)
        return lambda state: self.gain * product(state) if product.applies(state) else self(state, x, edge_index)


@dataclass(frozen=True)
class ZeroState:
    """The start of the iteration: zeros for every node."""

    channels: int

    def __call__(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """Zeros (nodes, channels) of the features' dtype and device."""
        return torch.zeros(x.shape[0], self.channels, dtype=x.dtype, device=x.device)


def dropped(x: Tensor, part: float, *, training: bool) -> Tensor:
    """Inverted dropout, of the stored entries where x is sparse."""
    if not training or part == 0:
        return x
    if not x.is_sparse:
        return nn.functional.dropout(x, part)
    values = nn.functional.dropout(x.values(), part)
    return torch.sparse_coo_tensor(x.indices(), values, x.shape, is_coalesced=True, check_invariants=False)


def project_spectral_norm_(weight: Tensor, limit: float) -> None:
    """Replace `weight` in place by the nearest matrix with singular values at most `limit`.

    The singular value decomposition is a floating-point estimate: the result's norm can exceed `limit` by
    rounding. `deqops.verify.spectral_norm_bound` bounds it rigorously.

    Args:
        weight: a matrix, changed without a gradient.
        limit: positive; infinity leaves the weight alone.
    """
    if limit == math.inf:
        return
    with torch.no_grad():
        left, values, right = torch.linalg.svd(weight.double(), full_matrices=False)
        if bool(values[0] > limit):
            weight.copy_((left * values.clamp(max=limit)) @ right)


def check_options(operator: str, channels: int, limit: float, steps: int, smoothing: float, dropout: float) -> None:
    """Raises InputError where an option of a PIGN is out of range."""
    if operator not in OPERATORS:
        raise InputError(f"operator: got {operator!r}; choose from {', '.join(OPERATORS)}")
    if not is_count(channels, 1):
        raise InputError(f"channels: got {channels!r}; choose a whole number of at least 1")
    if not as_number(limit) > 0 or (operator == "propagation" and limit == math.inf):
        raise InputError(f"limit: got {limit!r}; choose a positive bound, below 1 for a contraction")
    if not is_count(steps):
        raise InputError(f"steps: got {steps!r}; choose 0 for the equilibrium, or a number of applications")
    if not 0 < as_number(smoothing) <= 1:
        raise InputError(f"smoothing: got {smoothing!r}; choose a factor above 0 and at most 1")
    if not 0 <= as_number(dropout) < 1:
        raise InputError(f"dropout: got {dropout!r}; choose a part in [0, 1)")
