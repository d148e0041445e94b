"""Numbers that a module reads from its own constants: exported as what they are, or the export is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from exact import seeded
from torch import Tensor, nn
from torch_geometric.nn import HypergraphConv, global_max_pool, global_mean_pool
from torch_geometric.utils import to_dense_batch
from vocabulary import evaluate

from deqops import UnsupportedOperationError
from deqops.graph import trace
from deqops.graph._folding import _EXACT, _OF_INTEGERS

EDGES = torch.tensor([[0, 1, 2, 3, 0], [0, 0, 1, 1, 2]])
GRAPHS = torch.tensor([0, 0, 1, 1])


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=seeded(0), dtype=torch.float64)


class Written(nn.Module):
    """A module with a constant that is no buffer, and a function of both and the state."""

    def __init__(self, constant: Tensor, function: Any) -> None:
        super().__init__()
        self.constant, self.function = constant.clone(), function

    def forward(self, z: Tensor) -> Tensor:
        result: Tensor = self.function(self.constant, z)
        return result


def pooled(graphs: Tensor, z: Tensor) -> Tensor:
    return (global_max_pool(z, graphs) + global_mean_pool(z, graphs))[graphs]


def dense(graphs: Tensor, z: Tensor) -> Tensor:
    """Counts of the nodes of each graph, their sums, and a mask, written into integers that are made for it."""
    table, mask = to_dense_batch(z, graphs)
    mixed = torch.tanh(table) + table.mean(dim=1, keepdim=True)
    return mixed[mask]


LAYER = HypergraphConv(3, 3).double().requires_grad_(False)


@pytest.mark.parametrize(
    ("constant", "function"),
    [
        (EDGES, lambda edges, z: torch.tanh(LAYER(z, edges))),
        (GRAPHS, pooled),
        (GRAPHS, dense),
        (torch.tensor([0, 1, 1, 2]), dense),
        (GRAPHS, lambda graphs, z: z * int(graphs.max()) + z.sum() / len(graphs.unique())),
        (GRAPHS, lambda graphs, z: z if bool((graphs[1:] >= graphs[:-1]).all()) else -z),
        (torch.tensor(3), lambda count, z: z.repeat(count.item(), 1)[:4]),
    ],
)
def test_numbers_of_constants_are_known(constant: Tensor, function: Any) -> None:
    module, z = Written(constant, function), normal(4, 3)
    graph = trace(module, z, batch_dims=0).concrete(z)
    torch.testing.assert_close(evaluate(graph)[0], module(z))


def test_a_causal_mask_that_the_module_makes_is_recognised() -> None:
    block = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 4, batch_first=True), 1).double().eval()
    z = normal(2, 3, 4)

    def operator(z: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(3, dtype=torch.float64)
        result: Tensor = block(z, mask=mask)
        return result

    with torch.no_grad():
        torch.testing.assert_close(evaluate(trace(operator, z).concrete(z))[0], operator(z))


@pytest.mark.parametrize(
    "reading",
    [
        lambda z, x: z * int(x.max()),
        lambda z, x: z if bool(x.sum() > 0) else -z,
        lambda z, x: z * int(z.max()),
        lambda z, x: z * float((z + x).sum()),
        lambda z, x: torch.func.vmap(lambda row: row * int(row.max()))(z),
    ],
)
def test_numbers_of_arguments_stay_refused(reading: Any) -> None:
    z, x = normal(4, 3), torch.arange(12).reshape(4, 3)
    with pytest.raises((UnsupportedOperationError, Exception), match=r"export|vmap"):
        trace(reading, z, x, batch_dims=0)


def changed_before(constant: Tensor, z: Tensor) -> Tensor:
    constant += 1
    return z * int(constant.max())


def changed_through_a_view(constant: Tensor, z: Tensor) -> Tensor:
    constant.T.add_(1)
    return z * int(constant.max())


def changed_after(constant: Tensor, z: Tensor) -> Tensor:
    factor = int(constant.max())
    constant[0] = 7
    return z * factor


def changed_in_part(constant: Tensor, z: Tensor) -> Tensor:
    factor = int(constant.max())
    constant.swapaxes(0, 1).mul_(2)
    return z * factor


def changed_after_the_graph_has_it(constant: Tensor, z: Tensor) -> Tensor:
    counts = constant.new_zeros(3)
    early = z + counts
    counts[:1] = 5
    return early * int(counts.max())


def changed_through_what_it_is_seen_by(constant: Tensor, z: Tensor) -> Tensor:
    counts = constant.new_zeros(3)
    early = z + counts.view(1, 3)
    counts.scatter_add_(0, constant[0, :3], torch.ones_like(constant[0, :3]))
    return early * int(counts.max())


def floats_are_changed(constant: Tensor, z: Tensor) -> Tensor:
    factor = torch.full((3,), int(constant.max()), dtype=torch.float64)
    factor[0] = 0.1
    return z * factor


def never_written(constant: Tensor, z: Tensor) -> Tensor:
    return z * (int(constant.new_empty(3).max()) % 2)


def written_in_part(constant: Tensor, z: Tensor) -> Tensor:
    made = constant.new_empty(3)
    made[1:] = 1
    return z * (int(made.max()) % 2)


def copied_before_it_is_written(constant: Tensor, z: Tensor) -> Tensor:
    made = constant.new_empty(3)
    early = made.clone()
    made.zero_()
    return z * (int(early.max()) % 2 + int(made.max()))


def added_to_what_holds_nothing(constant: Tensor, z: Tensor) -> Tensor:
    made = constant.new_empty(3)
    made.scatter_add_(0, torch.tensor([0, 1, 2]), constant[0, :3])
    return z * (int(made.max()) % 2)


def in_the_graph_before_it_is_written(constant: Tensor, z: Tensor) -> Tensor:
    made = constant.new_empty(3)
    return (z + made % 2) * int(constant.max())


@pytest.mark.parametrize(
    "function",
    [
        *[changed_after_the_graph_has_it, changed_through_what_it_is_seen_by],
        *[never_written, written_in_part, copied_before_it_is_written, added_to_what_holds_nothing],
        in_the_graph_before_it_is_written,
    ],
)
def test_what_is_made_and_changed_or_never_written_is_refused(function: Any) -> None:
    """A graph would hold such a tensor as it was at the end, or whatever stood in its memory."""
    with pytest.raises(UnsupportedOperationError):
        trace(Written(EDGES, function), normal(4, 3), batch_dims=0)


def written_piece_by_piece(constant: Tensor, z: Tensor) -> Tensor:
    made = constant.new_empty(4)
    made[:1] = 0
    torch.cumsum(constant[0, :3], 0, out=made.narrow(0, 1, 3))
    made.scatter_add_(0, constant[1, :2], torch.ones_like(constant[1, :2]))
    return z * int(made.max())


@pytest.mark.parametrize("function", [written_piece_by_piece, floats_are_changed])
def test_what_is_written_piece_by_piece_is_known(function: Any) -> None:
    module, z = Written(EDGES, function), normal(4, 3)
    graph = trace(module, z, batch_dims=0).concrete(z)
    torch.testing.assert_close(evaluate(graph)[0], module(z))


@pytest.mark.parametrize("function", [changed_before, changed_through_a_view, changed_after, changed_in_part])
def test_a_constant_that_is_written_to_is_refused(function: Any) -> None:
    module, z = Written(EDGES, function), normal(4, 3)
    with pytest.raises(UnsupportedOperationError):
        trace(module, z, batch_dims=0)


def test_only_exact_functions_are_listed() -> None:
    """No arithmetic of floating-point constants: its rounding would become part of the function."""
    assert not _EXACT & _OF_INTEGERS
    assert not _EXACT & {"add", "mul", "div", "mean", "sum", "exp", "sqrt", "__add__", "__mul__", "__truediv__"}
    constant = torch.tensor([0.1, 0.7], dtype=torch.float64)
    module = Written(constant, lambda c, z: z * (c[0] * c[1]) if bool(c[0] < c[1]) else z)
    z = normal(4, 3)
    operations = {node.op for node in trace(module, z, batch_dims=0).concrete(z).nodes}
    assert operations == {"mul", "select"} or operations == {"mul"}
