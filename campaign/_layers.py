"""Layers `G(z) = A z + Q s(W z + c) + d` with rational parts, of which everything that certificates claim is known."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from flint import arb, ctx, fmpq, fmpq_mat

from ._exact import Rational, RationalMatrix, diagonal, identity, power, vector_power

PRECISION = 300
ORDERS = ("l1", "l2", "linf")


@dataclass(frozen=True)
class Activation:
    """An elementwise function with the closure of its slopes.

    Attributes:
        name: in torch.
        lower: the least slope; for GELU a number just inside.
        upper: the largest slope; for GELU a number just inside.
        outer: [lower, upper], rounded outwards.
        kinked: linear on either side of 0 with slopes `lower` and `upper`.
        value: the function of a ball, where it is not kinked.
    """

    name: str
    lower: Rational
    upper: Rational
    outer: tuple[Rational, Rational]
    kinked: bool = False
    value: Callable[[Any], Any] | None = None

    def __call__(self, x: Any) -> Any:
        """The value of a rational (kinked) or a ball."""
        if self.value is not None:
            return self.value(x)
        return x * (self.upper if x >= 0 else self.lower)


def _between(name: str, lower: Rational, upper: Rational, value: Callable[[Any], Any] | None) -> Activation:
    return Activation(name, lower, upper, (lower, upper), value is None, value)


def _gelu(x: Any) -> Any:
    return x / 2 * (1 + (x / arb(2).sqrt()).erf())


def _gelu_activation() -> Activation:
    """Slopes between those at -+sqrt(2), where the second derivative is 0: `1/2 -+ (erf(1)/2 + e^-1/sqrt(pi))`."""
    before, ctx.prec = ctx.prec, PRECISION
    try:
        reach = arb(1).erf() / 2 + arb(-1).exp() / arb.pi().sqrt()
        whole = (reach * 2**100).floor().unique_fmpz()
    finally:
        ctx.prec = before
    if whole is None:
        raise ArithmeticError("the slope's digits are not decided at this precision")
    digits, half, step = fmpq(whole, 2**100), fmpq(1, 2), fmpq(1, 2**99)
    outer = (half - digits - step, half + digits + step)
    return Activation("gelu", half - digits, half + digits, outer, value=_gelu)


ZERO, ONE = fmpq(0), fmpq(1)
ACTIVATIONS: dict[str, Activation] = {
    "relu": _between("relu", ZERO, ONE, None),
    "leaky_relu": _between("leaky_relu", fmpq(1, 8), ONE, None),
    "abs": _between("abs", -ONE, ONE, None),
    "tanh": _between("tanh", ZERO, ONE, lambda x: x.tanh()),
    "sigmoid": _between("sigmoid", ZERO, fmpq(1, 4), lambda x: 1 / (1 + (-x).exp())),
    "softplus": _between("softplus", ZERO, ONE, lambda x: x.exp().log1p()),
    "gelu": _gelu_activation(),
}


@dataclass(frozen=True, eq=False)
class Layer:
    """The operator on one problem's flattened state.

    Attributes:
        A: (n, n), or None.
        Q: (n, m), or None for a linear layer.
        W: (m, n).
        c: m numbers.
        d: n numbers.
        activation: s; None for a linear layer.
        every_c: whether a statement is meant for every c (and d), not only this one.
    """

    A: RationalMatrix
    Q: RationalMatrix | None
    W: RationalMatrix | None
    c: tuple[Rational, ...]
    d: tuple[Rational, ...]
    activation: Activation | None
    every_c: bool = False

    @property
    def size(self) -> int:
        """Unknowns."""
        return int(self.A.nrows())

    def derivative(self, slopes: Sequence[Rational]) -> RationalMatrix:
        """`A + Q diag(slopes) W`."""
        return self.A if self.Q is None else self.A + self.Q * diagonal(slopes) * self.W

    @cached_property
    def outer(self) -> list[RationalMatrix]:
        """Matrices in whose convex hull every difference quotient of G lies."""
        if self.activation is None or self.Q is None:
            return [self.A]
        ends = self.activation.outer
        return [self.derivative(s) for s in itertools.product(ends, repeat=self.Q.ncols())]

    @cached_property
    def reached(self) -> list[RationalMatrix]:
        """Limits of difference quotients of G: no Lipschitz constant is below the norm of any of them."""
        if self.activation is None or self.Q is None:
            return [self.A]
        if self.every_c or self._free():
            ends = (self.activation.lower, self.activation.upper)
            return [self.derivative(s) for s in itertools.product(ends, repeat=self.Q.ncols())]
        zero = [fmpq(0)] * self.size
        return [matrix for matrix in [self.at(zero)] if matrix is not None]

    def _free(self) -> bool:
        """Whether the pre-activations take every value."""
        return self.W is not None and self.W.nrows() <= self.W.ncols() and self.W.rank() == self.W.nrows()

    def at(self, z: Sequence[Rational]) -> RationalMatrix | None:
        """The derivative at a point; None where it is not one of the simple ones."""
        if self.activation is None:
            return self.A
        before = self.before(z)
        if self.activation.kinked:
            if any(v == 0 for v in before):
                return None
            return self.derivative([self.activation.upper if v > 0 else self.activation.lower for v in before])
        if self.activation.name in ("tanh",) and all(v == 0 for v in before):
            return self.derivative([fmpq(1)] * len(before))
        return None

    def before(self, z: Sequence[Rational]) -> list[Rational]:
        """`W z + c`."""
        image = _times(self.W, z)
        return [v + c for v, c in zip(image, self.c, strict=True)]

    def __call__(self, z: Sequence[Rational]) -> list[Any]:
        """G(z): rationals for linear and kinked layers, balls otherwise."""
        total = [v + d for v, d in zip(_times(self.A, z), self.d, strict=True)]
        if self.activation is None or self.Q is None:
            return total
        before = self.before(z)
        if self.activation.kinked:
            inner = [self.activation(v) for v in before]
            return [t + v for t, v in zip(total, _times(self.Q, inner), strict=True)]
        inner = [self.activation(arb(v)) for v in before]
        rows = self.Q.tolist()
        sums = [sum((arb(q) * v for q, v in zip(row, inner, strict=True)), arb(0)) for row in rows]
        return [arb(t) + v for t, v in zip(total, sums, strict=True)]

    def equilibria(self) -> list[list[Rational]] | None:
        """All of them; None where that is not known (smooth activations, a piece on which I - M is singular)."""
        if self.activation is None:
            return self._solved([], self.A)
        if not self.activation.kinked or self.Q is None or self.Q.ncols() > 6:
            return None
        found: list[list[Rational]] = []
        ends = (self.activation.lower, self.activation.upper)
        for slopes in itertools.product(ends, repeat=self.Q.ncols()):
            solutions = self._solved(slopes, self.derivative(slopes))
            if solutions is None:
                return None
            found += [z for z in solutions if self._on_piece(z, slopes) and z not in found]
        return found

    def _on_piece(self, z: Sequence[Rational], slopes: Sequence[Rational]) -> bool:
        if self.activation is None:
            return True
        pairs = zip(self.before(z), slopes, strict=True)
        return all(v >= 0 if slope == self.activation.upper else v <= 0 for v, slope in pairs)

    def _solved(self, slopes: Sequence[Rational], matrix: RationalMatrix) -> list[list[Rational]] | None:
        """The solution on one piece, or None where there may be none or many."""
        system = identity(self.size) - matrix
        if system.det() == 0:
            return None
        constant = list(self.d)
        if self.Q is not None:
            sloped = [s * c for s, c in zip(slopes, self.c, strict=True)]
            constant = [a + b for a, b in zip(constant, _times(self.Q, sloped), strict=True)]
        solution = system.solve(fmpq_mat(self.size, 1, constant))
        return [[solution[i, 0] for i in range(self.size)]]


def _times(matrix: RationalMatrix, vector: Sequence[Rational]) -> list[Rational]:
    product = matrix * fmpq_mat(len(vector), 1, list(vector))
    return [product[i, 0] for i in range(matrix.nrows())]


def conjugated(matrix: RationalMatrix, weights: Sequence[Rational] | None) -> RationalMatrix:
    """`D M D^-1`."""
    if weights is None:
        return matrix
    return diagonal(weights) * matrix * diagonal([1 / w for w in weights])


def distance(first: Sequence[Any], second: Sequence[Any], order: str, weights: Sequence[Rational] | None) -> Any:
    """The weighted distance of two points, squared for l2; a ball where one of them has balls."""
    balls = any(isinstance(v, arb) for v in (*first, *second))
    gaps = [arb(a) - arb(b) if balls else a - b for a, b in zip(first, second, strict=True)]
    if weights is not None:
        gaps = [(arb(w) if balls else w) * g for w, g in zip(weights, gaps, strict=True)]
    return vector_power(gaps, order)


def limit(value: Rational, order: str) -> Rational:
    """A number to compare `distance` with."""
    return power(value, order)


def damped(matrix: RationalMatrix, b: Rational) -> RationalMatrix:
    """`(1 - b) I + b M`."""
    return identity(matrix.nrows()) * (1 - b) + matrix * b


def signs(size: int) -> Iterator[tuple[int, ...]]:
    """Every vector of signs."""
    return itertools.product((-1, 1), repeat=size)
