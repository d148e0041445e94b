"""Problems of a batch kept apart: what `check_independent` says, against what a changed problem changes.

Integers below 2^53 make every product and sum exact, so that one changed entry elsewhere cannot show as rounding.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from exact import seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from vocabulary import evaluate

from deqops.graph import ConcreteGraph, Leaf, MixesProblemsError, Node, check_independent, trace


def integers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(-3, 4, shape, generator=seeded(seed)).double()


class Walk:
    """A graph of one state leaf built step by step; each step is drawn from those that fit the shape."""

    def __init__(self, state: Tensor) -> None:
        self.leaves = {0: Leaf("state", 0, "state_0", state)}
        self.values: list[Tensor] = [state]
        self.nodes: list[Node] = []
        self.last = 0

    def constant(self, tensor: Tensor) -> int:
        self.values.append(tensor)
        number = len(self.values) - 1
        self.leaves[number] = Leaf("parameter", -1, f"constant_{number}", tensor)
        return number

    def op(self, name: str, *operands: int, **attributes: object) -> int:
        number = len(self.values)
        result = evaluate_one(name, [self.values[v] for v in operands], attributes)
        self.nodes.append(
            Node(name, operands, attributes, number, tuple(result.shape), result.dtype, f"aten.{name}.default")  # type: ignore[arg-type]
        )
        self.values.append(result)
        self.last = number
        return number

    def graph(self) -> ConcreteGraph:
        return ConcreteGraph(self.leaves, tuple(self.nodes), (self.last,), 1, "", ())


def evaluate_one(name: str, operands: list[Tensor], attributes: dict[str, object]) -> Tensor:
    from vocabulary import EVALUATIONS

    return EVALUATIONS[name](*operands, **attributes)


def factorisations(total: int) -> st.SearchStrategy[tuple[int, ...]]:
    """Shapes of so many entries, in up to five dimensions."""
    found: list[tuple[int, ...]] = []

    def extend(left: int, shape: tuple[int, ...]) -> None:
        if left == 1:
            found.append(shape or (1,))
        if len(shape) < 4:
            for size in range(2, left + 1):
                if left % size == 0:
                    extend(left // size, (*shape, size))

    extend(total, ())
    found += [(*shape[:k], 1, *shape[k:]) for shape in list(found) for k in range(len(shape) + 1)]
    return st.sampled_from(found)


def step(walk: Walk, data: st.DataObject) -> None:
    """One operation on the last value; movements most of all."""
    x = walk.values[walk.last]
    others = [v for v in range(walk.last) if walk.values[v].shape == x.shape and (v == 0 or v not in walk.leaves)]
    kinds = ["reshape", "reshape", "permute", "permute", "sum", "index_select", "cat", "matmul", "add", "product"]
    kind = data.draw(st.sampled_from([*kinds, "slice", *(["join"] * 6 if others else [])]))
    dim = data.draw(st.integers(0, x.ndim - 1))
    if kind == "reshape":
        walk.op("reshape", walk.last, shape=data.draw(factorisations(x.numel())))
    elif kind == "join":
        walk.op("add", walk.last, data.draw(st.sampled_from(others)))
    elif kind == "permute":
        walk.op("permute", walk.last, dims=tuple(data.draw(st.permutations(range(x.ndim)))))
    elif kind == "sum":
        walk.op("sum", walk.last, dims=(dim,), keepdim=True)
    elif kind == "index_select":
        index = torch.tensor(data.draw(st.lists(st.integers(0, x.shape[dim] - 1), min_size=1, max_size=6)))
        walk.op("index_select", walk.last, walk.constant(index), dim=dim)
    elif kind == "cat":
        walk.op("cat", walk.last, walk.last, dim=dim)
    elif kind == "matmul":
        walk.op("matmul", walk.last, walk.constant(integers(x.shape[-1], data.draw(st.integers(1, 3)))))
    elif kind == "product":
        if x.ndim >= 2:
            turned = walk.op("permute", walk.last, dims=(*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))
            walk.op("matmul", turned, walk.nodes[-1].operands[0])
    elif kind == "add":
        first = walk.last
        other = walk.op("slice", first, dim=dim, start=0, stop=1, step=1)
        walk.op("add", first, other)
    else:
        walk.op("slice", walk.last, dim=dim, start=0, stop=max(1, x.shape[dim] - 1), step=1)


def viewed(walk: Walk, data: st.DataObject) -> list[tuple[str, dict[str, object]]]:
    """Some views of the last value; returns what undoes them, in order."""
    back: list[tuple[str, dict[str, object]]] = []
    for _ in range(data.draw(st.integers(1, 3))):
        x = walk.values[walk.last]
        if data.draw(st.booleans()):
            dims = tuple(data.draw(st.permutations(range(x.ndim))))
            walk.op("permute", walk.last, dims=dims)
            back.append(("permute", {"dims": tuple(dims.index(k) for k in range(x.ndim))}))
        else:
            walk.op("reshape", walk.last, shape=data.draw(factorisations(x.numel())))
            back.append(("reshape", {"shape": tuple(x.shape)}))
    return back[::-1]


def dependence(graph: ConcreteGraph, problems: int) -> Tensor:
    """(problem, entry): whether changes of a problem's state change an entry of the result, as far as is seen."""
    state = graph.leaves[0].tensor
    before = evaluate(graph)[0]
    rows = []
    for problem in range(problems):
        seen = torch.zeros(before.numel(), dtype=torch.bool)
        for seed in (7, 8):
            changed = state.clone()
            changed[problem] += integers(*state.shape[1:], seed=seed) + 5
            seen |= (evaluate(graph, [changed])[0] != before).reshape(-1)
        rows.append(seen)
    return torch.stack(rows)


@given(st.data(), st.integers(2, 3), st.sampled_from([(4,), (2, 2), (3, 2), (2, 3), (1, 4)]))
@settings(max_examples=400)
def test_what_is_said_to_be_apart_is_apart(data: st.DataObject, problems: int, rest: tuple[int, ...]) -> None:
    """Random views, products and selections: wherever the batch is said to be, no other problem is seen."""
    walk = Walk(integers(problems, *rest, seed=1))
    for _ in range(data.draw(st.integers(1, 8))):
        if walk.values[walk.last].numel() <= 200 and walk.values[walk.last].abs().max() < 2**20:
            step(walk, data)
    graph = walk.graph()
    try:
        check_independent(graph)
    except MixesProblemsError:
        return
    result = walk.values[walk.last]
    assert result.shape[0] == problems
    owner = torch.arange(problems).repeat_interleave(result.numel() // problems)
    seen = dependence(graph, problems)
    assert not bool(seen[torch.arange(problems)[:, None] != owner[None]].any())


@given(st.data(), st.integers(2, 3), st.sampled_from([(4,), (2, 2), (3, 2), (2, 3)]))
@settings(max_examples=600)
def test_two_views_that_are_added_are_apart_or_refused(
    data: st.DataObject, problems: int, rest: tuple[int, ...]
) -> None:
    """Where the batch lies among the entries of two views must agree, not only in which dimension."""
    walk = Walk(integers(problems, *rest, seed=1))
    back = viewed(walk, data)
    first, shape = walk.last, tuple(walk.values[walk.last].shape)
    walk.last = 0
    viewed(walk, data)
    walk.op("add", first, walk.op("reshape", walk.last, shape=shape))
    for name, attributes in back:
        walk.op(name, walk.last, **attributes)
    graph = walk.graph()
    try:
        check_independent(graph)
    except MixesProblemsError:
        return
    owner = torch.arange(problems).repeat_interleave(walk.values[0].numel() // problems)
    assert not bool(dependence(graph, problems)[torch.arange(problems)[:, None] != owner[None]].any())


@given(st.data(), st.integers(2, 3), st.sampled_from([(4,), (2, 2), (3, 2), (2, 3, 2)]))
@settings(max_examples=150)
def test_any_view_and_its_inverse_are_seen_through(data: st.DataObject, problems: int, rest: tuple[int, ...]) -> None:
    """Permute, merge and split in any way that keeps the batch a factor, and go back: accepted."""
    walk = Walk(integers(problems, *rest))
    dims = tuple(data.draw(st.permutations(range(1 + len(rest)))))
    moved = walk.values[walk.op("permute", 0, dims=dims)]
    cut = data.draw(st.integers(0, moved.ndim - 1)), data.draw(st.integers(1, moved.ndim))
    first, last = min(cut[0], cut[1] - 1), max(cut[0] + 1, cut[1])
    merged = (*moved.shape[:first], int(torch.tensor(moved.shape[first:last]).prod()), *moved.shape[last:])
    walk.op("reshape", walk.last, shape=merged)
    walk.op("tanh", walk.last)
    walk.op("reshape", walk.last, shape=tuple(moved.shape))
    walk.op("permute", walk.last, dims=tuple(dims.index(k) for k in range(len(dims))))
    check_independent(walk.graph())


Operator = Callable[[Tensor], Tensor]
LINEAR = nn.Linear(4, 4).double()


@pytest.mark.parametrize(
    "apart",
    [
        lambda z: z.transpose(0, 1).reshape(3, 4, 2).transpose(0, 1).reshape(2, 2, 3, 2).flatten(2).reshape(2, 3, 4),
        lambda z: LINEAR(z.transpose(0, 1).reshape(6, 4)).reshape(3, 2, 4).transpose(0, 1),
        lambda z: LINEAR(z.reshape(6, 4)).reshape(2, 3, 4),
        lambda z: z.reshape(-1).reshape(2, 12).softmax(1).reshape(2, 3, 4),
        lambda z: z.permute(2, 1, 0).reshape(12, 2).cumsum(0).reshape(4, 3, 2).permute(2, 1, 0),
        lambda z: nn.functional.max_pool1d(z.reshape(6, 1, 4), 3, 1, 1).reshape(2, 3, 4),
    ],
)
def test_merged_batches_that_are_kept_apart(apart: Operator) -> None:
    z = integers(2, 3, 4)
    check_independent(trace(apart, z).concrete(z))


@pytest.mark.parametrize(
    "mixing",
    [
        lambda z: z.transpose(0, 1).reshape(2, 3, 4),
        lambda z: z.reshape(6, 4).softmax(0).reshape(2, 3, 4),
        lambda z: z.transpose(0, 1).reshape(6, 4).cumsum(0).reshape(3, 2, 4).transpose(0, 1),
        lambda z: z.transpose(0, 1).reshape(6, 4).reshape(2, 3, 4),
        lambda z: z.reshape(6, 4).flip(0).reshape(2, 3, 4),
        lambda z: (z.reshape(6, 4) @ z.reshape(6, 4).T @ z.reshape(6, 4)).reshape(2, 3, 4),
        lambda z: (z.reshape(2, 12).reshape(4, 6) + z.transpose(0, 1).reshape(4, 6)).reshape(2, 3, 4),
        lambda z: z.reshape(6, 4).reshape(2, 3, 4) + z.transpose(0, 1).reshape(6, 4).reshape(3, 2, 4).reshape(2, 3, 4),
        lambda z: z.transpose(1, 2).reshape(8, 3).reshape(4, 2, 3).transpose(0, 1).transpose(1, 2) + z,
        lambda z: z.reshape(1, 24).expand(2, 24).reshape(2, 2, 3, 4).sum(1),
    ],
)
def test_merged_batches_that_mix(mixing: Operator) -> None:
    z = integers(2, 3, 4)
    with pytest.raises(MixesProblemsError):
        check_independent(trace(mixing, z).concrete(z))


def test_a_product_over_the_batch_mixes_though_all_sizes_fit() -> None:
    """Of a square matrix the turned product has the batch's size where the batch should be."""
    z, weight = integers(3, 3), torch.arange(9, dtype=torch.float64).reshape(3, 3)
    with pytest.raises(MixesProblemsError, match="matmul"):
        check_independent(trace(lambda z: (weight @ z).T, z).concrete(z))


def test_an_index_that_depends_on_the_state_is_refused() -> None:
    walk = Walk(integers(2, 2))
    walk.values[0] = walk.values[0].abs().long() % 2
    index = walk.op("select", 0, dim=1, index=0)
    walk.op("index_select", 0, index, dim=1)
    with pytest.raises(MixesProblemsError):
        check_independent(walk.graph())


def test_an_empty_batch_and_a_batch_of_one_have_nothing_to_show() -> None:
    for problems in (0, 1):
        walk = Walk(integers(problems, 4))
        walk.op("reshape", 0, shape=(4 * problems,))
        check_independent(walk.graph())


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("need_weights", [True, False])
def test_rows_of_attention_are_those_of_single_problems(batch_first: bool, need_weights: bool) -> None:
    """The state's dimension 0 as sequence is refused, as batch accepted, whatever the layout inside."""
    attention = nn.MultiheadAttention(4, 2, batch_first=batch_first).double()

    def operator(z: Tensor) -> Tensor:
        result: Tensor = attention(z, z, z, need_weights=need_weights)[0]
        return result

    z = torch.randn(3, 3, 4, generator=seeded(0), dtype=torch.float64)
    graph = trace(operator, z).concrete(z)
    if not batch_first:
        with pytest.raises(MixesProblemsError):
            check_independent(graph)
        return
    check_independent(graph)
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(evaluate(graph, [z[order]])[0], evaluate(graph)[0][order])
