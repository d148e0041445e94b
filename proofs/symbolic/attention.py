"""Jacobians of softmax and of normalisations: the constants that bound them."""

from __future__ import annotations

import sympy


def softmax_jacobian(size: int) -> tuple[sympy.Matrix, list[sympy.Symbol]]:
    """`diag(p) - p p^T`, derived from exp(z_i) / sum; and the symbols p."""
    z, p = sympy.symbols(f"z1:{size + 1}", real=True), sympy.symbols(f"p1:{size + 1}", positive=True)
    total = sum(sympy.exp(entry) for entry in z)
    values = sympy.Matrix([sympy.exp(entry) / total for entry in z])
    claimed = sympy.diag(*values) - values * values.T
    assert sympy.simplify(values.jacobian(z) - claimed) == sympy.zeros(size, size)
    probability = sympy.Matrix(p)
    return sympy.diag(*p) - probability * probability.T, list(p)


def softmax_row_sum(size: int) -> sympy.Expr:
    """`sum over j of |J_1j| = p_1 (1 - p_1) + p_1 (p_2 + ...) = 2 p_1 (1 - p_1)` on the simplex."""
    J, p = softmax_jacobian(size)
    moduli = J[0, 0] - sum(J[0, j] for j in range(1, size))  # the diagonal is positive, the rest negative
    found = sympy.expand(moduli.subs(p[-1], 1 - sum(p[:-1])))
    assert sympy.expand(found - 2 * p[0] * (1 - p[0])) == 0
    return 2 * p[0] * (1 - p[0])


def softmax_constant() -> sympy.Expr:
    """The largest row sum, and so a bound in l2 (J is symmetric), l1 and linf."""
    row = softmax_row_sum(3)
    (p,) = row.free_symbols
    return sympy.maximum(row, p, sympy.Interval(0, 1))


def softmax_norm_at_two_equal_entries() -> sympy.Expr:
    """It is attained in l2: at p = (1/2, 1/2) the eigenvalues are 0 and 1/2."""
    J, p = softmax_jacobian(2)
    return max(J.subs(dict.fromkeys(p, sympy.Rational(1, 2))).eigenvals())


def segment_mean_shift(size: int) -> None:
    """d(sum p_j v_j)/ds = p_j (v_j - mean): attention's dependence on its scores."""
    J, p = softmax_jacobian(size)
    v = sympy.Matrix(sympy.symbols(f"v1:{size + 1}", real=True))
    mean = sum(weight * value for weight, value in zip(p, v, strict=True))
    assert sympy.expand(J * v - sympy.Matrix([p[j] * (v[j] - mean) for j in range(size)])) == sympy.zeros(size, 1)


def rms_jacobian_eigenvalues() -> tuple[sympy.Expr, sympy.Expr]:
    """Of h = x / sqrt(|x|^2 / n + eps) with s = (v + eps)^(-1/2), v = |x|^2 / n: s across x, s^3 eps along it."""
    n, eps = sympy.symbols("n eps", positive=True)
    x = sympy.Matrix(sympy.symbols("x1:4", real=True))
    square = x.dot(x) / n
    h = x / sympy.sqrt(square + eps)
    J = h.jacobian(x)
    s = 1 / sympy.sqrt(square + eps)
    assert sympy.simplify(J - (s * sympy.eye(3) - s**3 * x * x.T / n)) == sympy.zeros(3, 3)
    across, along = s, s**3 * eps
    direction = sympy.Matrix([x[1], -x[0], 0])
    assert sympy.simplify(J * direction - across * direction) == sympy.zeros(3, 1)
    assert sympy.simplify(J * x - along * x) == sympy.zeros(3, 1)
    return across, along


def normalisation_constant() -> sympy.Expr:
    """The supremum over x of the larger eigenvalue: 1 / sqrt(eps), at x = 0."""
    eps, square = sympy.symbols("eps v", positive=True)
    larger = 1 / sympy.sqrt(square + eps)
    assert sympy.diff(larger, square).is_negative
    return sympy.limit(larger, square, 0)
