"""T1, T3, T7, T10, T14: error constants of contractions."""

from __future__ import annotations

import sympy

q, delta, lipschitz, eps = sympy.symbols("q delta L eps", positive=True)
n, k = sympy.symbols("n k", integer=True, nonnegative=True)
inner, curvature, input_norm, input_curvature = sympy.symbols("s l J_x l_x", positive=True)


def residual_factor() -> sympy.Expr:
    """T1: `|y - y*| <= |y - G(y)| + q |y - y*|` solved for the error of a unit residual."""
    error = sympy.symbols("error", positive=True)
    (found,) = sympy.solve(sympy.Eq(error, 1 + q * error), error)
    return sympy.simplify(found)


def a_priori_factor() -> sympy.Expr:
    """T1: the steps from the n-th on, q^n + q^(n+1) + ..., for a unit first step."""
    total = sympy.summation(q**k, (k, n, sympy.oo))
    return sympy.simplify(total.args[0].expr if isinstance(total, sympy.Piecewise) else total)


def powers_factor(m: int) -> sympy.Expr:
    """T1, powers: `|G^m(y) - y| <= (1 + L + ... + L^(m-1)) |G(y) - y|`."""
    return sympy.expand(sum(lipschitz**j for j in range(m)))


def perturbed_factor() -> sympy.Expr:
    """T3: the errors' recursion e <- q e + delta has the fixed point delta / (1 - q)."""
    error = sympy.symbols("error", positive=True)
    (found,) = sympy.solve(sympy.Eq(error, q * error + delta), error)
    return sympy.simplify(found)


def sensitivity_factor() -> sympy.Expr:
    """T10: `|y* - y*'| <= q |y* - y*'| + L_x |x - x'|`, per unit of the input."""
    moved, slope = sympy.symbols("moved L_x", positive=True)
    (found,) = sympy.solve(sympy.Eq(moved, q * moved + slope), moved)
    return sympy.simplify(found)


def truncation_error() -> sympy.Expr:
    """T14: what n Neumann terms leave out, `sum over j >= n of q^j |J_x|`."""
    return sympy.simplify(a_priori_factor() * input_norm)


def evaluation_error() -> sympy.Expr:
    """T14: (I - J)^-1 J_x at y instead of y*: `A^-1 B - A*^-1 B* = A^-1 (B - B*) + A^-1 (A* - A) A*^-1 B*`.

    |A^-1|, |A*^-1| <= 1 / (1 - q), |B - B*| <= l_x eps, |A* - A| <= l eps.
    """
    A, A_star = sympy.symbols("A A_star", commutative=False)
    B, B_star = sympy.symbols("B B_star", commutative=False)
    identity = A**-1 * (B - B_star) + A**-1 * (A_star - A) * A_star**-1 * B_star
    assert sympy.expand(identity - (A**-1 * B - A_star**-1 * B_star)) == 0
    bound = 1 / (1 - q)
    return bound * input_curvature * eps + bound * curvature * eps * bound * input_norm
