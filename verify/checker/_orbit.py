"""Certified equilibria and cycles of `F(y) = (1 - b) y + b G(y)` for one problem: T6 in ball arithmetic.

A cycle of period p is a zero of `Phi(y_0, .., y_{p-1})_i = y_{i+1} - F(y_i)`, indices modulo p. With any matrix A,
`Y >= ||A Phi(c)||`, `Z >= ||I - A DPhi||` over the box of half-width r (linf), `Z < 1` and `Y + Z r <= r`, there is
exactly one in the box. Floating point proposes A, the inverse of the midpoints.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from flint import arb

from . import _arithmetic as ball
from ._decided import decided
from ._derivative import slope_products
from ._interval import Interval
from ._local import moved
from ._network import Walk
from ._refusal import Rejected
from ._subject import Subject
from ._values import Values

Point = list[ball.Balls]


class Iteration:
    """F, with the constants of its graph evaluated once.

    Args:
        subject: the operator.
        damping: b.
        problem: the number of the problem.
    """

    def __init__(self, subject: Subject, damping: float, problem: int) -> None:
        self.subject, self.problem = subject, problem
        self._damping = arb(damping)
        self._constants = Values(subject.graph, None, subject.free)

    def image(self, point: Point) -> ball.Balls:
        """Enclosure of F at a point, (n,)."""
        images = moved(self.subject, self._constants, point)
        return ball.array(self.one(point) * (1 - self._damping) + self.one(images) * self._damping)

    def one(self, leaves: Point) -> ball.Balls:
        """The problem's numbers of a state, leaf after leaf."""
        batched = self.subject.graph.batch_dims
        return np.concatenate([(leaf[self.problem] if batched else leaf).reshape(-1) for leaf in leaves])

    def walk(self, point: Point, radius: float) -> Walk:
        """G's network with slopes that hold on the box around a point."""
        intervals = [Interval(middle, ball.full(arb(radius), middle.shape)) for middle in point]
        return Walk(*decided(self.subject.graph, self._constants, intervals, self.subject.free), intervals)

    def slopes(self, point: Point, radius: float) -> ball.Balls:
        """Every slope matrix of F on the box, (n, n)."""
        all_problems = slope_products(self.walk(point, radius), self.subject)
        middle, spread = (part[self.problem] for part in (all_problems.middle, all_problems.radius))
        matrix = ball.times(ball.each(lambda m, r: (m - r).union(m + r), middle, spread), self._damping)
        for i in range(len(matrix)):
            matrix[i, i] += 1 - self._damping
        return matrix


def require_orbit(iteration: Iteration, points: list[Point], radius: float) -> str:
    """Show that exactly one cycle through the boxes around the points exists.

    Returns:
        What was shown, in words.

    Raises:
        Rejected: it could not be shown.
    """
    if not radius > 0:
        raise Rejected("evidence: a radius is not positive")
    slopes = [iteration.slopes(point, radius) for point in points]
    whole = _cyclic(slopes)
    inverse = float_inverse(whole)
    values = _equation(iteration, points)
    residual = row_sum(ball.matrix_product(inverse, values.reshape(-1, 1)))
    defect = defect_of(inverse, whole)
    if not (defect < 1 and residual + defect * arb(radius) <= arb(radius)):
        raise Rejected(
            f"evidence: no {_what(points)} could be shown within {radius!r} of the point (Newton step "
            f"{float(residual)!r}, defect {float(defect)!r})"
        )
    return f"{_what(points)} of problem {iteration.problem} within {radius!r}: defect <= {float(defect)!r}"


def _what(points: list[Point]) -> str:
    return "equilibrium" if len(points) == 1 else f"cycle of period {len(points)}"


def _cyclic(slopes: list[ball.Balls]) -> ball.Balls:
    p, n = len(slopes), slopes[0].shape[0]
    whole = ball.full(0, (p * n, p * n))
    for i, slope in enumerate(slopes):
        after = (i + 1) % p
        whole[i * n : (i + 1) * n, i * n : (i + 1) * n] -= slope
        for k in range(n):
            whole[i * n + k, after * n + k] += 1
    return whole


def _equation(iteration: Iteration, points: list[Point]) -> ball.Balls:
    images = [iteration.image(point) for point in points]
    parts = [iteration.one(points[(i + 1) % len(points)]) - images[i] for i in range(len(points))]
    return ball.array(np.concatenate(parts))


def float_inverse(matrix: ball.Balls) -> ball.Balls:
    """A matrix of exact numbers near the inverse of the midpoints.

    Raises:
        Rejected: floating point finds none.
    """
    middles = floats(matrix)
    try:
        inverse = np.linalg.inv(middles)
    except np.linalg.LinAlgError:
        raise Rejected("evidence: a Jacobian seems to be singular") from None
    if not np.isfinite(inverse).all():
        raise Rejected("evidence: a Jacobian seems to be singular")
    return ball.balls(inverse.reshape(-1).tolist(), inverse.shape)


def floats(matrix: ball.Balls) -> Any:
    """The midpoints in floating point: proposals."""
    return np.array([float(entry.mid()) for entry in matrix.reshape(-1)]).reshape(matrix.shape)


def defect_of(inverse: ball.Balls, matrix: ball.Balls) -> Any:
    """Upper bound of `||I - A M||_inf`."""
    product = ball.times(ball.matrix_product(inverse, matrix), -1)
    for i in range(len(product)):
        product[i, i] += 1
    return row_sum(product)


def row_sum(matrix: ball.Balls) -> Any:
    """Upper bound of the largest row sum of moduli."""
    sums = [ball.total(ball.absolute(row)) for row in matrix]
    return ball.largest(np.array(sums, dtype=object)).upper()
