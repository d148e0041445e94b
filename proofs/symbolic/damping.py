"""T4 and T5: constants of damped and split iterations, and the dampings that make them smallest."""

from __future__ import annotations

import sympy

b, m, L, q, a = sympy.symbols("b m L q a", real=True)


def damped_square() -> sympy.Expr:
    """T5 (a): the square of the damped map's constant.

    `||(1-b) u + b v||^2 = (1-b)^2 |u|^2 + 2 b (1-b) <u, v> + b^2 |v|^2` with |u| = 1, <u, v> <= m, |v| <= L; b (1-b) is
    not negative for 0 <= b <= 1 only.
    """
    u, v = sympy.Matrix(sympy.symbols("u1:3", real=True)), sympy.Matrix(sympy.symbols("v1:3", real=True))
    mixed = (1 - b) * u + b * v
    expanded = (1 - b) ** 2 * u.dot(u) + 2 * b * (1 - b) * u.dot(v) + b**2 * v.dot(v)
    assert sympy.expand(mixed.dot(mixed) - expanded) == 0
    return (1 - b) ** 2 + 2 * b * (1 - b) * m + b**2 * L**2


def best_damping() -> sympy.Expr:
    """The b at which it is smallest, before it is cut off at 1: its derivative vanishes; it is convex for L >= |m|."""
    square = damped_square()
    (found,) = sympy.solve(sympy.diff(square, b), b)
    assert sympy.expand(sympy.diff(square, b, 2) - 2 * (1 - 2 * m + L**2)) == 0  # >= 2 (1 - m)^2 > 0 where L >= |m|
    assert sympy.expand((1 - 2 * m + L**2) - (1 - m) ** 2 - (L**2 - m**2)) == 0
    return sympy.simplify(found)


def largest_damping() -> sympy.Expr:
    """The b > 0 at which the constant is 1: below it, the damped map contracts."""
    roots = sympy.solve(sympy.Eq(damped_square(), 1), b)
    (found,) = [root for root in roots if root != 0]
    return sympy.simplify(found)


def forward_backward_square() -> sympy.Expr:
    """T5 (c): `||u - a F u||^2 = 1 - 2 a <F u, u> + a^2 |F u|^2 <= 1 - 2 a m + a^2 L^2` for |u| = 1."""
    return 1 - 2 * a * m + a**2 * L**2


def best_step() -> sympy.Expr:
    """The a at which it is smallest."""
    (found,) = sympy.solve(sympy.diff(forward_backward_square(), a), a)
    return found


def largest_step() -> sympy.Expr:
    """The a > 0 at which it is 1."""
    (found,) = [root for root in sympy.solve(sympy.Eq(forward_backward_square(), 1), a) if root != 0]
    return found


def krasnoselskii_mann_identity() -> None:
    """T4: `|(1-b) u + b v|^2 = (1-b) |u|^2 + b |v|^2 - b (1-b) |u - v|^2`, u = y_n - y*, v = G(y_n) - y*.

    With |v| <= |u| the squares |y_n - y*|^2 fall by b (1-b) |G(y_n) - y_n|^2 a step, so that n+1 residuals, which never
    grow, sum to at most |y_0 - y*|^2 / (b (1-b)).
    """
    u, v = sympy.Matrix(sympy.symbols("u1:3", real=True)), sympy.Matrix(sympy.symbols("v1:3", real=True))
    left = ((1 - b) * u + b * v).dot((1 - b) * u + b * v)
    right = (1 - b) * u.dot(u) + b * v.dot(v) - b * (1 - b) * (u - v).dot(u - v)
    assert sympy.expand(left - right) == 0


def one_layer_slopes() -> None:
    """T5 (a) for one layer: `x S V x <= c x V x + h |x| |V x| <= c x V x + h/2 (t |x|^2 + |V x|^2 / t)`.

    The second step is `2 |x| |Vx| <= t |x|^2 + |Vx|^2 / t`, a square; c and h are the slopes' middle and half width.
    """
    t, r, s = sympy.symbols("t r s", positive=True)
    assert sympy.simplify(t * r**2 + s**2 / t - 2 * r * s - (sympy.sqrt(t) * r - s / sympy.sqrt(t)) ** 2) == 0
