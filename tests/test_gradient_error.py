"""T14 `implicit_gradient`: the computed gradient is within the bound of the true one, with 40 digits."""

from __future__ import annotations

from typing import Any

import mpmath
import pytest
import sympy
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from deqops.verify import Ball, InputError, UnsupportedOperationError, Verdict, certify, gradient_error_bound
from deqops.verify._gradient_error import CURVATURES
from tests.truth import DIGITS, Layer, Vector, equilibrium, exact, layers, pre_activation, step, vectors

mpmath.mp.dps = DIGITS
NOISE = mpmath.mpf(10) ** -28  # of the truth itself
SMOOTH = ("tanh", "sigmoid", "softplus", "silu", "gelu")
v = sympy.symbols("v", real=True)
FUNCTIONS = {
    "tanh": sympy.tanh(v),
    "sigmoid": 1 / (1 + sympy.exp(-v)),
    "softplus": sympy.log(1 + sympy.exp(v)),
    "silu": v / (1 + sympy.exp(-v)),
    "gelu": v * (1 + sympy.erf(v / sympy.sqrt(2))) / 2,
}
EXACT_SUPREMA = {
    "tanh": 4 / (3 * sympy.sqrt(3)),
    "sigmoid": 1 / (6 * sympy.sqrt(3)),
    "softplus": sympy.Rational(1, 4),
    "silu": sympy.Rational(1, 2),
    "gelu": sympy.sqrt(2 / sympy.pi),
}
DERIVATIVES = {name: sympy.lambdify(v, sympy.diff(f, v), "mpmath") for name, f in FUNCTIONS.items()}


def test_suprema_of_tanh_and_sigmoid_are_derived() -> None:
    """In w = tanh v (or sigmoid v) both derivatives are polynomials: extrema where the derivative vanishes."""
    w = sympy.symbols("w", real=True)
    for name, first, ends in (("tanh", 1 - w**2, (-1, 1)), ("sigmoid", w * (1 - w), (0, 1))):
        second = sympy.expand(sympy.diff(first, w) * first)
        critical = [r for r in sympy.solve(sympy.diff(second, w), w) if ends[0] <= r <= ends[1]]
        largest = sympy.Max(*(sympy.Abs(second.subs(w, r)) for r in (*critical, *ends)))
        assert sympy.simplify(largest - EXACT_SUPREMA[name]) == 0
        assert sympy.simplify(sympy.diff(FUNCTIONS[name], v) - first.subs(w, FUNCTIONS[name])) == 0


def test_suprema_of_softplus_gelu_and_silu_are_derived() -> None:
    """softplus'' = sigmoid'; gelu'' = phi (2 - v^2), extreme at 0 and +-2; silu'' = sigmoid' (2 - v tanh(v/2))."""
    s = FUNCTIONS["sigmoid"]
    assert sympy.simplify(sympy.diff(FUNCTIONS["softplus"], v, 2) - sympy.diff(s, v)) == 0
    w = sympy.symbols("w", real=True)
    assert sympy.maximum(w * (1 - w), w, sympy.Interval(0, 1)) == EXACT_SUPREMA["softplus"]
    phi = sympy.exp(-(v**2) / 2) / sympy.sqrt(2 * sympy.pi)
    assert sympy.simplify(sympy.diff(FUNCTIONS["gelu"], v, 2) - phi * (2 - v**2)) == 0
    critical = sympy.solve(sympy.diff(phi * (2 - v**2), v), v)
    largest = max(sympy.Abs((phi * (2 - v**2)).subs(v, r)) for r in critical)
    assert sympy.simplify(largest - EXACT_SUPREMA["gelu"]) == 0
    silu = sympy.diff(s, v) * (2 - v * sympy.tanh(v / 2))
    assert sympy.simplify((sympy.diff(FUNCTIONS["silu"], v, 2) - silu).rewrite(sympy.exp)) == 0
    # 0 <= sigmoid' <= 1/4 and |2 - v tanh(v/2)| <= max(2, |v| - 2); |v| sigmoid' <= 1/2: so |silu''| <= 1/2.
    assert silu.subs(v, 0) == EXACT_SUPREMA["silu"]


@pytest.mark.parametrize("name", sorted(CURVATURES))
def test_tabulated_suprema_are_rounded_outwards_and_sharp(name: str) -> None:
    value = sympy.Rational(CURVATURES[name].numerator, CURVATURES[name].denominator)
    assert value >= EXACT_SUPREMA[name]
    assert value <= EXACT_SUPREMA[name] * (1 + sympy.Rational(1, 10**10))
    second = sympy.lambdify(v, sympy.diff(FUNCTIONS[name], v, 2), "mpmath")
    for step_ in range(-400, 401):
        assert abs(second(mpmath.mpf(step_) / 25 + mpmath.mpf(10) ** -9)) <= mpmath.mpf(value.p) / value.q


# ------------------------------------------------------------------------------------------------------ the bound


def jacobians(layer: Layer, y: Vector, x: Vector) -> tuple[Any, Any]:
    slopes = [DERIVATIVES[layer.activation](u) for u in pre_activation(layer, y, x)]
    W, U = (mpmath.matrix(t.detach().tolist()) for t in (layer.weight, layer.inputs))
    S = mpmath.diag(slopes)
    return S * W, S * U


def gradient(layer: Layer, y: Vector, x: Vector, terms: int | None) -> Any:
    J, J_x = jacobians(layer, y, x)
    if terms is None:
        return (mpmath.eye(J.rows) - J) ** -1 * J_x
    total, power = 0 * J_x, J_x
    for _ in range(terms):
        total, power = total + power, J * power
    return total


def spectral(matrix: Any) -> Any:
    """||M||_2, to about the working precision."""
    return mpmath.svd_r(matrix, compute_uv=False)[0]


@settings(max_examples=20)
@given(
    st.data(), layers(SMOOTH, scale=0.4), st.sampled_from([None, 0, 1, 3, 10]), st.sampled_from([0.0, 1e-6, 1e-2, 0.3])
)
def test_the_gradient_is_within_the_bound(data: st.DataObject, layer: Layer, terms: int | None, off: float) -> None:
    """T14 `implicit_gradient`: at a state off by eps, after n Neumann terms or an exact solve."""
    size, inputs = layer.inputs.shape
    x, direction = data.draw(vectors(inputs)), data.draw(vectors(size))
    y0 = torch.zeros(1, size, dtype=torch.float64)
    certificate = certify(layer, y0, x, theorem="picard", norm="l2")
    assume(certificate.verdict is Verdict.CERTIFIED and (certificate.rate or 0) < 0.9)
    star = equilibrium(layer, exact(x))
    y = torch.tensor([[float(s) for s in star]], dtype=torch.float64) + off * direction
    found = gradient_error_bound(certificate, layer, y, x, terms=terms)
    truth = gradient(layer, star, exact(x), None)
    assert spectral(gradient(layer, exact(y), exact(x), terms) - truth) <= mpmath.mpf(float(found.total)) + NOISE
    assert spectral(gradient(layer, star, exact(x), terms) - truth) <= mpmath.mpf(found.truncation) + NOISE
    assert spectral(gradient(layer, exact(y), exact(x), None) - truth) <= mpmath.mpf(float(found.evaluation)) + NOISE
    (J, J_x), (J_star, J_x_star) = (jacobians(layer, point, exact(x)) for point in (exact(y), star))
    apart = mpmath.norm(mpmath.matrix([a - b for a, b in zip(exact(y), star, strict=True)]), 2)
    assert apart <= mpmath.mpf(float(found.eps)) + NOISE
    assert spectral(J_x) <= mpmath.mpf(found.input_norm) + NOISE
    assert spectral(J) <= mpmath.mpf(found.rate) + NOISE
    assert spectral(J - J_star) <= mpmath.mpf(found.curvature) * apart + NOISE
    assert spectral(J_x - J_x_star) <= mpmath.mpf(found.input_curvature) * apart + NOISE


def test_the_truncation_is_attained_in_one_dimension() -> None:
    """tanh(z/2 + 3x) at x = 0: J_y = 1/2, J_x = 3, and n terms miss exactly 3 q^n / (1 - q)."""
    one = torch.ones(1, 1, dtype=torch.float64)
    layer, zero = Layer(one / 2, "tanh", 3 * one), torch.zeros(1, 1, dtype=torch.float64)
    certificate = certify(layer, zero, zero, theorem="picard", norm="l2")
    found = gradient_error_bound(certificate, layer, zero, zero, terms=4)
    assert float(found.eps) <= 1e-300
    assert found.truncation == pytest.approx(3 / 2**4 / (1 - 1 / 2), rel=1e-9)
    exact_solve = gradient_error_bound(certificate, layer, zero, zero)
    assert exact_solve.truncation == 0
    assert float(exact_solve.total) <= 1e-280


def test_the_second_term_is_needed() -> None:
    """Near q = 1 the error is `l eps ||J_x|| / (1-q)^2` in size: more than `l' eps / (1-q)` alone."""
    one = torch.ones(1, 1, dtype=torch.float64)
    layer, x = Layer(0.99 * one, "tanh", one), 0.00133 * one
    star = equilibrium(layer, exact(x))
    certificate = certify(layer, one, x, theorem="picard", norm="l2")
    y = float(star[0]) * one + 1e-6
    found = gradient_error_bound(certificate, layer, y, x)
    first = found.input_curvature * float(found.eps) / (1 - found.rate)
    error = spectral(gradient(layer, exact(y), exact(x), None) - gradient(layer, star, exact(x), None))
    assert first * 1.2 < float(error) < float(found.evaluation) < 100 * float(error)


def test_the_bound_shrinks_with_the_error() -> None:
    torch.manual_seed(1)
    layer = Layer(0.2 * torch.randn(4, 4).double(), "tanh", torch.randn(4, 2).double())
    x = torch.ones(3, 2, dtype=torch.float64)
    y = torch.zeros(3, 4, dtype=torch.float64)
    certificate = certify(layer, y, x, theorem="picard", norm="l2")
    totals = []
    for _ in range(20):
        totals.append(float(gradient_error_bound(certificate, layer, y, x).total.max()))
        y = layer(y, x).detach()
    assert totals[-1] < 1e-6 < 1e-3 < totals[0]
    assert found_per_problem(certificate, layer, y, x)


def found_per_problem(certificate: Any, layer: nn.Module, y: Tensor, x: Tensor) -> bool:
    found = gradient_error_bound(certificate, layer, y, x)
    return found.per_problem and found.total.shape == (3,)


def test_a_scaled_layer_and_beta_count() -> None:
    """softplus with beta = 2 has curvature 1/2, and a factor in front multiplies every constant."""

    one = torch.ones(1, 1, dtype=torch.float64)

    class Scaled(nn.Module):
        def forward(self, z: Tensor, x: Tensor) -> Tensor:
            return -0.25 * nn.functional.softplus(nn.functional.linear(z, one) + 3 * x, beta=2.0)

    y = torch.zeros(1, 1, dtype=torch.float64)
    certificate = certify(Scaled(), y, y, theorem="picard", norm="l2")
    found = gradient_error_bound(certificate, Scaled(), y, y)
    assert found.input_norm == pytest.approx(0.75, rel=1e-9)
    assert found.curvature == pytest.approx(0.25 * 0.5, rel=1e-9)
    assert found.input_curvature == pytest.approx(0.25 * 0.5 * 3, rel=1e-9)


def test_a_local_certificate_serves_inside_its_ball() -> None:
    one = torch.ones(1, 1, dtype=torch.float64)
    layer, x = Layer(2 * one, "tanh", one), 2 * one
    star = torch.tensor([[float(equilibrium(layer, exact(x))[0])]], dtype=torch.float64)
    certificate = certify(layer, star, x, theorem="local_picard", norm="l2", region=Ball(star, 0.25))
    assert certificate.verdict is Verdict.CERTIFIED
    y = star + 0.01
    found = gradient_error_bound(certificate, layer, y, x, terms=3)
    truth = gradient(layer, equilibrium_from(layer, star, x), exact(x), None)
    assert spectral(gradient(layer, exact(y), exact(x), 3) - truth) <= mpmath.mpf(float(found.total))
    with pytest.raises(InputError, match="outside"):
        gradient_error_bound(certificate, layer, star + 0.5, x)


def equilibrium_from(layer: Layer, start: Tensor, x: Tensor) -> Vector:
    y = exact(start)
    for _ in range(200):
        y = step(layer, y, exact(x))
    return y


# ------------------------------------------------------------------------------------------------------ refusals


class Relay(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        value: Tensor = self.function(z, x)
        return value


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda z, x: torch.relu(0.5 * z + x), "relu"),
        (lambda z, x: nn.functional.gelu(0.5 * z + x, approximate="tanh"), "tanh form"),
        (lambda z, x: nn.functional.mish(0.5 * z + x), "mish"),
        (lambda z, x: torch.tanh(torch.tanh(0.5 * z + x)), "form"),
        (lambda z, x: 0.25 * z + torch.tanh(0.5 * z + x) / 4, "form"),
        (lambda z, x: torch.tanh(0.5 * z) + x, "form"),
        (lambda z, x: torch.tanh(0.5 * z) + torch.tanh(x), "form"),
        (lambda z, x: torch.tanh(0.5 * z + torch.tanh(x)), "form"),
    ],
)
def test_other_operators_are_refused_by_name(function: Any, message: str) -> None:
    y = torch.zeros(1, 2, dtype=torch.float64)
    certificate = certify(Relay(function), y, y, theorem="picard", norm="l2")
    assert certificate.verdict is Verdict.CERTIFIED, certificate.reason
    with pytest.raises(UnsupportedOperationError, match=message):
        gradient_error_bound(certificate, Relay(function), y, y)


def test_other_norms_and_theorems_are_refused() -> None:
    layer = Layer(torch.eye(2, dtype=torch.float64) / 2, "tanh", torch.eye(2, dtype=torch.float64))
    y = torch.zeros(1, 2, dtype=torch.float64)
    for norm in ("linf", "weighted_l2"):
        certificate = certify(layer, y, y, theorem="picard", norm=norm)
        with pytest.raises(InputError, match="norm"):
            gradient_error_bound(certificate, layer, y, y)
    monotone = certify(layer, y, y, theorem="monotone", norm="l2")
    with pytest.raises(InputError, match="proves no constant"):
        gradient_error_bound(monotone, layer, y, y)
    certificate = certify(layer, y, y, theorem="picard", norm="l2")
    with pytest.raises(InputError, match="terms"):
        gradient_error_bound(certificate, layer, y, y, terms=-1)
