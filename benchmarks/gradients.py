"""Gradients through equilibria beside torchdeq's, in one run: how right they are, what they cost and keep.

    python benchmarks/gradients.py

1. `z = tanh(W z + x)`, ||W||_2 = 0.9, loss sum(z^4): the gradient's relative error against 400 applications that are
   differentiated in float64, in units of the tolerance (the same relative one for both passes of both libraries; the
   target is 10), and the backward pass's time to that of one solve without gradients, the best of REPEATS in turns.
2. Second derivatives: of the scalar equilibrium `y = tanh(w y) + w^2` at w = 0.8, and a Hessian times a vector of 1.
3. The bytes kept for the backward pass, and the most that were alive through both passes, besides weights and inputs,
   when the solve takes 10, 100 or 1000 iterations.

torchdeq is missing: only ours is printed.
"""

from __future__ import annotations

import importlib
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from deqops import (
    Adjoint,
    Anderson,
    DeqopsError,
    ImplicitAdjoint,
    JacobianFree,
    Phantom,
    Picard,
    Solver,
    Tolerance,
    Unrolled,
    solve,
)

REPEATS = 5
MOST = 1000
"""Evaluations that a pass may take."""
TERMS = 400
"""Applications that are differentiated for the truth: 0.9^400 is 5e-19."""


@dataclass(frozen=True)
class Settings:
    """How both libraries solve, forwards and backwards."""

    relative: float
    evaluations: int = MOST
    accelerated: bool = False
    backward: float | None = None  # the backward pass's tolerance, where it is another

    @property
    def adjoint(self) -> float:
        return self.relative if self.backward is None else self.backward


Step = Callable[[Tensor], Tensor]
Equilibrium = Callable[[Step, Tensor, Settings], Tensor]
"""The equilibrium of z -> step(z) from a start, with gradients for all that the step closes over."""


def ours(adjoint: Callable[[Solver, Tolerance], Adjoint], step: Step, start: Tensor, settings: Settings) -> Tensor:
    solver = Anderson() if settings.accelerated else Picard()
    value: Tensor = solve(
        step,
        start,
        solver=solver,
        adjoint=adjoint(solver, Tolerance(relative=settings.adjoint)),
        tolerance=Tolerance(relative=settings.relative),
        max_evaluations=settings.evaluations,
        throw=False,
    ).value
    return value


def theirs(options: dict[str, Any], step: Step, start: Tensor, settings: Settings) -> Tensor:
    name = "anderson" if settings.accelerated else "fixed_point_iter"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its use of torch is dated
        layer = importlib.import_module("torchdeq").get_deq(
            **{f"{side}_solver": name for side in "fb"},
            **{f"{side}_stop_mode": "rel" for side in "fb"},
            f_tol=settings.relative,
            b_tol=settings.adjoint,
            f_max_iter=settings.evaluations,
            b_max_iter=MOST,
            **options,
        )
        value: Tensor = layer.train(torch.is_grad_enabled())(step, start)[0][-1]
    return value


def unrolled(step: Step, start: Tensor, settings: Settings) -> Tensor:
    """Every application differentiated and kept; `settings` play no part but for the number of applications."""
    z = start
    for _ in range(settings.evaluations):
        z = step(z)
    return z


OURS: dict[str, Equilibrium] = {
    "deqops implicit": partial(ours, lambda solver, tolerance: ImplicitAdjoint(solver, tolerance, MOST)),
    "deqops implicit, 1st only": partial(ours, lambda solver, tolerance: ImplicitAdjoint(solver, tolerance, MOST, 1)),
    "deqops unrolled, 10": partial(ours, lambda *_: Unrolled(10)),
    "deqops phantom, 5": partial(ours, lambda *_: Phantom(5, 0.5)),
    "deqops Jacobian-free": partial(ours, lambda *_: JacobianFree()),
}
THEIRS: dict[str, Equilibrium] = {
    "torchdeq implicit": partial(theirs, {"ift": True}),
    "torchdeq implicit, hook": partial(theirs, {"hook_ift": True}),
    "torchdeq phantom, 5": partial(theirs, {"grad": 5, "tau": 0.5}),
}


def methods() -> dict[str, Equilibrium]:
    """Ours, and torchdeq's where it is installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            importlib.import_module("torchdeq")
        except ImportError:
            return OURS
    return OURS | THEIRS


def randn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@dataclass(frozen=True)
class Problem:
    """`z = s(W z + x)` on states (batch, n)."""

    W: Tensor  # (n, n), requires a gradient
    x: Tensor  # (batch, n), requires a gradient
    s: Step = torch.tanh

    @staticmethod
    def layer(size: int, batch: int, norm: float, dtype: torch.dtype = torch.float64) -> Problem:
        """A tanh layer, its weight normally distributed but for its norm."""
        W, x = (randn(rows, size, seed=seed) for seed, rows in enumerate((size, batch)))
        W, x = (norm / torch.linalg.matrix_norm(W, 2) * W).to(dtype), (0.3 * x).to(dtype)
        return Problem(W.requires_grad_(), x.requires_grad_())

    @staticmethod
    def slow(size: int, batch: int, rate: float = 0.99) -> Problem:
        """`z = rate Q z + x`, Q orthogonal: after 1000 iterations it is not at the floor of float64."""
        W, x = rate * torch.linalg.qr(randn(size, size, seed=0))[0], randn(batch, size, seed=1)
        return Problem(W.requires_grad_(), x.requires_grad_(), lambda v: v)

    def to_double(self) -> Problem:
        return Problem(*(t.detach().double().requires_grad_() for t in (self.W, self.x)), self.s)

    def step(self, z: Tensor) -> Tensor:
        return self.s(z @ self.W.T + self.x)

    def value(self, method: Equilibrium, settings: Settings) -> Tensor:
        return method(self.step, torch.zeros_like(self.x), settings)

    def gradients(self, value: Tensor, **options: bool) -> Tensor:
        found = torch.autograd.grad(value.pow(4).sum(), (self.W, self.x), **options)
        return torch.cat([g.reshape(-1) for g in found])


def relative_error(found: Tensor, truth: Tensor) -> float:
    return float(torch.linalg.vector_norm(found.double() - truth) / torch.linalg.vector_norm(truth))


def gradient_error(method: Equilibrium, problem: Problem, settings: Settings) -> float:
    """Relative, against float64 unrolled differentiation at the same numbers."""
    exact = problem.to_double()
    truth = exact.gradients(exact.value(unrolled, Settings(0.0, TERMS)))
    return relative_error(problem.gradients(problem.value(method, settings)), truth)


def seconds(task: Callable[[], object]) -> float:
    begin = time.perf_counter()
    task()
    return time.perf_counter() - begin


def backward_ratio(method: Equilibrium, problem: Problem, settings: Settings) -> float:
    """The backward pass's best time to that of one solve of the same library, taken in turns."""
    forward, backward = [], []
    for _ in range(REPEATS):
        with torch.no_grad():
            forward.append(seconds(lambda: problem.value(method, settings)))
        value = problem.value(method, settings)
        backward.append(seconds(partial(problem.gradients, value)))
    return min(backward) / min(forward)


def scalar_second_derivative(method: Equilibrium, settings: Settings) -> Tensor:
    """y'' of `y = tanh(w y) + w^2` at w = 0.8."""
    w = torch.tensor([[0.8]], dtype=torch.float64, requires_grad=True)
    value = method(lambda z: torch.tanh(w * z) + w**2, torch.zeros_like(w), settings)
    (first,) = torch.autograd.grad(value.sum(), w, create_graph=True)
    return torch.autograd.grad(first.sum(), w)[0][0]


def hessian_product(method: Equilibrium, problem: Problem, settings: Settings) -> Tensor:
    """The loss's Hessian by W and x, times 1 everywhere."""
    first = problem.gradients(problem.value(method, settings), create_graph=True)
    found = torch.autograd.grad(first.sum(), (problem.W, problem.x))
    return torch.cat([g.reshape(-1) for g in found])


def saved_bytes(method: Equilibrium, problem: Problem, settings: Settings) -> int:
    """Of the storages that the graph keeps for the backward pass, besides weights and inputs."""
    outside = {t.untyped_storage().data_ptr() for t in (problem.W, problem.x)}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        value = problem.value(method, settings)
    del value
    return sum(size for address, size in kept.items() if address not in outside)


class LiveBytes(TorchDispatchMode):
    """The most bytes alive at once, of storages that operations made meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.outside: dict[int, StorageWeakRef] = {}
        self.peak = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        for storage in storages((args, kwargs)):
            if not self._known(self.alive, storage):
                self.outside[storage._cdata] = StorageWeakRef(storage)
        result = function(*args, **kwargs)
        for storage in storages(result):
            known = self.outside.get(storage._cdata)
            if known is None or known.expired():
                self.alive[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self.alive = {key: entry for key, entry in self.alive.items() if not entry[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self.alive.values()))
        return result

    @staticmethod
    def _known(entries: dict[int, tuple[StorageWeakRef, int]], storage: torch.UntypedStorage) -> bool:
        entry = entries.get(storage._cdata)
        return entry is not None and not entry[0].expired()


def storages(tree: Any) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]


def peak_bytes(method: Equilibrium, problem: Problem, settings: Settings) -> int:
    """Alive at once through the solve and the backward pass."""
    with LiveBytes() as live:
        problem.gradients(problem.value(method, settings))
    return live.peak


def print_errors(size: int, batch: int) -> None:
    print(f"\n1. n = {size}, batch {batch}, ||W|| = 0.9; solvers Picard and fixed_point_iter, or Anderson and anderson")
    print(
        f"{'dtype':<9} {'tolerance':>9} {'solver':<9} {'method':<26} {'error / tolerance':>18} {'backward / solve':>17}"
    )
    for dtype, relative in ((torch.float32, 1e-5), (torch.float64, 1e-8)):
        problem = Problem.layer(size, batch, 0.9, dtype)
        for accelerated in (False, True):
            settings = Settings(relative, accelerated=accelerated)
            for name, method in methods().items():
                error = gradient_error(method, problem, settings)
                ratio = backward_ratio(method, problem, settings)
                row = f"{str(dtype)[6:]:<9} {relative:>9.0e} {'Anderson' if accelerated else 'Picard':<9} {name:<26}"
                print(f"{row} {error / relative:>18.3g} {ratio:>17.2f}")


def second_order_errors(method: Equilibrium, settings: Settings) -> tuple[float, float]:
    """Relative, of the scalar's second derivative and of the Hessian product; NaN where they are refused."""
    problem, long = Problem.layer(8, 3, 0.8), Settings(0.0, TERMS)
    measures = (scalar_second_derivative, lambda method, settings: hessian_product(method, problem, settings))
    try:
        scalar, hessian = (relative_error(m(method, settings), m(unrolled, long)) for m in measures)
    except DeqopsError:
        return math.nan, math.nan
    return scalar, hessian


def print_second_derivatives() -> None:
    print(
        "\n2. float64, tolerance 1e-12, relative errors: y'' = -4.559; a layer's Hessian, n = 8, batch 3, ||W|| = 0.8"
    )
    print(f"{'method':<26} {'second derivative':>18} {'Hessian':>10}")
    for name, method in methods().items():
        scalar, hessian = second_order_errors(method, Settings(1e-12))
        print(f"{name:<26} " + ("refused" if math.isnan(scalar) else f"{scalar:>18.1e} {hessian:>10.1e}"))


def print_memory(size: int, batch: int) -> None:
    problem, counts = Problem.slow(size, batch), (10, 100, 1000)
    print(f"\n3. z = 0.99 Q z + x in float64, n = {size}, batch {batch}: a state is {8 * size * batch} bytes; Picard")
    heads = [f"{kind}, {count}" for kind in ("kept", "peak") for count in counts]
    print(f"{'method':<26}" + "".join(f"{head:>13}" for head in heads))
    for name, method in {**methods(), "every application": unrolled}.items():
        runs = [
            measure(method, problem, Settings(0.0, count, backward=1e-2))
            for measure in (saved_bytes, peak_bytes)
            for count in counts
        ]
        print(f"{name:<26}" + "".join(f"{run:>13}" for run in runs))


def main() -> None:
    torch.set_num_threads(1)
    installed = "beside torchdeq" if len(methods()) > len(OURS) else "torchdeq is not installed, left out"
    print(f"torch {torch.__version__}, one thread, best of {REPEATS}; {installed}")
    print_errors(128, 32)
    print_second_derivatives()
    print_memory(128, 32)


if __name__ == "__main__":
    main()
