"""Mini-batches of graphs: each graph is one problem, whatever the others do."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import deqops.testing as kit
from deqops import (
    Adjoint,
    Anderson,
    Broyden,
    ConvergenceError,
    EquilibriumLayer,
    ImplicitAdjoint,
    InputError,
    Phantom,
    Picard,
    Result,
    Solver,
    Tolerance,
    Unrolled,
    solve,
)
from deqops._graph_layout import GraphLayout
from tests.graphs import DOUBLE, Messages, mini_batch, ring, shuffled

every_solver = pytest.mark.parametrize("solver", [Picard(), Picard(0.5), Anderson(), Broyden()], ids=repr)
FINE = Tolerance(relative=1e-9)


@st.composite
def batches(draw: st.DrawFn) -> Tensor:
    """Graphs of 1 to 4 nodes, in any order."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=6))
    nodes = [graph for graph, size in enumerate(sizes) for _ in range(size)]
    return torch.tensor(draw(st.permutations(nodes)))


def tree(nodes: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return {
        "a": torch.randn(nodes, 2, 3, generator=generator, dtype=DOUBLE),
        "b": torch.randn(nodes, generator=generator),
    }


@given(batches())
def test_a_row_holds_the_nodes_of_its_graph_and_zeros(batch: Tensor) -> None:
    state = tree(len(batch))
    layout = GraphLayout.of(state, batch, 1)
    rows = layout.rows(state)
    assert rows.shape == (int(batch.max()) + 1, 7 * int(torch.bincount(batch).max()))
    for graph, row in enumerate(rows):
        mine = batch == graph
        expected = torch.cat([state["a"][mine].flatten(1), state["b"][mine][:, None].double()], dim=1).flatten()
        assert torch.equal(row[: len(expected)], expected)
        assert not row[len(expected) :].any()
    back = layout.state(rows)
    assert all(torch.equal(back[name], state[name]) for name in state)
    assert all(back[name].dtype == state[name].dtype for name in state)


@given(batches(), st.data())
def test_a_narrowed_layout_has_the_rows_that_were_kept(batch: Tensor, data: st.DataObject) -> None:
    state = tree(len(batch))
    layout = GraphLayout.of(state, batch, 1)
    some = st.lists(st.integers(0, layout.problems - 1), min_size=1, unique=True)
    kept = torch.tensor(data.draw(some))
    nodes, numbers = layout.kept_nodes(kept)
    fewer = layout.narrowed(kept)
    part = {name: leaf[nodes] for name, leaf in state.items()}
    assert torch.equal(fewer.rows(part), layout.rows(state)[kept])
    assert torch.equal(fewer.batch, numbers)
    assert torch.equal(kept[numbers], batch[nodes])
    fewer.check_image(part)


def test_sorted_graphs_of_one_size_are_a_view() -> None:
    state = torch.randn(6, 3)
    batch = torch.tensor([0, 0, 1, 1, 2, 2])
    layout = GraphLayout.of(state, batch, 1)
    rows = layout.rows(state)
    assert rows.data_ptr() == state.data_ptr() == layout.state(rows).data_ptr()
    assert rows.shape == (3, 6)
    assert GraphLayout.of(state, batch.flip(0), 1).rows(state).data_ptr() != state.data_ptr()


@every_solver
def test_a_mini_batch_is_its_graphs_one_at_a_time(solver: Solver) -> None:
    G, data = Messages().requires_grad_(False), mini_batch(3, 7, 5, 1)
    together = solve(
        G, torch.zeros_like(data.x), data.x, data.edge_index, batch=data.batch, solver=solver, tolerance=FINE
    )
    assert together.residual.shape == (4,)
    for number, graph in enumerate(data.to_data_list()):
        start = torch.zeros_like(graph.x)
        alone = solve(G, start, graph.x, graph.edge_index, batch_dims=0, solver=solver, tolerance=FINE)
        assert alone.results == [together.results[number]] == [Result.CONVERGED]
        assert abs(int(alone.evaluations) - int(together.evaluations[number])) <= 1
        assert torch.allclose(alone.value, together.value[data.batch == number], atol=1e-8)


@every_solver
def test_the_order_of_the_nodes_does_not_matter(solver: Solver) -> None:
    G, data = Messages().requires_grad_(False), mini_batch(3, 7, 5)
    x, edge_index, batch, order = shuffled(data)
    plain, mixed = (
        solve(G, torch.zeros_like(x), *given, batch=of, solver=solver, tolerance=FINE)
        for *given, of in ((data.x, data.edge_index, data.batch), (x, edge_index, batch))
    )
    assert torch.allclose(mixed.value, plain.value[order], atol=1e-8)
    assert (mixed.evaluations - plain.evaluations).abs().max() <= 1


@every_solver
@pytest.mark.parametrize("sizes", [(4, 4, 4, 4), (3, 7, 5, 6)])
@pytest.mark.parametrize("intruder", [math.nan, math.inf, 1e200, -3.0])
def test_companions_never_change_a_bit(solver: Solver, sizes: tuple[int, ...], intruder: float) -> None:
    G, data = Messages(0.9).requires_grad_(False), mini_batch(*sizes)
    disturbed = data.x.clone()
    disturbed[(data.batch == 0) | (data.batch == 3)] = intruder
    first, second = (
        solve(G, torch.zeros_like(x), x, data.edge_index, batch=data.batch, solver=solver, tolerance=FINE, throw=False)
        for x in (data.x, disturbed)
    )
    assert int(first.evaluations.min()) > 5
    for name in ("residual", "evaluations", "result"):
        assert torch.equal(getattr(first, name)[1:3], getattr(second, name)[1:3]), name
    mine = (data.batch == 1) | (data.batch == 2)
    assert torch.equal(first.value[mine], second.value[mine])


def test_each_graph_ends_in_its_own_way() -> None:
    """In order of the batch vector: at once, late, not finite, too slow."""
    batch = torch.tensor([3, 1, 0, 2, 1, 3, 3])
    factor = torch.tensor([0.0, 0.5, math.nan, 0.999], dtype=DOUBLE)[batch][:, None]
    start = torch.ones(7, 2, dtype=DOUBLE)
    solution = solve(lambda z: factor * z + 1, start, batch=batch, solver=Picard(), max_evaluations=60, throw=False)
    assert solution.results == [Result.CONVERGED, Result.CONVERGED, Result.NONFINITE, Result.MAX_EVALUATIONS]
    assert solution.evaluations.tolist() == [1, solution.evaluations[1], 1, 60]
    assert 10 < int(solution.evaluations[1]) < 30
    assert torch.equal(solution.value[batch == 2], start[batch == 2])
    gap = (factor * start + 1 - start)[batch == 3]
    first = solve(lambda z: factor * z + 1, start, batch=batch, max_evaluations=1, throw=False)
    assert torch.allclose(first.residual[3], torch.linalg.vector_norm(gap))
    with pytest.raises(ConvergenceError):
        solve(lambda z: factor * z + 1, start, batch=batch, solver=Picard())


@every_solver
def test_the_padding_stays_zero_and_no_norm_sees_it(solver: Solver, monkeypatch: pytest.MonkeyPatch) -> None:
    G, data = Messages(0.9).requires_grad_(False), mini_batch(2, 9, 4)
    points: list[Tensor] = []
    plain = GraphLayout.state

    def watched(layout: GraphLayout, rows: Tensor) -> Any:
        points.append(rows)
        return plain(layout, rows)

    monkeypatch.setattr(GraphLayout, "state", watched)
    inputs, start = (data.x, data.edge_index), torch.zeros_like(data.x)
    with torch.no_grad():
        solution = solve(G, start, *inputs, batch=data.batch, solver=solver, tolerance=FINE, trace=True)
    assert solution.trace is not None
    assert len(points) == len(solution.trace) + 1
    for rows, residuals in zip(points, solution.trace, strict=False):
        assert not rows[0, 8:].any()
        assert not rows[2, 16:].any()
        z = torch.cat([rows[0, :8], rows[1], rows[2, :16]]).reshape(15, 4)
        gap = G(z, *inputs) - z
        exact = torch.stack([torch.linalg.vector_norm(gap[data.batch == graph]) for graph in range(3)])
        running = ~residuals.isnan()
        assert torch.allclose(residuals[running], exact[running], rtol=1e-6, atol=0)


def test_a_state_of_several_leaves_and_dtypes() -> None:
    data = mini_batch(3, 6, 4)
    conv = Messages().conv.requires_grad_(False)

    def G(y: dict[str, Tensor], x: Tensor) -> dict[str, Tensor]:
        mixed = torch.tanh(conv(y["a"], data.edge_index)) / 2 + y["b"].double()[:, None] / 8
        return {"a": x + mixed, "b": (y["a"].sum(1) / 16).float()}

    start = {"a": torch.zeros_like(data.x), "b": torch.zeros(13)}
    solution = solve(G, start, data.x, batch=data.batch, tolerance=Tolerance(relative=1e-6))
    assert solution.value["b"].dtype == torch.float32
    image = G(solution.value, data.x)
    for name, leaf in image.items():
        assert torch.allclose(leaf, solution.value[name], atol=1e-5)


@pytest.mark.parametrize("sizes", [(4, 4, 4), (3, 7, 5)])
def test_gradients_are_those_of_the_graphs_alone(sizes: tuple[int, ...]) -> None:
    adjoint = ImplicitAdjoint(tolerance=Tolerance(relative=1e-12))
    layer = EquilibriumLayer(Messages(), tolerance=Tolerance(relative=1e-12), adjoint=adjoint)
    single = EquilibriumLayer(layer.operator, tolerance=layer.tolerance, adjoint=adjoint, batch_dims=0)
    data = mini_batch(*sizes)
    x = data.x.clone().requires_grad_()
    weights = torch.randn(x.shape, dtype=DOUBLE)
    together = torch.autograd.grad(
        (weights * layer(x, data.edge_index, batch=data.batch).square()).sum(), [x, *layer.parameters()]
    )
    parts = []
    for number, graph in enumerate(data.to_data_list()):
        alone = graph.x.clone().requires_grad_()
        loss = (weights[data.batch == number] * single(alone, graph.edge_index).square()).sum()
        parts.append(torch.autograd.grad(loss, [alone, *layer.parameters()]))
    assert torch.allclose(together[0], torch.cat([part[0] for part in parts]), atol=1e-9)
    for total, *each in zip(together[1:], *(part[1:] for part in parts), strict=True):
        assert torch.allclose(total, sum(each[1:], each[0]), atol=1e-9)


def test_gradients_of_any_order_in_any_order_of_nodes() -> None:
    fine = Tolerance(relative=1e-13)
    layer = EquilibriumLayer(Messages(0.4), tolerance=fine, adjoint=ImplicitAdjoint(tolerance=fine))
    x, edge_index, batch, _ = shuffled(mini_batch(2, 1))
    x = x.requires_grad_()

    def solved(x: Tensor) -> Tensor:
        return layer(x, edge_index, batch=batch)

    assert torch.autograd.gradcheck(solved, x, atol=1e-6)
    assert torch.autograd.gradgradcheck(solved, x, atol=1e-5)


def test_derivatives_pass_forwards_through_the_rows() -> None:
    state = torch.randn(5, 2, dtype=DOUBLE)
    layout = GraphLayout.of(state, torch.tensor([1, 0, 1, 1, 0]), 1)
    rows, direction = layout.rows(state), layout.rows(torch.randn(5, 2, dtype=DOUBLE))
    _, tangent = torch.func.jvp(lambda r: layout.rows(layout.state(r).sin()), (rows,), (direction,))
    assert torch.allclose(tangent, rows.cos() * direction)


def test_one_graph_is_batch_dims_0() -> None:
    G, graph = Messages().requires_grad_(False), ring(6, 0)
    start = torch.zeros_like(graph.x)
    one = solve(G, start, graph.x, graph.edge_index, batch=torch.zeros(6, dtype=torch.int64))
    whole = solve(G, start, graph.x, graph.edge_index, batch_dims=0)
    assert torch.equal(one.value, whole.value)
    assert torch.equal(one.residual, whole.residual)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (torch.tensor([0, 0, 1, 1]), "batch: one number for each of the 5 nodes is needed, got shape (4,)"),
        (torch.zeros(5, 1, dtype=torch.int64), "got shape (5, 1)"),
        (torch.zeros(5), "batch: the graph of each node as torch.int64 is needed, got torch.float32; convert it"),
        (torch.zeros(5, dtype=torch.int32), "got torch.int32"),
        ([0, 0, 0, 1, 1], "batch: a tensor with the graph of each node is needed, got list"),
        (torch.tensor([0, 0, -1, 1, 1]), "batch: it holds -1; number the graphs 0, 1, .."),
        (torch.tensor([0, 0, 2, 2, 2]), "batch: graph 1 of 3 has no nodes; number the graphs without gaps"),
        (torch.tensor([1, 1, 2, 2, 2]), "batch: graph 0 of 3 has no nodes"),
        (torch.tensor([0, 0, 0, 0, 2**62]), f"batch: it holds {2**62}, for 5 nodes; number the graphs without gaps"),
        (torch.zeros(5, dtype=torch.int64, device="meta"), "batch: it is on meta and the state on cpu; move one"),
    ],
)
def test_a_batch_vector_that_does_not_fit_is_refused(batch: Any, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        solve(lambda z: z / 2, torch.zeros(5, 2), batch=batch)


def test_batch_and_what_does_not_go_with_it() -> None:
    one = torch.zeros(5, dtype=torch.int64)
    with pytest.raises(InputError, match="batch: it makes each graph a problem, batch_dims=0 does not"):
        solve(lambda z: z / 2, torch.zeros(5, 2), batch=one, batch_dims=0)
    with pytest.raises(InputError, match="batch: it makes each graph a problem, batch_dims=0 does not"):
        EquilibriumLayer(lambda z, x: z / 2, batch_dims=0)(torch.zeros(5, 2), batch=one)
    with pytest.raises(InputError, match="y0: its leaves have batches of different sizes"):
        solve(lambda z: z, (torch.zeros(5, 2), torch.zeros(2)), batch=one)

    class Certificate:
        def error_bound(self, G: Any, y: Any, *inputs: Any) -> Any:
            raise AssertionError("it would be asked for graphs")

    with pytest.raises(InputError, match="batch: a certificate's bounds are not those of single graphs"):
        solve(lambda z: z / 2, torch.zeros(5, 2), batch=one, tolerance=Tolerance(certificate=Certificate()))


@pytest.mark.parametrize("adjoint", [Phantom(steps=60), Unrolled(steps=60)], ids=repr)
def test_other_adjoints_give_the_same_gradients(adjoint: Adjoint) -> None:
    fine = Tolerance(relative=1e-12)
    data = mini_batch(3, 5, 2)
    exact, other = (
        EquilibriumLayer(Messages(), tolerance=fine, adjoint=chosen)
        for chosen in (ImplicitAdjoint(tolerance=fine), adjoint)
    )
    gradients = []
    for layer in (exact, other):
        loss = layer(data.x, data.edge_index, batch=data.batch).square().sum()
        gradients.append(torch.autograd.grad(loss, list(layer.parameters())))
    for right, other_one in zip(*gradients, strict=True):
        assert torch.allclose(other_one, right, atol=1e-6)


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
def test_t1_a_graph_without_edges_is_a_constant_map(norm: str) -> None:
    """Messages over no edges at all: certify failed on a product with a constant of no entries."""
    zeros = torch.zeros(2, 1, dtype=DOUBLE)
    inputs = zeros + 1, torch.zeros(2, 0, dtype=torch.int64), torch.zeros(0, dtype=DOUBLE)
    certificate = kit.assert_contractive(kit.Messages(), zeros, *inputs, rate=0.0, norm=norm, batch_dims=0)
    kit.assert_accepted(certificate, kit.Messages(), zeros, *inputs)
