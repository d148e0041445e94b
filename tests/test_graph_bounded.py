"""Layers on a graph stay within their rate: every optimiser step, for the graph they were bounded for and no other."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from flint import fmpq, fmpq_mat
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv, GINConv, GraphConv, SAGEConv

from deqops import InputError, UnsupportedOperationError, export, load
from deqops.models import GCN
from deqops.testing import assert_accepted
from deqops.verify import Norm, Verdict, certify
from deqops.verify.contractive import GraphBounded, L2Bounded, bounded

pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")

RATE, NODES, CHANNELS = 0.9, 5, 3
# A path with one edge that has no way back, so that the normalised adjacency's norms are above 1.
EDGES = torch.tensor([[0, 1, 1, 2, 2, 3, 0], [1, 0, 2, 1, 3, 2, 4]])
Z = torch.zeros(NODES, CHANNELS)


class OnGraph(nn.Module):
    """An equilibrium operator on the one graph."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.register_buffer("edges", EDGES)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(self.layer(z, self.edges) + x)


def convolution(norm: str = "l2", rate: float = RATE) -> nn.Module:
    torch.manual_seed(0)
    return bounded(GCNConv(CHANNELS, CHANNELS), rate, norm=norm, graph=EDGES, size=NODES)


def network(norm: str) -> nn.Module:
    """The project's own, both layers."""
    torch.manual_seed(0)
    model = GCN(CHANNELS, CHANNELS, channels=4, dropout=0.0)
    for layer in (model.hidden, model.output):
        bounded(layer, math.sqrt(RATE) - 1e-9, norm=norm, graph=EDGES, size=NODES)
    return model


def state_norm(layer: nn.Module) -> Norm:
    beside = next(m for m in layer.modules() if isinstance(m, GraphBounded))
    return beside.state_norm(CHANNELS)


def blow_up(layer: nn.Module, factor: float = 20.0) -> None:
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(factor)


def assert_certified(layer: nn.Module, folder: Path, most: float = RATE) -> float:
    """As it is exported: the bound holds of the file, and the checker agrees."""
    path = folder / "operator.pt2"
    export(path, OnGraph(layer).eval(), Z, Z, batch_dims=0)
    operator = load(path)
    certificate = certify(operator, Z, Z, theorem="picard", norm=state_norm(layer), batch_dims=0)
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.rate is not None
    assert certificate.rate <= most
    assert_accepted(certificate, operator, Z, Z)
    return certificate.rate


@pytest.mark.parametrize(
    ("make", "norm"), [(convolution, "l2"), (convolution, "linf"), (convolution, "perron"), (network, "perron")]
)
def test_t1_a_thousand_steps_at_a_high_rate_leave_the_exported_layer_certified(
    make: Callable[[str], nn.Module], norm: str, tmp_path: Path
) -> None:
    """Gradients that push the norm up, and now and then a weight that is blown up or nearly 0."""
    layer, generator = make(norm), torch.Generator().manual_seed(1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=3.0, momentum=0.9)
    for step in range(1000):
        layer.train(step % 3 != 0)
        optimizer.zero_grad()
        image = layer(torch.randn(NODES, CHANNELS, generator=generator), EDGES)
        (-(image * (image.detach() + torch.randn(image.shape, generator=generator))).mean()).backward()
        nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
        optimizer.step()
        if step % 97 == 96:
            blow_up(layer, 10.0 ** (step % 7 - 3))
        if step in (0, 96, 500):
            assert_certified(layer, tmp_path)
    blow_up(layer)
    assert assert_certified(layer, tmp_path) > RATE - (1e-3 if make is convolution else 0.1)


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "GCN": lambda: GCNConv(CHANNELS, CHANNELS),
    "SAGE": lambda: SAGEConv(CHANNELS, CHANNELS),
    "SAGE, max": lambda: SAGEConv(CHANNELS, CHANNELS, aggr="max"),
    "SAGE, no root": lambda: SAGEConv(CHANNELS, CHANNELS, root_weight=False),
    "GraphConv": lambda: GraphConv(CHANNELS, CHANNELS),
    "GIN": lambda: GINConv(nn.Linear(CHANNELS, CHANNELS), eps=0.3),
    "GIN, two layers": lambda: GINConv(nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 3))),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_t1_each_layer_has_the_rate_and_reaches_it(name: str, norm: str) -> None:
    torch.manual_seed(0)
    layer = bounded(LAYERS[name](), RATE, norm=norm, graph=EDGES, size=NODES)
    blow_up(layer)
    certificate = certify(OnGraph(layer), Z, Z, theorem="picard", norm=norm, batch_dims=0)
    assert certificate.rate is not None
    assert RATE - 1e-3 < certificate.rate <= RATE


# ------------------------------------------------------------------------------------- the operator's norm, exactly


def entries() -> list[list[Fraction]]:
    dense = MATRIX.to_dense().double().tolist()
    return [[Fraction(a) for a in row] for row in dense]


MATRIX = torch.sparse_coo_tensor(
    torch.tensor([[0, 1, 1, 2, 2, 3], [0, 0, 1, 1, 3, 2]]),
    torch.tensor([1 / 3, 0.7, 1.0, -0.6, 0.9, 0.1]),
    (4, 4),
    check_invariants=True,
)


def is_above_the_norm(bound: float) -> bool:
    """Whether bound^2 - A^T A is positive definite: all leading minors are positive."""
    A = fmpq_mat([[fmpq(a.numerator, a.denominator) for a in row] for row in entries()])
    square = fmpq(*Fraction(bound).as_integer_ratio()) ** 2
    shifted = fmpq_mat([[square if i == j else fmpq(0) for j in range(4)] for i in range(4)]) - A.transpose() * A
    minors = [fmpq_mat([[shifted[i, j] for j in range(k)] for i in range(k)]).det() for k in range(1, 5)]
    return all(minor > 0 for minor in minors)


def test_the_l2_gain_is_above_the_exact_norm_and_close_to_it() -> None:
    gain = GraphBounded(MATRIX, RATE).gain
    assert is_above_the_norm(gain)
    assert not is_above_the_norm(gain * (1 - 1e-6))


@pytest.mark.parametrize("norm", ["linf", "perron"])
def test_the_sup_gains_are_above_the_exact_norms_and_close_to_them(norm: str) -> None:
    bound = GraphBounded(MATRIX, RATE, norm)
    p = [Fraction(1)] * 4 if bound.node_weights is None else [Fraction(w) for w in bound.node_weights.tolist()]
    sums = [p[i] * sum(abs(a) / p[j] for j, a in enumerate(row)) for i, row in enumerate(entries())]
    assert max(sums) <= Fraction(bound.gain) <= max(sums) * Fraction(1000001, 1000000)


def test_the_perron_gain_is_about_the_spectral_radius() -> None:
    radius = float(torch.linalg.eigvals(MATRIX.to_dense().double().abs()).abs().max())
    assert GraphBounded(MATRIX, RATE, "perron").gain == pytest.approx(radius, rel=1e-2)
    assert GraphBounded(MATRIX, RATE, "linf").gain > 1.5


def test_a_place_that_is_held_twice_counts_twice() -> None:
    twice = torch.sparse_coo_tensor(
        torch.tensor([[0, 0], [1, 1]]), torch.tensor([0.5, 0.25]), (2, 2), check_invariants=True
    )
    assert GraphBounded(twice, RATE, "linf").gain == pytest.approx(0.75)
    assert GraphBounded(twice.to_dense(), RATE).gain == pytest.approx(0.75)


def test_a_map_of_one_channel_stands_for_its_matrix() -> None:
    dense = MATRIX.to_dense()
    by_map = GraphBounded(lambda z: dense @ z, RATE, nodes=4)
    assert by_map.gain == pytest.approx(GraphBounded(MATRIX, RATE).gain, rel=1e-6)


def test_a_graph_without_edges_leaves_the_weight_alone() -> None:
    W = torch.full((3, 3), 100.0)
    assert torch.equal(GraphBounded(torch.zeros(4, 4), RATE)(W), W)


# ------------------------------------------------------------------------------------------------- one graph, no other


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda layer: layer(Z, EDGES.flip(0)), "edge_index: not the graph"),
        (lambda layer: layer(Z, EDGES[:, :-1]), "edge_index: not the graph"),
        (lambda layer: layer(Z, edge_index=EDGES.flip(0)), "edge_index: not the graph"),
        (lambda layer: layer(Z, EDGES, torch.ones(7)), "edge_index: not the graph"),
        (lambda layer: layer(torch.zeros(6, CHANNELS), EDGES), "edge_index: not the graph"),
        (lambda layer: layer(Z[:, 0], EDGES), "edge_index: not the graph"),
    ],
)
def test_another_graph_is_refused(call: Callable[[nn.Module], object], message: str) -> None:
    layer = convolution()
    layer(Z, EDGES)
    for one in (layer, copy.deepcopy(layer).eval()):
        with pytest.raises(InputError, match=message):
            call(one)


def test_a_changed_buffer_or_setting_is_refused() -> None:
    layer = bounded(GINConv(nn.Linear(CHANNELS, CHANNELS)), RATE, graph=EDGES, size=NODES)
    layer(Z, EDGES)
    layer.eps.fill_(5.0)
    with pytest.raises(InputError, match="a buffer has changed"):
        layer(Z, EDGES)
    other = convolution()
    other.improved = True
    with pytest.raises(InputError, match="a setting has changed"):
        other(Z, EDGES)


def test_another_graph_is_refused_under_the_compiler() -> None:
    torch._dynamo.reset()
    layer = convolution()
    compiled = torch.compile(layer, backend="eager")
    assert torch.equal(compiled(Z, EDGES), layer(Z, EDGES))
    with pytest.raises(InputError, match="edge_index: not the graph"):
        compiled(Z, EDGES.flip(0))


def test_t1_bounded_again_the_new_graph_and_rate_hold_and_the_optimiser_keeps_its_weight() -> None:
    layer = convolution()
    stored, other = layer.lin.parametrizations.weight.original, EDGES.flip(0)
    bounded(layer, 0.5, norm="linf", graph=other, size=NODES)
    assert layer.lin.parametrizations.weight.original is stored
    assert len(layer.lin.parametrizations.weight) == 1
    blow_up(layer)
    certificate = certify(lambda z: layer(z, other), Z, theorem="picard", norm="linf", batch_dims=0)
    assert certificate.rate == pytest.approx(0.5, rel=1e-3)
    assert certificate.rate <= 0.5
    with pytest.raises(InputError, match="edge_index: not the graph"):
        layer(Z, EDGES)


def test_edge_weights_and_data_are_taken() -> None:
    weights = torch.tensor([1.0, 2.0, 0.5, 1.0, 1.0, 3.0, 1.0])
    data = Data(edge_index=EDGES, edge_weight=weights, num_nodes=NODES)
    for graph, size in (((EDGES, weights), NODES), (data, None)):
        layer = bounded(GraphConv(CHANNELS, CHANNELS), RATE, graph=graph, size=size)
        layer(Z, EDGES, weights)
        with pytest.raises(InputError, match="edge_index: not the graph"):
            layer(Z, EDGES, 2 * weights)


def test_a_matrix_bounds_a_linear_layer_beside_it() -> None:
    torch.manual_seed(0)
    linear = bounded(nn.Linear(CHANNELS, CHANNELS, bias=False), RATE, graph=MATRIX)
    blow_up(linear)
    dense, z = MATRIX.to_dense(), torch.zeros(4, CHANNELS)
    certificate = certify(lambda z: dense @ linear(z), z, theorem="picard", norm="l2", batch_dims=0)
    assert certificate.rate is not None
    assert RATE - 1e-3 < certificate.rate <= RATE


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: GraphBounded(torch.eye(3), 0.0), "rate: "),
        (lambda: GraphBounded(torch.eye(3), norm="l1"), "norm: "),
        (lambda: GraphBounded(torch.zeros(2, 3)), "A: a square matrix"),
        (lambda: GraphBounded(torch.eye(3, dtype=torch.int64)), "A: a square matrix of floats"),
        (lambda: GraphBounded(lambda z: z), "A: a square matrix, or a map with nodes="),
        (lambda: GraphBounded(torch.full((2, 2), math.nan)), "NaN or infinity"),
        (lambda: GraphBounded(torch.full((2, 2), math.inf), norm="linf"), "NaN or infinity"),
        (lambda: GraphBounded(torch.eye(3))(torch.zeros(2, 2, 2)), "W: a matrix is needed"),
        (lambda: bounded(GCNConv(3, 3), graph=EDGES), "size: the number of nodes"),
        (lambda: bounded(GCNConv(3, 3), graph=EDGES.float(), size=5), "graph: an edge_index"),
        (lambda: bounded(GCNConv(3, 3), graph=EDGES, size=5, gain=2.0), "gain: "),
        (lambda: bounded(GCNConv(3, 3), graph=EDGES, size=5, norm="l1"), "norm: "),
        (lambda: bounded(nn.Linear(3, 3), norm="perron"), "norm: .* perron with a graph"),
        (lambda: bounded(GCNConv(3, 3, cached=True), graph=EDGES, size=5), "layer: it keeps the graph"),
        (
            lambda: bounded(GINConv(nn.Linear(3, 3), train_eps=True), graph=EDGES, size=5),
            "layer: .* weights besides nn",
        ),
        (lambda: bounded(nn.ReLU(), graph=torch.eye(3)), "layer: ReLU has no 'weight'"),
    ],
)
def test_bad_arguments_are_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def test_layers_whose_bound_is_not_known_are_refused_by_name() -> None:
    from torch_geometric.nn import ChebConv

    with pytest.raises(InputError, match="ChebConv beside a graph"):
        bounded(ChebConv(3, 3, K=2), graph=EDGES, size=NODES)
    with pytest.raises(UnsupportedOperationError, match="square"):
        bounded(SAGEConv(3, 3, normalize=True), graph=EDGES, size=NODES)
    other = nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3))
    with pytest.raises(InputError, match="another parametrisation"):
        bounded(other, graph=torch.eye(3))
    assert not any(isinstance(m, L2Bounded | GraphBounded) for m in other.modules())
