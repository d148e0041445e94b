"""Random small modules of every operation with a Jacobian rule, against their Jacobians in ball arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from flint import arb, ctx
from torch import Tensor

from deqops import UnsupportedOperationError
from deqops.verify import Ball, Verdict, certify, check, lipschitz_bound

from . import _duals as duals
from ._drawing import Random
from ._duals import Dual, UndecidedError, exact
from ._section import Section, Tally

ROWS, COLUMNS = 2, 3  # of the state of one problem
UNKNOWNS = ROWS * COLUMNS
POINTS = 3  # at which Jacobians are computed
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
            pair = UNARY.get(step.name) or BINARY.get(step.name)
            values.append(own[0] @ step.matrix if pair is None else pair[0](*own))  # type: ignore[operator]
        return self.scale * values[-1] + x

    def jacobian(self, state: list[float]) -> duals.Balls:
        """dG/dz of one problem at a point, (n, n)."""
        values = [duals.variables(exact(state, (ROWS, COLUMNS)))]
        for step in self.steps:
            own = [values[k] for k in step.operands]
            pair = UNARY.get(step.name) or BINARY.get(step.name)
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


def case(seed: int, number: int) -> Tally:
    """Bounds everywhere and on a ball in three norms; each eighth module is certified, and its certificate checked."""
    rng, tally = np.random.default_rng([seed, 6, number]), Tally()
    module = draw_module(rng)
    z, x = (torch.from_numpy(rng.standard_normal((1, ROWS, COLUMNS))) for _ in range(2))
    ball = Ball(z, float(10.0 ** rng.uniform(-4, 0.3)))
    label = " ".join(f"{step.name}{list(step.operands)}" for step in module.steps)
    before, ctx.prec = ctx.prec, 160
    try:
        _bounds(tally, module, (z, x), ball, rng, label)
        if number % 8 == 0:
            _verdict(tally, module, (z, x), rng, label)
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


def _inside(rng: Random, center: Tensor, radius: float, order: str) -> Any:
    """A point of the ball, a little inside; often on its corners."""
    step = rng.uniform(-1, 1, UNKNOWNS) if rng.random() < 0.5 else np.sign(rng.standard_normal(UNKNOWNS))
    size = float(np.linalg.norm(step, {"l1": 1, "l2": 2, "linf": np.inf}[order]))
    return center.reshape(-1).numpy() + step / size * radius * (1 - 1e-9)


def _verdict(tally: Tally, module: Module, arguments: tuple[Tensor, Tensor], rng: Random, label: str) -> None:
    """Starts in the certified region must meet, and every verdict must pass the checker."""
    certificate = certify(module, *arguments)
    tally.count(f"{certificate.verdict.value} {certificate.theorem or ''}".strip())
    if certificate.verdict is Verdict.UNKNOWN:
        return
    accepted = check(certificate, module, *arguments).accepted
    tally.count("accepted" if accepted else "beyond the checker")
    if certificate.verdict is not Verdict.CERTIFIED or certificate.theorem == "newton_kantorovich":
        return
    center, radius = arguments[0], 3.0
    if isinstance(certificate.region, Ball):
        center, radius = certificate.region.leaves[0], certificate.region.radius
        weights = None if certificate.norm is None else certificate.norm.weights
        radius /= 1.0 if weights is None else float(weights[0].max())
    damping = float(getattr(certificate.claim, "damping", 1.0))
    starts = [_inside(rng, center, radius, "l1") for _ in range(2)]
    first, second = (_limit(module, center, arguments[1], start, damping) for start in starts)
    if not torch.allclose(first, second, rtol=1e-6, atol=1e-6 * max(1.0, float(center.abs().max()))):
        tally.violations.append(f"{certificate.theorem}: two starts in the region do not meet: {label}")


def _limit(module: Module, like: Tensor, x: Tensor, start: Any, damping: float) -> Tensor:
    """Where the claimed iteration ends up."""
    z = torch.from_numpy(start).reshape(like.shape)
    for _ in range(20_000):
        step = damping * (module(z, x) - z)
        if bool(step.abs().max() <= 1e-13 * z.abs().max()):
            break
        z = z + step
    return z


MODULES = Section("modules", "random small modules against Jacobians in ball arithmetic", 10_000, 20, case)
