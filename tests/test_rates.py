"""T1 `picard` and T4 `damped` along what `solve` computes: its points, its trace, its counts.

The computed iteration is one of a perturbed map. Each step's rounding `||z_(n+1) - G(z_n)||` is measured with 40
digits, and enters the bounds as T3 says; the theorems themselves are given no slack.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import deqops.testing as kit
from deqops import Anderson, Broyden, NewtonKrylov, Picard, Solution, Solver, Tolerance, solve
from deqops.verify import Verdict, certify
from tests.exact import seeded
from tests.truth import DIGITS, Vector, difference, exact, norm_of, times

mpmath.mp.dps = DIGITS
DOUBLE = torch.float64
NOISE = mpmath.mpf(10) ** (5 - DIGITS)  # of the truth itself
SLOPES_IN_0_1: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Any], Any]]] = {
    "linear": (lambda v: v, lambda v: v),
    "tanh": (torch.tanh, mpmath.tanh),
    "relu": (torch.relu, lambda v: max(v, mpmath.mpf(0))),
}


@dataclass(frozen=True)
class Layer:
    """`s(W z + c)` on (1, n) of constant at most `rate` in l2, or in `max w_i |y_i|` where weights are given."""

    weight: Tensor  # (n, n)
    offset: Tensor  # (1, n)
    name: str
    rate: Fraction
    weights: Tensor | None = None  # (n,)

    def __call__(self, z: Tensor) -> Tensor:
        return SLOPES_IN_0_1[self.name][0](z @ self.weight.T + self.offset)

    def exact(self, y: Vector) -> Vector:
        inner = (a + b for a, b in zip(times(self.weight, y), exact(self.offset), strict=True))
        return [SLOPES_IN_0_1[self.name][1](v) for v in inner]

    def distance(self, a: Vector, b: Vector) -> Any:
        return norm_of(difference(a, b), "l2" if self.weights is None else "linf", self.weights)

    def equilibrium(self) -> Vector:
        y = exact(torch.zeros_like(self.offset))
        while self.distance(y, following := self.exact(y)) > NOISE / 100:
            y = following
        return following

    def in_dtype(self, dtype: torch.dtype) -> Layer:
        """The same numbers where the dtype holds them; the rate is that of the float64 matrix."""
        return Layer(self.weight.to(dtype), self.offset.to(dtype), self.name, self.rate, self.weights)


def euclidean(draw: st.DrawFn, size: int, top: int) -> tuple[Tensor, Fraction, None]:
    """All singular values known, the largest `rate`."""
    rate = Fraction(draw(st.integers(1, top)), 64)
    return draw(kit.matrices(size, Fraction(1))) * float(rate), rate, None


def weighted_sup(draw: st.DrawFn, size: int, top: int) -> tuple[Tensor, Fraction, Tensor]:
    """`rate = max_i w_i sum_j |W_ij| / w_j`, in rational arithmetic."""
    generator = seeded(draw(st.integers(0, 10**6)))
    weights = 2.0 ** torch.randint(-3, 4, (size,), generator=generator).double()
    W = torch.randn(size, size, generator=generator, dtype=DOUBLE) * weights / weights[:, None]
    W = W * (draw(st.integers(1, top)) / 64 / float(sup_rate(W, weights)))
    return W, sup_rate(W, weights), weights


def sup_rate(W: Tensor, weights: Tensor) -> Fraction:
    w = [Fraction(v) for v in weights.tolist()]
    return max(
        sum((abs(Fraction(v)) * u / t for v, t in zip(row, w, strict=True)), Fraction(0))
        for row, u in zip(W.tolist(), w, strict=True)
    )


@st.composite
def contractions(draw: st.DrawFn, norms: tuple[Any, ...] = (euclidean, weighted_sup), top: int = 60) -> Layer:
    size = draw(st.sampled_from([1, 2, 4, 8]))
    W, rate, weights = draw(st.sampled_from(norms))(draw, size, top)
    c = torch.randn(1, size, generator=seeded(draw(st.integers(0, 10**6))), dtype=DOUBLE)
    return Layer(W, c, draw(st.sampled_from(sorted(SLOPES_IN_0_1))), rate, weights)


@dataclass(frozen=True)
class Path:
    """The points G was called at, and what it gave."""

    points: list[Vector]
    images: list[Vector]
    solution: Solution


def path(G: Callable[[Tensor], Tensor], start: Tensor, solver: Solver, evaluations: int) -> Path:
    points: list[Tensor] = []
    images: list[Tensor] = []

    def recorded(z: Tensor) -> Tensor:
        points.append(z.clone())
        images.append(G(z))
        return images[-1]

    options = {"solver": solver, "tolerance": Tolerance(relative=0.0), "max_evaluations": evaluations}
    with torch.no_grad():  # or one more application would ask whether gradients are needed
        solution = solve(recorded, start, **options, throw=False, trace=True)
    return Path([exact(z) for z in points], [exact(z) for z in images], solution)


def started(layer: Layer, seed: int) -> Tensor:
    return 3 * torch.randn(layer.offset.shape, generator=seeded(seed), dtype=DOUBLE)


# ---------------------------------------------------------------------------------------------------- T1 `picard`


@settings(max_examples=40)
@given(contractions(), st.integers(0, 10**6))
def test_t1_a_priori_a_posteriori_and_the_linear_rate(layer: Layer, seed: int) -> None:
    """Each plus what T3 adds for roundings delta_k: `sum_k q^(n-1-k) delta_k`, or `delta_n / (1 - q)`."""
    q, star = mpmath.mpf(layer.rate.numerator) / layer.rate.denominator, layer.equilibrium()
    found = path(layer, started(layer, seed), Picard(), 30)
    assert found.points[1:] == found.images[:-1]
    errors = [layer.distance(y, star) for y in (*found.points, found.images[-1])]
    roundings = [layer.distance(b, layer.exact(a)) for a, b in zip(found.points, found.images, strict=True)]
    steps = [layer.distance(b, a) for a, b in zip(found.points, found.images, strict=True)]
    start, gathered = (steps[0] + roundings[0]) / (1 - q), mpmath.mpf(0)
    for n, (rounding, step) in enumerate(zip(roundings, steps, strict=True)):
        gathered = q * gathered + rounding
        error = errors[n + 1] - NOISE
        assert error <= q ** (n + 1) * start + gathered
        assert error <= (q * step + rounding) / (1 - q)
        assert error <= q * errors[n] + rounding
    for (before, after), (first, second) in zip(itertools.pairwise(steps), itertools.pairwise(roundings), strict=True):
        assert after <= q * before + first + second + NOISE


@given(contractions(norms=(euclidean,)), st.integers(0, 10**6))
def test_t1_the_trace_is_the_distance_of_successive_points(layer: Layer, seed: int) -> None:
    """So a Euclidean a-posteriori bound can be read off a solution: `q / (1 - q)` times its residual."""
    found = path(layer, started(layer, seed), Picard(), 30)
    trace = found.solution.trace
    assert trace is not None
    assert len(trace) == len(found.points)
    for seen, a, b in zip(trace[:, 0].tolist(), found.points, found.images, strict=True):
        size = norm_of(a, "l2") + norm_of(b, "l2")
        assert abs(seen - layer.distance(a, b)) <= (len(a) + 4) * 2.0**-53 * size
    star, q = layer.equilibrium(), float(layer.rate)
    allowed = q / (1 - q) * float(found.solution.residual) + 1e-13 / (1 - q) * (1 + float(norm_of(star, "l2")))
    assert layer.distance(exact(found.solution.value), star) <= allowed


@settings(max_examples=12)
@given(
    contractions(norms=(euclidean,)),
    st.integers(0, 10**6),
    st.sampled_from([Picard(0.5), Anderson(), Anderson(memory=2), Broyden(), NewtonKrylov()]),
    st.sampled_from([1e-2, 1e-6]),
    st.sampled_from([DOUBLE, torch.float32]),
)
def test_t1_residual_form_holds_whatever_the_solver(
    layer: Layer, seed: int, solver: Solver, relative: float, dtype: torch.dtype
) -> None:
    """`||G(z) - y*|| <= q / (1 - q) ||G(z) - z||`, and the rounding of G over `1 - q`."""
    rounded, q, star = layer.in_dtype(dtype), float(layer.rate), layer.equilibrium()
    tolerance = Tolerance(relative=relative)
    solution = solve(
        rounded, started(layer, seed).to(dtype), solver=solver, tolerance=tolerance, max_evaluations=2000, throw=False
    )
    assert solution.converged
    size = float(torch.linalg.vector_norm(layer.offset)) + float(norm_of(star, "l2"))
    floor = 40 * torch.finfo(dtype).eps * size / (1 - q)
    assert layer.distance(exact(solution.value), star) <= q / (1 - q) * float(solution.residual) + floor


@settings(max_examples=12)
@given(contractions(top=56), st.integers(0, 10**6), st.sampled_from([1e-1, 1e-4]))
def test_t1_as_many_evaluations_as_a_certificate_asks_for(layer: Layer, seed: int, wanted: float) -> None:
    """`iterations(eps, first step)` is the a-priori bound solved for n; `value` is then y_n."""
    y0 = started(layer, seed)
    certificate = certify(layer, y0, theorem="picard", norm="l2" if layer.weights is None else "weighted_linf")
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.norm is not None
    assert certificate.rate is not None
    weights = None if certificate.norm.weights is None else certificate.norm.weights[0]
    first = float(certificate.distance_bound(layer(y0), y0).max())
    steps = max(1, certificate.iterations(wanted, first))
    solution = solve(layer, y0, solver=Picard(), tolerance=Tolerance(relative=0.0), max_evaluations=steps, throw=False)
    error = norm_of(difference(exact(solution.value), layer.equilibrium()), certificate.norm.order, weights)
    assert error <= wanted + 1e-12 / (1 - certificate.rate)


@pytest.mark.parametrize("rate", [0.25, 0.75, 0.9375])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", sorted(SLOPES_IN_0_1))
def test_t1_the_three_bounds_are_attained(name: str, rate: float, weighted: bool) -> None:
    """A step along the slowest direction of a map that is linear there: equality but for rounding.

    tanh near 0 is linear but for a third of its argument's square.
    """
    weights = torch.tensor([1.0, 8.0], dtype=DOUBLE) if weighted else None
    W = rate * torch.diag(torch.tensor([1.0, 0.125], dtype=DOUBLE))
    size = 2.0**-10 if name == "tanh" else 1.0
    layer = Layer(W, torch.zeros(1, 2, dtype=DOUBLE), name, Fraction(rate), weights)
    found = path(layer, torch.tensor([[size, 0.0]], dtype=DOUBLE), Picard(), 12)
    zero = [mpmath.mpf(0)] * 2
    first = layer.distance(found.images[0], found.points[0])
    for n, (point, image) in enumerate(zip(found.points, found.images, strict=True)):
        error = layer.distance(image, zero)
        assert error >= 0.99999 * rate ** (n + 1) / (1 - rate) * first
        assert error >= 0.99999 * rate / (1 - rate) * layer.distance(image, point)
        assert error >= 0.99999 * rate * layer.distance(point, zero)


# ------------------------------------------------------------------------------------------------------ T4 `damped`

DAMPINGS = (0.125, 0.5, 0.75)


def orthogonal(size: int, seed: int) -> Tensor:
    """Dyadic, so that its entries are exact: two reflections, a turn."""
    choices = kit.Seeded(seed)
    return kit.reflection(kit.signs(choices, size)) @ kit.reflection(kit.signs(choices, size))


@settings(max_examples=40)
@given(
    st.sampled_from([2, 4, 8]),
    st.integers(0, 10**6),
    st.sampled_from(["linear", "relu", "tanh"]),
    st.sampled_from(DAMPINGS),
)
def test_t4_residuals_of_nonexpansive_maps(size: int, seed: int, name: str, damping: float) -> None:
    """`||G(y_n) - y_n||^2 <= ||y_0 - y*||^2 / (b (1-b) (n+1))`, and the residuals never grow.

    y* is known: 0, or for `Q z + c` any dyadic y* with `c = y* - Q y*`. Roundings e_k move the iterates by at most
    their sum, and a residual by twice that.
    """
    Q = orthogonal(size, seed)
    star = torch.randint(-8, 9, (1, size), generator=seeded(seed + 1)).double() / 8 * (name == "linear")
    layer = Layer(Q, star - star @ Q.T, name, Fraction(1))
    found = path(layer, started(layer, seed + 2), Picard(damping), 60)
    start, b = layer.distance(found.points[0], exact(star)), mpmath.mpf(damping)
    moved, before = mpmath.mpf(0), mpmath.inf
    for n, point in enumerate(found.points):
        image = layer.exact(point)
        residual = layer.distance(image, point)
        assert residual <= start / mpmath.sqrt(b * (1 - b) * (n + 1)) + 2 * moved + NOISE
        assert residual <= before
        if n + 1 < len(found.points):
            stepped = [(1 - b) * u + b * v for u, v in zip(point, image, strict=True)]
            rounding = layer.distance(found.points[n + 1], stepped)
            moved, before = moved + rounding, residual + 2 * rounding + NOISE
    assert moved <= 60 * 2.0**-50 * (start + 1) * size


@pytest.mark.parametrize("damping", DAMPINGS)
@pytest.mark.parametrize("steps", [3, 30, 300])
def test_t4_the_rate_is_attained_up_to_the_root_of_e(damping: float, steps: int) -> None:
    """A turn by a with `2 (1 - cos a) = 1 / (b (1-b) (n+1))` has `(n/(n+1))^n >= 1/e` of the square.

    Source of the worst case: Lieder, *On the convergence rate of the Halpern-iteration*, 2017, section on
    Krasnosel'skii-Mann.
    """
    b = damping
    angle = math.acos(1 - 0.5 / (b * (1 - b) * (steps + 1)))
    Q = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=DOUBLE)
    start = torch.tensor([[1.0, 0.0]], dtype=DOUBLE)
    solution = solve(
        lambda z: z @ Q.T,
        start,
        solver=Picard(b),
        tolerance=Tolerance(relative=0.0),
        max_evaluations=steps + 1,
        throw=False,
        trace=True,
    )
    assert solution.trace is not None
    square = float(solution.trace[steps, 0]) ** 2 * b * (1 - b) * (steps + 1)
    assert square == pytest.approx((steps / (steps + 1)) ** steps, rel=1e-10)
    assert 1 / math.e < square < 1


def test_t4_undamped_a_turn_never_comes_nearer() -> None:
    """What b < 1 is for: with b = 1 the residual stays, and the result says so."""
    Q = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=DOUBLE)
    start = torch.tensor([[1.0, 0.0]], dtype=DOUBLE)
    undamped, damped = (
        solve(lambda z: z @ Q.T, start, solver=Picard(b), tolerance=Tolerance(absolute=1e-6), throw=False, trace=True)
        for b in (1.0, 0.5)
    )
    assert not undamped.converged
    assert undamped.trace is not None
    assert bool((undamped.trace == 2**0.5).all())
    assert damped.converged
