"""T10 `sensitivity`: equilibria move no farther than the bound, to 40 digits; and the bound is not vacuous."""

from __future__ import annotations

from collections.abc import Callable

import mpmath
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from deqops.graph import trace
from deqops.verify import Ball, Certificate, InputError, UnsupportedOperationError, Verdict, certify, sensitivity_bound
from deqops.verify._input_jacobian import input_jacobian
from deqops.verify._problem import Problem
from tests.truth import (
    DIGITS,
    Layer,
    Vector,
    difference,
    equilibrium,
    exact,
    layers,
    norm_of,
    pre_activation,
    vectors,
)

mpmath.mp.dps = DIGITS
ORDERS = ("l1", "l2", "linf")
NAMES = ("tanh", "sigmoid", "relu", "softplus")


class Function(nn.Module):
    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, z: Tensor, *inputs: Tensor) -> Tensor:
        return self.function(z, *inputs)


def certified(G: nn.Module, y: Tensor, *inputs: Tensor, norm: str = "l2", theorem: str = "picard") -> Certificate:
    certificate = certify(G, y, *inputs, norm=norm, theorem=theorem)
    assert certificate.verdict is Verdict.CERTIFIED, certificate.reason
    return certificate


def weights_of(certificate: Certificate) -> Tensor | None:
    assert certificate.norm is not None
    return None if certificate.norm.weights is None else certificate.norm.weights[0]


@given(
    st.data(),
    layers(NAMES),
    st.sampled_from([*ORDERS, "weighted_l1", "weighted_l2", "weighted_linf"]),
    st.sampled_from(ORDERS),
)
def test_equilibria_move_within_the_bound(data: st.DataObject, layer: Layer, norm: str, order: str) -> None:
    """T10 `sensitivity`: ||y*(x) - y*(x')|| <= bound ||x - x'||, in every pair of norms."""
    size = layer.inputs.shape[1]
    first, second = data.draw(vectors(size)), data.draw(vectors(size))
    y = torch.zeros(1, layer.weight.shape[0], dtype=torch.float64)
    certificate = certify(layer, y, first, norm=norm, theorem="picard")
    assume(certificate.verdict is Verdict.CERTIFIED and (certificate.rate or 0) < 0.9)
    found = sensitivity_bound(certificate, layer, y, second, norm=order)  # type: ignore[arg-type]
    assert found.input == "x"
    assert found.norm is certificate.norm
    assert not found.fixed
    assert all(h.holds for h in found.hypotheses)
    moved = difference(equilibrium(layer, exact(first)), equilibrium(layer, exact(second)))
    change = norm_of(difference(exact(first), exact(second)), order)
    left = norm_of(moved, certificate.norm.order, weights_of(certificate))  # type: ignore[union-attr]
    assert left <= mpmath.mpf(float(found)) * change + mpmath.mpf(10) ** -25


@pytest.mark.parametrize("order", ORDERS)
def test_the_bound_is_attained_by_a_linear_map(order: str) -> None:
    G = Function(lambda z, x: 0.5 * z + 0.75 * x)  # y* = 1.5 x
    y = torch.zeros(2, 3, dtype=torch.float64)
    certificate = certified(G, y, y, norm=order)
    found = sensitivity_bound(certificate, G, y, y)
    assert 1.5 <= found.bound <= 1.5 * (1 + 1e-9)
    assert found.per_problem
    assert found.input_norm == order


def test_norm_conversions_are_attained() -> None:
    """In l2 against linf the vector of ones attains sqrt(n); in linf against l1 one entry attains 1."""
    G = Function(lambda z, x: 0.5 * z + x)  # y* = 2 x
    y = torch.zeros(1, 4, dtype=torch.float64)
    expected = {("l1", "linf"): 8, ("l1", "l2"): 4, ("l2", "linf"): 4, ("l2", "l1"): 2, ("linf", "l1"): 2}
    for (state, order), value in expected.items():
        found = sensitivity_bound(certified(G, y, y, norm=state), G, y, y, norm=order)  # type: ignore[arg-type]
        assert value <= found.bound <= value * (1 + 1e-9)


def test_a_shared_input_is_measured_whole() -> None:
    """One x for both problems of the batch: each problem's equilibrium moves within the bound."""
    G = Function(lambda z, x: 0.5 * z + x)
    y, x = torch.zeros(2, 3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    found = sensitivity_bound(certified(G, y, x), G, y, x)
    assert not found.per_problem
    assert 2 <= found.bound <= 2 * 2**0.5 * (1 + 1e-9)


def test_each_input_has_its_own_bound() -> None:
    G = Function(lambda z, x, u: torch.tanh(0.25 * z + x) + 3 * u)
    y = torch.zeros(2, 3, dtype=torch.float64)
    certificate = certified(G, y, y, y)
    bounds = [sensitivity_bound(certificate, G, y, y, y, input=k).bound for k in (0, 1)]
    assert bounds[0] == pytest.approx(4 / 3, rel=1e-9)
    assert bounds[1] == pytest.approx(4, rel=1e-9)


def test_weights_of_the_state_are_followed() -> None:
    """`||P U||` and not `max(P) ||U||`: the heavy coordinate does not see the input."""
    W = torch.tensor([[0.0, 0.0], [8.0, 0.0]], dtype=torch.float64)
    layer = Layer(W, "tanh", torch.tensor([[0.0], [1.0]], dtype=torch.float64))
    y, x = torch.zeros(1, 2, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    certificate = certified(layer, y, x, norm="weighted_l2")
    weights = weights_of(certificate)
    assert weights is not None
    assert float(weights[1]) < float(weights[0]) / 10
    found = sensitivity_bound(certificate, layer, y, x)
    assert found.input_constant == pytest.approx(float(weights[1]), rel=1e-9)


# ------------------------------------------------------------------------------------------------ resolvent form

RIGHT = torch.tensor([[0.0, 3.0], [-3.0, 0.0]], dtype=torch.float64)


def resolvent_equilibrium(layer: Layer, x: Vector) -> Vector:
    """Forward-backward splitting (T5 c) with a = 0.1: constant sqrt(1 - 2a + 10 a^2) < 0.95 for `RIGHT`."""
    z, a = [mpmath.mpf(0)] * 2, mpmath.mpf("0.1")
    for _ in range(1400):
        v = pre_activation(layer, z, x)
        z = [max(u - a * (u - w), mpmath.mpf(0)) for u, w in zip(z, v, strict=True)]
    assert norm_of(difference(z, [max(v, mpmath.mpf(0)) for v in pre_activation(layer, z, x)]), "l2") < 1e-25
    return z


@settings(max_examples=8)
@given(vectors(2), vectors(2))
def test_monotone_layers_move_within_the_resolvent_bound(first: Tensor, second: Tensor) -> None:
    """T10 under T5 (c): `||dy|| <= ||U dx|| / mu`, where Picard's iteration does not even converge."""
    layer = Layer(RIGHT, "relu", torch.tensor([[1.0, 0.5], [0.0, 1.0]], dtype=torch.float64))
    y = torch.zeros(1, 2, dtype=torch.float64)
    certificate = certify(layer, y, first, theorem="monotone", norm="l2")
    assert certificate.verdict is Verdict.CERTIFIED
    found = sensitivity_bound(certificate, layer, y, second)
    size = float(torch.linalg.matrix_norm(layer.inputs.detach(), 2))
    assert size * (1 - 1e-9) <= found.bound <= size * (1 + 1e-6)  # mu = 1
    moved = difference(resolvent_equilibrium(layer, exact(first)), resolvent_equilibrium(layer, exact(second)))
    change = norm_of(difference(exact(first), exact(second)), "l2")
    assert norm_of(moved, "l2") <= mpmath.mpf(found.bound) * change + mpmath.mpf(10) ** -20


def test_the_resolvent_form_is_not_taken_for_another() -> None:
    """`relu(W z) + U x` adds the input behind the function: the residual's factor applies, not 1/mu."""
    W = RIGHT
    G = Function(lambda z, x: torch.relu(z @ W.T) + x)
    H = Function(lambda z, x: torch.relu(z @ W.T) + torch.relu(x))
    y = torch.zeros(1, 2, dtype=torch.float64)
    for operator in (G, H):
        certificate = certify(operator, y, y, theorem="monotone", norm="l2")
        if certificate.verdict is not Verdict.CERTIFIED:
            assert certificate.verdict is Verdict.UNKNOWN
            continue
        found = sensitivity_bound(certificate, operator, y, y)
        assert found.factor == certificate.factor
        assert found.bound >= 1 / (1 - 0) * 3  # (I - S W)^-1 reaches sqrt(10) where S = diag(1, 0)


# ------------------------------------------------------------------------------------------------------ refusals


def test_a_local_certificate_is_refused() -> None:
    layer = Layer(torch.eye(2, dtype=torch.float64) / 2, "tanh", torch.eye(2, dtype=torch.float64))
    y = torch.zeros(1, 2, dtype=torch.float64)
    certificate = certify(layer, y, y, theorem="local_picard", norm="l2", region=Ball(y, 1.0))
    assert certificate.verdict is Verdict.CERTIFIED
    with pytest.raises(InputError, match="speaks of a ball"):
        sensitivity_bound(certificate, layer, y, y)


def test_a_fixed_input_is_refused_and_a_free_one_beside_it_is_not() -> None:
    G = Function(lambda z, x, u: torch.sigmoid(x) * torch.tanh(z) * 0.9 + u)
    y = torch.zeros(1, 2, dtype=torch.float64)
    certificate = certified(G, y, y, y)
    assert [record.free for record in certificate.inputs] == [False, True]
    with pytest.raises(InputError, match="used its value"):
        sensitivity_bound(certificate, G, y, y, y, input=0)
    found = sensitivity_bound(certificate, G, y, y, y, input=1)
    assert len(found.fixed) == 1
    with pytest.raises(InputError, match="another value"):
        sensitivity_bound(certificate, G, y, y + 1, y, input=1)


def test_an_input_that_multiplies_the_state_has_no_bound() -> None:
    """Clamping keeps G's constant free of x, but its constant in x grows with y."""
    G = Function(lambda z, x: torch.tanh(0.5 * z + x) + torch.tanh(x) * torch.abs(z).clamp(0.0, 0.0))
    y = torch.zeros(1, 2, dtype=torch.float64)
    certificate = certify(G, y, y, theorem="picard", norm="l2")
    with pytest.raises((InputError, UnsupportedOperationError)):
        sensitivity_bound(certificate, G, y, y)


def test_the_jacobian_by_an_input_uses_no_value_of_the_state() -> None:
    y = torch.ones(1, 2, dtype=torch.float64)
    G = Function(lambda z, x: z * x)
    with pytest.raises(UnsupportedOperationError, match="by the state"):
        input_jacobian(Problem(trace(G, y, y), y, (y,)), 0)


def test_an_unbounded_input_map_is_refused_by_name() -> None:
    G = Function(lambda z, x: 0.5 * torch.tanh(z) + torch.exp(x))
    y = torch.zeros(1, 2, dtype=torch.float64)
    with pytest.raises(UnsupportedOperationError, match="exp"):
        sensitivity_bound(certified(G, y, y), G, y, y)


def test_what_does_not_fit_is_refused() -> None:
    layer = Layer(torch.eye(2, dtype=torch.float64) / 2, "tanh", torch.eye(2, dtype=torch.float64))
    other = Layer(torch.eye(2, dtype=torch.float64) / 4, "tanh", torch.eye(2, dtype=torch.float64))
    y = torch.zeros(1, 2, dtype=torch.float64)
    certificate = certified(layer, y, y)
    with pytest.raises(InputError, match="certify it again"):
        sensitivity_bound(certificate, other, y, y)
    with pytest.raises(InputError, match="has 1 inputs"):
        sensitivity_bound(certificate, layer, y, y, input=1)
    with pytest.raises(InputError, match="norm"):
        sensitivity_bound(certificate, layer, y, y, norm="l3")  # type: ignore[arg-type]
    unknown = certify(Layer(4 * layer.weight.detach(), "tanh", layer.inputs.detach()), y, y, theorem="picard")
    with pytest.raises(InputError, match="nothing follows"):
        sensitivity_bound(unknown, layer, y, y)


def test_integer_inputs_are_refused() -> None:
    G = Function(lambda z, x, i: 0.5 * torch.tanh(z[:, i]) + x)
    y, index = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([1, 0])
    certificate = certify(G, y, y, index, theorem="picard", norm="l2")
    with pytest.raises(InputError, match=r"used its value|floating"):
        sensitivity_bound(certificate, G, y, y, index, input=1)
    assert sensitivity_bound(certificate, G, y, y, index, input=0).bound == pytest.approx(2, rel=1e-9)
