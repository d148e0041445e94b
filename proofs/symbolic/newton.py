"""T6: radii of Newton-Kantorovich balls."""

from __future__ import annotations

import sympy

Y, Z, r, t = sympy.symbols("Y Z r t", nonnegative=True)
beta, eta, slope = sympy.symbols("beta eta l", positive=True)


def smallest_radius() -> sympy.Expr:
    """The least r with `Y + Z r <= r`, Z < 1."""
    (found,) = sympy.solve(sympy.Eq(Y + Z * r, r), r)
    return found


def kantorovich_radius() -> sympy.Expr:
    """t*, the smaller root of the majorant `(beta l / 2) t^2 - t + eta`, written without cancellation.

    Returns:
        sympy.Expr: `2 eta / (1 + sqrt(1 - 2h))`, h = beta eta l.
    """
    h = beta * eta * slope
    found = 2 * eta / (1 + sympy.sqrt(1 - 2 * h))
    majorant = beta * slope / 2 * t**2 - t + eta
    assert sympy.simplify(sympy.radsimp(majorant.subs(t, (1 - sympy.sqrt(1 - 2 * h)) / (beta * slope)))) == 0
    assert sympy.simplify(sympy.radsimp(found - (1 - sympy.sqrt(1 - 2 * h)) / (beta * slope))) == 0
    return found


def newton_factor() -> sympy.Expr:
    """kappa of `|y - y*| <= kappa |F(y)|`, |A| = size: y - y* = (I - A M)(y - y*) + A F(y)."""
    size, error, gap = sympy.symbols("size error gap", positive=True)
    (found,) = sympy.solve(sympy.Eq(error, Z * error + size * gap), error)
    return sympy.simplify(found / gap)
