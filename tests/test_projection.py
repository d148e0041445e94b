"""T7 `projection`: projected and Nystrom solutions are within the bound of the true ones, in exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import mpmath
import pytest
import sympy
import torch
from flint import arb, ctx
from hypothesis import assume, given
from hypothesis import strategies as st

from deqops.verify import InputError, KernelBounds, kernel_defect, nystrom_bound, projection_bound, quadrature
from deqops.verify._projection import Quadrature

ctx.prec = 300
mpmath.mp.dps = 40
RULES = ("midpoint", "trapezoid", "gauss2", "gauss3")


def applied(rule: Quadrature, g: object) -> Fraction:
    """The stored rule applied to a rational function, exactly."""
    total = Fraction(0)
    for node, weight in zip(rule.nodes.tolist(), rule.weights.tolist(), strict=True):
        total += Fraction(weight) * g(Fraction(node))  # type: ignore[operator]
    return total


# -------------------------------------------------------------------------------------------------- projections

small = st.integers(-8, 8).map(lambda n: Fraction(n, 32))


@given(st.lists(small, min_size=16, max_size=16), st.lists(st.integers(-4, 4), min_size=4, max_size=4))
def test_the_projected_solution_is_within_the_bound(entries: list[Fraction], f: list[int]) -> None:
    """T7 `projection` in l-infinity on R^4, P averaging neighbours (||P|| = 1), every number rational."""
    W = sympy.Matrix(4, 4, [sympy.Rational(e.numerator, e.denominator) for e in entries])
    rate = max(sum(abs(Fraction(int(v.p), int(v.q))) for v in W.row(i)) for i in range(4))
    assume(rate <= Fraction(9, 10))
    half = sympy.Rational(1, 2)
    P = sympy.Matrix([[half, half, 0, 0], [half, half, 0, 0], [0, 0, half, half], [0, 0, half, half]])
    b, eye = sympy.Matrix(f), sympy.eye(4)
    star, projected = (eye - W).LUsolve(b), (eye - P * W).LUsolve(P * b)
    distance = max(abs(v) for v in star - P * star)
    found = projection_bound(_up(rate), 1.0, _up(Fraction(int(distance.p), int(distance.q))))
    error = max(abs(v) for v in projected - star)
    assert Fraction(int(error.p), int(error.q)) <= Fraction(float(found))
    assert all(h.holds for h in found.hypotheses)


def _up(value: Fraction) -> float:
    nearest = float(value)
    return nearest if Fraction(nearest) >= value else float(mpmath.mpf(nearest) * (1 + 2**-51))


def test_the_projection_bound_is_attained() -> None:
    """T7 is an equality in l-infinity for T = [[1, 0], [1, 0]] / 4, P = [[1, 1], [0, 0]], f = (0, 1)."""
    T, P = sympy.Matrix([[1, 0], [1, 0]]) / 4, sympy.Matrix([[1, 1], [0, 0]])
    f, eye = sympy.Matrix([0, 1]), sympy.eye(2)
    star, projected = (eye - T).LUsolve(f), (eye - P * T).LUsolve(P * f)
    assert P * P == P
    assert max(abs(v) for v in star - P * star) == 1
    assert max(abs(v) for v in projected - star) == 2
    assert 2 <= projection_bound(0.25, 2.0, 1.0).error <= 2 * (1 + 1e-15)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((0.5, 2.0, 1.0), "rate"),
        ((float("nan"), 1.0, 1.0), "rate"),
        ((-0.5, 1.0, 1.0), "rate"),
        ((0.5, float("inf"), 1.0), "projection_norm"),
        ((0.5, 1.0, -1.0), "distance"),
    ],
)
def test_projection_hypotheses_are_required(arguments: tuple[float, float, float], name: str) -> None:
    with pytest.raises(InputError, match=name):
        projection_bound(*arguments)


# --------------------------------------------------------------------------------------------------- quadrature


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(("a", "b", "panels"), [(0.0, 1.0, 1), (0.0, 1.0, 10), (-0.3, 2.7, 7)])
def test_nodes_and_weights_are_those_of_the_rule(name: str, a: float, b: float, panels: int) -> None:
    """Against Legendre's roots in ball arithmetic."""
    rule = quadrature(name, a, b, panels)
    points = {
        "midpoint": [(arb(0), arb(2))],
        "trapezoid": [(arb(-1), arb(1)), (arb(1), arb(1))],
        "gauss2": [arb.legendre_p_root(2, k, weight=True) for k in (1, 0)],
        "gauss3": [arb.legendre_p_root(3, k, weight=True) for k in (2, 1, 0)],
    }[name]
    h = (arb(b) - arb(a)) / panels
    exact: list[tuple[arb, arb]] = []
    for j in range(panels):
        for number, (point, weight) in enumerate(points):
            node, share = arb(a) + h * (j + (1 + point) / 2), h * weight / 2
            if name == "trapezoid" and j and number == 0:
                exact[-1] = (exact[-1][0], exact[-1][1] + share)
            else:
                exact.append((node, share))
    stored = list(zip(rule.nodes.tolist(), rule.weights.tolist(), strict=True))
    assert len(stored) == len(exact)
    for (x, w), (node, weight) in zip(stored, exact, strict=True):
        assert a <= x <= b
        assert abs(arb(x) - node) <= arb(rule.node_error) + arb(2) ** -280
        assert abs(arb(w) - weight) <= arb(rule.weight_error) + arb(2) ** -280
    missed = sum((abs(arb(w) - weight) for (_, w), (_, weight) in zip(stored, exact, strict=True)), arb(0))
    assert missed <= arb(rule.weight_error) + arb(2) ** -270
    assert rule.node_error <= 2.0**-52 * max(abs(a), abs(b))
    assert sum(Fraction(w) for _, w in stored) <= Fraction(rule.weight_sum)


@given(st.sampled_from(RULES), st.lists(st.integers(-5, 5), min_size=1, max_size=9), st.integers(1, 12))
def test_the_defect_of_polynomials_is_within_the_bound(name: str, coefficients: list[int], panels: int) -> None:
    """T7 `projection`: on [0, 1] with bounds of the derivatives by sums of moduli, in rational arithmetic."""
    rule = quadrature(name, 0.0, 1.0, panels)
    s = sympy.symbols("s")
    g = sympy.Poly(sum(c * s**k for k, c in enumerate(coefficients)), s)
    truth = Fraction(str(sympy.integrate(g.as_expr(), (s, 0, 1))))
    value = applied(rule, lambda x: sum((c * x**k for k, c in enumerate(coefficients)), Fraction(0)))
    sizes = [float(sum(abs(int(c)) for c in sympy.Poly(g.diff((s, order)), s).all_coeffs())) for order in (0, 1)]
    sizes.append(float(sum(abs(int(c)) for c in sympy.Poly(g.diff((s, rule.order)), s).all_coeffs())))
    bound = rule.defect_bound(sizes[2], slope=sizes[1], size=sizes[0])
    assert abs(value - truth) <= Fraction(bound)
    if name in ("midpoint", "trapezoid"):
        assert abs(value - truth) <= Fraction(rule.defect_bound(slope=sizes[1], size=sizes[0]))


@pytest.mark.parametrize("name", RULES)
def test_the_error_constants_are_attained(name: str) -> None:
    """s^p has a constant p-th derivative p!: the defect equals the bound, up to the rounded nodes."""
    for panels in (1, 3):
        rule = quadrature(name, 0.0, 1.0, panels)
        p = rule.order
        truth = abs(applied(rule, lambda x, p=p: x**p) - Fraction(1, p + 1))
        factorial = float(sympy.factorial(p))
        bound = rule.defect_bound(factorial, slope=float(p), size=1.0)
        assert truth <= Fraction(bound) <= truth * Fraction(10001, 10000) + Fraction(1, 10**15)


def test_the_lipschitz_constants_are_attained() -> None:
    """A sawtooth that is extreme at the nodes: (b - a) h/4 for the midpoint and the trapezoid rule."""
    for name in ("midpoint", "trapezoid"):
        rule = quadrature(name, 0.0, 1.0, 4)
        nodes = [Fraction(x) for x in rule.nodes.tolist()]
        value = applied(rule, lambda x, nodes=nodes: min(abs(x - n) for n in nodes))
        assert value == 0  # the true integral of the distance to the nearest node is h/4 = 1/16
        assert rule.defect_bound(slope=1.0) == 1 / 16


def test_bounds_that_are_needed_are_asked_for() -> None:
    rule = quadrature("midpoint", 0.0, 1.0, 10)
    with pytest.raises(InputError, match="derivative or slope"):
        rule.defect_bound()
    with pytest.raises(InputError, match="slope"):
        rule.defect_bound(1.0, size=1.0)
    with pytest.raises(InputError, match="size"):
        rule.defect_bound(1.0, slope=1.0)
    with pytest.raises(InputError, match="derivative: a bound"):
        quadrature("gauss2", 0.0, 1.0, 2).defect_bound(slope=1.0, size=1.0)
    for arguments in (("simpson", 0.0, 1.0, 2), ("midpoint", 1.0, 0.0, 2), ("midpoint", 0.0, 1.0, 0)):
        with pytest.raises(InputError):
            quadrature(*arguments)
    with pytest.raises(InputError, match="derivative"):
        rule.defect_bound(float("nan"), slope=1.0, size=1.0)


# ------------------------------------------------------------------------------------------------------- Nystrom


def test_the_linear_example_is_solved_by_its_formula() -> None:
    """y(t) = t + lambda * integral of t s y(s) over [0, 1] has y* = 3 t / (3 - lambda)."""
    t, s, lam = sympy.symbols("t s lambda")
    y = 3 * t / (3 - lam)
    assert sympy.simplify(t + lam * sympy.integrate(t * s * y.subs(t, s), (s, 0, 1)) - y) == 0


@given(st.sampled_from(RULES), st.integers(1, 20), st.integers(-7, 7).filter(bool).map(lambda n: Fraction(n, 8)))
def test_nystrom_is_within_the_bound_over_the_continuum(name: str, panels: int, lam: Fraction) -> None:
    """T7 `projection`: K = t s u, f = t, all rational: sup over [0, 1] of |y_h - y*| = |slope of y_h - slope of y*|."""
    rule = quadrature(name, 0.0, 1.0, panels)
    moment = applied(rule, lambda x: x * x)
    slope = 1 / (1 - lam * moment)  # y_h(t) = slope * t solves y_h = t + lambda sum w t s y_h(s)
    size = _up(abs(slope))
    # g_t(s) = t s y_h(s) = t slope s^2
    derivative = 2 * size * (1 + 2.0**-50) if rule.order == 2 else 0.0
    defect = rule.defect_bound(derivative, slope=2 * size * (1 + 2.0**-50), size=size)
    found = nystrom_bound(rule, float(lam), 1.0, defect)
    truth = abs(slope - 1 / (1 - lam / 3))
    assert truth <= Fraction(found.error)
    assert found.error <= 12 * float(truth) + 1e-12 * (1 if rule.order == 2 else 10)


def test_approximate_node_values_are_taken_in() -> None:
    """Y_j off by rho: y_h made of them is no solution, and still within the bound."""
    rule, lam, rho = quadrature("trapezoid", 0.0, 1.0, 8), Fraction(1, 2), Fraction(1, 64)
    nodes = [Fraction(x) for x in rule.nodes.tolist()]
    weights = [Fraction(w) for w in rule.weights.tolist()]
    Y = [x / (1 - lam / 3) + (-1) ** j * rho for j, x in enumerate(nodes)]
    slope = 1 + lam * sum(w * x * v for w, x, v in zip(weights, nodes, Y, strict=True))
    off = max(abs(slope * x - v) for x, v in zip(nodes, Y, strict=True))
    defect = rule.defect_bound(2 * _up(slope), slope=2 * _up(slope), size=_up(slope))
    found = nystrom_bound(rule, 0.5, 1.0, defect, _up(off))
    truth = abs(slope - 1 / (1 - lam / 3))
    assert truth <= Fraction(found.error)
    assert found.error > nystrom_bound(rule, 0.5, 1.0, defect).error


@pytest.mark.parametrize("name", ["midpoint", "trapezoid"])
@pytest.mark.parametrize("panels", [2, 8, 32])
@pytest.mark.parametrize("lam", [-0.75, 0.5])
def test_a_nonlinear_kernel(name: str, panels: int, lam: float) -> None:
    """K = t s sin u, f = t: y* = alpha t with alpha = 1 + lambda * integral of s sin(alpha s); kappa = 1."""
    rule = quadrature(name, 0.0, 1.0, panels)
    alpha = mpmath.mpf(1)
    for _ in range(120):
        # the integral of s sin(alpha s) over [0, 1]
        alpha = 1 + mpmath.mpf(lam) * (mpmath.sin(alpha) / alpha**2 - mpmath.cos(alpha) / alpha)
    nodes = [mpmath.mpf(x) for x in rule.nodes.tolist()]
    weights = [mpmath.mpf(w) for w in rule.weights.tolist()]
    slope = mpmath.mpf(1)
    for _ in range(120):
        slope = 1 + mpmath.mpf(lam) * mpmath.fsum(
            w * x * mpmath.sin(slope * x) for w, x in zip(weights, nodes, strict=True)
        )
    # On [0, 1]: K_t = s sin u, K_s = t sin u, K_u = t s cos u, K_uu = -t s sin u, K_su = t cos u; K_tt = K_ss = 0.
    kernel = KernelBounds(size=1.0, t=1.0, tt=0.0, s=1.0, ss=0.0, u=1.0, uu=1.0, su=1.0)
    found = nystrom_bound(rule, lam, 1.0, kernel_defect(rule, lam, kernel, 1.0, 0.0))
    truth = abs(slope - alpha)
    assert truth <= mpmath.mpf(found.error)
    assert found.error <= 200 * float(truth) + 1e-14


def test_kernel_defect_follows_the_chain_rule() -> None:
    """g'' = K_ss + 2 K_su y' + K_uu y'^2 + K_u y'' with |y'| <= F + L K_t: by hand for one rule."""
    rule = quadrature("midpoint", 0.0, 1.0, 1)
    kernel = KernelBounds(size=0.0, t=2.0, tt=3.0, s=0.0, ss=5.0, u=7.0, uu=11.0, su=13.0)
    first, second = 1.0 + 0.5 * 2.0, 4.0 + 0.5 * 3.0
    expected = (5.0 + 2 * 13.0 * first + 11.0 * first**2 + 7.0 * second) / 24
    lipschitz = 7.0 * first / 4
    assert kernel_defect(rule, -0.5, kernel, 1.0, 4.0) == pytest.approx(min(expected, lipschitz), rel=1e-12)
    with pytest.raises(InputError, match="rule"):
        kernel_defect(quadrature("gauss2", 0.0, 1.0, 1), 1.0, kernel, 1.0, 1.0)
    with pytest.raises(InputError, match="uu"):
        KernelBounds(size=0.0, t=2.0, tt=3.0, s=0.0, ss=5.0, u=7.0, uu=-1.0, su=13.0)


def test_nystrom_hypotheses_are_required() -> None:
    rule = quadrature("midpoint", 0.0, 2.0, 4)
    with pytest.raises(InputError, match="q = "):
        nystrom_bound(rule, 0.5, 1.0, 0.1)
    with pytest.raises(InputError, match="defect"):
        nystrom_bound(rule, 0.25, 1.0, float("nan"))
    with pytest.raises(InputError, match="node_residual"):
        nystrom_bound(rule, 0.25, 1.0, 0.1, -1.0)
    with pytest.raises(InputError, match="scale"):
        nystrom_bound(rule, float("inf"), 1.0, 0.1)


def test_numbers_that_are_no_floats_are_rounded_upwards() -> None:
    """2^53 + 1 and 1/3 lie above the floats nearest to them."""
    large, third = 2**53 + 1, Fraction(1, 3)
    assert Fraction(projection_bound(0.0, 1.0, large).error) >= large
    assert Fraction(projection_bound(0.0, 1.0, third).error) >= third
    assert Fraction(projection_bound(third, 1.0, 1.0).rate) >= third
    rule = quadrature("midpoint", 0.0, 1.0, 1)
    assert Fraction(rule.defect_bound(large)) >= Fraction(large, 24)
    for scale in (large, -large, torch.tensor(-large)):
        assert Fraction(nystrom_bound(rule, scale, 0.0, 1.0).error) >= large
    kernel = KernelBounds(large, 0, 0, large, large, 0, 0, 0)
    assert Fraction(kernel.size) >= large
    assert Fraction(kernel_defect(rule, Fraction(-1, 3), kernel, 0, 0)) >= Fraction(large, 24)


@pytest.mark.parametrize("ends", [(0, Fraction(1, 3)), (-Fraction(1, 3), 1), (0, 2**53 + 1), (-1.7e308, 1.7e308)])
def test_ends_that_are_no_floats_or_too_far_apart_are_refused(ends: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="a, b: got"):
        quadrature("midpoint", *ends, 2)
    assert quadrature("gauss2", Fraction(1, 4), torch.tensor(2), 2).a == 0.25


def test_what_overflows_bounds_nothing() -> None:
    rule = quadrature("midpoint", 0.0, 1e300, 1)
    assert rule.defect_bound(1.0, slope=1.0) == float("inf")
    assert rule.defect_bound(0.0) == 0
