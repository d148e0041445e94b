"""Declared inputs: those of some problems only give these problems' rows, and a false declaration is an error."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.nn import global_add_pool

import deqops.testing as kit
from deqops import EquilibriumLayer, InputError, solve
from deqops._batched import Roles, checked_roles, narrowed
from deqops._graph_layout import GraphLayout, layout_of
from deqops._tree import StateLayout
from tests.graphs import DOUBLE, Messages, batch_of, mini_batch, shuffled

ROLES: Roles = ("node", "edge_index", "edge", "problem", "batch", None)
Inputs = tuple[Any, ...]


def graph_inputs(data: Any) -> Inputs:
    return data.x, data.edge_index, data.weight, data.level, data.batch, torch.tensor(0.25, dtype=DOUBLE)


def mixing(y: Tensor, x: Tensor, edges: Tensor, weight: Tensor, level: Tensor, batch: Tensor, part: Tensor) -> Tensor:
    """Messages along the edges, and what a whole graph has in sum."""
    whole = torch.tanh(global_add_pool(y, batch) + level)
    result: Tensor = Messages().requires_grad_(False)(y, x, edges, weight) + part * whole[batch]
    return result


@given(st.lists(kit.graphs(), min_size=1, max_size=5), st.data())
def test_an_operator_on_narrowed_inputs_has_the_rows_of_the_whole(drawn: list[kit.Graph], data: st.DataObject) -> None:
    graphs = batch_of(drawn)
    kept = torch.tensor(data.draw(st.lists(st.integers(0, len(drawn) - 1), min_size=1, unique=True)))
    y, inputs = torch.randn(graphs.num_nodes, 4, dtype=DOUBLE), graph_inputs(graphs)
    layout = layout_of(y, graphs.batch, 1)
    assert isinstance(layout, GraphLayout)
    assert checked_roles(ROLES, inputs, layout) is ROLES
    fewer, part = layout.narrowed(kept), narrowed(inputs, ROLES, kept, layout)
    assert checked_roles(ROLES, part, fewer) is ROLES
    rows = layout.rows(mixing(y, *inputs))
    few = fewer.rows(mixing(fewer.state(layout.rows(y)[kept]), *part))
    assert torch.allclose(few, rows[kept], rtol=1e-13, atol=1e-13)


def test_narrowing_is_what_pyg_batches_of_these_graphs_alone() -> None:
    data = mini_batch(3, 5, 2, 6)
    layout = GraphLayout.of(data.x, data.batch, 1)
    part = narrowed(graph_inputs(data), ROLES, torch.tensor([1, 3]), layout)
    alone = type(data).from_data_list([data.get_example(1), data.get_example(3)])
    for mine, expected in zip(part, graph_inputs(alone), strict=True):
        assert torch.equal(mine, expected)


def test_nodes_in_any_order_and_steps_one_after_another() -> None:
    x, edge_index, batch, _ = shuffled(mini_batch(3, 5, 2, 6))
    roles: Roles = ("node", "edge_index")
    layout = GraphLayout.of(x, batch, 1)
    checked_roles(roles, (x, edge_index), layout)
    first, second = torch.tensor([3, 0, 1]), torch.tensor([2, 0])
    once = layout.narrowed(first)
    twice = narrowed(narrowed((x, edge_index), roles, first, layout), roles, second, once)
    direct = narrowed((x, edge_index), roles, first[second], layout)
    assert all(torch.equal(a, b) for a, b in zip(twice, direct, strict=True))
    assert torch.equal(once.narrowed(second).batch, layout.narrowed(first[second]).batch)


def test_a_batch_of_tensors_and_a_tree_of_inputs() -> None:
    y = {"a": torch.randn(4, 3), "b": torch.randn(4, 2, 2)}
    layout = StateLayout.of(y, 1)
    x, shared, kept = {"u": torch.randn(4, 3), "v": [torch.randn(4)]}, torch.randn(3), torch.tensor([2, 0])
    roles = checked_roles(("problem", None), (x, shared), layout)
    assert roles is not None
    part, same = narrowed((x, shared), roles, kept, layout)
    assert same is shared
    assert torch.equal(part["u"], x["u"][kept])
    assert torch.equal(part["v"][0], x["v"][0][kept])
    fewer = layout.narrowed(kept)
    assert torch.equal(fewer.rows({name: leaf[kept] for name, leaf in y.items()}), layout.rows(y)[kept])
    assert fewer.problems == 2


def test_one_problem_of_everything_keeps_all() -> None:
    layout = StateLayout.of(torch.randn(4, 3), 0)
    assert layout.narrowed(torch.tensor([0])) is layout


def test_gradients_pass_through_what_is_kept() -> None:
    data = mini_batch(3, 5)
    x = data.x.clone().requires_grad_()
    layout = GraphLayout.of(x, data.batch, 1)
    (part,) = narrowed((x,), ("node",), torch.tensor([1]), layout)
    (gradient,) = torch.autograd.grad(part.sum(), x)
    assert torch.equal(gradient, (data.batch == 1).double()[:, None].expand(-1, 4))


def test_graphs_without_edges() -> None:
    x, none = torch.randn(3, 4), torch.zeros(2, 0, dtype=torch.int64)
    layout = GraphLayout.of(x, torch.tensor([0, 1, 2]), 1)
    roles = checked_roles(("node", "edge_index", "edge"), (x, none, torch.zeros(0, 2)), layout)
    assert roles is not None
    part = narrowed((x, none, torch.zeros(0, 2)), roles, torch.tensor([1]), layout)
    assert [tuple(given.shape) for given in part] == [(1, 4), (2, 0), (0, 2)]


def test_declared_inputs_are_checked_where_they_are_given() -> None:
    """A declaration changes no result."""
    data = mini_batch(3, 5, 2)
    inputs, start = graph_inputs(data), torch.zeros_like(data.x)
    inputs = (*inputs[:-1], torch.tensor(0.02, dtype=DOUBLE))
    plain = solve(mixing, start, *inputs, batch=data.batch)
    told = solve(mixing, start, *inputs, batch=data.batch, batched=ROLES)
    assert torch.equal(plain.value, told.value)
    layer = EquilibriumLayer(mixing, batched=ROLES)
    assert torch.equal(layer(*inputs, batch=data.batch), plain.value)
    with pytest.raises(InputError, match="batched: a role for each of the 5 inputs is needed, got 6"):
        layer(*inputs[:-1], batch=data.batch)


WHOLE = mini_batch(2, 3)
EDGES = WHOLE.edge_index
CROSSING = torch.tensor([[0, 1], [1, 4]])


@pytest.mark.parametrize(
    ("batched", "inputs", "message"),
    [
        (
            ("nodes",),
            (WHOLE.x,),
            "batched: input 0 has role 'nodes'; use one of problem, node, edge, edge_index, batch",
        ),
        (["node"], (WHOLE.x,), "batched: a tuple with one role per input is needed, got list"),
        ("node", (WHOLE.x,), "got str"),
        (([],), (WHOLE.x,), "batched: input 0 has role []"),
        ((), (WHOLE.x,), "batched: a role for each of the 1 inputs is needed, got 0"),
        (("edge_index", "edge_index"), (EDGES, EDGES), "batched: two inputs have role 'edge_index'"),
        (("edge",), (WHOLE.weight,), "batched: role 'edge' needs an input of role 'edge_index'"),
        (("node",), (torch.zeros(4, 2),), "batched: input 0 has role 'node', 5 of them, and shape (4, 2)"),
        (("problem",), (torch.zeros(5, 2),), "batched: input 0 has role 'problem', 2 of them, and shape (5, 2)"),
        (("problem",), (torch.tensor(1.0),), "2 of them, and shape ()"),
        (("problem",), (2.0,), "batched: input 0 has role 'problem' and holds a float; use None"),
        (
            ("edge_index", "edge"),
            (EDGES, torch.zeros(3)),
            "batched: input 1 has role 'edge', 12 of them, and shape (3,)",
        ),
        (("edge_index",), (EDGES.int(),), "a torch.int64 tensor of shape (2, edges), got torch.int32 of shape (2, 12)"),
        (("edge_index",), (EDGES.T,), "got torch.int64 of shape (12, 2)"),
        (("edge_index",), (None,), "got NoneType"),
        (("edge_index",), (EDGES.to("meta"),), "batched: 'edge_index' is on meta and batch= on cpu; move one"),
        (("node",), (None,), "batched: input 0 has role 'node' and holds a NoneType; use None"),
        (("edge_index",), (EDGES - 1,), "batched: 'edge_index' has ends from -1 to 3; number the 5 nodes from 0"),
        (("edge_index",), (EDGES + 1,), "has ends from 1 to 5"),
        (("edge_index",), (CROSSING,), "batched: edge 1 joins graphs 0 and 1; make them one graph, or drop the edge"),
        (("batch",), (WHOLE.batch.flip(0),), "batched: input 0 has role 'batch' and differs from batch="),
        (("batch",), (WHOLE.batch.int(),), "differs from batch="),
    ],
)
def test_a_declaration_that_is_not_true_is_refused(batched: Any, inputs: Inputs, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        solve(lambda y, *x: y / 2, torch.zeros(5, 4), *inputs, batch=WHOLE.batch, batched=batched)
    assert "\n" not in str(caught.value)


def test_roles_of_graphs_need_graphs() -> None:
    with pytest.raises(InputError, match="batched: input 0 has role 'node', there are no graphs; pass batch="):
        solve(lambda y, x: y / 2, torch.zeros(5, 4), WHOLE.x, batched=("node",))
    with pytest.raises(InputError, match="batched: input 0 has role 'problem', batch_dims=0 is one problem; use None"):
        solve(lambda y, x: y / 2, torch.zeros(5, 4), WHOLE.x, batch_dims=0, batched=("problem",))
    with pytest.raises(InputError, match="batched: input 0 has role 'nodes'"):
        EquilibriumLayer(lambda y, x: y, batched=("nodes",))  # type: ignore[arg-type]
