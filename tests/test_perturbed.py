"""T3 `perturbed`: torch's float32 and float64 results stay within delta of the exact map; iterations reach a floor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mpmath
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from deqops.graph import trace
from deqops.verify import (
    Ball,
    InputError,
    UnsupportedOperationError,
    Verdict,
    certify,
    rounding_bound,
    rounding_floor,
)
from deqops.verify._float_program import program_error
from deqops.verify._midrad import MidRad, sub
from deqops.verify._problem import Problem
from deqops.verify._rounding import exact_float64
from tests.truth import DIGITS, EXACT, Layer, difference, equilibrium, exact, layers, norm_of, step, vectors
from tests.zoo import Module, cases

mpmath.mp.dps = DIGITS
NAMES = tuple(EXACT)
DTYPES = (torch.float32, torch.float64)
UNIT = {torch.float32: 2.0**-24, torch.float64: 2.0**-53}


def in_dtype(layer: Layer, dtype: torch.dtype) -> Layer:
    return Layer(layer.weight.detach().to(dtype), layer.activation, layer.inputs.detach().to(dtype))


def iterated(layer: nn.Module, y: Tensor, x: Tensor, steps: int) -> Tensor:
    with torch.no_grad():
        for _ in range(steps):
            y = layer(y, x)
    return y


@settings(max_examples=15)
@given(st.data(), layers(NAMES), st.sampled_from(DTYPES), st.sampled_from(["l1", "l2", "linf", "weighted_linf"]))
def test_the_pointwise_bound_holds(data: st.DataObject, layer: Layer, dtype: torch.dtype, norm: str) -> None:
    """T3 `perturbed`: delta contains ||G^(y) - G(y)||, and the error bound the distance to the equilibrium."""
    layer, x = in_dtype(layer, dtype), data.draw(vectors(layer.inputs.shape[1])).to(dtype)
    y = data.draw(vectors(layer.weight.shape[0])).to(dtype)
    certificate = certify(layer, y, x, theorem="picard", norm=norm)
    assume(certificate.verdict is Verdict.CERTIFIED and certificate.norm is not None and (certificate.rate or 0) < 0.9)
    weights = None if certificate.norm.weights is None else certificate.norm.weights[0]  # type: ignore[union-attr]
    order = certificate.norm.order  # type: ignore[union-attr]
    found = rounding_bound(certificate, layer, y, x)
    with torch.no_grad():
        computed = exact(layer(y, x))
    image, star = step(layer, exact(y), exact(x)), equilibrium(layer, exact(x))
    gap = norm_of(difference(computed, image), order, weights)
    assert gap <= mpmath.mpf(float(found.delta))
    heaviest = 1.0 if weights is None else float(weights.max())
    assert float(found.delta) <= gap * (1 + 1e-9) + heaviest * 1e-12 * (1 + float(norm_of(image, "l1")))
    assert norm_of(difference(computed, exact(y)), order, weights) <= mpmath.mpf(float(found.residual)) + 1e-35
    for error, name in ((found.error.l2, "l2"), (found.error.linf, "linf")):
        assert norm_of(difference(exact(y), star), name) <= mpmath.mpf(float(error)) + 1e-30
    assert norm_of(difference(exact(y), star), order, weights) <= mpmath.mpf(float(found.error.value)) + 1e-30


@settings(max_examples=40)
@given(st.data(), layers(NAMES), st.sampled_from(DTYPES), st.sampled_from([1e-6, 1e-2, 1.0]))
def test_delta_holds_on_the_whole_ball(data: st.DataObject, layer: Layer, dtype: torch.dtype, radius: float) -> None:
    """T3 `perturbed`: ||G^(y) - G(y)|| <= delta for states drawn from the ball, not for its centre alone."""
    layer, x = in_dtype(layer, dtype), (3 * data.draw(vectors(layer.inputs.shape[1]))).to(dtype)
    center = data.draw(vectors(layer.weight.shape[0])).to(dtype)
    problem = Problem(trace(layer, center, x), center, (x,))
    delta = program_error(problem.graph, [MidRad(center.double(), torch.full_like(center.double(), radius))], 4.0)
    for _ in range(4):
        y = (center.double() + radius * (2 * torch.rand(center.shape).double() - 1)).to(dtype)
        if not bool(((y.double() - center.double()).abs() <= radius).all()):
            continue
        with torch.no_grad():
            gaps = difference(exact(layer(y, x)), step(layer, exact(y), exact(x)))
        for gap, bound in zip(gaps, delta.leaves[0].reshape(-1).tolist(), strict=True):
            assert abs(gap) <= mpmath.mpf(bound)
    size = float(
        (layer.weight.abs().sum() * (center.abs().max() + radius) + layer.inputs.abs().sum() * x.abs().max()).detach()
    )
    assert float(delta.leaves[0].max()) <= 200 * UNIT[dtype] * (size + 2)


@pytest.mark.parametrize("name", [*cases(), "scaled products"])
def test_delta_holds_for_whole_graphs(name: str) -> None:
    """In float32, against midpoint-radius enclosures in float64: gathers, scatters, means, residuals, two layers."""
    if name == "scaled products":
        w = torch.randn(6, 6, dtype=torch.float64)
        module: nn.Module = Module(lambda m, z, x: torch.addmm(x, z, m.w, beta=0.3, alpha=0.1) / 3.0 - 0.7 * z, w=w)
        z, inputs, dims = torch.randn(3, 6), (torch.randn(3, 6),), 1
    else:
        module, z, inputs, dims = cases()[name]
    module = module.float()
    inputs = tuple(t.float() if t.is_floating_point() else t for t in inputs)
    z = z.float()
    problem = Problem(trace(module, z, *inputs, batch_dims=dims), z, inputs)
    radius = torch.full_like(z.double(), 0.5)
    delta = program_error(problem.graph, [MidRad(z.double(), radius)], 4.0).leaves[0]
    largest = 0.0
    for _ in range(5):
        y = (z.double() + 0.499 * (2 * torch.rand(z.shape).double() - 1)).float()
        with torch.no_grad():
            computed = module(y, *inputs)
        gap = sub(MidRad.exact(exact_float64(computed)), problem.image([y])[0])
        assert bool((gap.mignitude() <= delta).all())
        largest = max(largest, float((gap.mignitude() / delta.clamp(min=1e-300)).max()))
    assert largest > 1e-3 or name == "shapes"  # the bound is within a thousand of what is seen


@pytest.mark.parametrize("exponent", [5.3, 10.1, 0.3, -7.7])
@pytest.mark.parametrize("size", [1e3, 0.1, 0.02])
def test_the_exponent_of_a_power_is_rounded_too(exponent: float, size: float) -> None:
    """In float32, in what torch's vectorised kernels compute: a power of 5.3 is one of 5.30000019."""
    y = torch.full((1, 64), size) * torch.linspace(1.0, 1.1, 64)
    graph = trace(lambda z: z**exponent, y).concrete(y)
    for box in (MidRad.exact(y.double()), MidRad.from_bounds(0.0 * y.double(), y.double())):
        bounds = program_error(graph, [box], 1.0).leaves[0]
        for x, computed, bound in zip(y[0].tolist(), (y**exponent)[0].tolist(), bounds[0].tolist(), strict=True):
            assert abs(mpmath.mpf(x) ** mpmath.mpf(exponent) - computed) <= bound
    relative = program_error(graph, [MidRad.exact(y.double())], 1.0).leaves[0] / (y**exponent).double()
    assert float(relative.max()) <= 150 * UNIT[torch.float32]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm", ["l2", "weighted_linf"])
def test_the_iteration_reaches_the_floor(dtype: torch.dtype, norm: str) -> None:
    """T3: the iterates stay in the ball, obey q^n ||y_0 - y*|| + delta/(1-q), and the floor is near what is seen."""
    torch.manual_seed(3)
    W, U = 0.25 * torch.randn(4, 4, dtype=torch.float64), torch.randn(4, 2, dtype=torch.float64)
    layer, x = in_dtype(Layer(W, "tanh", U), dtype), torch.ones(1, 2, dtype=dtype)
    y = iterated(layer, torch.zeros(1, 4, dtype=dtype), x, 200)
    certificate = certify(layer, y, x, theorem="picard", norm=norm)
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.norm is not None
    order, weights = certificate.norm.order, None if certificate.norm.weights is None else certificate.norm.weights[0]
    found = rounding_floor(certificate, layer, y, x)
    star = equilibrium(layer, exact(x))
    assert {h.name for h in found.hypotheses} == {"contraction", "self-map", "arithmetic", "libm accuracy"}
    assert "ASSUMED" in next(h.statement for h in found.hypotheses if h.name == "libm accuracy")
    wide = rounding_floor(certificate, layer, y, x, radius=0.5)
    start = (y.double() + 0.2 / (1.0 if weights is None else float(weights.max())) / 2).to(dtype)
    first = norm_of(difference(exact(start), star), order, weights)
    iterate = start
    for n in range(60):
        error = norm_of(difference(exact(iterate), star), order, weights)
        assert error <= mpmath.mpf(float(wide.after(n, float(first) * (1 + 1e-12))))
        assert norm_of(difference(exact(iterate), exact(y)), order, weights) <= wide.region.radius
        iterate = iterated(layer, iterate, x, 1)
    error = norm_of(difference(exact(iterated(layer, iterate, x, 200)), star), order, weights)
    assert error <= mpmath.mpf(float(found.floor.value))
    scale = 1.0 if weights is None else float(weights.max())
    assert UNIT[dtype] / 100 * scale <= float(found.floor.value) <= 1000 * UNIT[dtype] * scale
    assert norm_of(difference(exact(iterate), star), "linf") <= mpmath.mpf(float(wide.after(60, float(first) * 1.01)))


def test_the_jump_of_softplus_is_within_delta() -> None:
    """torch's softplus jumps by 2e-9 where its argument passes 20; the certified map is smooth."""
    one = torch.ones(1, 1, dtype=torch.float64)
    layer = Layer(one / 2, "softplus", one)
    y, x = 20.00001 * one, 10 * one
    certificate = certify(layer, y, x, theorem="picard", norm="l2")
    with torch.no_grad():
        gap = abs(exact(layer(y, x))[0] - step(layer, exact(y), exact(x))[0])
    assert 2e-9 < gap < 3e-9
    assert gap <= mpmath.mpf(float(rounding_bound(certificate, layer, y, x).delta)) <= gap * 1.001
    for center in (y, 19.9 * one):  # the second ball reaches over the edge, its centre does not
        ball = rounding_floor(certificate, layer, iterated(layer, center, x, 100), x, radius=1.0)
        assert gap <= mpmath.mpf(float(ball.delta)) <= 2 * gap


def test_a_residual_of_zero_leaves_delta() -> None:
    """An equilibrium of the program above softplus' threshold is none of the exact map: 2 delta of q = 1/2 remain."""
    one = torch.ones(1, 1, dtype=torch.float64)
    layer = Layer(one / 2, "softplus", one)
    x = 10.0001 * one
    y = iterated(layer, 20 * one, x, 200)
    found = rounding_bound(certify(layer, y, x, theorem="picard", norm="l2"), layer, y, x)
    assert float(found.residual) == 0
    error = abs(exact(y)[0] - equilibrium(layer, exact(x))[0])
    assert 3e-9 < error <= mpmath.mpf(float(found.error.value)) <= 1.01 * error


def test_nothing_is_assumed_of_relu() -> None:
    one = torch.ones(1, 1)
    layer = Layer(one / 2, "relu", one)
    y = iterated(layer, 0 * one, one, 100)
    certificate = certify(layer, y, one, theorem="picard", norm="l2")
    found = rounding_floor(certificate, layer, y, one)
    assert "libm accuracy" not in {h.name for h in found.hypotheses}
    assert all(h.holds for h in found.hypotheses)


def test_a_smaller_assumption_gives_a_smaller_floor() -> None:
    one = torch.ones(1, 1)
    layer = Layer(one / 2, "tanh", one)
    y = iterated(layer, 0 * one, one, 100)
    certificate = certify(layer, y, one, theorem="picard", norm="l2")
    floors = [float(rounding_floor(certificate, layer, y, one, ulps=k).floor.value) for k in (1, 4, 64)]
    assert floors == sorted(set(floors))


# ------------------------------------------------------------------------------------------------------ refusals


def test_a_local_certificate_bounds_states_in_its_ball_alone() -> None:
    one = torch.ones(1, 1, dtype=torch.float64)
    layer, x = Layer(2 * one, "tanh", one), 2 * one
    y = iterated(layer, one, x, 100)
    certificate = certify(layer, y, x, theorem="local_picard", norm="l2", region=Ball(y, 0.25))
    assert certificate.verdict is Verdict.CERTIFIED
    assert float(rounding_bound(certificate, layer, y, x).error.value) < 1e-14
    assert float(rounding_bound(certificate, layer, y + 0.3, x).error.value) == float("inf")
    assert float(rounding_floor(certificate, layer, y, x).floor.value) < 1e-14
    with pytest.raises(InputError, match="not inside"):
        rounding_floor(certificate, layer, y, x, radius=0.3)


def test_a_ball_that_is_not_mapped_into_itself_is_refused() -> None:
    one = torch.ones(1, 1)
    layer = Layer(one / 2, "tanh", one)
    y = iterated(layer, 0 * one, one, 100)
    certificate = certify(layer, y, one, theorem="picard", norm="l2")
    with pytest.raises(InputError, match=r"self|radius"):
        rounding_floor(certificate, layer, y, one, radius=1e-9)
    with pytest.raises(InputError, match="radius"):
        rounding_floor(certificate, layer, y, one, radius=-1.0)
    with pytest.raises(InputError, match="ulps"):
        rounding_floor(certificate, layer, y, one, ulps=float("nan"))


def test_the_monotone_theorem_bounds_errors_but_gives_no_floor() -> None:
    W = torch.tensor([[0.0, 3.0], [-3.0, 0.0]], dtype=torch.float64)
    layer = Layer(W, "relu", torch.eye(2, dtype=torch.float64))
    y = torch.zeros(1, 2, dtype=torch.float64)
    certificate = certify(layer, y, y, theorem="monotone", norm="l2")
    assert float(rounding_bound(certificate, layer, y, y).error.value) == 0.0
    with pytest.raises(InputError, match="proves no constant"):
        rounding_floor(certificate, layer, y, y)


@pytest.fixture
def reduced_precision() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.usefixtures("reduced_precision")
def test_reduced_precision_products_are_refused() -> None:
    one = torch.ones(1, 1)
    layer = Layer(one / 2, "tanh", one)
    certificate = certify(layer, one, one, theorem="picard", norm="l2")
    with pytest.raises(InputError, match="less than float32"):
        rounding_floor(certificate, layer, one, one)


class Relay(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        value: Tensor = self.function(z, x)
        return value


@pytest.mark.parametrize(
    ("function", "dtype", "message"),
    [
        (lambda z, x: 0.5 * torch.tanh(z) + torch.softmax(x, 1), torch.float32, "softmax"),
        (lambda z, x: 0.5 * torch.tanh(z) + nn.functional.layer_norm(x, (2,)), torch.float32, "layer_norm"),
        (lambda z, x: 0.5 * torch.tanh(z) + x, torch.bfloat16, "bfloat16"),
    ],
)
def test_programs_that_are_not_known_are_refused_by_name(function: Any, dtype: torch.dtype, message: str) -> None:
    y = torch.zeros(1, 2, dtype=dtype)
    G = Relay(function)
    certificate = certify(G, y, y, theorem="picard", norm="l2")
    assert certificate.verdict is Verdict.CERTIFIED, certificate.reason
    with pytest.raises(UnsupportedOperationError, match=message):
        rounding_floor(certificate, G, y, y, radius=1.0)


@pytest.mark.parametrize(
    "function",
    [
        lambda z, x: 0.5 * torch.tanh(z) + torch.where(x > 0.1, 0.1, 0.3),  # float32 numbers beside float64 tensors
        lambda z, x: 0.5 * torch.tanh(z) + x.sum() * 0.1 / 3.0,
        lambda z, x: 0.5 * torch.tanh(z) + (x > 0.1).sum() * 0.1,
        lambda z, x: 0.5 * torch.tanh(z) + torch.full((), 0.1) * x,
    ],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_plain_numbers_are_rounded_as_torch_does(function: Any, dtype: torch.dtype) -> None:
    """`torch.where(c, 0.1, 0.3)` is float32 beside float64 tensors, and 0-dimensional float32 stays float32."""
    G, y, x = Relay(function), torch.zeros(1, 2, dtype=dtype), torch.tensor([[0.7, -0.3]], dtype=dtype)
    y = iterated(G, y, x, 100)
    problem = Problem(trace(G, y, x), y, (x,))
    delta = program_error(problem.graph, [MidRad(y.double(), torch.zeros_like(y.double()))], 4.0).leaves[0]
    gap = sub(MidRad.exact(exact_float64(G(y, x))), problem.image([y])[0])
    assert bool((gap.mignitude() <= delta).all())
    assert float(delta.max()) <= 1e-6


def test_a_program_that_changes_the_dtype_has_no_floor() -> None:
    G = Relay(lambda z, x: 0.5 * torch.tanh(z) + x)
    y, x = torch.zeros(1, 2), torch.ones(1, 2, dtype=torch.float64)
    certificate = certify(G, y, x, theorem="picard", norm="l2")
    with pytest.raises(InputError, match="dtype"):
        rounding_floor(certificate, G, y, x)


def test_a_softplus_that_overflows_has_no_floor() -> None:
    G = Relay(lambda z, x: 0.5 * nn.functional.softplus(z + x, threshold=500.0))
    y = torch.zeros(1, 2)
    assert bool(G(y, y + 100).isinf().all())
    certificate = certify(G, y, y + 100, theorem="picard", norm="l2")
    with pytest.raises(UnsupportedOperationError, match="overflow"):
        rounding_floor(certificate, G, y, y + 100)
    assert float(rounding_bound(certificate, G, y, y + 100).delta) == float("inf")


def test_overflow_is_no_floor() -> None:
    """A product that may overflow in float32 has no error bound."""
    G = Relay(lambda z, x: 0.5 * torch.tanh(z) + 0.0 * (x * 1e30))
    y = torch.zeros(1, 2)
    certificate = certify(G, y, 1e10 + y, theorem="picard", norm="l2")
    assert certificate.verdict is Verdict.CERTIFIED
    with pytest.raises(InputError, match="radius"):
        rounding_floor(certificate, G, y, 1e10 + y, radius=1.0)
    assert float(rounding_bound(certificate, G, y, 1e10 + y).error.value) == float("inf")


def test_a_decision_that_rounding_may_change_is_refused() -> None:
    G = Relay(lambda z, x: 0.5 * torch.tanh(z) + torch.where(x * 0.1 > 0.3, 1.0, 0.0))
    y = torch.zeros(1, 2)
    certificate = certify(G, y, y + 3, theorem="picard", norm="l2")
    with pytest.raises(UnsupportedOperationError, match=r"rounding errors|too close"):
        rounding_floor(certificate, G, y, y + 3, radius=1.0)
    center = iterated(G, y, y + 4, 100)
    assert float(rounding_floor(certificate, G, center, y + 4, radius=1.0).delta) < 1e-6
