"""`proofs/symbolic`: constants of `deqops.verify` against their derivations, outward rounding included."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from deqops.verify._global_slopes import GLOBAL_SLOPES
from deqops.verify._gradient_error import CURVATURES
from deqops.verify._one_sided import best_damping, damped_constant
from proofs.symbolic import attention, damping, errors, newton, slopes

CLOSE = 2e-7
"""Constants are rounded outwards in their seventh decimal."""
FAMILIES = set(GLOBAL_SLOPES)


def test_every_constant_has_a_derivation() -> None:
    assert set(slopes.EXACT_SLOPES) | set(slopes.BY_BALLS) == FAMILIES
    assert set(slopes.EXACT_CURVATURES) == set(CURVATURES)


@pytest.mark.parametrize("name", sorted(slopes.EXACT_SLOPES))
def test_slopes_hold_the_exact_extrema_and_are_tight(name: str) -> None:
    low, high = (sympy.Rational(*value.as_integer_ratio()) for value in GLOBAL_SLOPES[name])
    exact = slopes.EXACT_SLOPES[name]
    assert low <= exact.lower
    assert exact.upper <= high
    assert exact.lower - low < CLOSE
    assert high - exact.upper < CLOSE


@pytest.mark.parametrize("name", slopes.BY_BALLS)
def test_slopes_without_a_closed_form_hold_their_enclosed_extrema_and_are_tight(name: str) -> None:
    low, high = GLOBAL_SLOPES[name]
    infimum, supremum = slopes.slope_range(name)
    assert low <= float(infimum.lower())
    assert float(supremum.upper()) <= high
    assert float(infimum.upper()) - low < CLOSE
    assert high - float(supremum.lower()) < CLOSE


@pytest.mark.parametrize("name", slopes.BY_BALLS)
def test_the_tail_bound_holds_where_it_is_used(name: str) -> None:
    first, tail = (
        sympy.lambdify(slopes.x, e, "mpmath")
        for e in (sympy.diff(slopes.FUNCTIONS[name], slopes.x), slopes.tail_bound(name))
    )
    for distance in (slopes.REACH, slopes.REACH + 3):
        assert abs(first(distance) - 1) <= tail(distance)
        assert abs(first(-distance)) <= tail(distance)


@pytest.mark.parametrize("name", sorted(CURVATURES))
def test_curvatures_hold_the_exact_suprema_and_are_tight(name: str) -> None:
    used = sympy.Rational(CURVATURES[name].numerator, CURVATURES[name].denominator)
    exact = slopes.EXACT_CURVATURES[name]
    assert exact <= used
    assert used - exact < sympy.Rational(2, 10**12)


def test_polynomial_forms_are_the_derivatives() -> None:
    for name, (first, second) in (
        ("tanh", slopes.tanh_derivatives()),
        ("sigmoid", slopes.sigmoid_derivatives()),
    ):
        f = slopes.FUNCTIONS[name]
        assert sympy.simplify(sympy.diff(f, slopes.x) - first.subs(slopes.w, f)) == 0
        assert sympy.simplify(sympy.diff(f, slopes.x, 2) - second.subs(slopes.w, f)) == 0


CONSTANTS = st.tuples(st.fractions(-3, Fraction(99, 100)), st.fractions(0, 5)).map(
    lambda p: (p[0], max(p[1], abs(p[0])))
)


@given(CONSTANTS)
def test_t5_best_damping_is_the_derived_one_cut_off_at_one(pair: tuple[Fraction, Fraction]) -> None:
    mu, bound = (sympy.Rational(value.numerator, value.denominator) for value in pair)
    derived = sympy.Min(1, damping.best_damping().subs({damping.m: mu, damping.L: bound}))
    assert math.isclose(best_damping(float(mu), float(bound)), float(derived), rel_tol=1e-12)


@given(CONSTANTS, st.fractions(Fraction(1, 50), 1))
def test_t5_damped_constant_is_the_derived_one_rounded_up(pair: tuple[Fraction, Fraction], step: Fraction) -> None:
    mu, bound, b = (float(value) for value in (*pair, step))
    exact = [sympy.Rational(*value.as_integer_ratio()) for value in (mu, bound, b)]
    square = damping.damped_square().subs(dict(zip((damping.m, damping.L, damping.b), exact, strict=True)))
    found = damped_constant(mu, bound, b)
    assert sympy.Rational(*found.as_integer_ratio()) ** 2 >= square
    assert found <= float(sympy.sqrt(sympy.Max(square, 0)).evalf(30)) * (1 + 1e-9) + 1e-7


def test_t5_dampings_and_steps_are_those_of_the_theory() -> None:
    m, L = damping.m, damping.L
    assert sympy.simplify(damping.best_damping() - (1 - m) / (1 - 2 * m + L**2)) == 0
    assert sympy.simplify(damping.largest_damping() - 2 * (1 - m) / (1 - 2 * m + L**2)) == 0
    assert sympy.simplify(damping.best_step() - m / L**2) == 0
    assert sympy.simplify(damping.largest_step() - 2 * m / L**2) == 0
    damping.one_layer_slopes()


def test_t4_krasnoselskii_mann_identity() -> None:
    damping.krasnoselskii_mann_identity()


def test_t6_radii() -> None:
    assert sympy.simplify(newton.smallest_radius() - newton.Y / (1 - newton.Z)) == 0
    size = sympy.symbols("size", positive=True)
    assert sympy.simplify(newton.newton_factor() - size / (1 - newton.Z)) == 0
    h = newton.beta * newton.eta * newton.slope
    assert newton.kantorovich_radius() == 2 * newton.eta / (1 + sympy.sqrt(1 - 2 * h))


def test_t1_t3_t10_t14_error_constants() -> None:
    q = errors.q
    assert sympy.simplify(errors.residual_factor() - 1 / (1 - q)) == 0
    assert sympy.simplify(errors.a_priori_factor() - q**errors.n / (1 - q)) == 0
    assert errors.powers_factor(3) == 1 + errors.lipschitz + errors.lipschitz**2
    assert sympy.simplify(errors.perturbed_factor() - errors.delta / (1 - q)) == 0
    assert sympy.simplify(errors.sensitivity_factor() - sympy.symbols("L_x", positive=True) / (1 - q)) == 0
    assert sympy.simplify(errors.truncation_error() - q**errors.n * errors.input_norm / (1 - q)) == 0
    theory = (
        errors.input_curvature * errors.eps / (1 - q) + errors.curvature * errors.eps * errors.input_norm / (1 - q) ** 2
    )
    assert sympy.simplify(errors.evaluation_error() - theory) == 0


def test_softmax_and_normalisation_constants() -> None:
    assert attention.softmax_constant() == sympy.Rational(1, 2)
    assert attention.softmax_norm_at_two_equal_entries() == sympy.Rational(1, 2)
    attention.segment_mean_shift(3)
    across, along = attention.rms_jacobian_eigenvalues()
    assert sympy.simplify(along / across - 1).subs(dict.fromkeys(along.free_symbols, 1)) < 0  # eps s^2 < 1
    assert attention.normalisation_constant() == 1 / sympy.sqrt(sympy.symbols("eps", positive=True))
