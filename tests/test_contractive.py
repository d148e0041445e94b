"""Parametrised weights stay within their rate: every optimiser step, train and eval, loads and copies."""

from __future__ import annotations

import copy
import io
import math
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.nn.utils import parametrize

from deqops import EquilibriumLayer, InputError, export, load
from deqops.testing import assert_accepted
from deqops.verify import Norm, certify, convolution_norm_bound, operator_norm_bound, spectral_norm_bound
from deqops.verify.contractive import (
    ConvolutionBounded,
    Damped,
    GraphBounded,
    L2Bounded,
    MonotoneWeight,
    SupBounded,
    bounded,
)
from deqops.verify.contractive._monotone import margin_bound

# torch's tracer asks every tensor for .grad, those inside a graph too
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")

RATE, MARGIN = 0.9, 0.1
P = torch.tensor([1.0, 3.0, 0.2, 5.0, 1.0, 1.0], dtype=torch.float64)


# A path with one way back, its entries rounded: sup norm 1.7, spectral radius below 1.
A = torch.sparse_coo_tensor(
    torch.tensor([[0, 1, 1, 2, 2, 3], [0, 0, 1, 1, 3, 2]]),
    torch.tensor([1 / 3, 0.7, 1.0, 0.6, 0.9, 0.1]),
    (4, 4),
    check_invariants=True,
)


NORMS_OF_A = {norm: float(operator_norm_bound(A, norm)) for norm in ("l2", "linf")}


def matrix(map_: nn.Module, dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(0)
    layer = nn.Linear(6, 6, dtype=dtype)
    parametrize.register_parametrization(layer, "weight", map_)
    return layer


def kernel(map_: nn.Module, dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 3, 3, padding=1, dtype=dtype)
    parametrize.register_parametrization(layer, "weight", map_)
    return layer


def weighted(W: Tensor) -> float:
    return float(operator_norm_bound(W, Norm("linf", (P,))))


def on_a_square(K: Tensor) -> float:
    return convolution_norm_bound(K, (5, 5), padding_mode="zeros", padding=1)


CASES: dict[str, tuple[Callable[[torch.dtype], nn.Module], Callable[[Tensor], float], float]] = {
    "l2": (lambda d: matrix(L2Bounded(RATE), d), lambda W: float(spectral_norm_bound(W)), RATE),
    "gain": (lambda d: matrix(L2Bounded(RATE, gain=3.0), d), lambda W: float(spectral_norm_bound(W)), RATE / 3),
    "linf": (lambda d: matrix(SupBounded(RATE), d), lambda W: float(operator_norm_bound(W, "linf")), RATE),
    "weighted linf": (lambda d: matrix(SupBounded(RATE, P), d), weighted, RATE),
    "graph": (
        lambda d: matrix(GraphBounded(A, RATE), d),
        lambda W: float(spectral_norm_bound(W)) * NORMS_OF_A["l2"],
        RATE,
    ),
    "graph linf": (
        lambda d: matrix(GraphBounded(A, RATE, "linf"), d),
        lambda W: float(operator_norm_bound(W, "linf")) * NORMS_OF_A["linf"],
        RATE,
    ),
    "convolution": (lambda d: kernel(ConvolutionBounded((5, 5), RATE, padding=1), d), on_a_square, RATE),
    "monotone": (lambda d: matrix(MonotoneWeight(MARGIN), d), lambda W: -margin_bound(W), -MARGIN),
}
every_case = pytest.mark.parametrize("name", CASES)


def stored(layer: nn.Module) -> list[nn.Parameter]:
    return [p for n, p in layer.named_parameters() if "original" in n]


@every_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_t1_t5_a_thousand_steps_at_a_high_rate_never_leave_the_set(name: str, dtype: torch.dtype) -> None:
    """Gradients that push the norm up, noise, and now and then a weight that is blown up or nearly 0."""
    make, measured, most = CASES[name]
    layer, generator = make(dtype), torch.Generator().manual_seed(1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=3.0, momentum=0.9)
    for step in range(1000 if dtype == torch.float32 else 100):
        layer.train(step % 3 != 0)
        if step < 100 or step % 7 == 0 or step % 97 == 0:  # the last of these: just after a weight was blown up
            assert measured(layer.weight.detach()) <= most
        optimizer.zero_grad()
        direction = torch.randn(layer.weight.shape, generator=generator).to(dtype)
        (-(layer.weight * (layer.weight.detach() + direction)).sum()).backward()
        nn.utils.clip_grad_norm_(layer.parameters(), 1.0)  # a monotone weight is quadratic in what is stored
        optimizer.step()
        if step % 97 == 96:
            with torch.no_grad():
                for weight in stored(layer):
                    weight.mul_(10.0 ** (step % 7 - 3))


@every_case
def test_the_bound_is_reached(name: str) -> None:
    make, measured, most = CASES[name]
    layer = make(torch.float64)
    with torch.no_grad():
        for weight in stored(layer):
            weight.mul_(0.0 if name == "monotone" else 100.0)
    assert measured(layer.weight.detach()) >= most - 1e-3


@pytest.mark.parametrize("name", [case for case in CASES if case != "monotone"])
def test_a_weight_below_the_rate_is_left_as_it_is(name: str) -> None:
    layer = CASES[name][0](torch.float32)
    with torch.no_grad():
        (weight,) = stored(layer)
        weight.mul_(1e-3)
    assert torch.equal(layer.weight, weight)


@every_case
def test_modes_copies_loads_and_pickles_give_the_same_weight(name: str) -> None:
    make = CASES[name][0]
    layer = make(torch.float32)
    with torch.no_grad():
        for weight in stored(layer):
            weight.mul_(20.0)
    expected = layer.weight.detach().clone()
    buffer = io.BytesIO()
    torch.save(layer.state_dict(), buffer)
    buffer.seek(0)
    loaded = make(torch.float32)
    loaded.load_state_dict(torch.load(buffer, weights_only=True))
    maps = layer.parametrizations.weight
    for other in (layer.eval(), layer.train(), copy.deepcopy(layer), loaded):
        assert torch.equal(other.weight, expected)
    assert torch.equal(pickle.loads(pickle.dumps(maps[0]))(*stored(layer)), expected)


def test_a_graph_convolution_that_saves_its_weight_by_itself_is_loaded() -> None:
    from torch_geometric.nn import GCNConv

    def convolution() -> nn.Module:
        layer = GCNConv(4, 4)
        bounded(layer.lin, 0.5)
        return layer

    first, second = copy.deepcopy(convolution()), convolution()
    second.load_state_dict(first.state_dict())
    assert list(first.state_dict()) == ["bias", "lin.parametrizations.weight.original"]
    assert torch.equal(first.lin.weight, second.lin.weight)


@every_case
def test_numbers_written_past_every_counter_are_seen(name: str) -> None:
    make, measured, most = CASES[name]
    layer = make(torch.float64)
    assert measured(layer.weight.detach()) <= most
    for weight in stored(layer):
        weight.data.mul_(1e3)
    assert measured(layer.weight.detach()) <= most


@every_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_weight_first_read_in_inference_mode_is_trained_afterwards(name: str, dtype: torch.dtype) -> None:
    layer = CASES[name][0](dtype)
    with torch.no_grad():
        for parameter in stored(layer):
            parameter.mul_(9)
    with torch.inference_mode():
        read = layer.weight.clone()  # type: ignore[operator, union-attr]
    layer.weight.sum().backward()  # type: ignore[operator, union-attr]
    assert torch.equal(layer.weight, read)  # type: ignore[arg-type]
    assert all(parameter.grad is not None for parameter in stored(layer))


@pytest.mark.parametrize("map_", [L2Bounded(1e-20), SupBounded(1e-20)], ids=["l2", "linf"])
@pytest.mark.parametrize("entry", [1.2e300, 1.3e300, 1.7e300, 3e300])
def test_factors_that_are_hardly_numbers_are_rounded_down(map_: nn.Module, entry: float) -> None:
    """The factor is some thousand times the smallest number: the nearest one may be far above the quotient."""
    assert float(map_(torch.tensor([[entry]], dtype=torch.float64))) <= 1e-20


@every_case
def test_autocast_leaves_the_weight_as_it_is(name: str) -> None:
    """A product that autocast rounds to bfloat16 would be another weight than the one that is proven."""
    layer = CASES[name][0](torch.float32)
    with torch.no_grad():
        for weight in stored(layer):
            weight.mul_(20.0)
    expected = layer.weight.detach().clone()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer.weight, expected)
        layer.weight.sum().backward()
    assert all(torch.isfinite(weight.grad).all() for weight in stored(layer))


def test_a_layer_trains_under_autocast_within_its_rate() -> None:
    layer, generator = matrix(L2Bounded(RATE), torch.float32), torch.Generator().manual_seed(2)
    optimizer = torch.optim.SGD(layer.parameters(), lr=3.0)
    for _ in range(20):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            image = layer(torch.randn(8, 6, generator=generator))
        assert image.dtype == torch.bfloat16
        (-image.float().square().mean()).backward()
        optimizer.step()
        assert float(spectral_norm_bound(layer.weight.detach())) <= RATE


@every_case
def test_a_compiled_layer_has_the_weight_and_the_gradient_of_the_layer(name: str) -> None:
    """The compiler sees no bound: it would fuse roundings that the proof counts one by one."""
    torch._dynamo.reset()
    counters.clear()
    layer = CASES[name][0](torch.float32)
    with torch.no_grad():
        for weight in stored(layer):
            weight.mul_(20.0)
    x = torch.randn(2, 3, 5, 5) if name == "convolution" else torch.randn(2, 6)
    compiled = torch.compile(layer, backend="eager")
    for factor in (1.0, 2.0):
        with torch.no_grad():
            for weight in stored(layer):
                weight.mul_(factor)
        images = compiled(x), layer(x)
        assert torch.equal(*images)
        slopes = [torch.autograd.grad(image.square().sum(), stored(layer)) for image in images]
        assert all(torch.equal(a, b) for a, b in zip(*slopes, strict=True))
    assert counters["stats"]["unique_graphs"] <= 3


@every_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_removed_parametrisation_leaves_the_bounded_weight(name: str, dtype: torch.dtype) -> None:
    make, measured, most = CASES[name]
    layer = make(dtype)
    with torch.no_grad():
        for weight in stored(layer):
            weight.mul_(20.0)
    expected = layer.weight.detach().clone()
    parametrize.remove_parametrizations(layer, "weight")
    assert isinstance(layer.weight, nn.Parameter)
    assert torch.equal(layer.weight, expected)
    assert measured(layer.weight.detach()) <= most


@every_case
def test_a_layer_moved_to_another_dtype_stays_within_its_rate(name: str) -> None:
    make, measured, most = CASES[name]
    layer = make(torch.float64)
    with torch.no_grad():
        for weight in stored(layer):
            weight.mul_(20.0)
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        assert measured(layer.to(dtype).weight.detach()) <= most


@pytest.mark.parametrize(
    ("map_", "shape"),
    [
        (L2Bounded(0.5), (4, 6)),
        (GraphBounded(A, 0.5), (4, 6)),
        (SupBounded(0.5), (4, 6)),
        (SupBounded(0.5, [1.0, 2.0, 3.0]), (3, 3)),
        (ConvolutionBounded(5, 0.5, padding=1), (2, 3, 3)),
    ],
    ids=str,
)
def test_gradients_are_those_of_the_scaled_weight(map_: nn.Module, shape: tuple[int, ...]) -> None:
    weight = 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    if isinstance(map_, ConvolutionBounded):  # the direction is a proposal there: along the weight nothing changes
        weight.requires_grad_()
        (gradient,) = torch.autograd.grad(map_(weight).square().sum(), weight)
        assert abs(float((gradient * weight.detach()).sum())) < 1e-9
    else:
        assert torch.autograd.gradcheck(map_, weight.requires_grad_())


def test_an_assigned_monotone_weight_of_the_right_form_is_kept() -> None:
    generator = torch.Generator().manual_seed(4)
    A, B = torch.randn(2, 5, 5, generator=generator, dtype=torch.float64)
    W = 0.9 * torch.eye(5, dtype=torch.float64) - A.mT @ A + B - B.mT
    layer = nn.Linear(5, 5, dtype=torch.float64)
    parametrize.register_parametrization(layer, "weight", MonotoneWeight(MARGIN))
    layer.weight = W
    assert torch.allclose(layer.weight, W, atol=1e-12)
    assert torch.autograd.gradcheck(MonotoneWeight(MARGIN), (A.requires_grad_(), B.requires_grad_()))


def test_t1_a_layer_that_trains_is_certified_checked_and_exported(tmp_path: object) -> None:
    torch.manual_seed(0)
    linear = bounded(nn.Linear(6, 6), RATE)

    class Operator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = linear

        def forward(self, z: Tensor, x: Tensor) -> Tensor:
            return torch.tanh(self.linear(z) + x)

    layer = EquilibriumLayer(Operator())
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.3)
    x, target = torch.randn(8, 6), torch.rand(8, 6)
    for _ in range(10):
        optimizer.zero_grad()
        (layer(x) - target).square().mean().backward()
        optimizer.step()
    certificate = certify(layer, x, theorem="picard", norm="l2")
    assert certificate.rate is not None
    assert RATE - 1e-3 < certificate.rate <= RATE
    assert_accepted(certificate, layer, torch.zeros(8, 6), x)
    path = f"{tmp_path}/model.pt2"
    export(path, layer.operator, torch.zeros(8, 6), x)
    assert torch.allclose(load(path)(torch.zeros(8, 6), x), layer.operator(torch.zeros(8, 6), x))


def test_t5_a_monotone_layer_with_a_large_norm_is_certified() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(6, 6, bias=False)
    parametrize.register_parametrization(linear, "weight", MonotoneWeight(MARGIN))
    with torch.no_grad():
        for weight in stored(linear):
            weight.mul_(10.0)
    zeros = torch.zeros(2, 6)
    certificate = certify(lambda z, x: torch.relu(linear(z) + x), zeros, zeros)
    assert certificate.theorem == "monotone"
    assert torch.linalg.matrix_norm(linear.weight.detach(), 2) > 20


def test_t4_a_damped_block_has_the_damped_constant() -> None:
    torch.manual_seed(0)
    linear = bounded(nn.Linear(6, 6), 0.5, norm="linf")
    with torch.no_grad():
        linear.parametrizations.weight.original.mul_(10.0)
    block = Damped(lambda z, x: torch.tanh(linear(z) + x), 0.25)
    zeros = torch.zeros(1, 6)
    certificate = certify(block, zeros, zeros, theorem="picard", norm="linf")
    assert certificate.rate == pytest.approx(1 - 0.25 + 0.25 * 0.5, rel=1e-6)


def test_torchs_spectral_normalisation_is_no_bound_where_ours_is_one() -> None:
    torch.manual_seed(0)
    peer = nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6), n_power_iterations=1)
    ours = bounded(nn.Linear(6, 6), 1.0)
    for layer in (peer, ours):
        layer.eval()
        layer.parametrizations.weight.original.data.copy_(torch.randn(6, 6))
    assert float(spectral_norm_bound(ours.weight.detach())) <= 1.0
    assert spectral_norm_bound(peer.weight.detach()).lower_estimate > 1.1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: L2Bounded(0.0), "rate: "),
        (lambda: L2Bounded(math.nan), "rate: "),
        (lambda: MonotoneWeight(1.0), "margin: "),
        (lambda: SupBounded(0.5, [1.0, -1.0]), "weights: "),
        (lambda: SupBounded(0.5, [1.0])(torch.zeros(2, 2)), "W: weights for 1"),
        (lambda: SupBounded(0.5)(torch.tensor([[math.nan]])), "W: it holds NaN"),
        (lambda: L2Bounded(0.5)(torch.zeros(2, 2, 2)), "W: a matrix is needed"),
        (lambda: L2Bounded(0.5)(torch.full((2, 2), math.inf)), "entry .* is not finite"),
        (lambda: MonotoneWeight(0.5)(*torch.full((2, 2, 2), math.inf)), "weight: its stored"),
        (lambda: MonotoneWeight().right_inverse(torch.zeros(2, 3)), "W: a square matrix"),
        (lambda: ConvolutionBounded(5, padding_mode="reflect"), "padding_mode: "),
        (lambda: bounded(nn.Conv2d(1, 1, 3)), "size: "),
        (lambda: bounded(nn.Conv1d(1, 1, 3), size=8, gain=2.0), "gain: "),
        (lambda: bounded(nn.Linear(2, 2), norm="l1"), "norm: "),
        (lambda: bounded(nn.ConvTranspose1d(4, 1, 3), norm="linf"), "layer: the weight of a ConvTranspose1d"),
        (lambda: bounded(nn.Bilinear(2, 2, 2), norm="linf"), "layer: the weight of a Bilinear"),
        (lambda: bounded(nn.ReLU()), "layer: ReLU has no 'weight'"),
        (lambda: Damped(lambda z: z, 0.0), "damping: "),
        (lambda: Damped(3, 0.5), "operator: "),  # type: ignore[arg-type]
    ],
)
def test_bad_arguments_are_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
