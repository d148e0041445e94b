"""Integral equations with known solutions: T7's bounds contain the true errors and are near them; T8 for Volterra."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
import torch
from flint import arb
from torch import Tensor

from deqops import InputError, OperatorEquation
from deqops.models import (
    KNOWN_EQUATIONS,
    Nystrom,
    collocation_compared,
    collocation_rule,
    fredholm_rule,
    nystrom_compared,
    volterra_rule,
)
from deqops.verify import Verdict, certify, check, quadrature

F64 = torch.float64
ROUNDED = 2e-15
"""Of the errors, which are measured in floats."""


@pytest.mark.parametrize("name", sorted(KNOWN_EQUATIONS))
def test_the_solutions_solve_their_equations(name: str) -> None:
    equation, rule = KNOWN_EQUATIONS[name], fredholm_rule("gauss3", 100)
    t = torch.linspace(0, 1, 7, dtype=F64)[:, None, None]
    values = equation.kernel(t, rule.nodes[:, None], equation.solution(rule.nodes[:, None]))  # (7, nodes, 1)
    image = equation.f(t[:, 0]) + equation.scale * (rule.weights[0] @ values)
    assert torch.allclose(image, equation.solution(t[:, 0]), atol=1e-14, rtol=0)


@pytest.mark.parametrize("name", sorted(KNOWN_EQUATIONS))
@pytest.mark.parametrize("rule", ["midpoint", "trapezoid", "gauss3"])
def test_t7_nystrom_is_within_its_bound_of_the_truth_and_near_it(name: str, rule: str) -> None:
    found = nystrom_compared(KNOWN_EQUATIONS[name], rule, 4)
    assert found.error <= found.bound + ROUNDED
    assert found.bound <= 16 * found.error + 1e-14
    assert found.rate <= 0.5 + 1e-9


def test_t7_bounds_fall_with_the_order_of_the_rule() -> None:
    equation = KNOWN_EQUATIONS["tanh"]
    for rule, order in (("midpoint", 2), ("gauss2", 4)):
        coarse, fine = (nystrom_compared(equation, rule, panels).bound for panels in (4, 16))
        assert math.log(coarse / fine, 4) == pytest.approx(order, abs=0.05)


@pytest.mark.parametrize("rule", ["midpoint", "trapezoid", "gauss2"])
def test_t7_contains_the_exact_error_in_rational_arithmetic(rule: str) -> None:
    """y_h(t) = t^2 + a t with `a = lambda sum w s y_h(s)`: sup |y_h - y*| = |a - 3/20|, the stored rule's exactly."""
    stored = quadrature(rule, 0.0, 1.0, 5)
    points = [(Fraction(s), Fraction(w)) for s, w in zip(stored.nodes.tolist(), stored.weights.tolist(), strict=True)]
    second, third = (sum((w * s**power for s, w in points), Fraction(0)) for power in (2, 3))
    a = third / 2 / (1 - second / 2)
    assert abs(a - Fraction(3, 20)) <= Fraction(nystrom_compared(KNOWN_EQUATIONS["linear"], rule, 5).bound)


@pytest.mark.parametrize("panels", [2, 8])
def test_t7_collocation_is_within_its_bound_of_the_truth_and_near_it(panels: int) -> None:
    found = collocation_compared(KNOWN_EQUATIONS["linear"], panels)
    assert found.error <= found.bound <= 1.6 * found.error


@pytest.mark.parametrize("name", sorted(KNOWN_EQUATIONS))
def test_the_suprema_are_not_exceeded(name: str) -> None:
    """On a grid of t, s and of all u that occur, derivatives by autograd."""
    equation = KNOWN_EQUATIONS[name]
    largest = {"linear": 4 / 3, "tanh": 1.05, "exponential": 1.75}[name]
    axes = torch.linspace(0, 1, 12, dtype=F64), torch.linspace(0, 1, 12, dtype=F64)
    t, s, u = torch.meshgrid(*axes, torch.linspace(-largest, largest, 13, dtype=F64), indexing="ij")
    t, s, u = (part.clone().requires_grad_() for part in (t, s, u))
    value = equation.kernel(t, s, u)
    first = [derivative(value, part) for part in (t, s, u)]
    found = [value, first[0], derivative(first[0], t), first[1], derivative(first[1], s), first[2]]
    found += [derivative(first[2], u), derivative(first[1], u)]
    for supremum, part in zip(equation.suprema, found, strict=True):
        assert float(part.detach().abs().max()) <= supremum + 1e-12
    place = torch.linspace(0, 1, 101, dtype=F64, requires_grad=True)
    slope = derivative(equation.f(place), place)
    curvature = derivative(slope, place)
    assert float(slope.detach().abs().max()) <= equation.f_slope
    assert float(curvature.detach().abs().max()) <= equation.f_curvature


def derivative(value: Tensor, variable: Tensor) -> Tensor:
    if not value.requires_grad:
        return torch.zeros_like(variable)
    (found,) = torch.autograd.grad(value.sum(), variable, create_graph=True, allow_unused=True)
    return torch.zeros_like(variable) if found is None else found


def test_derivatives_of_tanh_are_within_what_the_tanh_equation_says() -> None:
    """`m^p sup |tanh^(p)|`, m <= 1.05: polynomials in x = tanh, on a grid, and between by their coefficients."""
    step, polynomial = 1e-5, [0, 1]
    x = torch.arange(0, 1 + step, step, dtype=F64)
    for p in range(1, 7):
        slope = [k * c for k, c in enumerate(polynomial)][1:]
        polynomial = [a - b for a, b in zip([*slope, 0, 0], [0, 0, *slope], strict=True)]  # times 1 - x^2
        between = sum(k * abs(c) for k, c in enumerate(polynomial)) * step / 2
        size = float(sum(c * x**k for k, c in enumerate(polynomial)).abs().max())
        if p in (4, 6):
            assert size * 1.05**p / KNOWN_EQUATIONS["tanh"].smooth[p] > 0.97
            assert (size + between) * 1.05**p < KNOWN_EQUATIONS["tanh"].smooth[p]


def test_the_slope_of_the_tanh_equations_solutions_is_below_what_is_said() -> None:
    """|m| <= 1 - log(cosh 1)/2 + |m|/4."""
    assert (1 - arb(1).cosh().log() / 2) / (arb(3) / 4 - arb(1) / 1000) < arb("1.05")


def test_other_methods_are_refused() -> None:
    with pytest.raises(InputError, match="simpson"):
        nystrom_compared(KNOWN_EQUATIONS["tanh"], "simpson", 4)
    with pytest.raises(InputError, match="t s u"):
        collocation_compared(KNOWN_EQUATIONS["tanh"], 4)
    with pytest.raises(InputError, match="power of two"):
        collocation_compared(KNOWN_EQUATIONS["linear"], 6)
    with pytest.raises(InputError, match="simpson"):
        volterra_rule("simpson", 4)
    with pytest.raises(InputError, match="panels"):
        volterra_rule("rectangle", 0)


# ------------------------------------------------------------------------------------------------------------ rules


def test_a_broken_line_is_interpolated_between_its_points() -> None:
    rule = collocation_rule("gauss3", 4)
    assert rule.values is not None
    line = (rule.points - 0.5).abs()
    assert torch.allclose(rule.values @ line, (rule.nodes - 0.5).abs(), atol=1e-15)
    assert rule.weights.shape == (5, 12)


@pytest.mark.parametrize(("name", "order"), [("rectangle", 1), ("trapezoid", 2)])
def test_volterra_rules_integrate_up_to_each_point(name: str, order: int) -> None:
    """The exponential from 0 to t, and the order in which errors fall."""
    errors = []
    for panels in (8, 16):
        rule = volterra_rule(name, panels)
        errors.append(float((rule.weights @ rule.nodes.exp() - (rule.points.exp() - 1)).abs().max()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.06)


# --------------------------------------------------------------------------------------------------- Volterra, T8


def growth(name: str, panels: int) -> OperatorEquation:
    """y(t) = 1 + integral from 0 to t of y(s) ds, whose solution is e^t."""
    return OperatorEquation(Nystrom(lambda t, s, u: u, volterra_rule(name, panels)), torch.ones(1, dtype=F64))


def test_t8_strict_quadrature_is_final_after_as_many_sweeps_as_points() -> None:
    panels = 6
    G: Any = growth("rectangle", panels)
    state = torch.full((panels + 1, 1), 7.0, dtype=F64)
    truth = (1 + 1 / panels) ** torch.arange(panels + 1, dtype=F64)[:, None]  # Euler's method
    certificate = certify(G, state, theorem="causal", batch_dims=0)
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.depth == panels + 1
    assert check(certificate, G, state).accepted
    for sweep in range(1, panels + 2):
        state = G(state)
        assert torch.allclose(state[:sweep], truth[:sweep], rtol=1e-14)
        assert sweep > panels or not torch.allclose(state[sweep:], truth[sweep:])


def test_t8_is_not_claimed_of_implicit_quadrature() -> None:
    state = torch.zeros(7, 1, dtype=F64)
    assert certify(growth("trapezoid", 6), state, theorem="causal", batch_dims=0).verdict is Verdict.UNKNOWN
    assert certify(growth("trapezoid", 6), state, batch_dims=0).verdict is Verdict.CERTIFIED


def test_t8_volterra_sweeps_converge_faster_than_any_rate() -> None:
    """`||G^n y - G^n z|| <= (|lambda| kappa t)^n/n! ||y - z||` for lambda kappa = 3 > 1, in the sup norm."""
    operator = Nystrom(lambda t, s, u: 3 * torch.sin(u + t - s), volterra_rule("rectangle", 40))
    y, z = torch.zeros(41, 1, dtype=F64), torch.ones(41, 1, dtype=F64)
    for n in range(1, 12):
        y, z = operator(y), operator(z)
        assert float((y - z).abs().max()) <= 3**n / math.factorial(n)
    assert float((y - z).abs().max()) < 1e-2
