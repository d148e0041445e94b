"""The numbers of theorems other than T1, T2 and T4, and the witnesses of refutations, against exact arithmetic."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from flint import arb, fmpq, fmpq_mat

from ._exact import Rational, RationalMatrix, identity, is_semidefinite, is_stable, norm_at_most
from ._layers import Layer, conjugated, damped, distance, limit

Point = list[Rational]
_NONE = fmpq(0)
_CORNERS = 16  # of a box, at most
_TINY = fmpq(1, 2**200)  # more than an orbit is rounded by
_BITS = 300
_UNIT = 2**_BITS
_STARTS = (fmpq(0), fmpq(1, 3), fmpq(-1000), fmpq(10**9))


@dataclass(frozen=True)
class Box:
    """All points between two, entry by entry."""

    lower: Point
    upper: Point

    def holds(self, y: list[Any], margin: Rational = _NONE) -> bool:
        """Whether y is certainly inside, no nearer to a side than the margin."""
        return all(
            v - low >= margin and high - v >= margin for low, v, high in zip(self.lower, y, self.upper, strict=True)
        )

    def misses(self, y: list[Any], margin: Rational = _NONE) -> bool:
        """Whether y is certainly outside, or nearer to a side than the margin."""
        return any(
            v - low < margin or high - v < margin for low, v, high in zip(self.lower, y, self.upper, strict=True)
        )

    def points(self) -> list[Point]:
        """The middle, corners, and points near the middle of two opposite sides of each coordinate."""
        middle = [(low + high) / 2 for low, high in zip(self.lower, self.upper, strict=True)]
        sides = list(zip(self.lower, self.upper, strict=True))
        found = [middle, *(list(corner) for corner in itertools.islice(itertools.product(*sides), _CORNERS))]
        for i, (low, high) in enumerate(sides):
            for share in (fmpq(99, 100), fmpq(1, 2**30), fmpq(-1, 2**30), fmpq(-99, 100)):
                found.append([v + share * (high - low) / 2 if j == i else v for j, v in enumerate(middle)])
        return found


@dataclass(frozen=True, eq=False)
class Facts:
    """A document's parts, read, beside the layer it speaks of.

    Attributes:
        layer: exact.
        order: of the norm.
        weights: of the norm, or None.
        damping: b of the iteration.
        rate: as stated, or None.
        numbers: of the evidence.
        counts: of the evidence.
        points: the evidence's states by name, one point per problem.
        centers: of the ball, one per problem; none for the whole space.
        radius: of the ball, 0 for the whole space.
        boxes: one per problem; none where the region is no box.
    """

    layer: Layer
    order: str
    weights: Point | None
    damping: Rational
    rate: Rational | None
    numbers: dict[str, Rational]
    counts: dict[str, int]
    points: dict[str, list[Point]]
    centers: list[Point]
    radius: Rational
    boxes: list[Box]

    def within(self, y: list[Any], center: Point) -> bool:
        """Whether a state is certainly in the ball around a centre."""
        return bool(distance(y, center, self.order, self.weights) <= limit(self.radius, self.order))

    def norm_at_most(self, matrix: RationalMatrix, bound: Rational) -> bool:
        """Whether a matrix' operator norm is at most a bound."""
        return norm_at_most(conjugated(matrix, self.weights), self.order, bound)

    def step(self, y: list[Any]) -> list[Any]:
        """One step of the damped iteration."""
        b = self.damping
        return [(1 - b) * v + b * g for v, g in zip(y, self.layer(y), strict=True)]


# ------------------------------------------------------------------------------------------------- everywhere


def powers(facts: Facts) -> list[str]:
    """T1, powers: products of slope matrices that G has, up to 64 of them, and those alone."""
    if facts.counts["doublings"] > 6:
        return []
    wrong = []
    for M in facts.layer.reached:
        N = damped(M, facts.damping)
        for _ in range(facts.counts["doublings"]):
            N = N * N
        if not facts.norm_at_most(N, facts.numbers["contraction"]):
            wrong.append("the constant of the power is too small")
    return wrong[:1]


def quadratic(facts: Facts) -> list[str]:
    """T1 in a quadratic norm: every slope matrix that G has is stable."""
    stable = all(is_stable(damped(M, facts.damping)) for M in facts.layer.reached)
    return [] if stable else ["a slope matrix has a spectral radius of at least 1"]


def log_norm(facts: Facts) -> list[str]:
    """T5 (b): mu, the least diagonal entry and the rate, at slope matrices that G has."""
    mu, least, wrong = facts.numbers["mu"], facts.numbers["least"], []
    for M in facts.layer.reached:
        rows = conjugated(M, facts.weights).tolist()
        rows = rows if facts.order == "linf" else [list(column) for column in zip(*rows, strict=True)]
        found = max(row[i] + sum((abs(v) for j, v in enumerate(row) if j != i), fmpq(0)) for i, row in enumerate(rows))
        if found > mu:
            wrong.append("mu is below a logarithmic norm")
        if any(row[i] < least for i, row in enumerate(rows)):
            wrong.append("a diagonal entry is below the least")
    return wrong[:1] + _damped_rate(facts)


def one_sided(facts: Facts) -> list[str]:
    """T5 (a): mu, the constant and the rate, at slope matrices that G has."""
    wrong, eye = [], identity(facts.layer.size)
    for M in facts.layer.reached:
        V = conjugated(M, facts.weights)
        if not is_semidefinite((eye * facts.numbers["mu"] - (V + V.transpose()) / 2).numer_denom()[0]):
            wrong.append("mu is below a one-sided constant")
        if not facts.norm_at_most(M, facts.numbers["bound"]):
            wrong.append("the bound is below the Lipschitz constant")
    return wrong[:2] + _damped_rate(facts)


def _damped_rate(facts: Facts) -> list[str]:
    rate = facts.rate
    if rate is None or not rate < 1:
        return ["there is no rate below 1"]
    held = all(facts.norm_at_most(damped(M, facts.damping), rate) for M in facts.layer.reached)
    return [] if held else ["the rate is below the iteration's Lipschitz constant"]


def causal(facts: Facts) -> list[str]:
    """T8: no entry of a slope matrix leads from a level to itself or a lower one."""
    levels, depth = facts.points["levels"], facts.counts["depth"]
    wrong = [] if all(1 <= v <= depth for level in levels for v in level) else ["a level beyond the depth"]
    size = range(facts.layer.size)
    for M, level in itertools.product(facts.layer.reached, levels):
        if any(M[i, j] != 0 and not level[j] < level[i] for i in size for j in size):
            wrong.append("a component depends on its own level or a later one")
    return wrong[:1]


def absorbing(facts: Facts) -> list[str]:
    """T11: starts far away are in the box after so many steps; the bound at points of the box."""
    lower, upper, wrong = facts.points["lower"], facts.points["upper"], []
    for low, high in zip(lower, upper, strict=True):
        for start in _STARTS:
            y = [start] * facts.layer.size
            for _ in range(facts.counts["sweeps"]):
                y = [_rational(v) for v in facts.layer(y)]
            if any(v < a - _TINY or v > b + _TINY for v, a, b in zip(y, low, high, strict=True)):
                wrong.append("a start is not in the box after the sweeps")
        middle = [(a + b) / 2 for a, b in zip(low, high, strict=True)]
        slopes = [facts.layer.at(point) for point in (middle, low, high)]
        if not all(facts.norm_at_most(M, facts.numbers["bound"]) for M in slopes if M is not None):
            wrong.append("the bound is below the Lipschitz constant on the box")
    return wrong[:2]


def _rational(value: Any) -> Rational:
    """A rational, or the middle of a ball, rounded down to a multiple of 2^-300.

    Exactly, an orbit's denominators grow, and the sigmoid of a start far away has a billion of digits.
    """
    if not isinstance(value, arb):
        return fmpq((value * _UNIT).floor(), _UNIT)
    digits, exponent = (int(part) for part in value.mid().man_exp())
    shift = exponent + _BITS
    return fmpq(digits << shift if shift >= 0 else digits >> -shift, _UNIT)


# ------------------------------------------------------------------------------------------------------ balls


def in_ball(facts: Facts) -> list[str]:
    """T6, T12: the residual's factor at points of the ball."""
    found = facts.layer.equilibria()
    wrong = []
    for center in facts.centers if found is not None else []:
        here = [y for y in found or [] if facts.within(y, center)]
        for y in _around(facts, center) if len(here) == 1 else []:
            residual = distance(facts.layer(y), y, facts.order, facts.weights)
            error = distance(y, here[0], facts.order, facts.weights)
            if facts.within(y, center) and error > limit(facts.numbers["factor"], facts.order) * residual:
                wrong.append("the factor is too small")
    return wrong[:1]


def componentwise(facts: Facts) -> list[str]:
    """T13: x, at slope matrices that G has in the region; the region's image, and the factor at points of a ball."""
    x, wrong = facts.points["vector"][0], [] if not facts.centers else in_ball(facts)
    points = [y for center in facts.centers for y in _around(facts, center) if facts.within(y, center)]
    points += [y for box in facts.boxes for y in box.points()]
    slopes = [facts.layer.at(y) for y in points] if points else facts.layer.reached
    for M in slopes:
        if M is not None and any(_grown(row, x) > facts.numbers["contraction"] * v for row, v in _rows(M, x)):
            wrong.append("x grows by more than the contraction")
    if not all(v > 0 for v in x) or not facts.numbers["contraction"] < 1:
        wrong.append("x is not positive or does not shrink")
    scaled = [v * w for v, w in zip(x, facts.weights or [fmpq(1)] * len(x), strict=True)]
    if max(scaled) > facts.numbers["inverse_size"] or 1 / min(scaled) > facts.numbers["size"]:
        wrong.append("the norms differ by more than stated")
    for center in facts.centers:
        here = [y for y in _around(facts, center) if facts.within(y, center)]
        images = [distance(facts.layer(y), center, facts.order, facts.weights) for y in here]
        if any(v > limit(facts.numbers["image"], facts.order) for v in images) or facts.numbers["image"] > facts.radius:
            wrong.append("the box is not mapped into itself, or further than stated")
    for box in facts.boxes:
        wrong += kept(facts.layer, box, facts.numbers["image"])
    return wrong[:3]


def kept(layer: Layer, box: Box, outside: Rational) -> list[str]:
    """How far no image may be beyond the box; below 0 where all are inside."""
    if outside > 0 or any(box.misses(layer(y), -outside) for y in box.points()):
        return ["the box is not mapped into itself, or further than stated"]
    return []


def _rows(matrix: RationalMatrix, x: Point) -> Iterator[tuple[Point, Rational]]:
    yield from zip(matrix.tolist(), x, strict=True)


def _grown(row: Point, x: Point) -> Rational:
    return sum((abs(a) * v for a, v in zip(row, x, strict=True)), fmpq(0))


def local_lyapunov(facts: Facts) -> list[str]:
    """T12: every derivative in the ball is stable, and a start in the ball goes to the one equilibrium."""
    wrong = in_ball(facts)
    for center in facts.centers:
        slopes = [facts.layer.at(y) for y in _around(facts, center)]
        if not all(is_stable(damped(M, facts.damping)) for M in slopes if M is not None):
            wrong.append("a derivative in the ball has a spectral radius of at least 1")
    return wrong[:2]


def _around(facts: Facts, center: Point) -> Iterator[Point]:
    yield center
    for i, share in itertools.product(range(len(center)), (fmpq(9, 10), fmpq(1, 2**20), fmpq(-9, 10))):
        yield [v + share * facts.radius if j == i else v for j, v in enumerate(center)]


# ------------------------------------------------------------------------------------------------ refutations


def eigenvalue(facts: Facts) -> list[str]:
    """A slope matrix near the point with an eigenvalue of modulus at least 1."""
    M = facts.layer.at(facts.points["point"][facts.counts["problem"]])
    return ["the derivative there is stable"] if M is not None and is_stable(M) else []


def two_equilibria(facts: Facts) -> list[str]:
    """An equilibrium within each radius of each point, and not the same."""
    found, wrong = facts.layer.equilibria(), []
    if found is None:
        return []
    sides = []
    for name in ("first", "second"):
        point, radius = facts.points[name][facts.counts["problem"]], facts.numbers[f"{name}_radius"]
        sides.append([y for y in found if distance(y, point, "linf", None) <= radius])
        if len(sides[-1]) != 1:
            wrong.append(f"there are {len(sides[-1])} equilibria near a point")
    return wrong or (["they are the same equilibrium"] if sides[0] == sides[1] else [])


def cycle(facts: Facts) -> list[str]:
    """Following the affine pieces of the points there is a cycle through them, within the radius."""
    points = facts.points["points"]
    slopes = [facts.layer.at(y) for y in points]
    kinked = facts.layer.activation is None or facts.layer.activation.kinked
    if not kinked or any(M is None for M in slopes):
        return []
    size, eye = facts.layer.size, identity(facts.layer.size)
    slope, shift = eye, fmpq_mat(size, 1)
    for M, y in zip(slopes, points, strict=True):
        N = damped(M, facts.damping)
        image, state = (fmpq_mat(size, 1, list(v)) for v in (facts.step(y), y))
        slope, shift = N * slope, N * shift + image - N * state
    if (eye - slope).det() == 0:
        return ["the cycle's equation is singular"]
    solution = (eye - slope).solve(shift)
    start = [solution[i, 0] for i in range(size)]
    y, wrong = start, []
    for point in points:
        if distance(y, point, "linf", None) > facts.numbers["radius"]:
            wrong.append("the cycle leaves the radius")
        y = facts.step(y)
    if distance(y, start, "linf", None) != 0:
        wrong.append("the cycle does not close")
    return wrong[:1]


def unstable(facts: Facts) -> list[str]:
    """The derivative of the damped map has an eigenvalue of modulus at least 1."""
    M = facts.layer.at(facts.points["point"][facts.counts["problem"]])
    return ["the derivative there is stable"] if M is not None and is_stable(damped(M, facts.damping)) else []


def index(facts: Facts) -> list[str]:
    """A determinant's sign that an equilibrium which attracts every start cannot have."""
    M = facts.layer.at(facts.points["point"][facts.counts["problem"]])
    if M is None:
        return []
    eye, N = identity(facts.layer.size), damped(M, facts.damping)
    holds = (eye - N).det() < 0 or (eye + N).det() < 0
    return [] if holds else ["the determinants have the signs of a stable equilibrium"]


THEOREMS: dict[str, Callable[[Facts], list[str]]] = {
    "powers": powers,
    "quadratic": quadratic,
    "log_norm": log_norm,
    "one_sided": one_sided,
    "causal": causal,
    "absorbing": absorbing,
    "componentwise": componentwise,
    "newton_kantorovich": in_ball,
    "local_lyapunov": local_lyapunov,
}
WITNESSES: dict[str, Callable[[Facts], list[str]]] = {
    "eigenvalue": eigenvalue,
    "two_equilibria": two_equilibria,
    "cycle": cycle,
    "unstable": unstable,
    "index": index,
}
