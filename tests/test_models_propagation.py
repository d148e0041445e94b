"""Products with a graph's normalised adjacency, built once: the same map as message by message, and its derivatives."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from deqops import EquilibriumLayer, InputError, OperatorEquation, Picard, PreparableOperator, solve
from deqops._operators import bound
from deqops.models import PIGN, ImplicitGraphNetwork
from deqops.models._propagation import Propagation, convolved

DOUBLE = torch.float64
EDGES = torch.tensor([[0, 1, 1, 2, 3, 0, 0], [1, 0, 2, 1, 0, 3, 3]])  # one twice


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Tensor, int]:
    """Directed, with self loops, edges that occur twice, and nodes without any."""
    nodes = draw(st.integers(1, 8))
    edges = draw(st.lists(st.tuples(st.integers(0, nodes - 1), st.integers(0, nodes - 1)), max_size=20))
    return torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).T, nodes


def state(nodes: int = 4, columns: int = 3, dtype: torch.dtype = DOUBLE) -> Tensor:
    return torch.randn(nodes, columns, dtype=dtype, generator=torch.Generator().manual_seed(2))


def gcn(columns: int = 3) -> Any:
    from torch_geometric.nn import GCNConv

    with torch.random.fork_rng():
        torch.manual_seed(3)
        convolution = GCNConv(columns, columns).double()
        nn.init.normal_(convolution.bias)
    return convolution


@given(graph=graphs(), columns=st.integers(1, 4), dtype=st.sampled_from([DOUBLE, torch.float32]))
def test_it_is_the_sum_of_the_messages(graph: tuple[Tensor, int], columns: int, dtype: torch.dtype) -> None:
    from torch_geometric.nn.conv.gcn_conv import gcn_norm

    edges, nodes = graph
    z = state(nodes, columns, dtype)
    (source, target), weight = gcn_norm(edges, num_nodes=nodes, dtype=dtype)
    expected = torch.zeros_like(z).index_add(0, target, z[source] * weight[:, None])
    product = Propagation(edges)
    for gradients in (True, False):
        with torch.set_grad_enabled(gradients):
            torch.testing.assert_close(product(z), expected)


def test_derivatives_backward_and_forward_once_and_twice() -> None:
    product, z = Propagation(EDGES), state().requires_grad_()
    assert torch.autograd.gradcheck(product, (z,), check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(lambda z: product(z).sin(), (z,))


def test_another_size_or_dtype_of_the_state_is_another_matrix() -> None:
    product = Propagation(EDGES)
    for nodes, dtype in ((4, DOUBLE), (6, DOUBLE), (6, torch.float32), (4, DOUBLE)):
        z = state(nodes, 2, dtype)
        torch.testing.assert_close(product(z), Propagation(EDGES)(z))
        assert product(z).dtype == dtype


@pytest.mark.parametrize("operator", ["convolution", "propagation"])
@pytest.mark.parametrize("steps", [0, 3])
def test_networks_built_on_it_are_those_of_their_exported_operator(operator: str, steps: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = PIGN(5, 3, operator=operator, channels=4, steps=steps).double().eval()
    x = state(4, 5)
    z = state(4, model.width)
    assert isinstance(model.operator.T, PreparableOperator)
    torch.testing.assert_close(model.image_of(x, EDGES)(z), model.operator(z, x, EDGES))
    weights = list(model.operator.parameters())
    plain, prepared = (
        torch.autograd.grad(image.square().sum(), weights)
        for image in (model.operator(z, x, EDGES), model.image_of(x, EDGES)(z))
    )
    torch.testing.assert_close(prepared, plain)


def test_an_implicit_graph_network_too() -> None:
    model = ImplicitGraphNetwork(5, 3, EDGES, 4, channels=4).double().eval()
    x, z = state(4, 5), state(4, 4)
    expected = model.operator(z, model.encoded(x, EDGES), EDGES)
    image = model.image_of(x, EDGES)
    torch.testing.assert_close(image(z), expected)
    with pytest.raises(InputError, match="edge_index: not the graph"):
        model.image_of(x, EDGES[:, 1:])(z)
    convolution = model.operator.convolution
    calls = []
    convolution.register_propagate_forward_hook(lambda module, inputs, output: calls.append(output))
    torch.testing.assert_close(image(z), expected)
    assert len(calls) == 1


@pytest.mark.parametrize(("option", "value"), [("add_self_loops", False), ("normalize", False)])
def test_a_layer_with_other_options_is_called_as_it_is(option: str, value: bool) -> None:
    convolution = gcn()
    setattr(convolution, option, value)
    image = convolved(convolution, EDGES)(state())
    assert torch.equal(image, convolution(state(), EDGES))
    assert not torch.allclose(image, convolved(gcn(), EDGES)(state()))


def test_under_autocast_and_inside_transforms_the_messages_are_added_up_as_written() -> None:
    convolution, z = gcn().float(), state(dtype=torch.float32)
    image = convolved(convolution, EDGES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not Propagation(EDGES).applies(z)
        assert torch.equal(image(z), convolution(z, EDGES))
    jacobian = torch.func.jacrev(image)(z)
    torch.testing.assert_close(jacobian, torch.func.jacrev(lambda z: convolution(z, EDGES))(z))
    many = torch.stack([z, 2 * z])
    torch.testing.assert_close(torch.func.vmap(image)(many), torch.stack([image(z), image(2 * z)]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_dtypes_without_such_a_product(dtype: torch.dtype) -> None:
    assert not Propagation(EDGES).applies(state(dtype=dtype))


def test_what_watches_the_messages_sees_them() -> None:
    convolution, seen = gcn(), []
    image = convolved(convolution, EDGES)
    hook = convolution.register_message_forward_hook(lambda module, inputs, output: seen.append(output))
    image(state())
    assert len(seen) == 1
    hook.remove()
    image(state())
    assert len(seen) == 1
    handle = convolution.register_forward_hook(lambda module, inputs, output: 2 * output)
    torch.testing.assert_close(image(state()), 2 * convolved(gcn(), EDGES)(state()))
    handle.remove()


def test_an_explainers_mask_counts() -> None:
    convolution = gcn()
    image, plain = convolved(convolution.requires_grad_(False), EDGES), convolved(gcn().requires_grad_(False), EDGES)
    convolution.explain = True
    convolution._edge_mask = torch.full((EDGES.shape[1],), -30.0, dtype=DOUBLE)
    convolution._loop_mask = EDGES[0] != EDGES[1]
    assert float((image(state()) - plain(state())).abs().max()) > 0.1
    torch.testing.assert_close(image(state()), convolution(state(), EDGES))


@pytest.mark.parametrize("bad", [4, -1])
def test_edges_that_point_nowhere_are_named(bad: int) -> None:
    with torch.random.fork_rng():
        model = PIGN(3, 2, operator="propagation", channels=4).eval()
    with pytest.raises(InputError, match="G: it fails on y0 and the inputs"):
        model(torch.ones(4, 3), torch.tensor([[0, bad], [1, 2]]))


# ------------------------------------------------------------------------------------------- operators of one's own


class Slow(nn.Module):
    """`G(z, x) = tanh(W z + expensive(x))`."""

    def __init__(self) -> None:
        super().__init__()
        self.W = nn.Parameter(0.5 * torch.eye(3, dtype=DOUBLE))
        self.expensive = self.images = 0

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return cast(Tensor, self.at_inputs(x)(z))

    def at_inputs(self, x: Tensor) -> Any:
        self.expensive += 1
        encoded = x.sin()

        def image(z: Tensor) -> Tensor:
            self.images += 1
            return torch.tanh(z @ self.W + encoded)

        return image


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_solve_prepares_an_operator_once(wrapped: bool) -> None:
    G, x = Slow(), state().requires_grad_()
    layer = EquilibriumLayer(OperatorEquation(G) if wrapped else G)
    z = layer(x)
    assert (G.expensive, G.images > 5) == (1, True)
    gradient = torch.autograd.grad(z.sum(), x)[0]
    reference = EquilibriumLayer(lambda z, x: torch.tanh(z @ G.W + x.sin()))
    torch.testing.assert_close(gradient, torch.autograd.grad(reference(x).sum(), x)[0])


def test_it_is_prepared_anew_for_the_problems_that_are_left() -> None:
    """Inputs of each problem: the preparation of all would not fit some of them."""
    G, x = Slow(), state(8)
    rate = torch.linspace(0.1, 1.9, 8, dtype=DOUBLE)[:, None]
    found = solve(G, torch.zeros_like(x), rate * x, solver=Picard(), batched=("problem",))
    torch.testing.assert_close(found.value, solve(G, torch.zeros_like(x), rate * x, solver=Picard()).value)
    assert found.converged
    assert G.expensive > 2


def test_a_hook_of_the_operator_sees_every_call() -> None:
    G, x, seen = Slow().requires_grad_(False), state(), []
    G.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        solution = solve(G, torch.zeros_like(x), x)
    assert len(seen) == int(solution.evaluations.max()) > 1
    assert not isinstance(bound(lambda z: z), PreparableOperator)
