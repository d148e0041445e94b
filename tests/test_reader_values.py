"""What the reader makes of values is what torch computes: dtypes, casts, copies, and operators with a memory.

Wrong readings give certificates that the checker accepts, as both read the same graph; each case here was certified
with another rate than the operator has.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from deqops import UnsupportedOperationError
from deqops.graph import export, load, trace
from deqops.graph._lowering import RULES, Lowering
from deqops.verify import InputBox, Verdict, _certify, certify, check, lipschitz_bound, nonexpansive_bound
from deqops.verify._enclosures import Constants, enclose_image
from deqops.verify._midrad import MidRad

STATE = torch.linspace(1, 2, 12, dtype=torch.float64).reshape(3, 4)
ALL, PAIRS, MANY = torch.tensor([True] * 4), torch.tensor([0, 0, 1, 1]), torch.tensor(300)
Function = Callable[[Tensor, Tensor], Tensor]


class Weighted(nn.Module):
    """A function of the parameter 1, 2, 3, 4 and of the state."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64))
        self.function = function

    def forward(self, z: Tensor) -> Tensor:
        return self.function(self.p, z)


def u8(value: int) -> Tensor:
    return torch.tensor(value, dtype=torch.uint8)


def i8(value: int) -> Tensor:
    return torch.tensor(value, dtype=torch.int8)


def falses(size: int) -> Tensor:
    return torch.zeros(size, dtype=torch.bool)


def gain(G: Any, state: Tensor = STATE) -> float:
    """The largest slope of an operator that scales each entry of its state."""
    return float((G(state + 1) - G(state)).abs().max().detach())


def assert_true(G: Any, state: Tensor = STATE) -> None:
    """Whatever is said of an operator that scales its state is true of it, and stays unknown where nothing is."""
    certificate = certify(G, state, theorem="picard")
    if certificate.verdict is Verdict.CERTIFIED:
        assert certificate.rate is not None
        assert gain(G, state) <= certificate.rate * (1 + 1e-9)
    if certificate.verdict is Verdict.REFUTED:
        assert gain(G, state) >= 1 - 1e-9
    assert check(certificate, G, state).accepted == (certificate.verdict is not Verdict.UNKNOWN)


def assert_certified(G: Any, rate: float, state: Tensor = STATE) -> None:
    certificate = certify(G, state, theorem="picard")
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.rate == pytest.approx(rate)
    assert check(certificate, G, state).accepted


COMPUTED: dict[str, Function] = {
    "bool + bool": lambda p, z: z * (2.0 - 0.9 * ((p > 0) + (p > -2))),
    "bool + bool, refuted": lambda p, z: z * (0.9 * ((p > 0) + (p > -2)) - 0.4),
    "bool + True": lambda p, z: z * (2.0 - 0.9 * ((p > 0) + True)),
    "bool * bool": lambda p, z: z * (0.5 + 0.9 * ((p > 0) * (p > 2))),
    "scatter_add of bool": lambda p, z: z * (2.2 - falses(2).scatter_add(0, PAIRS, p > 0)[0] * 1.0),
    "index_add of bool": lambda p, z: z * (2.2 - falses(2).index_add(0, PAIRS, p > 0)[0] * 1.0),
    "index_put of bool": lambda p, z: z * (2.2 - falses(2).index_put((PAIRS,), p > 0, accumulate=True)[0] * 1.0),
    "scatter_reduce of bool": lambda p, z: z * (2.2 - falses(2).scatter_reduce(0, PAIRS, p > 0, "sum")[0] * 1.0),
    "sum to bool": lambda p, z: z * (4.5 - (p > 0).sum(dtype=torch.bool) * 1.0),
    "sum to int8": lambda p, z: z * (0.5 - torch.where(p > 0, i8(100), i8(0)).sum(dtype=torch.int8) / 1e3),
    "uint8 - uint8": lambda p, z: z * (torch.where(p > 0, u8(2), u8(3)) - u8(5)) / 10,
    "uint8 * uint8": lambda p, z: z * (1.2 - torch.where(p > 0, u8(16), u8(3)) * u8(16) / 512),
    "-uint8": lambda p, z: z * (-torch.where(p > 0, u8(2), u8(3))) / 10,
    "uint8 == -1": lambda p, z: z * (0.5 + 0.9 * (torch.where(p > 0, u8(255), u8(3)) == -1)),
    "uint8 beside int64": lambda p, z: z * (1.2 - torch.where(p < 0, torch.where(p > 0, u8(1), u8(3)), MANY) / 600),
    "uint8 clamped below -1": lambda p, z: z * torch.where(p > 0, u8(1), u8(3)).clamp(min=-1) / 2,
    "square of int8": lambda p, z: z * (1.2 - torch.where(p > 0, i8(16), i8(3)).square() / 512),
    "abs of int8": lambda p, z: z * (0.5 - torch.where(p > 0, i8(-128), i8(3)).abs() / 512),
    "masked_fill": lambda p, z: z * (2.0 - torch.where(p > 0, 1, 2).masked_fill(ALL, 1.9) * 1.0),
    "masked_fill of uint8": lambda p, z: z * (torch.where(p > 0, u8(1), u8(3)).masked_fill(ALL, -1) / 200),
    "scatter of a number": lambda p, z: z * (2.0 - torch.where(p > 0, 0, 2).scatter(0, torch.arange(4), 1.9) * 1.0),
    "means of integers": lambda p, z: z * (
        torch.where(p > 0, 2, 0).scatter_reduce(0, PAIRS, torch.where(p > 2, 2, 1), "mean")[0] / 1.2
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", COMPUTED)
def test_integers_and_conditions_follow_their_dtype(name: str) -> None:
    """Conditions are added by "or", integers wrap around, and what fills them is truncated."""
    assert_true(Weighted(COMPUTED[name]))


NEIGHBOURS: dict[str, tuple[Function, float]] = {
    "a condition as a number": (lambda p, z: z * (1.4 - 0.9 * (p > 0)), 0.5),
    "conditions as numbers": (lambda p, z: z * (2.0 - 0.9 * ((p > 0) * 1.0 + (p > -2) * 1.0)), 0.2),
    "or": (lambda p, z: z * (1.4 - 0.9 * ((p > 0) | (p > -2))), 0.5),
    "or by a sum": (lambda p, z: z * (1.4 - 0.9 * ((p > 0) + (p > 9))), 0.5),
    "and by a product, chosen by": (lambda p, z: z * torch.where((p > 0) * (p < 9), 0.5, 2.0), 0.5),
    "counted": (lambda p, z: z * ((p > 0).sum() / 8), 0.5),
    "counted, squared": (lambda p, z: z * ((p > 0).sum() ** 2 / 32), 0.5),
    "int64": (lambda p, z: z * ((torch.where(p > 0, 3, 5) - 8) / 10), 0.5),
    "uint8 within": (lambda p, z: z * ((torch.where(p > 0, u8(2), u8(3)) + u8(3)) / 10), 0.5),
    "masked_fill": (lambda p, z: z * (torch.where(p > 0, 1, 2).masked_fill(ALL, 5) / 10), 0.5),
    "masked_fill of floats": (lambda p, z: z * p.masked_fill(ALL, 0.5), 0.5),
    "clamped": (lambda p, z: z * (torch.where(p > 0, 7, 2).clamp(max=5) / 10), 0.5),
    "clamped to a fraction": (lambda p, z: z * torch.where(p > 0, 7, 2).clamp(max=0.5), 0.5),
    "scatter_add": (lambda p, z: z * (torch.zeros(2, dtype=z.dtype).scatter_add(0, PAIRS, p)[0] / 6), 0.5),
}


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_integers_within_their_dtype_are_read(name: str) -> None:
    assert_certified(Weighted(NEIGHBOURS[name][0]), NEIGHBOURS[name][1])


WRITTEN: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "slice_scatter": lambda x, z: torch.slice_scatter(x, z[:, :2], 1, 0, 2),
    "slice_scatter with a step": lambda x, z: torch.slice_scatter(x, z[:, :2], 1, 0, 4, 2),
    "select_scatter": lambda x, z: torch.select_scatter(x, z[:, 0], 1, 1),
}


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool])
@pytest.mark.parametrize("name", WRITTEN)
def test_writing_the_state_into_integers_truncates_it(name: str, dtype: torch.dtype) -> None:
    """A jump: no rate holds."""

    def G(z: Tensor) -> Tensor:
        return 0.5 * WRITTEN[name](torch.zeros(3, 4, dtype=dtype), z).to(z.dtype)

    assert certify(G, STATE, theorem="picard").verdict is not Verdict.CERTIFIED


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", WRITTEN)
def test_writing_the_state_into_floats_is_read(name: str, dtype: torch.dtype) -> None:
    def G(z: Tensor) -> Tensor:
        return 0.5 * WRITTEN[name](torch.zeros(3, 4, dtype=dtype), z).to(z.dtype)

    assert_certified(G, 0.5)


SCALES = [(1.3,), (2.2,), (1.2,), (0.6,), (2.0,), (1.3, 1.0), (2.2, 1.7), (2.0, 2.0), (1.3, 1.3, 1.3), (2.2, 0.6, 3.0)]


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
@pytest.mark.parametrize("scales", SCALES)
def test_nearest_copies_what_torch_copies(scales: tuple[float, ...], mode: str, channels: int) -> None:
    """The kernel of the same rank: that of one dimension rounds otherwise."""
    sizes = (3, 4, 5)[: len(scales)]
    y = torch.arange(float(channels * torch.Size(sizes).numel()), dtype=torch.float64).reshape(1, channels, *sizes)

    def G(z: Tensor) -> Tensor:
        copied = F.interpolate(z, scale_factor=list(scales), mode=mode)
        return torch.cat([copied.reshape(-1), z.new_zeros(z.numel())])[: z.numel()].reshape(z.shape)

    graph = trace(G, y)
    try:
        concrete = graph.concrete(y)
    except UnsupportedOperationError as refusal:
        assert "order of the tensor in memory" in str(refusal)  # noqa: PT017 - some are refused, none is misread
        return
    (image,) = enclose_image(concrete, Constants(concrete), [MidRad.exact(y)])
    assert torch.equal(image.mid, G(y))


def test_nearest_in_two_dimensions_has_the_rate_of_torch() -> None:
    weight, kept = torch.full((1, 1, 3, 3), 0.3, dtype=torch.float64), torch.ones(1, 1, 3, 3, dtype=torch.float64)
    weight[0, 0, 2, 2], kept[0, 0, 1, 1] = 1.5, 0.0
    y = torch.zeros(1, 1, 3, 3, dtype=torch.float64)

    def G(z: Tensor) -> Tensor:
        return weight * F.interpolate(z * kept, scale_factor=1.3, mode="nearest")

    assert certify(G, y, theorem="picard").verdict is Verdict.REFUTED
    assert_certified(lambda z: 0.5 * F.interpolate(z, scale_factor=1.3, mode="nearest"), 0.5, y)


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, z: Tensor) -> Tensor:
        self.calls += 1
        return (3.0 if self.calls % 2 else 0.5) * z


class Remembering(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last: Tensor | None = None

    def forward(self, z: Tensor) -> Tensor:
        out = 0.5 * z if self.last is None else 0.5 * z + 2 * self.last
        self.last = out.detach()
        return out


class Drawing(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return (0.5 if random.random() < 0.9 else 3.0) * z


class DrawingWithNumPy(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return (0.5 if np.random.rand() < 0.9 else 3.0) * z


@pytest.mark.parametrize("kind", [Counting, Remembering, Drawing, DrawingWithNumPy])
def test_an_operator_with_a_memory_is_not_one_map(kind: type[nn.Module], tmp_path: Path) -> None:
    """The export holds one run of its Python code, and no operation in it tells; neither does a file of it."""
    certificate = certify(kind(), STATE)
    assert certificate.verdict is Verdict.UNKNOWN
    assert certificate.reason is not None
    assert "not one fixed map" in certificate.reason
    export(tmp_path / "model.pt2", kind(), STATE)
    assert trace(load(tmp_path / "model.pt2"), STATE).impure == trace(kind(), STATE).impure != ()


class Counted(nn.Module):
    """Counts its calls, and computes the same whatever the count."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, z: Tensor) -> Tensor:
        self.calls += 1
        return 0.5 * z


class RoundedOtherwise(nn.Module):
    """Adds in another order each time, as kernels on several threads may."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, z: Tensor) -> Tensor:
        self.calls += 1
        parts = [0.1 * z, 0.3 * z, 0.1 * z]
        return sum(parts if self.calls % 2 else parts[::-1], torch.zeros_like(z)) + 1 / 3


@pytest.mark.parametrize("kind", [Counted, RoundedOtherwise])
def test_an_operator_that_gives_the_same_again_is_one_map(kind: type[nn.Module]) -> None:
    before = random.getstate()
    assert_certified(kind(), 0.5)
    assert random.getstate() == before
    assert trace(kind(), STATE).impure == ()


class Noting(nn.Module):
    """A weight of which torch notes that it is negated, or conjugated, and does not compute it."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        half = torch.complex(torch.zeros(4, dtype=torch.float64), torch.full((4,), 0.5, dtype=torch.float64))
        weight = half.conj() if kind == "parameter" else half.conj().imag
        if kind == "parameter":
            self.weight = nn.Parameter(weight)
        elif kind == "buffer":
            self.register_buffer("weight", weight)
        else:
            self.weight = weight

    def forward(self, z: Tensor) -> Tensor:
        weight = self.weight.imag if self.weight.is_complex() else self.weight
        return (weight - 1) * z


@pytest.mark.parametrize("kind", ["parameter", "buffer", "constant"])
def test_a_sign_that_a_tensor_only_notes_is_kept(kind: str, tmp_path: Path) -> None:
    """`torch.export.save` writes the memory as it is: -1.5 z was read as -0.5 z, and certified."""
    module = Noting(kind)
    assert certify(module, STATE, theorem="picard").verdict is Verdict.REFUTED
    export(tmp_path / "model.pt2", module, STATE)
    torch.testing.assert_close(load(tmp_path / "model.pt2")(STATE), module(STATE))
    program = torch.export.export(module, (STATE,))
    torch.testing.assert_close(trace(program, STATE)(STATE), module(STATE))
    torch.testing.assert_close(program.module()(STATE), module(STATE))


class Scaling(TorchDispatchMode):
    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        return 3.0 * result if function is torch.ops.aten.sin.default else result


def under_a_mode(z: Tensor) -> Tensor:
    with Scaling():
        return 0.5 * torch.sin(z)


BRANCHES: dict[str, Callable[[Tensor], Tensor]] = {
    "exporting": lambda z: (0.5 if torch.compiler.is_exporting() else 2.0) * z,
    "compiling": lambda z: (0.5 if torch.compiler.is_compiling() else 2.0) * z,
    "fake": lambda z: (2.0 if type(z) is Tensor else 0.5) * z,
    "near": lambda z: (0.5 if torch.compiler.is_exporting() else 2.0) * (z - STATE),
    "mode": under_a_mode,
}


@pytest.fixture
def _double_by_default() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.usefixtures("_double_by_default")
@pytest.mark.parametrize(
    "made",
    [
        lambda: torch.full((3,), 0.1),
        lambda: torch.linspace(0.1, 0.7, 3),
        lambda: torch.arange(0.1, 0.35, 0.1),
        lambda: torch.eye(3)[0] / 3,
    ],
    ids=["full", "linspace", "arange", "eye"],
)
def test_what_a_program_makes_has_the_dtype_that_it_had_at_the_export(
    made: Callable[[], Tensor], tmp_path: Path
) -> None:
    """0.1 in single precision is another number, and a certificate of the one is none of the other."""
    z, path = torch.zeros(1, 3), tmp_path / "g.pt2"

    def operator(v: Tensor) -> Tensor:
        return 0.5 * v + made()

    export(path, operator, z)
    expected, before = operator(z), load(path).fingerprint
    torch.set_default_dtype(torch.float32)
    graph = load(path)
    assert torch.equal(graph(z), expected)
    assert graph.fingerprint != before


@pytest.mark.parametrize("name", BRANCHES)
def test_a_branch_of_the_export_alone_is_not_certified(name: str, tmp_path: Path) -> None:
    """Each of them was certified with rate 0.5, and expands."""
    G = BRANCHES[name]
    certificate = certify(G, STATE, theorem="picard")
    assert certificate.verdict is Verdict.UNKNOWN
    assert certificate.reason is not None
    assert "another result than G itself" in certificate.reason
    with pytest.raises(UnsupportedOperationError, match="another result than G itself"):
        export(tmp_path / "model.pt2", G, STATE)


def test_a_branch_by_the_gradient_mode_is_not_one_map() -> None:
    def G(z: Tensor) -> Tensor:
        return (0.5 if torch.is_grad_enabled() else 2.0) * z

    for gradients in (False, True):
        with torch.set_grad_enabled(gradients):
            certificate = certify(G, STATE, theorem="picard")
        assert certificate.verdict is Verdict.UNKNOWN
        assert certificate.reason is not None
        assert "where gradients are recorded" in certificate.reason


def test_a_fast_path_that_computes_something_else_is_not_one_map() -> None:
    """Without gradients torch's encoder leaves out padded positions, which are 0 then."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    padding = torch.tensor([[False] * 4 + [True]] * 2)

    def of(nested: bool) -> tuple[str, ...]:
        encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=nested).eval()
        return trace(lambda z: encoder(z, src_key_padding_mask=padding), torch.zeros(2, 5, 8)).impure

    assert of(nested=False) == ()
    assert any("where gradients are recorded" in reason for reason in of(nested=True))


def test_a_fast_path_that_rounds_otherwise_is_one_map() -> None:
    """torch has other kernels for attention without gradients: a float32 result shows the rounding of bfloat16."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(64, 4, 256, batch_first=True).bfloat16().eval()
    assert trace(lambda z: layer(z.bfloat16()).float(), torch.randn(2, 16, 64)).impure == ()


def misread(low: Lowering, a: dict[str, Any]) -> Any:
    """A rule that takes one function for another."""
    return low.emit("tanh", [a["self"]], torch.tanh)


def half_a_sine(z: Tensor) -> Tensor:
    return 0.5 * torch.sin(z)


def test_a_rule_that_means_another_function_is_found_before_anything_is_claimed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The certifier and the checker read the same graph: each of them compares it with the program."""
    assert_certified(half_a_sine, 0.5)
    monkeypatch.setitem(RULES, "aten.sin.default", misread)
    certificate = certify(half_a_sine, STATE, theorem="picard")
    assert certificate.verdict is Verdict.UNKNOWN
    assert certificate.reason is not None
    assert "the program differ" in certificate.reason
    with pytest.raises(UnsupportedOperationError, match="the program differ"):
        lipschitz_bound(half_a_sine, STATE)
    with pytest.raises(UnsupportedOperationError, match="the program differ"):
        nonexpansive_bound(half_a_sine, STATE)
    monkeypatch.setattr(_certify, "disagreement", lambda *given: "")
    wrong = certify(half_a_sine, STATE, theorem="picard")
    assert wrong.verdict is Verdict.CERTIFIED
    report = check(wrong, half_a_sine, STATE)
    assert not report.accepted
    assert "the program differ" in report.reasons[0]


def test_a_rule_that_is_wrong_on_one_side_of_zero_is_found_at_a_state_of_zeros(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The state beside it had positive entries alone, where a ReLU is the identity."""

    def G(z: Tensor) -> Tensor:
        return 0.5 * torch.relu(z)

    def one_sided(low: Lowering, a: dict[str, Any]) -> Any:
        return low.emit("abs", [a["self"]], torch.abs)

    zeros = torch.zeros_like(STATE)
    monkeypatch.setitem(RULES, "aten.relu.default", one_sided)
    certificate = certify(G, zeros, theorem="picard")
    assert certificate.verdict is Verdict.UNKNOWN
    assert certificate.reason is not None
    assert "differ near the example" in certificate.reason
    monkeypatch.setattr(_certify, "disagreement", lambda *given: "")
    assert not check(certify(G, zeros, theorem="picard"), G, zeros).accepted


def test_a_refutation_of_a_misread_operator_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    def G(z: Tensor) -> Tensor:
        return 1.5 * torch.sin(z)

    assert certify(G, STATE, theorem="picard").verdict is Verdict.REFUTED
    monkeypatch.setitem(RULES, "aten.sin.default", misread)
    assert certify(G, STATE, theorem="picard").verdict is Verdict.UNKNOWN


def test_an_input_box_is_compared_at_the_inputs_that_refute_it() -> None:
    def G(z: Tensor, x: Tensor) -> Tensor:
        return x * z

    box = InputBox(torch.full((3, 4), 0.2, dtype=torch.float64), torch.full((3, 4), 1.6, dtype=torch.float64))
    certificate = certify(G, STATE, box, theorem="picard")
    assert certificate.verdict is Verdict.REFUTED
    assert check(certificate, G, STATE, box.upper).accepted
    narrow = InputBox(box.lower, box.lower + 0.3)
    certified = certify(G, STATE, narrow, theorem="picard")
    assert certified.verdict is Verdict.CERTIFIED
    assert check(certified, G, STATE, box.lower + 0.1).accepted


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_rounding_is_no_difference(dtype: torch.dtype) -> None:
    layer = nn.Sequential(nn.Linear(64, 256), nn.Tanh(), nn.Linear(256, 64)).to(dtype)
    for part in (layer[0], layer[2]):
        assert isinstance(part, nn.Linear)
        with torch.no_grad():
            part.weight.mul_(0.5 / torch.linalg.matrix_norm(part.weight.float(), 2).to(dtype))
    state = torch.linspace(-30, 30, 128).reshape(2, 64).to(dtype)
    certificate = certify(layer, state, theorem="picard")
    assert certificate.verdict is Verdict.CERTIFIED
    assert check(certificate, layer, state).accepted
