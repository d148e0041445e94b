"""The operator graph: one fingerprint for memory and file, the same function, problems kept apart."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from zoo import cases, randn

from deqops import InputError, UnsupportedOperationError
from deqops.graph import MixesProblemsError, check_independent, export, read_model, trace

ZOO = cases()


class First(nn.Module):
    def __init__(self, scale: float = 0.5) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Linear(3, 3)
        self.scale = scale

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return self.scale * torch.tanh(self.inner(z)) - x


class Second(nn.Module):
    """The same function as `First` under other names, with an unused module first."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.w = nn.Linear(3, 3)
        self.idle = nn.Linear(2, 2)

    def forward(self, state: Tensor, other: Tensor) -> Tensor:
        hidden = self.w(state)
        unused = hidden * 3  # noqa: F841
        return 0.5 * hidden.tanh() - other


def fingerprint(module: nn.Module) -> str:
    return trace(module, torch.zeros(2, 3), torch.zeros(2, 3)).fingerprint


@pytest.mark.parametrize("name", sorted(ZOO))
def test_memory_and_file_agree_and_compute_what_the_module_does(name: str, tmp_path: Path) -> None:
    module, z, inputs, batch_dims = ZOO[name]
    traced = trace(module, z, *inputs, batch_dims=batch_dims)
    export(tmp_path / "m.pt2", module, z, *inputs, batch_dims=batch_dims)
    read = read_model(tmp_path / "m.pt2")
    assert read.fingerprint == traced.fingerprint
    assert read.batch_dims == batch_dims
    torch.testing.assert_close(read(z, *inputs), module(z, *inputs))
    check_independent(read.concrete(z, *inputs))


def test_the_fingerprint_is_that_of_the_function_not_of_its_names() -> None:
    assert fingerprint(First()) == fingerprint(Second())


def test_the_fingerprint_sees_a_bit_of_a_weight_and_an_attribute() -> None:
    changed = First()
    with torch.no_grad():
        changed.inner.weight[0, 0] = torch.nextafter(changed.inner.weight[0, 0], torch.tensor(9.0))
    assert len({fingerprint(First()), fingerprint(changed), fingerprint(First(0.25))}) == 3


@pytest.mark.parametrize(
    ("mixing", "word"),
    [
        (lambda z: z - z.mean(0), "mean"),
        (lambda z: z.flip(0), "flip"),
        (lambda z: torch.ones(4, 4).double() @ z, "matmul"),
        (lambda z: z.T.reshape(4, 3), "reshape|view"),
        (lambda z: z[[1, 0, 2, 3]], "index"),
        (lambda z: z + z[:1], "slice"),
        (lambda z: z.reshape(2, 6).reshape(4, 3), "reshape|view"),
    ],
)
def test_operators_that_mix_problems_are_named(mixing: Callable[[Tensor], Tensor], word: str) -> None:
    z = randn(4, 3)
    with pytest.raises(MixesProblemsError, match=word):
        check_independent(trace(mixing, z).concrete(z))
    check_independent(trace(mixing, z, batch_dims=0).concrete(z))


def in_place(z: Tensor) -> Tensor:
    y = z * 2
    y.add_(1).relu_()
    total = torch.zeros_like(z)
    total.scatter_add_(1, torch.zeros(z.shape, dtype=torch.int64), y)
    return total / 4


def test_in_place_operations_on_fresh_tensors_are_made_pure() -> None:
    z = randn(4, 3)
    traced = trace(in_place, z)
    assert not traced.impure
    torch.testing.assert_close(traced(z), in_place(z))


def test_a_view_of_what_lies_otherwise_in_memory_is_computed() -> None:
    """What was written to a transposed tensor lies as it was given, where the export's lay as its target did."""

    def operator(z: Tensor) -> Tensor:
        y = (2 * z).t()
        y.copy_(z.sin().reshape(3, 4))
        return y.t().view(-1).view(4, 3)

    z = randn(4, 3)
    torch.testing.assert_close(trace(operator, z, batch_dims=0)(z), operator(z))


def test_a_change_seen_through_a_view_is_right_or_refused() -> None:
    def operator(z: Tensor) -> Tensor:
        y = z * 2
        view = y[:, 0]
        y.mul_(3)
        return y + view[:, None]

    z = randn(4, 3)
    try:
        traced = trace(operator, z)
    except UnsupportedOperationError:
        return
    torch.testing.assert_close(traced(z), operator(z))


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, z: Tensor) -> Tensor:
        self.calls += 1
        return 0.5 * z + self.calls


@pytest.mark.parametrize(
    ("operator", "word"),
    [
        (lambda z: z * torch.rand_like(z), "rand"),
        (lambda z: nn.functional.dropout(z, 0.5), "dropout"),
        (nn.BatchNorm1d(3).double().train(), "norm|buffer"),
        (Counting().double(), "buffer"),
    ],
)
def test_what_is_not_one_fixed_map_says_why(operator: object, word: str) -> None:
    import re

    assert any(re.search(word, reason) for reason in trace(operator, randn(4, 3)).impure)


class Tied(nn.Module):
    """One tensor under two names; `writes` also changes it."""

    def __init__(self, kind: str, *, writes: bool = False) -> None:
        super().__init__()
        weight = randn(4, 4) / 16
        if kind == "parameter":
            self.first = self.second = nn.Parameter(weight)
        else:
            self.register_buffer("first", weight)
            self.register_buffer("second", self.first)
        self.writes = writes

    def forward(self, z: Tensor) -> Tensor:
        if self.writes:
            with torch.no_grad():
                self.first.mul_(0.5)
        return torch.tanh(z @ self.first) + z @ self.second


@pytest.mark.parametrize("kind", ["buffer", "parameter"])
def test_a_tensor_under_two_names_is_traced_as_it_is(kind: str) -> None:
    z, module = randn(3, 4), Tied(kind)
    traced = trace(module, z)
    assert not traced.impure
    torch.testing.assert_close(traced(z), module(z))


@pytest.mark.parametrize("kind", ["buffer", "parameter"])
def test_a_tensor_under_two_names_that_is_written_to_is_refused_and_left_alone(kind: str) -> None:
    module = Tied(kind, writes=True)
    before = module.second.detach().clone()
    assert any("changes buffer or parameter" in reason for reason in trace(module, randn(3, 4)).impure)
    if kind == "buffer":
        assert torch.equal(module.second, before)
        assert module.first is module.second


def test_states_may_be_trees() -> None:
    def operator(state: dict[str, Tensor], x: Tensor) -> dict[str, Tensor]:
        return {"b": torch.tanh(state["a"]) * 0.5, "a": state["b"] * 0.25 + x}

    state, x = {"a": randn(2, 3), "b": randn(2, 3, seed=1)}, randn(2, 3, seed=2)
    traced, expected = trace(operator, state, x), operator(state, x)
    found = traced(state, x)
    assert sorted(found) == ["a", "b"]
    for name in expected:
        torch.testing.assert_close(found[name], expected[name])
    check_independent(traced.concrete(state, x))


def test_an_operator_that_changes_shapes_is_refused() -> None:
    z = randn(4, 3)
    with pytest.raises(InputError, match="shape"):
        trace(lambda z: z[:, :2], z).concrete(z)


def test_control_flow_on_data_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedOperationError, match="export"):
        trace(lambda z: z if bool(z.sum() > 0) else -z, randn(4, 3))


def test_tracing_leaves_modes_and_buffers_as_they_were() -> None:
    inner, frozen = nn.Linear(3, 3).double(), nn.Dropout(0.5).eval()
    both = nn.Sequential(inner, frozen).train()
    frozen.eval()
    trace(lambda z: both(z), randn(4, 3))
    assert both.training
    assert not frozen.training
    counting = Counting().double()
    trace(counting, randn(4, 3))
    assert float(counting.calls) == 0


def in_threads(task: Callable[[], None]) -> None:
    """Four threads do it at once; what one of them raises is raised here."""
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(task) for _ in range(4)]:
            done.result()


def test_threads_export_one_at_a_time_and_leave_torch_as_it_was() -> None:
    """torch.export sets modes of the whole process; two at once left them set, for whoever came next."""

    def exports() -> None:
        linear = nn.Linear(3, 3)
        for _ in range(3):
            graph = trace(lambda z, x: torch.tanh(linear(z)) + x, torch.zeros(2, 3), torch.zeros(2, 3))
            assert not graph.impure

    in_threads(exports)
    assert not torch.compiler.is_exporting()
    assert torch.func.grad(lambda y: y.square().sum())(torch.ones(2)).tolist() == [2.0, 2.0]


def test_an_export_that_fails_writes_nothing_and_one_that_works_keeps_its_words(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """torch writes the graph so far and a warning where a module reads numbers of its data."""
    z, x = torch.zeros(2, 3), torch.arange(2)
    with pytest.raises(UnsupportedOperationError, match="data-dependent"):
        trace(lambda z, x: z * int(x.max()), z, x)
    assert capfd.readouterr() == ("", "")

    def fails() -> None:
        for _ in range(3):
            with pytest.raises(UnsupportedOperationError):
                trace(lambda z, x: z * int(x.max()), z, x)

    before = sys.stderr
    in_threads(fails)
    assert sys.stderr is before

    def speaks(z: torch.Tensor) -> torch.Tensor:
        sys.stderr.write("a word")
        return z

    trace(speaks, z)
    assert "a word" in capfd.readouterr().err


class Pair(NamedTuple):
    u: Tensor
    v: Tensor


@pytest.mark.parametrize(
    ("operator", "state"),
    [
        (lambda s: Pair(0.5 * s.u, s.v), Pair(torch.zeros(1, 2), torch.zeros(1, 2))),
        (lambda s: Pair(*s), (torch.zeros(1, 2), torch.zeros(1, 2))),
        (lambda s: OrderedDict(a=0.5 * s["a"]), OrderedDict(a=torch.zeros(1, 2))),
        (lambda s: torch.max(s, dim=1), torch.zeros(1, 2)),
    ],
)
def test_structures_that_a_model_file_does_not_know_are_refused_by_name(operator: Any, state: Any) -> None:
    with pytest.raises(InputError, match="pass tensors, or tuples, lists or dicts of tensors"):
        trace(operator, state)


@pytest.mark.filterwarnings("ignore:Sparse CSR")
def test_weights_that_a_model_file_does_not_know_are_refused_by_name() -> None:
    class Sparse(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("weight", torch.eye(3).to_sparse_csr())

        def forward(self, z: Tensor) -> Tensor:
            return (self.weight @ z.t()).t()

    with pytest.raises(InputError, match="use tensors"):
        trace(Sparse(), torch.zeros(2, 3))


def test_an_exported_program_of_such_a_structure_is_refused_too() -> None:
    class Halves(nn.Module):
        def forward(self, state: Pair) -> Pair:
            return Pair(0.5 * state.u, state.v)

    state = Pair(torch.zeros(1, 2), torch.zeros(1, 2))
    program = torch.export.export(Halves(), (state,))
    with pytest.raises(InputError, match="tuples, lists or dicts of tensors"):
        trace(program, tuple(state))


class BySize(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return 0.5 * torch.tanh(z) if z.shape[0] < 10 else 2 * z


class ByParity(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return 0.5 * torch.tanh(z) if z.shape[0] % 2 == 0 else 2 * z


class Added(nn.Module):
    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return 0.5 * torch.tanh(z) + x


def with_open_sizes(module: nn.Module, *example: Tensor) -> torch.export.ExportedProgram:
    sizes = tuple({0: torch.export.Dim.AUTO} for _ in example)
    return torch.export.export(module, example, dynamic_shapes=sizes)


@pytest.mark.parametrize(("kind", "right", "wrong"), [(BySize, 9, 20), (ByParity, 4, 7)])
def test_a_branch_by_a_size_is_not_taken_for_the_other(
    kind: type[nn.Module], right: int, wrong: int, tmp_path: Path
) -> None:
    """torch keeps the limits of an export as guards, whose code is not run here: they were not kept at all."""
    program = with_open_sizes(kind(), randn(4, 3))
    torch.export.save(program, tmp_path / "model.pt2")
    for graph in (trace(program, randn(4, 3)), read_model(tmp_path / "model.pt2")):
        torch.testing.assert_close(graph(randn(4, 3)), kind()(randn(4, 3)))
        with pytest.raises(InputError, match=f"does not hold for a size of {wrong}"):
            graph.concrete(randn(wrong, 3))
    if kind is BySize:
        graph.concrete(randn(right, 3))


def test_a_size_that_decides_nothing_may_be_another() -> None:
    graph = trace(with_open_sizes(Added(), randn(4, 3), randn(4, 3)), randn(4, 3), randn(4, 3))
    for size in (1, 2, 50):
        z, x = randn(size, 3), randn(size, 3, seed=1)
        torch.testing.assert_close(graph(z, x), Added()(z, x))
    with pytest.raises(InputError, match="x: the export does not hold"):
        graph(randn(4, 3), randn(1, 3))
    with pytest.raises(InputError, match=r"exported for \(any, 3\)"):
        graph(randn(4, 2), randn(4, 2))


def test_the_constants_of_a_graph_cannot_be_changed_under_its_fingerprint() -> None:
    weight, z = torch.eye(2), torch.ones(1, 2)
    graph = trace(lambda z: z @ weight, z)
    for tensor in graph.constants.values():
        tensor.mul_(10)
    assert torch.equal(graph(z), z)
    assert [tensor.tolist() for tensor in graph.constants.values()] == [weight.tolist()]
