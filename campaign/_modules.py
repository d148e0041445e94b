"""Random small modules of every operation with a Jacobian rule, against their Jacobians in ball arithmetic.

Constants everywhere, on a ball and on a box; verdicts about no given region and about a box.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from flint import arb, ctx
from torch import Tensor

from deqops import UnsupportedOperationError
from deqops.verify import Ball, Box, Certificate, Verdict, certify, check, lipschitz_bound

from . import _duals as duals
from ._drawing import Random
from ._duals import Dual, UndecidedError, exact
from ._section import Section, Tally

ROWS, COLUMNS = 2, 3  # of the state of one problem
UNKNOWNS = ROWS * COLUMNS
POINTS = 3  # at which Jacobians are computed
STEPS = 20_000  # after which starts must have met, as far as the certificate's rate makes them
ORDERS = ("l1", "l2", "linf")
Pair = tuple[Callable[..., Tensor], Callable[..., Dual]]


def _elementwise(name: str) -> Pair:
    function: Any = getattr(torch, name, None) or getattr(torch.nn.functional, name)
    return function, lambda a: a.each(duals.FUNCTIONS[name])


def _positive(b: Dual) -> Dual:
    """1.5 + b^2."""
    squares = duals.mul(b, b)
    return squares.each(lambda x: (x + arb(1.5), arb(1)))


UNARY: dict[str, Pair] = {
    **{name: _elementwise(name) for name in duals.FUNCTIONS},
    "softmax": (lambda a: torch.softmax(a, -1), duals.softmax),
    "layer_norm": (
        lambda a: torch.nn.functional.layer_norm(a, (COLUMNS,), eps=0.5),
        lambda a: duals.normalised(a, 0.5),
    ),
    "amax": (
        lambda a: a.amax(-1, keepdim=True).expand(a.shape),
        lambda a: duals.spread(duals.largest(a), COLUMNS),
    ),
    "sum": (lambda a: a.sum(-1, keepdim=True).expand(a.shape), lambda a: duals.spread(duals.total(a), COLUMNS)),
}
BINARY: dict[str, Pair] = {
    "add": (torch.add, duals.add),
    "sub": (torch.sub, duals.sub),
    "mul": (torch.mul, duals.mul),
    "div": (lambda a, b: a / (1.5 + b * b), lambda a, b: duals.div(a, _positive(b))),
    "maximum": (
        torch.maximum,
        lambda a, b: duals.add(b, duals.sub(a, b).each(duals.FUNCTIONS["relu"])),
    ),
    "attention": (
        lambda a, b: torch.softmax(a @ b.transpose(-1, -2), -1) @ b,
        lambda a, b: duals.matmul(duals.softmax(duals.matmul(a, duals.transposed(b))), b),
    ),
}


MODES = (0.75 + 0.0j, 0.5 - 1.25j)
"""Factors of the two modes of three entries."""


def _filtered(a: Tensor) -> Tensor:
    result: Tensor = torch.fft.irfft(torch.fft.rfft(a) * torch.view_as_complex(_MODES), n=COLUMNS)
    return result


def _convolved(a: Tensor, b: Tensor) -> Tensor:
    """By whole transforms of one and half a transform of the other."""
    result: Tensor = torch.fft.ifft(torch.fft.fft(a) * torch.fft.fft(b)).real
    return result


_MODES = torch.tensor([[mode.real, mode.imag] for mode in MODES], dtype=torch.float64)
TRANSFORMS: dict[str, Pair] = {
    "filter": (_filtered, lambda a: duals.filtered(a, MODES)),
    "shift": (lambda a: torch.fft.fftshift(a, dim=-1), lambda a: a.moved(lambda x: np.roll(x, COLUMNS // 2, axis=-1))),
    "convolution": (_convolved, duals.convolved),
}
"""Drawn by a section of their own, so that the modules of the other stay what they were."""


def _spread(a: Tensor) -> Tensor:
    """The largest and the smallest beside each other, and what lies between them."""
    return torch.cat([a.amax(-1, keepdim=True), a.amin(-1, keepdim=True), a.median(-1, keepdim=True).values], dim=-1)


def _larger_and_smaller(a: Tensor, b: Tensor) -> Tensor:
    return torch.cat([torch.maximum(a, b)[..., :1, :], torch.minimum(a, b)[..., 1:, :]], dim=-2)


def _larger_and_smaller_dual(a: Dual, b: Dual) -> Dual:
    excess = duals.sub(a, b).each(duals.FUNCTIONS["relu"])
    larger, smaller = duals.add(b, excess), duals.sub(a, excess)
    upper = np.arange(ROWS)[:, None] < 1
    value = np.where(upper, larger.value, smaller.value)
    return Dual(value, np.where(upper[..., None], larger.slopes, smaller.slopes))


SORTS: dict[str, Pair] = {
    "sort": (lambda a: a.sort(-1).values, duals.in_order),
    "descending": (
        lambda a: a.topk(COLUMNS, dim=-1).values,
        lambda a: duals.in_order(a).moved(lambda x: np.flip(x, axis=1)),
    ),
    "spread": (_spread, lambda a: duals.in_order(a).moved(lambda x: np.take(x, [2, 0, 1], axis=1))),
    "maxmin": (_larger_and_smaller, _larger_and_smaller_dual),
}
"""The same of sorted values."""


def _fraction_dual(a: Dual) -> Dual:
    return duals.sub(a, a.each(duals.stepped))


CHOICES: dict[str, Pair] = {
    "choice": (lambda a, b: torch.where(a > 0.25, b, -b), lambda a, b: duals.chosen(a, b, 0.25)),
    "fraction": (lambda a: a.remainder(1.0), _fraction_dual),
    "step": (torch.floor, lambda a: a.each(duals.stepped)),
    "sign": (torch.sign, lambda a: a.each(duals.signed)),
}
"""The same of what jumps."""


def _pair(name: str) -> Pair | None:
    return UNARY.get(name) or BINARY.get(name) or TRANSFORMS.get(name) or SORTS.get(name) or CHOICES.get(name)


@dataclass(frozen=True, eq=False)
class Step:
    """One operation on earlier values, or a product with a constant matrix."""

    name: str
    operands: tuple[int, ...]
    matrix: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Module:
    """`z -> scale * (last value of the steps) + x`, and its twin in ball arithmetic."""

    steps: tuple[Step, ...]
    scale: float

    def __call__(self, z: Tensor, x: Tensor) -> Tensor:
        """G(z, x)."""
        values = [z]
        for step in self.steps:
            own = [values[k] for k in step.operands]
            pair = _pair(step.name)
            values.append(own[0] @ step.matrix if pair is None else pair[0](*own))  # type: ignore[operator]
        return self.scale * values[-1] + x

    def jacobian(self, state: list[float]) -> duals.Balls:
        """dG/dz of one problem at a point, (n, n)."""
        values = [duals.variables(exact(state, (ROWS, COLUMNS)))]
        for step in self.steps:
            own = [values[k] for k in step.operands]
            pair = _pair(step.name)
            if pair is not None:
                values.append(pair[1](*own))
            elif step.matrix is not None:
                values.append(duals.times(own[0], exact(step.matrix.reshape(-1).tolist(), (COLUMNS, COLUMNS))))
        jacobian: duals.Balls = values[-1].slopes.reshape(UNKNOWNS, UNKNOWNS) * arb(self.scale)
        return jacobian


def draw_module(rng: Random) -> Module:
    """One to six operations, among them products with constant matrices."""
    steps: list[Step] = []
    for number in range(int(rng.integers(1, 7))):
        kind = rng.random()
        first, second = (int(rng.integers(0, number + 1)) for _ in range(2))
        if kind < 0.35:
            steps.append(Step("linear", (first,), torch.from_numpy(rng.standard_normal((COLUMNS, COLUMNS)) / 2)))
        elif kind < 0.7:
            steps.append(Step(str(rng.choice(sorted(UNARY))), (first,)))
        else:
            steps.append(Step(str(rng.choice(sorted(BINARY))), (first, second)))
    return Module(tuple(steps), float(rng.choice([0.125, 0.5, 1.0])))


def draw_transforms(rng: Random) -> Module:
    """The same, and among it as many Fourier transforms, on values of their own or on those before."""
    return _draw_with(rng, TRANSFORMS)


def draw_sorts(rng: Random) -> Module:
    """The same with sorted values."""
    return _draw_with(rng, SORTS)


def draw_choices(rng: Random) -> Module:
    """The same with conditions and steps."""
    return _draw_with(rng, CHOICES)


def _draw_with(rng: Random, others: dict[str, Pair]) -> Module:
    steps: list[Step] = []
    for step in draw_module(rng).steps:
        own = tuple(int(rng.integers(0, len(steps) + 1)) for _ in step.operands)
        steps.append(Step(step.name, own, step.matrix))
        name = str(rng.choice(sorted(others)))
        first, second = (int(rng.integers(0, len(steps) + 1)) for _ in range(2))
        steps.append(Step(name, (first, second) if name in _OF_TWO else (first,)))
    return Module(tuple(steps), float(rng.choice([0.03125, 0.125, 0.5])))


_OF_TWO = ("choice", "convolution", "maxmin")


def case(seed: int, number: int) -> Tally:
    """Bounds everywhere and on a ball in three norms; each eighth module is certified, and its certificate checked."""
    return _case([seed, 6, number], draw_module)


def case_of_transforms(seed: int, number: int) -> Tally:
    """The same of modules with Fourier transforms."""
    return _case([seed, 7, number], draw_transforms)


def case_of_sorts(seed: int, number: int) -> Tally:
    """The same of modules with sorted values."""
    return _case([seed, 8, number], draw_sorts)


def case_of_choices(seed: int, number: int) -> Tally:
    """The same of modules that jump."""
    return _case([seed, 9, number], draw_choices)


def _case(seeds: list[int], draw: Callable[[Random], Module]) -> Tally:
    rng, tally, number = np.random.default_rng(seeds), Tally(), seeds[-1]
    module = draw(rng)
    z, x = (torch.from_numpy(rng.standard_normal((1, ROWS, COLUMNS))) for _ in range(2))
    ball = Ball(z, float(10.0 ** rng.uniform(-4, 0.3)))
    apart = np.random.default_rng([*seeds, 1])  # of what came later: the earlier draws stay as they were
    label = " ".join(f"{step.name}{list(step.operands)}" for step in module.steps)
    before, ctx.prec = ctx.prec, 160
    try:
        _bounds(tally, module, (z, x), ball, rng, label)
        _bounds_on_a_box(tally, module, (z, x), apart, label)
        if number % 8 == 0:
            _verdict(tally, module, (z, x), rng, label)
            _verdict_on_a_box(tally, module, (z, x), apart, label)
    except UndecidedError:
        tally.count("points at a kink or a tie")
    finally:
        ctx.prec = before
    return tally


def _bounds(
    tally: Tally, module: Module, arguments: tuple[Tensor, Tensor], ball: Ball, rng: Random, label: str
) -> None:
    z, x = arguments
    far = [10.0 ** rng.uniform(-1, 1) * rng.standard_normal(UNKNOWNS) for _ in range(POINTS)]
    for order in ORDERS:
        for region, name in ((None, "everywhere"), (ball, "on a ball")):
            try:
                upper = lipschitz_bound(module, z, x, norm=order, region=region).upper
            except UnsupportedOperationError:
                tally.count(f"no constant {name}")
                continue
            tally.count(f"bounds {name}")
            points = far if region is None else [_inside(rng, z, ball.radius, order) for _ in range(POINTS)]
            for point in points:
                if duals.norm_exceeds(module.jacobian(point.tolist()), order, upper):
                    tally.violations.append(f"{order} bound {upper.hex()} {name} is below the Jacobian's norm: {label}")
            if not _keeps_apart(module, x, points, order, upper):
                tally.violations.append(f"{order} bound {upper.hex()} {name} is below a difference quotient: {label}")


def _keeps_apart(module: Module, x: Tensor, points: list[Any], order: str, upper: float) -> bool:
    """Whether no two neighbours among the points are taken farther apart than the bound says, but for rounding."""
    p = {"l1": 1, "l2": 2, "linf": np.inf}[order]
    images = [module(torch.from_numpy(point).reshape(x.shape), x).reshape(-1).numpy() for point in points]
    for k in range(len(points) - 1):
        apart, moved = (float(np.linalg.norm(v[k] - v[k + 1], p)) for v in (points, images))
        size = 1 + max(float(np.abs(v).max()) for v in (*images, *points))
        if moved > upper * apart * (1 + 1e-9) + 1e-11 * size:
            return False
    return True


def _inside(rng: Random, center: Tensor, radius: float, order: str) -> Any:
    """A point of the ball, a little inside; often on its corners."""
    step = rng.uniform(-1, 1, UNKNOWNS) if rng.random() < 0.5 else np.sign(rng.standard_normal(UNKNOWNS))
    size = float(np.linalg.norm(step, {"l1": 1, "l2": 2, "linf": np.inf}[order]))
    return center.reshape(-1).numpy() + step / size * radius * (1 - 1e-9)


def _bounds_on_a_box(tally: Tally, module: Module, arguments: tuple[Tensor, Tensor], rng: Random, label: str) -> None:
    z, x = arguments
    box = _box_around(z, rng)
    for order in ORDERS:
        try:
            upper = lipschitz_bound(module, z, x, norm=order, region=box).upper
        except UnsupportedOperationError:
            tally.count("no constant on a box")
            continue
        tally.count("bounds on a box")
        for _ in range(POINTS):
            if duals.norm_exceeds(module.jacobian(_in_box(rng, box).tolist()), order, upper):
                tally.violations.append(f"{order} bound {upper.hex()} on a box is below the Jacobian's norm: {label}")


def _box_around(center: Tensor, rng: Random, least: float = 0.0) -> Box:
    """Of other widths in each coordinate, shares of one size; where the least share is 0 some have none."""
    size = 10.0 ** rng.uniform(-4, 0.3)
    below, above = (torch.from_numpy(size * rng.uniform(least, 1, tuple(center.shape))) for _ in range(2))
    flat = torch.from_numpy(rng.random(tuple(center.shape)) < 0.1) & (least == 0)
    return Box(torch.where(flat, center, center - below), torch.where(flat, center, center + above))


def _in_box(rng: Random, box: Box) -> Any:
    """A point of the box, often one of its corners."""
    low, high = (leaves[0].reshape(-1).numpy() for leaves in box.ends)
    share = rng.random(UNKNOWNS) if rng.random() < 0.5 else (rng.random(UNKNOWNS) < 0.5).astype(float)
    return np.clip(low + share * (high - low), low, high)


def _verdict(tally: Tally, module: Module, arguments: tuple[Tensor, Tensor], rng: Random, label: str) -> None:
    """Starts in the certified region must meet, and every verdict must pass the checker."""
    _judged(tally, module, arguments, certify(module, *arguments), rng, label)


def _verdict_on_a_box(tally: Tally, module: Module, arguments: tuple[Tensor, Tensor], rng: Random, label: str) -> None:
    """The same of a box around what Picard's iteration reaches."""
    z, x = arguments
    with torch.no_grad():
        center = _limit(module, z, x, z.reshape(-1).numpy(), 1.0, steps=500)
    if not bool((center.isfinite() & (center.abs() < 1e6)).all()):
        tally.count("no centre for a box")
        return
    certificate = certify(module, z, x, region=_box_around(center, rng, 0.8))
    _judged(tally, module, arguments, certificate, rng, label, " on a box")


def _judged(
    tally: Tally,
    module: Module,
    arguments: tuple[Tensor, Tensor],
    certificate: Certificate,
    rng: Random,
    label: str,
    where: str = "",
) -> None:
    tally.count(f"{certificate.verdict.value} {certificate.theorem or ''}".strip() + where)
    if certificate.verdict is Verdict.UNKNOWN:
        return
    accepted = check(certificate, module, *arguments).accepted
    tally.count(("accepted" if accepted else "beyond the checker") + where)
    if certificate.verdict is not Verdict.CERTIFIED or certificate.theorem == "newton_kantorovich":
        return
    damping = float(getattr(certificate.claim, "damping", 1.0))
    starts = [_start(rng, certificate, arguments[0]) for _ in range(2)]
    first, second = (_limit(module, arguments[0], arguments[1], start, damping) for start in starts)
    size = max(1.0, float(np.abs(np.stack(starts)).max()))
    if not torch.allclose(first, second, rtol=1e-6, atol=1e-6 * size + _still_apart(certificate, starts)):
        tally.violations.append(f"{certificate.theorem}: two starts in the region do not meet: {label}")
    if isinstance(certificate.region, Box) and not _is_in(first, certificate.region, 1e-6 * size):
        tally.violations.append(f"{certificate.theorem}: the iteration leaves its box: {label}")


def _still_apart(certificate: Certificate, starts: list[Any]) -> float:
    """How far apart the iterations may still be after STEPS, by the certificate's rate: nearly 0 for most."""
    if certificate.rate is None or certificate.norm is None:
        return 0.0
    weights = (
        [1.0] if certificate.norm.weights is None else torch.cat([w.reshape(-1) for w in certificate.norm.weights])
    )
    stretch = UNKNOWNS * float(max(weights) / min(weights))
    return float(certificate.rate**STEPS * stretch * np.linalg.norm(starts[0] - starts[1]))


def _start(rng: Random, certificate: Certificate, example: Tensor) -> Any:
    """A point of the certified region."""
    region = certificate.region
    if isinstance(region, Box):
        return _in_box(rng, region)
    if not isinstance(region, Ball):
        return _inside(rng, example, 3.0, "l1")
    weights = None if certificate.norm is None else certificate.norm.weights
    return _inside(rng, region.leaves[0], region.radius / (1.0 if weights is None else float(weights[0].max())), "l1")


def _is_in(z: Tensor, box: Box, slack: float) -> bool:
    (low,), (high,) = box.ends
    return bool(((low - slack <= z) & (z <= high + slack)).all())


def _limit(module: Module, like: Tensor, x: Tensor, start: Any, damping: float, steps: int = STEPS) -> Tensor:
    """Where the claimed iteration ends up."""
    z = torch.from_numpy(start).reshape(like.shape)
    for _ in range(steps):
        step = damping * (module(z, x) - z)
        if bool(step.abs().max() <= 1e-13 * z.abs().max()):
            break
        z = z + step
    return z


TRANSFORMED = Section(
    "transforms", "the same with Fourier transforms of real and complex values", 2_000, 20, case_of_transforms
)
SORTED = Section("sorts", "the same with sorted values, medians, and larger and smaller ones", 2_000, 20, case_of_sorts)
CHOSEN = Section("choices", "the same with conditions and steps, which jump", 2_000, 20, case_of_choices)
MODULES = Section("modules", "random small modules against Jacobians in ball arithmetic", 10_000, 20, case)
